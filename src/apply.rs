//! Carries a plan out; holds no policy. Every item is tried, whatever became of the others.

#![expect(
    clippy::disallowed_methods,
    reason = "writes to the kernel's own files, which are never created"
)]

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use rustix::fs::{FlockOperation, flock};

use crate::anchor::{self, Kept, Unpacked};
use crate::arch::{Arch, HOST};
use crate::emulator::Emulators;
use crate::entry::{EntryName, Registration};
use crate::error::{Error, Op};
use crate::namespace::{self, mount_binfmt, trigger_automount};
use crate::plan::{Action, Job, Plan, Step};
use crate::probe::probe;
use crate::root::Root;
use crate::state::{Identity, Instance, Mount, Probes, State, UserNamespace};

/// What became of one item.
#[derive(Debug)]
pub(crate) struct StepResult {
    /// The name for the log.
    pub subject: String,
    /// The architecture of an entry that was made.
    pub arch: Option<&'static Arch>,
    /// What was done.
    pub outcome: Outcome,
}

/// What was done about one item.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// An entry was made; its emulator, once that has run a program.
    Registered(Option<Identity>),
    /// An entry was put in another's place.
    Replaced(Option<Identity>),
    /// An entry or a file was removed.
    Removed,
    /// Something was written to disk; where.
    Written(String),
    /// Nothing, and all is well; the reason.
    Unchanged(String),
    /// Nothing, as nothing was there, which is no fault.
    NotFound,
    /// It could not be done.
    Failed(Error),
}

impl fmt::Display for StepResult {
    /// The line of the log, after its verb.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.subject)?;
        let of = |emulator: &Option<Identity>| {
            emulator.as_ref().map_or(String::new(), |emulator| format!(", {emulator}"))
        };
        match &self.outcome {
            Outcome::Registered(emulator) => write!(f, "OK (registered{})", of(emulator)),
            Outcome::Replaced(emulator) => write!(f, "OK (replaced{})", of(emulator)),
            Outcome::Removed => f.write_str("OK"),
            Outcome::Written(what) | Outcome::Unchanged(what) => write!(f, "OK ({what})"),
            Outcome::NotFound => f.write_str("not found"),
            Outcome::Failed(error) => write!(f, "{error}"),
        }
    }
}

impl StepResult {
    /// Whether an entry was made for it.
    pub(crate) fn registered(&self) -> bool {
        matches!(self.outcome, Outcome::Registered(_) | Outcome::Replaced(_))
    }

    /// Whether another run did what was to be done: it had the entry, or the mount, a moment before.
    pub(crate) fn lost_a_race(&self) -> bool {
        matches!(
            &self.outcome,
            Outcome::Failed(Error::System {
                op: Op::Register,
                errno: Errno::EEXIST | Errno::ENOENT,
                ..
            })
        )
    }
}

/// Makes sure that the instance can be reached at the mount point.
///
/// Returns whether it was mounted here and now.
///
/// # Errors
/// As mount(2).
pub(crate) fn mount(root: &Root, state: &State) -> Result<bool, Error> {
    if state.mounted() {
        return Ok(false);
    }
    let at = root.path(root.mount_point());
    if state.mount == Ok(Mount::Autofs) {
        trigger_automount(root).map_err(|error| Error::system(Op::Mount, &at, error))?;
        // A container sees an automount that it cannot trigger.
        if Instance::read(&at).is_ok() {
            return Ok(false);
        }
    }
    mount_binfmt(&at).map(|()| true)
}

/// How long to wait for another run's changes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Keeps other runs from changing the entries while it lives.
///
/// It is a lock on the instance's own file `register`: the one thing that containers and their host
/// share, and that only root can open. So nobody else can hold it up.
#[derive(Debug)]
pub(crate) struct Lock {
    _register: File,
    /// Whether another run had it first.
    pub waited: bool,
}

impl Lock {
    /// Takes the lock; `None` where it cannot be had, and one goes on without. `waiting` is called
    /// when another run has it.
    pub(crate) fn take(root: &Root, waiting: impl FnOnce()) -> Option<Self> {
        let register = root.path(root.mount_point()).join("register");
        let register = File::options().write(true).open(register).ok()?;
        match lock_file(&register, waiting) {
            Turn::AtOnce => Some(Self { _register: register, waited: false }),
            Turn::Waited => Some(Self { _register: register, waited: true }),
            Turn::Never | Turn::NoLocks => None,
        }
    }
}

/// How one came to a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nobody had it.
    AtOnce,
    /// Another process had it first.
    Waited,
    /// Another process has had it for as long as anybody is patient.
    Never,
    /// This file system has no locks.
    NoLocks,
}

/// Locks a file, and waits for another process that has done so, but not for ever.
///
/// The file must be one that only its owner can open: whoever can, can keep others waiting.
pub(crate) fn lock_file(file: &File, waiting: impl FnOnce()) -> Turn {
    let locked = || flock(file, FlockOperation::NonBlockingLockExclusive);
    match locked() {
        Ok(()) => return Turn::AtOnce,
        Err(rustix::io::Errno::WOULDBLOCK) => waiting(),
        Err(_) => return Turn::NoLocks,
    }
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
        if locked().is_ok() {
            return Turn::Waited;
        }
    }
    Turn::Never
}

/// Removes one entry, by its file's name. That it is gone already is no error.
///
/// # Errors
/// The kernel's answer.
pub(crate) fn remove_entry(instance: &Path, file: &OsStr) -> Result<(), Error> {
    let path = instance.join(file);
    match File::options().write(true).open(&path).and_then(|mut entry| entry.write_all(b"-1")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::system(Op::Remove, &path, error))
        }
        _ => Ok(()),
    }
}

/// Carries out a plan that removes entries, through a mount of their instance.
pub(crate) fn uninstall(instance: &Path, plan: &Plan<'_>) -> Vec<StepResult> {
    let remove = |Step { subject, action }: &Step<'_>| match action {
        Action::Remove(file) => match remove_entry(instance, file) {
            Ok(()) if instance.join(file).exists() => Outcome::Failed(Error::StillThere),
            Ok(()) => Outcome::Removed,
            Err(error) => Outcome::Failed(error),
        },
        Action::NotFound { benign: true } => Outcome::NotFound,
        Action::Refuse(error) => Outcome::Failed(error.clone()),
        _ => Outcome::Failed(Error::NotFound(subject.to_owned())),
    };
    let result = |step: &Step<'_>| StepResult {
        subject: step.subject.clone(),
        arch: None,
        outcome: remove(step),
    };
    plan.steps.iter().map(result).collect()
}

/// Carries out a plan that makes entries. What is new is still to be proved; what replaces another
/// entry has been, while the other was still there.
///
/// `note` takes what the user should know of how it was done.
pub(crate) fn install(
    root: &Root,
    plan: Plan<'_>,
    emulators: &Emulators,
    state: &State,
    note: &mut dyn FnMut(&str),
) -> Vec<StepResult> {
    let jobs: Vec<_> = plan.jobs().cloned().collect();
    let mut done = register_all(root, jobs, emulators, state, note);
    let mut finish = |step: Step<'_>| {
        let mut arch = None;
        let outcome = match step.action {
            Action::Keep(why) => Outcome::Unchanged(why),
            Action::Refuse(error) => Outcome::Failed(error),
            Action::Register(job) => {
                arch = Some(job.arch);
                let mine = done.iter().position(|(other, _)| *other == job.arch);
                mine.map_or(Outcome::Failed(Error::NotTried), |mine| done.swap_remove(mine).1)
            }
            _ => Outcome::Failed(Error::NotTried),
        };
        StepResult { subject: step.subject, arch, outcome }
    };
    plan.steps.into_iter().map(&mut finish).collect()
}

/// What became of each architecture's registration.
type Done = Vec<(&'static Arch, Outcome)>;

fn register_all(
    root: &Root,
    jobs: Vec<Job<'_>>,
    emulators: &Emulators,
    state: &State,
    note: &mut dyn FnMut(&str),
) -> Done {
    if jobs.is_empty() {
        return Vec::new();
    }
    let instance = root.path(root.mount_point());
    let work = |unpacked: Vec<Unpacked<'_>>| register_unpacked(root, &unpacked, &instance);
    if state.sys_admin == Ok(true) {
        match anchor::with_trees(root, emulators, jobs.clone(), state.anchors(), work) {
            Ok((done, kept)) => {
                if kept == Kept::Loose && state.anchors() {
                    note(
                        "note: the kernel refused the hidden mount that keeps entries; they last as long as another mount of binfmt_misc",
                    );
                }
                if kept == Kept::Anchored && state.user_namespace == Ok(UserNamespace::Nested) {
                    note(
                        "note: this is a user namespace; uninstall before it ends, or the emulators stay in memory until the machine restarts",
                    );
                }
                return done;
            }
            Err(error) => {
                note(&format!(
                    "note: cannot mount a file system for emulators: {error}; using memory files"
                ));
            }
        }
    }
    let arches: Vec<_> = jobs.iter().map(|job| job.arch).collect();
    match anchor::in_memory(root, emulators, jobs) {
        Ok(unpacked) => work(unpacked),
        // Nothing was registered, for a reason that all share.
        Err(error) => {
            arches.into_iter().map(|arch| (arch, Outcome::Failed(error.clone()))).collect()
        }
    }
}

/// Registers all; of those that replace another, only what works.
fn register_unpacked(root: &Root, all: &[Unpacked<'_>], instance: &Path) -> Done {
    let own_header = HOST.probe();
    let first = |unpacked: &Unpacked<'_>| -> Result<Registration, Error> {
        let Job { registration, replaces, .. } = &unpacked.job;
        // The last line of defence: such an entry would stop every program of the machine.
        if registration.takes(&own_header) {
            return Err(Error::Native(registration.name().to_string()));
        }
        if !replaces {
            return Ok(registration.clone());
        }
        // Under a name of its own. The newest entry wins, so it can be tried while the old one is there.
        let name = EntryName::new(&format!("{}.new", registration.name()))?;
        // Left by a replacement that was interrupted.
        remove_entry(instance, name.as_str().as_ref())?;
        Ok(registration.named(name))
    };
    let register = |unpacked: &Unpacked<'_>| {
        let registration = first(unpacked)?;
        unpacked.register(&registration, instance).map(|()| registration)
    };
    let registered: Vec<_> = all.iter().map(|unpacked| (unpacked, register(unpacked))).collect();
    let replacing = registered.iter().filter(|(one, result)| one.job.replaces && result.is_ok());
    let mut probed = replacing.map(|(one, _)| one.job.arch).peekable();
    // New ones are proved with the rest, when all is done.
    let probes = match probed.peek() {
        Some(_) => probe(root, probed, None),
        None => Ok(Probes::default()),
    };
    let outcome = |(one, result): (&Unpacked<'_>, Result<Registration, Error>)| {
        let job = &one.job;
        let outcome = result.and_then(|first| {
            if !job.replaces {
                return Ok(Outcome::Registered(None));
            }
            let name = first.name().to_string();
            let first = OsStr::new(&name);
            let proved = proof(&probes, job.arch);
            if proved.is_ok() {
                // The new entry serves under its own name while the right name changes hands; and from
                // then on, should that fail.
                remove_entry(instance, job.registration.name().as_str().as_ref())?;
                one.register(&job.registration, instance)?;
            }
            remove_entry(instance, first)?;
            proved
                .map(Outcome::Replaced)
                .map_err(|outcome| Error::DeadOnArrival { name: name.clone(), outcome })
        });
        (job.arch, outcome.unwrap_or_else(Outcome::Failed))
    };
    registered.into_iter().map(outcome).collect()
}

/// The emulator that ran `arch`'s test program, where it says what it is; or why it did not run.
fn proof(probes: &Result<Probes, Error>, arch: &Arch) -> Result<Option<Identity>, String> {
    match probes.as_ref().map_err(ToString::to_string)?.by_target.get(arch.target) {
        Some(probe) if probe.ran() => Ok(probe.emulator.clone()),
        Some(probe) => Err(probe.outcome.to_string()),
        None => Err("no test program was run".to_owned()),
    }
}

/// Judges new entries by what ran after all was done, and takes back what does not work.
///
/// Returns whether any entry was taken back.
pub(crate) fn prove(
    root: &Root,
    results: &mut [StepResult],
    state: &State,
    names: &Emulators,
) -> bool {
    let mut taken_back = false;
    for result in results {
        let (Some(arch), Outcome::Registered(emulator)) = (result.arch, &mut result.outcome) else {
            continue;
        };
        match proof(&state.probes, arch) {
            Ok(proved) => *emulator = proved,
            Err(outcome) => {
                let name = names.entry_name(arch);
                let removed = remove_entry(&root.path(root.mount_point()), name.as_ref());
                taken_back = true;
                let dead = Error::DeadOnArrival { name, outcome };
                result.outcome = Outcome::Failed(removed.err().unwrap_or(dead));
            }
        }
    }
    taken_back
}

/// Lets go of the instance, mounts it afresh, and turns what is gone into failures.
///
/// # Errors
/// Where that cannot be tried: somebody uses the mount. Nothing is changed then.
pub(crate) fn prove_lasting(root: &Root, results: &mut [StepResult]) -> Result<(), Error> {
    let at = root.path(root.mount_point());
    let end = Instant::now() + Duration::from_secs(2);
    // A process that looks at an entry, or another run of this program, is soon done.
    while let Err(error) = namespace::unmount(&at) {
        if error.errno() != Some(Errno::EBUSY) || Instant::now() >= end {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    match mount_binfmt(&at) {
        // Another run was faster.
        Err(error) if error.errno() != Some(Errno::EBUSY) => return Err(error),
        _ => {}
    }
    let instance = Instance::read(&at)?;
    for result in results.iter_mut().filter(|result| result.registered()) {
        if result.arch.is_some_and(|arch| instance.taker(&arch.probe()).is_none()) {
            result.outcome = Outcome::Failed(Error::DidNotLast);
        }
    }
    Ok(())
}
