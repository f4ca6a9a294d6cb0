//! Control data beside a message: descriptors (cmsg(3), SCM_RIGHTS in unix(7)).

use std::os::fd::RawFd;

/// The descriptors in control data; `word` is the size of the sender's words in bytes, to which messages are aligned.
pub(crate) fn descriptors(control: &[u8], word: usize) -> Vec<RawFd> {
    let int = |bytes: &[u8]| RawFd::from_ne_bytes(bytes.try_into().expect("4 bytes"));
    let mut fds = Vec::new();
    let mut left = control;
    // struct cmsghdr: the length of it all in a word, then level and type.
    while let Some(head) = left.get(..word + 8) {
        // Little endian, as both architectures are: the low half comes first.
        let len = u32::from_le_bytes(head[..4].try_into().expect("4 bytes")) as usize;
        let Some(data) = left.get(word + 8..len) else { break };
        let (level, kind) = (int(&head[word..word + 4]), int(&head[word + 4..]));
        if (level, kind) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            fds.extend(data.chunks_exact(4).map(int));
        }
        left = left.get(len.next_multiple_of(word)..).unwrap_or_default();
    }
    fds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(word: usize, level: i32, kind: i32, fds: &[i32]) -> Vec<u8> {
        let len = word + 8 + 4 * fds.len();
        let mut bytes = (len as u64).to_le_bytes()[..word].to_vec();
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        fds.iter().for_each(|fd| bytes.extend(fd.to_ne_bytes()));
        bytes.resize(bytes.len().next_multiple_of(word), 0);
        bytes
    }

    #[test]
    fn finds_descriptors_among_other_messages() {
        for word in [4, 8] {
            let control = [
                message(word, libc::SOL_SOCKET, libc::SCM_CREDENTIALS, &[1, 2, 3]),
                message(word, libc::SOL_SOCKET, libc::SCM_RIGHTS, &[7]),
                message(word, libc::SOL_SOCKET, libc::SCM_RIGHTS, &[8, 9]),
            ]
            .concat();
            assert_eq!(descriptors(&control, word), [7, 8, 9]);
            for len in 0..control.len() {
                descriptors(&control[..len], word);
            }
        }
        assert!(descriptors(&[0; 64], 8).is_empty());
        assert!(descriptors(&[255; 64], 8).is_empty());
    }
}
