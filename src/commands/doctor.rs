//! `agentrec doctor`: what this machine allows, tried out rather than guessed, and what to do about what it doesn't.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use agentrec_launch::{Plan, PrivateMount};
use agentrec_recorder::profiles::Profiles;
use agentrec_store::Home;
use anyhow::{Context as _, Result};
use nix::sys::statvfs::statvfs;
use nix::sys::utsname::uname;
use nix::sys::wait::{WaitStatus, waitpid};
use serde_json::json;

use crate::exit::Exit;
use crate::output::{Output, Style, home_relative, size};
use crate::session::{self, Context};
use crate::{identity, live};

/// Arguments of `agentrec doctor`.
#[derive(clap::Args)]
pub struct Args {}

/// How a check came out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It works.
    Good,
    /// Recording works, something else doesn't.
    Limited,
    /// Recording does not work.
    Bad,
}

/// One thing that was looked at.
struct Check {
    what: &'static str,
    verdict: Verdict,
    found: String,
    /// What to do about it.
    advice: Option<String>,
}

impl Check {
    fn new(what: &'static str, verdict: Verdict, found: impl Into<String>) -> Self {
        Self { what, verdict, found: found.into(), advice: None }
    }

    fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }
}

/// Below this much room a recording may soon fail, bytes.
const LITTLE_ROOM: u64 = 1 << 30;

/// Carries it out.
pub fn run(_: &Args, context: Context) -> Result<Exit> {
    let home = session::home()?;
    let checks = [
        kernel()?,
        recording(),
        yama(),
        attaching(),
        seccomp(),
        private_mounts(),
        ebpf(),
        tls_proxy(),
        data_directory(&home),
        disk(&home),
        profiles(&home),
        runtime_directory(),
        python(),
    ];
    let mut out = Output::new(context.preferences);
    for check in &checks {
        write(&mut out, check)?;
    }
    out.finish()?;
    let broken = checks.iter().any(|check| check.verdict == Verdict::Bad);
    Ok(if broken { Exit::FAILURE } else { Exit::OK })
}

fn write(out: &mut Output, check: &Check) -> Result<()> {
    let (word, style) = match check.verdict {
        Verdict::Good => ("ok", Style::Good),
        Verdict::Limited => ("limited", Style::Warn),
        Verdict::Bad => ("no", Style::Bad),
    };
    if out.json {
        out.json_line(&json!({
            "kind": "check", "check": check.what, "verdict": word, "found": check.found, "advice": check.advice,
        }))?;
        return Ok(());
    }
    let paint = out.paint;
    writeln!(
        out,
        "{}  {:<15} {}",
        paint.apply(style, format_args!("{word:<7}")),
        check.what,
        check.found
    )?;
    if let Some(advice) = &check.advice {
        writeln!(out, "{:25} {}", "", paint.dim(format_args!("-> {advice}")))?;
    }
    Ok(())
}

fn kernel() -> Result<Check> {
    let name = uname().context("cannot tell the kernel's version")?;
    let release = name.release().to_string_lossy().into_owned();
    let arch = name.machine().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let found = format!("{release} {arch}");
    Ok(if arch != "x86_64" {
        Check::new("kernel", Verdict::Limited, found)
            .advise("this version is tested on x86-64 only")
    } else if version < (5, 3) {
        // PTRACE_GET_SYSCALL_INFO, ptrace(2).
        Check::new("kernel", Verdict::Bad, found).advise("Linux 5.3 or later is needed")
    } else {
        Check::new("kernel", Verdict::Good, found)
    })
}

/// Loads the programs, and attaches none.
fn ebpf() -> Check {
    match agentrec_recorder::ebpf::try_to_load() {
        Ok(hooks) => {
            let missing = match &hooks.missing[..] {
                [] => String::new(),
                missing => format!("; this kernel lacks {}", missing.join(", ")),
            };
            let found = hooks.found;
            let found = format!(
                "the BPF programs load, for {found} tracepoints: `run` takes them{missing}"
            );
            Check::new("ebpf", Verdict::Good, found)
        }
        Err(error) => {
            let found = format!("{:#}; ptrace records everything", anyhow::Error::from(error));
            let check = Check::new("ebpf", Verdict::Good, found);
            if agentrec_recorder::privileges::may_load() {
                check
            } else {
                check.advise("sudo agentrec setup, or run agentrec as root")
            }
        }
    }
}

/// What leads connections for `--tls proxy`.
fn tls_proxy() -> Check {
    match agentrec_recorder::ebpf::try_to_divert() {
        Ok(groups) => {
            let groups = groups.display();
            let found = format!("`run --tls proxy` leads connections by BPF programs, at {groups}");
            Check::new("tls proxy", Verdict::Good, found)
        }
        Err(error) => {
            let error = anyhow::Error::from(error);
            let found = format!("`run --tls proxy` leads connections by ptrace: {error:#}");
            Check::new("tls proxy", Verdict::Good, found)
        }
    }
}

/// Records `true` into a directory of its own.
fn recording() -> Check {
    match try_recording() {
        Ok(None) => Check::new("recording", Verdict::Good, "recorded a process, and its trace is sound"),
        Ok(Some(said)) => Check::new("recording", Verdict::Bad, said)
            .advise("see the lines below; in a container, ptrace must be allowed (--cap-add SYS_PTRACE on old kernels)"),
        Err(error) => Check::new("recording", Verdict::Bad, format!("{error:#}")),
    }
}

/// What went wrong, if something did.
fn try_recording() -> Result<Option<String>> {
    let program = std::env::current_exe().context("cannot find this program")?;
    let dir = TemporaryDir::create()?;
    let trace = dir.path().join("doctor.zst");
    let agentrec = |args: &[&str]| {
        let mut command = Command::new(&program);
        // Inside of a recorded agent the outer recording must not take this one in.
        command.args(args).env("AGENTREC_HOME", dir.path()).env_remove("AGENTREC_SOCKET");
        command.current_dir(dir.path()).stdin(Stdio::null()).output()
    };
    let trace = trace.to_string_lossy();
    for args in [&["run", "--quiet", "-o", &trace, "--", "true"][..], &["verify", &trace]] {
        let output = agentrec(args).context("cannot run this program")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            return Ok(Some(if said.is_empty() { output.status.to_string() } else { said }));
        }
    }
    Ok(None)
}

/// A directory that is removed at the end.
struct TemporaryDir(std::path::PathBuf);

impl TemporaryDir {
    fn create() -> Result<Self> {
        let name = format!("agentrec-doctor-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        agentrec_store::create_private_dir(&path)?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryDir {
    fn drop(&mut self) {
        // It lies in the directory for what may be lost.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn sysctl(name: &str) -> Option<String> {
    fs::read_to_string(Path::new("/proc/sys").join(name)).ok().map(|value| value.trim().to_owned())
}

/// What `agentrec attach` may trace: Documentation/admin-guide/LSM/Yama.rst in the kernel's source.
fn attaching() -> Check {
    let scope = sysctl("kernel/yama/ptrace_scope").unwrap_or_else(|| "0".into());
    let root = nix::unistd::geteuid().is_root();
    match scope.as_str() {
        "0" => Check::new("attach", Verdict::Good, "agentrec attach works for your own processes"),
        "1" | "2" if root => Check::new("attach", Verdict::Good, "agentrec attach works, as root"),
        "1" => {
            Check::new("attach", Verdict::Limited, "ptrace_scope 1: no attach to what runs already")
                .advise("sysctl kernel.yama.ptrace_scope=0, or attach as root")
        }
        _ => Check::new("attach", Verdict::Limited, format!("ptrace_scope {scope}: no attach")),
    }
}

/// Documentation/admin-guide/LSM/Yama.rst in the kernel's source.
fn yama() -> Check {
    match sysctl("kernel/yama/ptrace_scope").as_deref() {
        None => Check::new("yama", Verdict::Good, "not in this kernel"),
        Some("0") => Check::new("yama", Verdict::Good, "ptrace_scope 0"),
        Some("1") => {
            Check::new("yama", Verdict::Good, "ptrace_scope 1: what agentrec starts may be traced")
        }
        Some("2") if nix::unistd::geteuid().is_root() => {
            Check::new("yama", Verdict::Good, "ptrace_scope 2, as root")
        }
        Some("2") => Check::new("yama", Verdict::Bad, "ptrace_scope 2: only root may trace")
            .advise("sysctl kernel.yama.ptrace_scope=1, or run as root"),
        Some(scope) => {
            Check::new("yama", Verdict::Bad, format!("ptrace_scope {scope}: nobody may trace"))
                .advise("it can only be changed by a reboot with another kernel.yama.ptrace_scope")
        }
    }
}

fn seccomp() -> Check {
    let actions = sysctl("kernel/seccomp/actions_avail").unwrap_or_default();
    if !actions.split(' ').any(|action| action == "trace") {
        return Check::new(
            "seccomp",
            Verdict::Bad,
            "the kernel has no seccomp filters that stop for a tracer",
        )
        .advise("a kernel with CONFIG_SECCOMP_FILTER is needed");
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mode =
        status.lines().find_map(|line| line.strip_prefix("Seccomp:")).unwrap_or_default().trim();
    match mode {
        "2" => Check::new(
            "seccomp",
            Verdict::Good,
            "filters can be installed; this process already runs under one",
        ),
        _ => Check::new("seccomp", Verdict::Good, "filters can be installed"),
    }
}

/// Binds one directory over another and runs `true` there, as `agentrec resume` does.
fn private_mounts() -> Check {
    match try_private_mount() {
        Ok(()) => Check::new(
            "private mounts",
            Verdict::Good,
            "resumed agents can work in a copy at the original path",
        ),
        Err(error) => {
            let advice = error
                .downcast_ref::<agentrec_launch::Error>()
                .and_then(agentrec_launch::Error::hint);
            let check = Check::new(
                "private mounts",
                Verdict::Limited,
                format!("{error:#}: no `agentrec resume`"),
            );
            match advice {
                Some(advice) => check.advise(advice),
                None => check,
            }
        }
    }
}

fn try_private_mount() -> Result<()> {
    let dir = TemporaryDir(
        std::env::temp_dir().join(format!("agentrec-doctor-mount-{}", std::process::id())),
    );
    let (source, target) = (dir.path().join("copy"), dir.path().join("original"));
    agentrec_store::create_private_dir(&source)?;
    agentrec_store::create_private_dir(&target)?;
    fs::write(source.join("seen"), "")?;
    let plan = Plan {
        argv: ["test", "-e", "seen"].map(Into::into).to_vec(),
        env: std::env::vars_os().collect(),
        cwd: target.clone(),
        mounts: vec![PrivateMount { source, target }],
    };
    let pid = plan.prepare()?.spawn()?.started()?;
    anyhow::ensure!(waitpid(pid, None)? == WaitStatus::Exited(pid, 0), "the mount was not seen");
    Ok(())
}

fn data_directory(home: &Home) -> Check {
    let path = home.data().display();
    match home.create() {
        Ok(()) => Check::new("data directory", Verdict::Good, path.to_string()),
        Err(error) => Check::new("data directory", Verdict::Bad, error.to_string())
            .advise("make it writable, or set AGENTREC_HOME to another place"),
    }
}

fn disk(home: &Home) -> Check {
    match statvfs(home.data()) {
        Err(error) => {
            Check::new("disk", Verdict::Limited, format!("cannot tell the room left: {error}"))
        }
        Ok(fs) => {
            let free = fs.blocks_available().saturating_mul(fs.fragment_size());
            if free < LITTLE_ROOM {
                Check::new("disk", Verdict::Limited, format!("{} free", size(free)))
                    .advise("agentrec prune --keep-last 7d shows what could go")
            } else {
                Check::new("disk", Verdict::Good, format!("{} free", size(free)))
            }
        }
    }
}

/// Whose state becomes a root, and whether the user's own table can be used.
fn profiles(home: &Home) -> Check {
    let (profiles, wrong) = Profiles::load(&home.profiles());
    if let Some(wrong) = wrong {
        return Check::new("profiles", Verdict::Limited, wrong.to_string()).advise(wrong.hint());
    }
    let env = identity::environment();
    let variable =
        |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let here = profiles.agents().filter_map(|agent| {
        let dirs = profiles.state_dirs(agent, variable);
        let dirs = dirs.iter().filter(|dir| dir.path.is_dir());
        let dirs: Vec<_> = dirs.map(|dir| home_relative(dir.path.as_os_str().as_bytes())).collect();
        (!dirs.is_empty()).then(|| format!("{agent} {}", dirs.join(" ")))
    });
    let here: Vec<_> = here.collect();
    let found = if here.is_empty() {
        let agents: Vec<_> = profiles.agents().collect();
        format!("no state of {} is here", agents.join(", "))
    } else {
        format!("snapshots hold the state of an agent that runs: {}", here.join(", "))
    };
    Check::new("profiles", Verdict::Good, found)
}

fn runtime_directory() -> Check {
    match live::runtime_dir() {
        Some(dir) if nix::unistd::access(&dir, nix::unistd::AccessFlags::W_OK).is_ok() => {
            Check::new("sockets", Verdict::Good, dir.join("agentrec").display().to_string())
        }
        Some(dir) => Check::new(
            "sockets",
            Verdict::Good,
            format!("in the data directory: {} cannot be written", dir.display()),
        ),
        None => Check::new(
            "sockets",
            Verdict::Good,
            "in the data directory: XDG_RUNTIME_DIR is not set",
        ),
    }
}

fn python() -> Check {
    let output = Command::new("python3").arg("--version").stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => {
            let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            Check::new("python", Verdict::Good, format!("{version}: --with-sdk works"))
        }
        _ => Check::new(
            "python",
            Verdict::Limited,
            "no python3 here: --with-sdk has nobody to serve",
        ),
    }
}
