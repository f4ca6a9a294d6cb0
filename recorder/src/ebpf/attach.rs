//! The BPF programs on their way into the kernel.

mod tracepoint;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use aya::maps::{Array, HashMap as BpfMap, MapData, PerCpuArray, RingBuf};
use aya::programs::{Program, ProgramError, RawTracePoint, TracePoint, UProbe};
use aya::{Btf, Ebpf, EbpfLoader, Pod};

use agentrec_recorder_ebpf::{Plain, Plan, Settings};

use super::{Error, Hooks, object, offsets, plans, tracefs};
use crate::calls::table::TABLE;
use crate::observation::Tid;

/// A value of the ABI, for aya's maps.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(super) struct Abi<T>(pub(super) T);

// SAFETY: a `Plain` has no padding, and every pattern of bits is one.
unsafe impl<T: Plain> Pod for Abi<T> {}

/// Programs and maps that are in the kernel.
pub(super) struct Loaded {
    ebpf: Ebpf,
}

/// Programs that run. Letting them go takes the kernel some 50 ms for each tracepoint.
pub(super) struct Attached {
    ebpf: Ebpf,
    /// What they hang on.
    _events: Vec<OwnedFd>,
}

impl Attached {
    pub(super) fn map<K: Pod, V: Pod>(
        &mut self,
        name: &'static str,
    ) -> Result<BpfMap<MapData, K, V>, Error> {
        let map = self.ebpf.take_map(name).expect("taken once");
        BpfMap::try_from(map).map_err(|e| Error::Map(name, e))
    }

    pub(super) fn array<V: Pod>(&mut self, name: &'static str) -> Result<Array<MapData, V>, Error> {
        let map = self.ebpf.take_map(name).expect("taken once");
        Array::try_from(map).map_err(|e| Error::Map(name, e))
    }

    /// A program for functions of user space.
    pub(super) fn uprobe(&mut self, name: &str) -> &mut UProbe {
        let program = self.ebpf.program_mut(name).expect("the object has it");
        program.try_into().expect("it is for functions")
    }

    /// How often one of them was not run, because another BPF program was at work on that CPU: the kernel nests none
    /// (kernel/trace/bpf_trace.c, trace_call_bpf).
    pub(super) fn missed(&self) -> u64 {
        self.ebpf.programs().filter_map(|(_, program)| missed(program)).sum()
    }
}

fn missed(program: &Program) -> Option<u64> {
    let fd = match program {
        Program::TracePoint(program) => program.fd(),
        Program::RawTracePoint(program) => program.fd(),
        Program::UProbe(program) => program.fd(),
        _ => return None,
    };
    // Since Linux 5.12 (kernel/bpf/syscall.c, bpf_prog_show_fdinfo).
    let info = format!("/proc/self/fdinfo/{}", fd.ok()?.as_fd().as_raw_fd());
    let info = std::fs::read_to_string(info).ok()?;
    info.lines().find_map(|line| line.strip_prefix("recursion_misses:")?.trim().parse().ok())
}

/// Bytes of the ring buffer.
const RING: u32 = 32 << 20;

/// Makes the maps of one recording, for the programs that are loaded then: see [`Settings`].
pub(super) fn load(outputs: u32, reserved_fd: Option<RawFd>, front: Tid) -> Result<Loaded, Error> {
    let offsets = Abi(offsets::of_this_kernel()?);
    let settings = Abi(Settings {
        outputs,
        reserved_fd: reserved_fd.unwrap_or(-1),
        pid_namespace: pid_namespace().map_err(|e| Error::Io("tell the PID namespace", e))?,
        front: front as u32,
    });
    let cpus = aya::util::nr_cpus().map_err(|(_, source)| Error::Io("count the CPUs", source))?;
    let btf = Btf::from_sys_fs().ok();
    let ebpf = EbpfLoader::new()
        .btf(btf.as_ref())
        .map_max_entries("RECORDS", RING)
        .map_max_entries("SCRATCH", cpus as u32)
        .override_global("OFFSETS", &offsets, true)
        .override_global("SETTINGS", &settings, true)
        .load(object::OBJECT)
        .map_err(Error::Load)?;
    let mut loaded = Loaded { ebpf };
    let map = loaded.ebpf.map_mut("PLANS_BY_NUMBER").expect("the object has it");
    let mut plans =
        Array::<_, Abi<Plan>>::try_from(map).map_err(|e| Error::Map("PLANS_BY_NUMBER", e))?;
    for row in TABLE {
        if let Some((plan, _)) = plans::plan(row) {
            plans
                .set(row.number as u32, Abi(plan), 0)
                .map_err(|e| Error::Map("PLANS_BY_NUMBER", e))?;
        }
    }
    Ok(loaded)
}

/// The inode number of this process's PID namespace, or 0 for the initial one.
fn pid_namespace() -> io::Result<u32> {
    /// PROC_PID_INIT_INO in include/linux/proc_ns.h.
    const INITIAL: u64 = 0xefff_fffc;
    let number = std::fs::metadata("/proc/self/ns/pid")?.ino();
    Ok(if number == INITIAL { 0 } else { number as u32 })
}

impl Loaded {
    fn take(&mut self, name: &'static str) -> aya::maps::Map {
        self.ebpf.take_map(name).expect("the object has it")
    }

    pub(super) fn ring(&mut self) -> Result<RingBuf<MapData>, Error> {
        RingBuf::try_from(self.take("RECORDS")).map_err(|e| Error::Map("RECORDS", e))
    }

    pub(super) fn map<K: Pod, V: Pod>(
        &mut self,
        name: &'static str,
    ) -> Result<BpfMap<MapData, K, V>, Error> {
        BpfMap::try_from(self.take(name)).map_err(|e| Error::Map(name, e))
    }

    pub(super) fn array<V: Pod>(&mut self, name: &'static str) -> Result<Array<MapData, V>, Error> {
        Array::try_from(self.take(name)).map_err(|e| Error::Map(name, e))
    }

    pub(super) fn counters(
        &mut self,
        name: &'static str,
    ) -> Result<PerCpuArray<MapData, u64>, Error> {
        PerCpuArray::try_from(self.take(name)).map_err(|e| Error::Map(name, e))
    }

    pub(super) fn any(&mut self, name: &str) -> &mut Program {
        self.ebpf.program_mut(name).expect("the object has it")
    }

    /// Has the kernel verify all programs but those that lead connections, which few recordings need.
    pub(super) fn load_programs(&mut self) -> Result<(), Error> {
        for (name, program) in self.ebpf.programs_mut() {
            let loaded = match program {
                Program::TracePoint(program) => program.load(),
                Program::RawTracePoint(program) => program.load(),
                Program::UProbe(program) => program.load(),
                _ => continue,
            };
            loaded.map_err(|error| refused(name, error))?;
        }
        Ok(())
    }

    /// Attaches all programs. Calls that this kernel has no tracepoint for are left out: it does not have them.
    pub(super) fn attach(mut self) -> Result<Attached, Error> {
        self.load_programs()?;
        tracefs::within(|| {
            for (program, tracepoint) in [
                ("forked", "sched_process_fork"),
                ("executed", "sched_process_exec"),
                ("exiting", "sched_process_exit"),
                ("signalled", "signal_deliver"),
                ("signal_sent", "signal_generate"),
            ] {
                self.raw(program, tracepoint).map_err(|error| refused(program, error))?;
            }
            let mut events = Vec::new();
            for row in TABLE {
                let Some((_, hooks)) = plans::plan(row) else { continue };
                for (program, tracepoint) in tracepoints(row.name, hooks) {
                    let Some(number) = number(&tracepoint) else {
                        tracing::info!("this kernel has no {tracepoint}");
                        continue;
                    };
                    let refused = |error| refused(&tracepoint, error);
                    let program = self.program(program).fd().map_err(refused)?;
                    let event = tracepoint::hang(program.as_fd(), number);
                    events.push(event.map_err(|error| refused(ProgramError::IOError(error)))?);
                }
            }
            Ok(Attached { ebpf: self.ebpf, _events: events })
        })
        .map_err(Error::Tracefs)?
    }

    fn raw(&mut self, program: &str, tracepoint: &str) -> Result<(), ProgramError> {
        let program = self.ebpf.program_mut(program).expect("the object has it");
        let program: &mut RawTracePoint = program.try_into()?;
        program.attach(tracepoint).map(drop)
    }

    fn program(&mut self, name: &str) -> &mut TracePoint {
        let program = self.ebpf.program_mut(name).expect("the object has it");
        program.try_into().expect("it is for tracepoints")
    }
}

/// Why the kernel refused a program. What its verifier says of it, thousands of lines, is for those who change it.
pub(super) fn refused(program: &str, error: ProgramError) -> Error {
    let source = match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            tracing::debug!(%verifier_log, "the kernel refused {program}");
            io_error
        }
        error => io::Error::other(error),
    };
    Error::Program(program.to_owned(), source)
}

/// The programs for a call, with their tracepoints.
fn tracepoints(call: &str, hooks: plans::Hooks) -> impl Iterator<Item = (&'static str, String)> {
    [
        (hooks.closes, "closing", "sys_enter_"),
        (hooks.replaces, "replacing", "sys_enter_"),
        (hooks.over, "call_over", "sys_exit_"),
        (hooks.transfer, "transfer_over", "sys_exit_"),
        (hooks.maps, "mapped", "sys_exit_"),
    ]
    .into_iter()
    .filter(|(wanted, ..)| *wanted)
    .map(move |(_, program, when)| (program, format!("{when}{}", tracepoint_name(call))))
}

/// Which of the calls' tracepoints this kernel has.
pub(super) fn hooks() -> Result<Hooks, Error> {
    let planned = TABLE.iter().filter_map(|row| Some((row.name, plans::plan(row)?.1)));
    let wanted: Vec<String> = planned
        .flat_map(|(call, hooks)| tracepoints(call, hooks).map(|(_, tracepoint)| tracepoint))
        .collect();
    tracefs::within(|| {
        let (found, missing): (Vec<_>, Vec<_>) =
            wanted.into_iter().partition(|name| number(name).is_some());
        Hooks { found: found.len(), missing }
    })
    .map_err(Error::Tracefs)
}

/// Some tracepoints are named after the kernel's function instead of the call.
fn tracepoint_name(call: &str) -> &str {
    match call {
        "sendfile" => "sendfile64",
        "umount2" => "umount",
        call => call,
    }
}

/// The number of a call's tracepoint; None where the kernel has none. Only inside of [`tracefs::within`].
fn number(tracepoint: &str) -> Option<u64> {
    let mut places = tracefs::PLACES.iter().map(|place| Path::new(place).join("events/syscalls"));
    places.find_map(|dir| {
        std::fs::read_to_string(dir.join(tracepoint).join("id")).ok()?.trim().parse().ok()
    })
}
