//! What compiles and links BPF programs: the distribution's packages in a folder of their own, or rustup's nightly.
//!
//! Rust's `core` has to be compiled for the BPF target, which takes sources that fit the compiler exactly, and the linker
//! must know the bitcode of that compiler's LLVM. Debian has compiler, sources and LLVM of one version (made for its
//! browsers, hence `-web`). They are unpacked below the target directory, never installed.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::run_command;

/// The linker's version. It works with the LLVM versions of its features `llvm-N`.
const LINKER: &str = "0.13.0";

/// A compiler and a linker for BPF.
pub struct Toolchain {
    /// The folder with the distribution's packages; rustup's nightly without.
    unpacked: Option<PathBuf>,
    sysroot: PathBuf,
    linker: PathBuf,
    version: String,
}

impl Toolchain {
    /// Finds one, or makes it in `dir`, where the next call finds it.
    pub fn find(rustup: bool, dir: &Path) -> Result<Self> {
        if rustup { Self::of_rustup() } else { Self::of_distribution(dir) }
    }

    fn of_rustup() -> Result<Self> {
        let sysroot =
            said(Command::new("rustup").args(["run", "nightly", "rustc", "--print=sysroot"]))?;
        ensure!(
            Path::new(&sysroot).join("lib/rustlib/src/rust/library/core").exists(),
            "rustup's nightly has no sources; run `rustup component add rust-src --toolchain nightly`"
        );
        let mut toolchain = Self {
            unpacked: None,
            sysroot: sysroot.into(),
            linker: "bpf-linker".into(),
            version: String::new(),
        };
        let rustc = said(Command::new("rustup").args(["run", "nightly", "rustc", "--version"]))?;
        toolchain.name(&rustc)?;
        Ok(toolchain)
    }

    fn of_distribution(dir: &Path) -> Result<Self> {
        let complete = dir.join("toolchain");
        if !complete.exists() {
            let partial = dir.join("toolchain.partial");
            make(&partial).context(
                "cannot make a BPF toolchain of the distribution's packages; \
                 with rustup's nightly, rust-src and bpf-linker there is `cargo xtask ebpf --rustup`",
            )?;
            fs::rename(&partial, &complete).context("cannot rename the finished toolchain")?;
        }
        let mut toolchain = Self {
            sysroot: complete.join("usr"),
            linker: complete.join("bin/bpf-linker"),
            unpacked: Some(complete),
            version: String::new(),
        };
        let rustc = said(toolchain.command("usr/bin/rustc").arg("--version"))?;
        toolchain.name(&rustc)?;
        Ok(toolchain)
    }

    /// Puts its version together.
    fn name(&mut self, rustc: &str) -> Result<()> {
        let mut linker = Command::new(&self.linker);
        self.set_libraries(&mut linker);
        self.version = format!("{rustc}, {}", said(linker.arg("--version"))?);
        Ok(())
    }

    /// The versions of compiler and linker.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Where the compiler's libraries and sources are.
    pub fn sysroot(&self) -> &Path {
        &self.sysroot
    }

    /// A cargo that compiles with this toolchain, unstable options included.
    pub fn cargo(&self) -> Command {
        let mut cargo = match &self.unpacked {
            Some(dir) => {
                let mut cargo = self.command("usr/bin/cargo");
                cargo.env("RUSTC", dir.join("usr/bin/rustc")).env("RUSTC_BOOTSTRAP", "1");
                cargo
            }
            None => {
                let mut cargo = Command::new("rustup");
                cargo.args(["run", "nightly", "cargo"]).env_remove("RUSTC");
                cargo
            }
        };
        // What the cargo that runs us was told is not meant for this one.
        for name in ["CARGO", "RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTDOC"] {
            cargo.env_remove(name);
        }
        cargo.env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &self.linker);
        cargo
    }

    fn command(&self, program: &str) -> Command {
        let dir = self.unpacked.as_deref().unwrap_or(Path::new("/"));
        let mut command = Command::new(dir.join(program));
        self.set_libraries(&mut command);
        command
    }

    fn set_libraries(&self, command: &mut Command) {
        if let Some(dir) = &self.unpacked {
            command.env("LD_LIBRARY_PATH", libraries(dir));
        }
    }
}

/// Where Debian's packages have their shared libraries.
fn libraries(dir: &Path) -> PathBuf {
    dir.join("usr/lib").join(format!("{}-linux-gnu", env::consts::ARCH))
}

/// Makes a toolchain in `dir`.
fn make(dir: &Path) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    let llvm = unpack_packages(dir)?;
    // The linker's own build looks for a name without a version, which a package for developers would have.
    let found = dir.join("llvm/lib");
    fs::create_dir_all(&found).with_context(|| format!("cannot create {}", found.display()))?;
    std::os::unix::fs::symlink(
        libraries(dir).join(format!("libLLVM-{llvm}.so")),
        found.join("libLLVM.so"),
    )
    .context("cannot link to LLVM's library")?;
    eprintln!("builds bpf-linker {LINKER} for LLVM {llvm} ...");
    let mut install = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    install.args(["install", "--quiet", "--debug", "bpf-linker", "--version", LINKER, "--locked"]);
    install.args(["--no-default-features", "--features", &format!("llvm-{llvm}"), "--no-track"]);
    install.arg("--root").arg(dir).arg("--target-dir").arg(dir.join("linker-build"));
    install.env("CARGO_PROFILE_DEV_DEBUG", "0").env("LLVM_PREFIX", dir.join("llvm"));
    // LLVM's own dependencies may be among what was unpacked.
    install.env("LIBRARY_PATH", libraries(dir));
    install.env("RUSTFLAGS", format!("-Clink-arg=-Wl,-rpath-link,{}", libraries(dir).display()));
    run_command(&mut install)?;
    fs::remove_dir_all(dir.join("linker-build")).context("cannot remove the linker's build")?;
    Ok(())
}

/// Unpacks compiler, sources, LLVM and those of their dependencies that are not installed; LLVM's major version.
fn unpack_packages(dir: &Path) -> Result<String> {
    let archives = dir.join("archives");
    fs::create_dir_all(archives.join("partial"))
        .with_context(|| format!("cannot create {}", archives.display()))?;
    // Versions are in the names of what the compiler depends on.
    let standard = match dependency("libstd-rust-web-dev", "libstd-rust-web-") {
        Ok(found) => found,
        Err(_) => {
            let mut update = Command::new("apt-get");
            run_command(update.args(["update", "-qq"]))?; // The lists may be missing or too old.
            dependency("libstd-rust-web-dev", "libstd-rust-web-")?
        }
    };
    let llvm = dependency(&standard, "libllvm")?;
    eprintln!("gets rustc-web with its sources, and {llvm} ...");
    let mut install = Command::new("apt-get");
    install.args([
        "install",
        "--download-only",
        "--reinstall",
        "-qq",
        "-y",
        "--no-install-recommends",
    ]);
    // Nothing is installed, so that neither root nor the lock is needed.
    install.args(["-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root", "-o"]);
    install.arg(format!("Dir::Cache::Archives={}/", archives.display()));
    install.args([
        "cargo-web",
        "rustc-web",
        "rust-web-src",
        "libstd-rust-web-dev",
        &standard,
        &llvm,
    ]);
    run_command(install.stdout(Stdio::null()))?;
    for entry in fs::read_dir(&archives).context("cannot list the packages")? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "deb") {
            continue;
        }
        // Of the sources, only the library's are needed: a tenth.
        let only: &[&str] = if path.to_string_lossy().contains("/rust-web-src_") {
            &["--wildcards", "./usr/lib/*", "./usr/src/*/library/*"]
        } else {
            &[]
        };
        unpack(&path, dir, only)?;
    }
    fs::remove_dir_all(&archives).context("cannot remove the packages")?;
    Ok(llvm.trim_start_matches("libllvm").to_owned())
}

fn unpack(package: &Path, dir: &Path, only: &[&str]) -> Result<()> {
    let mut contents = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run dpkg-deb")?;
    let stdout = contents.stdout.take().expect("it is piped");
    let mut tar = Command::new("tar");
    run_command(tar.args(["-x", "--no-same-owner", "-C"]).arg(dir).args(only).stdin(stdout))?;
    let status = contents.wait().context("cannot wait for dpkg-deb")?;
    ensure!(status.success(), "cannot unpack {}: {status}", package.display());
    Ok(())
}

/// The dependency of a package that starts with `prefix` and a digit.
fn dependency(package: &str, prefix: &str) -> Result<String> {
    let about = said(Command::new("apt-cache").args(["show", "--no-all-versions", package]))?;
    let Some(depends) = about.lines().find_map(|line| line.strip_prefix("Depends: ")) else {
        bail!("{package} depends on nothing");
    };
    let names = depends.split([',', '|']).filter_map(|one| one.split_whitespace().next());
    let is_wanted = |name: &&str| {
        name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    names
        .into_iter()
        .find(is_wanted)
        .map(str::to_owned)
        .with_context(|| format!("{package} does not depend on {prefix}N"))
}

/// What a program prints, without the end of the line.
fn said(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {}", errors.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
