//! Whoever listens to a tracepoint with perf hears its events while our programs are attached to it.

use std::ffi::c_int;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;

use agentrec_recorder::ebpf::object::OBJECT;
use agentrec_recorder::ebpf::tracefs;
use aya::Ebpf;
use aya::programs::Program;

const CATEGORY: &str = "syscalls";
const NAME: &str = "sys_exit_openat";

/// What perf does: an event that counts how often this thread passes the tracepoint.
struct Listener(File);

impl Listener {
    fn new() -> Self {
        /// The first version of `struct perf_event_attr` (perf_event_open(2)).
        #[repr(C)]
        struct Attributes {
            kind: u32,
            size: u32,
            config: u64,
            others: [u64; 6],
        }
        const TRACEPOINT: u32 = 2;
        const SIZE: u32 = 64;
        let id = tracefs::PLACES.iter().find_map(|place| {
            let event = Path::new(place).join("events").join(CATEGORY).join(NAME);
            fs::read_to_string(event.join("id")).ok()
        });
        let id = id.expect("the kernel has such a tracepoint");
        let attributes = Attributes {
            kind: TRACEPOINT,
            size: SIZE,
            config: id.trim().parse().unwrap(),
            others: [0; 6],
        };
        // SAFETY: the attributes live, and are as large as they say.
        let fd = unsafe { libc::syscall(libc::SYS_perf_event_open, &attributes, 0, -1, -1, 0) };
        assert!(fd >= 0, "perf_event_open: {}", std::io::Error::last_os_error());
        // SAFETY: the kernel just gave this descriptor to us.
        Self(unsafe { OwnedFd::from_raw_fd(fd as c_int) }.into())
    }

    fn heard(&mut self) -> u64 {
        let mut count = [0; 8];
        self.0.read_exact(&mut count).unwrap();
        u64::from_ne_bytes(count)
    }
}

#[test]
#[ignore = "needs root"]
fn root_perf_hears_the_events_of_a_tracepoint_that_we_are_attached_to() {
    let mut bpf = Ebpf::load(OBJECT).unwrap();
    let tried = tracefs::within(|| {
        let mut listener = Listener::new();
        let mut tried = 0;
        for (name, program) in bpf.programs_mut() {
            let Program::TracePoint(program) = program else { continue };
            program.load().unwrap();
            // Some read fields that this tracepoint does not have: the kernel refuses those.
            let Ok(link) = program.attach(CATEGORY, NAME) else { continue };
            let before = listener.heard();
            for _ in 0..5 {
                File::open("/dev/null").unwrap();
            }
            assert_eq!(listener.heard() - before, 5, "{name} hides events");
            program.detach(link).unwrap();
            tried += 1;
        }
        tried
    });
    assert!(tried.unwrap() > 0);
}
