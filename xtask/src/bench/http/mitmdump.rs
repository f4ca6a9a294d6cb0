//! mitmdump between the client and the server, as the one who reads what goes between them.

use std::ffi::OsString;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::bench::workloads::python;

/// The version that is measured.
const PACKAGE: &str = "mitmproxy==11.0.2";

/// Until it accepts connections.
const PATIENCE: Duration = Duration::from_secs(30);

/// Passes on what it gets, and writes it down, until this is dropped.
pub struct Mitmdump {
    process: Child,
    pub port: String,
    /// Whom its clients have to trust.
    pub authority: PathBuf,
}

impl Mitmdump {
    /// In front of a server on this machine; its package is installed below `dir` once.
    pub fn start(dir: &Path, server: &str, tls: bool) -> Result<Self> {
        let venv = dir.join("mitmproxy");
        let program = venv.join("bin/mitmdump");
        if !program.exists() {
            done(Command::new(python()?).args(["-m", "venv"]).arg(&venv))?;
            let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE];
            done(Command::new(venv.join("bin/python")).args(pip))?;
        }
        // Free when it was asked for; whoever takes it in between makes mitmdump fail, and that is told.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let scheme = if tls { "https" } else { "http" };
        let mut command = Command::new(program);
        let mut to_file = OsString::from("confdir=");
        to_file.push(dir.join("mitmproxy-conf"));
        command
            .args(["--quiet", "--listen-host", "127.0.0.1", "--listen-port", &port.to_string()])
            .args(["--mode", &format!("reverse:{scheme}://localhost:{server}")])
            .args(["--ssl-insecure", "--set"])
            .arg(to_file)
            .arg("--save-stream-file")
            .arg(dir.join("mitmproxy.flows"))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let process = command.spawn().context("cannot start mitmdump")?;
        let authority = dir.join("mitmproxy-conf/mitmproxy-ca-cert.pem");
        let mut started = Self { process, port: port.to_string(), authority };
        let began = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if let Some(status) = started.process.try_wait()? {
                bail!("mitmdump ended: {status}");
            }
            ensure!(began.elapsed() < PATIENCE, "mitmdump does not accept connections");
            sleep(Duration::from_millis(20));
        }
        Ok(started)
    }
}

impl Drop for Mitmdump {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn done(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "failed: {command:?}");
    Ok(())
}
