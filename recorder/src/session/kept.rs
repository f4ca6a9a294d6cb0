//! Old contents outside the roots, on their way into the trace; those of secret files into the local store alone.

use std::collections::HashMap;
use std::path::PathBuf;

use agentrec_store::secret_files::HEAD_LEN;
use agentrec_trace::event::FileKept;
use agentrec_trace::{Bytes, Data, ObjectHint, ObjectId};

use super::Session;
use super::roots::is_secret;
use crate::error::chain;
use crate::keep::{Epoch, Keeping, Kept};

/// What is kept of each path resembles what was kept before.
#[derive(Debug, Default)]
pub(super) struct Kepts {
    last: HashMap<Bytes<'static>, ObjectId>,
    epoch: Epoch,
}

impl Kepts {
    /// The state of the files may be wanted back: what is changed from here on is kept again.
    pub(super) fn begin_epoch(&self) {
        self.epoch.begin();
    }
}

impl Session {
    /// What the source has to know to keep what is changed outside of the roots; None where nothing is to be kept: a watch follows
    /// many, none of whom is taken back.
    pub(crate) fn keeping(&self) -> Option<Keeping> {
        let options = &self.setup.options;
        if self.setup.watch.is_some() || options.keep_max == 0 {
            return None;
        }
        let variable = |wanted: &str| {
            let found = options.plan.env.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| PathBuf::from(value))
        };
        let own = [Some(options.home.data().to_owned()), Some(self.trace_path.clone())];
        let socket_dir = self.setup.socket.parent().map(PathBuf::from);
        let physical = |path: PathBuf| path.canonicalize().unwrap_or(path);
        Some(Keeping {
            roots: self.snapshots.roots.visible(),
            own: own.into_iter().flatten().chain(socket_dir).map(physical).collect(),
            temporary: variable("TMPDIR").filter(|dir| dir.is_absolute()).into_iter().collect(),
            max_file: options.keep_max_file,
            max: options.keep_max,
            epoch: self.kepts.epoch.clone(),
        })
    }

    /// Takes what the source kept.
    pub(super) fn kept(&mut self, kept: Kept) {
        let Kept { mut event, held } = kept;
        if let Data::FileKept(data) = &mut event.data {
            match held.read() {
                Ok(None) => {}
                Ok(Some((content, changed))) => {
                    data.late |= changed;
                    data.size = content.len() as u64;
                    self.keep_content(data, &content);
                }
                Err(error) => {
                    tracing::warn!(path = %data.path.as_path().display(), %error, "an old content is not kept");
                    data.reason = Some("failed".into());
                }
            }
        }
        let event = self.redacted(event);
        self.write(event);
        self.held.is_named();
    }

    fn keep_content(&mut self, data: &mut FileKept<'static>, content: &[u8]) {
        let head = &content[..content.len().min(HEAD_LEN)];
        let mut names = [Some(&data.path), data.real.as_ref()].into_iter().flatten();
        let secrets = &self.snapshots.roots.secrets;
        data.secret = names.any(|path| is_secret(secrets, path.as_path(), head));
        let stored = if data.secret {
            self.held.begin(&self.store);
            self.store.put(content).map_err(|error| chain(&error))
        } else {
            let after = self.kepts.last.get(&data.path).copied();
            let Some(writer) = self.output.writer() else { return };
            match writer.put_object(content, ObjectHint::Series { after }) {
                Ok(id) => Ok(id),
                Err(error @ agentrec_trace::Error::Io { .. }) => return self.check(Err(error)),
                Err(error) => Err(chain(&error)),
            }
        };
        match stored {
            Ok(id) => {
                data.object = Some(id);
                if !data.secret {
                    self.kepts.last.insert(data.path.clone(), id);
                }
            }
            Err(error) => {
                tracing::warn!(path = %data.path.as_path().display(), error, "an old content is not kept");
                data.reason = Some("failed".into());
            }
        }
    }
}
