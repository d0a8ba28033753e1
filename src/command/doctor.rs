//! `doctor`: runs every check and tells the worst first; or tells why one program does not run.
//!
//! Changes nothing but with `--fix`, and mounts only where [`crate::namespace::peek`] does. A program is
//! started only with `--run`.

mod environment;
mod file;
mod fix;
mod handler;
mod image;
mod images;
mod kind;
mod layers;
mod libraries;
mod link;
mod linking;
mod message;
mod outcome;
mod place;
mod program;
mod run;
mod script;
mod story;
mod subject;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::Context;
use crate::arch::ARCHES;
use crate::check::{self, Finding, Level};
use crate::cli::{Consent, Doctor, Format};
use crate::error::Error;
use crate::privilege;
use crate::report::{json, written};
use crate::shown::{plain, shorten};
use crate::state::{State, Surroundings};
use crate::terminal::Terminal;

use crate::tree::Tree;
use environment::Environment;
use fix::Fixed;
use place::Place;
pub use story::stories;
use subject::Looker;

/// What `doctor --format json` prints.
#[derive(Debug, Serialize)]
pub(crate) struct Diagnosis {
    /// Version of this format.
    pub schema_version: u32,
    /// Of a machine: worst first. Of a program: in the order in which it would be started.
    pub findings: Vec<Finding>,
    /// What `--fix` did; the findings are those after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixes: Option<Vec<Fixed>>,
}

/// Looks for what is wrong with the machine, or with one program.
///
/// # Errors
/// [`Error::Unhealthy`] where something needs repair; an id that is none.
pub(crate) fn doctor(context: &mut Context<'_>, request: &Doctor) -> Result<(), Error> {
    let environment = &Environment::observe();
    environment.raise_files();
    match request {
        Doctor::List => stories().try_for_each(|story| written(story.list(context.out))),
        Doctor::Explain(id) => {
            let story = stories().find(|story| story.id == *id).ok_or_else(|| {
                Error::Usage(format!(
                    "no check is called '{}': `doctor --list` lists them",
                    shorten(id)
                ))
            })?;
            written(story.explain(context.out))
        }
        Doctor::Machine { fix: None, format } => {
            let mut state = observe(context, false);
            look_at_machine(context, &mut state, environment, None, *format)
        }
        Doctor::Machine { fix: Some(consent), format } => {
            let all = context.general.verbose;
            let look = |context: &Context<'_>, state: &mut State| {
                judge_machine(context, state, environment)
            };
            fix_and_look_again(context, *consent, (*format, all), look)
        }
        Doctor::Image { file, program, format } => {
            let state = observe(context, false);
            let program = program.as_deref().map(Path::new);
            let findings = images::judge(context, &state, file, program, environment)?;
            tell_findings(context, *format, findings, true)
        }
        Doctor::Program { program, .. } if program.is_empty() => {
            Err(Error::Usage("the name of the program is empty".to_owned()))
        }
        Doctor::Program { program, arguments, root, fix, run, limit, format } => {
            let place = open_root(root)?;
            let path = place.find(Path::new(program));
            let message = pasted(program, arguments)
                .filter(|text| !run && message::is_known(text) && !place.has(&path));
            if let Some(first) = arguments.first().filter(|_| message.is_none() && !run) {
                let first = shorten(&first.to_string_lossy());
                return Err(Error::Usage(format!(
                    "unexpected argument '{first}': doctor looks at one program; its arguments are for --run"
                )));
            }
            if let Some(consent) = fix {
                let look = |context: &Context<'_>, state: &mut State| {
                    judge_program(context, state, environment, (&place, &path))
                };
                return fix_and_look_again(context, *consent, (*format, true), look);
            }
            let mut state = observe(context, *run);
            if let Some(message) = message {
                return look_at_machine(context, &mut state, environment, Some(&message), *format);
            }
            let run = run.then_some(Start { arguments, limit: *limit });
            let looker = Looker { root: context.root, place: &place, state: &state, environment };
            look_at_program(context, &looker, &path, run, *format)
        }
    }
}

/// What is set here that emulators obey: `QEMU_CPU=max`, `ulimit -v 3000000`.
pub(crate) fn inherited() -> Vec<String> {
    let environment = Environment::observe();
    let variables = environment.variables.iter().map(|(name, value)| format!("{name}={value}"));
    variables.chain(environment.limits.iter().map(environment::Limit::shown)).collect()
}

/// Opens the root that programs belong to.
fn open_root(root: &Path) -> Result<Place, Error> {
    Tree::open(root).map(Place::from).map_err(|error| {
        let why = error.errno().map_or(error.to_string(), |errno| errno.desc().to_owned());
        let file = if root.is_file() { "; --image looks into images" } else { "" };
        Error::Usage(format!("--root {} cannot be looked into: {why}{file}", root.display()))
    })
}

/// Observes everything, and gives up what rights nothing needs afterwards, unless it `acts`: starts a program, or
/// repairs.
fn observe(context: &Context<'_>, acts: bool) -> State {
    context.log.progress("looking at the kernel, the entries and the emulators");
    let mut state = context.observe(&ARCHES.iter().collect::<Vec<_>>());
    state.surroundings = Some(Surroundings::observe(context.root, &state.instance));
    // Programs, images and what others wrote are read with the right to read. A program that is started gets
    // its caller's.
    if !acts {
        privilege::keep(privilege::READ_ALL);
    }
    state
}

fn look_at_machine(
    context: &mut Context<'_>,
    state: &mut State,
    environment: &Environment,
    message: Option<&str>,
    format: Format,
) -> Result<(), Error> {
    let mut findings = judge_machine(context, state, environment);
    let explained = message.and_then(|text| message::explain(text, state));
    findings.splice(..0, explained);
    let all = context.general.verbose;
    tell_findings(context, format, findings, all)
}

fn judge_machine(
    context: &Context<'_>,
    state: &mut State,
    environment: &Environment,
) -> Vec<Finding> {
    let blamed = environment.blame(context.root, state);
    let mut findings = check::check(state);
    let has = |path: &Path| context.root.path(path).exists();
    findings.extend(handler::of_machine(environment, &blamed, has));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    as_user(&mut findings, state);
    findings
}

/// Tells what is found, repairs what may be repaired, and tells what is found then.
fn fix_and_look_again(
    context: &mut Context<'_>,
    consent: Consent,
    (format, all): (Format, bool),
    look: impl Fn(&Context<'_>, &mut State) -> Vec<Finding>,
) -> Result<(), Error> {
    let mut state = observe(context, true);
    let findings = look(context, &mut state);
    if format == Format::Table {
        tell_text(context, &findings, all)?;
    }
    let fixes = fix::fix(context, &state, &findings, consent == Consent::Given)?;
    if fixes.is_empty() && format == Format::Table {
        return verdict(&findings);
    }
    let mut state = observe(context, true);
    let diagnosis =
        Diagnosis { schema_version: 2, findings: look(context, &mut state), fixes: Some(fixes) };
    context.log.news("after that:");
    tell_diagnosis(context, format, &diagnosis, all)
}

/// How a program is to be started.
struct Start<'a> {
    arguments: &'a [OsString],
    limit: Option<Duration>,
}

fn judge_program(
    context: &Context<'_>,
    state: &State,
    environment: &Environment,
    (place, path): (&Place, &Path),
) -> Vec<Finding> {
    let looker = Looker { root: context.root, place, state, environment };
    let mut findings = program::judge(&looker.chain(path));
    as_user(&mut findings, state);
    findings
}

fn look_at_program(
    context: &mut Context<'_>,
    looker: &Looker<'_>,
    path: &Path,
    start: Option<Start<'_>>,
    format: Format,
) -> Result<(), Error> {
    let Looker { state, place, .. } = *looker;
    let chain = looker.chain(path);
    let mut findings = program::judge(&chain);
    as_user(&mut findings, state);
    let Some(Start { arguments, limit }) = start else {
        return tell_findings(context, format, findings, true);
    };
    // What is known is told before: the program may take long, or be broken off.
    if format == Format::Table {
        tell_text(context, &findings, true)?;
    }
    context.log.done();
    let ran = run::run(context.root, place, path, arguments, limit);
    let explained = findings.iter().any(|finding| finding.level == Level::Failure);
    let mut outcome = outcome::judge(&ran, &chain, explained);
    as_user(&mut outcome, state);
    if format == Format::Table {
        tell_text(context, &outcome, true)?;
        findings.extend(outcome);
        return verdict(&findings);
    }
    findings.extend(outcome);
    tell_findings(context, format, findings, true)
}

fn tell_findings(
    context: &mut Context<'_>,
    format: Format,
    findings: Vec<Finding>,
    all: bool,
) -> Result<(), Error> {
    let diagnosis = Diagnosis { schema_version: 2, findings, fixes: None };
    tell_diagnosis(context, format, &diagnosis, all)
}

fn tell_diagnosis(
    context: &mut Context<'_>,
    format: Format,
    diagnosis: &Diagnosis,
    all: bool,
) -> Result<(), Error> {
    match format {
        Format::Json => {
            context.log.done();
            written(json(diagnosis, context.out))?;
        }
        Format::Table => tell_text(context, &diagnosis.findings, all)?,
    }
    verdict(&diagnosis.findings)
}

fn tell_text(context: &mut Context<'_>, findings: &[Finding], all: bool) -> Result<(), Error> {
    context.log.done();
    let text = text(findings, all, context.terminal);
    written(context.out.write_all(text.as_bytes()).and_then(|()| context.out.flush()))
}

/// All words as one text: people paste messages, in quotes and without.
fn pasted(program: &OsStr, arguments: &[OsString]) -> Option<String> {
    let words = std::iter::once(program).chain(arguments.iter().map(OsString::as_os_str));
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    Some(words.join(" ")).filter(|text| text.contains(' '))
}

/// Puts `sudo` before commands that take root, for those who are not.
fn as_user(findings: &mut [Finding], state: &State) {
    const ROOTS: [&str; 11] = [
        "binfmtctl --",
        "binfmtctl persist",
        "echo ",
        "mount ",
        "modprobe ",
        "ldconfig",
        "chroot ",
        "apk ",
        "apt-get ",
        "chcon ",
        "systemctl ",
    ];
    if state.root != Ok(false) {
        return;
    }
    for command in findings.iter_mut().filter_map(|finding| finding.way.repair.as_mut()) {
        if ROOTS.iter().any(|start| command.starts_with(start)) {
            *command = match command.split_once(" > ") {
                Some((left, file)) => format!("{left} | sudo tee {file}"),
                None => format!("sudo {command}"),
            };
        }
    }
}

fn verdict(findings: &[Finding]) -> Result<(), Error> {
    let failures = || {
        findings.iter().filter(|finding| finding.level == Level::Failure).map(|finding| finding.id)
    };
    match failures().count() {
        0 => Ok(()),
        count => Err(Error::Unhealthy { count, worst: failures().next().unwrap_or_default() }),
    }
}

/// Where the words of a finding begin.
const INDENT: usize = 9;

/// For people: what needs attention in full, and unless `all` is to be shown, how much else there is.
fn text(findings: &[Finding], all: bool, terminal: Terminal) -> String {
    // Wrapped without colours, whose bytes would count.
    let line = |level: Level, words: &str| {
        let wrapped = terminal.wrap(&format!("{:INDENT$}{words}", ""), INDENT);
        let word = terminal.paint(level, &format!("{:<8}", level.as_str()));
        format!("{word} {}\n", wrapped.trim_start())
    };
    let meaning = |words: &str| line(Level::Unknown, words).replacen("unknown ", "meaning ", 1);
    let mut text = String::new();
    let mut told: Vec<&str> = Vec::new();
    for finding in findings {
        let Finding { id, level: found, what, .. } = finding;
        // One reason keeps many checks from looking: it is told once.
        let same = |other: &&Finding| other.level == Level::Unknown && other.what == *what;
        let alike: Vec<_> = findings.iter().filter(same).map(|other| other.id).collect();
        if *id == message::ID {
            text.push_str(&meaning(&plain(what)));
        } else if all || *found >= Level::Warning || (*found == Level::Unknown && alike.len() == 1)
        {
            text.push_str(&line(*found, &format!("{id}: {}", plain(what))));
        } else if *found == Level::Unknown && !told.contains(&what.as_str()) {
            told.push(what);
            let ids = alike.join(", ");
            text.push_str(&line(*found, &format!("{} ({ids})", plain(what))));
        } else {
            continue;
        }
        for (name, detail) in finding.details() {
            let detail = format!("{:INDENT$}{name}: {}", "", plain(detail));
            // A command is to be copied in one piece.
            let wraps = name != "repair";
            let detail = if wraps { terminal.wrap(&detail, INDENT) } else { detail };
            text.push_str(&format!("{detail}\n"));
        }
    }
    let well = findings.iter().filter(|finding| finding.level == Level::Ok).count();
    if well > 0 && !all {
        let findings = if well == 1 { "check" } else { "checks" };
        let what = format!("{well} {findings} found nothing wrong; -v shows them");
        text.push_str(&line(Level::Ok, &what));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Way, repair};

    fn finding(id: &'static str, level: Level, what: String, effect: &str, way: Way) -> Finding {
        Finding { id, level, what, effect: effect.to_owned(), way }
    }

    fn findings() -> Vec<Finding> {
        vec![
            finding("flag-f", Level::Failure, "no F\x1b[2J".to_owned(), "all", repair("do it")),
            finding("enabled", Level::Unknown, "not seen".to_owned(), "", Way::default()),
            finding("lasting", Level::Unknown, "who knows".to_owned(), "", Way::default()),
            finding("flag-c", Level::Unknown, "not seen".to_owned(), "", Way::default()),
            finding("mounted", Level::Ok, "mounted".to_owned(), "", Way::default()),
        ]
    }

    #[test]
    fn one_reason_is_told_once_and_what_is_well_is_counted() {
        assert_eq!(
            text(&findings(), false, Terminal::default()),
            "failure  flag-f: no F\\u{1b}[2J\n         effect: all\n         repair: do it\n\
             unknown  not seen (enabled, flag-c)\n\
             unknown  lasting: who knows\n\
             ok       1 check found nothing wrong; -v shows them\n"
        );
    }

    #[test]
    fn everything_is_told_if_asked_for() {
        let text = text(&findings(), true, Terminal { colour: true, ..Terminal::default() });
        assert!(text.starts_with("\x1b[31mfailure \x1b[0m flag-f: "), "{text}");
        assert_eq!(text.lines().count(), 7);
    }
}
