//! `--status`, and no argument: which platforms work. Changes nothing.

use rustix::thread::CapabilitySet;

use super::Context;
use crate::arch::ARCHES;
use crate::check;
use crate::cli::{Format, Status};
use crate::error::Error;
use crate::privilege;
use crate::report::{Report, Summary, json, written};
use crate::state::State;

/// Prints the platforms that work, as existing scripts read them; on a terminal, in one line.
pub(crate) fn summary(context: &mut Context<'_>, as_json: bool) -> Result<(), Error> {
    let state = observe(context);
    let summary = Summary::new(&state)?;
    written(match as_json || !context.terminal.is_terminal {
        true => json(&summary, context.out),
        false => writeln!(context.out, "{}", summary.line()),
    })
}

fn observe(context: &mut Context<'_>) -> State {
    context.log.progress("running a test program of each architecture");
    let state = context.observe(&ARCHES.iter().collect::<Vec<_>>());
    context.log.done();
    privilege::keep(CapabilitySet::empty());
    state
}

/// Prints everything about the platforms; fails where one that is required does not work.
pub(crate) fn status(context: &mut Context<'_>, request: &Status) -> Result<(), Error> {
    let state = observe(context);
    let report = Report::new(&state, context.emulators, check::check_host(&state))?;
    if request.format() == Format::Table
        && let inherited = super::doctor::inherited()
        && !inherited.is_empty()
    {
        context.log.news(&format!(
            "note: {} is set here: emulators that are started from here obey it, and those in containers do not; `binfmtctl doctor` tells more",
            inherited.join(", ")
        ));
    }
    written(match request.format() {
        Format::Json => json(&report, context.out),
        Format::Table => context
            .out
            .write_all(report.table(context.terminal, context.general.verbose).as_bytes()),
    })?;
    let missing: Vec<_> =
        report.missing(&request.required()).iter().map(ToString::to_string).collect();
    if missing.is_empty() { Ok(()) } else { Err(Error::Missing(missing.join(", "))) }
}
