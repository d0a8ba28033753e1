//! The whole program against real kernels, fake hosts, bad input and containers.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test that cannot go on is to fail"
)]

#[path = "../support/mod.rs"]
mod support;

mod archive;
mod bad_input;
mod container;
mod doctor;
mod guests;
mod hold;
mod hosts;
mod kernel;
mod lasting;
mod parsers;
mod persist;
mod reliability;
mod run;
