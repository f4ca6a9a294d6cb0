//! Which events to show: by layer, type, process, path and time.

use std::str::FromStr;

use agentrec_trace::{Data, Event, Layer, ProcId, Seq};
use anyhow::{Context as _, Result, anyhow, bail};
use globset::{Glob, GlobMatcher};

use crate::address::Place;
use crate::error::with_hint;

/// What was asked for on the command line.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct FilterArgs {
    /// Only this layer: sys, tool or agent
    #[arg(long, value_name = "LAYER", value_parser = layer)]
    layer: Vec<Layer>,
    /// Only these types, as globs: `file.*`, `tool.call`; `http.get` are the requests with that method
    #[arg(long = "type", value_name = "GLOB")]
    kind: Vec<String>,
    /// Only this process, such as p7
    #[arg(long = "proc", value_name = "P", value_parser = process)]
    process: Vec<ProcId>,
    /// Only events about a matching path; a relative glob is meant from the session's working directory
    #[arg(long, value_name = "GLOB")]
    path: Option<String>,
    /// Only events from here on: `5m` (the last five minutes), `+1:30` (after the start), `14:05`, or `#1234`
    #[arg(long, value_name = "WHEN")]
    since: Option<Since>,
}

/// Where the timeline begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// So many nanoseconds before the last event.
    BeforeEnd(u64),
    /// So many nanoseconds after the start.
    AfterStart(u64),
    /// At this time of the day, in seconds since midnight, of the machine that recorded it.
    TimeOfDay(u32),
    /// At this event.
    Event(Seq),
}

fn layer(text: &str) -> Result<Layer> {
    Layer::from_name(text).ok_or_else(|| anyhow!("a layer is sys, tool or agent"))
}

fn process(text: &str) -> Result<ProcId> {
    match text.parse() {
        Ok(crate::address::Address { session: None, place: Some(Place::Process(id)) }) => Ok(id),
        _ => bail!("a process is addressed as p7"),
    }
}

impl FromStr for Since {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let clock = |text: &str| -> Option<u64> {
            let parts: Option<Vec<u64>> = text.split(':').map(|part| part.parse().ok()).collect();
            match *parts?.as_slice() {
                [a, b] if b < 60 => Some(a * 60 + b),
                [a, b, c] if b < 60 && c < 60 => Some((a * 60 + b) * 60 + c),
                _ => None,
            }
        };
        const SECOND: u64 = 1_000_000_000;
        if let Some(Place::Event(seq)) = text.parse::<crate::address::Address>()?.place {
            return Ok(Self::Event(seq));
        }
        if let Some(seconds) = text.strip_prefix('+').and_then(clock) {
            return Ok(Self::AfterStart(seconds.saturating_mul(SECOND)));
        }
        if let Some(of_day) = clock(text) {
            // `14:05` is hours and minutes here.
            let seconds = if text.matches(':').count() == 1 { of_day * 60 } else { of_day };
            if seconds < 86_400 {
                return Ok(Self::TimeOfDay(seconds as u32));
            }
        }
        let ago: jiff::SignedDuration =
            text.parse().map_err(|_| anyhow!("write `5m`, `+1:30`, `14:05` or `#1234`"))?;
        Ok(Self::BeforeEnd(u64::try_from(ago.as_nanos()).unwrap_or_default()))
    }
}

/// A filter, ready to be asked.
pub struct Filter {
    layers: Vec<Layer>,
    kinds: Vec<GlobMatcher>,
    methods: Vec<String>,
    processes: Vec<ProcId>,
    path: Option<GlobMatcher>,
    /// The first event to show.
    from: From,
}

enum From {
    Seq(Seq),
    Ts(u64),
}

/// When a session was.
pub struct SessionTimes {
    /// CLOCK_BOOTTIME of the first event, nanoseconds.
    pub first_ts: u64,
    /// CLOCK_BOOTTIME of the last event, nanoseconds.
    pub last_ts: u64,
    /// Wall clock of the first event, nanoseconds since 1970.
    pub wall: i64,
    /// Seconds east of UTC.
    pub utc_offset: i32,
}

impl FilterArgs {
    /// Whether anything was asked for.
    pub fn is_empty(&self) -> bool {
        let Self { layer, kind, process, path, since } = self;
        layer.is_empty()
            && kind.is_empty()
            && process.is_empty()
            && path.is_none()
            && since.is_none()
    }

    /// The same, for one process.
    pub fn of_process(mut self, id: ProcId) -> Self {
        self.process = vec![id];
        self
    }

    /// The filter for a session in the directory `cwd`.
    pub fn build(&self, cwd: &[u8], session: &SessionTimes) -> Result<Filter> {
        let mut kinds = Vec::new();
        let mut methods = Vec::new();
        for kind in &self.kind {
            match kind.strip_prefix("http.") {
                Some(method)
                    if method.bytes().all(|b| b.is_ascii_alphabetic())
                        && !matches!(method, "request" | "response") =>
                {
                    methods.push(method.to_ascii_uppercase());
                }
                _ => kinds.push(glob(kind)?),
            }
        }
        let path = match &self.path {
            None => None,
            Some(path) if path.starts_with('/') || path.starts_with("**") => Some(glob(path)?),
            Some(path) => {
                let cwd = String::from_utf8_lossy(cwd);
                Some(glob(&format!("{}/{path}", globset::escape(cwd.trim_end_matches('/'))))?)
            }
        };
        let from = match self.since {
            None => From::Seq(Seq(0)),
            Some(Since::Event(seq)) => From::Seq(seq),
            Some(Since::AfterStart(nanos)) => From::Ts(session.first_ts.saturating_add(nanos)),
            Some(Since::BeforeEnd(nanos)) => From::Ts(session.last_ts.saturating_sub(nanos)),
            Some(Since::TimeOfDay(seconds)) => From::Ts(session.at_time_of_day(seconds)),
        };
        let (layers, processes) = (self.layer.clone(), self.process.clone());
        Ok(Filter { layers, kinds, methods, processes, path, from })
    }
}

fn glob(pattern: &str) -> Result<GlobMatcher> {
    let glob = Glob::new(pattern).with_context(|| format!("cannot use the pattern `{pattern}`"));
    glob.map(|glob| glob.compile_matcher())
        .map_err(|error| with_hint(error, "`*`, `?`, `[abc]`, `{a,b}` and `**` are understood"))
}

impl SessionTimes {
    /// CLOCK_BOOTTIME at the first such time of the day after the start.
    fn at_time_of_day(&self, seconds: u32) -> u64 {
        const SECOND: i64 = 1_000_000_000;
        const DAY: i64 = 86_400 * SECOND;
        let local = self.wall.saturating_add(i64::from(self.utc_offset) * SECOND);
        let into_day = local.rem_euclid(DAY);
        let wait = (i64::from(seconds) * SECOND - into_day).rem_euclid(DAY);
        self.first_ts.saturating_add_signed(wait)
    }
}

impl Filter {
    /// Whether every event matches.
    pub fn is_empty(&self) -> bool {
        let all = matches!(self.from, From::Seq(Seq(0)));
        let types = self.kinds.is_empty() && self.methods.is_empty();
        all && types && self.layers.is_empty() && self.processes.is_empty() && self.path.is_none()
    }

    /// Whether to show the event; `opened` knows the path of an earlier `file.open`.
    pub fn matches<'n>(&self, event: &Event<'_>, opened: impl Fn(Seq) -> Option<&'n [u8]>) -> bool {
        let in_time = match self.from {
            From::Seq(from) => event.seq >= from,
            From::Ts(from) => event.ts >= from,
        };
        in_time
            && (self.layers.is_empty() || self.layers.contains(&event.data.layer()))
            && (self.processes.is_empty()
                || event.proc.is_some_and(|proc| self.processes.contains(&proc)))
            && self.matches_type(&event.data)
            && self.path.as_ref().is_none_or(|glob| {
                paths(&event.data)
                    .into_iter()
                    .flatten()
                    .chain(closed(&event.data, opened))
                    .any(|path| glob.is_match(agentrec_trace::Bytes::from(path).as_path()))
            })
    }

    fn matches_type(&self, data: &Data<'_>) -> bool {
        if self.kinds.is_empty() && self.methods.is_empty() {
            return true;
        }
        let by_method =
            |method: &str| self.methods.iter().any(|wanted| method.eq_ignore_ascii_case(wanted));
        self.kinds.iter().any(|glob| glob.is_match(data.type_name()))
            || matches!(data, Data::HttpRequest(request) if by_method(&request.method))
    }
}

fn closed<'n>(data: &Data<'_>, opened: impl Fn(Seq) -> Option<&'n [u8]>) -> Option<&'n [u8]> {
    match data {
        Data::FileClose(close) => close.open.and_then(opened),
        _ => None,
    }
}

/// The paths that an event names.
fn paths<'e>(data: &'e Data<'_>) -> [Option<&'e [u8]>; 2] {
    let one = |path: &'e [u8]| [Some(path), None];
    match data {
        Data::ProcessExec(e) => one(&e.path),
        Data::FileOpen(e) => one(&e.path),
        Data::FileClose(e) => [e.path.as_deref(), None],
        Data::FileRename(e) => [Some(&e.from), Some(&e.to)],
        Data::FileUnlink(e) => one(&e.path),
        Data::FileMkdir(e) => one(&e.path),
        Data::FileRmdir(e) => one(&e.path),
        Data::FileLink(e) => [Some(&e.from), Some(&e.to)],
        Data::FileSymlink(e) => one(&e.path),
        Data::FileMknod(e) => one(&e.path),
        Data::FileTruncate(e) => one(&e.path),
        Data::FileChmod(e) => one(&e.path),
        Data::FileChown(e) => one(&e.path),
        Data::FileUtime(e) => one(&e.path),
        Data::FileXattr(e) => one(&e.path),
        Data::FileMmap(e) => one(&e.path),
        Data::FileClone(e) => [Some(&e.from), Some(&e.to)],
        Data::FileKept(e) => one(&e.path),
        Data::Mount(e) => [Some(&e.source), Some(&e.target)],
        Data::DirChange(e) => one(&e.path),
        Data::FdInitial(e) => one(&e.path),
        _ => [None, None],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentrec_trace::Source;
    use agentrec_trace::event::{FileClose, FileOpen, HttpRequest};

    const SESSION: SessionTimes = SessionTimes {
        first_ts: 1_000,
        last_ts: 9_000_000_000,
        // 1970-01-01 10:00:00 in a zone an hour east.
        wall: 9 * 3_600 * 1_000_000_000,
        utc_offset: 3_600,
    };

    fn filter(args: &FilterArgs) -> Filter {
        args.build(b"/w[1]", &SESSION).expect("a valid filter")
    }

    fn event(data: impl Into<Data<'static>>) -> Event<'static> {
        Event::new(5_000_000_000, Source::Kernel, data)
    }

    #[test]
    fn moments() {
        let since = |text: &str| text.parse::<Since>().ok();
        assert_eq!(since("#12"), Some(Since::Event(Seq(12))));
        assert_eq!(since("+1:30"), Some(Since::AfterStart(90_000_000_000)));
        assert_eq!(since("5m"), Some(Since::BeforeEnd(300_000_000_000)));
        assert_eq!(since("14:05"), Some(Since::TimeOfDay(50_700)));
        assert_eq!(since("14:05:09"), Some(Since::TimeOfDay(50_709)));
        assert_eq!(since("25:00"), None);
        assert_eq!(since("soon"), None);
        assert_eq!(SESSION.at_time_of_day(36_001), 1_000 + 1_000_000_000);
    }

    #[test]
    fn types_are_globs_and_methods() {
        let args =
            FilterArgs { kind: vec!["file.*".into(), "http.get".into()], ..Default::default() };
        let filter = filter(&args);
        let none = |_| None;
        let request = |method: &'static str| {
            event(HttpRequest { method: method.into(), ..Default::default() })
        };
        assert!(filter.matches(&event(FileOpen::default()), none));
        assert!(filter.matches(&request("GET"), none));
        assert!(!filter.matches(&request("POST"), none));
    }

    #[test]
    fn a_close_is_found_by_the_path_of_its_open() {
        let args = FilterArgs { path: Some("src/*.py".into()), ..Default::default() };
        let filter = filter(&args);
        let close = event(FileClose { open: Some(Seq(1)), ..Default::default() });
        assert!(filter.matches(&close, |_| Some(b"/w[1]/src/a.py")));
        assert!(!filter.matches(&close, |_| Some(b"/w1/src/a.py")));
        assert!(!filter.matches(&close, |_| None));
    }

    #[test]
    fn time_is_counted_from_the_end_or_the_start() {
        let since = |since| filter(&FilterArgs { since: Some(since), ..Default::default() });
        let event = event(FileOpen::default());
        assert!(since(Since::BeforeEnd(4_000_000_000)).matches(&event, |_| None));
        assert!(!since(Since::BeforeEnd(3_999_999_999)).matches(&event, |_| None));
        assert!(!since(Since::AfterStart(5_000_000_000)).matches(&event, |_| None));
    }
}
