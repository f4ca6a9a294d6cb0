//! The calls of 32-bit x86 programs, and of 64-bit ones through `int 0x80` (arch/x86/entry/syscalls/syscall_32.tbl).
//!
//! Registers are 32 bits wide, so that what is longer comes in two, and older calls know only 16-bit ids and short
//! offsets, or leave their arguments in memory. [`Given`] names these ways.

use std::os::fd::RawFd;

use libc::c_long;

use super::super::memory::{Memory, Word};
use super::super::shape::Arg;
use super::super::table::{Row, When};
use super::native;

/// How registers become arguments.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Given {
    /// Each is one: its low half, since 64-bit code may leave anything in the other.
    Low,
    /// The same, and this one is signed.
    Signed(Arg),
    /// Of these there is only the first: the others that the native call has are 0.
    First,
    /// From this one on two registers make an argument, the low half first.
    Pairs(Arg),
    /// This one counts pages.
    Pages(Arg),
    /// A user id of 16 bits, and a group id after it.
    ShortIds(Arg),
    /// In an array of words at the first one, of this call.
    Array(&'static Row),
    /// socketcall(2): the first one says which call, the second one where its arguments are.
    SocketCall,
}

impl Given {
    /// See [`Row::called`].
    pub(crate) fn called(
        self,
        row: &'static Row,
        memory: &impl Memory,
        registers: [u64; 6],
        reserved_fd: Option<RawFd>,
    ) -> Option<(&'static Row, [u64; 6])> {
        let mut args = registers.map(|register| u64::from(register as u32));
        let position = |arg: Arg| usize::from(arg);
        let (called, array) = match self {
            Self::Low => return Some((row, args)),
            Self::Signed(arg) => {
                let arg = &mut args[position(arg)];
                *arg = Word::Four.signed(*arg) as u64;
                return Some((row, args));
            }
            Self::First => return Some((row, [args[0], 0, 0, 0, 0, 0])),
            Self::Pairs(first) => {
                let registers = args;
                let mut halves = registers[position(first)..].chunks_exact(2);
                for (arg, pair) in args[position(first)..].iter_mut().zip(&mut halves) {
                    *arg = pair[0] | pair[1] << 32;
                }
                return Some((row, args));
            }
            Self::Pages(arg) => {
                args[position(arg)] *= 4096;
                return Some((row, args));
            }
            Self::ShortIds(uid) => {
                for id in &mut args[position(uid)..][..2] {
                    // include/linux/highuid.h, low2highuid
                    *id = if *id as u16 == u16::MAX { u64::from(u32::MAX) } else { *id & 0xffff };
                }
                return Some((row, args));
            }
            Self::Array(row) => (row, args[0]),
            Self::SocketCall => {
                (SOCKET_ROWS.iter().find(|row| row.number as u64 == args[0])?, args[1])
            }
        };
        // Where fewer arguments are readable than any call has, the kernel may still be content: it reads what it needs.
        let args = (1..=6).rev().find_map(|count| {
            let words = memory.read_words(Word::Four, array, count).ok()?;
            let mut args = [0; 6];
            args[..count].copy_from_slice(&words);
            Some(args)
        })?;
        called.when.admits(&args, reserved_fd).then_some((called, args))
    }
}

/// A call of the table.
#[derive(Clone, Copy)]
struct Call {
    number: c_long,
    name: &'static str,
    /// The native row of the same meaning.
    like: &'static str,
    given: Given,
    word: Word,
    when: Option<When>,
}

/// The native call of the same name.
const fn same(number: c_long, name: &'static str) -> Call {
    like(number, name, name)
}

/// A call that means what a native one of another name does.
const fn like(number: c_long, name: &'static str, like: &'static str) -> Call {
    Call { number, name, like, given: Given::Low, word: Word::Four, when: None }
}

impl Call {
    const fn given(self, given: Given) -> Self {
        Self { given, ..self }
    }

    /// What it points to is as on x86-64.
    const fn wide(self) -> Self {
        Self { word: Word::Eight, ..self }
    }

    const fn row(self) -> Row {
        let native = native(self.like);
        let when = match self.when {
            Some(when) => when,
            None => native.when,
        };
        let Self { number, name, word, .. } = self;
        Row { number, name, when, given: super::Given::I386(self.given), word, ..native }
    }
}

const CALLS: &[Call] = &[
    same(3, "read"),
    same(4, "write"),
    same(5, "open"),
    same(6, "close"),
    same(8, "creat"),
    same(9, "link"),
    same(10, "unlink"),
    same(11, "execve"),
    same(12, "chdir"),
    same(14, "mknod"),
    same(15, "chmod"),
    same(16, "lchown").given(Given::ShortIds(1)),
    same(21, "mount"),
    like(22, "umount", "umount2").given(Given::First),
    same(26, "ptrace"),
    same(30, "utime"),
    same(38, "rename"),
    same(39, "mkdir"),
    same(40, "rmdir"),
    same(41, "dup"),
    same(52, "umount2"),
    same(54, "ioctl"),
    same(55, "fcntl"),
    same(61, "chroot"),
    same(63, "dup2"),
    same(83, "symlink"),
    Call { when: Some(When::Always), ..same(90, "mmap").given(Given::Array(&OLD_MMAP)) },
    same(92, "truncate").given(Given::Signed(1)),
    same(93, "ftruncate").given(Given::Signed(1)),
    same(94, "fchmod"),
    same(95, "fchown").given(Given::ShortIds(1)),
    Call {
        when: Some(When::Is(0, &SOCKET_NUMBERS)),
        ..like(102, "socketcall", "socket").given(Given::SocketCall)
    },
    same(120, "clone"),
    same(133, "fchdir"),
    same(145, "readv"),
    same(146, "writev"),
    same(180, "pread64"),
    same(181, "pwrite64"),
    same(172, "prctl"),
    same(182, "chown").given(Given::ShortIds(1)),
    same(187, "sendfile"),
    like(192, "mmap2", "mmap").given(Given::Pages(5)),
    like(193, "truncate64", "truncate").given(Given::Pairs(1)),
    like(194, "ftruncate64", "ftruncate").given(Given::Pairs(1)),
    like(198, "lchown32", "lchown"),
    like(207, "fchown32", "fchown"),
    like(212, "chown32", "chown"),
    same(217, "pivot_root"),
    like(221, "fcntl64", "fcntl"),
    same(226, "setxattr"),
    same(227, "lsetxattr"),
    same(228, "fsetxattr"),
    same(235, "removexattr"),
    same(236, "lremovexattr"),
    same(237, "fremovexattr"),
    like(239, "sendfile64", "sendfile").wide(),
    same(241, "sched_setaffinity"),
    same(242, "sched_getaffinity"),
    same(271, "utimes"),
    same(295, "openat"),
    same(296, "mkdirat"),
    same(297, "mknodat"),
    same(298, "fchownat"),
    same(299, "futimesat"),
    same(301, "unlinkat"),
    same(302, "renameat"),
    same(303, "linkat"),
    same(304, "symlinkat"),
    same(306, "fchmodat"),
    same(310, "unshare"),
    same(313, "splice").wide(),
    same(315, "tee"),
    same(316, "vmsplice"),
    same(320, "utimensat"),
    same(324, "fallocate").given(Given::Pairs(2)),
    same(330, "dup3"),
    same(333, "preadv"),
    same(334, "pwritev"),
    same(337, "recvmmsg"),
    same(345, "sendmmsg"),
    same(342, "open_by_handle_at"),
    same(346, "setns"),
    same(353, "renameat2"),
    same(354, "seccomp"),
    same(358, "execveat"),
    same(359, "socket"),
    same(360, "socketpair"),
    same(361, "bind"),
    same(362, "connect"),
    same(363, "listen"),
    same(364, "accept4"),
    same(369, "sendto"),
    same(370, "sendmsg"),
    same(371, "recvfrom"),
    same(372, "recvmsg"),
    same(373, "shutdown"),
    same(377, "copy_file_range").wide(),
    same(378, "preadv2"),
    same(379, "pwritev2"),
    like(412, "utimensat_time64", "utimensat").wide(),
    like(417, "recvmmsg_time64", "recvmmsg"),
    same(425, "io_uring_setup"),
    same(428, "open_tree"),
    same(429, "move_mount"),
    same(430, "fsopen"),
    same(431, "fsconfig"),
    same(432, "fsmount"),
    same(433, "fspick"),
    same(435, "clone3"),
    same(436, "close_range"),
    same(437, "openat2"),
    same(438, "pidfd_getfd"),
    same(442, "mount_setattr"),
    same(452, "fchmodat2"),
    same(463, "setxattrat"),
    same(466, "removexattrat"),
    same(467, "open_tree_attr"),
];

/// What socketcall(2) can do, by its own numbers (include/uapi/linux/net.h).
const SOCKET_CALLS: &[Call] = &[
    same(1, "socket"),
    same(2, "bind"),
    same(3, "connect"),
    same(4, "listen"),
    same(5, "accept"),
    same(8, "socketpair"),
    // Without an address, of which there are only two words of something else.
    like(9, "send", "write"),
    like(10, "recv", "recvfrom"),
    same(11, "sendto"),
    same(12, "recvfrom"),
    same(13, "shutdown"),
    same(16, "sendmsg"),
    same(17, "recvmsg"),
    same(18, "accept4"),
    same(19, "recvmmsg"),
    same(20, "sendmmsg"),
];

const fn rows<const LEN: usize>(calls: &[Call]) -> [Row; LEN] {
    let mut rows = [calls[0].row(); LEN];
    let mut index = 0;
    while index < LEN {
        rows[index] = calls[index].row();
        index += 1;
    }
    rows
}

/// The covered calls.
pub(crate) static TABLE: [Row; CALLS.len()] = rows(CALLS);

static SOCKET_ROWS: [Row; SOCKET_CALLS.len()] = rows(SOCKET_CALLS);

/// The numbers in [`SOCKET_CALLS`], for the filter.
static SOCKET_NUMBERS: [u32; SOCKET_CALLS.len()] = {
    let mut numbers = [0; SOCKET_CALLS.len()];
    let mut index = 0;
    while index < numbers.len() {
        numbers[index] = SOCKET_CALLS[index].number as u32;
        index += 1;
    }
    numbers
};

/// What mmap(2) is once its arguments are read.
static OLD_MMAP: Row = same(90, "mmap").row();

#[cfg(test)]
mod tests {
    use super::super::super::table::TABLE as NATIVE;
    use super::super::Abi;
    use super::*;

    /// Native calls that i386 has not, each with what 32-bit programs use for it.
    const NONE: &[(&str, &str)] = &[("accept", "socketcall")];

    /// Calls of socketcall(2), in its order from 1.
    const SOCKETCALL: [&str; 20] = [
        "socket",
        "bind",
        "connect",
        "listen",
        "accept",
        "getsockname",
        "getpeername",
        "socketpair",
        "send",
        "recv",
        "sendto",
        "recvfrom",
        "shutdown",
        "setsockopt",
        "getsockopt",
        "sendmsg",
        "recvmsg",
        "accept4",
        "recvmmsg",
        "sendmmsg",
    ];

    #[test]
    fn every_native_call_has_its_like() {
        let has = |calls: &[Call], name| calls.iter().any(|call| call.like == name);
        for row in NATIVE {
            let none = NONE.iter().any(|(name, _)| *name == row.name);
            assert_ne!(has(CALLS, row.name), none, "{} has no number in CALLS", row.name);
            if SOCKETCALL.contains(&row.name) {
                assert!(has(SOCKET_CALLS, row.name), "{} is not in SOCKET_CALLS", row.name);
            }
        }
        for call in SOCKET_CALLS {
            assert_eq!(SOCKETCALL[call.number as usize - 1], call.name);
        }
    }

    /// Also finds calls that mean what a covered one does, by the endings that such have.
    #[test]
    fn numbers_are_the_kernel_s() {
        let Some(header) = super::super::tests::header("unistd_32.h") else { return };
        assert_eq!(header["execve"], 11);
        for call in CALLS {
            match header.get(call.name) {
                Some(&number) => assert_eq!(call.number, number as c_long, "{}", call.name),
                // Headers may be older than a call.
                None => assert!(call.number > 450, "{} is not in the header", call.name),
            }
        }
        for name in header.keys() {
            let plain = ["_time64", "64", "32", "2"].iter().find_map(|end| name.strip_suffix(end));
            let covered = |name| NATIVE.iter().any(|row| row.name == name);
            if plain.is_some_and(covered) {
                assert!(CALLS.iter().any(|call| call.name == name), "{name} is not in CALLS");
            }
        }
    }

    fn called(number: c_long, registers: [u64; 6]) -> Option<(&'static str, [u64; 6])> {
        let row = Abi::I386.row(u32::MAX, number as u64).unwrap();
        let own = crate::ptrace::memory::Tracee(std::process::id() as i32);
        row.called(&own, registers, Some(900)).map(|(row, args)| (row.name, args))
    }

    #[test]
    fn registers_become_arguments() {
        const HIGH: u64 = 0xdead_beef_0000_0000;
        let all = |args| Some(args);
        let args = |number, registers| called(number, registers).map(|(_, args)| args);
        // Code of 64 bits may leave anything in the upper half.
        assert_eq!(args(3, [HIGH | 7, 2, 3, 4, 5, 6]), all([7, 2, 3, 4, 5, 6]));
        assert_eq!(args(93, [7, 0xffff_ffff, 3, 4, 5, 6]), all([7, u64::MAX, 3, 4, 5, 6]));
        assert_eq!(args(22, [7, 2, 3, 4, 5, 6]), all([7, 0, 0, 0, 0, 0]));
        assert_eq!(args(194, [7, 1, 2, 0, 0, 0]), all([7, 0x2_0000_0001, 0, 0, 0, 0]));
        assert_eq!(
            args(324, [7, 1, 2, 3, 4, 5]).unwrap()[..4],
            [7, 1, 0x3_0000_0002, 0x5_0000_0004]
        );
        assert_eq!(args(192, [0, 1, 2, 3, 4, 5]), all([0, 1, 2, 3, 4, 0x5000]));
        assert_eq!(
            args(182, [1, 0xffff, 0x1_2345, 0, 0, 0]),
            all([1, 0xffff_ffff, 0x2345, 0, 0, 0])
        );
        assert_eq!(args(212, [1, 0xffff, 0x1_2345, 0, 0, 0]), all([1, 0xffff, 0x1_2345, 0, 0, 0]));
    }
}
