//! The same facts as objects for machines; every object says what it is in `kind`.

use std::path::Path;

use agentrec_trace::{Reader, Status};
use serde_json::{Value, json};

use crate::digest::{Call, Change, Contact, Digest, Effects, Message, Process, Read, Snapshot};
use crate::output::json::{bytes, list, value};

/// The session.
pub fn session(name: &str, path: &Path, reader: &Reader, digest: &Digest) -> Value {
    use std::os::unix::ffi::OsStrExt;
    let start = digest.start.as_ref();
    let stop = digest.stop.as_ref();
    let (status, seal) = match reader.status() {
        Status::Complete(seal) => ("complete", Some(seal.hex())),
        Status::Recording => ("recording", None),
        Status::Incomplete { .. } => ("incomplete", None),
    };
    json!({
        "kind": "session",
        "session": start.map(|start| start.session.as_ref()),
        "short": name,
        "name": start.and_then(|start| start.name.as_deref()),
        "trace": bytes(path.as_os_str().as_bytes()),
        "argv": start.map(|start| list(&start.argv)),
        "cwd": bytes(digest.cwd()),
        "started": start.map(|start| start.wall),
        "utc_offset": start.map(|start| start.utc_offset),
        "duration": stop.map(|stop| stop.duration),
        "code": stop.and_then(|stop| stop.code),
        "signal": stop.and_then(|stop| stop.signal),
        "reason": stop.map(|stop| stop.reason.as_ref()),
        "left_running": stop.map(|stop| stop.left_running),
        "host": start.map(|start| start.host.as_ref()),
        "kernel": start.map(|start| start.kernel.as_ref()),
        "engine": start.map(|start| start.engine.as_ref()),
        "git": start.and_then(|start| start.git_head.as_ref().map(|head| json!({
            "head": head.as_ref(),
            "branch": start.git_branch.as_deref(),
            "dirty": start.git_dirty,
        }))),
        "parent": start.and_then(|start| start.parent.as_ref()).map(|parent| json!({
            "session": parent.session.as_ref(),
            "at": parent.at.as_ref(),
            "edits": parent.edits,
        })),
        "status": status,
        "seal": seal,
        "events": reader.len(),
        "bytes": reader.file_len().ok(),
        "lost": digest.lost_total(),
    })
}

/// A process, with what it and those behind it did.
pub fn process(digest: &Digest, process: &Process, effects: Option<&Effects>) -> Value {
    let exit = process.exit;
    let mut object = json!({
        "kind": "process",
        "proc": process.id,
        "pid": process.pid,
        "parent": process.parent,
        "argv": list(digest.processes.argv(process.id)),
        "executed": !process.execs.is_empty(),
        "started": digest.since_start(process.started),
        "ended": exit.map(|exit| digest.since_start(exit.ts)),
        "code": exit.and_then(|exit| exit.code),
        "signal": exit.and_then(|exit| exit.signal),
        "cpu": exit.map(|exit| exit.cpu),
        "max_rss": exit.map(|exit| exit.max_rss),
    });
    if let (Some(effects), Some(fields)) = (effects, object.as_object_mut()) {
        fields.insert("changes".into(), effects.changes.iter().map(change).collect());
        fields.insert("reads".into(), effects.reads.iter().map(read).collect());
        fields.insert("contacts".into(), effects.contacts.iter().map(contact).collect());
    }
    object
}

/// What became of a path.
pub fn change(change: &Change) -> Value {
    json!({
        "change": match change.net {
            crate::digest::Net::Added => "added",
            crate::digest::Net::Modified => "modified",
            crate::digest::Net::Deleted => "deleted",
        },
        "path": bytes(&change.path),
        "directory": change.directory,
        "files": change.inside,
        "written": change.written,
        "procs": change.procs,
        "last": change.last,
    })
}

/// A file that was read.
pub fn read(read: &Read) -> Value {
    json!({ "path": bytes(&read.path), "bytes": read.bytes })
}

fn contact(contact: &Contact) -> Value {
    json!({
        "peer": contact.peer.to_string(),
        "made": contact.made,
        "failed": contact.failed,
        "sent": contact.sent,
        "received": contact.received,
    })
}

/// A tool call, with what was done inside of the process that told of it.
pub fn call(reader: &Reader, digest: &Digest, call: &Call, effects: &Effects) -> Value {
    let payload = |payload| reader.payload(payload).ok().map(|found| value(&found));
    json!({
        "kind": "call",
        "seq": call.seq,
        "proc": call.proc,
        "source": call.source,
        "id": call.id,
        "name": call.name,
        "server": call.server,
        "arguments": payload(&call.arguments),
        "result": call.result.as_ref().map(payload),
        "error": call.error,
        "started": digest.since_start(call.ts),
        "ended": call.ended.map(|ended| digest.since_start(ended)),
        "changes": effects.changes.iter().map(change).collect::<Value>(),
        "contacts": effects.contacts.iter().map(contact).collect::<Value>(),
    })
}

/// A message.
pub fn message(reader: &Reader, digest: &Digest, message: &Message) -> Value {
    json!({
        "kind": "message",
        "seq": message.seq,
        "source": message.source,
        "role": message.role,
        "content": reader.payload(&message.content).ok().map(|found| value(&found)),
        "at": digest.since_start(message.ts),
    })
}

/// A snapshot.
pub fn snapshot(digest: &Digest, snapshot: &Snapshot) -> Value {
    let roots: Vec<_> = snapshot
        .roots
        .iter()
        .map(|root| {
            json!({
                "path": bytes(&root.path),
                "tree": root.tree.to_string(),
                "files": root.files,
                "bytes": root.bytes,
                "left_out": root.left_out,
                "self_contained": root.self_contained,
                "agent": root.agent,
            })
        })
        .collect();
    json!({
        "kind": "snapshot",
        "snapshot": snapshot.index,
        "seq": snapshot.seq,
        "description": snapshot.description,
        "trigger": snapshot.trigger,
        "at": digest.since_start(snapshot.ts),
        "roots": roots,
        "late": list(&snapshot.late),
        "torn": list(&snapshot.torn),
        "partial": snapshot.partial,
        "duration": snapshot.duration,
    })
}
