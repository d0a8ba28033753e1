//! Makes a Linux host run programs built for other architectures, proves it, and explains.
//!
//! The modules are declared in the order in which data flows through them: what was asked for,
//! what the world is made of, what the host is like, what is to be done, doing it, telling of it.

pub mod cli;

pub mod arch;
pub mod elf;
pub mod entry;
pub mod family;
pub mod kernel;
pub mod mountinfo;
pub mod platform;
pub mod shown;

pub mod emulator;
pub mod root;
pub mod state;
pub mod tree;

pub mod host;
pub mod probe;
pub mod surroundings;

pub mod namespace;

pub mod check;
pub mod plan;

pub mod anchor;
pub mod apply;
pub mod cache;

pub mod command;

pub mod report;
pub mod terminal;

pub mod error;

#[doc(hidden)]
pub mod fuzzing;

use std::io::Write;

use cli::{General, Request};
use command::{Context, Log};
use emulator::Emulators;
use error::Error;
use root::Root;
use terminal::{Progress, Terminal};

/// Does what was asked for. The report goes to `out`, the log to `log`; `terminals` describes both.
///
/// # Errors
/// The one thing to tell the user last; the process's exit code follows from it.
pub fn run_request(
    request: &Request,
    general: &General,
    terminals: [Terminal; 2],
    out: &mut dyn Write,
    log: &mut dyn Write,
) -> Result<(), Error> {
    match request {
        Request::Licenses => return command::version::licenses(out),
        Request::Man(page) => return command::version::man(page.as_deref(), out),
        Request::Completion(shell) => return command::version::completion(*shell, out),
        _ => {}
    }
    let General { qemu_binary_path, qemu_binary_prefix, .. } = general;
    let [terminal, log_terminal] = terminals;
    let progress = if general.quiet { Progress::default() } else { Progress::new(log_terminal) };
    let emulators = Emulators::new(qemu_binary_path.as_deref(), qemu_binary_prefix)?
        .with_progress(progress.clone());
    let root = Root::of_this_system(&general.mount);
    root.check_mount_point()?;
    let log = Log::new(log, log_terminal, progress, general);
    let emulators = &emulators;
    let context = &mut Context { root: &root, emulators, general, terminal, out, log };
    match request {
        Request::Summary { json } => command::status::summary(context, *json),
        Request::Status(request) => command::status::status(context, request),
        Request::Change(request) => command::change::change(context, request),
        Request::Doctor(request) => command::doctor::doctor(context, request),
        Request::Hold(request) => command::hold::hold(context, request),
        Request::Persist(request) => command::persist::persist(context, request),
        Request::Run(request) => command::run::run(context, request),
        Request::CleanCache => command::run::clean_cache(context),
        Request::Version => command::version::version(emulators, context.out),
        Request::Licenses | Request::Completion(_) | Request::Man(_) => Ok(()),
    }
}
