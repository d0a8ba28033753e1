//! `doctor`: runs every check and tells the worst first; or tells why one program does not run.
//!
//! Changes nothing, and mounts only where [`crate::namespace::look`] does. A program is started only with
//! `--run`.

mod handler;
mod place;
mod program;
mod run;
mod story;

use std::path::Path;

use serde::Serialize;

use crate::Session;
use crate::check::{self, Finding, Level, Way};
use crate::cli::{DoctorArgs, Format};
use crate::error::Error;
use crate::report::{Terminal, json, plain, written};
use crate::state::Surroundings;

use place::Place;
pub use story::{Story, stories};

/// What `doctor --format json` prints.
#[derive(Debug, Serialize)]
pub struct Diagnosis {
    /// Version of this format.
    pub schema_version: u32,
    /// Of a machine: worst first. Of a program: in the order in which it would be started.
    pub findings: Vec<Finding>,
}

impl Session<'_> {
    /// Runs the command.
    ///
    /// # Errors
    /// [`Error::Unhealthy`] where something needs repair; an id that is none.
    pub(crate) fn doctor(&mut self, args: &DoctorArgs) -> Result<(), Error> {
        if args.list {
            return stories().try_for_each(|story| written(story.list(self.out)));
        }
        if let Some(id) = &args.explain {
            let story = stories().find(|story| story.id == *id).ok_or_else(|| {
                Error::Usage(format!(
                    "no check is called '{}': `doctor --list` lists them",
                    Error::shorten(id)
                ))
            })?;
            return written(story.explain(self.out));
        }

        let mut state = self.observe_all()?;
        state.surroundings = Some(Surroundings::observe(self.root, &state.instance));
        let findings = match args.program.split_first() {
            Some((program, arguments)) => {
                let place = Place::new(&args.root)?;
                let path = place.find(Path::new(program));
                let mut findings = program::diagnose(&place, &path, &state, program::MAX_SCRIPTS);
                if args.run {
                    findings.push(run::run(self.root, &place, &path, arguments));
                }
                findings
            }
            None => {
                let mut findings = check::check(&state);
                findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
                findings
            }
        };
        let wrong = findings.iter().filter(|finding| finding.level == Level::Failure).count();
        let diagnosis = Diagnosis { schema_version: 2, findings };
        written(match args.format {
            Format::Json => json(&diagnosis, self.out),
            Format::Table => {
                let all = self.request.verbose || !args.program.is_empty();
                self.out.write_all(text(&diagnosis, all, self.terminal).as_bytes())
            }
        })?;
        if wrong > 0 { Err(Error::Unhealthy(wrong)) } else { Ok(()) }
    }
}

fn finding(id: &'static str, level: Level, what: String, effect: &str, way: Way) -> Finding {
    Finding { id, level, what, effect: effect.to_owned(), way }
}

/// For people: what needs attention in full, and unless `all` is to be shown, how much else there is.
fn text(diagnosis: &Diagnosis, all: bool, terminal: Terminal) -> String {
    let level = |level: Level| terminal.paint(level, &format!("{:<8}", level.as_str()));
    let mut text = String::new();
    let mut told: Vec<&str> = Vec::new();
    for finding in &diagnosis.findings {
        let Finding { id, level: found, what, .. } = finding;
        // One reason keeps many checks from looking: it is told once.
        let same = |other: &&Finding| other.level == Level::Unknown && other.what == *what;
        let alike: Vec<_> = diagnosis.findings.iter().filter(same).map(|other| other.id).collect();
        if all || *found >= Level::Warning || (*found == Level::Unknown && alike.len() == 1) {
            text.push_str(&format!("{} {id}: {}\n", level(*found), plain(what)));
        } else if *found == Level::Unknown && !told.contains(&what.as_str()) {
            told.push(what);
            let ids = alike.join(", ");
            text.push_str(&format!("{} {} ({ids})\n", level(*found), plain(what)));
        } else {
            continue;
        }
        for (name, detail) in finding.details() {
            text.push_str(&format!("         {name}: {}\n", plain(detail)));
        }
    }
    let well = diagnosis.findings.iter().filter(|finding| finding.level == Level::Ok).count();
    if well > 0 && !all {
        let findings = if well == 1 { "check" } else { "checks" };
        text.push_str(&format!(
            "{} {well} {findings} found nothing wrong; -v shows them\n",
            level(Level::Ok)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::repair;

    fn diagnosis() -> Diagnosis {
        let findings = vec![
            finding("flag-f", Level::Failure, "no F\x1b[2J".to_owned(), "all", repair("do it")),
            finding("enabled", Level::Unknown, "not seen".to_owned(), "", Way::default()),
            finding("lasting", Level::Unknown, "who knows".to_owned(), "", Way::default()),
            finding("flag-c", Level::Unknown, "not seen".to_owned(), "", Way::default()),
            finding("mounted", Level::Ok, "mounted".to_owned(), "", Way::default()),
        ];
        Diagnosis { schema_version: 2, findings }
    }

    #[test]
    fn one_reason_is_told_once_and_what_is_well_is_counted() {
        assert_eq!(
            text(&diagnosis(), false, Terminal::default()),
            "failure  flag-f: no F\\u{1b}[2J\n         effect: all\n         repair: do it\n\
             unknown  not seen (enabled, flag-c)\n\
             unknown  lasting: who knows\n\
             ok       1 check found nothing wrong; -v shows them\n"
        );
    }

    #[test]
    fn everything_is_told_if_asked_for() {
        let text = text(&diagnosis(), true, Terminal { width: None, colour: true });
        assert!(text.starts_with("\x1b[31mfailure \x1b[0m flag-f: "), "{text}");
        assert_eq!(text.lines().count(), 7);
    }
}
