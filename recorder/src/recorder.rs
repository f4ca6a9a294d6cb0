//! The recorder: the process beside the command that traces it, writes the trace, and outlives both where it must.
//!
//! Its threads: this one runs the session; one is the tracer (ptrace belongs to a thread); one listens on the local
//! socket; one watches the line to the front. All of them feed one bounded channel.

use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use agentrec_store::ProgressFn;
use nix::unistd::{Pid, setpgid};

use crate::error::{Error, Result, chain};
use crate::front;
use crate::gate::RecorderGate;
use crate::link::{FromFront, FromRecorder, Link};
use crate::mailbox::{Outbox, mailbox};
use crate::options::Progress;
use crate::ptrace::Tracer;
use crate::runtime::failure;
use crate::session::{End, Input, Session};
use crate::setup::Setup;
use crate::socket::Listener;
use crate::source::Config;

/// The recorder's end of the line.
type FrontLink = Link<FromRecorder, FromFront>;

/// Files to remove where the front goes before the command was started.
type Unfinished = Arc<Mutex<Option<Vec<PathBuf>>>>;

/// The life of the recorder process.
pub(crate) fn main(setup: Setup, link: FrontLink, gate: RecorderGate) -> ! {
    let panicked: Arc<Mutex<Option<String>>> = Arc::default();
    let seen = Arc::clone(&panicked);
    std::panic::set_hook(Box::new(move |info| {
        seen.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(info.to_string());
    }));
    let error = match catch_unwind(AssertUnwindSafe(|| record(setup, &link, gate))) {
        Ok(Ok(())) => front::exit(0),
        Ok(Err(error)) => error,
        Err(_) => {
            let message = panicked.lock().unwrap_or_else(PoisonError::into_inner).take();
            failure(format!("the recorder failed: {}", message.unwrap_or_default()))
        }
    };
    let hint = error.hint().map(str::to_owned);
    link.send(&FromRecorder::Failed { message: chain(&error), hint }).ok();
    // The tracees end with their tracer (PTRACE_O_EXITKILL).
    front::exit(125)
}

fn record(setup: Setup, link: &FrontLink, gate: RecorderGate) -> Result<()> {
    // Ctrl-C, Ctrl-Z and the hang-up of a terminal go to process groups.
    setpgid(Pid::from_raw(0), Pid::from_raw(0))
        .map_err(|e| Error::io("make a process group", e))?;
    let standard_fds = front::standard_fds();
    front::detach(&[link.as_raw_fd(), gate.as_raw_fd()])?;

    // When it is full, whoever sends waits: the tracer, and with it the tracee; or the socket, and with it the kernel's
    // buffers of its clients, who then drop and count.
    let (inputs, receiver) = mailbox();
    let listener = Listener::bind(&setup.socket)?;
    let unfinished = Arc::new(Mutex::new(Some(vec![setup.socket.clone()])));
    watch_front(link, inputs.clone(), Arc::clone(&unfinished))?;
    let config = setup.source.clone();
    let mut session = {
        // Whoever would remove the files waits until they are known.
        let mut files = unfinished.lock().unwrap_or_else(PoisonError::into_inner);
        let session = Session::open(setup, Some(show_progress(link)?))?;
        files.get_or_insert_default().extend(session.files());
        session
    };
    session.begin(standard_fds)?;
    let socket = listener.serve(inputs.clone())?;
    unfinished.lock().unwrap_or_else(PoisonError::into_inner).take();
    if link.send(&FromRecorder::Ready).is_err() {
        session.discard();
        return Ok(());
    }
    thread::Builder::new()
        .name("tracer".into())
        .spawn(move || tracer_thread(gate, &config, &inputs))
        .map_err(|e| Error::io("start the tracer", e))?;

    let end = session.run(&receiver);
    match &end {
        End::NotStarted(reason) => {
            session.discard();
            return reason.clone().map_or(Ok(()), |message| Err(failure(message)));
        }
        End::FrontGone => session.kill(&receiver),
        _ => {}
    }
    let failed = match &end {
        End::Failed(message) => Some(message.clone()),
        _ => None,
    };
    let (recording, survivors) = session.close(end, socket, &receiver);
    drop(session);
    if let Some(message) = failed {
        return Err(failure(message));
    }
    link.send(&FromRecorder::Closed(Box::new(recording))).ok();
    if let Some(survivors) = survivors {
        // Not to keep a file system busy.
        std::env::set_current_dir("/").ok();
        survivors.wait(&receiver);
    }
    Ok(())
}

/// Tells the front, up to ten times a second, how far the reading of a tree has come.
fn show_progress(link: &FrontLink) -> Result<ProgressFn> {
    const INTERVAL: Duration = Duration::from_millis(100);
    let link = link.try_clone().map_err(|e| Error::io("reach the front", e))?;
    let next = Mutex::new(Instant::now() + INTERVAL);
    Ok(ProgressFn(Arc::new(move |files, bytes| {
        let mut next = next.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now >= *next {
            *next = now + INTERVAL;
            link.send(&FromRecorder::Progress(Progress { files, bytes })).ok();
        }
    })))
}

/// Traces the command from its gate to the end of its last descendant.
fn tracer_thread(gate: RecorderGate, config: &Config, inputs: &Outbox<Input>) {
    // A closed channel means that the session is gone, and with it who could be told.
    let tell = |input| inputs.send(input).unwrap_or_default();
    let traced = catch_unwind(AssertUnwindSafe(|| {
        let Some(pid) = gate.wait() else { return tell(Input::NotStarted(None)) };
        let (tracer, control) = match Tracer::seize(pid.as_raw(), config, inputs.clone()) {
            Ok(traced) => traced,
            Err(error) => return tell(Input::NotStarted(Some(chain(&error)))),
        };
        tell(Input::Traced { pid, control });
        gate.open();
        if let Err(error) = tracer.run() {
            tell(Input::SourceFailed(chain(&error)));
        }
    }));
    if traced.is_err() {
        tell(Input::SourceFailed("the tracer panicked".into()));
    }
}

/// Hands the front's messages to the session, and tells when it is gone.
fn watch_front(link: &FrontLink, inputs: Outbox<Input>, unfinished: Unfinished) -> Result<()> {
    let failed = |e| Error::io("watch the front", e);
    let mut link = link.try_clone().map_err(failed)?;
    let watch = move || {
        while let Some(messages) = link.receive() {
            for FromFront::Close in messages {
                inputs.send(Input::CloseNow).ok();
            }
        }
        if let Some(files) = &*unfinished.lock().unwrap_or_else(PoisonError::into_inner) {
            // The session may be reading a large tree for a run that will never be.
            for file in files {
                std::fs::remove_file(file).ok();
            }
            front::exit(125);
        }
        inputs.send(Input::FrontGone).ok();
    };
    thread::Builder::new().name("front".into()).spawn(watch).map(drop).map_err(failed)
}
