//! Makes a Linux host run programs built for other architectures, proves it, and explains.
//!
//! The modules are declared in the order in which data flows through them: what the world is made of, what was
//! asked for, what the host is like, what is to be done, doing it, telling of it; and the commands, each of which
//! goes through all of that. Nothing but errors is imported from further down.

mod arch;
mod elf;
mod family;
mod kernel;
mod level;
mod mountinfo;
mod shown;

mod entry;
mod platform;

mod privilege;
mod root;
mod terminal;

mod cli;

mod emulator;
mod state;
mod tree;

mod namespace;

mod host;
mod probe;
mod surroundings;

mod check;
mod plan;

mod anchor;
mod apply;
mod cache;

mod report;

mod command;

mod error;

mod start;

#[doc(hidden)]
pub mod fuzzing;
#[doc(hidden)]
pub mod testing;

pub use start::main;
