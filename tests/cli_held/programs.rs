//! Five real programs, each recorded by either engine and run under strace: the same deeds.

/// Both engines, for each program.
macro_rules! held_against_strace {
    ($($name:ident, $by_ebpf:ident;)*) => {$(
        #[test]
        fn $name() {
            stages::$name().hold_against_strace();
        }

        #[test]
        #[ignore = "needs root"]
        fn $by_ebpf() {
            stages::$name().by("ebpf").hold_against_strace();
        }
    )*};
}

held_against_strace! {
    git_clone, root_ebpf_git_clone;
    python_venv, root_ebpf_python_venv;
    make_j4, root_ebpf_make_j4;
    tar_x, root_ebpf_tar_x;
    sqlite3_session, root_ebpf_sqlite3_session;
}

mod stages {
    use std::path::Path;

    use super::super::stage::{Stage, must_run, write};

    pub fn git_clone() -> Stage {
        fn prepare(work: &Path) {
            let git = |args: &[&str]| {
                let who =
                    ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"];
                must_run(work, "git", &[&who[..], &["-C", "source"], args].concat());
            };
            std::fs::create_dir(work.join("source")).expect("a directory of ours");
            git(&["init", "-q"]);
            for round in 0..3 {
                for number in 0..20 {
                    let content = format!("file {number} of round {round}\n").repeat(number + 1);
                    write(work, &format!("source/d{}/f{number}", number % 4), content);
                }
                git(&["add", "."]);
                git(&["commit", "-q", "-m", "a round", "--date", "2026-01-01T00:00:00Z"]);
            }
            git(&["tag", "one", "HEAD~1"]);
        }
        // Once by hard links, once as from another machine: unpacked by threads.
        // Files as old as the index, by a clock that ticks seldom, are read by git (racy-git), others are not: so all are
        // given another time, and read.
        let clone = "git clone -q source near && git clone -q file://$PWD/source far && \
                     touch -d @1 far/d*/* && git -C far status -s";
        Stage::new(prepare, &["sh", "-c", clone])
    }

    pub fn python_venv() -> Stage {
        Stage::new(|_| (), &["python3", "-m", "venv", "env"])
    }

    pub fn make_j4() -> Stage {
        fn prepare(work: &Path) {
            const FILES: usize = 8;
            let each = |f: &dyn Fn(usize) -> String| (0..FILES).map(f).collect::<String>();
            for number in 0..FILES {
                let code = format!(
                    "#include <stdio.h>\nint f{number}(void) {{ return printf(\"{number}\"); }}\n"
                );
                write(work, &format!("f{number}.c"), code);
            }
            let calls = each(&|number| format!("int f{number}(void);\n"));
            let sum = each(&|number| format!(" + f{number}()"));
            write(work, "main.c", format!("{calls}int main(void) {{ return 0{sum} < 0; }}\n"));
            let objects = each(&|number| format!(" f{number}.o"));
            write(
                work,
                "Makefile",
                format!("all: main\n\t./main\nmain: main.o{objects}\n\tcc -o $@ $^\n"),
            );
        }
        Stage::new(prepare, &["make", "-j4"])
    }

    pub fn tar_x() -> Stage {
        fn prepare(work: &Path) {
            for number in 0..200 {
                write(work, &format!("tree/d{}/f{number}", number % 10), "x".repeat(number * 100));
            }
            std::os::unix::fs::symlink("d1/f1", work.join("tree/link")).expect("a link of ours");
            std::fs::hard_link(work.join("tree/d1/f1"), work.join("tree/hard"))
                .expect("a link of ours");
            must_run(work, "tar", &["czf", "tree.tgz", "--mtime=2026-01-01", "tree"]);
            std::fs::remove_dir_all(work.join("tree")).expect("a directory of ours");
        }
        Stage::new(prepare, &["tar", "xzf", "tree.tgz"])
    }

    pub fn sqlite3_session() -> Stage {
        fn prepare(work: &Path) {
            let rows: String = (0..500)
                .map(|row| format!("INSERT INTO t VALUES ({row}, '{}');\n", "x".repeat(row)))
                .collect();
            let sql = format!(
                "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT);\nBEGIN;\n{rows}COMMIT;\n\
                 DELETE FROM t WHERE a % 2;\nVACUUM;\nPRAGMA journal_mode=WAL;\n\
                 CREATE INDEX i ON t (b);\nUPDATE t SET b = 'y' WHERE a > 400;\n\
                 PRAGMA wal_checkpoint(TRUNCATE);\nSELECT count(*) FROM t;\n"
            );
            write(work, "session.sql", sql);
        }
        Stage::new(prepare, &["sqlite3", "data.db", ".read session.sql"])
    }
}
