//! What every program does and no auditor asks about: the libraries it loads, the tables of the C library, /proc/self.

/// Directories whose files are read by whoever runs a program.
const DIRECTORIES: &[&[u8]] = &[
    b"/usr/",
    b"/lib/",
    b"/lib32/",
    b"/lib64/",
    b"/libx32/",
    b"/bin/",
    b"/sbin/",
    b"/nix/store/",
    b"/gnu/store/",
    b"/etc/ld.so.conf.d/",
    b"/etc/ssl/",
    b"/etc/pki/",
    b"/etc/ca-certificates/",
    b"/etc/alternatives/",
    b"/etc/terminfo/",
    b"/etc/fonts/",
    b"/etc/crypto-policies/",
    b"/sys/",
    b"/dev/",
    b"/var/cache/fontconfig/",
    b"/var/lib/ca-certificates/",
    b"/etc/profile.d/",
    b"/etc/python3",
    b"/etc/locale",
];

/// Single files of the same kind.
const FILES: &[&[u8]] = &[
    b"/etc/ld.so.cache",
    b"/etc/ld.so.preload",
    b"/etc/ld.so.conf",
    b"/etc/localtime",
    b"/etc/timezone",
    b"/etc/nsswitch.conf",
    b"/etc/hosts",
    b"/etc/host.conf",
    b"/etc/resolv.conf",
    b"/etc/gai.conf",
    b"/etc/services",
    b"/etc/protocols",
    b"/etc/passwd",
    b"/etc/group",
    b"/etc/os-release",
    b"/etc/mime.types",
    b"/etc/inputrc",
    b"/etc/bash.bashrc",
    b"/etc/profile",
    b"/etc/environment",
    b"/etc/machine-id",
    b"/etc/networks",
    b"/etc/hostname",
    b"/etc/debian_version",
    b"/etc/lsb-release",
    b"/etc/magic",
    b"/run/systemd/resolve/stub-resolv.conf",
];

/// Devices that keep nothing of what is written to them, or show it to the user.
const SINKS: &[&[u8]] = &[
    b"/dev/null",
    b"/dev/zero",
    b"/dev/full",
    b"/dev/tty",
    b"/dev/ptmx",
    b"/dev/random",
    b"/dev/urandom",
    b"/dev/stdout",
    b"/dev/stderr",
];

/// Files of /proc/PID that tell what another process holds.
const TELLING: &[&[u8]] = &[b"environ", b"mem", b"auxv", b"root", b"cwd", b"fd", b"map_files"];

/// Whether reading `path` says nothing about what a program is after.
pub fn is_noise_to_read(path: &[u8]) -> bool {
    if !path.starts_with(b"/") || FILES.contains(&path) {
        return true;
    }
    // Memory that is shared under a name, and whole disks, are no noise.
    if path.starts_with(b"/dev/shm/") || is_disk(path) {
        return false;
    }
    if let Some(rest) = path.strip_prefix(b"/proc/") {
        return !is_telling(rest);
    }
    DIRECTORIES.iter().any(|directory| path.starts_with(directory))
}

/// Whether writing to `path` leaves nothing behind.
pub fn is_noise_to_write(path: &[u8]) -> bool {
    if !path.starts_with(b"/") || SINKS.contains(&path) {
        return true;
    }
    if path.starts_with(b"/dev/pts/") || path.starts_with(b"/dev/fd/") {
        return true;
    }
    // What a process says about itself ends with it; /proc/sys and /proc/sysrq-trigger are the machine's.
    path.strip_prefix(b"/proc/").is_some_and(|rest| {
        let mut names = rest.split(|&b| b == b'/');
        let process = names.next().is_some_and(|name| {
            matches!(name, b"self" | b"thread-self") || name.iter().all(u8::is_ascii_digit)
        });
        process && !names.any(|name| TELLING.contains(&name))
    })
}

/// `4711/environ`: of a process by its number, which is rarely the own one.
fn is_telling(rest: &[u8]) -> bool {
    let mut names = rest.split(|&b| b == b'/');
    match names.next() {
        Some(b"kcore" | b"kmem") => true,
        Some(pid) if pid.iter().all(u8::is_ascii_digit) => {
            names.next().is_some_and(|name| TELLING.contains(&name) && name != b"fd")
        }
        _ => false,
    }
}

fn is_disk(path: &[u8]) -> bool {
    [
        &b"/dev/sd"[..],
        b"/dev/nvme",
        b"/dev/vd",
        b"/dev/mapper/",
        b"/dev/dm-",
        b"/dev/loop",
        b"/dev/mem",
        b"/dev/kmem",
    ]
    .iter()
    .any(|disk| path.starts_with(disk))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_is_no_noise() {
        for path in
            ["/usr/lib/x.so", "/etc/ld.so.cache", "/proc/self/maps", "/proc/meminfo", "pipe:[7]"]
        {
            assert!(is_noise_to_read(path.as_bytes()), "{path}");
        }
        for path in [
            "/etc/shadow",
            "/home/u/x",
            "/proc/1/environ",
            "/proc/4711/mem",
            "/dev/sda1",
            "/dev/shm/x",
            "/opt/x",
        ] {
            assert!(!is_noise_to_read(path.as_bytes()), "{path}");
        }
        for path in ["/dev/null", "/dev/pts/3", "/proc/self/oom_score_adj", "/proc/12/uid_map"] {
            assert!(is_noise_to_write(path.as_bytes()), "{path}");
        }
        for path in [
            "/dev/sda",
            "/proc/sys/kernel/core_pattern",
            "/proc/12/mem",
            "/usr/bin/x",
            "/sys/power/state",
        ] {
            assert!(!is_noise_to_write(path.as_bytes()), "{path}");
        }
    }
}
