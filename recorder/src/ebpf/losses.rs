//! What the programs could not tell: counted in the kernel, told where that is noticed.

use agentrec_recorder_ebpf::kind;
use agentrec_trace::event::{Data, Lost};
use agentrec_trace::{Event, Source};
use aya::maps::{MapData, PerCpuArray};

use super::Error;
use super::attach::Loaded;
use crate::mailbox::Outbox;
use crate::source::{Captured, Report};

/// The counters.
pub(super) struct Losses {
    counters: PerCpuArray<MapData, u64>,
    told: [u64; kind::COUNT as usize],
    missed: u64,
}

impl Losses {
    pub(super) fn new(loaded: &mut Loaded) -> Result<Self, Error> {
        Ok(Self { counters: loaded.counters("LOST")?, told: [0; kind::COUNT as usize], missed: 0 })
    }

    /// Tells what was lost since the last time; whether the ends of processes may be among it.
    pub(super) fn tell<I: From<Report>>(&mut self, reports: &Outbox<I>) -> bool {
        let mut ends = false;
        for (kind, told) in self.told.iter_mut().enumerate() {
            let lost = lost(&self.counters, kind as u16);
            let new = lost.saturating_sub(*told);
            if new == 0 {
                continue;
            }
            *told = lost;
            ends |= matches!(kind as u16, kind::FORK | kind::EXIT);
            report(new, reason(kind as u16), reports);
        }
        ends
    }

    /// How many closes are lost.
    pub(super) fn closes(&self) -> u64 {
        lost(&self.counters, kind::CLOSE)
    }

    /// Tells how often programs were not run since the last time, of `missed` in all.
    pub(super) fn tell_missed<I: From<Report>>(&mut self, missed: u64, reports: &Outbox<I>) {
        let new = missed.saturating_sub(self.missed);
        self.missed = missed;
        if new > 0 {
            report(
                new,
                "other BPF programs were at work on that CPU: anything may be missing",
                reports,
            );
        }
    }
}

fn lost(counters: &PerCpuArray<MapData, u64>, kind: u16) -> u64 {
    counters.get(&u32::from(kind), 0).map_or(0, |values| values.iter().sum())
}

fn report<I: From<Report>>(count: u64, reason: &'static str, reports: &Outbox<I>) {
    let data = Data::Lost(Lost {
        count: Some(count),
        place: "ebpf".into(),
        reason: reason.into(),
        peer_pid: None,
    });
    let event = Event::new(crate::session::boottime(), Source::Kernel, data);
    let _ = reports.defer(Report::Event(Captured { event, opens: None, held: false }));
}

fn reason(kind: u16) -> &'static str {
    match kind {
        kind::CALL => "the ring buffer was full: system calls are missing",
        kind::CLOSE => {
            "the ring buffer was full: closes are missing, and with them what went through"
        }
        kind::FORK => {
            "the ring buffer or the table of processes was full: processes are missing with all that they did"
        }
        kind::ARGUMENTS | kind::ENVIRONMENT => {
            "the ring buffer was full: arguments or environments of programs are missing"
        }
        kind::EXEC => "the ring buffer was full: executed programs are missing",
        kind::EXIT => "the ring buffer was full: ends of processes are missing",
        kind::DATA => "the ring buffer was full: output is missing",
        kind::PLACE | kind::SOCKET => {
            "the ring buffer was full: paths or addresses were asked for late, and may be wrong"
        }
        kind::RESIZE => "the ring buffer was full: sizes of the terminal are missing",
        kind::SIGNAL => "the ring buffer was full: a signal may have reached the command twice",
        kind::FOUND => {
            "the ring buffer or the table of processes was full: processes that are watched are missing with all that they did"
        }
        kind::STREAM | kind::PLAINTEXT => {
            "the ring buffer was full: bytes of connections are missing"
        }
        kind::MAPPED => {
            "the ring buffer was full: a TLS library may have been mapped whose traffic is missing"
        }
        kind::MESSAGE => "the ring buffer was full: what went beside messages is missing",
        _ => "the table of descriptors was full: bytes read and written are missing",
    }
}
