//! The BPF programs of the eBPF engine, a module for each subject. `cargo xtask ebpf` makes `agentrec.bpf.o` of them.
//!
//! Each looks first whether the process is followed, and does nothing else where it is not; puts together what is to be
//! told in this CPU's scratch, and copies that into the ring buffer, or counts that it found no room.

#![no_std]
#![no_main]
// Atomic addition is all that BPF's first instruction set has of atomics, and `core` offers it there in no other way.
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics))]
#![cfg_attr(target_arch = "bpf", allow(internal_features))]

mod calls;
mod diversion;
#[macro_use]
mod hook;
mod kernel;
mod maps;
mod process;
mod record;
mod socket;
mod tls;
mod transfer;
mod walk;
mod watch;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{bpf_sock_addr, bpf_sock_ops};

tracepoint! {
    /// `syscalls/sys_exit_…` of every covered call: it is over.
    pub fn call_over(context) {
        let _ = calls::over(context.as_ptr());
    }
}

tracepoint! {
    /// `syscalls/sys_enter_…` of those whose first argument is a descriptor to close.
    pub fn closing(context) {
        let _ = calls::closing(context.as_ptr());
    }
}

tracepoint! {
    /// `syscalls/sys_enter_…` of those whose second argument is a descriptor to replace.
    pub fn replacing(context) {
        let _ = calls::replacing(context.as_ptr());
    }
}

tracepoint! {
    /// `syscalls/sys_exit_…` of those that move bytes through a descriptor.
    pub fn transfer_over(context) {
        let _ = transfer::over(context.as_ptr());
    }
}

tracepoint! {
    /// `syscalls/sys_exit_mmap`
    pub fn mapped(context) {
        let _ = tls::mapped(context.as_ptr());
    }
}

uprobe! {
    /// A function of a TLS library that plaintext goes through begins.
    "uprobe" pub fn tls_entered(context) {
        let _ = tls::entered(context);
    }
}

uprobe! {
    /// It returns.
    "uretprobe" pub fn tls_returned(context) {
        let _ = tls::returned(context);
    }
}

uprobe! {
    /// A function of a TLS library returns that makes a stream.
    "uretprobe" pub fn tls_began(context) {
        let _ = tls::began(context);
    }
}

uprobe! {
    /// A function of a TLS library begins that ends a stream.
    "uprobe" pub fn tls_over(context) {
        let _ = tls::over(context);
    }
}

cgroup! {
    /// A socket is about to be connected to a host, by IPv4.
    "cgroup/connect4" pub fn connect4(context: bpf_sock_addr) {
        let _ = diversion::connect4(context);
    }
}

cgroup! {
    /// The same by IPv6.
    "cgroup/connect6" pub fn connect6(context: bpf_sock_addr) {
        let _ = diversion::connect6(context);
    }
}

cgroup! {
    /// Somebody asks which host a socket is connected to, by IPv4.
    "cgroup/getpeername4" pub fn getpeername4(context: bpf_sock_addr) {
        let _ = diversion::peer4(context);
    }
}

cgroup! {
    /// The same by IPv6.
    "cgroup/getpeername6" pub fn getpeername6(context: bpf_sock_addr) {
        let _ = diversion::peer6(context);
    }
}

cgroup! {
    /// Something happens to a TCP socket.
    "sockops" pub fn socket_event(context: bpf_sock_ops) {
        let _ = diversion::event(context);
    }
}

raw_tracepoint! {
    /// `sched_process_fork`
    pub fn forked(context) {
        let _ = process::forked(context.arg(1));
    }
}

raw_tracepoint! {
    /// `sched_process_exec`
    pub fn executed(context) {
        let _ = process::executed(context.arg(0), context.arg(1), context.arg(2));
    }
}

raw_tracepoint! {
    /// `sched_process_exit`
    pub fn exiting(context) {
        let _ = process::exiting(context.arg(0));
    }
}

raw_tracepoint! {
    /// `signal_deliver`
    pub fn signalled(context) {
        let _ = transfer::signalled(context.arg::<u64>(0) as i32);
    }
}

raw_tracepoint! {
    /// `signal_generate`
    pub fn signal_sent(context) {
        let (signal, result) = (context.arg::<u64>(0) as i32, context.arg::<u64>(4) as i32);
        let _ = process::signal_sent(signal, context.arg(2), result);
    }
}

/// Read by the kernel: helpers for tracing are for programs under a licence that is compatible with its own.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never reached in a program that the verifier takes.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
