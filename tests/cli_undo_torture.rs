//! Random interleavings of agent turns, human edits, checkouts, undos, redos and kills: nothing that stood on the disk is lost by
//! going back, what a human wrote last is never silently replaced, and every undo can be undone.

mod common;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use agentrec_store::{Home, Objects, Operations, Store};
use agentrec_trace::ObjectId;
use common::dice::Dice;
use common::{Ran, TestEnv, of_kind, ran, scripted};

/// What a path is: mode, time, names, and content or target.
type Listing = BTreeMap<PathBuf, (u32, i64, i64, u64, Vec<u8>)>;

const FILES: [&str; 8] = ["a", "b", "c", "d/a", "d/b", "d/e/c", "g", "h"];

struct Play {
    env: TestEnv,
    dice: Dice,
    /// Files whose present content a human wrote.
    human: BTreeMap<PathBuf, Vec<u8>>,
    written: u64,
    turns: usize,
    log: Vec<String>,
    /// How long an undo takes here.
    usual: Duration,
}

impl Play {
    fn new(seed: u64) -> Self {
        let env = TestEnv::new();
        for name in FILES {
            env.write(name, &lines(name));
        }
        let play = Self {
            env,
            dice: Dice::new(seed),
            human: BTreeMap::new(),
            written: 0,
            turns: 0,
            log: vec![format!("seed {seed}")],
            usual: Duration::from_millis(200),
        };
        let setup = "git init -q; git config user.email a@b; git config user.name a; git add -A; git commit -qm one; \
                     git branch one; echo two > a; echo two > d/b; git rm -q g; git commit -qam two; git branch two";
        let status = play.env.command("sh").args(["-c", setup]).status().expect("sh runs");
        assert!(status.success(), "git works");
        play
    }

    fn listing(&self) -> Listing {
        let mut listing = Listing::new();
        let mut open = vec![self.env.work()];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(&dir).expect("there") {
                let path = entry.expect("readable").path();
                let metadata = path.symlink_metadata().expect("there");
                let (content, links) = match metadata.file_type() {
                    kind if kind.is_dir() => (Vec::new(), 0),
                    kind if kind.is_symlink() => (
                        fs::read_link(&path).expect("a link").into_os_string().into_encoded_bytes(),
                        0,
                    ),
                    _ => (fs::read(&path).expect("readable"), metadata.nlink()),
                };
                if metadata.is_dir() {
                    open.push(path.clone());
                }
                let entry =
                    (metadata.mode(), metadata.mtime(), metadata.mtime_nsec(), links, content);
                listing.insert(path, entry);
            }
        }
        listing
    }

    fn edit(&mut self) {
        let path = self.env.work().join(self.dice.of(&FILES));
        self.written += 1;
        let content = match fs::read_to_string(&path) {
            // One line of it, so that there is something to merge.
            Ok(old) if self.dice.roll(3) > 0 => {
                let mut all: Vec<_> = old.lines().map(str::to_owned).collect();
                let at = self.dice.roll(all.len() + 1);
                all.insert(at, format!("human {}", self.written));
                all.join("\n") + "\n"
            }
            _ => format!("human {}\n", self.written),
        };
        if self.dice.roll(12) == 0 {
            let _ = fs::remove_file(&path);
            self.human.remove(&path);
            return;
        }
        // Where the agent has made a file of the directory, there is nothing to write.
        if fs::create_dir_all(path.parent().expect("below")).is_ok() && !path.is_dir() {
            // As editors do: the other names of the file keep what they had.
            let temp = path.with_extension("edit");
            fs::write(&temp, &content).expect("ours");
            fs::rename(&temp, &path).expect("ours");
            self.human.insert(path, content.into_bytes());
        }
        self.log.push(format!("edit {}", self.written));
    }

    fn checkout(&mut self) {
        // What it writes is no content of its own: an undo may have left the same, and a redo may replace it.
        let branch = self.dice.of(&["one", "two"]);
        let mut git = self.env.command("git");
        let _ = git.args(["checkout", "-q", "-f", branch]).stderr(Stdio::null()).status();
        self.forget_replaced();
        self.log.push(format!("checkout {branch}"));
    }

    /// A few turns, in some of which a human edits, too.
    fn session(&mut self) {
        let mut turns: Vec<Vec<String>> = Vec::new();
        let mut pauses = Vec::new();
        for _ in 0..1 + self.dice.roll(3) {
            let mut turn: Vec<String> = (0..1 + self.dice.roll(3)).map(|_| self.act()).collect();
            if self.dice.roll(2) == 0 {
                let pause = scripted::Pause::new(
                    &self.env,
                    &format!("pause{}-{}", self.written, self.log.len() + pauses.len()),
                );
                turn.push(pause.command());
                pauses.push(pause);
            }
            turns.push(turn);
        }
        self.turns = turns.len();
        self.log.push(format!("session {turns:?}"));
        let before = self.listing();
        let mut command = scripted::command(&self.env, &turns);
        let child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("agentrec starts");
        for pause in &pauses {
            pause.during(|| self.edit());
        }
        let ran = ran(child.wait_with_output());
        assert_eq!(ran.code, 0, "{ran:?}");
        let after = self.listing();
        // What the agent wrote last is not the human's any more.
        self.human.retain(|path, content| after.get(path).is_some_and(|now| now.4 == *content));
        drop(before);
    }

    fn act(&mut self) -> String {
        let (one, two) = (self.dice.of(&FILES), self.dice.of(&FILES));
        self.written += 1;
        let number = self.written;
        match self.dice.roll(12) {
            0 | 1 => format!("echo agent {number} > {one}"),
            2 => format!("echo agent {number} >> {one}"),
            3 => format!("sed -i '1s/$/ {number}/' {one}"),
            4 => format!("rm -f {one}"),
            5 => format!("mv {one} {two}"),
            6 => format!("mkdir -p n{} && echo {number} > n{}/x", number % 3, number % 3),
            7 => format!("rm -rf d/e; mkdir -p d/e; echo {number} > d/e/c"),
            8 => format!("chmod 600 {one}"),
            9 => format!("ln -f {one} link{}", number % 3),
            10 => format!("ln -sfn {one} sym{}", number % 3),
            _ => format!("git checkout -q -f {}", self.dice.of(&["one", "two"])),
        }
    }

    fn arguments(&mut self) -> Vec<String> {
        let mut arguments = vec!["undo".to_owned(), "--yes".to_owned()];
        if self.turns > 0 && self.dice.roll(3) > 0 {
            arguments.push(format!("t{}", 1 + self.dice.roll(self.turns)));
        }
        match self.dice.roll(4) {
            0 => arguments.push("--theirs".to_owned()),
            1 => arguments.push("--merge".to_owned()),
            _ => {}
        }
        arguments
    }

    fn undo(&mut self) {
        let arguments = self.arguments();
        self.log.push(format!("{arguments:?}"));
        let before = self.listing();
        let operations = self.operations();
        let began = Instant::now();
        let ran = self.env.run(&arguments);
        self.usual = began.elapsed();
        assert!(ran.code <= 1 && !ran.stderr.contains("panicked"), "{ran:?}\n{:#?}", self.log);
        self.nothing_is_lost(&before, &ran);
        if arguments.len() == 2 || !arguments.last().expect("some").starts_with("--") {
            self.human_work_is_there(&ran);
        }
        if self.operations() > operations && self.dice.roll(2) == 0 {
            self.redo_gives(&before, &ran);
        }
        self.forget_replaced();
    }

    fn redo(&mut self) {
        let before = self.listing();
        let ran = self.env.run(["redo", "--yes"]);
        self.log.push(format!("redo: {}", ran.code));
        assert!(ran.code <= 1 && !ran.stderr.contains("panicked"), "{ran:?}\n{:#?}", self.log);
        self.nothing_is_lost(&before, &ran);
        self.human_work_is_there(&ran);
        self.forget_replaced();
    }

    /// An undo that is killed somewhere, and then finished or taken back.
    fn killed(&mut self) {
        let arguments = self.arguments();
        let before = self.listing();
        let operations = self.operations();
        let mut command = self.env.agentrec(&arguments);
        let mut child =
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        let after = self.usual.mul_f64(self.dice.roll(1000) as f64 / 1000.0);
        let began = Instant::now();
        while began.elapsed() < after && child.try_wait().expect("ours").is_none() {
            std::hint::spin_loop();
        }
        child.kill().expect("ours");
        child.wait().expect("ours");
        let interrupted = self.interrupted();
        self.log
            .push(format!("{arguments:?} killed after {after:?}, interrupted: {interrupted:?}"));
        let nothing = Ran { code: 0, stdout: String::new(), stderr: String::new() };
        self.nothing_is_lost(&before, &nothing);
        if let Some(interrupted) = interrupted {
            let refused = self.env.run(["undo", "--yes"]);
            assert!(refused.stderr.contains("was interrupted"), "{refused:?}\n{:#?}", self.log);
            if self.dice.roll(2) == 0 {
                let ran = self.env.run(["undo", "--finish"]);
                assert!(ran.code <= 1, "{ran:?}\n{:#?}", self.log);
                self.log.push("finished".to_owned());
            } else {
                self.log.push("taken back".to_owned());
                let ran = self.env.run(["redo", &interrupted, "--yes"]);
                assert_eq!(ran.code, 0, "{ran:?}\n{:#?}", self.log);
                self.same(&before, &ran);
            }
            assert_eq!(self.interrupted(), None, "{:#?}", self.log);
            self.nothing_is_lost(&before, &nothing);
        } else if self.operations() > operations {
            self.redo_gives(&before, &nothing);
        } else {
            self.same(&before, &nothing);
        }
        self.forget_replaced();
    }

    fn operations(&self) -> usize {
        Operations::list(&Home::new(self.env.home())).expect("readable").0.len()
    }

    fn interrupted(&self) -> Option<String> {
        let ops = self.env.json(["ops", "--all"]);
        let found = of_kind(&ops, "operation").into_iter().find(|op| op["interrupted"] == true);
        found.and_then(|op| op["operation"].as_str().map(str::to_owned))
    }

    /// The last undo, taken back, leaves everything as it was, times and links included.
    fn redo_gives(&mut self, before: &Listing, undone: &Ran) {
        let ran = self.env.run(["redo", "--yes"]);
        self.log.push(format!("redo at once: {}", ran.code));
        assert_eq!(ran.code, 0, "{undone:?}\n{ran:?}\n{:#?}", self.log);
        self.same(before, &ran);
    }

    fn same(&self, before: &Listing, ran: &Ran) {
        let now = self.listing();
        for (path, entry) in before {
            assert_eq!(now.get(path), Some(entry), "{}\n{ran:?}\n{:#?}", path.display(), self.log);
        }
        let added: Vec<_> = now.keys().filter(|path| !before.contains_key(*path)).collect();
        assert!(added.is_empty(), "{added:?}\n{ran:?}\n{:#?}", self.log);
    }

    /// Every content that was on the disk is on the disk, or saved by an operation.
    fn nothing_is_lost(&self, before: &Listing, ran: &Ran) {
        let home = Home::new(self.env.home());
        let (logged, damaged) = Operations::list(&home).expect("readable");
        assert!(damaged.is_empty(), "{damaged:?}");
        let saved: HashSet<ObjectId> =
            logged.iter().flat_map(|logged| logged.operation.objects()).collect();
        let store = Store::open(&home).expect("it opens");
        let now: HashSet<Vec<u8>> = self.listing().into_values().map(|entry| entry.4).collect();
        for (path, entry) in
            before.iter().filter(|(_, entry)| entry.3 > 0 && !now.contains(&entry.4))
        {
            let id = ObjectId::of(&entry.4);
            let content = saved.contains(&id).then(|| store.get(&id).expect("sound")).flatten();
            assert_eq!(
                content.as_ref(),
                Some(&entry.4),
                "{} is lost\n{ran:?}\n{:#?}",
                path.display(),
                self.log
            );
        }
        let partial = |path: &&PathBuf| path.to_string_lossy().ends_with(".partial");
        if self.interrupted().is_none() {
            assert_eq!(self.listing().keys().find(partial), None, "{:#?}", self.log);
        }
    }

    /// What a human wrote last is where it was written.
    fn human_work_is_there(&self, ran: &Ran) {
        for (path, content) in &self.human {
            let now = fs::read(path).ok();
            assert_eq!(now.as_ref(), Some(content), "{}\n{ran:?}\n{:#?}", path.display(), self.log);
        }
    }

    /// What was replaced because the user said so is not looked for any more.
    fn forget_replaced(&mut self) {
        self.human.retain(|path, content| fs::read(path).ok().as_ref() == Some(content));
    }
}

fn lines(name: &str) -> String {
    (1..9).map(|n| format!("{name} {n}\n")).collect()
}

fn play(seed: u64, operations: usize) {
    let mut play = Play::new(seed);
    play.session();
    for _ in 0..operations {
        match play.dice.roll(100) {
            0..8 => play.session(),
            8..45 => play.edit(),
            45..50 => play.checkout(),
            50..72 => play.undo(),
            72..85 => play.redo(),
            _ => play.killed(),
        }
    }
}

#[test]
fn nothing_is_lost_by_going_back() {
    play(1, 60);
}

#[test]
#[ignore = "takes minutes: cargo xtask test --long"]
fn long_nothing_is_lost_by_going_back_1200_times() {
    for seed in 2..6 {
        play(seed, 300);
    }
}
