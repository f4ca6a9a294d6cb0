//! What a trace says, by process, file, connection and tool call: the one analysis that `show`, `ps`, `why` and `info` print.
//!
//! Pure: events go in one by one, in the order of the trace; nothing here reads a file or prints. Traces are hostile
//! input: processes that nobody forked, closes of what was never opened and cycles of parents are all survived.

mod agent;
mod attribution;
mod changes;
mod effects;
mod files;
mod graph;
mod history;
mod naming;
mod network;
mod old;
mod paths;
mod processes;
mod rows;
mod traffic;
mod turns;

#[cfg(test)]
pub mod testing;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use agentrec_trace::event::{Lost, SessionStart, SessionStop};
use agentrec_trace::{Data, Event, ProcId, Seq, Source};

pub use agent::{Call, Message, Snapshot};
pub use attribution::Attribution;
pub use changes::{Change, Net, existed_before};
pub use effects::{Contact, Effects, Read, is_pseudo};
pub use files::{Action, ActionKind, Files};
pub use graph::{Edge, Graph, How, Node};
pub use history::{Step, history};
pub use naming::Naming;
pub use network::{Connection, Peer};
pub use old::OldContents;
pub use paths::suffix_below;
pub use processes::{Exit, Process, Processes};
pub use rows::{Row, RowKind};
pub use traffic::Traffic;
pub use turns::{Turn, Turns};

use agent::Agent;
use attribution::Edges;

/// A trace, analysed.
#[derive(Debug, Default)]
pub struct Digest {
    /// The first event.
    pub start: Option<SessionStart<'static>>,
    /// The last event of a trace that was completed.
    pub stop: Option<SessionStop<'static>>,
    /// CLOCK_BOOTTIME of the first event, nanoseconds.
    pub first_ts: u64,
    /// CLOCK_BOOTTIME of the last event, nanoseconds.
    pub last_ts: u64,
    /// Events seen.
    pub events: u64,
    /// The process tree.
    pub processes: Processes,
    /// What was done to files.
    pub files: Files,
    /// Connections in the order in which they were made.
    pub connections: Vec<Connection>,
    /// Tool calls in order.
    pub calls: Vec<Call>,
    /// Messages in order.
    pub messages: Vec<Message>,
    /// Turns of the conversations.
    pub turns: Turns,
    /// HTTP requests and what could not be read, by connection.
    pub traffic: Traffic,
    /// Snapshots in order.
    pub snapshots: Vec<Snapshot>,
    /// What is not in the trace, with where and why.
    pub lost: Vec<Loss>,
    /// Argument lists that were cut.
    pub cut_arguments: u64,
    edges: Edges,
    /// HTTP requests that a process of the session received.
    received: HashMap<Seq, Option<ProcId>>,
}

/// Something that is not in the trace.
#[derive(Debug)]
pub struct Loss {
    /// The event that says so.
    pub seq: Seq,
    /// CLOCK_BOOTTIME, nanoseconds.
    pub ts: u64,
    /// The process that was hit, where it was one.
    pub proc: Option<ProcId>,
    /// Where and why.
    pub lost: Lost<'static>,
}

impl Digest {
    /// Takes the next event of the trace.
    pub fn add(&mut self, event: &Event<'_>) {
        if self.events == 0 {
            self.first_ts = event.ts;
        }
        self.last_ts = self.last_ts.max(event.ts);
        self.events += 1;
        self.edges.add(event);
        self.processes.add(event);
        self.files.add(event);
        self.turns.add(event);
        self.traffic.add(event);
        network::add(&mut self.connections, event);
        Agent {
            calls: &mut self.calls,
            messages: &mut self.messages,
            snapshots: &mut self.snapshots,
            received: &mut self.received,
        }
        .add(event);
        match &event.data {
            Data::SessionStart(start) if self.start.is_none() => {
                self.start = Some(owned(start));
            }
            Data::SessionStop(stop) => self.stop = Some(owned(stop)),
            Data::Lost(lost) => self.lost.push(Loss {
                seq: event.seq,
                ts: event.ts,
                proc: event.proc,
                lost: owned(lost),
            }),
            Data::ProcessExec(exec) if exec.argv_len.is_some() => self.cut_arguments += 1,
            _ => {}
        }
    }

    /// Nanoseconds from the start of the session to `ts`.
    pub fn since_start(&self, ts: u64) -> u64 {
        ts.saturating_sub(self.first_ts)
    }

    /// Wall clock at `ts`, nanoseconds since 1970.
    pub fn wall(&self, ts: u64) -> i64 {
        let start = self.start.as_ref().map_or(0, |start| start.wall);
        start.saturating_add_unsigned(self.since_start(ts))
    }

    /// Working directory of the session as the agent sees it.
    pub fn cwd(&self) -> &[u8] {
        self.start.as_ref().map_or(b"/".as_slice(), |start| start.cwd.as_slice())
    }

    /// The roots of the snapshots without those that hold an agent's state, or, where there is none, the working directory.
    pub fn roots(&self) -> Vec<Vec<u8>> {
        let first = self.snapshots.first().map(|first| first.roots.iter());
        let given = first.into_iter().flatten().filter(|root| root.agent.is_none());
        let roots: Vec<_> = given.map(|root| root.path.to_vec()).collect();
        if roots.is_empty() { vec![self.cwd().to_vec()] } else { roots }
    }

    /// The directories in snapshots that hold an agent's state, with the agent.
    pub fn state_roots(&self) -> BTreeMap<PathBuf, String> {
        let roots = self.snapshots.iter().flat_map(|snapshot| &snapshot.roots);
        let of_agents = roots.filter_map(|root| Some((root, root.agent.as_deref()?)));
        of_agents.map(|(root, agent)| (root.path.as_path().to_owned(), agent.to_owned())).collect()
    }

    /// Whether `path` lies in a root of the snapshots, or, where there is none, below the working directory.
    pub fn in_tree(&self, path: &[u8]) -> bool {
        let first = self.snapshots.first().map(|first| first.roots.iter());
        let mut given = first.into_iter().flatten().filter(|root| root.agent.is_none()).peekable();
        match given.peek() {
            Some(_) => given.any(|root| paths::is_below(path, &root.path)),
            None => paths::is_below(path, self.cwd()),
        }
    }

    /// Turns, messages and tool calls that are known from an agent's transcript alone.
    pub fn in_transcripts(&self) -> [u64; 3] {
        let is_one = |source: &Source| *source == Source::Transcript;
        [
            self.turns.iter().filter(|turn| is_one(&turn.source)).count() as u64,
            self.messages.iter().filter(|message| is_one(&message.source)).count() as u64,
            self.calls.iter().filter(|call| is_one(&call.source)).count() as u64,
        ]
    }

    /// Events that the trace says were lost, and places where an unknown number was.
    pub fn lost_total(&self) -> u64 {
        self.lost.iter().map(|loss| loss.lost.count.unwrap_or(1)).sum()
    }
}

/// Fields detached from the frame that they were decoded from.
fn owned<'a, T, U>(fields: &T) -> U
where
    T: Clone + Into<Data<'a>>,
    U: TryFromData,
{
    U::from_data(fields.clone().into().into_owned())
}

/// The way back from `Data` to the fields of one type.
trait TryFromData {
    fn from_data(data: Data<'static>) -> Self;
}

macro_rules! try_from_data {
    ($($variant:ident),*) => { $(impl TryFromData for agentrec_trace::event::$variant<'static> {
        fn from_data(data: Data<'static>) -> Self {
            match data {
                Data::$variant(fields) => fields,
                _ => Self::default(),
            }
        }
    })* };
}

try_from_data!(SessionStart, SessionStop, Lost, SnapshotCreated);
