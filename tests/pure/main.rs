//! What needs neither root, nor a network, nor emulators: fake hosts, parsers, checks.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on is to fail"
)]

#[path = "../support/mod.rs"]
mod support;

mod architecture;
mod doctor;
mod documents;
mod fuzz;
mod hosts;
mod parsers;
