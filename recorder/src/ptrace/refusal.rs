//! Why the kernel refuses to let us trace, as far as that can be seen: ptrace(2) says EPERM to everything.

use std::{fs, io};

use super::rights::CAP_SYS_PTRACE;
use crate::proc::{field, number};

/// What decides whether this thread may trace its own processes.
#[derive(Clone, Copy, Debug, Default)]
struct Circumstances {
    /// `kernel.yama.ptrace_scope`, where the kernel has Yama (Documentation/admin-guide/LSM/Yama.rst).
    yama: Option<u64>,
    /// This process has a tracer, so its children have it too.
    traced: bool,
    /// Some seccomp filter is in force.
    filtered: bool,
    /// CAP_SYS_PTRACE.
    privileged: bool,
}

/// The explanation of `error`; none where it is no refusal.
pub(super) fn explain(error: &io::Error) -> Option<&'static str> {
    let refused = matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::ENOSYS));
    refused.then(|| why(Circumstances::now()))
}

impl Circumstances {
    fn now() -> Self {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let yama = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
        let capabilities =
            field(&status, "CapEff:").and_then(|it| u64::from_str_radix(it, 16).ok());
        Self {
            yama: yama.ok().and_then(|scope| scope.trim().parse().ok()),
            traced: number(&status, "TracerPid:").is_some_and(|tracer| tracer != 0),
            filtered: number(&status, "Seccomp:").is_some_and(|mode| mode != 0),
            privileged: capabilities.is_some_and(|mask| mask >> CAP_SYS_PTRACE & 1 == 1),
        }
    }
}

fn why(circumstances: Circumstances) -> &'static str {
    match circumstances {
        Circumstances { traced: true, .. } => {
            "this process is traced already, by a debugger or by a recording that it can't join \
             (its socket in AGENTREC_SOCKET is out of reach), and nobody can have two tracers"
        }
        Circumstances { yama: Some(3..), .. } => {
            "with kernel.yama.ptrace_scope 3 nobody may trace; only a boot with another value changes that"
        }
        Circumstances { yama: Some(2), privileged: false, .. } => {
            "with kernel.yama.ptrace_scope 2 only root may trace: run as root, or set it to 1"
        }
        Circumstances { filtered: true, .. } => {
            "a container or sandbox forbids ptrace, or a recording outside of it traces this process already; \
             docker's own profile allows ptrace on kernels since 4.8, others with --cap-add SYS_PTRACE"
        }
        Circumstances { .. } => {
            "a security module forbids ptrace; `agentrec doctor` tells what this machine allows"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_refuses_is_named() {
        let none = Circumstances::default();
        for (circumstances, word) in [
            (Circumstances { yama: Some(3), privileged: true, ..none }, "ptrace_scope 3"),
            (
                Circumstances { yama: Some(2), filtered: true, ..none },
                "run as root, or set it to 1",
            ),
            (
                Circumstances { yama: Some(2), privileged: true, filtered: true, ..none },
                "container",
            ),
            (Circumstances { yama: Some(1), filtered: true, ..none }, "container"),
            (Circumstances { yama: Some(2), traced: true, ..none }, "two tracers"),
            (Circumstances { yama: Some(1), ..none }, "agentrec doctor"),
        ] {
            assert!(why(circumstances).contains(word), "{circumstances:?}: {}", why(circumstances));
        }
        assert_eq!(explain(&io::Error::from_raw_os_error(libc::ESRCH)), None);
        assert!(explain(&io::Error::from_raw_os_error(libc::EPERM)).is_some());
    }
}
