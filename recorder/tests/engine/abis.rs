//! Programs of other ABIs than the tracer's own, on x86-64. (`expect` runs the other tests' tracees as i386 too.)
#![cfg(target_arch = "x86_64")]

use std::path::Path;

use agentrec_recorder::source::ExitStatus;

use super::harness::{Abi, Recording, User, copy_tracee, expect_for};

#[test]
fn thirty_two_bit_programs_can_be_compiled() {
    assert!(
        Abi::can_compile_i386(),
        "`cc -m32 -static` makes no program that runs here, so nothing is tested with 32-bit programs \
         (on Debian: apt install gcc-multilib)"
    );
}

#[test]
fn calls_that_only_32_bit_programs_make() {
    if !Abi::can_compile_i386() {
        return;
    }
    let expected = [
        "p1 open file rw|creat 600 = 3 created",
        "p1 truncate file 4294971392",
        "p1 truncate file 8192",
        "p1 truncate file 18446744073709551615 EINVAL",
        "p1 chown file set:-",
        "p1 chown file -:set",
        "p1 chown file set:set",
        "p1 chown file -:set",
        "p1 utime file 5000000000000000007 -",
        "p1 utime file -1999995000 -1000000000",
        "p1 mmap file 4096+4096",
        "p1 output 1 \"456\"",
        "p1 close file r3 w10",
        "p1 mknod socket 140777",
        "p1 listen 3 unix socket",
        "p1 connect 4 unix socket to p1",
        "p1 accept 5 unix to p1 through unix listener",
        "p1 net.close unix connection s21 r35",
        "p1 unshare 0x10020000",
        "p1 umount file 0x0 EINVAL",
        "p1 close pipe r0 w3",
        "p1 net.close unix listener s0 r0",
        "p1 net.close accepted unix s35 r21",
    ];
    expect_for(Abi::I386, "i386", |_| (), &expected);
}

#[test]
fn thirty_two_bit_calls_of_64_bit_code() {
    let expected = [
        "p1 open file w|creat 600 = 3 created",
        "p1 output 1 \"filfi\"",
        "p1 fork p2 0x0",
        "p2 exit 0",
        "p1 fork p3 0x800211",
        "p3 open seen w|creat 600 = 4 created",
        "p3 close seen r0 w0",
        "p3 exit 0",
        "p1 exec none [tracee again] [] ENOENT",
        "p1 exec tracee [tracee again] [-PATH]",
        "p1 close pipe r0 w5",
        "p1 close file r0 w10",
    ];
    expect_for(Abi::Native, "int80", |_| (), &expected);
}

#[test]
fn x32_calls() {
    for user in User::all() {
        let lines = Recording::tracee("x32").user(user).run().lines();
        const LOST: &str = "p1 lost process: the process made system calls of another \
                            architecture, which are not decoded";
        let lacking = [
            "p1 exec tracee [tracee] []",
            "p1 open file w|creat 600 ENOSYS",
            "p1 exec none [file] [] ENOSYS",
            LOST,
            "p1 exit 0",
        ];
        let there = [
            "p1 exec tracee [tracee] []",
            "p1 open file w|creat 600 = 3 created",
            "p1 exec none [file] [] ENOENT",
            LOST,
            "p1 close file r0 w0",
            "p1 exit 0",
        ];
        assert!(lines == lacking || lines == there, "as {user:?}: {lines:#?}");
    }
}

#[test]
fn programs_of_either_kind_execute_the_other() {
    if !Abi::can_compile_i386() {
        return;
    }
    let prepare = |dir: &Path| {
        copy_tracee(Abi::Native, "relay", &dir.join("relay64"));
        copy_tracee(Abi::I386, "relay", &dir.join("relay32"));
    };
    for user in User::all() {
        let args = ["relay32", "relay64", "relay32", "relay32"];
        let recorded = Recording::tracee("relay").args(args).with(prepare).user(user).run();
        assert_eq!(recorded.status(), ExitStatus::Code(0), "{:#?}", recorded.lines());
        let mut expected =
            vec!["p1 exec tracee [tracee relay32 relay64 relay32 relay32] []".into()];
        let mut line = |line: String| expected.push(line);
        let argv = ["tracee", "relay32", "relay64", "relay32", "relay32"];
        for at in 0..argv.len() {
            let (left, rest) = (argv.len() - at, argv[at..].join(" "));
            if at > 0 {
                let env = if at == 1 { "-PATH" } else { "" };
                line(format!("p1 exec {} [{rest}] [{env}]", argv[at]));
            }
            line(format!("p1 open file{left} w|creat|append 600 = {} created", at + 3));
            line(format!("p1 mkdir {left} 700"));
            line(format!("p1 chdir {left}"));
            line("p1 chdir .".into());
            if left > 1 {
                line(format!("p1 fork p{} 0x4100", at + 2));
                line(format!("p{} exec none [{rest}] [] ENOENT", at + 2));
                line(format!("p{} exit 0", at + 2));
            }
        }
        for left in (1..=argv.len()).rev() {
            line(format!("p1 close file{left} r0 w{}", 5 * left));
        }
        line("p1 exit 0".into());
        assert_eq!(recorded.lines(), expected);
    }
}
