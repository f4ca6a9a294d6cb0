//! The recorder: the process beside the command that traces it, writes the trace, and outlives both where it must.
//!
//! Its threads: this one runs the session; one is the tracer (ptrace belongs to a thread); one listens on the local
//! socket; one watches the line to the front. All of them feed one bounded channel.

use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use agentrec_store::ProgressFn;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Pid, setpgid};

use crate::ebpf::{self, Watcher};
use crate::error::{Error, Result, chain};
use crate::front;
use crate::gate::RecorderGate;
use crate::keep::Keeper;
use crate::link::{FromFront, FromRecorder, Link};
use crate::mailbox::{Outbox, mailbox};
use crate::options::{Attached, Engine, Progress, Tls};
use crate::privileges;
use crate::proxy::{self, Bundle, Proxy, Trust};
use crate::ptrace::{self, Tracer};
use crate::runtime::failure;
use crate::session::{Announcement, End, Input, Session};
use crate::setup::Setup;
use crate::socket::Listener;
use crate::source::{Config, Control};
use crate::target::Target;
use crate::watch::Subject;

/// The recorder's end of the line.
type FrontLink = Link<FromRecorder, FromFront>;

/// Files to remove where the front goes before the command was started.
type Unfinished = Arc<Mutex<Option<Vec<PathBuf>>>>;

/// How the recorder gets what it traces.
pub(crate) enum Begin {
    /// The front starts it, once we are ready.
    Command(RecorderGate),
    /// It runs: the setup's target.
    Attach,
    /// The setup's watch looks for it.
    Watch,
}

/// The life of the recorder process.
pub(crate) fn main(setup: Setup, link: FrontLink, begin: Begin) -> ! {
    let panicked: Arc<Mutex<Option<String>>> = Arc::default();
    let seen = Arc::clone(&panicked);
    std::panic::set_hook(Box::new(move |info| {
        seen.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(info.to_string());
    }));
    let error = match catch_unwind(AssertUnwindSafe(|| record(setup, &link, begin))) {
        Ok(Ok(())) => front::exit(0),
        Ok(Err(error)) => error,
        Err(_) => {
            let message = panicked.lock().unwrap_or_else(PoisonError::into_inner).take();
            failure(format!("the recorder failed: {}", message.unwrap_or_default()))
        }
    };
    let hint = error.hint().map(str::to_owned);
    link.send(&FromRecorder::Failed { message: chain(&error), hint }).ok();
    // The tracees end with their tracer (PTRACE_O_EXITKILL), unless it only attached to them.
    front::exit(125)
}

fn record(mut setup: Setup, link: &FrontLink, begin: Begin) -> Result<()> {
    // Ctrl-C, Ctrl-Z and the hang-up of a terminal go to process groups.
    setpgid(Pid::from_raw(0), Pid::from_raw(0))
        .map_err(|e| Error::io("make a process group", e))?;
    let (standard_fds, gate) = match &begin {
        Begin::Command(gate) => (front::standard_fds(), Some(gate.as_raw_fd())),
        Begin::Attach | Begin::Watch => {
            (setup.target.iter().flat_map(Target::standard_fds).collect(), None)
        }
    };
    let mut keep = vec![link.as_raw_fd()];
    keep.extend(gate);
    front::detach(&keep)?;

    // When it is full, whoever sends waits: the tracer, and with it the tracee; or the socket, and with it the kernel's
    // buffers of its clients, who then drop and count.
    let (inputs, receiver) = mailbox();
    let mut watcher = choose_engine(&mut setup, link, &inputs)?;
    let engine = setup.engine;
    let listener = Listener::bind(&setup.socket)?;
    let (proxy, bundle) = start_proxy(&setup, &inputs)?.unzip();
    if let (Some((watcher, _)), Some(proxy)) = (&mut watcher, &proxy) {
        let failed = |error| failure(format!("cannot lead connections: {}", chain(&error)));
        watcher.divert_to(Arc::clone(proxy)).map_err(failed)?;
    }
    let own_files = [Some(setup.socket.as_path()), setup.trust.as_ref().map(Trust::bundle)];
    let own_files = own_files.into_iter().flatten().map(Path::to_owned).collect();
    let unfinished = Arc::new(Mutex::new(Some(own_files)));
    let asked = watcher.as_ref().map(|(_, control)| control.clone());
    watch_front(link, inputs.clone(), Arc::clone(&unfinished), asked)?;
    let config = setup.source.clone();
    let target = setup.target.as_ref().map(|target| target.pid);
    let (watch, front, tls) = (setup.watch.clone(), setup.front, setup.options.tls);
    let is_attached = setup.is_attached();
    let mut session = {
        // Whoever would remove the files waits until they are known.
        let mut files = unfinished.lock().unwrap_or_else(PoisonError::into_inner);
        let session = Session::open(setup, Some(show_progress(link)?))?;
        files.get_or_insert_default().extend(session.files());
        session
    };
    session.proxy.clone_from(&proxy);
    let keeper = session.keeping().map(Keeper::new);
    session.begin(standard_fds)?;
    let socket = listener.serve(inputs.clone())?;
    unfinished.lock().unwrap_or_else(PoisonError::into_inner).take();
    if link.send(&FromRecorder::Ready(engine)).is_err() {
        session.discard();
        return Ok(());
    }
    let failed = |e| Error::io("start the tracer", e);
    let tracer = thread::Builder::new().name("tracer".into());
    let tracer = match (begin, target) {
        (Begin::Command(gate), _) => tracer.spawn(move || {
            tracer_thread(&inputs, || match watcher {
                Some(watcher) => watch_command(gate, &config, watcher, keeper, &inputs),
                None => trace_command(gate, &config, (tls, proxy), keeper, &inputs),
            })
        }),
        (Begin::Watch, _) => {
            let link = link.try_clone().map_err(failed)?;
            let spared = [std::process::id(), front.as_raw() as u32];
            let (watch, watcher) = watch.zip(watcher).expect("set up to watch, by BPF programs");
            tracer.spawn(move || {
                tracer_thread(&inputs, || {
                    watch_many(&watch.subject, spared, link, &config, watcher, &inputs)
                })
            })
        }
        (Begin::Attach, target) => {
            let (pid, link) =
                (target.expect("set up to attach"), link.try_clone().map_err(failed)?);
            tracer.spawn(move || {
                tracer_thread(&inputs, || match watcher {
                    Some(watcher) => watch_running(pid, link, &config, watcher, keeper, &inputs),
                    None => trace_running(pid, link, &config, keeper, &inputs),
                })
            })
        }
    }
    .map_err(failed)?;

    let end = session.run(&receiver);
    match &end {
        End::NotStarted(reason) => {
            session.discard();
            return reason.clone().map_or(Ok(()), |message| Err(failure(message)));
        }
        End::FrontGone if !is_attached => session.kill(&receiver),
        _ => {}
    }
    let failed = match &end {
        End::Failed(message) => Some(message.clone()),
        _ => None,
    };
    let (recording, survivors) = session.close(end, socket, &receiver);
    let status = session.status();
    drop(session);
    if let Some(message) = failed {
        return Err(failure(message));
    }
    // Gone when the front says that all is over; who goes on needs it.
    let _bundle = bundle.filter(|_| survivors.is_some());
    link.send(&FromRecorder::Closed(Box::new(recording), status)).ok();
    if let Some(survivors) = survivors {
        // Not to keep a file system busy.
        std::env::set_current_dir("/").ok();
        survivors.wait(&receiver);
    }
    if engine == Engine::Ebpf {
        drop(receiver);
        // It lets go of functions before tracepoints; the end of this process would do so last, and breakpoints can't stand where the
        // kernel's are.
        tracer.join().ok();
    }
    Ok(())
}

/// Settles how the command is watched: as was asked for, or by BPF programs where they load.
fn choose_engine(
    setup: &mut Setup,
    link: &FrontLink,
    inputs: &Outbox<Input>,
) -> Result<Option<(Watcher<Input>, Control)>> {
    let wanted = setup.options.engine;
    let attached = setup.target.is_some();
    let dropped = |e| Error::io("give up privileges", e);
    let possible = wanted == Some(Engine::Ebpf)
        || wanted.is_none()
            && (if attached { privileges::may_attach() } else { privileges::may_load() });
    if wanted == Some(Engine::Ptrace) || !possible {
        if wanted.is_some() && !attached {
            setup.engine_reason = ASKED.into();
        }
        privileges::drop_all().map_err(dropped)?;
        return Ok(None);
    }
    let load = || {
        // Asked first, since programs that are attached take seconds to go.
        let groups = setup.trust.as_ref().map(|_| ebpf::control_groups()).transpose()?;
        Watcher::new(&setup.source, groups.as_deref(), inputs.clone())
    };
    match privileges::with_rights(load) {
        Ok(mut watcher) => {
            if setup.options.tls == Tls::Off {
                watcher.0.ignore_tls();
            }
            watcher.0.remember_tls(&setup.options.home.cache());
            setup.engine = Engine::Ebpf;
            if setup.watch.is_none() {
                setup.engine_reason =
                    if wanted.is_some() { ASKED } else { "its programs load" }.into();
            }
            privileges::keep_while_recording().map_err(dropped)?;
            Ok(Some(watcher))
        }
        Err(error) if wanted.is_none() => {
            setup.engine_reason = format!("the BPF programs don't load: {}", chain(&error));
            link.send(&FromRecorder::FellBack(chain(&error))).ok();
            privileges::drop_all().map_err(dropped)?;
            Ok(None)
        }
        Err(error) => {
            let hint = match error {
                ebpf::Error::NoControlGroups => {
                    "leave out --engine ebpf: with ptrace, --tls proxy needs none; or mount them: mount -t cgroup2 none DIRECTORY"
                }
                _ => "run as root, or after `sudo agentrec setup`; ptrace needs neither",
            };
            Err(Error::Recorder { message: chain(&error), hint: Some(hint.into()) })
        }
    }
}

/// Why an engine was taken.
const ASKED: &str = "it was asked for";

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

/// The life of the tracer's thread; `trace` gives back what it has to say at its end.
fn tracer_thread(inputs: &Outbox<Input>, trace: impl FnOnce() -> Option<Input>) {
    let end = catch_unwind(AssertUnwindSafe(trace));
    let panicked = |_| Some(Input::SourceFailed("the tracer panicked".into()));
    if let Some(input) = end.unwrap_or_else(panicked) {
        // A closed channel means that the session is gone, and with it who could be told.
        inputs.send(input).unwrap_or_default();
    }
}

/// Starts the proxy, where there is to be one.
fn start_proxy(setup: &Setup, inputs: &Outbox<Input>) -> Result<Option<(Arc<Proxy>, Bundle)>> {
    let Some(trust) = &setup.trust else { return Ok(None) };
    // Each connection takes two descriptors, and some a third.
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap_or_default();
    }
    let inputs = inputs.clone();
    // A closed channel means that the session is gone; the connections are not.
    let report = move |report| inputs.send(report).unwrap_or_default();
    let failed = |error: proxy::Error| Error::Recorder {
        message: format!("cannot start the proxy for TLS: {}", chain(&error)),
        hint: error.hint().map(str::to_owned),
    };
    let (proxy, bundle) = Proxy::start(trust, report).map_err(failed)?;
    Ok(Some((Arc::new(proxy), bundle)))
}

/// Traces the command from its gate to the end of its last descendant.
fn trace_command(
    gate: RecorderGate,
    config: &Config,
    (tls, proxy): (Tls, Option<Arc<Proxy>>),
    keeper: Option<Keeper>,
    inputs: &Outbox<Input>,
) -> Option<Input> {
    let Some(pid) = gate.wait() else { return Some(Input::NotStarted(None)) };
    let (mut tracer, control) = match Tracer::seize(pid.as_raw(), config, inputs.clone()) {
        Ok(traced) => traced,
        Err(error) => return Some(Input::NotStarted(Some(chain(&error)))),
    };
    tracer.keep(keeper);
    match (tls, proxy) {
        (_, Some(proxy)) => tracer.divert_to(proxy),
        (Tls::Off, None) => tracer.ignore_tls(),
        _ => {}
    }
    inputs.send(Input::Traced { pid, control, attached: None }).unwrap_or_default();
    gate.open();
    tracer.run().err().map(|error| Input::SourceFailed(chain(&error)))
}

/// The same without stopping anybody.
fn watch_command(
    gate: RecorderGate,
    config: &Config,
    (mut watcher, control): (Watcher<Input>, Control),
    keeper: Option<Keeper>,
    inputs: &Outbox<Input>,
) -> Option<Input> {
    let Some(pid) = gate.wait() else { return Some(Input::NotStarted(None)) };
    watcher.keep(keeper);
    if let Err(error) = watcher.follow(pid.as_raw(), config) {
        return Some(Input::NotStarted(Some(chain(&error))));
    }
    inputs.send(Input::Traced { pid, control, attached: None }).unwrap_or_default();
    gate.open();
    watcher.run().err().map(|error| Input::SourceFailed(chain(&error)))
}

/// Traces what runs already until it has ended or was let go.
fn trace_running(
    pid: i32,
    link: FrontLink,
    config: &Config,
    keeper: Option<Keeper>,
    inputs: &Outbox<Input>,
) -> Option<Input> {
    let (mut tracer, control, found) = match Tracer::attach(pid, config, inputs.clone()) {
        Ok(traced) => traced,
        Err(error) => {
            // It may have changed since it was looked at; what it is now says more than an error number.
            let now = Target::of(pid).and_then(|target| target.refuse_traced());
            let reason = now.err().map_or_else(|| chain(&error), |why| chain(&why));
            return Some(Input::NotStarted(Some(reason)));
        }
    };
    tracer.keep(keeper);
    let ptrace::Found { processes, threads } = found;
    let attached =
        Some(announcement(link, Attached { engine: Engine::Ptrace, processes, threads }));
    let traced = Input::Traced { pid: Pid::from_raw(pid), control, attached };
    inputs.send(traced).unwrap_or_default();
    tracer.run().err().map(|error| Input::SourceFailed(chain(&error)))
}

/// The same without stopping anybody.
fn watch_running(
    pid: i32,
    link: FrontLink,
    config: &Config,
    (mut watcher, control): (Watcher<Input>, Control),
    keeper: Option<Keeper>,
    inputs: &Outbox<Input>,
) -> Option<Input> {
    watcher.keep(keeper);
    let ebpf::Found { processes, threads } = match watcher.attach(pid, config) {
        Ok(found) => found,
        Err(error) => return Some(Input::NotStarted(Some(chain(&error)))),
    };
    let attached = Some(announcement(link, Attached { engine: Engine::Ebpf, processes, threads }));
    let traced = Input::Traced { pid: Pid::from_raw(pid), control, attached };
    inputs.send(traced).unwrap_or_default();
    watcher.run().err().map(|error| Input::SourceFailed(chain(&error)))
}

/// Watches whom somebody looks for, until nobody wants to know any more.
fn watch_many(
    subject: &Subject,
    spared: [u32; 2],
    link: FrontLink,
    config: &Config,
    (mut watcher, control): (Watcher<Input>, Control),
    inputs: &Outbox<Input>,
) -> Option<Input> {
    let ebpf::Found { processes, threads } = match watcher.look_for(subject, spared, config) {
        Ok(found) => found,
        Err(error) => return Some(Input::NotStarted(Some(chain(&error)))),
    };
    let attached = Some(announcement(link, Attached { engine: Engine::Ebpf, processes, threads }));
    let traced = Input::Traced { pid: Pid::from_raw(0), control, attached };
    inputs.send(traced).unwrap_or_default();
    watcher.run().err().map(|error| Input::SourceFailed(chain(&error)))
}

/// Tells the front that all of it is seen.
fn announcement(link: FrontLink, found: Attached) -> Announcement {
    Box::new(move || {
        link.send(&FromRecorder::Attached(found)).ok();
    })
}

/// Hands the front's messages to the session, and tells when it is gone. What it asks about signals `source` knows.
fn watch_front(
    link: &FrontLink,
    inputs: Outbox<Input>,
    unfinished: Unfinished,
    source: Option<Control>,
) -> Result<()> {
    let failed = |e| Error::io("watch the front", e);
    let mut link = link.try_clone().map_err(failed)?;
    let watch = move || {
        while let Some(messages) = link.receive() {
            for message in messages {
                match message {
                    FromFront::Close => inputs.send(Input::CloseNow).unwrap_or_default(),
                    FromFront::Signalled(signal) => {
                        let sent = source.as_ref().is_some_and(|source| source.was_sent(signal));
                        link.send(&FromRecorder::WasSent(sent)).ok();
                    }
                }
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
