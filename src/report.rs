//! One report, two renderings: a table for people, JSON for programs.
//!
//! It is drawn from what was observed after a change, never from what we believe we did.

use std::fmt::Write as _;
use std::io;

use serde::Serialize;
use tabled::builder::Builder;
use tabled::settings::peaker::Priority;
use tabled::settings::{Style, Width};

use crate::arch::{ARCHES, Arch, HOST};
use crate::check::{Finding, Level};
use crate::emulator::Emulators;
use crate::error::{Error, Op};
use crate::platform::Platform;
use crate::state::{RunBy, State};

/// What existing scripts read; `docker/setup-qemu-action` parses it.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// Platforms whose test program just ran, native ones first.
    pub supported: Vec<String>,
    /// Names of all enabled entries, whoever made them, sorted.
    pub emulators: Vec<String>,
}

/// Everything: [`Summary`]'s two keys first.
#[derive(Debug, Serialize)]
pub struct Report {
    /// See [`Summary`].
    #[serde(flatten)]
    pub summary: Summary,
    /// Version of this format; it grows with every incompatible change.
    pub schema_version: u32,
    /// One item an architecture that is available, registered or installable.
    pub platforms: Vec<PlatformReport>,
    /// What the checks found.
    pub findings: Vec<Finding>,
}

/// One architecture.
#[derive(Debug, Serialize)]
pub struct PlatformReport {
    /// The platforms it stands for, `linux/arm/v7` and `linux/arm/v6`.
    pub platforms: Vec<String>,
    /// Whether its test program just ran in an empty root; absent where that is not known.
    pub available: Option<bool>,
    /// What ran it, or would have: `native` or the entry's name; absent where nothing would.
    pub by: Option<String>,
    /// The entry's interpreter.
    pub interpreter: Option<String>,
    /// The entry's flags.
    pub flags: Option<String>,
    /// What the emulator that ran says of itself.
    pub qemu: Option<String>,
    /// The family of the emulator that ran: `QEMU`, `FEX`.
    pub emulator: Option<String>,
    /// Whether the emulator that ran is the one that this binary carries.
    pub ours: bool,
    /// Whether an emulator is at hand.
    pub installable: bool,
    /// Why it is not available.
    pub reason: Option<String>,
}

/// `supported` of the summary.
///
/// # Errors
/// Where no test program could be run: what works is not known then.
pub fn supported(state: &State) -> Result<Vec<String>, Error> {
    state.probes.as_ref().map_err(Clone::clone)?;
    let (first, others): (Vec<_>, Vec<_>) = ARCHES.iter().partition(|arch| *arch == HOST);
    let works = |arch: &&Arch| matches!(state.run_by(arch), Ok(Some(_)));
    let arches = first.into_iter().chain(others).filter(works);
    Ok(arches.flat_map(|arch| platforms(arch, state)).collect())
}

/// The platforms that `arch` stands for here, micro-architecture levels included.
fn platforms(arch: &Arch, state: &State) -> Vec<String> {
    let levels = state.probe(arch).map(|probe| probe.levels.as_slice()).unwrap_or_default();
    let mut platforms = arch.platforms();
    platforms.extend(levels.iter().map(|level| format!("linux/{}/{level}", arch.oci)));
    platforms
}

impl Summary {
    /// Draws it from what was observed.
    ///
    /// # Errors
    /// As [`supported`].
    pub fn new(state: &State) -> Result<Self, Error> {
        let entries =
            state.instance.as_ref().map(|instance| instance.entries.as_slice()).unwrap_or_default();
        let mut emulators: Vec<_> =
            entries.iter().filter(|entry| entry.enabled).map(|entry| entry.name.clone()).collect();
        emulators.sort();
        Ok(Self { supported: supported(state)?, emulators })
    }
}

impl Report {
    /// Draws it from what was observed and what `findings` the checks made of that.
    ///
    /// # Errors
    /// As [`supported`].
    pub fn new(
        state: &State,
        emulators: &Emulators,
        findings: Vec<Finding>,
    ) -> Result<Self, Error> {
        let platforms = ARCHES.iter().map(|arch| platform_report(arch, state, emulators)).collect();
        Ok(Self { summary: Summary::new(state)?, schema_version: 2, platforms, findings })
    }
}

fn platform_report(arch: &Arch, state: &State, emulators: &Emulators) -> PlatformReport {
    let probe = state.probe(arch);
    let run_by = state.run_by(arch);
    // An entry that is disabled or shadowed takes nothing, but is the reason.
    let instance = state.instance.as_ref().ok();
    let any = || instance?.entries.iter().find(|entry| entry.takes(&arch.probe()));
    let entry = state.matching_entry(arch).or_else(any);
    let reason = match (&run_by, entry, &state.instance) {
        (Ok(Some(_)), ..) => None,
        (Err(why), ..) => Some(why.clone()),
        (_, Some(_), Ok(instance)) if !instance.enabled => {
            Some("binfmt_misc is disabled as a whole".to_owned())
        }
        (_, Some(entry), _) => Some(format!("{}: {}", entry.name, state.why_not_running(entry))),
        (_, None, Ok(_)) => Some("not installed".to_owned()),
        (_, None, Err(why)) => Some(why.clone()),
    };
    let entry = entry.filter(|_| run_by != Ok(Some(RunBy::Native)));
    PlatformReport {
        platforms: platforms(arch, state),
        available: run_by.as_ref().ok().map(Option::is_some),
        by: match run_by {
            Ok(Some(RunBy::Native)) => Some("native".to_owned()),
            Ok(Some(RunBy::Hidden)) => Some("an entry that cannot be seen from here".to_owned()),
            _ => entry.map(|entry| entry.name.clone()),
        },
        interpreter: entry.map(|entry| entry.interpreter.display().to_string()),
        flags: entry.map(|entry| entry.flags.to_string()),
        qemu: probe.and_then(|probe| probe.qemu().map(str::to_owned)),
        emulator: probe.and_then(|probe| probe.emulator.as_ref()).map(|it| it.family.clone()),
        ours: probe.is_some_and(|probe| probe.ours),
        installable: emulators.get(arch).is_some(),
        reason,
    }
}

/// A reader that has gone away is an error like any other, and no panic.
///
/// # Errors
/// The given one, in words.
pub fn written(result: io::Result<()>) -> Result<(), Error> {
    result.map_err(|error| Error::system(Op::WriteFile, "standard output", error))
}

/// JSON with two spaces' indent and a line end.
///
/// # Errors
/// Those of the writer.
pub fn json(report: &impl Serialize, out: &mut dyn io::Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)
}

pub use crate::shown::plain;

/// Where a report for people goes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terminal {
    /// Its width in characters; `None` where it is no terminal and lines may have any length.
    pub width: Option<usize>,
    /// Whether colours are wanted.
    pub colour: bool,
}

impl Terminal {
    /// Standard output, as it is now: colours only on a terminal, and never with `NO_COLOR`.
    pub fn of_stdout() -> Self {
        let stdout = std::io::stdout();
        if !io::IsTerminal::is_terminal(&stdout) {
            return Self::default();
        }
        let width =
            rustix::termios::tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_col));
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { width: width.filter(|width| *width >= 40), colour: !no_colour }
    }

    /// `text` in green, yellow or red, by how good the news is.
    pub fn paint(self, level: Level, text: &str) -> String {
        let colour = match level {
            Level::Ok => 32,
            Level::Unknown => 36,
            Level::Warning => 33,
            Level::Failure => 31,
        };
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

impl Report {
    /// The table, then a line for each finding.
    pub fn table(&self, terminal: Terminal) -> String {
        let mut table = Builder::default();
        table.push_record(["PLATFORM", "AVAILABLE", "BY", "FLAGS", "QEMU", "WHY NOT"]);
        let mut quiet = Vec::new();
        for (platform, arch) in self.platforms.iter().zip(ARCHES) {
            if platform.available == Some(false) && platform.by.is_none() && !arch.common {
                quiet.extend(platform.installable.then(|| platform.platforms[0].as_str()));
                continue;
            }
            let available = match (platform.available, &platform.by) {
                (Some(true), _) => terminal.paint(Level::Ok, "yes"),
                (Some(false), Some(_)) => terminal.paint(Level::Failure, "no"),
                (Some(false), None) => "no".to_owned(),
                (None, _) => terminal.paint(Level::Unknown, "unknown"),
            };
            let qemu = match (&platform.qemu, platform.ours, &platform.emulator) {
                (Some(version), true, _) => format!("{version}, ours"),
                (Some(version), false, _) => version.clone(),
                (None, _, Some(other)) => other.clone(),
                (None, _, None) => "-".to_owned(),
            };
            table.push_record([
                brief(&platform.platforms),
                available,
                plain(platform.by.as_deref().unwrap_or("-")),
                plain(platform.flags.as_deref().unwrap_or("-")),
                plain(&qemu),
                plain(platform.reason.as_deref().unwrap_or_default()),
            ]);
        }
        let mut table = table.build();
        table.with(Style::blank());
        if let Some(width) = terminal.width {
            table.with(Width::wrap(width).priority(Priority::max(false)).keep_words(true));
        }
        let mut text: String =
            table.to_string().lines().map(|line| format!("{}\n", line.trim_end())).collect();
        if !quiet.is_empty() {
            let _ = writeln!(text, "\nnot installed, but could be: {}", quiet.join(" "));
        }
        text.push('\n');
        for finding in &self.findings {
            let level = terminal.paint(finding.level, &format!("{:<8}", finding.level.as_str()));
            let _ = writeln!(text, " {level} {}", plain(&finding.what));
            for (name, detail) in finding.details().filter(|(name, _)| *name != "effect") {
                let _ = writeln!(text, "          {name}: {}", plain(detail));
            }
        }
        text
    }

    /// Which of the platforms a user requires are not there.
    pub fn missing<'a>(&self, required: &'a [Platform]) -> Vec<&'a Platform> {
        let listed = |platform: &&Platform| {
            platform.listed_as().iter().all(|name| self.summary.supported.contains(name))
        };
        required.iter().filter(|platform| !listed(platform)).collect()
    }
}

/// `linux/amd64 v2 v3` for linux/amd64, linux/amd64/v2, linux/amd64/v3.
fn brief(platforms: &[String]) -> String {
    let variant = |platform: &String| platform.rsplit('/').next().unwrap_or_default().to_owned();
    let rest: Vec<_> = platforms.iter().skip(1).map(variant).collect();
    [vec![platforms[0].clone()], rest].concat().join(" ")
}
