//! Real libraries and programs, as far as this machine has them, and files that are made for it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use crate::observation::Direction;

const LIBRARIES: &str = if cfg!(target_arch = "aarch64") {
    "/usr/lib/aarch64-linux-gnu"
} else {
    "/usr/lib/x86_64-linux-gnu"
};

fn in_file(path: impl AsRef<Path>) -> Vec<Function> {
    functions(&File::open(path).unwrap()).unwrap()
}

fn names(found: &[Function]) -> BTreeSet<&'static str> {
    found.iter().map(|function| function.name).collect()
}

/// A program of C, as it is compiled with these options.
fn compiled(dir: &Path, source: &str, options: &[&str]) -> PathBuf {
    let (code, program) = (dir.join("code.c"), dir.join("code"));
    fs::write(&code, source).unwrap();
    let mut compiler = Command::new("cc");
    compiler.arg("-O1").args(options).arg("-o").args([&program, &code]);
    assert!(compiler.status().unwrap().success());
    program
}

#[test]
fn the_system_s_libraries() {
    let openssl = Path::new(LIBRARIES).join("libssl.so.3");
    let found = in_file(&openssl);
    let names = names(&found);
    for name in ["SSL_write", "SSL_read", "SSL_read_ex", "SSL_free"] {
        assert!(names.contains(name), "{names:?}");
    }
    // Which of them there is depends on the version.
    assert!(names.contains("SSL_write_ex") != names.contains("SSL_write_ex2"), "{names:?}");
    assert!(found.iter().all(|function| function.size > 0));
    assert!(!names.contains("SSL_peek"));
}

#[test]
fn gnutls() {
    let path = Path::new(LIBRARIES).join("libgnutls.so.30");
    // Whether it is there is git's business.
    let Ok(file) = File::open(path) else { return };
    let found = functions(&file).unwrap();
    let names = names(&found);
    for name in ["gnutls_record_send2", "gnutls_record_recv", "gnutls_deinit"] {
        assert!(names.contains(name), "{names:?}");
    }
    // It does nothing but to call the one that is newer.
    assert!(!names.contains("gnutls_record_send"));
}

/// Functions as OpenSSL has them, above one that does their work.
#[cfg(target_arch = "x86_64")]
const THIN: &str = "
    int worker(void *s, const void *b, unsigned long n, unsigned long *w);
    __asm__(\".globl worker\\nworker: push %rbx\\n movq %rdx, (%rcx)\\n mov $1, %eax\\n pop %rbx\\n ret\");
    int SSL_write(void *s, const void *b, int n) { unsigned long w; int r = worker(s, b, n, &w); return r > 0 ? (int)w : r; }
    int SSL_write_ex(void *s, const void *b, unsigned long n, unsigned long *w) { int r = worker(HANDED_ON); return r < 0 ? 0 : r; }
    int SSL_free(void *s) { return !s; }
    int main(int c, char **v) { unsigned long w; return SSL_write(v, v, c) + SSL_write_ex(v, v, c, &w) + SSL_free(v); }
";

/// The functions of such a program that are probed instead of those that it has.
#[cfg(target_arch = "x86_64")]
fn entries_of(handed_on: &str, options: &[&str]) -> (Vec<Function>, Vec<Function>) {
    let dir = tempfile::tempdir().unwrap();
    let handed_on = format!("-DHANDED_ON={handed_on}");
    let program =
        compiled(dir.path(), THIN, &[&["-O2", "-fno-inline", &handed_on], options].concat());
    let file = File::open(program).unwrap();
    let found = functions(&file).unwrap();
    let entries = entries(&file, &found).unwrap();
    (found, entries)
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_one_function_that_does_the_work_is_probed() {
    for options in [&[][..], &["-fcf-protection=full"], &["-fstack-protector-all"]] {
        let (found, probed) = entries_of("s,b,n,w", options);
        let writes: Vec<_> = probed.iter().filter(|function| function.name != "SSL_free").collect();
        let [worker] = writes[..] else { panic!("{options:?}: {probed:?}") };
        assert_eq!(
            worker.kind,
            Kind::Transfer { direction: Direction::Write, count: Count::At(3) }
        );
        assert!(found.iter().all(|function| function.address != worker.address), "{found:?}");
        assert_eq!(found.len(), 3);
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn who_changes_what_it_hands_on_is_probed_itself() {
    let (found, probed) = entries_of("s,b,n+1,w", &["-fcf-protection=none"]);
    assert_eq!(probed, found);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_system_s_functions_are_probed_where_they_push() {
    let file = File::open(Path::new(LIBRARIES).join("libssl.so.3")).unwrap();
    for function in entries(&file, &functions(&file).unwrap()).unwrap() {
        let mut code = [0; 2];
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut code, function.offset).unwrap();
        let pushes = matches!(code, [0x50..=0x57, _] | [0x41, 0x50..=0x57]);
        assert!(pushes || function.kind == Kind::Over, "{function:?}: {code:x?}");
    }
}

#[test]
fn an_executable_that_exports_its_own() {
    let node = Path::new("/usr/bin/node");
    if !node.exists() {
        return;
    }
    let names = names(&in_file(node));
    assert!(names.contains("SSL_write") && names.contains("SSL_read"), "{names:?}");
}

#[test]
fn whose_tls_a_program_brings_along() {
    let dir = tempfile::tempdir().unwrap();
    let of = |source: &str| {
        let program = compiled(dir.path(), source, &[]);
        own(&File::open(program).unwrap()).unwrap()
    };
    assert_eq!(of("int main(void) { return 0; }"), None);
    // As Go's linker makes it.
    let go = "__attribute__((section(\".go.buildinfo\"))) char info[] = \"Go\"; int main(void) { return info[0]; }";
    assert_eq!(of(go), Some(Own::Go));
    let path = dir.path().join("program");
    for at in [0, 1, (1 << 20) - 9, (1 << 20) - 3, 1 << 20, (2 << 20) - 8, 3_000_000] {
        let mut content = vec![b'r'; 3_000_000 + 8];
        content[at..at + 8].copy_from_slice(b"rustls::");
        fs::write(&path, &content).unwrap();
        assert_eq!(own(&File::open(&path).unwrap()).unwrap(), Some(Own::Rustls), "{at}");
        content[at + 7] = b'r';
        fs::write(&path, &content).unwrap();
        assert_eq!(own(&File::open(&path).unwrap()).unwrap(), None, "{at}");
    }
    // This one does its own tests by it.
    assert_eq!(own(&File::open("/proc/self/exe").unwrap()).unwrap(), Some(Own::Rustls));
}

const OWN: &str = "
    __attribute__((noinline)) int SSL_write(void *s, const void *b, int n) { __asm__(\"\" ::: \"memory\"); return n + !s + !b; }
    static __attribute__((noinline, used)) int SSL_read(void *s, void *b, int n) { __asm__(\"\" ::: \"memory\"); return n - !s - !b; }
    int SSL_peek(void *s) { return !s; }
    int my_SSL_free(void *s) { return !s; }
    int main(int c, char **v) { return SSL_write(v, v, c) + SSL_read(v, v, c) + SSL_peek(v) + my_SSL_free(v); }
";

#[test]
fn a_table_for_debuggers_and_none() {
    let dir = tempfile::tempdir().unwrap();
    for options in [&["-no-pie"][..], &["-pie"], &["-static-pie"]] {
        let program = compiled(dir.path(), OWN, options);
        let found = in_file(&program);
        assert_eq!(names(&found), BTreeSet::from(["SSL_read", "SSL_write"]), "{options:?}");
        // What stands in the file there is what is executed.
        let bytes = fs::read(&program).unwrap();
        let shown = Command::new("nm").arg(&program).output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        for function in &found {
            let address = format!("{:016x}", function.address);
            assert!(shown.lines().any(|line| {
                line.starts_with(&address) && line.ends_with(&format!(" {}", function.name))
            }));
            assert!(bytes[function.offset as usize..].len() > function.size as usize);
        }
        assert!(Command::new("strip").arg(&program).status().unwrap().success());
        assert!(in_file(&program).is_empty());
    }
}

#[test]
fn who_only_calls_them_has_none() {
    let dir = tempfile::tempdir().unwrap();
    let source = "
        extern int SSL_write(void *, const void *, int);
        int send_it(void *s) { return SSL_write(s, s, 1); }
    ";
    let library = compiled(dir.path(), source, &["-shared", "-fPIC"]);
    assert!(in_file(library).is_empty());
}

#[test]
fn what_is_no_object() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    let program = fs::read(compiled(dir.path(), OWN, &["-pie"])).unwrap();
    for len in (0..program.len()).step_by(97) {
        fs::write(&path, &program[..len]).unwrap();
        let _ = in_file(&path);
    }
    // Any byte of its heads may be wrong.
    for at in (0..64).chain(program.len() - 2048..program.len()) {
        let mut damaged = program.clone();
        damaged[at] ^= 0xff;
        fs::write(&path, damaged).unwrap();
        let _ = in_file(&path);
    }
    assert!(in_file("/etc/passwd").is_empty());
    assert!(in_file("/dev/null").is_empty());
}

#[test]
fn a_file_is_read_once_as_long_as_it_stays() {
    let dir = tempfile::tempdir().unwrap();
    let program = compiled(dir.path(), OWN, &["-pie"]);
    let mut cache = Cache::default();
    let file = File::open(&program).unwrap();
    let first = cache.functions(&file).unwrap();
    assert_eq!(first.len(), 2);
    assert!(std::ptr::eq(&*first, &*cache.functions(&file).unwrap()));
    fs::write(&program, "").unwrap();
    assert!(cache.functions(&file).unwrap().is_empty());
}

/// What Bun's functions do, as far as they are known by it, in a program that is moved and in one that is not.
#[cfg(target_arch = "x86_64")]
const NAMELESS: &str = r#"
    .globl napi_create_function
    .globl main
    .section .rodata
source: .string "vendor/boringssl/ssl/ssl_lib.cc"
other: .string "vendor/boringssl/ssl/ssl_file.cc"
    .macro report name, reason, line
    lea \name(%rip), %rdx
    mov $16, %edi
    mov $\reason, %esi
    mov $\line, %ecx
    call put_error
    .endm
    .macro function name
    .balign 16, 0xcc
    .fill 16, 1, 0xcc
\name: push %rbp
    .endm
    .text
    function put_error
    pop %rbp
    ret
    function main
napi_create_function:
    call put_error
    pop %rbp
    ret
    function new
    report source, 185, 10
    pop %rbp
    ret
    function reader
    report source, 226, 20
    report source, 215, 30
    report source, 182, 40
    pop %rbp
    ret
    function elsewhere
    report source, 66, 41
    pop %rbp
    ret
    function read
    report source, 66, 50
    call reader
    pop %rbp
    ret
    function write
    report source, 66, 60
    report source, 226, 61
    report source, 215, 62
    report source, 111, 63
    pop %rbp
    ret
    function file
    report other, 66, 60
    report other, 226, 61
    report other, 215, 62
    report other, 111, 63
    pop %rbp
    ret
    .balign 16, 0xcc
    .section .note.GNU-stack,"",@progbits
"#;

#[cfg(target_arch = "x86_64")]
#[test]
fn functions_without_names() {
    let dir = tempfile::tempdir().unwrap();
    let moved = NAMELESS.to_owned();
    let fixed = NAMELESS.replace("lea \\name(%rip), %rdx", "mov $\\name, %edx");
    // No room between functions, and what is done after a handshake is another's.
    let tight = NAMELESS
        .replace(".balign 16, 0xcc\n    .fill 16, 1, 0xcc\n", ".balign 16, 0x90\n")
        .replace("\\name: push %rbp", "\\name: push %rbp\n    mov %rsp, %rbp")
        .replace("    report source, 182, 40\n", "");
    // With the argument that nobody uses.
    let whole = NAMELESS
        .replace("lea \\name(%rip), %rdx", "lea \\name(%rip), %rcx")
        .replace("mov $\\reason, %esi", "xor %esi, %esi\n    mov $\\reason, %edx")
        .replace("mov $\\line, %ecx", "mov $\\line, %r8d");
    let whole_and_fixed = whole.replace("lea \\name(%rip), %rcx", "mov $\\name, %ecx");
    assert!(whole_and_fixed.contains("edx") && whole_and_fixed.contains("ecx"));
    assert!(!tight.contains("0xcc\n    .fill") && !tight.contains("182"));
    let peeks = NAMELESS.replace("41\n", "41\n call reader\n");
    for (source, option, expected) in [
        (moved.as_str(), "-pie", 3),
        (&fixed, "-no-pie", 3),
        (&tight, "-pie", 3),
        (&whole, "-pie", 3),
        (&whole_and_fixed, "-no-pie", 3),
        // Which of two it is, is not guessed.
        (&peeks, "-pie", 0),
        (&moved.replace("napi_create", "other_create"), "-pie", 0),
    ] {
        let (code, program) = (dir.path().join("code.s"), dir.path().join("code"));
        fs::write(&code, source).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args([option, "-rdynamic", "-nostartfiles", "-Wl,--no-as-needed,-e,main", "-o"]);
        assert!(compiler.args([&program, &code]).status().unwrap().success());
        let shown = Command::new("nm").arg(&program).output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(Command::new("strip").arg(&program).status().unwrap().success());
        let found = in_file(&program);
        assert_eq!(found.len(), expected, "{option}: {found:?}");
        for function in found {
            let name = function.name.strip_prefix("SSL_").unwrap();
            let line = format!("{:016x} t {name}", function.address);
            assert!(shown.lines().any(|shown| shown == line), "{line}: {shown}");
        }
    }
}

/// Versions of the npm package that were built in different ways.
#[cfg(target_arch = "x86_64")]
#[test]
#[ignore = "downloads 80 MB"]
fn long_bun() {
    for version in ["1.2.20", "1.3.3", "1.4.5"] {
        let dir = tempfile::tempdir().unwrap();
        let package = format!("@oven/bun-linux-x64@{version}");
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-save", "--prefix"]).arg(dir.path()).arg(package);
        assert!(npm.status().unwrap().success());
        let found = in_file(dir.path().join("node_modules/@oven/bun-linux-x64/bin/bun"));
        assert_eq!(names(&found), BTreeSet::from(["SSL_new", "SSL_read", "SSL_write"]));
    }
}
