//! Trees to take snapshots of: the same in every run, with sizes and contents as work trees have them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::super::trace::{Noise, prose};

/// Bytes that contents are cut from.
const POOL: usize = 4 << 20;

/// A tree, by what it is made of.
#[derive(Clone, Copy)]
pub struct Plan {
    /// As printed.
    pub name: &'static str,
    /// Files.
    pub files: u64,
    /// The sum of their lengths, about, bytes.
    pub bytes: u64,
}

/// The two trees.
pub const PLANS: [Plan; 2] = [
    Plan { name: "20,000 files, 300 MB", files: 20_000, bytes: 300_000_000 },
    Plan { name: "100,000 files, 500 MB", files: 100_000, bytes: 500_000_000 },
];

/// A file's path in the tree: a dozen in each directory, three levels deep.
pub fn path(number: u64) -> PathBuf {
    let dir = number / 12;
    PathBuf::from(format!("part{}/module{}/unit{dir}/file{number}.txt", dir / 400, dir / 20))
}

/// Writes the tree as the new directory `root`.
pub fn write(plan: Plan, root: &Path) -> Result<()> {
    let mut noise = Noise(plan.files);
    let text = prose(&mut noise, POOL).into_bytes();
    let random: Vec<u8> = (0..POOL).map(|_| noise.below(256) as u8).collect();
    // What the shares below come to, on average.
    let scale = plan.bytes as f64 / plan.files as f64 / 17_460.0;
    for number in 0..plan.files {
        let (from, to) = match noise.below(100) {
            0..55 => (100, 4_000),
            55..80 => (4_000, 16_000),
            80..95 => (16_000, 64_000),
            _ => (64_000, 256_000),
        };
        let len = ((from + noise.below(to - from)) as f64 * scale) as usize;
        // Images, archives and compiled things.
        let pool = if noise.below(8) == 0 { &random } else { &text };
        let at = noise.below((POOL - len) as u64) as usize;
        let mut content = format!("{number}\n").into_bytes();
        content.extend_from_slice(&pool[at..at + len]);
        let path = root.join(path(number));
        let parent = path.parent().context("a file lies in a directory")?;
        if number % 12 == 0 {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
