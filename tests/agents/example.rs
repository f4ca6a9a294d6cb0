//! The example agent, as the README has a newcomer run it: recorded with the SDK, shown, resumed.

use std::fs;
use std::path::Path;
use std::process::Command;

use agentrec_trace::{Data, Reader};

use crate::sandbox::{Sandbox, checkout, python, succeed};

fn shop(work: &Path) {
    for name in ["cart.py", "test_cart.py"] {
        fs::copy(checkout("examples/shop").join(name), work.join(name)).unwrap();
    }
}

fn with_agent(sandbox: &Sandbox, args: &[&str]) -> Command {
    let mut command = sandbox.agentrec(args);
    command.arg("--").arg(python()).arg(checkout("examples/agent.py"));
    command
}

#[test]
fn the_example_tells_what_it_says_and_goes_on_from_a_snapshot() {
    let sandbox = Sandbox::new();
    let work = sandbox.work();
    shop(&work);
    let first = sandbox.path("first.zst");
    let run = ["run", "--with-sdk", "-o", first.to_str().unwrap()];
    let output = succeed(&mut with_agent(&sandbox, &run));
    assert!(String::from_utf8_lossy(&output.stdout).contains("Done: all tests pass."));
    let fixed = fs::read_to_string(work.join("cart.py")).unwrap();
    assert!(fixed.contains(">= FREE_SHIPPING_FROM"));

    let trace = Reader::open(&first).unwrap();
    let (mut messages, mut calls, mut results, mut snapshots) = (vec![], vec![], vec![], vec![]);
    for event in trace.iter() {
        match event.unwrap().data {
            Data::Message(message) => messages.push(message.role.into_owned()),
            Data::ToolCall(call) => calls.push((call.id.into_owned(), call.name.into_owned())),
            Data::ToolResult(result) => results.push(result.id.into_owned()),
            Data::SnapshotCreated(snapshot) => snapshots.push(snapshot.trigger.into_owned()),
            Data::Lost(lost) => panic!("nothing was lost: {lost:?}"),
            _ => {}
        }
    }
    assert_eq!(
        messages,
        ["system", "user", "assistant", "assistant", "assistant", "assistant", "assistant"]
    );
    let (ids, names): (Vec<_>, Vec<_>) = calls.into_iter().unzip();
    assert_eq!(names, ["shell", "read_file", "write_file", "shell"]);
    assert_eq!(ids, results);
    // Before each request, and when the agent itself asks for one.
    let expected = ["request", "sdk"].repeat(5);
    assert_eq!(snapshots, [&["start"], &expected[..], &["end"]].concat());

    // Back to where the tests had failed and nothing was changed yet, with another wish.
    let (second, copy) = (sandbox.path("second.zst"), sandbox.path("copy"));
    let resume = [
        "resume",
        first.to_str().unwrap(),
        "--snapshot",
        "3",
        "--prompt",
        "The code is right. Correct the test.",
        "--with-sdk",
        "--dir",
        copy.to_str().unwrap(),
        "-o",
        second.to_str().unwrap(),
    ];
    let output = succeed(&mut sandbox.agentrec(resume));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("(resumed with 4 messages)"), "{said}");
    assert!(said.contains("You now say: \"The code is right. Correct the test.\""), "{said}");
    assert!(said.contains("Done: the test now says what the code does."), "{said}");
    assert!(fs::read_to_string(copy.join("cart.py")).unwrap().contains("> FREE_SHIPPING_FROM"));
    assert!(fs::read_to_string(copy.join("test_cart.py")).unwrap().contains("free_above_fifty"));
    assert_eq!(fs::read_to_string(work.join("cart.py")).unwrap(), fixed, "the original stays");
}

#[test]
fn the_example_runs_alike_without_a_recorder() {
    let sandbox = Sandbox::new();
    let work = sandbox.work();
    shop(&work);
    let mut command = Command::new(python());
    command.arg(checkout("examples/agent.py")).current_dir(&work).env_clear();
    command.env("PATH", "/usr/bin:/bin").env("PYTHONDONTWRITEBYTECODE", "1");
    let output = succeed(&mut command);
    assert!(String::from_utf8_lossy(&output.stdout).contains("Done: all tests pass."));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
