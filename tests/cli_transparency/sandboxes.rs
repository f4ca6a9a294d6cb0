//! Programs that fence themselves in: seccomp filters, namespaces, memory that is nobody's business; and process 1.

use std::process::Command;

use crate::harness::{Battery, compiled};

#[test]
fn filters_of_the_program_answer_as_without_us() {
    let seen = Battery::new().same_program("filters", &[]);
    assert!(seen.stdout.ends_with("done\n"), "{seen:#?}");
}

#[test]
fn strict_mode_is_refused() {
    // The kernel has no way from filters, of which the recorder has one, to the strict mode of old (kernel/seccomp.c,
    // seccomp_may_assign_mode): a difference that the README names.
    let program = compiled("filters", &[]);
    let argv = [program.as_os_str(), "strict".as_ref()];
    let battery = Battery::new();
    let plain = battery.plain(&argv);
    assert_eq!(plain.stdout.matches("strict\nstrict: ended with 6\n").count(), 1, "{plain:#?}");
    let recorded = battery.recorded(&argv);
    assert_eq!(recorded.stderr.matches("Invalid argument").count(), 2, "{recorded:#?}");
}

#[test]
fn programs_that_are_not_dumpable() {
    Battery::new().same_program("dumpable", &[]);
}

#[test]
fn new_namespaces() {
    let inside = "id -u; hostname inside; hostname; echo $$; mount -t tmpfs none /mnt; touch /mnt/x; ls /mnt; ps ax -o pid,comm; \
                  (sleep 0.1; exit 7) & wait; echo $?; cat /proc/self/uid_map; ip link 2>/dev/null | grep -c lo; kill -TERM $$; exit 5";
    for flags in ["-Urmpfu --mount-proc", "-Urmu", "-Ur --map-auto", "-cn"] {
        let battery = Battery::new();
        let script = match flags {
            "-Urmpfu --mount-proc" => format!("unshare {flags} bash -c '{inside}'"),
            _ => format!(
                "unshare {flags} bash -c 'id -u; cat /proc/self/uid_map; exit 5' 2>&1 | sed s/[0-9]*://"
            ),
        };
        let plain = battery.plain(&["bash", "-c", &script]);
        battery.same_script(plain.code, &script);
    }
}

/// In a container of its own, as its process 1.
fn contained() -> Battery {
    Battery::new().started_by(|command| {
        let mut container = Command::new("unshare");
        container.args([
            "--user",
            "--map-root-user",
            "--mount",
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child",
        ]);
        container.arg(command.get_program()).args(command.get_args()).env_clear();
        container.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        container.current_dir(command.get_current_dir().expect("one is set"));
        container
    })
}

#[test]
fn inside_of_a_container_as_its_process_1() {
    let battery = contained();
    battery.same_script(3, "echo words; ls -A; touch file; exit 3");
    battery.same_script(7, "trap 'exit 7' TERM; kill -TERM $$; sleep 100");
    // Orphans are reaped: none is left as a zombie.
    battery.same_script(
        6,
        "for i in 1 2 3; do (setsid true &); done; sleep 0.2; \
         while grep -q 'State:.Z' /proc/[0-9]*/status 2>/dev/null; do :; done; exit 6",
    );
}
