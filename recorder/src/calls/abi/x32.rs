//! x32: 64-bit code with 32-bit pointers. Kernels that lack it answer ENOSYS.
//!
//! Its calls are the native ones with a bit in their number, but for those that read pointers or longs from memory in
//! the way of 32-bit programs: these have numbers of their own (arch/x86/entry/syscalls/syscall_64.tbl).

use libc::c_long;

use super::super::memory::Word;
use super::super::table::{Row, TABLE as NATIVE};
use super::{X32_BIT, native};

/// Native rows whose call has a number of its own.
const OWN: &[(c_long, &str)] = &[
    (514, "ioctl"),
    (515, "readv"),
    (516, "writev"),
    (517, "recvfrom"),
    (518, "sendmsg"),
    (519, "recvmsg"),
    (520, "execve"),
    (521, "ptrace"),
    (532, "vmsplice"),
    (534, "preadv"),
    (535, "pwritev"),
    (537, "recvmmsg"),
    (538, "sendmmsg"),
    (545, "execveat"),
    (546, "preadv2"),
    (547, "pwritev2"),
];

/// The covered calls. Native numbers of calls that have their own are here too: older kernels take them.
pub(crate) static TABLE: [Row; NATIVE.len() + OWN.len()] = {
    let mut rows = [NATIVE[0]; NATIVE.len() + OWN.len()];
    let mut index = 0;
    while index < rows.len() {
        rows[index] = if index < NATIVE.len() {
            NATIVE[index]
        } else {
            let (number, name) = OWN[index - NATIVE.len()];
            Row { number, word: Word::Four, ..native(name) }
        };
        rows[index].number |= X32_BIT as c_long;
        index += 1;
    }
    rows
};

#[cfg(test)]
mod tests {
    use super::*;

    /// A new native row needs a line in `OWN` where x32 numbers its call otherwise.
    #[test]
    fn numbers_are_the_kernel_s() {
        let Some(header) = super::super::tests::header("unistd_x32.h") else { return };
        assert_eq!(header["execve"], X32_BIT + 520);
        for row in NATIVE {
            // Headers may be older than a call.
            let Some(&number) = header.get(row.name) else {
                assert!(row.number > 450, "{} is not in the header", row.name);
                continue;
            };
            let last = TABLE.iter().rfind(|found| found.name == row.name).unwrap();
            assert_eq!(last.number, number as c_long, "{}", row.name);
        }
    }

    #[test]
    fn own_calls_read_memory_as_32_bit_programs_do() {
        for (number, name) in OWN {
            let number = number | X32_BIT as c_long;
            let row = super::super::Abi::X32.row(u32::MAX, number as u64).unwrap();
            assert_eq!((row.name, row.word), (*name, Word::Four));
        }
    }
}
