//! The program: parse, dispatch, one exit point.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::cli::{self, General, Request, Unclear};
use crate::command::{self, Context, Log, run};
use crate::emulator::Emulators;
use crate::error::Error;
use crate::host::mounted_elsewhere;
use crate::report::written;
use crate::root::{MOUNT_POINT, Root};
use crate::terminal::{Progress, Terminal};

/// Parses the command line, and does what it asks for.
pub fn main() -> ExitCode {
    if let Some(error) = run::stand_in::main() {
        return finish(Err(error));
    }
    let args: Vec<_> = std::env::args_os().collect();
    if let Some(hidden) = command::hidden(args.get(1)) {
        let root = Root::of_this_system(Path::new(MOUNT_POINT));
        let argument = args.get(2).and_then(|argument| argument.to_str());
        return finish(hidden(argument, &root, &mut io::stdout().lock()));
    }
    match cli::parse(args) {
        Ok((request, general)) => finish(run_request(request, &general)),
        Err(Unclear::Value(error)) => finish(Err(error)),
        Err(Unclear::Usage(error)) => {
            // Help goes to stdout, errors to stderr; a closed stream is no reason to panic.
            if !error.use_stderr() {
                return finish(written(error.print().and_then(|()| io::stdout().flush())));
            }
            let text = cli::in_our_order(&error, Terminal::of(&io::stderr()));
            let _ = write!(io::stderr(), "{text}");
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
    }
}

/// Does what was asked for. An error is the one thing to tell the user last.
fn run_request(request: Request, general: &General) -> Result<(), Error> {
    let out = &mut io::stdout().lock();
    match request {
        Request::Licenses => return command::version::licenses(out),
        Request::Man { command } => return command::version::man(command.as_deref(), out),
        Request::Completion { shell } => return command::version::completion(shell, out),
        _ => {}
    }
    let General { qemu_binary_path, qemu_binary_prefix, .. } = general;
    let (terminal, log_terminal) = (Terminal::of(&io::stdout()), Terminal::of(&io::stderr()));
    let progress = if general.quiet { Progress::default() } else { Progress::new(log_terminal) };
    let emulators = Emulators::new(
        qemu_binary_path.as_deref(),
        qemu_binary_prefix.as_deref().unwrap_or_default(),
    )?
    .with_progress(progress.clone());
    let mut root = Root::of_this_system(&general.mount);
    root.check_mount_point()?;
    // Containers are given the host's at another place, as none may be mounted inside /proc.
    if let Request::Doctor(_) = &request
        && let Some(elsewhere) = mounted_elsewhere(&root)
    {
        root = Root::of_this_system(&elsewhere);
    }
    // Not locked: threads that unpack emulators tell how far they are.
    let stderr = &mut io::stderr();
    let log = Log::new(stderr, log_terminal, progress, general);
    let emulators = &emulators;
    let context = &mut Context { root: &root, emulators, general, terminal, out, log };
    match request {
        Request::Summary { json } => command::status::summary(context, json),
        Request::Status(request) => command::status::status(context, &request),
        Request::Change(request) => command::change::change(context, &request),
        Request::Install(args) => command::change::change(context, &args.change()?),
        Request::Uninstall(args) => command::change::change(context, &args.change()?),
        Request::Doctor(args) => command::doctor::doctor(context, &args.into_request()),
        Request::Hold(request) => command::hold::hold(context, &request),
        Request::Persist(request) => command::persist::persist(context, &request),
        Request::Run(request) => command::run::run(context, &request),
        Request::Version => command::version::version(emulators, context.out),
        Request::Licenses | Request::Completion { .. } | Request::Man { .. } => Ok(()),
    }
}

/// Prints an error, the advice before it: callers such as setup-qemu-action show the last line.
fn finish(result: Result<(), Error>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let mut stderr = io::stderr().lock();
    let terminal = Terminal::of(&io::stderr());
    let hint = error.hint().map(|hint| format!("hint: {hint}"));
    // Who closes a pipe has seen enough, and wants no word about it.
    let error_line = Some(format!("error: {error}")).filter(|_| !matches!(error, Error::NoReader));
    for line in hint.into_iter().chain(error_line) {
        let _ = writeln!(stderr, "{}", terminal.line(&line));
    }
    ExitCode::from(error.exit_code())
}
