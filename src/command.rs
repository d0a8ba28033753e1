//! The commands, a module for each, and what they share.

pub(crate) mod change;
pub(crate) mod doctor;
pub(crate) mod hold;
pub(crate) mod persist;
pub(crate) mod run;
pub(crate) mod status;
pub(crate) mod version;

use std::ffi::OsString;
use std::io::Write;
use std::time::SystemTime;

use crate::apply::{Outcome, StepResult};
use crate::arch::Arch;
use crate::cli::General;
use crate::emulator::Emulators;
use crate::error::Error;
use crate::host::{observe, observe_filesystem};
use crate::namespace::peek;
use crate::probe::{self, Identify};
use crate::report::{Summary, json, written};
use crate::root::Root;
use crate::shown::plain;
use crate::state::{Probes, State};
use crate::terminal::{Progress, Terminal};

/// Main of a process that this program starts of itself: its argument, the host, where it answers.
type Hidden = fn(Option<&str>, &Root, &mut dyn Write) -> Result<(), Error>;

/// What this first argument is for, if it is none that people use.
pub(crate) fn hidden(word: Option<&OsString>) -> Option<Hidden> {
    Some(match word?.to_str()? {
        probe::SUBCOMMAND => probe::main,
        run::SUBCOMMAND => run::map_ids,
        run::watcher::SUBCOMMAND => run::watcher::start_watcher,
        run::watcher::WATCH => run::watcher::watch,
        _ => return None,
    })
}

/// What a command works with.
pub(crate) struct Context<'a> {
    /// The host.
    pub root: &'a Root,
    /// The emulators at hand.
    pub emulators: &'a Emulators,
    /// Options that every command takes.
    pub general: &'a General,
    /// What `out` is.
    pub terminal: Terminal,
    /// Where the report goes.
    pub out: &'a mut dyn Write,
    /// Where all else goes.
    pub log: Log<'a>,
}

/// The log: a line an item, on standard error.
pub(crate) struct Log<'a> {
    to: &'a mut dyn Write,
    terminal: Terminal,
    progress: Progress,
    told: Vec<String>,
    stamped: bool,
    verbose: bool,
    quiet: bool,
}

impl<'a> Log<'a> {
    /// A log that is written to `to`, which `terminal` describes.
    pub(crate) fn new(
        to: &'a mut dyn Write,
        terminal: Terminal,
        progress: Progress,
        general: &General,
    ) -> Self {
        let General { verbose, quiet, .. } = *general;
        Self { to, terminal, progress, told: Vec::new(), stamped: false, verbose, quiet }
    }

    /// Writes a line. Names of entries and files may hold anything: they are made plain.
    pub(crate) fn line(&mut self, line: &str) {
        self.progress.clear();
        let stamp = match self.stamped {
            true => format!("{} ", humantime::format_rfc3339_seconds(SystemTime::now())),
            false => String::new(),
        };
        // Nowhere is left to complain to.
        let _ = writeln!(self.to, "{stamp}{}", self.terminal.line(&plain(line)));
    }

    /// Writes a line that tells of no fault: `--quiet` leaves it out.
    pub(crate) fn news(&mut self, line: &str) {
        if !self.quiet {
            self.line(line);
        }
    }

    /// Takes away what [`Log::progress`] has shown: a report follows.
    pub(crate) fn done(&self) {
        self.progress.clear();
    }

    /// Tells a person who waits what is being done; nothing where standard error is no terminal.
    pub(crate) fn progress(&self, what: &str) {
        self.progress.show(what);
    }

    /// Writes a line that only `--verbose` shows.
    pub(crate) fn verbose(&mut self, line: &str) {
        if self.verbose {
            self.line(line);
        }
    }

    /// Puts the time before each line from now on; systemd's journal does that itself.
    pub(crate) fn stamp(&mut self) {
        self.stamped = std::env::var_os("JOURNAL_STREAM").is_none();
    }

    /// Writes a line that would otherwise come every few seconds.
    pub(crate) fn once(&mut self, line: &str) {
        if !self.told.iter().any(|told| told == line) {
            self.line(line);
            self.told.push(line.to_owned());
        }
    }

    /// All is well: what [`Log::once`] told is news again when it comes back.
    pub(crate) fn forget(&mut self) {
        self.told.clear();
    }
}

impl Drop for Log<'_> {
    fn drop(&mut self) {
        self.progress.clear();
    }
}

impl Context<'_> {
    /// Tells which platforms work: to programs as JSON, to a person in one line, last on standard error.
    pub(crate) fn tell_summary(&mut self, state: &State, as_json: bool) -> Result<(), Error> {
        let summary = Summary::new(state)?;
        if as_json || !self.terminal.is_terminal {
            self.log.done();
            return written(json(&summary, self.out));
        }
        self.log.news(&summary.line());
        Ok(())
    }

    /// Observes the host, with its entries even where binfmt_misc is not mounted.
    pub(crate) fn observe(&self, arches: &[&'static Arch]) -> State {
        let mut state = observe(self.root);
        state.probes = self.probe(arches);
        self.peek(&mut state);
        state
    }

    /// Reads the entries where binfmt_misc is not mounted, if that changes nothing for anybody.
    pub(crate) fn peek(&self, state: &mut State) {
        if let Some(instance) = peek(self.root, state) {
            state.instance = Ok(instance);
            // Looking may also have made the kernel load its module.
            state.filesystem = observe_filesystem(self.root);
        }
    }

    /// Runs test programs, and finds out which emulators are ours.
    pub(crate) fn probe(&self, arches: &[&'static Arch]) -> Result<Probes, Error> {
        let General { qemu_binary_path: path, qemu_binary_prefix: prefix, .. } = self.general;
        let identify = Identify { path: path.clone(), prefix: prefix.clone().unwrap_or_default() };
        probe::probe(self.root, arches.iter().copied(), Some(identify))
    }

    /// Runs all test programs. Which emulators are ours is not found out, as that takes time.
    pub(crate) fn probe_all(&self) -> Result<Probes, Error> {
        probe::probe(self.root, crate::arch::ARCHES, None)
    }

    /// Tells what became of each item. What is in the way of all is left for the last word.
    pub(crate) fn tell(&mut self, verb: &str, results: &[StepResult]) {
        let told = |result: &&StepResult| {
            !matches!(result.outcome, Outcome::Failed(Error::Obstacle { .. }))
        };
        for result in results.iter().filter(told) {
            let line = format!("{verb}: {result}");
            match &result.outcome {
                Outcome::Failed(_) => self.log.line(&line),
                _ => self.log.news(&line),
            }
        }
    }

    /// The last word on the items of one verb: what failed, with the advice before it.
    ///
    /// # Errors
    /// [`Error::Items`] where any failed.
    pub(crate) fn verdict(
        &mut self,
        verb: &'static str,
        results: Vec<StepResult>,
    ) -> Result<(), Error> {
        let failed =
            results.into_iter().filter_map(|StepResult { subject, outcome, .. }| match outcome {
                Outcome::Failed(error) => Some((subject, error)),
                _ => None,
            });
        self.last_word(verb, failed.collect())
    }

    /// The same, of items that failed before anything was done.
    pub(crate) fn last_word(
        &mut self,
        verb: &'static str,
        failed: Vec<(String, Error)>,
    ) -> Result<(), Error> {
        let mut hints: Vec<_> = failed.iter().filter_map(|(_, error)| error.hint()).collect();
        hints.dedup();
        hints.iter().for_each(|hint| self.log.line(&format!("hint: {hint}")));
        let (names, mut errors): (Vec<_>, Vec<_>) = failed.into_iter().unzip();
        if errors.is_empty() {
            return Ok(());
        }
        Err(Error::Items { verb, names, first: Box::new(errors.swap_remove(0)) })
    }
}
