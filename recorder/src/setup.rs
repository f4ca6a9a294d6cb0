//! What is settled before the fork, so that front, recorder and command agree on it.

use std::os::fd::RawFd;
use std::path::PathBuf;

use agentrec_store::new_session_id;
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{Pid, getpid};

use crate::error::{Error, Result, chain};
use crate::options::{Engine, Options, Tls};
use crate::proxy::Trust;
use crate::target::Target;
use crate::watch::Watch;
use crate::{runtime, source};

/// Variables that tell the agent of its recording.
pub(crate) const SOCKET: &str = "AGENTREC_SOCKET";
pub(crate) const SESSION: &str = "AGENTREC_SESSION";
pub(crate) const FD: &str = "AGENTREC_FD";
pub(crate) const RESUME: &str = "AGENTREC_RESUME";

/// All of them.
pub(crate) const OUR_VARIABLES: [&str; 4] = [SOCKET, SESSION, FD, RESUME];

/// Everything that both processes have to know.
pub(crate) struct Setup {
    /// As given, the environment completed.
    pub(crate) options: Options,
    /// Id of the new session.
    pub(crate) session: String,
    /// Where the session listens.
    pub(crate) socket: PathBuf,
    /// Where the resume state goes, in a resumed run.
    pub(crate) resume_file: Option<PathBuf>,
    /// What the command trusts, where connections go through the proxy.
    pub(crate) trust: Option<Trust>,
    /// The front.
    pub(crate) front: Pid,
    /// How processes are watched: settled by the recorder, which finds out what works.
    pub(crate) engine: Engine,
    /// Why in that way.
    pub(crate) engine_reason: String,
    /// What the source is told.
    pub(crate) source: source::Config,
    /// What runs already and is attached to.
    pub(crate) target: Option<Target>,
    /// Who is watched, where it is not one tree.
    pub(crate) watch: Option<Watch>,
}

impl Setup {
    pub(crate) fn new(mut options: Options) -> Result<Self> {
        let (session, dir) = session(&mut options)?;
        let socket = runtime::socket_path(&dir, &session);
        let resume_file =
            options.resume_state.is_some().then(|| runtime::resume_path(&dir, &session));
        let reserved_fd = reserved_fd()?;

        let plan = &mut options.plan;
        plan.env.retain(|(name, _)| !OUR_VARIABLES.iter().any(|ours| name == ours));
        plan.set_env(SOCKET, &socket);
        plan.set_env(SESSION, &session);
        plan.set_env(FD, reserved_fd.to_string());
        if let Some(path) = &resume_file {
            plan.set_env(RESUME, path);
        }
        let proxied = options.tls == Tls::Proxy;
        let trust = proxied.then(|| Trust::lead(plan, runtime::bundle_path(&dir, &session)));
        let source = source::Config {
            cwd: plan.cwd.clone(),
            env: plan.env.clone(),
            reserved_fd: Some(reserved_fd),
            socket: Some(socket.clone()),
            front: getpid().as_raw(),
            outputs: vec![1, 2],
        };
        Ok(Self {
            engine: Engine::Ptrace,
            engine_reason: "it needs no privileges".into(),
            options,
            session,
            socket,
            resume_file,
            trust,
            front: getpid(),
            source,
            target: None,
            watch: None,
        })
    }

    /// To record what runs already. It has no line to us: it was started without one.
    pub(crate) fn attach(mut options: Options, target: Target) -> Result<Self> {
        if options.tls == Tls::Proxy {
            return Err(refused(
                "cannot lead the connections of a process that runs already through a proxy",
                "it does not trust the proxy: start it with `agentrec run --tls proxy`",
            ));
        }
        let (session, dir) = session(&mut options)?;
        let socket = runtime::socket_path(&dir, &session);
        options.plan = target.plan();
        let source = source::Config {
            cwd: options.plan.cwd.clone(),
            env: options.plan.env.clone(),
            reserved_fd: None,
            socket: Some(socket.clone()),
            front: getpid().as_raw(),
            outputs: vec![1, 2],
        };
        Ok(Self {
            engine: Engine::Ptrace,
            engine_reason:
                "attached to a running process: without a filter, every system call stops".into(),
            options,
            session,
            socket,
            resume_file: None,
            trust: None,
            front: getpid(),
            source,
            target: Some(target),
            watch: None,
        })
    }

    /// To record whom a watch follows. The options' plan is the watch itself.
    pub(crate) fn watch(mut options: Options, watch: Watch) -> Result<Self> {
        let (session, dir) = session(&mut options)?;
        let socket = runtime::socket_path(&dir, &session);
        let source = source::Config {
            cwd: options.plan.cwd.clone(),
            env: Vec::new(),
            reserved_fd: None,
            socket: Some(socket.clone()),
            outputs: Vec::new(),
            front: 0,
        };
        Ok(Self {
            engine: Engine::Ebpf,
            engine_reason: "a watch stops nobody".into(),
            options,
            session,
            socket,
            resume_file: None,
            trust: None,
            front: getpid(),
            source,
            target: None,
            watch: Some(watch),
        })
    }

    /// Whether those who are recorded run without us, before and after.
    pub(crate) fn is_attached(&self) -> bool {
        self.target.is_some() || self.watch.is_some()
    }
}

fn refused(message: &str, hint: &str) -> Error {
    Error::Recorder { message: message.to_owned(), hint: Some(hint.to_owned()) }
}

/// The new session's id, and the directory of its socket.
fn session(options: &mut Options) -> Result<(String, PathBuf)> {
    options.home.create().map_err(|error| Error::Recorder {
        message: chain(&error),
        hint: error.hint().map(str::to_owned),
    })?;
    let session = match options.session.take() {
        Some(session) => session,
        None => new_session_id().map_err(|e| Error::io("make a session id", e))?,
    };
    let dir = runtime::create_dir(&options.home, options.runtime_dir.as_deref(), &session)?;
    Ok((session, dir))
}

/// The descriptor number for the agent's end of the socket: as high as possible, so that nothing else gets it.
fn reserved_fd() -> Result<RawFd> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)
        .map_err(|e| Error::io("read the limit of open files", e))?;
    // The kernel sizes a process's descriptor table by its highest number: 64 Ki entries cost half a megabyte.
    Ok(soft.min(65536) as RawFd - 1)
}
