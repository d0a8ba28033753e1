//! `doctor --fix`: does the repairs that are safe, and looks again.
//!
//! Safe is what removes or replaces nothing that works and writes nothing to disk: a check says so by
//! giving its finding [`Fix`]es. What else could be repaired is left to who reads it.

#![expect(clippy::disallowed_methods, reason = "writes to files of binfmt_misc that are there")]

use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Write};

use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::{FsFlags, statvfs};
use serde::Serialize;

use super::super::{Context, change};
use crate::apply::Lock;
use crate::check::{Finding, Fix};
use crate::cli::{Install, Options};
use crate::error::{Error, Op};
use crate::namespace::mount_binfmt;
use crate::state::State;

/// A repair that was tried.
#[derive(Debug, Serialize)]
pub(crate) struct Fixed {
    /// The command that does the same.
    repair: String,
    /// Whether it was done.
    done: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Does what `findings` allow, after having asked.
///
/// # Errors
/// Where nobody can be asked, or we may not do it.
pub(super) fn fix(
    context: &mut Context<'_>,
    state: &State,
    findings: &[Finding],
    yes: bool,
) -> Result<Vec<Fixed>, Error> {
    if state.root == Ok(false) {
        return Err(Error::Failed(
            "doctor --fix needs root: sudo binfmtctl doctor --fix".to_owned(),
        ));
    }
    let mut repairs: Vec<(&str, &[Fix])> = Vec::new();
    for finding in findings {
        if let Some(command) = finding.way.repair.as_deref()
            && !finding.way.fixes.is_empty()
            && !repairs.iter().any(|(other, _)| *other == command)
        {
            repairs.push((command, &finding.way.fixes));
        }
    }
    if repairs.is_empty() {
        context.log.news("nothing to do for --fix");
        return Ok(Vec::new());
    }
    repairs.iter().for_each(|(command, _)| context.log.line(&format!("to do: {command}")));
    if !yes && !agreed(context)? {
        return Err(Error::Failed("nothing was changed".to_owned()));
    }
    Ok(repairs.into_iter().map(|(command, fixes)| carry_out(context, command, fixes)).collect())
}

/// Asks the person at the terminal.
fn agreed(context: &mut Context<'_>) -> Result<bool, Error> {
    let mut input = io::stdin().lock();
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Error::Usage(
            "doctor --fix asks before it changes anything, and there is no terminal: add --yes"
                .to_owned(),
        ));
    }
    context.log.done();
    let mut answer = String::new();
    let _ = write!(io::stderr(), "Do that? [y/N] ");
    input.read_line(&mut answer).map_err(|error| Error::system(Op::Read, "the terminal", error))?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

fn carry_out(context: &mut Context<'_>, command: &str, fixes: &[Fix]) -> Fixed {
    let failed = fixes.iter().find_map(|fix| one(context, fix).err());
    let told = match &failed {
        None => format!("done: {command}"),
        Some(error) => format!("failed: {command}: {error}"),
    };
    context.log.line(&told);
    let error = failed.map(|error| error.to_string());
    Fixed { repair: command.to_owned(), done: error.is_none(), error }
}

fn one(context: &mut Context<'_>, fix: &Fix) -> Result<(), Error> {
    let point = context.root.path(context.root.mount_point());
    match fix {
        Fix::Write { value, file } => {
            let log = &mut context.log;
            let _lock = Lock::take(context.root, || log.line(change::WAITING));
            let path = point.join(file);
            // Never created: what is not there any more needs nothing.
            let mut file = match File::options().write(true).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                opened => opened.map_err(|error| Error::system(Op::Write, &path, error))?,
            };
            file.write_all(value.as_bytes()).map_err(|error| Error::system(Op::Write, &path, error))
        }
        Fix::Mount => mount_binfmt(&point),
        Fix::Writable => {
            // What else the mount forbids stays forbidden.
            let kept = statvfs(&point).map(|fs| fs.flags()).unwrap_or(FsFlags::empty());
            let kept = [
                (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
                (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
                (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
            ]
            .into_iter()
            .filter(|(is, _)| kept.contains(*is));
            let flags = kept.fold(MsFlags::MS_REMOUNT, |flags, (_, flag)| flags | flag);
            mount(None::<&str>, &point, None::<&str>, flags, None::<&str>)
                .map_err(|errno| Error::system(Op::Mount, &point, errno))
        }
        Fix::Install { list, replace } => {
            let options = Options { replace: *replace, ..Options::default() };
            let list = list.split(',').map(str::to_owned).collect();
            let installed = change::install(context, &Install { list, options })?;
            context.tell("installing", &installed.results);
            context.verdict("install", installed.results)
        }
    }
}
