//! Lines of strace(1) as written by `strace -f -q -y -xx -o FILE`: whole calls with their arguments as text.
//!
//! `-xx` writes every string and every name of a descriptor in hexadecimal, so that quotes, commas and brackets in
//! them can't be mistaken for strace's own.

use std::collections::HashMap;

/// What one thread did.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Thread.
    pub tid: u32,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq)]
pub enum What {
    Call(Call),
    /// `+++ exited with N +++`
    Exited(i32),
    /// `+++ killed by SIGNAL +++`
    Killed(String),
}

/// A call that came back.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub name: String,
    pub args: Vec<String>,
    pub result: Result<i64, String>,
    /// What the descriptor that it gave names.
    pub names: Option<Vec<u8>>,
}

/// All that is in `text`, calls where they end. A call that never came back (its thread ended in it, or the kernel
/// starts it again, which strace shows as another) is not there.
///
/// # Panics
/// On a line that is none of strace's.
pub fn parse(text: &str) -> Vec<Line> {
    let mut begun: HashMap<u32, String> = HashMap::new();
    let mut lines = Vec::new();
    for line in text.lines() {
        let (tid, rest) = line.split_once(' ').expect("a thread id");
        let tid: u32 = tid.parse().unwrap_or_else(|_| panic!("no thread id: {line}"));
        let rest = rest.trim_start();
        if let Some(ended) = rest.strip_prefix("+++ ").and_then(|rest| rest.strip_suffix(" +++")) {
            if let Some(code) = ended.strip_prefix("exited with ") {
                let what = What::Exited(code.parse().expect("an exit code"));
                lines.push(Line { tid, what });
            } else if let Some(signal) = ended.strip_prefix("killed by ") {
                let signal = signal.split(' ').next().expect("the first of several");
                lines.push(Line { tid, what: What::Killed(signal.to_owned()) });
            } else if let Some(caller) = ended.strip_prefix("superseded by execve in pid ") {
                // The caller goes on under the leader's id, so its execve ends there.
                let caller = caller.parse().expect("a thread id");
                let call = begun.remove(&caller).expect("the caller is inside of execve");
                begun.insert(tid, call);
            } else {
                panic!("no end: {line}");
            }
            continue;
        }
        if rest.starts_with("--- ") {
            continue;
        }
        let whole = match rest.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
            Some((_, rest)) => begun.remove(&tid).expect("a call that began") + rest,
            None => rest.to_owned(),
        };
        if let Some(beginning) = whole.strip_suffix("<unfinished ...>") {
            begun.insert(tid, beginning.trim_end().to_owned());
        } else if let Some(call) = call(&whole) {
            lines.push(Line { tid, what: What::Call(call) });
        }
    }
    lines
}

/// `name(argument, argument) = result`; none where there is no result.
fn call(text: &str) -> Option<Call> {
    let (name, rest) = text.split_once('(').unwrap_or_else(|| panic!("no call: {text}"));
    let mut args = Vec::new();
    let (mut depth, mut from, mut end) = (0, 0, None);
    for (at, character) in rest.char_indices() {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' if depth == 0 => {
                end = Some(at);
                break;
            }
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                args.push(rest[from..at].trim().to_owned());
                from = at + 1;
            }
            _ => {}
        }
    }
    // A thread that was killed inside of a call may leave it open.
    let end = end?;
    let last = rest[from..end].trim();
    if !last.is_empty() {
        args.push(last.to_owned());
    }
    let answer = rest[end + 1..].trim_start().strip_prefix("= ")?;
    let (value, after) = answer.split_once(' ').unwrap_or((answer, ""));
    if value == "?" {
        return None;
    }
    let result = match value {
        "-1" => Err(after.split(' ').next().unwrap_or_default().to_owned()),
        _ => Ok(number(value).unwrap_or_else(|| panic!("no result: {text}"))),
    };
    Some(Call { name: name.to_owned(), args, result, names: decoration(value) })
}

impl Call {
    /// An argument's text; nothing where there are fewer.
    pub fn arg(&self, index: usize) -> &str {
        self.args.get(index).map_or("", String::as_str)
    }

    /// Whether an argument names this constant.
    pub fn has(&self, index: usize, constant: &str) -> bool {
        self.arg(index).split(['|', ' ', '{', ',', '=']).any(|word| word == constant)
    }
}

/// The number that an argument begins with.
pub fn number(text: &str) -> Option<i64> {
    let digits = text.split(['<', ' ']).next()?;
    match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok().map(|value| value as i64),
        None if digits.starts_with('0') && digits.len() > 1 => i64::from_str_radix(digits, 8).ok(),
        None => digits.parse().ok(),
    }
}

/// What `-y` says behind a descriptor: `3<...>`.
pub fn decoration(text: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once('<')?;
    let (inside, _) = rest.split_once('>')?;
    bytes(inside)
}

/// The bytes of a quoted string, and whether they are all.
pub fn string(text: &str) -> Option<(Vec<u8>, bool)> {
    let rest = text.strip_prefix('"')?;
    let (inside, after) = rest.split_once('"')?;
    Some((bytes(inside)?, after.is_empty()))
}

/// The strings of an array.
pub fn strings(text: &str) -> Vec<Vec<u8>> {
    let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    inside.unwrap_or_default().split(", ").filter_map(|item| Some(string(item)?.0)).collect()
}

/// The value of a structure's field.
pub fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("{name}="))?;
    Some(rest.split([',', '}']).next().unwrap_or(rest))
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let mut codes = hex.split("\\x");
    if !codes.next()?.is_empty() {
        return None;
    }
    codes.map(|code| u8::from_str_radix(code, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only_call(text: &str) -> Call {
        match &parse(text)[..] {
            [Line { what: What::Call(call), .. }] => call.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn calls_with_what_they_name() {
        let call = only_call(
            r#"7 openat(AT_FDCWD<\x2f\x77>, "\x61\x22\x2c\x0a", O_RDONLY|O_CLOEXEC) = 3<\x2f\x77\x2f\x61>"#,
        );
        assert_eq!((call.name.as_str(), call.result.clone()), ("openat", Ok(3)));
        assert_eq!(decoration(call.arg(0)).unwrap(), b"/w");
        assert_eq!(string(call.arg(1)).unwrap(), (b"a\",\n".to_vec(), true));
        assert!(call.has(2, "O_CLOEXEC") && !call.has(2, "O_CREAT"));
        assert_eq!(call.names.unwrap(), b"/w/a");
    }

    #[test]
    fn arguments_nest() {
        let call = only_call(
            r#"7 connect(3, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("\x31")}, 16) = -1 EINPROGRESS (Operation now in progress)"#,
        );
        assert_eq!(call.args.len(), 3);
        assert_eq!(field(call.arg(1), "sin_port").unwrap(), "htons(53)");
        assert_eq!(call.result, Err("EINPROGRESS".into()));
        let call =
            only_call(r#"7 execve("\x61", ["\x61", "\x2d\x5d\x20"], 0x7f /* 4 vars */) = 0"#);
        assert_eq!(strings(call.arg(1)), [b"a".to_vec(), b"-] ".to_vec()]);
        assert_eq!(only_call("7 getcwd() = 5").args.len(), 0);
    }

    #[test]
    fn cut_strings_say_so() {
        assert_eq!(string(r#""\x61"..."#).unwrap(), (b"a".to_vec(), false));
        assert_eq!(string("NULL"), None);
        assert_eq!(string(r#""""#).unwrap(), (vec![], true));
        assert_eq!(decoration("3"), None);
    }

    #[test]
    fn calls_that_others_interrupt_are_put_together() {
        let lines = parse(
            "7 close(5<\\x2f> <unfinished ...>\n8 getpid() = 8\n7 <... close resumed>) = 0\n",
        );
        let names: Vec<_> = lines
            .iter()
            .map(|line| match &line.what {
                What::Call(call) => (line.tid, call.name.as_str(), call.args.len()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(names, [(8, "getpid", 0), (7, "close", 1)]);
    }

    #[test]
    fn calls_without_an_answer_are_none() {
        let text = "7 exit_group(0) = ?\n7 read(0, <unfinished ...>\n7 <... read resumed> <unfinished ...>) = ?\n\
                    8 wait4(-1,  <unfinished ...>\n8 <... wait4 resumed>0x7f, 0, NULL) = ? ERESTARTSYS (To be restarted)\n\
                    7 --- SIGCHLD {si_signo=SIGCHLD} ---\n7 +++ exited with 3 +++\n8 +++ killed by SIGSEGV (core dumped) +++\n";
        let expected = [
            Line { tid: 7, what: What::Exited(3) },
            Line { tid: 8, what: What::Killed("SIGSEGV".into()) },
        ];
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn an_exec_of_another_thread_ends_in_the_leader() {
        let text = "9 execve(\"\\x61\", [], NULL <unfinished ...>\n7 +++ superseded by execve in pid 9 +++\n\
                    7 <... execve resumed>) = 0\n";
        let lines = parse(text);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].tid, 7);
    }

    #[test]
    fn numbers_are_decimal_octal_or_hexadecimal() {
        let numbers = ["3<\\x2f>", "0644", "0x10", "-100", "0", "O_RDONLY"].map(number);
        assert_eq!(numbers, [Some(3), Some(420), Some(16), Some(-100), Some(0), None]);
    }
}
