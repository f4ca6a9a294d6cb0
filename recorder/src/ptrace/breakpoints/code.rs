//! Where in a function's code breakpoints go: on an instruction that every call goes through while its arguments are still
//! where they were, and on each one that returns to the caller.
//!
//! A breakpoint stays where it is, so it goes only where the tracer can do what stands under it ([`Step`]). Nothing that
//! a thread needs is changed, its stack above all: a breakpoint that is missed, or hit by chance, costs knowledge or time,
//! never the thread.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess,
    Register,
};

use super::step::Step;
use crate::tls::{Function, Kind};

/// A place for a breakpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Site {
    /// What stands there.
    pub(super) byte: u8,
    /// What the instruction does, and its length.
    pub(super) step: Step,
    pub(super) len: u64,
    /// What begins there; None where one ends.
    pub(super) enters: Option<Kind>,
}

/// The places in a file, by their offset.
#[derive(Debug, Default)]
pub(super) struct Sites {
    pub(super) by_offset: BTreeMap<u64, Site>,
    /// Functions that have none: their plaintext is not seen.
    pub(super) unsuited: Vec<&'static str>,
}

impl Sites {
    /// Where the breakpoints of these functions go.
    pub(super) fn of(file: &File, functions: &[Function]) -> Self {
        let mut sites = Self::default();
        for function in functions {
            let mut code = Code::new(file, function);
            let Some((at, entry)) = code.entry(function) else {
                sites.unsuited.push(function.name);
                continue;
            };
            let exits = match function.kind {
                Kind::Over => Vec::new(),
                _ => match code.exits(function) {
                    Some(exits) => exits,
                    None => {
                        sites.unsuited.push(function.name);
                        continue;
                    }
                },
            };
            sites.by_offset.entry(at).or_insert(entry);
            // An entry may be a return: of a function that does nothing.
            exits.into_iter().for_each(|(at, exit)| {
                sites.by_offset.entry(at).or_insert(exit);
            });
        }
        sites
    }
}

/// Longest instruction (Intel SDM 2.3.11).
const LONGEST: usize = 15;
/// Instructions among which a function's entry is looked for.
const FIRST: usize = 8;
/// Instructions of a function, and of those that it ends in, that are looked at.
const MOST: usize = 4096;

/// The code of a file around a function.
struct Code<'file> {
    file: &'file File,
    /// From an address to its place in the file.
    to_offset: u64,
    block: Vec<u8>,
    block_at: u64,
}

impl<'file> Code<'file> {
    fn new(file: &'file File, function: &Function) -> Self {
        let to_offset = function.offset.wrapping_sub(function.address);
        Self { file, to_offset, block: Vec::new(), block_at: 0 }
    }

    /// The instruction at an address, and its first byte.
    fn instruction(&mut self, address: u64) -> Option<(Instruction, u8)> {
        const BLOCK: usize = 1024;
        let offset = address.wrapping_add(self.to_offset);
        let inside = |block_at: u64, len: usize| {
            let at = usize::try_from(offset.checked_sub(block_at)?).ok()?;
            (at + LONGEST <= len).then_some(at)
        };
        let at = inside(self.block_at, self.block.len()).or_else(|| {
            self.block.resize(BLOCK, 0);
            let mut len = 0;
            while len < BLOCK {
                match self.file.read_at(&mut self.block[len..], offset + len as u64) {
                    Ok(0) | Err(_) => break,
                    Ok(read) => len += read,
                }
            }
            self.block.truncate(len);
            self.block_at = offset;
            (len > 0).then_some(0)
        })?;
        let bytes = &self.block[at..];
        let instruction = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE).decode();
        (!instruction.is_invalid()).then_some((instruction, bytes[0]))
    }

    fn site(
        &self,
        instruction: &Instruction,
        byte: u8,
        enters: Option<Kind>,
    ) -> Option<(u64, Site)> {
        let step = Step::of(instruction)?;
        let len = instruction.len() as u64;
        Some((instruction.ip().wrapping_add(self.to_offset), Site { byte, step, len, enters }))
    }

    /// The first instruction that the tracer can do, as long as those before it leave the arguments, the stack and the
    /// way through the function alone.
    fn entry(&mut self, function: &Function) -> Option<(u64, Site)> {
        const KEPT: [Register; 6] = [
            Register::RDI,
            Register::RSI,
            Register::RDX,
            Register::RCX,
            Register::R8,
            Register::RSP,
        ];
        let mut factory = InstructionInfoFactory::new();
        let mut address = function.address;
        for _ in 0..FIRST {
            let (instruction, byte) = self.instruction(address)?;
            if let Some(site) = self.site(&instruction, byte, Some(function.kind)) {
                return Some(site);
            }
            let writes = |access: OpAccess| !matches!(access, OpAccess::Read | OpAccess::CondRead);
            let changes = factory.info(&instruction).used_registers().iter().any(|used| {
                writes(used.access()) && KEPT.contains(&used.register().full_register())
            });
            if changes || instruction.flow_control() != FlowControl::Next {
                return None;
            }
            address = instruction.next_ip();
        }
        None
    }

    /// Every instruction with which the function returns, or one that it ends in: reached from the entry. None where it has
    /// none, or ends in a function that only the dynamic linker knows.
    fn exits(&mut self, function: &Function) -> Option<Vec<(u64, Site)>> {
        let inside = |address: u64| {
            function.size == 0 || address.wrapping_sub(function.address) < function.size
        };
        let mut exits = Vec::new();
        let mut seen = BTreeSet::new();
        // Where to go on, and how much is on the stack there, where that is known.
        let mut ways = vec![(function.address, Some(0_u64), inside(function.address))];
        while let Some((address, depth, is_inside)) = ways.pop() {
            if !seen.insert(address) {
                continue;
            }
            if seen.len() > MOST {
                return None;
            }
            let Some((instruction, byte)) = self.instruction(address) else { continue };
            let (next, depth_after) = (instruction.next_ip(), depth_after(&instruction, depth));
            let mut go_on = |address: u64, depth| {
                // What has a size ends there: with a call that does not return, where it goes on.
                if !is_inside || inside(address) {
                    ways.push((address, depth, is_inside));
                }
            };
            match instruction.flow_control() {
                FlowControl::Return => exits.extend(self.site(&instruction, byte, None)),
                FlowControl::Next => go_on(next, depth_after),
                FlowControl::ConditionalBranch => {
                    go_on(instruction.near_branch_target(), depth);
                    go_on(next, depth);
                }
                FlowControl::UnconditionalBranch => {
                    let target = instruction.near_branch_target();
                    if !is_inside || inside(target) {
                        go_on(target, depth);
                    } else if depth == Some(0) {
                        // The end of this function is another one, which returns to our caller.
                        ways.push((target, depth, false));
                    }
                }
                FlowControl::Call | FlowControl::IndirectCall => {
                    // Behind one that does not return comes nothing, or what fills the room up to the next function.
                    let ends = !is_inside || function.size == 0;
                    if !(ends && self.is_filling(next)) {
                        go_on(next, depth_after);
                    }
                }
                FlowControl::IndirectBranch if depth == Some(0) => return None,
                _ => {}
            }
        }
        (!exits.is_empty()).then_some(exits)
    }

    fn is_filling(&mut self, address: u64) -> bool {
        let Some((instruction, _)) = self.instruction(address) else { return true };
        matches!(instruction.mnemonic(), Mnemonic::Nop | Mnemonic::Int3 | Mnemonic::Ud2)
    }
}

/// How much is on the stack behind an instruction, where that is known.
fn depth_after(instruction: &Instruction, depth: Option<u64>) -> Option<u64> {
    let depth = depth?;
    match (instruction.mnemonic(), instruction.op0_register()) {
        (Mnemonic::Sub, Register::RSP) => Some(depth.wrapping_add(number(instruction)?)),
        (Mnemonic::Add, Register::RSP) => Some(depth.wrapping_sub(number(instruction)?)),
        (Mnemonic::Push, _) => Some(depth.wrapping_add(8)),
        (Mnemonic::Pop, _) => Some(depth.wrapping_sub(8)),
        (Mnemonic::Leave, _) => Some(0),
        (Mnemonic::Mov | Mnemonic::Lea | Mnemonic::And, Register::RSP) => None,
        _ => Some(depth),
    }
}

fn number(instruction: &Instruction) -> Option<u64> {
    instruction.try_immediate(1).ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;
    use std::{fs, io};

    use super::*;
    use crate::tls;

    /// Offsets of what begins and of what ends functions, and what has no places.
    fn sites(path: &Path) -> io::Result<(Vec<u64>, Vec<u64>, Vec<&'static str>)> {
        let file = File::open(path)?;
        let sites = Sites::of(&file, &tls::functions(&file)?);
        let (entries, exits): (Vec<_>, Vec<_>) =
            sites.by_offset.iter().partition(|(_, site)| site.enters.is_some());
        let offsets = |sites: Vec<(&u64, &Site)>| sites.into_iter().map(|(&at, _)| at).collect();
        let bytes = fs::read(path)?;
        assert!(sites.by_offset.iter().all(|(&at, site)| bytes[at as usize] == site.byte));
        Ok((offsets(entries), offsets(exits), sites.unsuited))
    }

    #[test]
    fn real_libraries_have_places_for_all() {
        let libraries = Path::new("/usr/lib/x86_64-linux-gnu");
        let openssl = libraries.join("libssl.so.3");
        assert!(openssl.exists());
        for path in [openssl, libraries.join("libgnutls.so.30"), "/usr/bin/node".into()] {
            // Whether the others are there is the machine's business.
            let Ok((entries, exits, unsuited)) = sites(&path) else { continue };
            let functions = tls::functions(&File::open(&path).unwrap()).unwrap();
            assert_eq!(entries.len(), functions.len(), "{path:?}");
            assert_eq!(unsuited, [""; 0], "{path:?}");
            let left = |function: &Function| function.kind == Kind::Over || exits.len() > 3;
            assert!(functions.iter().all(left), "{exits:?}");
        }
    }

    /// The places in a library of two functions, as C is compiled with these options.
    fn compiled(source: &str, options: &[&str]) -> (usize, usize, Vec<&'static str>) {
        let dir = tempfile::tempdir().unwrap();
        let (code, library) = (dir.path().join("code.c"), dir.path().join("code.so"));
        fs::write(&code, source).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC"]).args(options).arg("-o").args([&library, &code]);
        assert!(compiler.status().unwrap().success());
        let (entries, exits, unsuited) = sites(&library).unwrap();
        (entries.len(), exits.len(), unsuited)
    }

    /// The first returns at two places; the second ends in another function, which the others do not return by.
    const SOURCE: &str = "
        #define FAR __attribute__((noinline))
        extern int there(void *, const void *, long), failed(const char *);
        static FAR int elsewhere(void *s, void *b, long n) { return there(s, b, n) + there(b, s, n); }
        FAR int neighbour(void *s) { return failed(s) + 1; }
        int SSL_write(void *s, const void *b, int n) {
            if (n < 0) return failed(\"n\") + 2;
            return there(s, b, n) - there(s, b, n + 1);
        }
        int SSL_read(void *s, void *b, int n) { return elsewhere(s, b, n); }
    ";

    #[test]
    fn however_they_are_compiled() {
        for options in [
            &["-O0"][..],
            &["-O2"],
            &["-Os"],
            &["-O3", "-fcf-protection=full"],
            &["-O2", "-fcf-protection=none", "-fomit-frame-pointer"],
            &["-O2", "-fno-omit-frame-pointer", "-fstack-protector-all"],
            &["-O2", "-fno-plt", "-mavx2"],
        ] {
            let (entries, exits, unsuited) = compiled(SOURCE, options);
            assert_eq!((entries, unsuited.len()), (2, 0), "{options:?}");
            assert!((2..=4).contains(&exits), "{options:?}: {exits}");
        }
    }

    #[test]
    fn who_ends_in_another_object_is_told() {
        let source = "
            extern int there(void *, const void *, long);
            int SSL_write(void *s, const void *b, int n) { return there(s, b, n); }
        ";
        let (.., unsuited) = compiled(source, &["-O2"]);
        assert_eq!(unsuited, ["SSL_write"]);
    }

    #[test]
    fn who_uses_its_arguments_first_is_told() {
        let source = "
            __asm__(\".globl SSL_write\\n.type SSL_write, @function\\nSSL_write: mov (%rdi), %rdi\\n ret\\n\");
        ";
        let (.., unsuited) = compiled(source, &["-O2"]);
        assert_eq!(unsuited, ["SSL_write"]);
    }
}
