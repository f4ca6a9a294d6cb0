//! Programs whose work can't be taken back, known by their command lines: what they send stays with others.

use std::ops::Deref;

/// What came of a command line.
type Deed = &'static str;

/// Programs that only exist to send something away, or to change the machine.
const ALWAYS: &[(&str, Deed)] = &[
    ("scp", "copies between machines"),
    ("sftp", "copies between machines"),
    ("mail", "sends mail"),
    ("mailx", "sends mail"),
    ("mutt", "sends mail"),
    ("sendmail", "sends mail"),
    ("msmtp", "sends mail"),
    ("modprobe", "changes the running kernel"),
    ("insmod", "changes the running kernel"),
    ("reboot", "ends the machine's run"),
    ("shutdown", "ends the machine's run"),
    ("poweroff", "ends the machine's run"),
];

/// Programs by their subcommands.
const SUBCOMMANDS: &[(&str, &[&str], Deed)] = &[
    ("git", &["push", "send-email"], "pushes to a remote"),
    ("hg", &["push"], "pushes to a remote"),
    ("jj", &["git push"], "pushes to a remote"),
    ("npm", &["publish", "unpublish", "deprecate"], "publishes a package"),
    ("pnpm", &["publish"], "publishes a package"),
    ("yarn", &["publish", "npm publish"], "publishes a package"),
    ("cargo", &["publish", "yank"], "publishes a package"),
    ("uv", &["publish"], "publishes a package"),
    ("poetry", &["publish"], "publishes a package"),
    ("twine", &["upload"], "publishes a package"),
    ("gem", &["push", "yank"], "publishes a package"),
    ("docker", &["push"], "publishes an image"),
    ("podman", &["push"], "publishes an image"),
    ("helm", &["push", "install", "upgrade", "uninstall"], "changes a cluster"),
    (
        "kubectl",
        &["apply", "create", "delete", "patch", "replace", "scale", "exec"],
        "changes a cluster",
    ),
    ("terraform", &["apply", "destroy"], "changes what runs elsewhere"),
    ("tofu", &["apply", "destroy"], "changes what runs elsewhere"),
    (
        "systemctl",
        &["start", "stop", "restart", "enable", "disable", "reboot", "poweroff"],
        "changes the machine's services",
    ),
];

/// Subcommands of `gh` and `glab` that only look.
const LOOKS: &[&str] =
    &["view", "list", "status", "diff", "checks", "clone", "checkout", "download", "watch"];

/// What an executed program says that can't be taken back; none where it says nothing of the kind.
pub fn irrevocable<B: Deref<Target = [u8]>>(path: &[u8], argv: &[B]) -> Option<Deed> {
    let name = file_name(path);
    // A script's arguments follow its own name; before that stands its interpreter (execve(2)).
    let script = argv.iter().skip(1).position(|arg| file_name(arg) == name).map(|at| at + 1);
    let own = argv.first().is_some_and(|first| file_name(first) == name);
    let argv = &argv[script.filter(|_| !own).unwrap_or(0)..];
    match argv {
        [program, option, module, rest @ ..]
            if file_name(program).starts_with(b"python") && **option == *b"-m" =>
        {
            by_name(module, rest)
        }
        [program, rest @ ..] => by_name(program, rest),
        [] => None,
    }
}

fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&b| b == b'/').next().unwrap_or(path)
}

fn by_name<B: Deref<Target = [u8]>>(program: &[u8], args: &[B]) -> Option<Deed> {
    let program = std::str::from_utf8(file_name(program)).ok()?;
    let args: Vec<&str> = args.iter().filter_map(|arg| std::str::from_utf8(arg).ok()).collect();
    if args.iter().any(|arg| matches!(*arg, "--help" | "--version" | "--dry-run")) {
        return None;
    }
    if let Some((_, deed)) = ALWAYS.iter().find(|(name, _)| *name == program) {
        return Some(deed);
    }
    if let Some((_, subcommands, deed)) = SUBCOMMANDS.iter().find(|(name, ..)| *name == program) {
        let words = subcommand(program, &args);
        return subcommands
            .contains(&&*words.0)
            .then_some(*deed)
            .or_else(|| subcommands.contains(&&*words.1).then_some(*deed));
    }
    match program {
        "curl" => curl(&args),
        "wget" => args.iter().any(|arg| wget_sends(arg)).then_some("sends data over HTTP"),
        "http" | "https" | "xh" => args
            .iter()
            .any(|arg| matches!(*arg, "POST" | "PUT" | "PATCH" | "DELETE"))
            .then_some("sends data over HTTP"),
        "rsync" => args
            .iter()
            .any(|arg| !arg.starts_with('-') && is_remote(arg))
            .then_some("copies between machines"),
        "gh" | "glab" => forge(&args),
        "sysctl" => args
            .iter()
            .any(|arg| *arg == "-w" || *arg == "-p" || arg.contains('='))
            .then_some("changes the running kernel"),
        _ => None,
    }
}

/// The first word that is no option nor the value of one, and the first two.
fn subcommand(program: &str, args: &[&str]) -> (String, String) {
    // Global options that take the next word.
    let takes = |arg: &str| match program {
        "git" => matches!(arg, "-C" | "-c" | "--git-dir" | "--work-tree" | "--namespace"),
        "kubectl" | "helm" => matches!(arg, "-n" | "--namespace" | "--context" | "--kubeconfig"),
        "docker" | "podman" => matches!(arg, "-H" | "--host" | "-c" | "--context" | "--url"),
        _ => false,
    };
    let mut words = Vec::new();
    let mut skip = false;
    for arg in args {
        if std::mem::take(&mut skip) {
            continue;
        }
        if arg.starts_with('-') {
            skip = takes(arg);
        } else {
            words.push(*arg);
        }
        if words.len() == 2 {
            break;
        }
    }
    (words.first().copied().unwrap_or_default().to_owned(), words.join(" "))
}

/// `host:path`; not a local path with a colon behind a slash.
fn is_remote(arg: &str) -> bool {
    arg.find(':').is_some_and(|colon| colon > 0 && !arg[..colon].contains('/'))
        || arg.starts_with("rsync://")
}

/// curl(1): data of any kind, an upload, or a method that is not made for looking.
fn curl(args: &[&str]) -> Option<Deed> {
    const SENDS: [&str; 6] =
        ["--data", "--form", "--upload-file", "--json", "--quote", "--mail-from"];
    /// Short options that take a value: the rest of the word, or the next one.
    const TAKE: &str = "AbcCDdeEFhHKmoPQrtTuUwxXyYz";
    let mut args = args.iter();
    let (mut gets, mut sends) = (false, false);
    while let Some(arg) = args.next() {
        let mut method = arg.strip_prefix("--request=");
        match *arg {
            "--get" => gets = true,
            "--request" => method = args.next().copied(),
            long if long.starts_with("--") => {
                sends |= SENDS.iter().any(|option| long.starts_with(option));
            }
            word => {
                let letters = word.strip_prefix('-').unwrap_or_default();
                let takes = letters.find(|c| TAKE.contains(c));
                gets |= letters[..takes.unwrap_or(letters.len())].contains('G');
                if let Some(at) = takes {
                    let (option, rest) = letters[at..].split_at(1);
                    let value = if rest.is_empty() { args.next().copied() } else { Some(rest) };
                    sends |= matches!(option, "d" | "F" | "T" | "Q");
                    method = value.filter(|_| option == "X");
                }
            }
        }
        let looks = |method: &str| ["GET", "HEAD", "OPTIONS"].contains(&&*method.to_uppercase());
        sends |= method.is_some_and(|method| !looks(method));
    }
    (sends && !gets).then_some("sends data over HTTP")
}

fn wget_sends(arg: &str) -> bool {
    ["--post-data", "--post-file", "--body-data", "--body-file"]
        .iter()
        .any(|option| arg.starts_with(option))
        || arg.strip_prefix("--method=").is_some_and(|method| !matches!(method, "GET" | "HEAD"))
}

/// `gh pr create`, `gh api -X POST`.
fn forge(args: &[&str]) -> Option<Deed> {
    let words: Vec<_> = args.iter().filter(|arg| !arg.starts_with('-')).take(2).collect();
    let [topic, verb] = words.as_slice() else { return None };
    let changes = match **topic {
        "api" => {
            let writes = |arg: &&str| {
                matches!(*arg, "POST" | "PUT" | "PATCH" | "DELETE")
                    || ["-f", "-F", "--field", "--raw-field", "--input"]
                        .iter()
                        .any(|o| arg.starts_with(o))
            };
            args.iter().any(|arg| {
                writes(&arg.trim_start_matches("-X").trim_start_matches("--method=")) || writes(arg)
            })
        }
        "pr" | "mr" | "issue" | "release" | "repo" | "gist" | "workflow" | "secret" | "label" => {
            !LOOKS.contains(verb)
        }
        _ => false,
    };
    changes.then_some("changes a repository elsewhere")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deed(line: &str) -> Option<Deed> {
        let argv: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        irrevocable(argv[0], &argv)
    }

    #[test]
    fn command_lines_that_send_are_known() {
        for line in [
            "git push",
            "/usr/bin/git -C dir -c a=b push origin main",
            "cargo publish",
            "jj git push",
            "curl -X POST http://h/",
            "curl -sXPUT http://h/",
            "curl -sd a=b http://h/",
            "curl --data-binary @f http://h/",
            "curl --json {} h",
            "curl -T f ftp://h/",
            "wget --post-data=a h",
            "rsync -a d/ host:d",
            "scp f host:",
            "gh pr create --fill",
            "gh api -X POST /repos",
            "gh api /repos -f a=b",
            "kubectl -n x delete pod",
            "sysctl -w a=b",
        ] {
            assert!(deed(line).is_some(), "{line}");
        }
    }

    #[test]
    fn scripts_and_modules_are_known_by_their_own_names() {
        let deed = |path: &str, line: &str| {
            let argv: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            irrevocable(path.as_bytes(), &argv)
        };
        assert!(deed("/usr/bin/npm", "/usr/bin/env node /usr/bin/npm publish").is_some());
        assert!(deed("/w/env/bin/twine", "/w/env/bin/python3 env/bin/twine upload dist").is_some());
        assert!(deed("/usr/bin/python3", "python3 -m twine upload dist").is_some());
        assert!(deed("/usr/bin/git", "git push git").is_some());
        assert_eq!(deed("/usr/bin/npm", "/usr/bin/env node /usr/bin/npm install"), None);
        assert_eq!(deed("/usr/bin/echo", "echo git push"), None);
        assert_eq!(irrevocable::<&[u8]>(b"/x", &[]), None);
    }

    #[test]
    fn command_lines_that_look_are_not() {
        for line in [
            "git pull",
            "git log push",
            "git push --dry-run",
            "curl -sS http://h/d",
            "curl -o data -H x:d http://h/",
            "curl -G -d a=b http://h/",
            "curl -X GET h",
            "wget h",
            "rsync -a a/ b/",
            "gh pr view 1",
            "gh pr",
            "sysctl kernel.x",
            "npm install publish-x",
            "",
        ] {
            assert_eq!(deed(line), None, "{line}");
        }
    }
}
