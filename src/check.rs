//! What may be wrong with a host: a table of pure checks.
//!
//! Ids never change; messages may. A check that could not look says so and is no failure. The order is
//! the one in which one thing depends on the other.

mod emulators;
mod entries;
mod host;
mod lasting;

pub(crate) use host::{not_asked, not_to_be_changed};
pub(crate) use lasting::NO_NEW_PRIVS;

use std::ffi::OsString;
use std::path::Path;

use crate::arch::{ARCHES, Arch};
pub use crate::level::Level;
use crate::platform::Platform;
use crate::root::MOUNT_POINT;
use crate::state::{Mount, RunBy, State};
use crate::tree::quoted;

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The check's id.
    pub id: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What is so.
    pub what: String,
    /// What comes of it; empty where nothing is wrong.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub effect: String,
    /// The way out.
    #[serde(flatten)]
    pub way: Way,
}

/// The way out of something: a command, words, both, or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Way {
    /// One command that repairs it, to be pasted as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repair: Option<String>,
    /// What to do where no command does it, or what to know before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// What the command does, where `doctor --fix` may do it: it changes nothing that works.
    #[serde(skip)]
    pub(crate) fixes: Vec<Fix>,
}

/// What a repair's command does, to be done without a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fix {
    /// Writes to a file of the instance.
    Write { value: &'static str, file: OsString },
    /// Mounts binfmt_misc where it belongs.
    Mount,
    /// Makes that mount writable.
    Writable,
    /// Registers emulators.
    Install { list: String, replace: bool },
}

/// A command that repairs it, to be pasted as it is.
pub(crate) fn repair(command: impl Into<String>) -> Way {
    Way { repair: Some(command.into()), ..Way::default() }
}

/// What to do where no command does it.
pub(crate) fn advice(words: impl Into<String>) -> Way {
    Way { advice: Some(words.into()), ..Way::default() }
}

/// The command that writes `value` to an entry, or to `status`, where binfmt_misc is mounted here.
pub(crate) fn echo(state: &State, value: &'static str, file: impl AsRef<Path>) -> Way {
    let path = state.mount_point.join(&file);
    // What is no text cannot be told as a command.
    let quoted = path.to_str().and_then(|path| shlex::try_quote(path).ok());
    let fix = Fix::Write { value, file: file.as_ref().as_os_str().to_owned() };
    quoted.map_or_else(Way::default, |path| repair(format!("echo {value} > {path}")).done_by([fix]))
}

/// The command that registers emulators; with `replace`, also in the place of entries that fail.
pub(crate) fn install(state: &State, list: &str, replace: bool) -> Way {
    let more = if replace { " --replace" } else { "" };
    let fix = Fix::Install { list: list.to_owned(), replace };
    command(state, format!("--install {}{more}", quoted(list))).done_by([fix])
}

/// Where binfmt_misc is, in a command.
pub(crate) fn point(state: &State) -> String {
    quoted(&state.mount_point.to_string_lossy())
}

/// A command of ours, for the binfmt_misc that is looked at.
pub(crate) fn command(state: &State, words: impl std::fmt::Display) -> Way {
    if state.mount_point == Path::new(MOUNT_POINT) {
        return repair(format!("binfmtctl {words}"));
    }
    repair(format!("binfmtctl --mount {} {words}", point(state)))
}

/// The command that removes an entry.
pub(crate) fn remove(state: &State, name: &str) -> Way {
    // Where a name means more than this entry, it is removed by its file.
    let means_more = name.contains(['*', '?', ','])
        || name.eq_ignore_ascii_case("all")
        || Platform::parse(name).is_some();
    match means_more {
        true => echo(state, "-1", name).by_hand(),
        false => command(state, format!("--uninstall {}", quoted(name))),
    }
}

/// What to do about an emulator that fails while system calls are filtered.
pub(crate) fn without_filter(otherwise: &Way) -> String {
    let otherwise = otherwise.repair.as_deref().unwrap_or("use another emulator");
    format!(
        "system calls are filtered here (seccomp), which may be why: start it without the filter (engines: --security-opt \
        seccomp=unconfined; systemd: no SystemCallFilter=); where it fails all the same: {otherwise}"
    )
}

impl Finding {
    /// What is to be told below it, each with its name.
    pub fn details(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let effect = Some(self.effect.as_str()).filter(|effect| !effect.is_empty());
        let (repair, advice) = (self.way.repair.as_deref(), self.way.advice.as_deref());
        let all = [("effect", effect), ("repair", repair), ("advice", advice)];
        all.into_iter().filter_map(|(name, text)| Some((name, text?)))
    }
}

impl Way {
    /// The command, or else the words, for the line before an error.
    pub fn hint(&self) -> Option<&str> {
        self.repair.as_deref().or(self.advice.as_deref())
    }

    /// The same command, which `doctor --fix` may do.
    pub(crate) fn done_by(self, fixes: impl Into<Vec<Fix>>) -> Self {
        Self { fixes: fixes.into(), ..self }
    }

    /// The same command, left to who reads it: it changes something that works.
    pub(crate) fn by_hand(self) -> Self {
        Self { fixes: Vec::new(), ..self }
    }

    /// The same command, with words to it.
    pub(crate) fn and(self, words: impl Into<String>) -> Self {
        Self { advice: Some(words.into()), ..self }
    }

    /// Command and words in one line, for a hint.
    pub fn in_one_line(&self) -> String {
        let parts: Vec<_> = [&self.repair, &self.advice].into_iter().flatten().cloned().collect();
        parts.join("; ")
    }
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
pub(crate) struct Result {
    pub(crate) level: Level,
    pub(crate) what: String,
    pub(crate) effect: String,
    pub(crate) way: Way,
}

impl Result {
    /// The finding of the check that has this id.
    pub(crate) fn called(self, id: &'static str) -> Finding {
        let Self { level, what, effect, way } = self;
        Finding { id, level, what, effect, way }
    }
}

pub(crate) fn ok(what: impl Into<String>) -> Vec<Result> {
    one(Level::Ok, what, "", Way::default())
}

pub(crate) fn unknown(what: impl Into<String>) -> Vec<Result> {
    one(Level::Unknown, what, "", Way::default())
}

pub(crate) fn warning(what: impl Into<String>, effect: impl Into<String>, way: Way) -> Vec<Result> {
    one(Level::Warning, what, effect, way)
}

pub(crate) fn failure(what: impl Into<String>, effect: impl Into<String>, way: Way) -> Vec<Result> {
    one(Level::Failure, what, effect, way)
}

fn one(level: Level, what: impl Into<String>, effect: impl Into<String>, way: Way) -> Vec<Result> {
    vec![Result { level, what: what.into(), effect: effect.into(), way }]
}

/// All checks.
pub fn checks() -> impl Iterator<Item = &'static Check> {
    host::CHECKS.iter().chain(entries::CHECKS).chain(emulators::CHECKS).chain(lasting::CHECKS)
}

impl Check {
    /// Looks at one state.
    pub fn run(&self, state: &State) -> impl Iterator<Item = Finding> {
        (self.run)(state).into_iter().map(|result| result.called(self.id))
    }
}

/// Runs all checks.
pub fn check(state: &State) -> Vec<Finding> {
    checks().flat_map(|check| check.run(state)).collect()
}

/// The checks of the kernel's side only: those that `--status` shows.
///
/// Who only looks, as in a container without rights, misses no mount where programs run by entries that cannot be seen:
/// that nothing can be installed from there is worth a warning.
pub fn check_host(state: &State) -> Vec<Finding> {
    let hidden = |arch: &Arch| state.run_by(arch) == Ok(Some(RunBy::Hidden));
    let enough = state.mount == Ok(Mount::None) && ARCHES.iter().any(hidden);
    let told = |finding: Finding| match finding.level {
        Level::Failure if enough && finding.id == "mounted" => {
            Finding { level: Level::Warning, ..finding }
        }
        _ => finding,
    };
    host::CHECKS.iter().flat_map(|check| check.run(state)).map(told).collect()
}

/// The first finding that makes an install pointless.
pub fn obstacle(state: &State) -> Option<Finding> {
    checks()
        .filter(|check| check.blocks_install)
        .flat_map(|check| check.run(state))
        .find(|finding| finding.level == Level::Failure)
}
