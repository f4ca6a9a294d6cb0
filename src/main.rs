//! The `agentrec` command.
mod address;
mod digest;
mod exit;
mod output;
fn main() {}
