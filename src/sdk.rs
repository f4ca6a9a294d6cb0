//! The Python package inside this program, for `--with-sdk`: importable in the agent without an install.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::PathBuf;

use agentrec_launch::Plan;
use agentrec_store::{Home, create_private_dir};
use agentrec_trace::ObjectId;
use anyhow::{Context as _, Result};

/// The files of the package.
const FILES: [(&str, &str); 7] = [
    ("__init__.py", include_str!("../python/agentrec_sdk/__init__.py")),
    ("_api.py", include_str!("../python/agentrec_sdk/_api.py")),
    ("_client.py", include_str!("../python/agentrec_sdk/_client.py")),
    ("_encode.py", include_str!("../python/agentrec_sdk/_encode.py")),
    ("_resume.py", include_str!("../python/agentrec_sdk/_resume.py")),
    ("_tool.py", include_str!("../python/agentrec_sdk/_tool.py")),
    ("py.typed", include_str!("../python/agentrec_sdk/py.typed")),
];

/// Puts the package on the agent's PYTHONPATH, before what stands there.
pub fn offer(home: &Home, plan: &mut Plan) -> Result<()> {
    let dir = unpack(home)?;
    let mut path = dir.into_os_string();
    if let Some(present) = plan.env_var("PYTHONPATH").filter(|present| !present.is_empty()) {
        path.push(OsStr::new(":"));
        path.push(present);
    }
    plan.set_env(OsString::from("PYTHONPATH"), path);
    Ok(())
}

/// Writes the package where it is not there yet; returns the directory to import from, which its content names.
fn unpack(home: &Home) -> Result<PathBuf> {
    let contents: String = FILES.iter().map(|(name, text)| format!("{name}\0{text}\0")).collect();
    let hash = ObjectId::of(contents.as_bytes()).to_string();
    let sdk = home.data().join("sdk");
    let dir = sdk.join(&hash[..16]);
    if dir.is_dir() {
        return Ok(dir);
    }
    let partial = sdk.join(format!("{}.{}.partial", &hash[..16], std::process::id()));
    let package = partial.join("agentrec_sdk");
    create_private_dir(&package)?;
    for (name, text) in FILES {
        let path = package.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    match fs::rename(&partial, &dir) {
        // Another run was faster with the same.
        Err(_) if dir.is_dir() => drop(fs::remove_dir_all(&partial)),
        renamed => renamed.with_context(|| format!("cannot create {}", dir.display()))?,
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_file_of_the_package_is_inside() {
        let package = concat!(env!("CARGO_MANIFEST_DIR"), "/python/agentrec_sdk");
        let there: BTreeSet<_> = fs::read_dir(package)
            .expect("the package lies in the checkout")
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.ends_with(".py") || name == "py.typed")
            .collect();
        let inside: BTreeSet<_> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(inside, there);
    }

    #[test]
    fn the_package_goes_before_what_was_on_the_path() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let home = Home::new(dir.path());
        let mut plan = Plan {
            argv: vec!["python3".into()],
            env: vec![("PYTHONPATH".into(), "/mine".into())],
            cwd: "/".into(),
            mounts: Vec::new(),
        };
        for _ in 0..2 {
            plan.set_env("PYTHONPATH", "/mine");
            offer(&home, &mut plan).expect("offered");
        }
        let path = plan.env_var("PYTHONPATH").and_then(OsStr::to_str).expect("set");
        let (first, rest) = path.split_once(':').expect("two parts");
        assert_eq!(rest, "/mine");
        assert!(std::path::Path::new(first).join("agentrec_sdk/__init__.py").is_file());
    }
}
