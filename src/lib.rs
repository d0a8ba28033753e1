//! Makes a Linux host run programs built for other architectures, proves it, and explains.
//!
//! The modules are declared in the order in which data flows through them: what was asked for,
//! what the world is made of, what the host is like, what is to be done, doing it, telling of it.

pub mod cli;

pub mod arch;
pub mod elf;
pub mod entry;
pub mod mountinfo;
pub mod platform;

pub mod emulator;
pub mod root;
pub mod state;
pub mod tree;

pub mod host;
pub mod probe;
pub mod surroundings;

pub mod namespace;

pub mod check;
pub mod plan;

pub mod anchor;
pub mod apply;
pub mod cache;

pub mod command;

pub mod report;

pub mod error;

use std::io::Write;

use apply::StepResult;
use arch::{ARCHES, Arch};
use cli::{Cli, Command, Format};
use emulator::Emulators;
use entry::Flags;
use error::Error;
use host::{observe, observe_instance};
use namespace::look;
use plan::{Action, Options};
use platform::Platform;
use report::{Report, Summary, Terminal, json, written};
use root::Root;
use state::{Server, State, UserNamespace};

/// The notice, our own licence, and those of the emulators.
const LICENSES: [&str; 4] = [
    include_str!("../licenses/NOTICE"),
    include_str!("../LICENSE"),
    include_str!("../licenses/GPL-2.0.txt"),
    include_str!("../licenses/LGPL-2.1.txt"),
];

/// Does what was asked for. The report goes to `out`, which `terminal` describes, the log to `log`.
///
/// # Errors
/// The one thing to tell the user last; the process's exit code follows from it.
pub fn run_request(
    request: &Cli,
    root: &Root,
    terminal: Terminal,
    out: &mut dyn Write,
    log: &mut dyn Write,
) -> Result<(), Error> {
    if request.licenses {
        return written(LICENSES.iter().try_for_each(|text| writeln!(out, "{text}")));
    }
    let emulators =
        Emulators::new(request.qemu_binary_path.as_deref(), &request.qemu_binary_prefix)?;
    if request.version {
        return version(&emulators, out);
    }
    let mut session =
        Session { request, root, emulators, terminal, out, log, last_log: String::new() };
    match &request.command {
        Some(Command::Hold(args)) => return session.hold(args),
        Some(Command::Persist(args)) => return session.persist(args),
        Some(Command::Doctor(args)) => return session.doctor(args),
        Some(Command::Run(args)) => return session.run_program(args),
        None => {}
    }
    match (&request.install, &request.uninstall) {
        (None, None) => session.status(),
        _ if request.dry_run => session.dry_run(),
        _ => session.change(),
    }
}

/// One run of the program.
struct Session<'a> {
    request: &'a Cli,
    root: &'a Root,
    emulators: Emulators,
    terminal: Terminal,
    out: &'a mut dyn Write,
    log: &'a mut dyn Write,
    /// What `log_once` said last.
    last_log: String,
}

fn version(emulators: &Emulators, out: &mut dyn Write) -> Result<(), Error> {
    let mut versions: Vec<_> =
        emulators.iter().map(|e| format!("{} ({})", e.version, e.package)).collect();
    versions.dedup();
    let qemu = if emulators.is_empty() { "none".to_owned() } else { versions.join(", ") };
    let names: Vec<_> = emulators.iter().map(|e| e.name.as_str()).collect();
    let text = format!(
        "binfmtctl {}\nqemu {qemu}\nemulators {}\n",
        env!("CARGO_PKG_VERSION"),
        if names.is_empty() {
            "none: built with an empty qemu-bins/".to_owned()
        } else {
            names.join(" ")
        },
    );
    written(out.write_all(text.as_bytes()))
}

impl Session<'_> {
    fn log(&mut self, line: &str) {
        // Nowhere is left to complain to.
        let _ = writeln!(self.log, "{line}");
    }

    fn verbose(&mut self, line: &str) {
        if self.request.verbose {
            self.log(line);
        }
    }

    /// Observes through `look`, and probes everything.
    fn observe_all(&self) -> Result<State, Error> {
        let mut state = observe(self.root);
        state.probes = probe::probe(self.root, ARCHES, self.identify())?;
        let instance = look(self.root, &state);
        // Looking may also have made the kernel load its module.
        let State { instance, filesystem, .. } = observe_instance(self.root, &instance);
        Ok(State { instance, filesystem, ..state })
    }

    fn identify(&self) -> Option<probe::Identify> {
        let Cli { qemu_binary_path, qemu_binary_prefix, .. } = self.request;
        Some(probe::Identify { path: qemu_binary_path.clone(), prefix: qemu_binary_prefix.clone() })
    }

    fn status(&mut self) -> Result<(), Error> {
        let unknown = |name: &&str| Error::UnknownArch(Error::shorten(name));
        let required = match &self.request.require {
            Some(list) => plan::items(list)?
                .iter()
                .map(|name| Platform::parse(name).ok_or_else(|| unknown(name)))
                .collect::<Result<Vec<_>, _>>()?,
            None => Vec::new(),
        };
        let state = self.observe_all()?;
        if !self.request.status {
            return written(json(&Summary::new(&state), self.out));
        }
        let report = Report::new(&state, &self.emulators, check::check_host(&state));
        written(match self.request.format {
            Format::Json => json(&report, self.out),
            Format::Table => self.out.write_all(report.table(self.terminal).as_bytes()),
        })?;
        let missing: Vec<_> = report.missing(&required).iter().map(ToString::to_string).collect();
        if missing.is_empty() { Ok(()) } else { Err(Error::Missing(missing.join(", "))) }
    }

    fn options(&self) -> Result<Options, Error> {
        let Cli { flags, no_credentials, replace, .. } = self.request;
        let flags = flags.as_deref().map(Flags::parse).transpose()?;
        Ok(Options { flags, no_credentials: *no_credentials, replace: *replace })
    }

    fn dry_run(&mut self) -> Result<(), Error> {
        let mut state = self.observe_all()?;
        let mut steps = Vec::new();
        if let Some(list) = &self.request.uninstall {
            let entries = state.instance.as_ref().map(|instance| instance.entries.as_slice());
            steps = plan::uninstall(list, &self.emulators, entries.unwrap_or_default())?;
            // What would be gone by then, and with it what it ran.
            let removed = |name: &str| {
                steps.iter().any(
                    |step| matches!(&step.action, Action::Remove(other) if other.as_str() == name),
                )
            };
            for arch in ARCHES {
                if state.taker(arch).is_some_and(|entry| removed(&entry.name)) {
                    state.probes.by_target.remove(arch.target);
                }
            }
            if let Ok(instance) = &mut state.instance {
                instance.entries.retain(|entry| !removed(&entry.name));
            }
        }
        if let Some(list) = &self.request.install {
            let requested = plan::requested(list, &self.emulators)?;
            steps.extend(plan::install(&requested, &self.options()?, &self.emulators, &state)?);
        }
        steps.iter().try_for_each(|step| written(writeln!(self.out, "{step}")))
    }

    /// Uninstalls, then installs, then looks at what came of it.
    fn change(&mut self) -> Result<(), Error> {
        let options = self.options()?;
        let requested = self
            .request
            .install
            .as_deref()
            .map(|list| plan::requested(list, &self.emulators))
            .transpose()?;
        if let Some(list) = &self.request.uninstall {
            plan::items(list)?;
        }

        // An install keeps binfmt_misc mounted; for anything less, looking is enough.
        let mut mounted = Ok(false);
        let mut root = self.root.clone();
        let mut state = observe(&root);
        if requested.is_some() {
            mounted = apply::mount(&root, &state);
        } else {
            if state.user_namespace == Ok(UserNamespace::Nested) && !state.mounted() {
                state.probes = probe::probe(&root, ARCHES, None).unwrap_or_default();
            }
            root = root.at(&look(&root, &state));
        }

        let mut results = Vec::new();
        if let Some(list) = &self.request.uninstall {
            let state = observe(&root);
            if let Err(why) = &state.instance {
                self.log(&format!("note: no entries can be seen: {why}"));
            }
            let entries = state.instance.as_ref().map(|instance| instance.entries.as_slice());
            let steps = plan::uninstall(list, &self.emulators, entries.unwrap_or_default())?;
            for result in apply::uninstall(&root, steps) {
                self.tell("uninstalling", &result);
                results.push(("uninstall", result));
            }
        }
        if let Some(requested) = requested {
            for result in self.install_mounted(&requested, &options, mounted)? {
                self.tell("installing", &result);
                results.push(("install", result));
            }
        }

        let mut state = observe(&root);
        state.probes = probe::probe(&root, ARCHES, None).unwrap_or_default();
        if self.request.uninstall.is_some() {
            self.tell_hidden(&state);
        }
        written(json(&Summary::new(&state), self.out))?;
        self.verdict(results)
    }

    /// Mounts binfmt_misc if need be and installs.
    fn install(
        &mut self,
        requested: &[Result<&'static Arch, String>],
        options: &Options,
    ) -> Result<Vec<StepResult>, Error> {
        let mounted = apply::mount(self.root, &observe(self.root));
        self.install_mounted(requested, options, mounted)
    }

    /// Installs, after an attempt to mount that may have failed: not all installs need it.
    fn install_mounted(
        &mut self,
        requested: &[Result<&'static Arch, String>],
        options: &Options,
        mounted: Result<bool, Error>,
    ) -> Result<Vec<StepResult>, Error> {
        let mut state = observe(self.root);
        let arches = requested.iter().filter_map(|item| item.as_ref().ok().copied());
        state.probes = probe::probe(self.root, arches, self.identify())?;
        let steps = plan::install(requested, options, &self.emulators, &state)?;
        for finding in check::check_host(&state) {
            self.verbose(&format!("{}: {}", finding.id, finding.what));
        }
        steps.iter().for_each(|step| self.verbose(&format!("plan: {step}")));
        if steps
            .iter()
            .any(|step| matches!(step.action, Action::Register(..) | Action::Replace(..)))
        {
            // The plainest cause first; then what mount(2) said.
            if let Some(finding) = check::obstacle(&state) {
                return Err(Error::Host { what: finding.what, hint: finding.way.in_one_line() });
            }
            mounted.as_ref().map_err(Clone::clone)?;
        }
        let mut notes = Vec::new();
        let mut note = |text: &str| notes.push(text.to_owned());
        let mut results = apply::install(self.root, steps, &self.emulators, &state, &mut note);
        notes.iter().for_each(|note| self.log(note));
        if mounted.unwrap_or(false) && state.anchors() {
            prove_lasting(self.root, &mut results)?;
        }
        Ok(results)
    }

    fn tell(&mut self, verb: &str, StepResult { subject, result, .. }: &StepResult) {
        let line = match result {
            Ok(words) if words.is_empty() => format!("{verb}: {subject} OK"),
            Ok(words) if words == "not found" => format!("{verb}: {subject} not found"),
            Ok(words) => format!("{verb}: {subject} OK ({words})"),
            Err(error) => format!("{verb}: {subject} {error}"),
        };
        self.log(&line);
    }

    /// Says what runs though no entry for it can be seen: an uninstall could not reach it.
    fn tell_hidden(&mut self, state: &State) {
        let hidden: Vec<_> = ARCHES
            .iter()
            .filter(|arch| state.server(arch) == Some(Server::Hidden))
            .map(|arch| arch.oci)
            .collect();
        if hidden.is_empty() {
            return;
        }
        let hidden = hidden.join(", ");
        self.log(&format!("note: {hidden}: still run, by entries that cannot be seen from here"));
        if state.user_namespace == Ok(UserNamespace::Nested) {
            self.log(&format!(
                "hint: uninstall on the host; or, if they were installed in this user namespace, mount its binfmt_misc at {} first",
                self.root.mount_point().display()
            ));
        }
    }

    /// The last word: what failed, with the advice before it.
    fn verdict(&mut self, results: Vec<(&str, StepResult)>) -> Result<(), Error> {
        let mut failed: Vec<_> = results
            .into_iter()
            .filter_map(|(verb, StepResult { subject, result, .. })| {
                Some((verb, subject, result.err()?))
            })
            .collect();
        let mut hints: Vec<_> = failed.iter().filter_map(|(.., error)| error.hint()).collect();
        hints.dedup();
        hints.iter().for_each(|hint| self.log(&format!("hint: {hint}")));
        match failed.len() {
            0 => Ok(()),
            1 => failed.pop().map_or(Ok(()), |(verb, subject, error)| {
                Err(Error::Failed(format!("cannot {verb} {subject}: {error}")))
            }),
            count => {
                let names: Vec<_> = failed.iter().map(|(_, subject, _)| subject.as_str()).collect();
                let (verb, _, error) = &failed[0];
                Err(Error::Failed(format!(
                    "cannot {verb} {count} of them ({}): {error}",
                    names.join(", ")
                )))
            }
        }
    }
}

/// Lets go of the instance, mounts it afresh, and turns what is gone into failures.
fn prove_lasting(root: &Root, results: &mut [StepResult]) -> Result<(), Error> {
    let at = root.path(root.mount_point());
    namespace::unmount(&at)?;
    namespace::mount_binfmt(&at)?;
    let state = observe(root);
    for result in results.iter_mut() {
        if result.registered && result.arch.is_some_and(|arch| state.taker(arch).is_none()) {
            result.result = Err(Error::DidNotLast);
        }
    }
    Ok(())
}
