//! The program: parse, run, one exit point.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use binfmtctl::cli::{self, Unclear};
use binfmtctl::command::run;
use binfmtctl::error::Error;
use binfmtctl::probe;
use binfmtctl::root::{MOUNT_POINT, Root};
use binfmtctl::terminal::Terminal;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    let hidden = args.get(1).and_then(|arg| arg.to_str()).unwrap_or_default();
    if [probe::SUBCOMMAND, run::SUBCOMMAND].contains(&hidden) {
        let root = Root::of_this_system(Path::new(MOUNT_POINT));
        let argument = args.get(2).and_then(|argument| argument.to_str());
        let main = if hidden == probe::SUBCOMMAND { probe::main } else { run::map_ids };
        return finish(main(argument, &root, &mut io::stdout().lock()));
    }
    match cli::parse(args) {
        Ok((request, general)) => finish(binfmtctl::run_request(
            &request,
            &general,
            [Terminal::of_stdout(), Terminal::of_stderr()],
            &mut io::stdout().lock(),
            // Not locked: threads that unpack emulators tell how far they are.
            &mut io::stderr(),
        )),
        Err(Unclear::Value(error)) => finish(Err(error)),
        Err(Unclear::Usage(error)) => {
            // Help goes to stdout, errors to stderr; a closed stream is no reason to panic.
            let _ = match error.use_stderr() {
                true => write!(io::stderr(), "{}", Terminal::of_stderr().line(&error.to_string())),
                false => error.print(),
            };
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
        }
    }
}

/// Prints an error, the advice before it: callers such as setup-qemu-action show the last line.
fn finish(result: Result<(), Error>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let mut stderr = io::stderr().lock();
    let terminal = Terminal::of_stderr();
    let hint = error.hint().map(|hint| format!("hint: {hint}"));
    // Who closes a pipe has seen enough, and wants no word about it.
    let error_line = Some(format!("error: {error}")).filter(|_| !matches!(error, Error::NoReader));
    for line in hint.into_iter().chain(error_line) {
        let _ = writeln!(stderr, "{}", terminal.line(&line));
    }
    ExitCode::from(error.exit_code())
}
