//! The BPF programs in this machine's kernel.

mod listeners;
