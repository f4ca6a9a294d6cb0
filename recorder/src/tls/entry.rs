//! Where a uprobe on a function costs its callers least.
//!
//! The kernel emulates some instructions under a uprobe, a push among them (`push_setup_xol_ops` in arch/x86/kernel/uprobes.c). Any
//! other the thread steps over out of line, for which it traps a second time: on a virtual machine that takes several
//! times as long as all else. What compilers make of OpenSSL's functions begins often with something else, while the one
//! function inside of the library that does the work of them begins with a push.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess,
    OpKind, Register, UsedRegister,
};

use super::Function;
use super::functions::{Count, Kind};
use crate::observation::Direction;

/// Bytes that are read of a function; those that only hand on are far shorter.
const LONGEST: u64 = 1024;
/// Length of `endbr64`, which many compilers begin functions with.
const ENDBR64: usize = 4;

/// The same functions, each where a uprobe costs least. Several may have become one that all of them call.
///
/// # Errors
/// Where the file can't be read.
pub fn entries(file: &File, functions: &[Function]) -> io::Result<Vec<Function>> {
    let mut all: Vec<Code> =
        functions.iter().map(|&f| Code::read(file, f)).collect::<Result<_, _>>()?;
    for direction in [Direction::Read, Direction::Write] {
        let of_way = |code: &&Code| matches!(code.function.kind, Kind::Transfer { direction: way, .. } if way == direction);
        let same_way: Vec<&Code> = all.iter().filter(of_way).collect();
        let Some(worker) = shared_worker(file, &same_way)? else { continue };
        all.retain(|code| !of_way(&code));
        all.push(worker);
    }
    Ok(all.iter().map(Code::entry).collect())
}

/// A function with its first bytes.
struct Code {
    function: Function,
    bytes: Vec<u8>,
}

impl Code {
    fn read(file: &File, function: Function) -> io::Result<Self> {
        let mut bytes = vec![0; function.size.clamp(ENDBR64 as u64 + 2, LONGEST) as usize];
        let mut done = 0;
        // A file may end before.
        while done < bytes.len() {
            match file.read_at(&mut bytes[done..], function.offset + done as u64)? {
                0 => break,
                read => done += read,
            }
        }
        bytes.truncate(done);
        Ok(Self { function, bytes })
    }

    fn instructions(&self) -> impl Iterator<Item = Instruction> {
        let Function { address, .. } = self.function;
        Decoder::with_ip(64, &self.bytes, address, DecoderOptions::NONE).into_iter()
    }

    /// The function, to be probed behind an `endbr64` where that pays: nothing that a probe looks at has changed there.
    fn entry(&self) -> Function {
        let at = if is_push(&self.bytes) { 0 } else { self.bytes_to_push().unwrap_or(0) } as u64;
        let Function { offset, address, .. } = self.function;
        Function { offset: offset + at, address: address + at, ..self.function }
    }

    /// How many bytes of an `endbr64` stand before a push.
    fn bytes_to_push(&self) -> Option<usize> {
        let first = self.instructions().next()?;
        (first.mnemonic() == Mnemonic::Endbr64 && is_push(self.bytes.get(first.len()..)?))
            .then(|| first.len())
    }

    fn is_cheap(&self) -> bool {
        is_push(&self.bytes) || self.bytes_to_push().is_some()
    }

    /// The function that gets this one's arguments as they came, and has not been left when it returns.
    fn hands_on_to(&self) -> Option<u64> {
        self.instructions()
            .find(|instruction| !keeps_arguments(instruction))
            .filter(is_direct_call)
            .map(|call| call.near_branch_target())
    }

    fn calls(&self, address: u64) -> bool {
        self.instructions().any(|instruction| {
            is_direct_call(&instruction) && instruction.near_branch_target() == address
        })
    }
}

/// The function by which all of these do their work, where it is one, says its count as one of them does, and is cheaper to probe
/// than they are.
fn shared_worker(file: &File, functions: &[&Code]) -> io::Result<Option<Code>> {
    let says_where =
        |code: &&&Code| matches!(code.function.kind, Kind::Transfer { count: Count::At(_), .. });
    let Some(outer) = functions.iter().find(says_where) else { return Ok(None) };
    let Some(address) = outer.hands_on_to() else { return Ok(None) };
    if functions.iter().all(|code| code.is_cheap())
        || !functions.iter().all(|code| code.calls(address))
    {
        return Ok(None);
    }
    // Code that calls each other without a table stands in one piece.
    let offset = outer.function.offset.wrapping_add(address.wrapping_sub(outer.function.address));
    let worker = Code::read(file, Function { offset, address, size: 0, ..outer.function })?;
    Ok(Some(worker).filter(Code::is_cheap))
}

fn is_direct_call(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Call && instruction.op0_kind() == OpKind::NearBranch64
}

/// Whether the next instruction is run with all registers that hold arguments as they were.
fn keeps_arguments(instruction: &Instruction) -> bool {
    use Register::{R8, R9, RCX, RDI, RDX, RSI};
    let mut info = InstructionInfoFactory::new();
    let is_changed = |used: &UsedRegister| {
        !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess)
            && [RDI, RSI, RDX, RCX, R8, R9].contains(&used.register().full_register())
    };
    instruction.flow_control() == FlowControl::Next
        && !info.info(instruction).used_registers().iter().any(is_changed)
}

/// A push of a register, of those with and without a prefix.
fn is_push(code: &[u8]) -> bool {
    matches!(code, [0x50..=0x57, ..] | [0x41, 0x50..=0x57, ..])
}
