//! A thread stands at a breakpoint: it goes into a function of a TLS library, or comes out of it.

use libc::{SI_KERNEL, user_regs_struct};

use super::super::Tracer;
use super::super::memory::Tracee;
use super::super::tracee::{Stopped, Vanished};
use super::step::Stack;
use super::{Hit, Site};
use crate::calls::memory::{Memory, Unreadable, Word};
use crate::observation::{Call, Direction, Flow, Loss, Tid};
use crate::source::Report;
use crate::tls::{Count, Kind};

/// Largest piece of plaintext that is handed on at once, in bytes.
const MAX_PIECE: u64 = 1 << 20;
/// Functions that a thread can be in. More are left behind by jumps out of them (longjmp(3)).
const MOST: usize = 64;

/// A function that a thread has gone into.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inside {
    /// Where its return address stands, by which its end is known: other functions return by the same instruction.
    sp: u64,
    kind: Kind,
    arguments: [u64; 5],
}

impl Inside {
    /// Whether a function of that kind may do this one's work. What a library calls back does its own: a write in a callback of a
    /// read, or one of other bytes.
    fn may_call(&self, kind: Kind, stream: u64, buffer: u64) -> bool {
        let [own, begin, len, ..] = self.arguments;
        own == stream
            && self.kind.direction() == kind.direction()
            && buffer.checked_sub(begin).is_some_and(|within| within <= len)
    }
}

/// The stack of a stopped thread.
struct Of<'stopped>(&'stopped Stopped);

impl Stack for Of<'_> {
    fn read(&self, address: u64) -> Result<u64, Unreadable> {
        Tracee(self.0.tid()).read_words(Word::Eight, address, 1).map(|words| words[0])
    }

    fn write(&self, address: u64, value: u64) -> Result<(), Unreadable> {
        self.0.poke(address, value).map_err(|_| Unreadable)
    }
}

impl<I: From<Report> + Send + 'static> Tracer<I> {
    /// Whether the SIGTRAP that is about to be delivered comes from a breakpoint of ours: then the thread has been led past
    /// it. All others are the process's own.
    pub(in crate::ptrace) fn passes_breakpoint(
        &mut self,
        stopped: &Stopped,
    ) -> Result<bool, Vanished> {
        let tid = stopped.tid();
        let Some(process) = self.threads.get(tid).map(|thread| thread.process) else {
            return Ok(false);
        };
        if self.breakpoints.are_nowhere() {
            return Ok(false);
        }
        let mut registers = stopped.registers()?;
        // The processor stands behind the instruction.
        let address = registers.rip.wrapping_sub(1);
        let Hit { site, is_out } = match self.breakpoints.hit(process, address) {
            // Only by it does a thread get into the middle of an instruction.
            Some(hit) if hit.site.len > 1 => hit,
            known => {
                if stopped.signal_info()?.code != SI_KERNEL {
                    return Ok(false);
                }
                let known = known.or_else(|| self.breakpoints.rediscover(tid, process, address));
                let Some(hit) = known else { return Ok(false) };
                hit
            }
        };
        registers.rip = address;
        if self.silent || is_out {
            self.breakpoints.take_out(stopped, process);
            return stopped.set_registers(&registers).map(|()| true);
        }
        match site.enters {
            Some(kind) => self.goes_in(tid, process, kind, &registers),
            None => self.comes_out(tid, &registers),
        }
        self.does(stopped, process, site, registers)?;
        Ok(true)
    }

    /// Does what stands under a breakpoint.
    fn does(
        &mut self,
        stopped: &Stopped,
        process: Tid,
        site: Site,
        mut registers: user_regs_struct,
    ) -> Result<(), Vanished> {
        let before = registers;
        if site.step.take(site.len, &mut registers, &Of(stopped)).is_ok() {
            return stopped.set_registers(&registers);
        }
        // Such as the end of its stack: whatever comes of it, the processor shall do it.
        self.breakpoints.take_out(stopped, process);
        self.lost(stopped.tid(), Loss::Plaintext);
        stopped.set_registers(&before)
    }

    fn goes_in(&mut self, tid: Tid, process: Tid, kind: Kind, registers: &user_regs_struct) {
        let user_regs_struct { rdi, rsi, rdx, rcx, r8, rsp, rip, .. } = *registers;
        if kind == Kind::Over {
            if rdi != 0 {
                self.observe(tid, Call::PlaintextOver { stream: rdi }, Ok(0));
            }
            return;
        }
        let inside = self.breakpoints.inside.entry(tid).or_default();
        // What was left by a jump ends where another begins in its place.
        inside.retain(|inside| inside.sp != rsp);
        let is_called_by_outer =
            inside.iter().any(|outer| outer.sp > rsp && outer.may_call(kind, rdi, rsi));
        if is_called_by_outer {
            let caller = Tracee(tid).read_words(Word::Eight, rsp, 1);
            if caller.is_ok_and(|caller| self.breakpoints.same_object(process, rip, caller[0])) {
                return;
            }
        }
        let inside = self.breakpoints.inside.entry(tid).or_default();
        if inside.len() == MOST {
            inside.remove(0);
        }
        inside.push(Inside { sp: rsp, kind, arguments: [rdi, rsi, rdx, rcx, r8] });
    }

    fn comes_out(&mut self, tid: Tid, registers: &user_regs_struct) {
        let Some(inside) = self.breakpoints.inside.get_mut(&tid) else { return };
        let found = inside.iter().position(|inside| inside.sp == registers.rsp);
        let Some(inside) = found.map(|found| inside.swap_remove(found)) else { return };
        let (direction, count) = match inside.kind {
            Kind::Transfer { direction, count } | Kind::Unseen { direction, count } => {
                (direction, count)
            }
            Kind::Begins if registers.rax != 0 => {
                return self.observe(tid, Call::PlaintextOver { stream: registers.rax }, Ok(0));
            }
            Kind::Begins | Kind::Over => return,
        };
        let [stream, buffer, asked, ..] = inside.arguments;
        let result = registers.rax;
        let (moved, asked) = match count {
            Count::Int => (i64::from(result as i32), u64::from(asked as u32)),
            Count::Long => (result as i64, asked),
            Count::At(argument) if result as i32 == 1 => {
                let address = inside.arguments[usize::from(argument)];
                match Tracee(tid).read_words(Word::Eight, address, 1) {
                    Ok(words) => (words[0] as i64, asked),
                    Err(Unreadable) => return self.lost(tid, Loss::Memory),
                }
            }
            Count::At(_) => return,
        };
        let is_seen = matches!(inside.kind, Kind::Transfer { .. });
        match u64::try_from(moved) {
            // Its end: the peer has said that no more comes.
            Ok(0) if direction == Direction::Read && asked > 0 && is_seen => {
                self.plaintext(tid, stream, direction, Flow::End);
            }
            Ok(0) | Err(_) => {}
            // More than was asked for: what an earlier call gave (gnutls_record_send(3), after GNUTLS_E_AGAIN).
            Ok(moved) if !is_seen || moved > asked || buffer == 0 => {
                self.plaintext(tid, stream, direction, Flow::Missing(moved));
            }
            // What tells nothing is not copied.
            Ok(_) if !self.model.wants_plaintext(tid, stream) => {}
            Ok(moved) => self.plaintext_at(tid, stream, direction, buffer, moved),
        }
    }

    /// Tells what lies in a buffer.
    fn plaintext_at(
        &mut self,
        tid: Tid,
        stream: u64,
        direction: Direction,
        buffer: u64,
        count: u64,
    ) {
        let mut data = std::mem::take(&mut self.scratch);
        let mut done = 0;
        while done < count {
            data.clear();
            let len = (count - done).min(MAX_PIECE);
            if Tracee(tid).read_block(buffer.wrapping_add(done), len as usize, &mut data).is_err() {
                self.plaintext(tid, stream, direction, Flow::Missing(count - done));
                break;
            }
            self.plaintext(tid, stream, direction, Flow::Bytes(&data));
            done += len;
        }
        self.scratch = data;
    }

    fn plaintext(&mut self, tid: Tid, stream: u64, direction: Direction, flow: Flow<'_>) {
        self.observe(tid, Call::Plaintext { stream, direction, flow }, Ok(0));
    }
}
