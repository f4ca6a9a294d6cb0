//! BoringSSL without symbols, as it is in Bun and in the programs that Bun makes: found by the errors that its functions
//! report.
//!
//! Every error is reported with the name of its source file, a reason and a line. Which reasons a function of
//! `ssl/ssl_lib.cc` reports tells it from all others. That these places are found exactly once is asked for: nothing is
//! guessed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use memchr::memmem;

use super::functions::{Count, Kind};
use super::{Function, elf::Segment};
use crate::observation::Direction;

/// In the symbols of programs that run JavaScript: others are not searched, since that costs tens of milliseconds.
pub(super) const MARK: &[u8] = b"napi_create_function\0";

const SOURCE: &[u8] = b"boringssl/ssl/ssl_lib.cc\0";
/// What is read at once.
const BLOCK: usize = 1 << 20;
/// No function of that file is longer.
const LONGEST: u64 = 16 << 10;

/// Reasons (include/openssl/err.h, ssl.h).
const SHOULD_NOT_HAVE_BEEN_CALLED: u32 = 66;
const BAD_LENGTH: u32 = 111;
const NULL_CTX: u32 = 185;
const HANDSHAKE_FAILURE: u32 = 215;
const UNINITIALIZED: u32 = 226;

pub(super) fn functions(file: &File, segments: &[Segment]) -> io::Result<Vec<Function>> {
    let Some(name) = source_name(file, segments)? else { return Ok(Vec::new()) };
    let Some(code) = segments.iter().find(|segment| segment.is_code) else { return Ok(Vec::new()) };
    // What each function reports.
    let mut reported: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
    for (at, reason) in reports(file, code, name)? {
        if let Some(function) = beginning(file, code, at)? {
            reported.entry(function).or_default().insert(reason);
        }
    }
    let reporting = |reasons: &[u32]| {
        let reasons = BTreeSet::from_iter(reasons.iter().copied());
        let all: Vec<u64> = reported
            .iter()
            .filter_map(|(&function, reported)| (*reported == reasons).then_some(function))
            .collect();
        all
    };
    let write =
        reporting(&[SHOULD_NOT_HAVE_BEEN_CALLED, UNINITIALIZED, HANDSHAKE_FAILURE, BAD_LENGTH]);
    // What SSL_read(3) and SSL_peek(3) do their work by.
    let reader: Vec<u64> = reported
        .iter()
        .filter(|(_, reported)| {
            // Those of what it does after a handshake too, where that is a part of it.
            [UNINITIALIZED, HANDSHAKE_FAILURE].iter().all(|reason| reported.contains(reason))
                && ![SHOULD_NOT_HAVE_BEEN_CALLED, BAD_LENGTH].iter().any(|it| reported.contains(it))
        })
        .map(|(&function, _)| function)
        .collect();
    let ([write], [reader]) = (&write[..], &reader[..]) else { return Ok(Vec::new()) };
    let mut read = Vec::new();
    for function in reporting(&[SHOULD_NOT_HAVE_BEEN_CALLED]) {
        if calls(file, code, function, *reader)? {
            read.push(function);
        }
    }
    // Two would be SSL_read and SSL_peek, which takes nothing out.
    let [read] = read[..] else { return Ok(Vec::new()) };
    let function = |name, kind, address: u64| Function {
        name,
        kind,
        offset: address - code.address + code.offset,
        address,
        size: 0,
    };
    let transfer = |direction| Kind::Transfer { direction, count: Count::Int };
    let mut found = vec![
        function("SSL_write", transfer(Direction::Write), *write),
        function("SSL_read", transfer(Direction::Read), read),
    ];
    if let [new] = reporting(&[NULL_CTX])[..] {
        found.push(function("SSL_new", Kind::Begins, new));
    }
    found.sort_by_key(|function| function.address);
    Ok(found)
}

/// The address of the name of the source file.
fn source_name(file: &File, segments: &[Segment]) -> io::Result<Option<u64>> {
    for segment in segments.iter().filter(|segment| !segment.is_code) {
        let found = find(file, segment, SOURCE.len(), &mut |block| {
            let at = memmem::find(block, SOURCE)?;
            // With the directory before it.
            let before = block[..at].iter().rposition(|&byte| byte == 0).map_or(0, |nul| nul + 1);
            Some(before as u64)
        })?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// Registers in which an error is reported (ERR_put_error): the reason, and the file. The second of five arguments is unused, so that
/// compilers which see all callers leave it out.
struct Arguments {
    /// mov REASON, imm32.
    reason: u8,
    /// mov FILE, imm32: in a program that is not moved.
    file: u8,
    /// lea FILE, [rip + imm32].
    relative: [u8; 3],
}

/// Without the unused argument, and with it.
const ARGUMENTS: [Arguments; 2] = [
    Arguments { reason: 0xbe, file: 0xba, relative: [0x48, 0x8d, 0x15] },
    Arguments { reason: 0xba, file: 0xb9, relative: [0x48, 0x8d, 0x0d] },
];

/// Every place at which an error of that file is reported, and the reason.
fn reports(file: &File, code: &Segment, name: u64) -> io::Result<Vec<(u64, u32)>> {
    /// The library's number, as the first argument.
    const LIBRARY: &[u8] = &[0xbf, 16, 0, 0, 0];
    /// Longest row of instructions that set the arguments.
    const LONGEST: usize = 32;
    let mut found = Vec::new();
    let mut start = code.address;
    let whole = u32::try_from(name).ok();
    find(file, code, LONGEST, &mut |block| {
        for Arguments { reason, file, relative } in ARGUMENTS {
            let mut report = |at: usize, len: usize| {
                let row = &block[at + len..block.len().min(at + len + LONGEST)];
                let number = row
                    .windows(5)
                    .find(|window| window[0] == reason)
                    .map(|window| u32::from_le_bytes([window[1], window[2], window[3], window[4]]));
                if let Some(number) = number.filter(|_| memmem::find(row, LIBRARY).is_some()) {
                    found.push((start + at as u64, number));
                }
            };
            let fixed = whole.map(|name| [&[file][..], &name.to_le_bytes()].concat());
            for at in fixed.iter().flat_map(|fixed| memmem::find_iter(block, fixed)) {
                report(at, 5);
            }
            for at in memmem::find_iter(block, &relative) {
                let Some(to) = block.get(at + 3..at + 7) else { continue };
                let to = i32::from_le_bytes([to[0], to[1], to[2], to[3]]);
                let next = start + at as u64 + 7;
                if next.wrapping_add_signed(to.into()) == name {
                    report(at, 7);
                }
            }
        }
        start += (block.len().min(BLOCK)) as u64;
        None
    })?;
    // Blocks overlap.
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// push rbp; mov rbp, rsp.
const FRAME: &[u8] = &[0x55, 0x48, 0x89, 0xe5];

/// Where the function around an address begins: by saving a register, behind what fills the room before it (`int3`), or, where there
/// is no room, by the whole of what makes a frame.
fn beginning(file: &File, code: &Segment, at: u64) -> io::Result<Option<u64>> {
    let from = at.saturating_sub(LONGEST).max(code.address);
    let bytes = read(file, code, from, (at - from) as usize + FRAME.len())?;
    let begins = |&address: &u64| {
        let Ok(at) = usize::try_from(address - from) else { return false };
        let (Some(before), Some(first)) = (at.checked_sub(1), bytes.get(at..at + FRAME.len()))
        else {
            return false;
        };
        let is_push = |byte: u8| (0x50..0x58).contains(&byte);
        let saves = is_push(first[0]) || first[0] == 0x41 && is_push(first[1]);
        first == FRAME || bytes[before] == 0xcc && saves
    };
    Ok((from.next_multiple_of(16)..at).step_by(16).filter(begins).last())
}

/// Whether a function calls another, before the room behind it or the next one's frame.
fn calls(file: &File, code: &Segment, function: u64, other: u64) -> io::Result<bool> {
    let bytes = read(file, code, function, LONGEST as usize)?;
    let room = memmem::find(&bytes, &[0xcc, 0xcc]).unwrap_or(bytes.len());
    let next = (16..room).step_by(16).find(|&at| bytes[at..].starts_with(FRAME));
    let end = next.unwrap_or(room);
    Ok(bytes[..end].windows(5).enumerate().any(|(at, call)| {
        let to = i32::from_le_bytes([call[1], call[2], call[3], call[4]]);
        let next = function + at as u64 + 5;
        call[0] == 0xe8 && next.wrapping_add_signed(to.into()) == other
    }))
}

/// Looks through a segment in blocks that overlap by so much; gives the address of the first that is found.
fn find(
    file: &File,
    segment: &Segment,
    overlap: usize,
    look: &mut dyn FnMut(&[u8]) -> Option<u64>,
) -> io::Result<Option<u64>> {
    let mut at = 0;
    while at < segment.len {
        // The overlap may begin before a name's directory does.
        let block = read(file, segment, segment.address + at, BLOCK + 256.max(overlap))?;
        if block.is_empty() {
            break;
        }
        if let Some(found) = look(&block) {
            return Ok(Some(segment.address + at + found));
        }
        at += BLOCK as u64;
    }
    Ok(None)
}

/// As many bytes at an address as there are.
fn read(file: &File, segment: &Segment, address: u64, len: usize) -> io::Result<Vec<u8>> {
    let at = address - segment.address;
    let len = len.min(usize::try_from(segment.len.saturating_sub(at)).unwrap_or(usize::MAX));
    let mut bytes = vec![0; len];
    let mut done = 0;
    while done < len {
        match file.read_at(&mut bytes[done..], segment.offset + at + done as u64)? {
            0 => break,
            read => done += read,
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}
