//! The BPF programs of the eBPF engine, a module for each subject. `cargo xtask ebpf` makes `agentrec.bpf.o` of them.

#![no_std]
#![no_main]

mod counters;
#[macro_use]
mod hook;
mod process;

/// Read by the kernel: helpers for tracing are for programs under a licence that is compatible with its own.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never reached in a program that the verifier takes.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
