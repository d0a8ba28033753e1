//! The program: parse, run, one exit point.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use binfmtctl::cli::Cli;
use binfmtctl::error::Error;
use binfmtctl::host::{MOUNT_POINT, Root};
use binfmtctl::probe;
use binfmtctl::report::Terminal;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    if args.get(1).is_some_and(|arg| arg == probe::SUBCOMMAND) {
        let root = Root::new(Path::new("/"), Path::new(MOUNT_POINT));
        let job = args.get(2).and_then(|job| job.to_str());
        return finish(probe::main(job, &root, &mut io::stdout().lock()));
    }
    let request = match Cli::from_args(args) {
        Ok(request) => request,
        Err(error) => {
            // Help goes to stdout, errors to stderr; a closed stream is no reason to panic.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let root = Root::new(Path::new("/"), &request.mount);
    finish(binfmtctl::run(
        &request,
        &root,
        Terminal::of_stdout(),
        &mut io::stdout().lock(),
        &mut io::stderr().lock(),
    ))
}

/// Prints an error, the advice before it: callers such as setup-qemu-action show the last line.
fn finish(result: Result<(), Error>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let mut stderr = io::stderr().lock();
    if let Some(hint) = error.hint() {
        let _ = writeln!(stderr, "hint: {hint}");
    }
    let _ = writeln!(stderr, "error: {error}");
    ExitCode::from(error.exit_code())
}
