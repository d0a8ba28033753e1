//! The whole program against real kernels, bad input and containers.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on is to fail"
)]

#[path = "../support/mod.rs"]
mod support;

mod archive;
mod bad_input;
mod container_needs_root;
mod diagnosis;
mod faults;
mod guests;
mod hold;
mod hostile;
mod kernel;
mod lasting;
mod persist;
mod readme;
mod reliability;
mod run_later_needs_root;
mod run_needs_root;
mod scripts;
mod situations;
mod terminal;
