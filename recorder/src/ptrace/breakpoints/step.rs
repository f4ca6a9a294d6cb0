//! Instructions that the tracer carries out in a thread's stead, because a breakpoint stands where they begin.
//!
//! Few kinds are enough: with what functions begin and end. The breakpoint stays in its place meanwhile, so that no other
//! thread gets past it.

use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use libc::user_regs_struct;

use crate::calls::memory::Unreadable;

/// What an instruction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing (`nop`, `endbr64`).
    Nothing,
    Push(Register),
    Move {
        to: Register,
        from: Operand,
    },
    /// A number of 32 bits, with its sign.
    Extend {
        to: Register,
        from: Register,
    },
    Compute {
        operation: Operation,
        to: Register,
        with: Operand,
    },
    /// The address: a base, a scaled index and a number.
    Address {
        to: Register,
        base: Register,
        index: Register,
        scale: u32,
        add: u64,
    },
    /// To what lies so far behind the instruction.
    Jump(u64),
    /// Takes so many bytes of arguments with it.
    Return(u64),
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operand {
    Register(Register),
    Number(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Add,
    Sub,
    /// As `Sub`, without its result.
    Cmp,
    And,
    /// As `And`, without its result.
    Test,
    Or,
    Xor,
}

/// The memory that a step needs: eight bytes of the stack.
pub(super) trait Stack {
    fn read(&self, address: u64) -> Result<u64, Unreadable>;
    fn write(&self, address: u64, value: u64) -> Result<(), Unreadable>;
}

impl Step {
    /// What an instruction does; None where the tracer can't do that.
    pub(super) fn of(instruction: &Instruction) -> Option<Self> {
        // Prefixes that change what it does; a branch prefix of MPX, as some returns have it, does nothing.
        if instruction.has_lock_prefix() {
            return None;
        }
        let compute = |operation| {
            let (to, with) = (register(instruction, 0)?, operand(instruction, 1)?);
            Some(Self::Compute { operation, to, with })
        };
        match instruction.mnemonic() {
            Mnemonic::Nop | Mnemonic::Endbr64 => Some(Self::Nothing),
            Mnemonic::Push => {
                let pushed = register(instruction, 0)?;
                pushed.is_gpr64().then_some(Self::Push(pushed))
            }
            Mnemonic::Mov => {
                let (to, from) = (register(instruction, 0)?, operand(instruction, 1)?);
                Some(Self::Move { to, from })
            }
            Mnemonic::Movsxd => {
                let (to, from) = (register(instruction, 0)?, register(instruction, 1)?);
                (to.is_gpr64() && from.is_gpr32()).then_some(Self::Extend { to, from })
            }
            Mnemonic::Add => compute(Operation::Add),
            Mnemonic::Sub => compute(Operation::Sub),
            Mnemonic::Cmp => compute(Operation::Cmp),
            Mnemonic::And => compute(Operation::And),
            Mnemonic::Test => compute(Operation::Test),
            Mnemonic::Or => compute(Operation::Or),
            Mnemonic::Xor => compute(Operation::Xor),
            Mnemonic::Lea => {
                let (base, index) = (instruction.memory_base(), instruction.memory_index());
                let whole = |register: Register| register == Register::None || register.is_gpr64();
                if !whole(base) || !whole(index) {
                    return None;
                }
                let scale = instruction.memory_index_scale();
                let add = instruction.memory_displacement64();
                Some(Self::Address { to: register(instruction, 0)?, base, index, scale, add })
            }
            Mnemonic::Jmp if instruction.is_jmp_short_or_near() => {
                Some(Self::Jump(instruction.near_branch64().wrapping_sub(instruction.ip())))
            }
            Mnemonic::Ret if instruction.op_count() == 0 => Some(Self::Return(0)),
            Mnemonic::Ret => Some(Self::Return(instruction.immediate16().into())),
            _ => None,
        }
    }

    /// Carries it out: an instruction of this length, at which these registers point.
    pub(super) fn take(
        self,
        len: u64,
        registers: &mut user_regs_struct,
        stack: &impl Stack,
    ) -> Result<(), Unreadable> {
        let next = registers.rip.wrapping_add(len);
        match self {
            Self::Nothing => {}
            Self::Push(pushed) => {
                let value = value(registers, Operand::Register(pushed));
                let top = registers.rsp.wrapping_sub(8);
                stack.write(top, value)?;
                registers.rsp = top;
            }
            Self::Move { to, from } => {
                let value = value(registers, from);
                set(registers, to, value);
            }
            Self::Extend { to, from } => {
                let value = value(registers, Operand::Register(from)) as i32;
                set(registers, to, i64::from(value) as u64);
            }
            Self::Compute { operation, to, with } => {
                let (a, b) = (value(registers, Operand::Register(to)), value(registers, with));
                let bits = 8 * to.size() as u32;
                let (result, flags) = operation.on(a, b, bits);
                registers.eflags = registers.eflags & !flags::ALL | flags;
                if !matches!(operation, Operation::Cmp | Operation::Test) {
                    set(registers, to, result);
                }
            }
            Self::Address { to, base, index, scale, add } => {
                let part = |register| match register {
                    Register::None => 0,
                    register => value(registers, Operand::Register(register)),
                };
                let scaled = part(index).wrapping_mul(scale.into());
                let address = part(base).wrapping_add(scaled).wrapping_add(add);
                set(registers, to, address);
            }
            Self::Jump(distance) => {
                registers.rip = registers.rip.wrapping_add(distance);
                return Ok(());
            }
            Self::Return(arguments) => {
                let to = stack.read(registers.rsp)?;
                registers.rsp = registers.rsp.wrapping_add(8).wrapping_add(arguments);
                registers.rip = to;
                return Ok(());
            }
        }
        registers.rip = next;
        Ok(())
    }
}

/// Bits of the register of flags that computing changes.
mod flags {
    pub(super) const CARRY: u64 = 1;
    pub(super) const PARITY: u64 = 1 << 2;
    pub(super) const ADJUST: u64 = 1 << 4;
    pub(super) const ZERO: u64 = 1 << 6;
    pub(super) const SIGN: u64 = 1 << 7;
    pub(super) const OVERFLOW: u64 = 1 << 11;
    pub(super) const ALL: u64 = CARRY | PARITY | ADJUST | ZERO | SIGN | OVERFLOW;
}

impl Operation {
    /// The result in so many bits (32 or 64), and the flags.
    fn on(self, a: u64, b: u64, bits: u32) -> (u64, u64) {
        let mask = u64::MAX >> (64 - bits);
        let (a, b) = (a & mask, b & mask);
        let (result, carry, overflow) = match self {
            Self::Add => {
                let result = a.wrapping_add(b) & mask;
                (result, result < a, !(a ^ b) & (a ^ result))
            }
            Self::Sub | Self::Cmp => {
                let result = a.wrapping_sub(b) & mask;
                (result, a < b, (a ^ b) & (a ^ result))
            }
            Self::And | Self::Test => (a & b, false, 0),
            Self::Or => (a | b, false, 0),
            Self::Xor => (a ^ b, false, 0),
        };
        let top = 1 << (bits - 1);
        // Undefined after the logical ones, where processors clear it.
        let adjust = match self {
            Self::Add | Self::Sub | Self::Cmp => (a ^ b ^ result) & 0x10 != 0,
            _ => false,
        };
        let flag = |is_set: bool, flag: u64| if is_set { flag } else { 0 };
        let flags = flag(carry, flags::CARRY)
            | flag((result as u8).count_ones().is_multiple_of(2), flags::PARITY)
            | flag(adjust, flags::ADJUST)
            | flag(result == 0, flags::ZERO)
            | flag(result & top != 0, flags::SIGN)
            | flag(overflow & top != 0, flags::OVERFLOW);
        (result, flags)
    }
}

/// An operand that is a whole register, or the lower half of one.
fn register(instruction: &Instruction, operand: u32) -> Option<Register> {
    let register = match instruction.op_kind(operand) {
        OpKind::Register => instruction.op_register(operand),
        _ => return None,
    };
    (register.is_gpr64() || register.is_gpr32()).then_some(register)
}

fn operand(instruction: &Instruction, operand: u32) -> Option<Operand> {
    match instruction.op_kind(operand) {
        OpKind::Register => register(instruction, operand).map(Operand::Register),
        OpKind::Immediate32
        | OpKind::Immediate64
        | OpKind::Immediate8to32
        | OpKind::Immediate8to64
        | OpKind::Immediate32to64 => Some(Operand::Number(instruction.immediate(operand))),
        _ => None,
    }
}

fn value(registers: &user_regs_struct, operand: Operand) -> u64 {
    match operand {
        Operand::Number(number) => number,
        Operand::Register(register) => {
            let mut registers = *registers;
            let whole = *slot(&mut registers, register);
            if register.is_gpr32() { whole & u64::from(u32::MAX) } else { whole }
        }
    }
}

/// What is written to the lower half of a register clears the upper one.
fn set(registers: &mut user_regs_struct, register: Register, value: u64) {
    *slot(registers, register) =
        if register.is_gpr32() { value & u64::from(u32::MAX) } else { value };
}

fn slot(registers: &mut user_regs_struct, register: Register) -> &mut u64 {
    match register.full_register() {
        Register::RAX => &mut registers.rax,
        Register::RBX => &mut registers.rbx,
        Register::RCX => &mut registers.rcx,
        Register::RDX => &mut registers.rdx,
        Register::RSI => &mut registers.rsi,
        Register::RDI => &mut registers.rdi,
        Register::RBP => &mut registers.rbp,
        Register::RSP => &mut registers.rsp,
        Register::R8 => &mut registers.r8,
        Register::R9 => &mut registers.r9,
        Register::R10 => &mut registers.r10,
        Register::R11 => &mut registers.r11,
        Register::R12 => &mut registers.r12,
        Register::R13 => &mut registers.r13,
        Register::R14 => &mut registers.r14,
        Register::R15 => &mut registers.r15,
        other => unreachable!("{other:?} is no general register"),
    }
}

#[cfg(test)]
mod tests {
    use std::arch::asm;
    use std::cell::RefCell;
    use std::collections::HashMap;

    use iced_x86::{Decoder, DecoderOptions};
    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Cells(RefCell<HashMap<u64, u64>>);

    impl Stack for Cells {
        fn read(&self, address: u64) -> Result<u64, Unreadable> {
            self.0.borrow().get(&address).copied().ok_or(Unreadable)
        }

        fn write(&self, address: u64, value: u64) -> Result<(), Unreadable> {
            self.0.borrow_mut().insert(address, value);
            Ok(())
        }
    }

    const AT: u64 = 0x1000;

    fn registers() -> user_regs_struct {
        // SAFETY: the structure is plain numbers, for which zero is a value.
        let mut registers: user_regs_struct = unsafe { std::mem::zeroed() };
        registers.rip = AT;
        registers.rsp = 0x8000;
        registers
    }

    fn step(code: &[u8]) -> (Option<Step>, u64) {
        let instruction = Decoder::with_ip(64, code, AT, DecoderOptions::NONE).decode();
        assert_eq!(instruction.len(), code.len(), "{instruction:?}");
        (Step::of(&instruction), code.len() as u64)
    }

    fn after(code: &[u8], mut registers: user_regs_struct, stack: &Cells) -> user_regs_struct {
        let (step, len) = step(code);
        step.expect("it can be done").take(len, &mut registers, stack).unwrap();
        registers
    }

    #[test]
    fn what_functions_begin_with() {
        let stack = Cells::default();
        let start = user_regs_struct { rdi: 5, rbx: 7, r15: 9, rax: u64::MAX, ..registers() };
        // endbr64; nop dword [rax]
        for code in [&[0xf3, 0x0f, 0x1e, 0xfa][..], &[0x0f, 0x1f, 0x40, 0x00]] {
            let end = after(code, start, &stack);
            assert_eq!(end, user_regs_struct { rip: AT + code.len() as u64, ..start });
        }
        // push r15
        let end = after(&[0x41, 0x57], start, &stack);
        assert_eq!(end, user_regs_struct { rip: AT + 2, rsp: 0x7ff8, ..start });
        assert_eq!(stack.read(0x7ff8), Ok(9));
        // push rsp: as it was before
        after(&[0x54], start, &stack);
        assert_eq!(stack.read(0x7ff8), Ok(0x8000));
        // mov rbp, rsp; mov eax, edi
        assert_eq!(after(&[0x48, 0x89, 0xe5], start, &stack).rbp, 0x8000);
        assert_eq!(after(&[0x89, 0xf8], start, &stack).rax, 5);
        // movsxd rdx, edx
        let negative = user_regs_struct { rdx: 0xffff_fffe, ..start };
        assert_eq!(after(&[0x48, 0x63, 0xd2], negative, &stack).rdx as i64, -2);
        // sub rsp, 0x18
        let end = after(&[0x48, 0x83, 0xec, 0x18], start, &stack);
        assert_eq!((end.rsp, end.eflags), (0x7fe8, flags::PARITY | flags::ADJUST));
        // sub rsp, 0x1000
        assert_eq!(after(&[0x48, 0x81, 0xec, 0, 0x10, 0, 0], start, &stack).rsp, 0x7000);
        // xor r8d, r8d
        let start = user_regs_struct { r8: 12, ..start };
        let end = after(&[0x45, 0x31, 0xc0], start, &stack);
        assert_eq!((end.r8, end.eflags), (0, flags::ZERO | flags::PARITY));
        // lea r10, [rsp+8]; lea rax, [rdi+rbx*4-1]
        assert_eq!(after(&[0x4c, 0x8d, 0x54, 0x24, 0x08], start, &stack).r10, 0x8008);
        assert_eq!(after(&[0x48, 0x8d, 0x44, 0x9f, 0xff], start, &stack).rax, 32);
        // jmp to itself; jmp far behind
        assert_eq!(after(&[0xeb, 0xfe], start, &stack), start);
        assert_eq!(after(&[0xe9, 0, 1, 0, 0], start, &stack).rip, AT + 0x105);
    }

    #[test]
    fn what_functions_end_with() {
        let stack = Cells::default();
        stack.write(0x8000, 0x1234).unwrap();
        // ret; rep ret; bnd ret; ret 16
        for (code, rsp) in [
            (&[0xc3][..], 0x8008),
            (&[0xf3, 0xc3], 0x8008),
            (&[0xf2, 0xc3], 0x8008),
            (&[0xc2, 16, 0], 0x8018),
        ] {
            let end = after(code, registers(), &stack);
            assert_eq!(end, user_regs_struct { rip: 0x1234, rsp, ..registers() });
        }
        let mut lost = user_regs_struct { rsp: 1, ..registers() };
        let (ret, len) = step(&[0xc3]);
        assert_eq!(ret.unwrap().take(len, &mut lost, &stack), Err(Unreadable));
        assert_eq!(lost, user_regs_struct { rsp: 1, ..registers() });
    }

    #[test]
    fn what_is_left_to_the_processor() {
        // mov rax, fs:[0x28]; cmp byte [rdi], 0; call; lea rax, [rip+8]; push word ax; lock xadd
        for code in [
            &[0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0][..],
            &[0x80, 0x3f, 0],
            &[0xe8, 0, 0, 0, 0],
            &[0x48, 0x8d, 0x05, 8, 0, 0, 0],
            &[0x66, 0x50],
            &[0xf0, 0x0f, 0xc1, 0x07],
            &[0xff, 0xe0],
        ] {
            assert_eq!(step(code).0, None, "{code:x?}");
        }
    }

    macro_rules! by_the_processor {
        ($name:literal, $a:expr, $b:expr) => {{
            let (mut a, b) = ($a, $b);
            let flags: u64;
            // SAFETY: computes with two registers, and shows the flags by way of the stack.
            unsafe {
                asm!(concat!($name, " {a}, {b}"), "pushfq", "pop {flags}",
                    a = inout(reg) a, b = in(reg) b, flags = out(reg) flags);
            }
            (a, flags & flags::ALL)
        }};
        (32 $name:literal, $a:expr, $b:expr) => {{
            let (mut a, b) = ($a, $b);
            let flags: u64;
            // SAFETY: as above.
            unsafe {
                asm!(concat!($name, " {a:e}, {b:e}"), "pushfq", "pop {flags}",
                    a = inout(reg) a, b = in(reg) b, flags = out(reg) flags);
            }
            (a, flags & flags::ALL)
        }};
    }

    fn edges() -> impl Strategy<Value = u64> {
        prop_oneof![
            any::<u64>(),
            prop::sample::select(vec![0, 1, 15, 16, u64::MAX, 1 << 63, (1 << 63) - 1, 1 << 31]),
        ]
    }

    proptest! {
        #[test]
        fn computes_as_the_processor_does(a in edges(), b in edges()) {
            use Operation::{Add, And, Or, Sub, Xor};
            prop_assert_eq!(Add.on(a, b, 64), by_the_processor!("add", a, b));
            prop_assert_eq!(Sub.on(a, b, 64), by_the_processor!("sub", a, b));
            prop_assert_eq!(And.on(a, b, 64), by_the_processor!("and", a, b));
            prop_assert_eq!(Or.on(a, b, 64), by_the_processor!("or", a, b));
            prop_assert_eq!(Xor.on(a, b, 64), by_the_processor!("xor", a, b));
            prop_assert_eq!(Add.on(a, b, 32), by_the_processor!(32 "add", a, b));
            prop_assert_eq!(Sub.on(a, b, 32), by_the_processor!(32 "sub", a, b));
            prop_assert_eq!(And.on(a, b, 32), by_the_processor!(32 "and", a, b));
            prop_assert_eq!(Operation::Cmp.on(a, b, 64).1, by_the_processor!("cmp", a, b).1);
            prop_assert_eq!(Operation::Test.on(a, b, 64).1, by_the_processor!("test", a, b).1);
        }
    }
}
