//! Decides what is to be done. Pure: `--dry-run` prints the plan, [`crate::apply`] carries it out.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use crate::arch::{ARCHES, Arch, HOST};
use crate::check::{self, Finding};
use crate::cli::Options;
use crate::emulator::{Emulator, Emulators};
use crate::entry::{Entry, Flags, Registration};
use crate::error::Error;
use crate::family::QEMU;
use crate::kernel;
use crate::platform::{Platform, Unknown};
use crate::shown::shorten;
use crate::state::{Identity, Instance, RunBy, State};

/// All that a command is to do, in order.
#[derive(Debug, Default)]
pub struct Plan<'a> {
    /// Where binfmt_misc is to be mounted first.
    pub mount: Option<PathBuf>,
    /// An item each.
    pub steps: Vec<Step<'a>>,
    /// What the user should know of it.
    pub notes: Vec<String>,
}

/// One item of a request and what becomes of it.
#[derive(Debug)]
pub struct Step<'a> {
    /// What it is called in the log: `arm64`, or what the user typed where that is nothing.
    pub subject: String,
    /// What is to be done.
    pub action: Action<'a>,
}

/// What is to be done about one item.
#[derive(Debug)]
pub enum Action<'a> {
    /// Nothing, and all is well; the reason.
    Keep(String),
    /// Nothing, as it cannot be done.
    Refuse(Error),
    /// Make an entry.
    Register(Job<'a>),
    /// Remove the entry whose file has this name.
    Remove(OsString),
    /// Remove nothing, as nothing matches; whether that is an error.
    NotFound {
        /// A glob or a platform may match nothing, any other name may not.
        benign: bool,
    },
    /// Write a file on disk; of `persist`.
    Write {
        /// Its path in the system written to.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// What goes in.
        content: Content<'a>,
    },
    /// Make a symbolic link on disk; of `persist`.
    Link {
        /// Its path in the system written to.
        path: PathBuf,
        /// Where it points.
        to: PathBuf,
    },
}

/// What a file is to hold.
#[derive(Debug, Clone)]
pub enum Content<'a> {
    /// A text.
    Text(String),
    /// An emulator, with the entry that each boot is to make for it.
    Emulator(Job<'a>),
}

/// An entry to be made.
#[derive(Debug, Clone)]
pub struct Job<'a> {
    /// Whose programs it takes.
    pub arch: &'static Arch,
    /// What runs them.
    pub emulator: &'a Emulator,
    /// What is written to `register`.
    pub registration: Registration,
    /// Whether an entry has the name, which is to go once the new one works.
    pub replaces: bool,
}

impl fmt::Display for Plan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = &self.mount {
            writeln!(f, "mount binfmt_misc on {}", at.display())?;
        }
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, action } = self;
        match action {
            Action::Keep(why) => write!(f, "{subject}: nothing to do: {why}"),
            Action::Refuse(error) => write!(f, "{subject}: cannot: {error}"),
            Action::Register(Job { registration, replaces, .. }) => {
                let (name, flags) = (registration.name(), registration.flags());
                match replaces {
                    false => write!(f, "{subject}: register {name} with flags {flags}"),
                    true => write!(
                        f,
                        "{subject}: replace {name} by an entry of ours with flags {flags}"
                    ),
                }
            }
            Action::Remove(file) => write!(f, "{subject}: remove {}", file.display()),
            Action::NotFound { .. } => write!(f, "{subject}: not found"),
            Action::Write { path, .. } => write!(f, "{subject}: write {}", path.display()),
            Action::Link { path, to } => {
                write!(f, "{subject}: link {} to {}", path.display(), to.display())
            }
        }
    }
}

impl<'a> Plan<'a> {
    /// The entries to be made.
    pub fn jobs(&self) -> impl Iterator<Item = &Job<'a>> {
        self.steps.iter().filter_map(|step| match &step.action {
            Action::Register(job) => Some(job),
            _ => None,
        })
    }

    /// Whether it removes entries.
    pub fn removes(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.action, Action::Remove(_)))
    }

    /// The items that it cannot do.
    pub fn refused(&self) -> Vec<(String, Error)> {
        let refused = self.steps.iter().filter_map(|step| match &step.action {
            Action::Refuse(error) => Some((step.subject.clone(), error.clone())),
            Action::NotFound { benign: false } => {
                Some((step.subject.clone(), Error::NotFound(step.subject.clone())))
            }
            _ => None,
        });
        refused.collect()
    }
}

/// The flags to register with.
///
/// By default all four. P is left out where neither kernel nor emulator could agree on it.
pub(crate) fn flags(options: &Options, state: &State) -> Flags {
    let told = state.version().is_none_or(|v| kernel::FLAG_P_IS_TOLD.is_in(&v));
    let default = if told { Flags::all() } else { Flags::all().without('P') };
    let flags = options.flags.clone().unwrap_or(default);
    if options.no_credentials { flags.without('C') } else { flags }
}

/// The architectures that a list names, each once, with what the user called them.
///
/// Unknown names come back as they are.
pub fn requested(list: &[String], emulators: &Emulators) -> Vec<Result<&'static Arch, Unknown>> {
    let mut requested = Vec::new();
    let mut add = |item| {
        if !requested.contains(&item) {
            requested.push(item);
        }
    };
    for item in list {
        if item.eq_ignore_ascii_case("all") {
            let carried = ARCHES.iter().filter(|arch| emulators.get(arch).is_some());
            carried.for_each(|arch| add(Ok(arch)));
        } else {
            add(Platform::parse(item).map(|platform| platform.arch).ok_or(Unknown::new(item)));
        }
    }
    requested
}

/// What to tell of names that are right, but often mean another architecture.
pub(crate) fn notes(list: &[String]) -> Vec<String> {
    list.iter().filter_map(|item| Platform::parse(item)?.note(item)).collect()
}

/// What can be had to run an architecture's programs.
#[derive(Debug)]
pub(crate) enum Choice<'a> {
    /// The machine runs them itself: nothing is ever registered. The reason, in words.
    Native(&'static str),
    /// This emulator.
    Emulator(&'a Emulator),
}

/// Chooses what runs `arch`'s programs: the one place that decides what is never registered.
///
/// An entry for what the CPU runs would take every start of such a program; one for our own
/// architecture that of the emulator, too, so that nothing would start any more.
///
/// # Errors
/// Where it is not known what runs here; no emulator at hand, or one that is unfit.
pub(crate) fn choose<'a>(
    arch: &'static Arch,
    emulators: &'a Emulators,
    state: &State,
) -> Result<Choice<'a>, Error> {
    if arch == HOST {
        return Ok(Choice::Native("this machine's own architecture, which is never registered"));
    }
    if arch.may_be_native() && state.run_by(arch).map_err(Error::NotKnown)? == Some(RunBy::Native) {
        return Ok(Choice::Native("runs natively on this machine and is not registered"));
    }
    emulators.find(arch).map(Choice::Emulator)
}

/// Plans an install of what [`requested`] gave.
///
/// # Errors
/// What keeps anything from being installed; an empty list, as of a binary without emulators.
pub fn install<'a>(
    requested: &[Result<&'static Arch, Unknown>],
    options: &Options,
    emulators: &'a Emulators,
    state: &State,
) -> Result<Plan<'a>, Error> {
    if requested.is_empty() {
        emulators.some()?; // `all` of none
    }
    state.probes.as_ref().map_err(Clone::clone)?;
    let flags = flags(options, state);
    let mut plan = each(requested, |arch| install_one(arch, &flags, options, emulators, state));
    if plan.jobs().next().is_none() {
        return Ok(plan);
    }
    if !state.mounted() {
        plan.mount = Some(state.mount_point.clone());
        keep_what_a_mount_hides(&mut plan, &flags, emulators, state);
    }
    if let Some(obstacle) = check::obstacle(state).or_else(|| check::not_to_be_changed(state)) {
        refuse_all(&mut plan, &obstacle);
    }
    Ok(plan)
}

/// Plans a step for each item that was requested.
pub(crate) fn each<'a>(
    requested: &[Result<&'static Arch, Unknown>],
    plan: impl Fn(&'static Arch) -> Result<Action<'a>, Error>,
) -> Plan<'a> {
    let step = |item: &Result<&'static Arch, Unknown>| match item {
        Ok(arch) => {
            Step { subject: arch.oci.to_owned(), action: plan(arch).unwrap_or_else(Action::Refuse) }
        }
        Err(name) => Step {
            subject: name.shown().to_owned(),
            action: Action::Refuse(Error::UnknownArch(name.clone())),
        },
    };
    Plan { steps: requested.iter().map(step).collect(), ..Plan::default() }
}

/// A mount that gives this user namespace an instance of its own hides the entries by which other
/// programs run here. So these are registered in it too; where that cannot be, nothing is mounted.
fn keep_what_a_mount_hides<'a>(
    plan: &mut Plan<'a>,
    flags: &Flags,
    emulators: &'a Emulators,
    state: &State,
) {
    let hidden = state.mount_would_hide();
    let (mut also, mut lost) = (Vec::new(), Vec::new());
    for arch in hidden {
        let job = emulators.find(arch).and_then(|emulator| job(emulator, flags));
        match job {
            Ok(job) => also.push((arch, job)),
            Err(_) => lost.push(arch.oci),
        }
    }
    if !lost.is_empty() {
        let error = Error::WouldHide(lost.join(", "));
        for step in &mut plan.steps {
            if matches!(step.action, Action::Register(_)) {
                step.action = Action::Refuse(error.clone());
            }
        }
        plan.mount = None;
        return;
    }
    for (arch, job) in also {
        plan.notes.push(format!(
            "{arch} works here by an entry outside of this user namespace; a binfmt_misc of its own hides that entry, so it is registered here, too"
        ));
        let action = Action::Register(job);
        match plan.steps.iter_mut().find(|step| step.subject == arch.oci) {
            Some(step) => step.action = action,
            None => plan.steps.push(Step { subject: arch.oci.to_owned(), action }),
        }
    }
}

fn refuse_all(plan: &mut Plan<'_>, obstacle: &Finding) {
    for step in &mut plan.steps {
        if matches!(step.action, Action::Register(_) | Action::Remove(_)) {
            step.action = Action::Refuse(Error::Obstacle {
                what: obstacle.what.clone(),
                hint: obstacle.way.hint().map(str::to_owned),
            });
        }
    }
    plan.mount = None;
}

fn job<'a>(emulator: &'a Emulator, flags: &Flags) -> Result<Job<'a>, Error> {
    let registration = emulator.registration(&emulator.shown_as, flags)?;
    Ok(Job { arch: emulator.arch, emulator, registration, replaces: false })
}

fn install_one<'a>(
    arch: &'static Arch,
    flags: &Flags,
    options: &Options,
    emulators: &'a Emulators,
    state: &State,
) -> Result<Action<'a>, Error> {
    let probe = state.probe(arch);
    let run_by = state.run_by(arch);
    let job = match choose(arch, emulators, state) {
        Ok(Choice::Native(why)) => return Ok(Action::Keep(why.to_owned())),
        Ok(Choice::Emulator(emulator)) => job(emulator, flags)?,
        // What works needs no emulator of ours.
        Err(error) => match &run_by {
            Ok(Some(server)) => return Ok(Action::Keep(works_by(server, state.emulator(arch)))),
            _ => return Err(error),
        },
    };
    if let Ok(Some(server)) = &run_by {
        let as_wanted = matches!(server, RunBy::Entry(entry) if job.registration.is(entry));
        if probe.is_some_and(|probe| probe.ours) && as_wanted {
            return Ok(Action::Keep("unchanged".to_owned()));
        }
        if !options.replace && state.missed(arch).is_empty() {
            return Ok(Action::Keep(works_by(server, state.emulator(arch))));
        }
    }
    let instance = state.instance.as_ref().ok();
    match instance.and_then(|instance| instance.entry(job.registration.name().as_str())) {
        None => Ok(Action::Register(job)),
        Some(_) if options.replace => Ok(Action::Register(Job { replaces: true, ..job })),
        Some(entry) if run_by.is_err() && job.registration.is(entry) => {
            Ok(Action::Keep(format!("unchanged; {}", run_by.err().unwrap_or_default())))
        }
        Some(entry) => Err(Error::Dead {
            name: entry.name.clone(),
            why: state.why_not_running(entry),
            arch: arch.oci,
        }),
    }
}

/// What makes an architecture work that we have not made work.
fn works_by(server: &RunBy<'_>, emulator: Option<Identity>) -> String {
    let emulator = match emulator {
        Some(emulator) => format!(" ({emulator})"),
        None => String::new(),
    };
    match server {
        RunBy::Native => "runs natively".to_owned(),
        RunBy::Hidden => format!("works already{emulator}"),
        RunBy::Entry(entry) => {
            let (name, path, flags) = (&entry.name, entry.interpreter.display(), &entry.flags);
            format!("works already by {name}, {path}{emulator}, flags {flags}")
        }
    }
}

/// Plans an uninstall. Needs no probes.
pub fn uninstall<'a>(list: &[String], emulators: &Emulators, state: &State) -> Plan<'a> {
    let nothing = Instance::default();
    let Instance { entries, unreadable, .. } = state.instance.as_ref().unwrap_or(&nothing);
    let mut steps: Vec<Step<'a>> = Vec::new();
    for item in list {
        let found = entries.iter().filter(|entry| is_meant(item, entry, emulators));
        let named = unreadable.iter().map(|(file, _)| file).filter(|file| *file == item.as_str());
        let found: Vec<_> = found.map(|entry| &entry.file).chain(named).cloned().collect();
        if found.is_empty() {
            let benign = item.eq_ignore_ascii_case("all")
                || is_glob(item)
                || Platform::parse(item).is_some();
            let subject = shorten(item);
            steps.push(Step { subject, action: Action::NotFound { benign } });
        }
        for file in found {
            let name = file.to_string_lossy();
            let subject = QEMU.strip(&name).unwrap_or(&name).to_owned();
            // Lists overlap: `all,arm64`.
            let same =
                |step: &Step<'_>| matches!(&step.action, Action::Remove(other) if *other == file);
            if !steps.iter().any(same) {
                steps.push(Step { subject, action: Action::Remove(file) });
            }
        }
    }
    let mut plan = Plan { steps, notes: notes(list), ..Plan::default() };
    if let Some(obstacle) = check::not_to_be_changed(state) {
        refuse_all(&mut plan, &obstacle);
    }
    plan
}

/// What will be once the entries that `plan` removes are gone: for a plan that follows it.
pub(crate) fn after_removal(plan: &Plan<'_>, state: &mut State) {
    let removed = |entry: &Entry| {
        plan.steps
            .iter()
            .any(|step| matches!(&step.action, Action::Remove(file) if *file == entry.file))
    };
    let gone: Vec<_> =
        ARCHES.iter().filter(|arch| state.matching_entry(arch).is_some_and(&removed)).collect();
    if let Ok(probes) = &mut state.probes {
        gone.iter().for_each(|arch| {
            probes.by_target.remove(arch.target);
        });
    }
    if let Ok(instance) = &mut state.instance {
        instance.entries.retain(|entry| !removed(entry));
    }
}

fn is_glob(item: &str) -> bool {
    item.contains(['*', '?'])
}

/// Whether `item` of an uninstall list means `entry`.
///
/// An entry that is no emulator's must be named in full; globs and platforms pass it by.
fn is_meant(item: &str, entry: &Entry, emulators: &Emulators) -> bool {
    if entry.name == item {
        return true;
    }
    let ours = ARCHES.iter().any(|arch| emulators.entry_name(arch) == entry.name);
    if !entry.is_qemu() && !ours {
        return false;
    }
    if item.eq_ignore_ascii_case("all") {
        return true;
    }
    if is_glob(item) {
        return glob(item.as_bytes(), entry.name.as_bytes());
    }
    // A name of an architecture means its entry, an unfinished replacement of it, and any other
    // qemu entry that takes its programs.
    let Some(platform) = Platform::parse(item) else {
        return entry.name.ends_with(&format!("-{item}"));
    };
    let name = emulators.entry_name(platform.arch);
    entry.name == name
        || entry.name == platform.arch.emulator_name()
        || entry.name.strip_prefix(&name).is_some_and(|rest| rest.starts_with('.'))
        || entry.takes(&platform.arch.probe())
}

/// `*` for any characters, `?` for one; in time of at most pattern times text.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // After the last star seen, and the text it does not yet take.
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                p += 1;
                star = Some((p, t));
            }
            Some(c) if *c == b'?' || *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((after, taken)) => {
                    (p, t) = (after, taken + 1);
                    star = Some((after, taken + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_in_a_shell() {
        for (pattern, text, expected) in [
            ("qemu-*", "qemu-aarch64", true),
            ("*", "", true),
            ("*64", "qemu-aarch64", true),
            ("q*u-a*4", "qemu-aarch64", true),
            ("qemu-?rm", "qemu-arm", true),
            ("qemu-?rm", "qemu-armeb", false),
            ("python*", "qemu-arm", false),
            ("a*b*c", "aXbXbYc", true),
            ("a*b", "ac", false),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
        assert!(!glob("*a".repeat(100).as_bytes(), "a".repeat(99).as_bytes()));
    }
}
