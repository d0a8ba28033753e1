//! `--status`, and no argument: which platforms work. Changes nothing.

use super::Context;
use crate::arch::ARCHES;
use crate::check;
use crate::cli::{Format, Status};
use crate::error::Error;
use crate::report::{Report, Summary, json, written};

/// Prints the platforms that work, as existing scripts read them.
pub(crate) fn summary(context: &mut Context<'_>) -> Result<(), Error> {
    let arches: Vec<_> = ARCHES.iter().collect();
    let state = context.observe(&arches);
    written(json(&Summary::new(&state)?, context.out))
}

/// Prints everything about the platforms; fails where one that is required does not work.
pub(crate) fn status(context: &mut Context<'_>, request: &Status) -> Result<(), Error> {
    let arches: Vec<_> = ARCHES.iter().collect();
    let state = context.observe(&arches);
    let report = Report::new(&state, context.emulators, check::check_host(&state))?;
    written(match request.format {
        Format::Json => json(&report, context.out),
        Format::Table => context.out.write_all(report.table(context.terminal).as_bytes()),
    })?;
    let missing: Vec<_> =
        report.missing(&request.require).iter().map(ToString::to_string).collect();
    if missing.is_empty() { Ok(()) } else { Err(Error::Missing(missing.join(", "))) }
}
