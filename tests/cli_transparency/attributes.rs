//! What a program can ask of itself: descriptors, environment, limits, processors, and what /proc says.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use crate::harness::{Battery, compiled};

/// What /proc/self/status may say otherwise; the README names the first four.
const STATUS_DIFFERS: &str = "TracerPid|Seccomp|Seccomp_filters|NoNewPrivs|\
    Pid|PPid|Tgid|Ngid|NStgid|NSpid|NSpgid|NSsid|Vm[A-Za-z]*|Rss[A-Za-z]*|\
    voluntary_ctxt_switches|nonvoluntary_ctxt_switches|SigQ|FDSize";

/// The same program, started with odd attributes.
fn odd(words: &'static str) -> Battery {
    Battery::new().started_by(move |command| {
        let mut shell = Command::new("bash");
        shell.args(["-c", &format!("{words} \"$@\""), "x"]);
        shell.arg(command.get_program()).args(command.get_args()).env_clear();
        shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.current_dir(command.get_current_dir().expect("one is set")).stdin(Stdio::null());
        shell
    })
}

#[test]
fn the_environment_has_the_documented_variables_more() {
    let battery = Battery::new();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let plain = lines(&battery.plain(&["env"]).stdout);
    let recorded = lines(&battery.recorded(&["env"]).stdout);
    assert!(recorded.is_superset(&plain), "{plain:?} {recorded:?}");
    let names = recorded.difference(&plain).filter_map(|line| line.split('=').next());
    let names: Vec<_> = names.collect();
    assert_eq!(names, ["AGENTREC_FD", "AGENTREC_SESSION", "AGENTREC_SOCKET"]);
}

#[test]
fn proc_says_the_same() {
    let script = format!(
        "sed -E '/^({STATUS_DIFFERS}):/d' /proc/self/status
        cat /proc/self/limits /proc/self/cgroup /proc/self/uid_map /proc/self/coredump_filter \
            /proc/self/oom_score_adj /proc/self/personality /proc/self/timerslack_ns /proc/self/mountinfo
        readlink /proc/self/cwd /proc/self/root /proc/self/exe /proc/self/ns/*
        umask; nice; ulimit -a; ulimit -Ha; tty; chrt -p $BASHPID | sed 's/pid .*:/:/'
        for fd in /proc/self/fd/*; do echo ${{fd##*/}}; done; readlink /proc/self/fd/0"
    );
    for words in
        ["exec", "ulimit -n 300 -s 16384 -c 0; umask 027; exec nice -n 5", "exec taskset 1"]
    {
        let seen = odd(words).same_script(0, &script);
        assert!(seen.stdout.contains("Max open files"), "{seen:#?}");
    }
}

#[test]
#[ignore = "needs root"]
fn root_real_time_scheduling_and_rights_are_kept() {
    let script = "chrt -p $BASHPID | sed 's/pid .*:/:/'; ionice; nice; cat /proc/self/oom_score_adj; \
                  grep -E '^(Cap|Seccomp|NoNew)' /proc/self/status | grep -v Seccomp";
    for words in [
        "exec chrt -f 10",
        "exec chrt -b 0",
        "exec ionice -c 3 nice -n -5",
        "echo -500 > /proc/self/oom_score_adj; exec",
        "exec setpriv --bounding-set=-sys_time --inh-caps=-all",
    ] {
        odd(words).same_script(0, script);
    }
}

#[test]
fn a_program_always_sees_its_own_processors() {
    let seen = Battery::new().same_program("affinity", &["60"]);
    assert!(seen.stdout.ends_with("done\n"), "{seen:#?}");
    // One that may use only one.
    let program = compiled("affinity", &[]);
    let seen = odd("exec taskset -c 0").same(0, &[program.as_os_str(), "20".as_ref()]);
    assert!(seen.stdout.starts_with("1 processors"), "{seen:#?}");
    let script = "for i in {1..40}; do for j in {1..20}; do : < /dev/null; done; nproc; taskset -p $$ | sed 's/.*: //'; \
                  grep Cpus_allowed: /proc/self/status; done | uniq -c";
    Battery::new().same_script(0, script);
}

#[test]
fn few_descriptors_little_memory_and_small_files_are_the_commands_limits_not_ours() {
    let script = "for i in {1..200}; do echo $i > file; done; ulimit -S -a; cat file";
    for words in [
        "ulimit -S -n 40; exec",
        "ulimit -S -f 4; exec",
        "ulimit -S -t 100; exec",
        "ulimit -S -v 400000; exec",
    ] {
        odd(words).same_script(0, script);
    }
}
