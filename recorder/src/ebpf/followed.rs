//! Who is followed, as the programs have it.

use agentrec_recorder_ebpf::{Process, mark};
use aya::maps::{Array, HashMap, MapData, MapError};

use super::attach::Loaded;
use super::{Abi, Error};
use crate::observation::Tid;

/// Not where there is one (bpf(2), BPF_MAP_UPDATE_ELEM).
const BPF_NOEXIST: u64 = 1;

/// The table of processes, and the marks without which the programs don't look into it.
pub(super) struct Followed {
    processes: HashMap<MapData, u32, Abi<Process>>,
    marks: Array<MapData, u32>,
}

impl Followed {
    /// # Errors
    /// Where the programs have no such tables.
    pub(super) fn new(loaded: &mut Loaded) -> Result<Self, Error> {
        Ok(Self { processes: loaded.map("PROCESSES")?, marks: loaded.array("MARKS")? })
    }

    /// Follows a process from now on; whether it was not followed yet.
    ///
    /// # Errors
    /// Where there is no room.
    pub(super) fn follow(&mut self, pid: Tid, process: Process) -> Result<bool, Error> {
        self.marks.set(mark(pid as u32), 1, 0).map_err(|e| Error::Map("MARKS", e))?;
        match self.processes.insert(pid as u32, Abi(process), BPF_NOEXIST) {
            Ok(()) => Ok(true),
            Err(MapError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(libc::EEXIST) =>
            {
                Ok(false)
            }
            Err(error) => Err(Error::Map("PROCESSES", error)),
        }
    }

    /// Whether a process is followed.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub(super) fn contains(&self, pid: Tid) -> Result<bool, Error> {
        match self.processes.get(&(pid as u32), 0) {
            Err(MapError::KeyNotFound) => Ok(false),
            Err(error) => Err(Error::Map("PROCESSES", error)),
            Ok(_) => Ok(true),
        }
    }

    /// Follows a process no longer.
    pub(super) fn remove(&mut self, pid: Tid) {
        let _ = self.processes.remove(&(pid as u32));
    }
}
