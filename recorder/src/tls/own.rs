//! TLS that a program brings along in a form in which no function of it can be found: whose it is.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use memchr::memmem;

use super::elf;

/// Whose TLS it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// Go's crypto/tls.
    Go,
    /// rustls, of programs in Rust.
    Rustls,
}

impl Own {
    /// Why a connection can't be read, for `net.opaque`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Go => "go-tls",
            Self::Rustls => "rustls",
        }
    }
}

/// Where every program that Go's linker makes says what it is made of (debug/buildinfo), stripped or not.
const GO: &[u8] = b".go.buildinfo";
/// The module of rustls, in the names under which it logs.
const RUSTLS: &[u8] = b"rustls::";
/// What is read at once.
const BLOCK: usize = 1 << 20;
/// Of a longer program, only so much is searched.
const LONGEST: u64 = 512 << 20;

/// Whose TLS an executable brings along, as far as that shows.
///
/// # Errors
/// Where the file can't be read.
pub fn own(file: &File) -> io::Result<Option<Own>> {
    if elf::has_section(file, GO) {
        return Ok(Some(Own::Go));
    }
    Ok(holds(file, RUSTLS)?.then_some(Own::Rustls))
}

/// Whether the text stands anywhere in the file.
fn holds(file: &File, text: &[u8]) -> io::Result<bool> {
    let finder = memmem::Finder::new(text);
    let mut block = vec![0; BLOCK];
    let (mut at, mut kept) = (0, 0);
    while at < LONGEST {
        let read = file.read_at(&mut block[kept..], at)?;
        if read == 0 {
            return Ok(false);
        }
        let len = kept + read;
        if finder.find(&block[..len]).is_some() {
            return Ok(true);
        }
        // It may begin in this block and end in the next one.
        kept = len.min(text.len() - 1);
        block.copy_within(len - kept..len, 0);
        at += read as u64;
    }
    Ok(false)
}
