//! What reading HTTP costs a command: requests, through TLS too, and streams of events, by both engines.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use agentrec_trace::{Data, Reader};
use anyhow::{Context, Result, ensure};

mod mitmdump;
mod parser;

use super::recorded::{agentrec, until_gone};
use super::workloads::{Spread, Stopwatch, Workload, python};
use super::{Bar, Section, build};
use crate::workspace;
use mitmdump::Mitmdump;

/// Most times unrecorded: requests by eBPF, by ptrace, and streams by eBPF.
const EBPF: f64 = 1.10;
const PTRACE: f64 = 2.0;
const STREAMS: f64 = 1.15;
/// The trace of a long conversation, times its last body compressed.
const TRACE: f64 = 2.5;

struct Bench {
    rounds: usize,
    dir: PathBuf,
    stopwatch: Stopwatch,
    section: Section,
}

/// Measures everything with so many rounds; whether all bars are met. Only what has `filter` in its name.
pub fn run(rounds: usize, filter: &str) -> Result<bool> {
    let dir = workspace::target().join("bench-http");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    build::agentrec()?;
    let stopwatch = Stopwatch::new(&dir)?;
    fs::write(dir.join("http_server.py"), include_str!("workloads/http_server.py"))?;
    let work = dir.join("work");
    fs::create_dir_all(&work)?;
    fs::write(work.join("http_client.py"), include_str!("workloads/http_client.py"))?;
    let cert = certificate(&dir)?;
    let plain = Server::start(&dir, &[])?;
    let secure = Server::start(&dir, &cert)?;
    let section = Section::new("http", "What reading HTTP costs");
    let mut bench = Bench { rounds, dir, stopwatch, section };
    let client = |name, what: &str, server: &Server, cert: Option<&PathBuf>| -> Result<Workload> {
        let mut words: Vec<OsString> = vec![python()?, "http_client.py".into(), what.into()];
        words.push(server.port.clone().into());
        words.extend(cert.map(|cert| cert.clone().into()));
        Ok(Workload::new(name, words, work.clone()))
    };
    let requests = "1,000 requests of 2 KB, replies of 8 KB";
    let requests = client(requests, "requests", &plain, None)?;
    let tls = "1,000 requests of 2 KB, replies of 8 KB, TLS";
    let tls = client(tls, "requests", &secure, Some(&cert[0]))?;
    let streams = "100 streams of 2,000 events at once";
    let streams = client(streams, "streams", &plain, None)?;
    let dir = bench.dir.clone();
    let beside = |workload: &Workload, what, server: &Server| -> Result<_> {
        let is_tls = workload.name.ends_with("TLS");
        let between = Mitmdump::start(&dir, &server.port, is_tls)?;
        let mut words: Vec<OsString> = vec![python()?, "http_client.py".into(), what];
        words.push(between.port.clone().into());
        words.extend(is_tls.then(|| between.authority.clone().into()));
        Ok((Workload::new(workload.name, words, work.clone()), between))
    };
    for (workload, what, server, bars, told) in [
        (&requests, "requests", &plain, [Bar::AtMost(EBPF), Bar::AtMost(PTRACE)], [1000, 0]),
        (&tls, "requests", &secure, [Bar::AtMost(EBPF), Bar::AtMost(PTRACE)], [1000, 0]),
        (&streams, "streams", &plain, [Bar::AtMost(STREAMS), Bar::Seen], [100, 200_000]),
    ] {
        if workload.name.contains(filter) {
            let (through, _mitmdump) = beside(workload, what.into(), server)?;
            bench.measure(workload, &through, bars, told)?;
        }
    }
    if "conversation".contains(filter) {
        bench.conversation(&plain)?;
    }
    let mut section = bench.section;
    if "parser".contains(filter) {
        parser::measure(&mut section, rounds)?;
    }
    section.note(format!(
        "Python's `http.client`; the server is not recorded. A workload's own time, from its fork to its end; medians of {rounds} \
         interleaved rounds. Requests and events are counted in the trace after each round: a round in which one is missing fails, but for what eBPF has not \
         seen through TLS before the library was probed. Which library a program uses is remembered: one recording went before, uncounted. mitmdump stands between \
         client and server (`--mode reverse:`) and writes all to a file."
    ));
    if rounds < 7 || !filter.is_empty() {
        eprintln!("docs/benchmarks.md is left as it is: that takes 7 rounds of everything");
        return Ok(true);
    }
    section.finish()
}

impl Bench {
    /// How large the trace of a long conversation is.
    fn conversation(&mut self, server: &Server) -> Result<()> {
        let work = self.dir.join("work");
        fs::write(work.join("conversation.py"), include_str!("workloads/conversation.py"))?;
        let (trace, last) = (self.dir.join("conversation.zst"), self.dir.join("last.json"));
        let mut command = Command::new(agentrec());
        command.args(["run", "-q", "--engine", "ptrace", "--exclude", "*", "--overwrite", "-o"]);
        command.arg(&trace).arg("--").arg(python()?).args(["conversation.py", &server.port]);
        command.arg(&last).current_dir(work).env("AGENTREC_HOME", self.dir.join("home"));
        ensure!(command.status()?.success(), "failed: {command:?}");
        let seen = count(&trace)?;
        ensure!(seen == [200, 0], "conversation: {seen:?} of 200 responses");
        let body = fs::read(&last)?;
        let compressed = zstd::encode_all(body.as_slice(), 3)?.len() as f64;
        let size = fs::metadata(&trace)?.len() as f64;
        let section = &mut self.section;
        section.figure(
            "conversation of 200 turns, last body",
            body.len() as f64 / 1e3,
            "kB",
            Bar::Seen,
        );
        section.figure("the same, compressed", compressed / 1e3, "kB", Bar::Seen);
        section.figure("its trace", size / 1e3, "kB", Bar::Seen);
        let what = "its trace over its last body compressed";
        section.figure(what, size / compressed, "times", Bar::AtMost(TRACE));
        Ok(())
    }

    /// A workload by both engines, beside the same unrecorded and the same through mitmdump; `told`: responses, and events in
    /// them.
    fn measure(
        &mut self,
        workload: &Workload,
        through: &Workload,
        bars: [Bar; 2],
        told: [u64; 2],
    ) -> Result<()> {
        let mut times = [const { Vec::new() }; 4];
        let mut least = told[0];
        let trace = self.dir.join("trace.zst");
        let recorded = |engine: &str| {
            let words = ["run", "--engine", engine, "--overwrite", "-o"].map(OsString::from);
            let prefix = [agentrec().into_os_string()].into_iter().chain(words);
            prefix.chain([trace.clone().into_os_string(), "--".into()]).collect::<Vec<_>>()
        };
        // The first one meets the library, and remembers who uses it.
        self.stopwatch.seconds(workload, &recorded("ebpf"))?;
        until_gone()?;
        for _ in 0..self.rounds {
            times[0].push(self.stopwatch.seconds(workload, &[])?);
            times[3].push(self.stopwatch.seconds(through, &[])?);
            for (engine, times) in ["ebpf", "ptrace"].into_iter().zip(&mut times[1..3]) {
                times.push(self.stopwatch.seconds(workload, &recorded(engine))?);
                until_gone()?;
                let seen = count(&trace)?;
                // By eBPF what goes through a TLS library while it is being probed is missing, and told.
                least = least.min(seen[0]);
                let may_miss = engine == "ebpf" && workload.name.ends_with("TLS");
                ensure!(
                    seen == told || (may_miss && seen[0] * 10 >= told[0] * 9),
                    "{}, {engine}: {seen:?} of {told:?}",
                    workload.name
                );
            }
        }
        let [untraced, ebpf, ptrace, through] = times.map(Spread::of);
        let name = workload.name;
        self.section.figure(
            format!("{name}, unrecorded ({untraced} s)"),
            untraced.median,
            "s",
            Bar::Seen,
        );
        for (engine, spread, bar) in
            [("eBPF", ebpf, bars[0]), ("ptrace", ptrace, bars[1]), ("mitmdump", through, Bar::Seen)]
        {
            let ratio = spread.median / untraced.median;
            let what = format!("{name}, {engine} ({spread} s)");
            self.section.figure(what, ratio, "times unrecorded", bar);
        }
        let whole = format!("{name}, whole in the trace, at least");
        self.section.figure(whole, least as f64, "", Bar::AtLeast(told[0] as f64));
        Ok(())
    }
}

/// Whole responses in a trace, and events in them.
fn count(trace: &Path) -> Result<[u64; 2]> {
    let mut seen = [0; 2];
    Reader::open(trace)?.for_each(|event| {
        if let Data::HttpResponse(response) = &event.data
            && response.incomplete.is_none()
            && response.request.is_some()
        {
            seen[0] += 1;
            seen[1] += response.sse.len() as u64;
        }
    })?;
    Ok(seen)
}

/// A certificate for this machine, and its key.
fn certificate(dir: &Path) -> Result<[PathBuf; 2]> {
    let files = ["cert.pem", "key.pem"].map(|name| dir.join(name));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .arg("-out")
        .arg(&files[0])
        .arg("-keyout")
        .arg(&files[1])
        .output()
        .context("cannot run openssl")?;
    ensure!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
    Ok(files)
}

/// Answers until it is dropped.
struct Server {
    process: Child,
    port: String,
}

impl Server {
    fn start(dir: &Path, cert: &[PathBuf]) -> Result<Self> {
        let mut process = Command::new(python()?)
            .arg("http_server.py")
            .args(cert)
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the server")?;
        let output = process.stdout.take().context("a pipe was asked for")?;
        let mut port = String::new();
        BufReader::new(output).read_line(&mut port).context("cannot read the server's port")?;
        Ok(Self { process, port: port.trim().to_owned() })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().ok();
    }
}
