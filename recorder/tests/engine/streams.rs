//! The bytes of connections: whole, in order, however they were moved; and what is missing is counted.

use std::collections::BTreeMap;

use agentrec_recorder::observation::Direction;
use agentrec_recorder::source::{Report, Stream, StreamId};

use super::harness::{Abi, Engine, Recorded, Recording, User};

/// What went over one connection, as text: what is missing in angle brackets, its end as a full stop of its own.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    began: String,
    sent: String,
    received: String,
    over: String,
}

fn seen(recorded: &Recorded) -> Vec<Seen> {
    let mut live: BTreeMap<StreamId, Seen> = BTreeMap::new();
    let mut all = Vec::new();
    for report in &recorded.reports {
        let Report::Stream(streamed) = report else { continue };
        let seen = live.entry(streamed.id).or_default();
        let way = |seen: &'_ mut Seen, direction| match direction {
            Direction::Write => std::mem::take(&mut seen.sent),
            Direction::Read => std::mem::take(&mut seen.received),
        };
        let (direction, more) = match &streamed.what {
            Stream::Began(began) => {
                assert!(seen.began.is_empty(), "began twice");
                seen.began = format!("{:?} {}", began.role, began.peer.family);
                continue;
            }
            Stream::Bytes { direction, data } => {
                (*direction, String::from_utf8(data.clone()).unwrap())
            }
            Stream::Missing { direction, count } => (*direction, format!("<{count}>")),
            Stream::End { direction } => (*direction, "|".to_owned()),
            Stream::Decrypted | Stream::Opaque(_) | Stream::Sum { .. } => {
                panic!("only the proxy says that")
            }
            Stream::Over { reset } => {
                seen.over = if *reset { "reset" } else { "closed" }.to_owned();
                all.extend(live.remove(&streamed.id).filter(|seen| !seen.began.is_empty()));
                continue;
            }
        };
        let all = way(seen, direction) + &more;
        match direction {
            Direction::Write => seen.sent = all,
            Direction::Read => seen.received = all,
        }
    }
    assert!(live.is_empty(), "{live:?}");
    all
}

fn compare(recorded: &Recorded, expected: &[[&str; 4]], who: &str) {
    assert_eq!(recorded.status(), agentrec_recorder::source::ExitStatus::Code(0), "{who}");
    let long = format!("<{}>", "x".repeat((1 << 20) - 2));
    let short = |text: &str| text.replace(&long, "<a mebibyte>");
    let seen = seen(recorded);
    let seen: Vec<_> = seen
        .iter()
        .map(|it| [it.began.clone(), short(&it.sent), short(&it.received), it.over.clone()])
        .collect();
    assert_eq!(seen, expected, "{who}");
}

#[test]
fn the_bytes_of_connections_are_whole_however_they_were_moved() {
    let sent = "write.send.sendto.writev.sendmsg.pwritev2.sendmmsg.sendfile.<7>|";
    let taken = "write.send.sendto.writev.sendmsg.pwritev2.sendmmsg.sendfile.splice.|";
    let given = "read.recv.recvfrom.readv.recvmsg.preadv2.gone.recvmmsg.splice.";
    let received = "read.recv.recvfrom.readv.recvmsg.preadv2.<5>recvmmsg.<7>";
    let expected = [
        ["Some(Client) inet", sent, received, "closed"],
        ["Some(Server) inet", given, taken, "closed"],
        ["None unix", "<a mebibyte>", "", "closed"],
        ["None unix", "", "<a mebibyte>", "closed"],
        ["Some(Client) inet", "never read.", "", "reset"],
    ];
    for abi in Abi::all() {
        for user in User::all() {
            let recorded = Recording::tracee("streams").abi(abi).user(user).run();
            compare(&recorded, &expected, &format!("{abi:?} as {user:?}"));
        }
    }
}

#[test]
#[ignore = "needs root"]
fn root_the_bytes_of_connections_are_whole_by_ebpf_or_known_to_be_missing() {
    // What goes in arrays of messages, or from a file, is not copied.
    let sent = "write.send.sendto.writev.sendmsg.pwritev2.<9><9><7>|";
    let taken = "write.send.sendto.writev.sendmsg.pwritev2.sendmmsg.sendfile.splice.|";
    let given = "read.recv.recvfrom.readv.recvmsg.preadv2.gone.recvmmsg.splice.";
    let received = "read.recv.recvfrom.readv.recvmsg.preadv2.<5><9><7>";
    let expected = [
        ["Some(Client) inet", sent, received, "closed"],
        ["Some(Server) inet", given, taken, "closed"],
        ["None unix", "<a mebibyte>", "", "closed"],
        ["None unix", "", "<a mebibyte>", "closed"],
        ["Some(Client) inet", "never read.", "", "reset"],
    ];
    let recorded = Recording::tracee("streams").engine(Engine::Ebpf).run();
    compare(&recorded, &expected, "by eBPF");
}
