//! The covered system calls: one table from which the filter, the decoder and the tests are made.
//!
//! A row says when the filter stops the call, where its arguments are, and whether its result is needed (an exit
//! stop costs as much as the entry). To add a call, add a row here, its number to the tables in `abi/` (their tests
//! say which), and its tracee to `tests/engine/coverage.rs`.

use libc::c_long;

use super::abi::Given;
use super::memory::Word;
use super::shape::{Arg, Buffers, Place, Shape, Times};

/// A covered system call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) number: c_long,
    pub(crate) name: &'static str,
    pub(crate) when: When,
    pub(crate) shape: Shape,
    /// How its registers become the arguments that the shape speaks of.
    pub(crate) given: Given,
    /// Pointers and longs in what it points to.
    pub(crate) word: Word,
}

/// Which calls the filter stops.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    /// Every one.
    Always,
    /// Those whose argument is not the reserved descriptor.
    NotReserved(Arg),
    /// Those whose argument's low 32 bits are one of these.
    Is(Arg, &'static [u32]),
    /// Those whose argument has one of these bits.
    Has(Arg, u32),
}

impl When {
    /// Whether a call with these arguments is one of them: for calls whose arguments the filter doesn't see.
    pub(crate) fn admits(self, args: &[u64; 6], reserved_fd: Option<i32>) -> bool {
        let low = |arg: Arg| args[usize::from(arg)] as u32;
        match self {
            Self::Always => true,
            Self::NotReserved(arg) => reserved_fd != Some(low(arg) as i32),
            Self::Is(arg, values) => values.contains(&low(arg)),
            Self::Has(arg, bits) => low(arg) & bits != 0,
        }
    }
}

const fn at(dir: Arg, name: Arg) -> Place {
    Place::NameAt { dir, name }
}

const fn at_or_fd(dir: Arg, name: Arg, flags: Arg) -> Place {
    Place::NameOrFd { dir, name, empty: Some((flags, libc::AT_EMPTY_PATH as u32)) }
}

macro_rules! rows {
    ($( $(#[$attribute:meta])* $name:ident = $number:expr, $when:expr, $shape:expr; )*) => {
        &[$( $(#[$attribute])* Row {
            number: $number,
            name: stringify!($name),
            when: $when,
            shape: $shape,
            given: Given::Whole,
            word: Word::Eight,
        } ),*]
    };
}

use self::Place::{Fd, Name};
use self::When::{Always, Has, Is, NotReserved};

/// Requests of ptrace(2) that make a process a tracer or a tracee.
const TRACE_REQUESTS: &[u32] = &[libc::PTRACE_TRACEME, libc::PTRACE_ATTACH, libc::PTRACE_SEIZE];
/// What prctl(2) can do that hides a process or its calls.
const HIDING: &[u32] = &[libc::PR_SET_DUMPABLE as u32, libc::PR_SET_SECCOMP as u32];
/// Operations of seccomp(2) that take effect.
const FILTERING: &[u32] = &[libc::SECCOMP_SET_MODE_STRICT, libc::SECCOMP_SET_MODE_FILTER];
/// Commands of fcntl(2) that change the descriptor table.
const FD_COMMANDS: &[u32] =
    &[libc::F_DUPFD as u32, libc::F_DUPFD_CLOEXEC as u32, libc::F_SETFD as u32];
/// Requests of ioctl(2) that change the descriptor table or a file.
const IOCTLS: &[u32] = &[
    libc::FIOCLEX as u32,
    libc::FIONCLEX as u32,
    libc::FICLONE as u32,
    libc::FICLONERANGE as u32,
    libc::TIOCSWINSZ as u32,
];
/// What unshare(2) can take apart of what the model keeps.
const UNSHARED: u32 =
    (libc::CLONE_FILES | libc::CLONE_FS | libc::CLONE_NEWNS | libc::CLONE_NEWUSER) as u32;
/// Commands of fsconfig(2) that say what is mounted, or change what is (include/uapi/linux/mount.h).
const CONFIG_COMMANDS: &[u32] = &[FSCONFIG_SET_STRING, FSCONFIG_CMD_RECONFIGURE];
const FSCONFIG_SET_STRING: u32 = 1;
pub(crate) const FSCONFIG_CMD_RECONFIGURE: u32 = 7;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x04;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
const FSPICK_EMPTY_PATH: u32 = 0x08;
/// MAP_SHARED and MAP_SHARED_VALIDATE have this bit, MAP_PRIVATE has not.
const MAP_SHARED_BIT: u32 = 1;

/// The calls of this architecture. Their order is the number that the filter reports.
pub(crate) const TABLE: &[Row] = rows! {
    read = libc::SYS_read, Always, Shape::Read { buffers: Buffers::Flat(1) };
    write = libc::SYS_write, NotReserved(0), Shape::Write { buffers: Buffers::Flat(1) };
    openat = libc::SYS_openat, Always, Shape::Open { at: at(0, 1), flags: 2, mode: 3 };
    close = libc::SYS_close, Always, Shape::Close;
    pread64 = libc::SYS_pread64, Always, Shape::Read { buffers: Buffers::Flat(1) };
    pwrite64 = libc::SYS_pwrite64, Always, Shape::Write { buffers: Buffers::Flat(1) };
    readv = libc::SYS_readv, Always, Shape::Read { buffers: Buffers::Vector(1, 2) };
    writev = libc::SYS_writev, NotReserved(0), Shape::Write { buffers: Buffers::Vector(1, 2) };
    preadv = libc::SYS_preadv, Always, Shape::Read { buffers: Buffers::Vector(1, 2) };
    pwritev = libc::SYS_pwritev, Always, Shape::Write { buffers: Buffers::Vector(1, 2) };
    preadv2 = libc::SYS_preadv2, Always, Shape::Read { buffers: Buffers::Vector(1, 2) };
    pwritev2 = libc::SYS_pwritev2, Always, Shape::Write { buffers: Buffers::Vector(1, 2) };
    sendfile = libc::SYS_sendfile, Always, Shape::Move { from: 1, offset: 2, to: 0 };
    splice = libc::SYS_splice, Always, Shape::Move { from: 0, offset: 1, to: 2 };
    vmsplice = libc::SYS_vmsplice, Always, Shape::SpliceMemory;
    tee = libc::SYS_tee, Always, Shape::Tee;
    copy_file_range = libc::SYS_copy_file_range, Always, Shape::Move { from: 0, offset: 1, to: 2 };
    #[cfg(target_arch = "x86_64")]
    open = libc::SYS_open, Always, Shape::Open { at: Name(0), flags: 1, mode: 2 };
    #[cfg(target_arch = "x86_64")]
    creat = libc::SYS_creat, Always, Shape::Creat { at: Name(0), mode: 1 };
    openat2 = libc::SYS_openat2, Always, Shape::OpenHow { at: at(0, 1), how: 2, size: 3 };
    open_by_handle_at = libc::SYS_open_by_handle_at, Always, Shape::OpenHandle { flags: 2 };
    close_range = libc::SYS_close_range, Always, Shape::CloseRange;
    dup = libc::SYS_dup, Always, Shape::Dup;
    #[cfg(target_arch = "x86_64")]
    dup2 = libc::SYS_dup2, Always, Shape::Dup2;
    dup3 = libc::SYS_dup3, Always, Shape::Dup3;
    fcntl = libc::SYS_fcntl, Is(1, FD_COMMANDS), Shape::Fcntl;
    ioctl = libc::SYS_ioctl, Is(1, IOCTLS), Shape::Ioctl;
    unshare = libc::SYS_unshare, Has(0, UNSHARED), Shape::Unshare;
    #[cfg(target_arch = "x86_64")]
    rename = libc::SYS_rename, Always, Shape::Rename { from: Name(0), to: Name(1), flags: None };
    renameat = libc::SYS_renameat, Always, Shape::Rename { from: at(0, 1), to: at(2, 3), flags: None };
    renameat2 = libc::SYS_renameat2, Always, Shape::Rename { from: at(0, 1), to: at(2, 3), flags: Some(4) };
    #[cfg(target_arch = "x86_64")]
    unlink = libc::SYS_unlink, Always, Shape::Unlink { at: Name(0) };
    unlinkat = libc::SYS_unlinkat, Always, Shape::UnlinkAt { at: at(0, 1), flags: 2 };
    #[cfg(target_arch = "x86_64")]
    mkdir = libc::SYS_mkdir, Always, Shape::Mkdir { at: Name(0), mode: 1 };
    mkdirat = libc::SYS_mkdirat, Always, Shape::Mkdir { at: at(0, 1), mode: 2 };
    #[cfg(target_arch = "x86_64")]
    rmdir = libc::SYS_rmdir, Always, Shape::Rmdir { at: Name(0) };
    #[cfg(target_arch = "x86_64")]
    link = libc::SYS_link, Always, Shape::Link { from: Name(0), to: Name(1) };
    linkat = libc::SYS_linkat, Always, Shape::Link { from: at_or_fd(0, 1, 4), to: at(2, 3) };
    #[cfg(target_arch = "x86_64")]
    symlink = libc::SYS_symlink, Always, Shape::Symlink { target: 0, at: Name(1) };
    symlinkat = libc::SYS_symlinkat, Always, Shape::Symlink { target: 0, at: at(1, 2) };
    #[cfg(target_arch = "x86_64")]
    mknod = libc::SYS_mknod, Always, Shape::Mknod { at: Name(0), mode: 1, dev: 2 };
    mknodat = libc::SYS_mknodat, Always, Shape::Mknod { at: at(0, 1), mode: 2, dev: 3 };
    truncate = libc::SYS_truncate, Always, Shape::Truncate { at: Name(0), length: 1 };
    ftruncate = libc::SYS_ftruncate, Always, Shape::Truncate { at: Fd(0), length: 1 };
    fallocate = libc::SYS_fallocate, Always, Shape::Fallocate;
    #[cfg(target_arch = "x86_64")]
    chmod = libc::SYS_chmod, Always, Shape::Chmod { at: Name(0), mode: 1 };
    fchmod = libc::SYS_fchmod, Always, Shape::Chmod { at: Fd(0), mode: 1 };
    fchmodat = libc::SYS_fchmodat, Always, Shape::Chmod { at: at(0, 1), mode: 2 };
    fchmodat2 = SYS_FCHMODAT2, Always, Shape::Chmod { at: at_or_fd(0, 1, 3), mode: 2 };
    #[cfg(target_arch = "x86_64")]
    chown = libc::SYS_chown, Always, Shape::Chown { at: Name(0), uid: 1, gid: 2 };
    #[cfg(target_arch = "x86_64")]
    lchown = libc::SYS_lchown, Always, Shape::Chown { at: Name(0), uid: 1, gid: 2 };
    fchown = libc::SYS_fchown, Always, Shape::Chown { at: Fd(0), uid: 1, gid: 2 };
    fchownat = libc::SYS_fchownat, Always, Shape::Chown { at: at_or_fd(0, 1, 4), uid: 2, gid: 3 };
    #[cfg(target_arch = "x86_64")]
    utime = libc::SYS_utime, Always, Shape::Utime { at: Name(0), times: 1, form: Times::Seconds };
    #[cfg(target_arch = "x86_64")]
    utimes = libc::SYS_utimes, Always, Shape::Utime { at: Name(0), times: 1, form: Times::Microseconds };
    #[cfg(target_arch = "x86_64")]
    futimesat = libc::SYS_futimesat, Always, Shape::Utime { at: Place::NameOrFd { dir: 0, name: 1, empty: None }, times: 2, form: Times::Microseconds };
    utimensat = libc::SYS_utimensat, Always, Shape::Utime { at: at_or_fd(0, 1, 3), times: 2, form: Times::Nanoseconds };
    setxattr = libc::SYS_setxattr, Always, Shape::SetXattr { at: Name(0), name: 1, size: 3 };
    lsetxattr = libc::SYS_lsetxattr, Always, Shape::SetXattr { at: Name(0), name: 1, size: 3 };
    fsetxattr = libc::SYS_fsetxattr, Always, Shape::SetXattr { at: Fd(0), name: 1, size: 3 };
    setxattrat = SYS_SETXATTRAT, Always, Shape::SetXattrAt { at: at_or_fd(0, 1, 2), name: 3, args: 4 };
    removexattr = libc::SYS_removexattr, Always, Shape::RemoveXattr { at: Name(0), name: 1 };
    lremovexattr = libc::SYS_lremovexattr, Always, Shape::RemoveXattr { at: Name(0), name: 1 };
    fremovexattr = libc::SYS_fremovexattr, Always, Shape::RemoveXattr { at: Fd(0), name: 1 };
    removexattrat = SYS_REMOVEXATTRAT, Always, Shape::RemoveXattr { at: at_or_fd(0, 1, 2), name: 3 };
    mmap = libc::SYS_mmap, Has(3, MAP_SHARED_BIT), Shape::Mmap;
    chdir = libc::SYS_chdir, Always, Shape::Chdir { at: Name(0) };
    fchdir = libc::SYS_fchdir, Always, Shape::Chdir { at: Fd(0) };
    mount = libc::SYS_mount, Always, Shape::Mount;
    umount2 = libc::SYS_umount2, Always, Shape::Umount { at: Name(0) };
    pivot_root = libc::SYS_pivot_root, Always, Shape::PivotRoot;
    chroot = libc::SYS_chroot, Always, Shape::Chroot { at: Name(0) };
    setns = libc::SYS_setns, Always, Shape::SetNs;
    open_tree = libc::SYS_open_tree, Always, Shape::OpenTree { at: at_or_fd(0, 1, 2) };
    open_tree_attr = SYS_OPEN_TREE_ATTR, Always, Shape::OpenTree { at: at_or_fd(0, 1, 2) };
    move_mount = libc::SYS_move_mount, Always, Shape::MoveMount {
        from: Place::NameOrFd { dir: 0, name: 1, empty: Some((4, MOVE_MOUNT_F_EMPTY_PATH)) },
        to: Place::NameOrFd { dir: 2, name: 3, empty: Some((4, MOVE_MOUNT_T_EMPTY_PATH)) },
    };
    fsopen = libc::SYS_fsopen, Always, Shape::FsOpen;
    fsconfig = libc::SYS_fsconfig, Is(1, CONFIG_COMMANDS), Shape::FsConfig;
    fsmount = libc::SYS_fsmount, Always, Shape::FsMount;
    fspick = libc::SYS_fspick, Always, Shape::FsPick {
        at: Place::NameOrFd { dir: 0, name: 1, empty: Some((2, FSPICK_EMPTY_PATH)) },
    };
    mount_setattr = libc::SYS_mount_setattr, Always, Shape::MountSetAttr { at: at_or_fd(0, 1, 2), attr: 3 };
    socket = libc::SYS_socket, Always, Shape::Socket;
    socketpair = libc::SYS_socketpair, Always, Shape::SocketPair;
    connect = libc::SYS_connect, Always, Shape::Connect;
    bind = libc::SYS_bind, Always, Shape::Bind;
    listen = libc::SYS_listen, Always, Shape::Listen;
    accept = libc::SYS_accept, Always, Shape::Accept { flags: None };
    accept4 = libc::SYS_accept4, Always, Shape::Accept { flags: Some(3) };
    shutdown = libc::SYS_shutdown, Always, Shape::Shutdown;
    sendto = libc::SYS_sendto, NotReserved(0), Shape::Write { buffers: Buffers::To { data: 1, address: 4, len: 5 } };
    sendmsg = libc::SYS_sendmsg, NotReserved(0), Shape::Write { buffers: Buffers::Message(1) };
    sendmmsg = libc::SYS_sendmmsg, Always, Shape::Messages { write: true };
    recvfrom = libc::SYS_recvfrom, Always, Shape::Receive { flags: 3, message: None };
    recvmsg = libc::SYS_recvmsg, Always, Shape::Receive { flags: 2, message: Some(1) };
    recvmmsg = libc::SYS_recvmmsg, Always, Shape::Messages { write: false };
    pidfd_getfd = libc::SYS_pidfd_getfd, Always, Shape::PidfdGetFd;
    execve = libc::SYS_execve, Always, Shape::Exec { at: Name(0), argv: 1 };
    execveat = libc::SYS_execveat, Always, Shape::Exec { at: at_or_fd(0, 1, 4), argv: 2 };
    clone = libc::SYS_clone, Has(0, libc::CLONE_UNTRACED as u32), Shape::Clone;
    clone3 = libc::SYS_clone3, Always, Shape::Clone3;
    sched_getaffinity = libc::SYS_sched_getaffinity, Always, Shape::Affinity;
    sched_setaffinity = libc::SYS_sched_setaffinity, Always, Shape::Affinity;
    ptrace = libc::SYS_ptrace, Is(0, TRACE_REQUESTS), Shape::Ptrace;
    io_uring_setup = libc::SYS_io_uring_setup, Always, Shape::IoUring;
    seccomp = libc::SYS_seccomp, Is(0, FILTERING), Shape::Seccomp;
    prctl = libc::SYS_prctl, Is(0, HIDING), Shape::Prctl;
};

// Newer than libc's tables for some targets; the same number on every architecture (asm-generic/unistd.h).
const SYS_FCHMODAT2: c_long = 452;
const SYS_SETXATTRAT: c_long = 463;
const SYS_REMOVEXATTRAT: c_long = 466;
const SYS_OPEN_TREE_ATTR: c_long = 467;
