//! As whom a command runs, and with which rights: under sudo, with a program that has capabilities, and without either.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use agentrec_trace::Reader;
use common::exchanges::{Server, assert_whole, make_certificate};
use common::{AGENTREC, Ran, TestEnv};
use nix::unistd::{User, geteuid};
use serde_json::Value;

/// An ordinary user who is on every system.
fn nobody() -> User {
    User::from_name("nobody").expect("there are users").expect("there is nobody")
}

/// Words before a command that have it run as that user, without any privilege.
fn as_nobody() -> Vec<String> {
    let user = nobody();
    let ids = [format!("--reuid={}", user.uid), format!("--regid={}", user.gid)];
    let rest = ["--clear-groups", "--inh-caps=-all"].map(str::to_owned);
    [vec!["setpriv".to_owned()], ids.to_vec(), rest.to_vec()].concat()
}

/// A place where that user may work, with a copy of the program.
struct Place {
    env: TestEnv,
    program: PathBuf,
}

impl Place {
    fn new() -> Self {
        let env = TestEnv::new();
        let user = nobody();
        let dir = env.work().parent().expect("it has one").to_owned();
        let (uid, gid) = (Some(user.uid.as_raw()), Some(user.gid.as_raw()));
        for place in [dir.clone(), env.work(), env.outside("")] {
            chown(place, uid, gid).expect("we are root");
        }
        let program = dir.join("agentrec");
        fs::copy(AGENTREC, &program).expect("room for a copy");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("ours");
        Self { env, program }
    }

    /// Runs words as nobody, with the environment's engine left to the program.
    fn run_as_nobody(&self, words: &[&str]) -> Ran {
        let prefix = as_nobody();
        let mut command = self.env.command(&prefix[0]);
        command.args(&prefix[1..]).args(words).env_remove("AGENTREC_ENGINE");
        common::ran(command.output())
    }

    fn start_of(&self, trace: &Path) -> Value {
        let shown = self.env.ok(["info", "--json", trace.to_str().expect("text")]);
        common::objects(&shown).remove(0)
    }
}

/// What a command finds out about itself.
const WHO: &str = "id -u; id -G; grep -E '^(Cap(Inh|Prm|Eff|Amb)|NoNewPrivs)' /proc/self/status; echo $HOME $USER $KEPT";

#[test]
#[ignore = "needs root"]
fn root_under_sudo_the_command_is_the_callers_and_has_no_privilege() {
    let place = Place::new();
    let user = nobody();
    for engine in [None, Some("ptrace")] {
        // As sudo(8) leaves its environment.
        let mut command = place.env.agentrec([
            "run",
            "--json",
            "-o",
            "trace.zst",
            "--overwrite",
            "--",
            "sh",
            "-c",
            WHO,
        ]);
        command
            .env_remove("AGENTREC_ENGINE")
            .env_remove("AGENTREC_HOME")
            .env("XDG_DATA_HOME", place.env.work().join("data"))
            .env("SUDO_UID", user.uid.to_string())
            .env("SUDO_GID", user.gid.to_string())
            .env("HOME", "/root")
            .env("USER", "root")
            .env("KEPT", "kept");
        command.envs(engine.map(|engine| ("AGENTREC_ENGINE", engine)));
        let ran = common::ran(command.output());
        let none = "0000000000000000";
        // An unprivileged tracer needs no_new_privs for its filter (seccomp(2)).
        let no_new_privs = u8::from(engine.is_some());
        let expected = format!(
            "{0}\n{1}\nCapInh:\t{none}\nCapPrm:\t{none}\nCapEff:\t{none}\nCapAmb:\t{none}\nNoNewPrivs:\t{no_new_privs}\n{2} nobody kept\n",
            user.uid,
            user.gid,
            user.dir.display(),
        );
        assert_eq!((ran.code, ran.stdout.as_str()), (0, expected.as_str()), "{ran:?}");
        assert!(ran.stderr.contains("the command runs as nobody, who called sudo"), "{ran:?}");
        let trace = place.env.work().join("trace.zst");
        assert_eq!(fs::metadata(&trace).expect("recorded").uid(), user.uid.as_raw());
        assert_eq!(place.start_of(&trace)["engine"], engine.unwrap_or("ebpf"));
    }
    // What only root may write to is not written to.
    let kept = TestEnv::new();
    let mut command = place.env.agentrec(["run", "-o"]);
    command.arg(kept.work().join("trace.zst")).args(["--", "true"]);
    let refused = common::ran(command.env("SUDO_UID", user.uid.to_string()).output());
    assert_eq!(refused.code, 125, "{refused:?}");
    assert!(refused.stderr.contains("ermission denied"), "{refused:?}");
}

#[test]
#[ignore = "needs root"]
fn root_after_setup_everybody_records_by_bpf_and_nobody_else_gains_anything() {
    let place = Place::new();
    let program = place.program.to_str().expect("text");
    let capable = |wanted: bool| {
        let ran = place.run_as_nobody(&[
            "env",
            "LD_LIBRARY_PATH=/kept",
            "KEPT=kept",
            program,
            "run",
            "--json",
            "-o",
            "trace.zst",
            "--overwrite",
            "--",
            "sh",
            "-c",
            &format!("{WHO}; echo $LD_LIBRARY_PATH"),
        ]);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert_eq!(ran.stdout.matches("0000000000000000").count(), 4, "{ran:?}");
        assert!(ran.stdout.ends_with(" kept\n/kept\n"), "{ran:?}");
        let start = place.start_of(&place.env.work().join("trace.zst"));
        assert_eq!(start["engine"], if wanted { "ebpf" } else { "ptrace" }, "{ran:?}");
    };
    capable(false);
    let ran = common::ran(place.env.command(program).arg("setup").output());
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.contains("CAP_BPF") && ran.stdout.contains("CAP_NET_ADMIN"), "{ran:?}");
    capable(true);
    // The programs that lead connections load too; the tree gets none of the rights for them.
    let proxied = ["run", "--json", "--tls", "proxy", "-o", "proxied.zst", "--overwrite", "--"];
    let command = [&[program][..], &proxied, &["sh", "-c", WHO]].concat();
    let ran = place.run_as_nobody(&command);
    assert_eq!((ran.code, ran.stdout.matches("0000000000000000").count()), (0, 4), "{ran:?}");
    assert_eq!(place.start_of(&place.env.work().join("proxied.zst"))["engine"], "ebpf", "{ran:?}");
    // Files of others stay closed: CAP_DAC_READ_SEARCH is for tracefs.
    fs::write(place.env.outside("secret"), "").expect("ours");
    fs::set_permissions(place.env.outside("secret"), fs::Permissions::from_mode(0o600))
        .expect("ours");
    let secret = place.env.outside("secret");
    let ran = place.run_as_nobody(&[program, "verify", secret.to_str().expect("text")]);
    assert!(ran.code != 0 && ran.stderr.contains("ermission denied"), "{ran:?}");
    // Nor can processes of others be attached to.
    let mut other = place.env.command("sleep").arg("1000").spawn().expect("it runs");
    let pid = other.id().to_string();
    for engine in ["auto", "ebpf", "ptrace"] {
        let ran = place.run_as_nobody(&[program, "attach", "--engine", engine, &pid]);
        assert_eq!(ran.code, 125, "{engine}: {ran:?}");
    }
    other.kill().expect("it runs");
    other.wait().expect("it ends");
    let ran = common::ran(place.env.command(program).args(["setup", "--undo"]).output());
    assert_eq!(ran.code, 0, "{ran:?}");
    capable(false);
    // What anybody may change is given nothing.
    fs::set_permissions(&place.program, fs::Permissions::from_mode(0o777)).expect("ours");
    let ran = common::ran(place.env.command(program).arg("setup").output());
    assert!(ran.code == 1 && ran.stderr.contains("hint: chmod go-w"), "{ran:?}");
}

/// Says something through TLS, once its library was looked into: a snapshot waits for all that happened before it.
const THROUGH_TLS: &str = r#"
import http.client, os, socket, ssl, sys
with socket.socket(socket.AF_UNIX) as recorder:
    recorder.connect(os.environ["AGENTREC_SOCKET"])
    recorder.send(b'{"type": "snapshot", "req": 1}\n')
    assert b'"ok":true' in recorder.recv(4096)
context = ssl.create_default_context(cafile=sys.argv[2])
connection = http.client.HTTPSConnection("localhost", int(sys.argv[1]), context=context)
for turn in range(3):
    connection.request("POST", f"/plain/{turn}", f"said {turn}")
    connection.getresponse().read()
"#;

#[test]
#[ignore = "needs root"]
fn root_tls_is_read_by_bpf_under_sudo_and_after_setup() {
    let place = Place::new();
    let cert = make_certificate(&place.env);
    place.env.write("../client.py", THROUGH_TLS);
    let server = Server::start(&place.env, &cert);
    let program = place.program.to_str().expect("text");
    let user = nobody();
    let recorded = ["run", "-q", "--engine", "ebpf", "--overwrite", "-o", "trace.zst", "--"];
    let client = ["python3", "../client.py", &server.port, cert[0]];
    let is_whole = |ran: &Ran| {
        assert_eq!(ran.code, 0, "{ran:?}");
        let reader = Reader::open(place.env.work().join("trace.zst")).expect("a trace");
        assert_whole(&place.env, &reader, &format!("https://localhost:{}", server.port), 3);
    };
    let mut under_sudo = place.env.agentrec(recorded.iter().chain(&client));
    under_sudo
        .env_remove("AGENTREC_ENGINE")
        .env("AGENTREC_HOME", place.env.work().join("data"))
        .env("SUDO_UID", user.uid.to_string())
        .env("SUDO_GID", user.gid.to_string());
    is_whole(&common::ran(under_sudo.output()));
    let ran = common::ran(place.env.command(program).arg("setup").output());
    assert_eq!(ran.code, 0, "{ran:?}");
    let words: Vec<&str> = [program].iter().chain(&recorded).chain(&client).copied().collect();
    is_whole(&place.run_as_nobody(&words));
}

#[test]
#[ignore = "needs root"]
fn root_in_a_pid_namespace_its_own_pids_are_shown() {
    let env = TestEnv::new();
    let script = "echo $$; sh -c 'echo $$; touch made' & wait; python3 -c '
import os, threading
def other(): os.execvp(\"touch\", [\"touch\", \"by-thread\"])
threading.Thread(target=other).start(); threading.Event().wait()'";
    let ran = common::ran(
        env.command("unshare")
            .args([
                "--pid",
                "--fork",
                "--mount-proc",
                AGENTREC,
                "run",
                "--json",
                "--engine",
                "ebpf",
                "-o",
                "trace.zst",
                "--",
                "sh",
                "-c",
                script,
            ])
            .output(),
    );
    assert_eq!(ran.code, 0, "{ran:?}");
    let events = env.json(["export", "trace.zst"]);
    let pids: Vec<String> = events.iter().map(|event| event["data"]["pid"].to_string()).collect();
    for pid in ran.stdout.lines() {
        assert!(pid.parse::<u32>().is_ok_and(|pid| pid < 100), "{ran:?}");
        assert!(pids.iter().any(|told| told == pid), "{pid} is not among {pids:?}");
    }
    assert!(events.iter().all(|event| event["type"] != "lost"), "{events:#?}");
    for made in ["made", "by-thread"] {
        let path = env.work().join(made);
        let path = path.to_str().expect("text");
        assert!(
            events
                .iter()
                .any(|event| event["type"].as_str().is_some_and(|kind| kind.starts_with("file."))
                    && event.to_string().contains(path)),
            "{made}"
        );
    }
}

#[test]
fn setup_is_for_root() {
    let env = TestEnv::new();
    let prefix = if geteuid().is_root() { as_nobody() } else { vec!["env".to_owned()] };
    let ran =
        common::ran(env.command(&prefix[0]).args(&prefix[1..]).args([AGENTREC, "setup"]).output());
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.stderr.contains("only root can give capabilities")
            && ran.stderr.contains("hint: sudo "),
        "{ran:?}"
    );
}
