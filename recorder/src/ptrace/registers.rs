//! Which register holds what while a thread is in a call, by architecture and ABI.

use libc::{c_long, user_regs_struct};

use super::tracee::{Stopped, Vanished};
use crate::calls::abi::Abi;

/// A call that starts a process or thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    #[cfg(target_arch = "x86_64")]
    Fork,
    #[cfg(target_arch = "x86_64")]
    Vfork,
    /// With these flags.
    Clone(u64),
    Clone3,
}

/// The call by which a thread at its fork stop starts another; None for one of an ABI without a table, or that the
/// thread's registers don't tell.
pub(super) fn start(stopped: &Stopped) -> Result<Option<Start>, Vanished> {
    // First: what the registers are called depends on it.
    let arch = stopped.arch()?;
    if !architecture::is_ours(arch) {
        return Ok(None);
    }
    let registers = stopped.registers()?;
    let number = architecture::number(&registers);
    let Some(abi) = Abi::of(arch, number) else { return Ok(None) };
    let flags = architecture::first_argument(&registers, abi);
    Ok(architecture::start(abi, number as c_long, flags))
}

/// Changes the first argument of the call that a thread is in. Gives what its register held.
pub(super) fn replace_first_argument(
    stopped: &Stopped,
    abi: Abi,
    value: u64,
) -> Result<u64, Vanished> {
    let registers = stopped.registers()?;
    architecture::set_first_argument(stopped, registers, abi, value)
}

/// Puts back what [`replace_first_argument`] found, in a thread that came out of its call, or was started by it.
pub(super) fn restore_first_argument(
    stopped: &Stopped,
    abi: Abi,
    value: u64,
) -> Result<(), Vanished> {
    // On aarch64 the register holds the result by now.
    if cfg!(target_arch = "aarch64") {
        return Ok(());
    }
    replace_first_argument(stopped, abi, value).map(|_| ())
}

/// Makes the call that a thread goes into fail with ENOSYS.
pub(super) fn skip_call(stopped: &Stopped) -> Result<(), Vanished> {
    architecture::skip_call(stopped)
}

#[cfg(target_arch = "x86_64")]
mod architecture {
    use std::mem::offset_of;

    use super::*;
    use crate::calls::abi::X32_BIT;

    pub(super) fn is_ours(_: u32) -> bool {
        // Those of 32-bit programs too, by the names of 64-bit code.
        true
    }

    pub(super) fn number(registers: &user_regs_struct) -> u64 {
        registers.orig_rax
    }

    /// The result is ENOSYS until a call gives another (arch/x86/entry/entry_64.S).
    pub(super) fn skip_call(stopped: &Stopped) -> Result<(), Vanished> {
        stopped.set_register(offset_of!(user_regs_struct, orig_rax), u64::MAX)
    }

    pub(super) fn first_argument(registers: &user_regs_struct, abi: Abi) -> u64 {
        match abi {
            Abi::Native | Abi::X32 => registers.rdi,
            Abi::I386 => u64::from(registers.rbx as u32),
        }
    }

    pub(super) fn set_first_argument(
        stopped: &Stopped,
        registers: user_regs_struct,
        abi: Abi,
        value: u64,
    ) -> Result<u64, Vanished> {
        let (offset, old) = match abi {
            Abi::Native | Abi::X32 => (offset_of!(user_regs_struct, rdi), registers.rdi),
            Abi::I386 => (offset_of!(user_regs_struct, rbx), registers.rbx),
        };
        stopped.set_register(offset, value)?;
        Ok(old)
    }

    pub(super) fn start(abi: Abi, number: c_long, flags: u64) -> Option<Start> {
        match (abi, number) {
            (Abi::X32, _) => start(Abi::Native, number & !c_long::from(X32_BIT), flags),
            (Abi::Native, libc::SYS_fork) | (Abi::I386, 2) => Some(Start::Fork),
            (Abi::Native, libc::SYS_vfork) | (Abi::I386, 190) => Some(Start::Vfork),
            (Abi::Native, libc::SYS_clone) | (Abi::I386, 120) => Some(Start::Clone(flags)),
            (Abi::Native | Abi::I386, libc::SYS_clone3) => Some(Start::Clone3),
            _ => None,
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod architecture {
    use super::*;
    use crate::calls::abi::NATIVE_ARCH;

    /// A 32-bit program's registers come in another structure.
    pub(super) fn is_ours(arch: u32) -> bool {
        arch == NATIVE_ARCH
    }

    /// The number is no general register here, and the result is what the first one holds then.
    pub(super) fn skip_call(stopped: &Stopped) -> Result<(), Vanished> {
        let mut registers = stopped.registers()?;
        registers.regs[0] = -i64::from(libc::ENOSYS) as u64;
        stopped.set_registers(registers)?;
        stopped.set_call(-1)
    }

    pub(super) fn number(registers: &user_regs_struct) -> u64 {
        registers.regs[8]
    }

    pub(super) fn first_argument(registers: &user_regs_struct, _: Abi) -> u64 {
        registers.regs[0]
    }

    pub(super) fn set_first_argument(
        stopped: &Stopped,
        mut registers: user_regs_struct,
        _: Abi,
        value: u64,
    ) -> Result<u64, Vanished> {
        let old = std::mem::replace(&mut registers.regs[0], value);
        stopped.set_registers(registers)?;
        Ok(old)
    }

    pub(super) fn start(_: Abi, number: c_long, flags: u64) -> Option<Start> {
        match number {
            libc::SYS_clone => Some(Start::Clone(flags)),
            libc::SYS_clone3 => Some(Start::Clone3),
            _ => None,
        }
    }
}
