//! Starting and ending: vfork, threads, many processes, cores, and the programs that start others.

use crate::harness::{Battery, compiled};

#[test]
fn processes_are_started_in_every_way() {
    let seen = Battery::new().same_program("forks", &["5000"]);
    assert!(seen.stdout.ends_with("5000 processes, sum 497500\n"), "{seen:#?}");
}

#[test]
fn threads_and_an_exec_by_one_that_is_not_the_leader() {
    let program = compiled("threads", &[]);
    let seen = Battery::new().same(21, &[program.as_os_str()]);
    assert!(seen.stdout.contains("opened 1000, sum 1000\n"), "{seen:#?}");
    assert!(seen.stdout.contains("same process 1, leader 1, USR2 blocked 1\n"), "{seen:#?}");
}

#[test]
fn cores_are_dumped() {
    let program = compiled("cores", &[]);
    let battery = Battery::new();
    battery.same(0, &[program.as_os_str(), "none".as_ref()]);
    // Addresses and times are in there: only what is planted is compared.
    let mut plain = battery.plain(&[&program]);
    let mut recorded = battery.recorded(&[&program]);
    assert_eq!(plain.stdout, recorded.stdout);
    assert_eq!(plain.files.keys().collect::<Vec<_>>(), recorded.files.keys().collect::<Vec<_>>());
    for seen in [&mut plain, &mut recorded] {
        for (_, core) in seen.files.values() {
            assert!(core.starts_with(b"\x7fELF"), "a core");
            assert!(core.windows(17).any(|bytes| bytes == b"Planted in memory"));
        }
    }
    assert_eq!(sizes(&plain), sizes(&recorded));
}

/// In units of 64 KiB: stacks are as long as the environment.
fn sizes(seen: &crate::harness::Seen) -> Vec<usize> {
    seen.files.values().map(|(_, content)| content.len() >> 16).collect()
}

#[test]
fn a_core_of_the_command_itself() {
    for script in ["ulimit -c 0; kill -ABRT $$", "ulimit -c 0; bash -c 'kill -QUIT $$'; echo $?"] {
        let code = if script.ends_with("$?") { 0 } else { 134 };
        Battery::new().same_script(code, script);
    }
}

#[test]
fn timeout_setsid_and_nohup() {
    let battery = Battery::new();
    battery.same_script(124, "timeout 0.3 sleep 100");
    battery.same_script(137, "timeout -s KILL 0.3 sleep 100");
    battery.same_script(3, "timeout 100 sh -c 'exit 3'");
    let ignores =
        "timeout -k 0.3 0.3 bash -c 'trap \"\" TERM; while :; do read -t 1 < <(sleep 1); done'";
    // The shell tells of it with a process id.
    battery.same_script(137, &format!("{{ {ignores}; }} 2> /dev/null; exit $?"));
    battery.same_script(0, "timeout --foreground 100 true && timeout --preserve-status 100 true");
    let leader = "setsid -w bash -c '[ $(ps -o sid= -p $$) -eq $$ ] && echo leader; exit 5'; echo $?; \
                  setsid bash -c 'sleep 0.1; echo late > file'; while [ ! -s file ]; do :; done";
    battery.same_script(0, leader);
    let seen = battery.same_script(
        0,
        "nohup bash -c 'kill -HUP $$; echo alive' < /dev/null; nohup true > /dev/null; \
         nohup /nonexistent; echo $?",
    );
    assert!(seen.stdout.contains("alive"), "{seen:#?}");
}

#[test]
fn a_process_that_outlives_the_command_keeps_working() {
    // The pipe is the descendant's too: both runs end with it.
    let script = "(trap '' HUP; sleep 0.5; echo late > file; cat file; rm file) & exit 6";
    let seen = Battery::new().same_script(6, script);
    assert_eq!(seen.stdout, "late\n");
}

#[test]
fn pipelines_of_programs() {
    Battery::new().same_script(
        0,
        "set -o pipefail; seq 20000 | sort -R --random-source=/dev/zero | sort -n | md5sum; \
         yes | head -n 100000 | wc -c; echo ${PIPESTATUS[@]}; \
         dd if=/dev/zero bs=64k count=100 status=none | tee copy | md5sum; cmp copy <(head -c 6553600 /dev/zero); \
         find / -xdev -maxdepth 2 -path /proc -prune -o -path /tmp -prune -o -name 'b*' -print 2>/dev/null | sort; \
         tar c copy | tar t; coproc cat; echo x >&${COPROC[1]}; read y <&${COPROC[0]}; echo $y",
    );
}
