//! No event type of the engine without a test that provokes it.

use agentrec_trace::event::EVENT_TYPES;

const DESCRIPTORS: &str = include_str!("descriptors.rs");
const FILES: &str = include_str!("files.rs");
const MOUNTS: &str = include_str!("mounts.rs");
const PROCESSES: &str = include_str!("processes.rs");
const SOCKETS: &str = include_str!("sockets.rs");
const TERMINAL: &str = include_str!("terminal.rs");
const ATTACHED: &str = include_str!("../session/attached.rs");
const KEPT: &str = include_str!("../../../tests/cli_kept.rs");

/// Event type, a test that provokes it, where that is, and what it says of it there.
const EVENTS: &[(&str, &str, &str, &str)] = &[
    ("process.fork", "every_way_to_start_a_process", PROCESSES, " fork p"),
    ("process.exec", "executes_by_name_script_and_descriptor", PROCESSES, " exec "),
    ("process.exit", "every_way_to_end", PROCESSES, " killed by "),
    ("file.open", "opens_in_every_way", FILES, " open "),
    ("file.close", "sums_the_bytes_of_every_transfer", FILES, " close "),
    ("file.rename", "renames_move_what_is_below", FILES, " rename "),
    ("file.unlink", "makes_and_removes", FILES, " unlink "),
    ("file.mkdir", "makes_and_removes", FILES, " mkdir "),
    ("file.rmdir", "makes_and_removes", FILES, " rmdir "),
    ("file.mknod", "makes_and_removes", FILES, " mknod "),
    ("file.link", "links", FILES, " link "),
    ("file.symlink", "links", FILES, " symlink "),
    ("file.truncate", "changes_attributes", FILES, " truncate "),
    ("file.chmod", "changes_attributes", FILES, " chmod "),
    ("file.chown", "changes_attributes", FILES, " chown "),
    ("file.utime", "changes_attributes", FILES, " utime "),
    ("file.xattr", "changes_attributes", FILES, " xattr "),
    ("file.mmap", "maps_shared_and_writable", FILES, " mmap "),
    ("file.clone", "clones_contents", FILES, " clone "),
    ("file.kept", "real_programs_lose_nothing_outside_the_tree", KEPT, "\"file.kept\""),
    ("mount", "mounts_in_every_way", MOUNTS, " mount "),
    ("dir.change", "changes_directory", FILES, " chdir "),
    (
        "fd.initial",
        "everything_of_a_running_process_is_seen_and_it_goes_on_afterwards",
        ATTACHED,
        "Data::FdInitial(",
    ),
    ("net.connect", "sums_the_bytes_of_tcp_and_udp", SOCKETS, " connect "),
    ("net.listen", "servers_listen_accept_and_share", SOCKETS, " listen "),
    ("net.accept", "servers_listen_accept_and_share", SOCKETS, " accept "),
    ("net.shutdown", "servers_listen_accept_and_share", SOCKETS, " shutdown "),
    ("net.close", "sums_the_bytes_of_tcp_and_udp", SOCKETS, " net.close "),
    ("term.output", "outputs_are_kept_whole_and_by_where_they_go", DESCRIPTORS, " output "),
    ("term.input", "what_is_typed_is_kept_unless_the_terminal_hides_it", TERMINAL, " input "),
    ("term.resize", "what_is_typed_is_kept_unless_the_terminal_hides_it", TERMINAL, " resize "),
];

/// What the engines tell of.
const CLASSES: &[&str] = &["process.", "file.", "mount", "dir.", "fd.", "net.", "term."];

/// Of connections whose traffic is looked at, which is not the engine's.
const NOT_OF_THE_ENGINE: &[&str] = &["net.opaque"];

#[test]
fn every_event_type_is_provoked_by_a_test() {
    let types = EVENT_TYPES.iter().map(|event| event.name);
    let ours = types.filter(|name| CLASSES.iter().any(|class| name.starts_with(class)));
    let ours: Vec<_> = ours.filter(|name| !NOT_OF_THE_ENGINE.contains(name)).collect();
    let listed: Vec<_> = EVENTS.iter().map(|(name, ..)| *name).collect();
    let without: Vec<_> = ours.iter().filter(|name| !listed.contains(name)).collect();
    assert!(without.is_empty(), "no test provokes {without:?}");
    let unknown: Vec<_> = listed.iter().filter(|name| !ours.contains(name)).collect();
    assert!(unknown.is_empty(), "no event types: {unknown:?}");
    for (name, test, file, said) in EVENTS {
        let (_, rest) = file
            .split_once(&format!("#[test]\nfn {test}("))
            .unwrap_or_else(|| panic!("{name}: there is no test {test}"));
        // With what it calls, which follows it.
        let body = rest.split("#[test]").next().unwrap_or(rest);
        assert!(body.contains(said), "{test} says nothing of {name}");
    }
}
