//! Where work leaves the tree: daemons and servers that do things for who connects to them, and programs whose only
//! purpose is to have others work.
//!
//! Connections to anybody else outside (name services, a display, a log) are a `net.connect` and no loss.

use agentrec_trace::event::Lost;

use super::{Model, Scribe, Task};
use crate::observation::{ArgList, Tid};

/// What a socket's path ends with, and who listens there. Abstract names count without their NUL.
const SOCKETS: &[(&str, &str)] = &[
    ("/docker.sock", "docker"),
    ("/podman.sock", "podman"),
    ("/containerd.sock", "containerd"),
    ("/crio.sock", "CRI-O"),
    ("/buildkitd.sock", "buildkit"),
    ("/lxd/unix.socket", "LXD"),
    ("/incus/unix.socket", "Incus"),
    ("/libvirt-sock", "libvirt"),
    ("/nix/daemon-socket/socket", "the Nix daemon"),
    ("/dbus/system_bus_socket", "services on D-Bus"),
    ("/systemd/private", "systemd"),
    ("/supervisor.sock", "supervisord"),
    ("/emacs/server", "Emacs"),
];

/// The same for directories with a socket for each user or session: what the path holds.
const DIRECTORIES: &[(&str, &str)] = &[
    ("/tmux-", "tmux"),
    ("/screen/S-", "screen"),
    ("/screens/S-", "screen"),
    ("/.screen/", "screen"),
    ("/tmp/dbus-", "services on D-Bus"),
    ("/vscode-ipc-", "VS Code"),
];

/// Programs that listen for work wherever their socket is: their name, which the kernel cuts to 15 bytes.
const SERVERS: &[(&str, &str)] = &[
    ("dockerd", "docker"),
    ("containerd", "containerd"),
    ("podman", "podman"),
    ("buildkitd", "buildkit"),
    ("lxd", "LXD"),
    ("incusd", "Incus"),
    ("libvirtd", "libvirt"),
    ("nix-daemon", "the Nix daemon"),
    ("dbus-daemon", "services on D-Bus"),
    ("dbus-broker", "services on D-Bus"),
    ("dbus-broker-lau", "services on D-Bus"),
    ("tmux: server", "tmux"),
    ("screen", "screen"),
    ("supervisord", "supervisord"),
    ("pueued", "pueue"),
];

/// Programs that have others work: their name, the flags with which they only look, and who works.
const CLIENTS: &[(&str, &[&str], &str)] = &[
    ("ssh", &["-V", "-G", "-Q"], "another machine by ssh"),
    ("mosh-client", &[], "another machine by mosh"),
    ("at", &["-l", "-c", "-d", "-r", "-V"], "the at daemon"),
    ("batch", &[], "the at daemon"),
    ("crontab", &["-l"], "cron"),
];

/// Who takes work at a unix socket of this name.
pub(super) fn by_socket(path: &[u8]) -> Option<&'static str> {
    let holds = |part: &str| path.windows(part.len()).any(|at| at == part.as_bytes());
    let ends = SOCKETS.iter().find(|(end, _)| path.ends_with(end.as_bytes()));
    let inside = || DIRECTORIES.iter().find(|(part, _)| holds(part));
    ends.or_else(inside).map(|&(_, taker)| taker).or_else(|| {
        // Of a user: $XDG_RUNTIME_DIR/bus.
        let user_bus = path.starts_with(b"/run/user/") && path.ends_with(b"/bus");
        user_bus.then_some("services on D-Bus")
    })
}

/// Who takes work where a program of this name listens.
pub(super) fn by_server(program: &[u8]) -> Option<&'static str> {
    SERVERS.iter().find(|(name, _)| name.as_bytes() == program).map(|&(_, taker)| taker)
}

/// Who works when this program runs.
pub(super) fn by_client(path: &[u8], argv: &ArgList) -> Option<&'static str> {
    let name = path.rsplit(|&byte| byte == b'/').next()?;
    let (_, looks, taker) = CLIENTS.iter().find(|(client, ..)| client.as_bytes() == name)?;
    let looks = argv.iter().skip(1).any(|arg| looks.iter().any(|flag| flag.as_bytes() == arg));
    (!looks).then_some(taker)
}

impl Model {
    /// Work may have been handed to somebody outside: said once a process and taker.
    pub(super) fn handed_over(
        &mut self,
        task: Task,
        taker: &'static str,
        pid: Option<Tid>,
        scribe: &mut Scribe<'_>,
    ) {
        let Some(process) = self.processes.get_mut(&task.process) else { return };
        if !process.handed_over.insert((taker, pid)) {
            return;
        }
        let named = pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
        let reason = format!("work may have been handed to {taker}{named}, which is not recorded");
        let peer_pid = pid.map(|pid| pid as u32);
        let id = process.id;
        let data = Lost { count: None, place: "outside".into(), reason: reason.into(), peer_pid };
        scribe.write(task.process, id, data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_who_takes_work_and_nobody_else() {
        let by_socket = |path: &str| super::by_socket(path.as_bytes());
        for path in ["/var/run/docker.sock", "/run/docker.sock", "/home/u/.docker/run/docker.sock"]
        {
            assert_eq!(by_socket(path), Some("docker"), "{path}");
        }
        for path in ["/run/user/1000/bus", "/run/dbus/system_bus_socket", "\0/tmp/dbus-Ab3"] {
            assert_eq!(by_socket(path), Some("services on D-Bus"), "{path}");
        }
        assert_eq!(by_socket("/tmp/tmux-1000/default"), Some("tmux"));
        assert_eq!(by_socket("/run/screen/S-u/12.pts-0"), Some("screen"));
        for path in [
            "/var/run/nscd/socket",
            "/tmp/.X11-unix/X0",
            "\0/tmp/.X11-unix/X0",
            "/run/systemd/resolve/io.systemd.Resolve",
            "/run/systemd/userdb/io.systemd.DynamicUser",
            "/run/user/1000/wayland-0",
            "/work/bus",
            "",
        ] {
            assert_eq!(by_socket(path), None, "{path}");
        }
        assert_eq!(by_server(b"tmux: server"), Some("tmux"));
        assert_eq!(by_server(b"Xorg"), None);
    }

    #[test]
    fn clients_that_only_look_hand_nothing_over() {
        let client = |path: &str, args: &[&str]| {
            let bytes = args.iter().flat_map(|arg| [arg.as_bytes(), b"\0"].concat()).collect();
            by_client(path.as_bytes(), &ArgList { bytes, cut: None })
        };
        assert_eq!(
            client("/usr/bin/ssh", &["ssh", "host", "make"]),
            Some("another machine by ssh")
        );
        assert_eq!(client("/usr/bin/crontab", &["crontab", "file"]), Some("cron"));
        assert_eq!(client("/usr/bin/crontab", &["crontab", "-l"]), None);
        assert_eq!(client("/usr/bin/sshd", &["sshd"]), None);
    }
}
