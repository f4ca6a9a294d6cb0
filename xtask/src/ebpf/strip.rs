//! Leaves the debug information out of a BPF object. Its BTF was made from that, and is all that the kernel reads.

use anyhow::{Context, Result, ensure};

/// Sizes and offsets of the ELF header and of section headers (elf(5), 64 bits).
mod elf {
    pub const HEADER: usize = 64;
    pub const SECTIONS_AT: usize = 0x28;
    pub const SECTION_COUNT: usize = 0x3c;
    pub const NAMES_INDEX: usize = 0x3e;
    pub const SECTION: usize = 64;
    pub const OFFSET: usize = 24;
    pub const SIZE: usize = 32;
    pub const ALIGNMENT: usize = 48;
}

/// The object without its sections of debug information. They stay in the table as unused entries: symbols and
/// relocations name sections by their number.
pub fn strip(object: &[u8]) -> Result<Vec<u8>> {
    ensure!(object.starts_with(b"\x7fELF\x02\x01"), "not a little-endian ELF file of 64 bits");
    let table = number(object, elf::SECTIONS_AT, 8)?;
    let count = number(object, elf::SECTION_COUNT, 2)?;
    let mut sections = Vec::new();
    for index in 0..count {
        sections.push(part(object, table + index * elf::SECTION, elf::SECTION)?.to_vec());
    }
    let names = sections.get(number(object, elf::NAMES_INDEX, 2)?).context("no section names")?;
    let names = contents(object, names)?;
    let mut stripped = part(object, 0, elf::HEADER)?.to_vec();
    for section in &mut sections {
        let name = names.get(number(section, 0, 4)?..).context("a name outside of the names")?;
        if name.starts_with(b".debug_") || name.starts_with(b".rel.debug_") {
            section.fill(0);
        }
        let size = number(section, elf::SIZE, 8)?;
        if size == 0 {
            continue;
        }
        pad(&mut stripped, number(section, elf::ALIGNMENT, 8)?);
        let data = contents(object, section)?;
        section[elf::OFFSET..][..8].copy_from_slice(&stripped.len().to_le_bytes());
        stripped.extend(data);
    }
    pad(&mut stripped, 8);
    let table = stripped.len().to_le_bytes();
    stripped[elf::SECTIONS_AT..][..8].copy_from_slice(&table);
    stripped.extend(sections.concat());
    Ok(stripped)
}

fn contents<'a>(object: &'a [u8], section: &[u8]) -> Result<&'a [u8]> {
    part(object, number(section, elf::OFFSET, 8)?, number(section, elf::SIZE, 8)?)
}

fn part(bytes: &[u8], at: usize, size: usize) -> Result<&[u8]> {
    bytes.get(at..).and_then(|rest| rest.get(..size)).context("the file is cut off")
}

fn number(bytes: &[u8], at: usize, size: usize) -> Result<usize> {
    let mut whole = [0; 8];
    whole[..size].copy_from_slice(part(bytes, at, size)?);
    Ok(usize::from_le_bytes(whole))
}

fn pad(bytes: &mut Vec<u8>, alignment: usize) {
    bytes.resize(bytes.len().next_multiple_of(alignment.max(1)), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file with three sections: none, names, and one of this name.
    fn object(name: &str, data: &[u8]) -> Vec<u8> {
        let names = format!("\0{name}\0");
        let mut object = vec![0; elf::HEADER];
        object[..6].copy_from_slice(b"\x7fELF\x02\x01");
        object[elf::SECTION_COUNT] = 3;
        object[elf::NAMES_INDEX] = 1;
        let mut sections = vec![0; 3 * elf::SECTION];
        for (index, name_at, data) in [(1, 0, names.as_bytes()), (2, 1, data)] {
            let section = &mut sections[index * elf::SECTION..];
            section[0] = name_at;
            section[elf::OFFSET..][..8].copy_from_slice(&object.len().to_le_bytes());
            section[elf::SIZE..][..8].copy_from_slice(&data.len().to_le_bytes());
            section[elf::ALIGNMENT] = 1;
            object.extend(data);
        }
        let table = object.len().to_le_bytes();
        object[elf::SECTIONS_AT..][..8].copy_from_slice(&table);
        object.extend(sections);
        object
    }

    #[test]
    fn debug_information_goes_and_all_else_stays() {
        let kept = strip(&object(".BTF", b"types")).unwrap();
        assert!(kept.windows(5).any(|bytes| bytes == b"types"));
        assert_eq!(strip(&kept).unwrap(), kept);
        for name in [".debug_info", ".rel.debug_info"] {
            let stripped = strip(&object(name, b"types")).unwrap();
            assert!(!stripped.windows(5).any(|bytes| bytes == b"types"));
        }
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        let whole = object(".BTF", b"types");
        for end in 0..whole.len() {
            assert!(strip(&whole[..end]).is_err(), "{end}");
        }
    }
}
