//! What a BPF object was built from: a small text beside it.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Error, Result};

use crate::workspace;

/// Hashes of a BPF object and its sources, and the toolchain.
#[derive(PartialEq, Eq, Debug)]
pub struct Origin {
    /// BLAKE3 of the object.
    pub object: String,
    /// BLAKE3 of everything that it is made of, toolchain aside.
    pub sources: String,
    /// The versions of what made it.
    pub toolchain: String,
}

impl Origin {
    /// Of an object that this toolchain makes of the present sources.
    pub fn of(object: &[u8], toolchain: &str) -> Result<Self> {
        Ok(Self {
            object: blake3::hash(object).to_hex().to_string(),
            sources: hash_sources(workspace::root())?,
            toolchain: toolchain.to_owned(),
        })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# Written by `cargo xtask ebpf`: what agentrec.bpf.o is, and was built from."
        )?;
        writeln!(f, "object {}", self.object)?;
        writeln!(f, "sources {}", self.sources)?;
        writeln!(f, "toolchain {}", self.toolchain)
    }
}

impl FromStr for Origin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let value = |key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
                .map(str::to_owned)
                .with_context(|| format!("there is no line `{key}`"))
        };
        Ok(Self {
            object: value("object")?,
            sources: value("sources")?,
            toolchain: value("toolchain")?,
        })
    }
}

/// Hashes the crate of the BPF programs, the versions of its dependencies, and the profile that it is built with.
fn hash_sources(root: &Path) -> Result<String> {
    let mut files = vec![PathBuf::from("recorder-ebpf/Cargo.toml")];
    for folder in ["recorder-ebpf/src", "recorder-ebpf/programs"] {
        rust_files(root, Path::new(folder), &mut files)?;
    }
    files.sort();
    let mut hasher = blake3::Hasher::new();
    for file in files {
        let text = fs::read(root.join(&file))
            .with_context(|| format!("cannot read {}", file.display()))?;
        part(&mut hasher, file.as_os_str().as_encoded_bytes());
        part(&mut hasher, &text);
    }
    let read = |name: &str| {
        fs::read_to_string(root.join(name)).with_context(|| format!("cannot read {name}"))
    };
    part(&mut hasher, paragraphs(&read("Cargo.lock")?, "name = \"aya-ebpf").as_bytes());
    part(&mut hasher, paragraphs(&read("Cargo.toml")?, "[profile.ebpf]").as_bytes());
    Ok(hasher.finalize().to_hex().to_string())
}

fn part(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

/// The paragraphs of a TOML file that hold a text.
fn paragraphs(text: &str, wanted: &str) -> String {
    let found: Vec<_> =
        text.split("\n\n").map(str::trim).filter(|part| part.contains(wanted)).collect();
    found.join("\n\n")
}

fn rust_files(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = fs::read_dir(root.join(folder))
        .with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            rust_files(root, &path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_reads_what_it_wrote() {
        let origin = Origin::of(b"object", "rustc 1, bpf-linker 2").unwrap();
        assert_eq!(origin.to_string().parse::<Origin>().unwrap(), origin);
    }

    #[test]
    fn only_what_the_object_is_made_of_counts() {
        let lock = "[[package]]\nname = \"aya\"\n\n[[package]]\nname = \"aya-ebpf\"\n\n[[package]]\nname = \"aya-ebpf-cty\"";
        let found = paragraphs(lock, "name = \"aya-ebpf");
        assert_eq!(
            found,
            "[[package]]\nname = \"aya-ebpf\"\n\n[[package]]\nname = \"aya-ebpf-cty\""
        );
    }
}
