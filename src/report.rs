//! One report, two renderings: a table for people, JSON for programs.
//!
//! It is drawn from what was observed after a change, never from what we believe we did.

use std::fmt::Write as _;
use std::io;

use serde::Serialize;
use tabled::builder::Builder;
use tabled::settings::Style;

use crate::arch::{ARCHES, Arch, HOST};
use crate::check::{Finding, Level};
use crate::emulator::Emulators;
use crate::error::{Error, Op};
use crate::platform::Platform;
use crate::shown::plain;
use crate::state::{RunBy, State};
use crate::terminal::Terminal;

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
    /// Why it is not available, or not for every kind of program.
    pub reason: Option<String>,
}

/// `supported` of the summary.
///
/// # Errors
/// Where no test program could be run: what works is not known then.
pub(crate) fn supported(state: &State) -> Result<Vec<String>, Error> {
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

    /// For people: how many platforms work, and which.
    pub fn line(&self) -> String {
        let platforms = if self.supported.len() == 1 { "platform works" } else { "platforms work" };
        format!("{} {platforms}: {}", self.supported.len(), self.supported.join(", "))
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
        (Ok(Some(_)), Some(entry), _) if !state.missed(arch).is_empty() => {
            Some(format!("{}: {}", entry.name, state.why_not_running(entry)))
        }
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
        emulator: state.emulator(arch).map(|it| it.family),
        ours: probe.is_some_and(|probe| probe.ours),
        installable: emulators.get(arch).is_some(),
        reason,
    }
}

/// What became of writing the report.
///
/// # Errors
/// The given one; [`Error::NoReader`] where the reader has gone away, which is no panic and no fault.
pub(crate) fn written(result: io::Result<()>) -> Result<(), Error> {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Error::NoReader,
        _ => Error::system(Op::WriteFile, "standard output", error),
    })
}

/// JSON with two spaces' indent and a line end.
///
/// # Errors
/// Those of the writer.
pub fn json(report: &impl Serialize, out: &mut dyn io::Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    writeln!(out)
}

impl Report {
    /// The table, then what does not work and why, then what the checks found; with `all`, also what
    /// is well.
    pub fn table(&self, terminal: Terminal, all: bool) -> String {
        let rows: Vec<_> = self.platforms.iter().filter(|it| it.has_entry()).collect();
        let table = draw_to_fit(&rows, terminal);
        let reasons = rows.iter().map(|platform| platform.reason.as_deref());
        let mut text = String::new();
        for (line, reason) in table.lines().zip(std::iter::once(None).chain(reasons)) {
            let _ = writeln!(text, "{}", line.trim_end());
            if let Some(reason) = reason {
                let _ = writeln!(text, "{}", terminal.wrap(&format!("   {}", plain(reason)), 3));
            }
        }
        text.push('\n');
        text.push_str(&tell_others(&self.platforms, terminal));
        text.push_str(&self.tell_findings(terminal, all));
        text
    }

    /// A line for each finding; what is well is only counted, unless `all` is to be told.
    fn tell_findings(&self, terminal: Terminal, all: bool) -> String {
        let mut text = String::new();
        let mut well = 0;
        for finding in &self.findings {
            if finding.level == Level::Ok && !all {
                well += 1;
                continue;
            }
            text.push_str(&told(terminal, finding.level, &finding.what));
            for (name, detail) in finding.details().filter(|(name, _)| *name != "effect") {
                let line = format!("{name}: {detail}");
                // A command is to be copied in one piece.
                let terminal = if name == "repair" { Terminal::default() } else { terminal };
                let line = indented(terminal, &line);
                let _ = writeln!(text, "{line}");
            }
        }
        if well > 0 {
            let what = format!("{well} checks of the kernel found nothing wrong; -v shows them");
            text.push_str(&told(terminal, Level::Ok, &what));
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

const COLUMNS: [&str; 5] = ["PLATFORM", "AVAILABLE", "BY", "FLAGS", "QEMU"];

/// The table with as many columns as there is room for: names are never torn apart.
fn draw_to_fit(rows: &[&PlatformReport], terminal: Terminal) -> String {
    const CHOICES: [&[usize]; 4] = [&[0, 1, 2, 3, 4], &[0, 1, 2, 4], &[0, 1, 2], &[0, 1]];
    let fits = |columns: &&&[usize]| {
        // Without colours, whose bytes would count.
        let table = draw(rows, columns, Terminal::default());
        terminal
            .width
            .is_none_or(|width| table.lines().all(|line| line.trim_end().chars().count() <= width))
    };
    draw(rows, CHOICES.iter().find(fits).unwrap_or(&CHOICES[3]), terminal)
}

fn draw(rows: &[&PlatformReport], columns: &[usize], terminal: Terminal) -> String {
    let mut table = Builder::default();
    table.push_record(columns.iter().map(|column| COLUMNS[*column]));
    for row in rows.iter().map(|platform| platform.row(terminal)) {
        table.push_record(columns.iter().map(|column| row[*column].as_str()));
    }
    let mut table = table.build();
    table.with(Style::blank());
    table.to_string()
}

/// Where the words of a finding begin.
const INDENT: usize = 10;

fn indented(terminal: Terminal, text: &str) -> String {
    terminal.wrap(&format!("{:INDENT$}{}", "", plain(text)), INDENT)
}

fn told(terminal: Terminal, level: Level, what: &str) -> String {
    let word = terminal.paint(level, &format!("{:<8}", level.as_str()));
    format!(" {word} {}\n", indented(terminal, what).trim_start())
}

impl PlatformReport {
    /// Whether something runs it, or an entry is there that should.
    fn has_entry(&self) -> bool {
        self.available == Some(true) || self.by.is_some()
    }

    /// Its row of the table.
    fn row(&self, terminal: Terminal) -> [String; 5] {
        let available = match self.available {
            Some(true) if self.reason.is_some() => terminal.paint(Level::Warning, "partly"),
            Some(true) => terminal.paint(Level::Ok, "yes"),
            Some(false) => terminal.paint(Level::Failure, "no"),
            None => terminal.paint(Level::Unknown, "unknown"),
        };
        // Without the package's version: `11.1.3` of `11.1.3 (Debian 1:11.1.3+ds-1)`.
        let number = |version: &String| version.split(' ').next().unwrap_or_default().to_owned();
        let qemu = match (&self.qemu, self.ours, &self.emulator) {
            (Some(version), true, _) => format!("{}, ours", number(version)),
            (Some(version), false, _) => number(version),
            (None, _, Some(other)) => other.clone(),
            (None, _, None) => "-".to_owned(),
        };
        [
            brief(&self.platforms),
            available,
            plain(self.by.as_deref().unwrap_or("-")),
            plain(self.flags.as_deref().unwrap_or("-")),
            plain(&qemu),
        ]
    }
}

/// What has no entry, a line for each reason: rarer architectures only where an emulator is at hand.
fn tell_others(platforms: &[PlatformReport], terminal: Terminal) -> String {
    let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
    for (platform, arch) in platforms.iter().zip(ARCHES) {
        if platform.has_entry() || !(arch.common || platform.installable) {
            continue;
        }
        let why = platform.reason.as_deref().unwrap_or("not installed");
        let why = match arch.common {
            true => why.to_owned(),
            false if platform.available.is_some() => "not installed, rarely used".to_owned(),
            false => continue,
        };
        let names = platform.platforms.iter().map(String::as_str);
        match reasons.iter_mut().find(|(other, _)| *other == why) {
            Some((_, all)) => all.extend(names),
            None => reasons.push((why, names.collect())),
        }
    }
    let mut text = String::new();
    for (why, names) in reasons {
        let line = format!(" {}: {}", plain(&why), names.join(" "));
        let _ = writeln!(text, "{}\n", terminal.wrap(&line, 3));
    }
    text
}

/// `linux/amd64 v2 v3` for linux/amd64, linux/amd64/v2, linux/amd64/v3.
fn brief(platforms: &[String]) -> String {
    let variant = |platform: &String| platform.rsplit('/').next().unwrap_or_default().to_owned();
    let rest: Vec<_> = platforms.iter().skip(1).map(variant).collect();
    [vec![platforms[0].clone()], rest].concat().join(" ")
}
