//! The same program recorded again and again: the same events but for times and ids.
//!
//! Everything that an event says is compared, so that a new field is compared from its first day. What is left out is
//! listed here, each with its reason. Events of one thread are compared in their order; threads and processes run beside
//! each other, so nothing is said of the order between them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use agentrec_trace::json::JsonEvent;
use agentrec_trace::{Data, Event, ProcId, Reader, Seq, Source};
use serde_json::Value;

use super::deeds::{Index, Tree};
use super::names::{stable, text};
use super::stage::{Stage, must_run, write};

/// What each thread of each process did, in order: threads by what they did, since their ids say nothing.
type Streams = BTreeMap<String, Vec<Vec<String>>>;

/// Fields of an event that are times and ids, or measured like times.
const OF_THIS_RUN: &[&str] = &["pid", "atime", "mtime", "utime", "stime", "max_rss"];

/// Ports that the kernel gives out (ip_local_port_range) begin here at the earliest.
const FIRST_EPHEMERAL_PORT: u64 = 32768;

fn streams(trace: &Path) -> Streams {
    let reader = Reader::open(trace).expect("a trace");
    let events: Vec<Event<'static>> =
        reader.iter().collect::<Result<_, _>>().expect("a readable trace");
    let (tree, indices) = tree(&events);
    let names = tree.names();
    let name = |proc: ProcId| names[indices[&proc]].clone();
    let threaded: BTreeSet<ProcId> =
        events.iter().filter(|event| event.tid.is_some()).filter_map(|event| event.proc).collect();
    let mut told: HashMap<Seq, String> = HashMap::new();
    let mut threads: BTreeMap<(ProcId, Option<u32>), Vec<String>> = BTreeMap::new();
    for event in events.iter().filter(|event| event.source == Source::Kernel) {
        let mut data = serde_json::to_value(JsonEvent(event)).expect("an event")["data"].take();
        let fields = data.as_object_mut().expect("fields");
        fields.retain(|field, _| !OF_THIS_RUN.contains(&field.as_str()));
        if let Data::ProcessFork(fork) = &event.data {
            fields.insert("child".into(), name(fork.child).into());
        }
        // Threads share their descriptors: which number one gets depends on who was there first.
        if event.proc.is_some_and(|proc| threaded.contains(&proc)) {
            fields.remove("fd");
        }
        for field in ["open", "listen"] {
            if let Some(earlier) = fields.get(field).and_then(Value::as_u64) {
                fields.insert(field.into(), told[&Seq(earlier)].clone().into());
            }
        }
        for field in ["peer", "local"] {
            if let Some(port) = fields.get_mut(field).and_then(|address| address.get_mut("port"))
                && port.as_u64().is_some_and(|port| port >= FIRST_EPHEMERAL_PORT)
            {
                *port = "*".into();
            }
        }
        let line = stable(&format!("{} {data}", event.data.type_name()));
        told.insert(event.seq, line.clone());
        let thread = (event.proc.expect("a process's"), event.tid);
        threads.entry(thread).or_default().push(line);
    }
    let mut streams = Streams::new();
    for ((proc, _), lines) in threads {
        streams.entry(name(proc)).or_default().push(lines);
    }
    streams.values_mut().for_each(|threads| threads.sort());
    streams
}

fn tree(events: &[Event<'_>]) -> (Tree, HashMap<ProcId, Index>) {
    let mut tree = Tree::default();
    let mut indices = HashMap::from([(ProcId(1), tree.started(None))]);
    for event in events {
        match (&event.data, event.proc) {
            (Data::ProcessFork(fork), Some(parent)) => {
                indices.insert(fork.child, tree.started(Some(indices[&parent])));
            }
            (Data::ProcessExec(exec), Some(proc)) if exec.errno.is_none() => {
                let argv: Vec<String> = exec.argv.iter().map(|arg| text(arg)).collect();
                tree.executed(indices[&proc], argv.join(" "));
            }
            _ => {}
        }
    }
    (tree, indices)
}

/// Where two streams part, with what went before.
fn differences(first: &Streams, other: &Streams) -> Vec<String> {
    let mut found = Vec::new();
    let none = Vec::new();
    let names: BTreeSet<_> = first.keys().chain(other.keys()).collect();
    for name in names {
        let (ours, theirs) = (first.get(name).unwrap_or(&none), other.get(name).unwrap_or(&none));
        if ours.len() != theirs.len() {
            found.push(format!("{name}: {} threads, then {}", ours.len(), theirs.len()));
        }
        for (ours, theirs) in ours.iter().zip(theirs).filter(|(ours, theirs)| ours != theirs) {
            let at = ours.iter().zip(theirs).take_while(|(one, other)| one == other).count();
            let from = at.saturating_sub(2);
            let part = |lines: &[String]| lines[from..lines.len().min(at + 4)].join("\n    ");
            found.push(format!(
                "{name}, event {at}:\n  first\n    {}\n  then\n    {}",
                part(ours),
                part(theirs)
            ));
        }
    }
    found
}

fn repeat(stage: &Stage, runs: usize) {
    stage.warm_up();
    let first = streams(&stage.record());
    for run in 2..=runs {
        let again = streams(&stage.record());
        let differences = differences(&first, &again);
        assert!(differences.is_empty(), "run {run} of {runs} differs:\n{}", differences.join("\n"));
    }
}

/// So often, and with workloads as large as they are measured.
const OFTEN: usize = 50;
/// So often in every test run, with smaller ones.
const SELDOM: usize = 3;

fn open_close(times: usize) -> Stage {
    fn prepare(work: &Path) {
        let code = "#include <fcntl.h>\n#include <stdlib.h>\n#include <unistd.h>\n\
                    int main(int argc, char **argv) {\n\
                    for (int i = atoi(argv[1]); i > 0; i--) close(open(\"file\", O_RDONLY));\n\
                    return argc - 2; }\n";
        write(work, "loop.c", code);
        write(work, "file", "");
        must_run(work, "cc", &["-static", "-O1", "-o", "loop", "loop.c"]);
    }
    Stage::new(prepare, &["./loop", &times.to_string()])
}

fn python_imports(files: usize) -> Stage {
    fn prepare(work: &Path) {
        for number in 0..500 {
            write(work, &format!("data/{number}"), "x".repeat(number * 10));
        }
    }
    // The modules of the standard library that need nothing else to be there.
    let code = format!(
        "import argparse, array, ast, asyncio, base64, bisect, calendar, cmath, codecs, collections, \
         concurrent.futures, configparser, contextlib, copy, csv, ctypes, dataclasses, datetime, decimal, \
         difflib, dis, email.message, enum, fractions, ftplib, functools, getpass, glob, gzip, hashlib, heapq, \
         html.parser, http.client, http.server, inspect, io, ipaddress, itertools, json, logging, lzma, \
         mimetypes, multiprocessing, optparse, pathlib, pickle, platform, pprint, queue, random, secrets, \
         shutil, socket, sqlite3, ssl, statistics, string, subprocess, tarfile, tempfile, unittest, uuid, \
         xml.dom.minidom, zipfile\n\
         for n in range({files}): open(f'data/{{n}}').read()\n"
    );
    Stage::new(prepare, &["python3", "-c", &code])
}

fn make_j2(files: usize) -> Stage {
    fn prepare(work: &Path) {
        for number in 0..50 {
            write(
                work,
                &format!("f{number}.c"),
                format!("int f{number}(void) {{ return {number}; }}\n"),
            );
        }
        write(work, "Makefile", "all: $(OBJECTS)\n");
    }
    let objects: String = (0..files).map(|number| format!(" f{number}.o")).collect();
    Stage::new(prepare, &["make", "-j2", &format!("OBJECTS={objects}")])
}

fn http(requests: usize) -> Stage {
    let code = format!(
        "import http.client, http.server, threading\n\
         class Handler(http.server.BaseHTTPRequestHandler):\n\
         \x20   def log_message(self, *args): pass\n\
         \x20   def do_GET(self):\n\
         \x20       self.send_response(200)\n\
         \x20       self.send_header('Content-Length', '1000')\n\
         \x20       self.end_headers()\n\
         \x20       self.wfile.write(b'x' * 1000)\n\
         server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)\n\
         serving = threading.Thread(target=server.serve_forever)\n\
         serving.start()\n\
         for n in range({requests}):\n\
         \x20   client = http.client.HTTPConnection(*server.server_address)\n\
         \x20   client.request('GET', f'/{{n}}')\n\
         \x20   assert len(client.getresponse().read()) == 1000\n\
         \x20   client.close()\n\
         server.shutdown()\n\
         serving.join()\n\
         server.server_close()\n"
    );
    Stage::new(|_| (), &["python3", "-c", &code])
}

#[test]
fn the_same_events_of_a_loop() {
    repeat(&open_close(1000), SELDOM);
}

#[test]
fn the_same_events_of_imports() {
    repeat(&python_imports(100), SELDOM);
}

#[test]
fn the_same_events_of_a_parallel_build() {
    repeat(&make_j2(8), SELDOM);
}

#[test]
fn the_same_events_of_requests() {
    repeat(&http(50), SELDOM);
}

#[test]
#[ignore = "takes minutes: cargo xtask test --long"]
fn long_the_same_events_of_a_loop() {
    repeat(&open_close(20_000), OFTEN);
}

#[test]
#[ignore = "takes minutes: cargo xtask test --long"]
fn long_the_same_events_of_imports() {
    repeat(&python_imports(500), OFTEN);
}

#[test]
#[ignore = "takes minutes: cargo xtask test --long"]
fn long_the_same_events_of_a_parallel_build() {
    repeat(&make_j2(50), OFTEN);
}

#[test]
#[ignore = "takes minutes: cargo xtask test --long"]
fn long_the_same_events_of_requests() {
    repeat(&http(1000), OFTEN);
}
