//! Looking for names in the symbol tables of an ELF file.
//!
//! Most objects hold none of them, and some have symbol tables of many megabytes: so the table of strings is searched for
//! the names first, and symbols are compared by where their names would stand.

use std::fs::File;
use std::io;

use memchr::memmem;
use object::elf::{
    EM_AARCH64, EM_X86_64, FileHeader64, PF_X, PT_LOAD, SHN_UNDEF, SHT_DYNSYM, SHT_SYMTAB,
    STT_FUNC, Sym64,
};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, SectionTable, Sym};
use object::{LittleEndian, ReadCache};

use super::Function;
use super::functions::{MARKS, Row, TABLE};

type Header = FileHeader64<LittleEndian>;
type Cached<'file> = &'file ReadCache<&'file File>;

const MACHINE: u16 = if cfg!(target_arch = "aarch64") { EM_AARCH64 } else { EM_X86_64 };
/// No table of symbols or strings is longer: the largest browsers have some 100 MiB.
const MAX_TABLE: u64 = 256 << 20;

pub(super) fn functions(file: &File) -> io::Result<Vec<Function>> {
    // What else there is in a file that is not there to be read is no object.
    if !file.metadata()?.is_file() {
        return Ok(Vec::new());
    }
    let cache = ReadCache::new(file);
    let Some(object) = Object::new(&cache) else { return Ok(Vec::new()) };
    let found = object.functions();
    #[cfg(target_arch = "x86_64")]
    if found.is_empty() && object.has_name(super::boringssl::MARK) {
        return super::boringssl::functions(file, &object.segments());
    }
    Ok(found)
}

/// Whether it is an ELF file of this architecture with a section of that name.
pub(super) fn has_section(file: &File, name: &[u8]) -> bool {
    let cache = ReadCache::new(file);
    Object::new(&cache)
        .is_some_and(|object| object.sections.section_by_name(LittleEndian, name).is_some())
}

/// A piece of a file that is mapped into memory.
#[derive(Clone, Copy, Debug)]
#[cfg(target_arch = "x86_64")]
pub(super) struct Segment {
    pub(super) address: u64,
    pub(super) offset: u64,
    pub(super) len: u64,
    /// It can be executed.
    pub(super) is_code: bool,
}

/// An ELF file of this architecture.
struct Object<'file> {
    data: Cached<'file>,
    header: &'file Header,
    sections: SectionTable<'file, Header, Cached<'file>>,
}

impl<'file> Object<'file> {
    fn new(data: Cached<'file>) -> Option<Self> {
        let header = Header::parse(data).ok()?;
        let endian = header.endian().ok()?;
        if header.e_machine(endian) != MACHINE {
            return None;
        }
        let sections = header.sections(endian, data).ok()?;
        Some(Self { data, header, sections })
    }

    /// From the table that the dynamic linker uses, or else the one for debuggers.
    fn functions(&self) -> Vec<Function> {
        let mut found = self.in_table(SHT_DYNSYM);
        if found.is_empty() {
            found = self.in_table(SHT_SYMTAB);
        }
        // Each version of a symbol is a symbol.
        found.sort_by_key(|function| function.address);
        found.dedup_by_key(|function| function.address);
        let is_there = |name| found.iter().any(|function| function.name == name);
        let wrappers: Vec<_> = TABLE
            .iter()
            .filter(|row| row.calls.is_some_and(is_there))
            .map(|row| row.name)
            .collect();
        found.retain(|function| !wrappers.contains(&function.name));
        found
    }

    /// Whether the dynamic linker's names hold this one.
    #[cfg(target_arch = "x86_64")]
    fn has_name(&self, name: &[u8]) -> bool {
        let mut tables =
            self.sections.iter().filter(|section| section.sh_type(LittleEndian) == SHT_DYNSYM);
        tables.any(|table| {
            let names = self.sections.section(table.link(LittleEndian)).ok();
            let names = names.filter(|names| names.sh_size(LittleEndian) <= MAX_TABLE);
            let names = names.and_then(|names| names.data(LittleEndian, self.data).ok());
            names.is_some_and(|names| memmem::find(names, name).is_some())
        })
    }

    #[cfg(target_arch = "x86_64")]
    fn segments(&self) -> Vec<Segment> {
        let all = self.header.program_headers(LittleEndian, self.data).unwrap_or_default();
        let mapped = all.iter().filter(|segment| segment.p_type(LittleEndian) == PT_LOAD);
        let segment = |segment: &object::elf::ProgramHeader64<LittleEndian>| Segment {
            address: segment.p_vaddr(LittleEndian),
            offset: segment.p_offset(LittleEndian),
            len: segment.p_filesz(LittleEndian),
            is_code: segment.p_flags(LittleEndian) & PF_X != 0,
        };
        mapped.map(segment).collect()
    }

    fn in_table(&self, kind: u32) -> Vec<Function> {
        let tables = self.sections.iter().filter(|section| section.sh_type(LittleEndian) == kind);
        tables.filter_map(|table| self.in_section(table)).flatten().collect()
    }

    fn in_section(
        &self,
        table: &'file <Header as FileHeader>::SectionHeader,
    ) -> Option<Vec<Function>> {
        let names = self.sections.section(table.link(LittleEndian)).ok()?;
        if names.sh_size(LittleEndian) > MAX_TABLE || table.sh_size(LittleEndian) > MAX_TABLE {
            return None;
        }
        let names = names.data(LittleEndian, self.data).ok()?;
        if !MARKS.iter().any(|mark| memmem::find(names, mark.as_bytes()).is_some()) {
            return None;
        }
        let wanted = places(names);
        let symbols: &[Sym64<LittleEndian>] = table.data_as_array(LittleEndian, self.data).ok()?;
        let function = |symbol: &Sym64<LittleEndian>| {
            let name = symbol.st_name(LittleEndian);
            let (_, row) = wanted.iter().find(|(place, _)| *place == name)?;
            let defined = symbol.st_shndx(LittleEndian) != SHN_UNDEF;
            if !defined || symbol.st_type() != STT_FUNC {
                return None;
            }
            let address = symbol.st_value(LittleEndian);
            let size = symbol.st_size(LittleEndian);
            let offset = self.offset(address)?;
            Some(Function { name: row.name, kind: row.kind, offset, address, size })
        };
        Some(symbols.iter().filter_map(function).collect())
    }

    /// Where in the file the code at an address stands.
    fn offset(&self, address: u64) -> Option<u64> {
        let segments = self.header.program_headers(LittleEndian, self.data).ok()?;
        segments.iter().find_map(|segment| {
            let code = segment.p_type(LittleEndian) == PT_LOAD
                && segment.p_flags(LittleEndian) & PF_X != 0;
            let inside = address.checked_sub(segment.p_vaddr(LittleEndian))?;
            (code && inside < segment.p_filesz(LittleEndian))
                .then(|| segment.p_offset(LittleEndian).checked_add(inside))?
        })
    }
}

/// Where in a table of strings the names of functions stand. A name may be the end of a longer one: linkers share them.
fn places(names: &[u8]) -> Vec<(u32, &'static Row)> {
    let of = |row: &'static Row| {
        let text = [row.name.as_bytes(), &[0]].concat();
        let found: Vec<_> = memmem::find_iter(names, &text).map(|at| (at as u32, row)).collect();
        found
    };
    TABLE.iter().flat_map(of).collect()
}
