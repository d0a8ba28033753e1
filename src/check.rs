//! What may be wrong with a host: a table of pure checks.
//!
//! Ids never change; messages may. A check that could not look says so and is no failure. The order is
//! the one in which one thing depends on the other.

mod emulators;
mod entries;
mod host;
mod lasting;

use crate::host::State;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It could not be looked at.
    Unknown,
    /// It works, but not for everybody or not for long.
    Warning,
    /// Something does not work.
    Failure,
}

impl Level {
    /// As JSON has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Failure => "failure",
        }
    }
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The check's id.
    pub id: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What is so.
    pub what: String,
    /// What does not work because of it; empty where nothing is wrong.
    pub breaks: String,
    /// The command that repairs it, or what to do where no command does; empty where nothing is wrong.
    pub repair: String,
}

/// One row: an id, what it is about, whether its failure makes an install pointless.
pub struct Check {
    /// Stable id.
    pub id: &'static str,
    /// What it looks at, in one line.
    pub about: &'static str,
    /// The whole story, for `--explain`.
    pub story: &'static str,
    /// Whether an install stops at its failure.
    pub blocks_install: bool,
    run: fn(&State) -> Vec<Result>,
}

/// What a check says before its id is put to it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Result {
    level: Level,
    what: String,
    breaks: String,
    repair: String,
}

fn ok(what: impl Into<String>) -> Vec<Result> {
    one(Level::Ok, what, "", "")
}

fn unknown(what: impl Into<String>) -> Vec<Result> {
    one(Level::Unknown, what, "", "")
}

fn warning(
    what: impl Into<String>,
    breaks: impl Into<String>,
    repair: impl Into<String>,
) -> Vec<Result> {
    one(Level::Warning, what, breaks, repair)
}

fn failure(
    what: impl Into<String>,
    breaks: impl Into<String>,
    repair: impl Into<String>,
) -> Vec<Result> {
    one(Level::Failure, what, breaks, repair)
}

fn one(
    level: Level,
    what: impl Into<String>,
    breaks: impl Into<String>,
    repair: impl Into<String>,
) -> Vec<Result> {
    vec![Result { level, what: what.into(), breaks: breaks.into(), repair: repair.into() }]
}

/// All checks.
pub fn checks() -> impl Iterator<Item = &'static Check> {
    host::CHECKS.iter().chain(entries::CHECKS).chain(emulators::CHECKS).chain(lasting::CHECKS)
}

impl Check {
    /// Looks at one state.
    pub fn run(&self, state: &State) -> impl Iterator<Item = Finding> {
        let finding = |Result { level, what, breaks, repair }| Finding {
            id: self.id,
            level,
            what,
            breaks,
            repair,
        };
        (self.run)(state).into_iter().map(finding)
    }
}

/// Runs all checks.
pub fn check(state: &State) -> Vec<Finding> {
    checks().flat_map(|check| check.run(state)).collect()
}

/// The checks of the kernel's side only: those that `--status` shows.
pub fn check_host(state: &State) -> Vec<Finding> {
    host::CHECKS.iter().flat_map(|check| check.run(state)).collect()
}

/// The first finding that makes an install pointless.
pub fn obstacle(state: &State) -> Option<Finding> {
    checks()
        .filter(|check| check.blocks_install)
        .flat_map(|check| check.run(state))
        .find(|finding| finding.level == Level::Failure)
}
