//! The ABIs by which a program can make system calls here: this machine's own, and on x86-64 those of 32-bit programs.
//!
//! Each has a table of the covered calls. A foreign table takes what a call means from the native row of that name, so
//! that it says only what differs: the number, and how arguments are handed over.

#[cfg(target_arch = "x86_64")]
mod i386;
#[cfg(target_arch = "x86_64")]
mod x32;

use std::os::fd::RawFd;
use std::sync::LazyLock;

use super::memory::Memory;
use super::table::{Row, TABLE};

/// What audit calls the architecture that this program is compiled for (include/uapi/linux/audit.h).
#[cfg(target_arch = "x86_64")]
pub(crate) const NATIVE_ARCH: u32 = 0xc000_003e;
/// What audit calls the architecture that this program is compiled for (include/uapi/linux/audit.h).
#[cfg(target_arch = "aarch64")]
pub(crate) const NATIVE_ARCH: u32 = 0xc000_00b7;
/// What audit calls i386.
#[cfg(target_arch = "x86_64")]
pub(crate) const I386_ARCH: u32 = 0x4000_0003;
/// x32 calls have the architecture of x86-64 and this bit in their number.
#[cfg(target_arch = "x86_64")]
pub(crate) const X32_BIT: u32 = 0x4000_0000;
/// Calls of x32 alone. Older kernels with x32 take these numbers without the bit too (arch/x86/entry/common.c).
#[cfg(target_arch = "x86_64")]
pub(crate) const X32_OWN: std::ops::RangeInclusive<u32> = 512..=547;

/// How a program calls the kernel. A process may use several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abi {
    /// This program's own.
    Native,
    /// 32-bit x86: `int 0x80`, sysenter, or syscall from 32-bit code.
    #[cfg(target_arch = "x86_64")]
    I386,
    /// 32-bit pointers in 64-bit code.
    #[cfg(target_arch = "x86_64")]
    X32,
}

/// How a call's registers become the arguments that its row speaks of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Given {
    /// Each register is one.
    Whole,
    #[cfg(target_arch = "x86_64")]
    I386(i386::Given),
}

impl Abi {
    /// The ABI of a call; None for one that has no table.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(
            unused_variables,
            reason = "where there is one ABI, it is known by the architecture alone"
        )
    )]
    pub(crate) fn of(arch: u32, number: u64) -> Option<Self> {
        match arch {
            #[cfg(target_arch = "x86_64")]
            NATIVE_ARCH if number & u64::from(X32_BIT) != 0 => Some(Self::X32),
            #[cfg(target_arch = "x86_64")]
            NATIVE_ARCH if X32_OWN.contains(&(number as u32)) => None,
            NATIVE_ARCH => Some(Self::Native),
            #[cfg(target_arch = "x86_64")]
            I386_ARCH => Some(Self::I386),
            _ => None,
        }
    }

    /// The covered calls. Their order is the number that the filter reports.
    pub(crate) fn table(self) -> &'static [Row] {
        match self {
            Self::Native => TABLE,
            #[cfg(target_arch = "x86_64")]
            Self::I386 => &i386::TABLE,
            #[cfg(target_arch = "x86_64")]
            Self::X32 => &x32::TABLE,
        }
    }

    /// The row of a call that no filter has looked at, where it is covered with these registers.
    pub(crate) fn covered(self, number: u64, registers: &[u64; 6]) -> Option<&'static Row> {
        /// Rows by number: nearly every call asks of who is traced without a filter.
        static NATIVE: LazyLock<Vec<Option<&'static Row>>> = LazyLock::new(|| {
            let mut rows = Vec::new();
            for row in TABLE {
                let number = row.number as usize;
                rows.resize(rows.len().max(number + 1), None);
                rows[number] = Some(row);
            }
            rows
        });
        let row = match self {
            Self::Native => NATIVE.get(usize::try_from(number).ok()?).copied().flatten(),
            #[cfg(target_arch = "x86_64")]
            Self::I386 | Self::X32 => self.row(u32::MAX, number),
        };
        row.filter(|row| row.when.admits(registers, None))
    }

    /// The row that the filter means by `index`.
    pub(crate) fn row(self, index: u32, number: u64) -> Option<&'static Row> {
        let is = |row: &&Row| row.number as u64 == number;
        let table = self.table();
        table.get(index as usize).filter(is).or_else(|| table.iter().find(is))
    }
}

impl Row {
    /// The call that a thread makes with these registers: its row, which is another than this one for a call of many
    /// calls, and its arguments. None where the call is not covered with these arguments, or can only fail.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(unused_variables, reason = "the native ABI hands all arguments over in registers")
    )]
    pub(crate) fn called(
        &'static self,
        memory: &impl Memory,
        registers: [u64; 6],
        reserved_fd: Option<RawFd>,
    ) -> Option<(&'static Self, [u64; 6])> {
        match self.given {
            Given::Whole => Some((self, registers)),
            #[cfg(target_arch = "x86_64")]
            Given::I386(given) => given.called(self, memory, registers, reserved_fd),
        }
    }
}

/// The native row of this name, for a foreign table. That there is one is checked at compile time.
#[cfg(target_arch = "x86_64")]
const fn native(name: &str) -> Row {
    let mut index = 0;
    while index < TABLE.len() {
        if same(TABLE[index].name, name) {
            return TABLE[index];
        }
        index += 1;
    }
    panic!("no native row has this name");
}

#[cfg(target_arch = "x86_64")]
const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut index = 0;
    while index < one.len() && index < other.len() && one[index] == other[index] {
        index += 1;
    }
    index == one.len() && index == other.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every ABI that there is here.
    pub(crate) const ALL: &[Abi] = &[
        Abi::Native,
        #[cfg(target_arch = "x86_64")]
        Abi::I386,
        #[cfg(target_arch = "x86_64")]
        Abi::X32,
    ];

    #[test]
    fn each_call_has_one_row() {
        for abi in ALL {
            for (index, row) in abi.table().iter().enumerate() {
                let found = abi.row(index as u32, row.number as u64).unwrap();
                assert_eq!(found.name, row.name);
                let others = abi.table().iter().filter(|other| other.number == row.number);
                assert_eq!(others.count(), 1, "{abi:?} {}", row.name);
            }
            assert!(abi.row(0, 100_000).is_none());
        }
    }

    /// The kernel's numbers by name, from its header in this folder of /usr/include; None where it is not installed.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn header(name: &str) -> Option<std::collections::HashMap<String, u32>> {
        let path = format!("/usr/include/x86_64-linux-gnu/asm/{name}");
        let text = std::fs::read_to_string(path).ok()?;
        let number = |line: &str| {
            let (name, number) = line.strip_prefix("#define __NR_")?.split_once(' ')?;
            let number = match number.strip_prefix("(__X32_SYSCALL_BIT + ") {
                Some(rest) => X32_BIT + rest.strip_suffix(')')?.parse::<u32>().ok()?,
                None => number.parse().ok()?,
            };
            Some((name.to_owned(), number))
        };
        Some(text.lines().filter_map(number).collect())
    }
}
