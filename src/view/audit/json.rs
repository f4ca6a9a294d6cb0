//! The report as objects, one a line; every object says what it is in `kind`. Nothing is cut or folded.

use std::io;

use serde_json::{Value, json};

use super::Report;
use crate::audit::{Act, Deeds, Distance, Host, Item};
use crate::output::Output;
use crate::output::json::bytes;

/// Who did it and how often, for every kind alike.
fn item<S>(kind: &str, item: &Item<S>) -> Value {
    let by: Vec<_> = item
        .by
        .iter()
        .map(|(proc, part)| {
            json!({
                "proc": proc, "pid": part.pid, "command": &*part.command, "times": part.times, "seq": part.first,
            })
        })
        .collect();
    json!({ "kind": kind, "seq": item.first, "times": item.times, "by": by })
}

fn with(mut object: Value, fields: Value) -> Value {
    if let (Some(object), Value::Object(fields)) = (object.as_object_mut(), fields) {
        object.extend(fields);
    }
    object
}

fn file(kind: &str, path: &[u8], found: &Item<Deeds>, system: bool) -> Value {
    let deeds = &found.state;
    let fields = json!({
        "path": bytes(path), "acts": deeds.words(), "read": deeds.read, "written": deeds.written, "system": system,
    });
    with(item(kind, found), fields)
}

pub(super) fn write(report: &Report<'_>, out: &mut Output) -> io::Result<()> {
    let audit = report.audit;
    let mut beyond = 0;
    for ((rule, what), found) in audit.violations.iter() {
        let fields = json!({ "rule": audit.rule(*rule), "what": bytes(what) });
        out.json_line(&with(item("violation", found), fields))?;
    }
    for (path, found) in audit.secrets.iter() {
        let read = json!({ "was_read": found.state.has(Act::Read) });
        out.json_line(&with(file("secret", path, found, false), read))?;
    }
    for ((what, text), found) in audit.irrevocable.iter() {
        let fields = json!({ "what": what, "text": text });
        out.json_line(&with(item("irrevocable", found), fields))?;
    }
    for (list, system) in [(&audit.writes, false), (&audit.system_writes, true)] {
        for (path, found) in list.iter() {
            let outcome = found.state.outcome();
            let fields = json!({ "outcome": outcome.word(), "content_lost": !system && audit.is_lost(path, found) });
            out.json_line(&with(file("write", path, found, system), fields))?;
        }
    }
    for (Host { distance, peer, protocol }, found) in audit.hosts.iter() {
        let kind = if *distance == Distance::Listens { "listen" } else { "connect" };
        let flow = &found.state;
        let fields = json!({
            "peer": peer.to_string(), "protocol": protocol, "remote": *distance == Distance::Remote,
            "made": flow.made, "failed": flow.failed, "sent": flow.sent, "received": flow.received,
        });
        out.json_line(&with(item(kind, found), fields))?;
    }
    for (what, found) in audit.unseen.iter() {
        let fields = json!({ "what": what, "events": found.state });
        out.json_line(&with(item("unseen", found), fields))?;
    }
    for (path, found) in audit.programs.iter() {
        let exe = found.state.exe.as_deref().map(bytes);
        out.json_line(&with(item("exec", found), json!({ "path": bytes(path), "exe": exe })))?;
    }
    for (list, system) in [(&audit.reads, false), (&audit.system_reads, true)] {
        for (path, found) in list.iter() {
            out.json_line(&file("read", path, found, system))?;
        }
        beyond += list.beyond;
    }
    for more in [
        audit.violations.beyond,
        audit.secrets.beyond,
        audit.irrevocable.beyond,
        audit.writes.beyond,
        audit.system_writes.beyond,
        audit.hosts.beyond,
        audit.unseen.beyond,
        audit.programs.beyond,
    ] {
        beyond += more;
    }
    let rules = report.rules;
    out.json_line(&json!({
        "kind": "audit", "rules": rules, "violations": rules.map(|_| audit.violations.len() as u64), "not_listed": beyond,
    }))
}
