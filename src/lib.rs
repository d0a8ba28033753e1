//! Makes a Linux host run programs built for other architectures, proves it, and explains.
//!
//! The modules are declared in the order in which data flows through them: what was asked for,
//! what the world is made of, what the host is like, what is to be done, doing it, telling of it.

mod cli;

mod arch;
mod elf;
mod entry;
mod family;
mod kernel;
mod mountinfo;
mod platform;
mod shown;

mod emulator;
mod privilege;
mod root;
mod state;
mod tree;

mod host;
mod probe;
mod surroundings;

mod namespace;

mod check;
mod plan;

mod anchor;
mod apply;
mod cache;

mod command;

mod report;
mod terminal;

mod error;

mod start;

#[doc(hidden)]
pub mod fuzzing;
#[doc(hidden)]
pub mod testing;

pub use start::main;
