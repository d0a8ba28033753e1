//! The items that the tests in `tests/` use. All other items are private: the compiler reports those that are unused.

pub use crate::arch::{ARCHES, Arch, Class, HOST};
pub use crate::check::{Finding, Level, Way, check, check_host, checks, obstacle};
pub use crate::cli::{Options, parse};
pub use crate::command::doctor::stories;
pub use crate::elf::File;
pub use crate::emulator::Emulators;
pub use crate::entry::Entry;
pub use crate::host::observe;
pub use crate::plan::{Plan, Step, install, requested, uninstall};
pub use crate::report::{Report, Summary, json};
pub use crate::root::{MOUNT_POINT, Root};
pub use crate::state::{Identity, Outcome, Probe, Probes, Program, State, Surroundings};
pub use crate::terminal::Terminal;
