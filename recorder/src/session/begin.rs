//! A session's first steps: the trace, `session.start`, the first snapshot, the entry in the catalogue.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use agentrec_store::{Catalogue, Later, ProgressFn, State as SessionState, Store};
use agentrec_trace::event::{Lineage, SessionStart, StandardFd, Watch};
use agentrec_trace::{Bytes, Event, ProcId, Source, TraceFile};
use nix::sys::statvfs::statvfs;
use nix::unistd::geteuid;

use super::conversation::Conversation;
use super::holding::Held;
use super::host::{self, Git};
use super::http::{Http, Talk};
use super::kept::Kepts;
use super::mcp::Servers;
use super::outside::Outside;
use super::processes::Processes;
use super::requests::EarlyLines;
use super::rotation::{Parts, path_of_part};
use super::snapshot::{Captured, Snapshots, Wanted};
use super::terminal::Terminal;
use super::tools::Tools;
use super::transcripts::Transcripts;
use super::writing::Output;
use super::{Command, Session, Started, boottime, redaction, wall_clock};
use crate::error::{Error, Result, chain};
use crate::options::Engine;
use crate::redact::{Redactor, load_or_create_key};
use crate::runtime::{failure, recorder_error};
use crate::setup::{OUR_VARIABLES, Setup};
use crate::socket::State;

impl Session {
    /// Opens everything that a recording needs; nothing is written yet.
    ///
    /// # Errors
    /// Where the trace, the key or the store can't be had.
    pub(crate) fn open(setup: Setup, progress: Option<ProgressFn>) -> Result<Self> {
        let options = &setup.options;
        let key = load_or_create_key(&options.home.redaction_key()).map_err(recorder_error)?;
        let redactor = Redactor::new(key);
        let talk = Talk::new(&options.home.prices())?;
        let store = Arc::new(Store::open(&options.home).map_err(recorder_error)?);
        let later = Arc::new(Later::new(Arc::clone(&store)).map_err(recorder_error)?);
        let rotates = setup.watch.as_ref().is_some_and(|watch| watch.rotation.is_some());
        let trace_path = path_of_part(&setup, u32::from(rotates))?;
        let file = TraceFile::create(&trace_path, options.overwrite).map_err(|error| {
            let hint = matches!(error, agentrec_trace::Error::Exists(_))
                .then(|| "choose another name, or replace it with --overwrite".to_owned());
            Error::Recorder { message: chain(&error), hint }
        })?;
        let trace_path = trace_path.canonicalize().unwrap_or(trace_path);
        let output = Output::new(file).map_err(recorder_error)?;
        let snapshots = Snapshots::new(&setup, &trace_path, progress);
        let parts = Parts::new(&setup, &trace_path);
        let conversation = options.resume_state.as_ref().map(Conversation::resumed);
        Ok(Self {
            command: Command::of(&setup, &redactor),
            trace_path,
            redactor,
            store,
            later,
            output,
            processes: Processes::default(),
            terminal: Terminal::default(),
            outside: Outside::new(snapshots.roots.given()),
            conversation: conversation.unwrap_or_default(),
            http: Http::default(),
            talk,
            tools: Tools::default(),
            servers: Servers::default(),
            transcripts: Transcripts::new(&setup),
            calls: HashMap::new(),
            snapshots,
            kepts: Kepts::default(),
            held: Held::default(),
            first: None,
            parts,
            changed: Vec::new(),
            control: None,
            proxy: None,
            attached: None,
            started: Started { boottime: boottime(), wall: wall_clock(), command: false },
            status: None,
            tree_ended: false,
            socket_done: false,
            end: None,
            early: EarlyLines::default(),
            next_fence: 0,
            fence: 0,
            setup,
        })
    }

    /// What has to go where the command is never started.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.setup.resume_file.iter().cloned().chain([self.trace_path.clone()]).collect()
    }

    /// Writes `session.start` and takes the first snapshot, before the command exists. Where it runs already, the files are
    /// only made known to the store: the first snapshot is taken, quickly then, once all that changes them is seen.
    ///
    /// Where the command waits for whoever records it, and there is room, what was read (and is in the store) goes into the trace
    /// while the command starts: see [`Session::run`].
    ///
    /// # Errors
    /// Where the resume state can't be left for the command.
    pub(crate) fn begin(&mut self, fds: Vec<StandardFd<'static>>) -> Result<()> {
        self.leave_resume_state()?;
        // git looks at the work tree while we read it.
        let real_cwd = self.setup.options.plan.path_map().real(&self.command.cwd_path).into_owned();
        let watches = self.setup.watch.is_some();
        let mut git = if watches { Git::default() } else { Git::of(&real_cwd) };
        if !self.setup.is_attached() {
            self.snapshots.changes.inherit(self.setup.front);
        }
        let captured = self.capture_roots();
        let start = self.session_start(&mut git, fds);
        let ts = self.started.boottime;
        self.write(Event::new(ts, Source::Recorder, start));
        if !self.setup.is_attached() && self.takes_snapshots() {
            let first = self.first_snapshot();
            let waits = self.setup.engine == Engine::Ptrace && self.has_room_for(&captured);
            self.first = Some((Wanted { asked: ts, ..first }, captured));
            if !waits {
                self.write_first_snapshot();
            }
        }
        let flushed = self.output.writer().map_or(Ok(()), agentrec_trace::Writer::flush);
        self.check(flushed);
        match self.output.failure.take() {
            // Nothing has been started: the user can still choose another place.
            Some(message) => {
                self.discard();
                Err(failure(message))
            }
            None => {
                self.catalogue(&self.catalogue_entry());
                Ok(())
            }
        }
    }

    /// Whether the trace's disk has room for all of that, without a doubt.
    fn has_room_for(&self, captured: &[Captured]) -> bool {
        const REST: u64 = 16 << 20;
        let bytes: u64 = captured.iter().flatten().map(|capture| capture.bytes).sum();
        let free = statvfs(&self.trace_path)
            .map_or(0, |disk| disk.blocks_available() * disk.fragment_size());
        free > 2 * bytes + REST
    }

    /// Puts the first snapshot into the trace, where it was taken before.
    pub(super) fn write_first_snapshot(&mut self) {
        if let Some((first, captured)) = self.first.take() {
            // What is not in it is told by a loss; where nothing can be written, that is known.
            self.write_snapshot(first, captured, Vec::new()).ok();
        }
    }

    fn first_snapshot(&mut self) -> Wanted {
        Wanted {
            description: "start".into(),
            trigger: "start",
            state: self.conversation.update(State::default()),
            proc: None,
            cause: None,
            reply: None,
            asked: boottime(),
        }
    }

    /// Whether there are any. A watch has no tree.
    pub(super) fn takes_snapshots(&self) -> bool {
        self.setup.watch.is_none() && self.setup.options.snapshots
    }

    /// An agent has been started whose state is in no root yet.
    pub(super) fn want_agent_snapshot(&mut self, agent: String, proc: Option<ProcId>) {
        let first = self.first_snapshot();
        let (description, trigger) = (agent, "agent");
        self.snapshots.want(Wanted { description, trigger, proc, ..first });
    }

    pub(super) fn want_first_snapshot(&mut self) {
        let first = self.first_snapshot();
        self.snapshots.want(first);
    }

    pub(super) fn session_start(
        &self,
        git: &mut Git,
        fds: Vec<StandardFd<'static>>,
    ) -> SessionStart<'static> {
        let options = &self.setup.options;
        let (host, kernel, arch) = host::uname();
        let owned = |text: &str| Cow::Owned(text.to_owned());
        SessionStart {
            session: owned(&self.setup.session),
            name: options.name.as_deref().map(owned),
            argv: self.command.argv.clone(),
            cwd: self.command.cwd.clone(),
            env: self.command.env.clone(),
            fds,
            host: host.into(),
            kernel: kernel.into(),
            arch: arch.into(),
            engine: self.setup.engine.name().into(),
            engine_reason: self.setup.engine_reason.clone().into(),
            version: env!("CARGO_PKG_VERSION").into(),
            uid: self.setup.target.as_ref().map_or_else(|| geteuid().as_raw(), |target| target.uid),
            keeps: if self.setup.watch.is_some() { 0 } else { options.keep_max },
            git_dirty: git.dirty(),
            git_head: git.head.take().map(Cow::Owned),
            git_branch: git.branch.take().map(Cow::Owned),
            watch: self.setup.watch.as_ref().map(|watch| Watch {
                kind: watch.subject.kind().into(),
                value: watch.subject.value().into(),
                part: self.parts.number(),
                first: self.parts.first().map(owned),
            }),
            parent: options.lineage.as_ref().map(|lineage| Lineage {
                session: owned(&lineage.session),
                at: owned(&lineage.at),
                edits: lineage.edits.iter().map(|edit| owned(edit)).collect(),
            }),
            wall: self.started.wall,
            utc_offset: host::utc_offset(),
        }
    }

    fn leave_resume_state(&self) -> Result<()> {
        let (Some(path), Some(state)) = (&self.setup.resume_file, &self.setup.options.resume_state)
        else {
            return Ok(());
        };
        let open = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        open.and_then(|mut file| std::io::Write::write_all(&mut file, state.to_string().as_bytes()))
            .map_err(|e| Error::io(format!("write {}", path.display()), e))
    }

    /// The session for the catalogue, as far as it is known.
    pub(super) fn catalogue_entry(&self) -> agentrec_store::Session {
        let options = &self.setup.options;
        agentrec_store::Session {
            id: self.setup.session.clone(),
            name: options.name.clone(),
            trace: self.trace_path.clone(),
            cwd: self.command.cwd_path.clone(),
            argv: self.command.argv.iter().map(|arg| arg.to_vec()).collect(),
            started: self.started.wall,
            state: SessionState::Recording,
            parent: options.lineage.as_ref().map(|lineage| lineage.session.clone()),
            parent_at: options.lineage.as_ref().map(|lineage| lineage.at.clone()),
            socket: Some(self.setup.socket.clone()),
            recorder_pid: Some(std::process::id()),
            ..agentrec_store::Session::default()
        }
    }

    /// Lists the session. The catalogue can be made again from the traces, so its loss is not the run's.
    pub(super) fn catalogue(&self, entry: &agentrec_store::Session) {
        let result = Catalogue::open(&self.setup.options.home).and_then(|c| c.put(entry));
        if let Err(error) = result {
            tracing::warn!(%error, "the session is not in the catalogue");
        }
    }

    /// Removes what a session that never ran has made.
    pub(crate) fn discard(&self) {
        for file in self.files() {
            std::fs::remove_file(file).ok();
        }
        let catalogue = Catalogue::open(&self.setup.options.home);
        if let Err(error) = catalogue.and_then(|c| c.forget(&self.setup.session)) {
            tracing::warn!(%error, "a session that never ran is in the catalogue");
        }
    }
}

impl Command {
    /// The plan's command, redacted, without the variables of this recording.
    fn of(setup: &Setup, redactor: &Redactor) -> Self {
        let plan = &setup.options.plan;
        let argv: Vec<Bytes<'_>> = plan.argv.iter().map(|arg| arg.as_os_str().into()).collect();
        let own = |name: &OsString| OUR_VARIABLES.iter().any(|ours| name == ours);
        let env = plan.env.iter().filter(|(name, _)| !own(name));
        let env = env.map(|(name, value)| (&**name, &**value));
        let env: Vec<(&OsStr, &OsStr)> = match &setup.trust {
            Some(trust) => trust.without_us(env).collect(),
            None => env.collect(),
        };
        let env = env.into_iter().map(|(name, value)| {
            let value = redaction::env_value(redactor, name.as_bytes(), value.as_bytes());
            (Bytes::from(name.as_bytes()).into_owned(), value)
        });
        Self {
            argv: redaction::argv(redactor, &argv),
            env: env.collect(),
            cwd: Bytes::from(plan.cwd.as_path()).into_owned(),
            cwd_path: plan.cwd.clone(),
        }
    }
}
