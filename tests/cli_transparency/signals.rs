//! Signals: their order, their payload, what they interrupt, and what parents hear of their children.

use crate::harness::{Battery, compiled};

/// The last line of a program that got through.
fn done(stdout: &str) {
    assert!(stdout.ends_with("done\n"), "{stdout}");
}

#[test]
fn handlers_run_in_order_with_sender_payload_and_stack() {
    done(&Battery::new().same_program("handlers", &[]).stdout);
}

#[test]
fn calls_are_interrupted_and_restarted() {
    done(&Battery::new().same_program("restarts", &[]).stdout);
}

#[test]
fn parents_hear_of_ends_stops_and_continuations() {
    done(&Battery::new().same_program("children", &[]).stdout);
}

#[test]
fn a_shell_that_stops_itself_and_its_jobs() {
    // bash warns of a job that stopped before it is waited for, so each is looked at until it has; and it tells of the stop
    // once some other child of it has ended, before or after that warning where there is none.
    let script = r#"
        set -m
        bash -c 'kill -STOP $$; echo on; exit 4' & until [ -n "$(jobs -s)" ]; do :; done; env true; wait %1
        jobs -s | grep -c Stopped
        kill -CONT %1; wait %1; echo "ended with $?"
        sleep 100 & kill -STOP %1; until [ -n "$(jobs -s)" ]; do :; done; env true; wait %1; jobs %1; kill %1; kill -CONT %1 2>/dev/null; wait %1; echo "ended with $?"
        trap 'echo usr1' USR1; kill -USR1 $$;
        bash -c 'trap "" TERM; kill -TERM $$; echo ignored'
        bash -c 'trap "echo int; exit 3" INT; kill -INT $$'; echo "ended with $?"
        kill -SEGV $BASHPID"#;
    Battery::new().same_script(139, script);
}

#[test]
fn a_signal_with_payload_reaches_the_command() {
    // `agentrec` stands between the two: it hands on the value and the sender.
    let sender = r#"
import ctypes, os, subprocess, sys
libc = ctypes.CDLL(None)
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, text=True)
print(child.stdout.readline().strip())
for value in 5, 6, 7:
    libc.sigqueue(child.pid, 40, ctypes.c_void_p(value))
said = child.stdout.read()
print(said.replace(str(os.getpid()), "the sender"))
sys.exit(child.wait())"#;
    let receiver = r#"
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [40])
print("ready", flush=True)
for _ in range(3):
    info = signal.sigwaitinfo([40])
    print(info.si_signo, info.si_code, info.si_pid)"#;
    let seen = under(sender).same(0, &["python3", "-c", receiver]);
    assert!(seen.stdout.contains("40 -1 the sender"), "{seen:#?}");
}

#[test]
fn a_handler_sees_who_sent_a_signal_through_us() {
    let sender = r#"
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, text=True)
print(child.stdout.readline().strip())
os.kill(child.pid, 10)
print(child.stdout.read().replace(str(os.getpid()), "the sender"))
sys.exit(child.wait())"#;
    let receiver = compiled("sender", &[]);
    let seen = under(sender).same(0, &[receiver]);
    assert!(seen.stdout.contains("signal 10 code 0 errno 0 from the sender"), "{seen:#?}");
}

#[test]
fn stops_and_continuations_from_outside() {
    // The command says its process id; whoever started it hears of what is sent to that.
    let sender = r#"
import os, signal, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
pid = int(child.stdout.readline())
def heard(flags):
    status = os.waitpid(child.pid, flags)[1]
    print("stopped by", os.WSTOPSIG(status)) if os.WIFSTOPPED(status) else print("continues", os.WIFCONTINUED(status))
for stop in signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTOU:
    os.kill(pid, stop)
    heard(os.WUNTRACED)
    # What waits for it is there when it goes on.
    child.stdin.write(f"{stop}\n")
    child.stdin.flush()
    os.kill(pid, signal.SIGCONT)
    heard(os.WCONTINUED)
    print(child.stdout.readline().strip())
os.kill(pid, signal.SIGSTOP)
heard(os.WUNTRACED)
os.kill(pid, signal.SIGTERM)
os.kill(pid, signal.SIGCONT)
sys.exit(child.wait() % 256)"#;
    let seen = under(sender).same(9, &[compiled("lines", &[])]);
    assert_eq!(seen.stdout.matches("stopped by").count(), 4, "{seen:#?}");
    assert_eq!(seen.stdout.matches("got").count(), 3, "{seen:#?}");
}

/// Started by this Python program, which finds the command in its arguments.
fn under(starter: &'static str) -> Battery {
    Battery::new().started_by(move |command| {
        let mut python = std::process::Command::new("python3");
        python.args(["-c", starter]).arg(command.get_program()).args(command.get_args());
        python.env_clear().stdin(std::process::Stdio::null());
        python.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        python.current_dir(command.get_current_dir().expect("one is set"));
        python
    })
}

#[test]
fn a_timer_that_was_set_before_the_exec() {
    // setitimer(2): timers survive an exec. The command's handler is not the one who set it.
    let battery = under(
        "import os, signal, sys; signal.setitimer(signal.ITIMER_REAL, 1.5); \
         os.execvp(sys.argv[1], sys.argv[1:])",
    );
    battery.same_script(7, "trap 'echo alarm; kill $!; exit 7' ALRM; sleep 100 & wait");
    battery.same_script(142, "exec sleep 100");
}
