//! Names for the numbers in an event, learned as events pass by: a process's program, the path behind a close.

use std::collections::HashMap;

use agentrec_trace::{Data, Event, ProcId, Seq};

use super::network::Peer;

/// What was learned so far.
#[derive(Debug, Default)]
pub struct Naming {
    programs: HashMap<ProcId, Vec<u8>>,
    opened: HashMap<Seq, Vec<u8>>,
    peers: HashMap<Seq, Peer>,
}

impl Naming {
    /// Learns from the next event.
    pub fn add(&mut self, event: &Event<'_>) {
        match &event.data {
            Data::ProcessFork(fork) => {
                if let Some(program) = event.proc.and_then(|parent| self.programs.get(&parent)) {
                    self.programs.insert(fork.child, program.clone());
                }
            }
            Data::ProcessExec(exec) if exec.errno.is_none() => {
                if let Some(proc) = event.proc {
                    let program =
                        exec.argv.first().map_or(exec.path.as_slice(), |arg| arg.as_slice());
                    let name = program.rsplit(|&b| b == b'/').next().unwrap_or(program);
                    self.programs.insert(proc, name.to_vec());
                }
            }
            Data::FileOpen(open) if open.errno.is_none() => {
                self.opened.insert(event.seq, open.path.to_vec());
            }
            Data::NetConnect(connect) => {
                self.peers.insert(event.seq, Peer::from(&connect.peer));
            }
            Data::NetListen(listen) => {
                self.peers.insert(event.seq, Peer::from(&listen.local));
            }
            Data::NetAccept(accept) => {
                self.peers.insert(event.seq, Peer::from(&accept.peer));
            }
            _ => {}
        }
    }

    /// Name of the program that `proc` runs, without its directory.
    pub fn program(&self, proc: ProcId) -> Option<&[u8]> {
        self.programs.get(&proc).map(Vec::as_slice)
    }

    /// The path that the `file.open` named.
    pub fn opened(&self, open: Seq) -> Option<&[u8]> {
        self.opened.get(&open).map(Vec::as_slice)
    }

    /// The peer of the connection that began with that event.
    pub fn peer(&self, open: Seq) -> Option<&Peer> {
        self.peers.get(&open)
    }
}
