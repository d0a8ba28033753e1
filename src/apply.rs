//! Carries a plan out; holds no policy. Every item is tried, whatever became of the others.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use nix::errno::Errno;

use crate::anchor::{self, Kept, Store};
use crate::arch::{Arch, HOST};
use crate::emulator::Emulators;
use crate::entry::{EntryName, Registration};
use crate::error::{Error, Op};
use crate::namespace::{mount_binfmt, trigger_automount};
use crate::plan::{Action, Step};
use crate::probe::probe;
use crate::root::Root;
use crate::state::Probes;
use crate::state::{Instance, Mount, State, UserNamespace};

/// What became of one step.
#[derive(Debug)]
pub struct StepResult {
    /// The name for the log.
    pub subject: String,
    /// What was done, in a few words, or why it was not.
    pub result: Result<String, Error>,
    /// The architecture, of an install.
    pub arch: Option<&'static Arch>,
    /// Whether an entry was made for it.
    pub registered: bool,
}

/// Makes sure that the instance can be reached at the mount point.
///
/// Returns whether it was mounted here and now.
///
/// # Errors
/// As mount(2).
pub fn mount(root: &Root, state: &State) -> Result<bool, Error> {
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

/// Removes what an uninstall planned to remove.
pub fn uninstall(root: &Root, steps: Vec<Step>) -> Vec<StepResult> {
    let remove = |step: Step| {
        let result = match &step.action {
            Action::Remove(name) => {
                remove_entry(&root.path(root.mount_point()), name).map(|()| String::new())
            }
            Action::NotFound { benign: true } => Ok("not found".to_owned()),
            _ => Err(Error::Failed("not found".to_owned())),
        };
        StepResult { subject: step.subject, result, arch: None, registered: false }
    };
    steps.into_iter().map(remove).collect()
}

/// Removes one entry. That it is gone already is no error.
///
/// # Errors
/// The kernel's answer.
pub fn remove_entry(instance: &Path, name: &EntryName) -> Result<(), Error> {
    let path = instance.join(name.as_str());
    match File::options().write(true).open(&path).and_then(|mut entry| entry.write_all(b"-1")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::system(Op::Remove, &path, error))
        }
        _ => Ok(()),
    }
}

/// Registers what an install planned to register, and proves it.
///
/// `note` takes what the user should know of how it was done.
pub fn install(
    root: &Root,
    steps: Vec<Step>,
    emulators: &Emulators,
    state: &State,
    note: &mut dyn FnMut(&str),
) -> Vec<StepResult> {
    let mut jobs = Vec::new();
    for step in &steps {
        if let Action::Register(arch, registration) | Action::Replace(arch, registration) =
            &step.action
            && let Some(emulator) = emulators.get(arch)
        {
            let replace = matches!(step.action, Action::Replace(..));
            jobs.push((Job { arch, registration, replace }, emulator));
        }
    }
    let (jobs, wanted): (Vec<_>, Vec<_>) = jobs.into_iter().unzip();
    let mut done = register_all(root, &jobs, emulators, &wanted, state, note).into_iter();

    let finish = |step: Step| {
        let mut registered = false;
        let result = match step.action {
            Action::Keep(why) => Ok(why),
            Action::Refuse(error) => Err(error),
            Action::Register(..) | Action::Replace(..) => {
                let result =
                    done.next().unwrap_or(Err(Error::Failed("it was not tried".to_owned())));
                registered = result.is_ok();
                result
            }
            Action::Remove(_) | Action::NotFound { .. } => Ok(String::new()),
        };
        StepResult { subject: step.subject, result, arch: step.arch, registered }
    };
    steps.into_iter().map(finish).collect()
}

/// One registration to make.
struct Job<'a> {
    arch: &'static Arch,
    registration: &'a Registration,
    /// Whether an entry has the name, which is to go once the new one works.
    replace: bool,
}

impl Job<'_> {
    /// What is registered first: under a name of its own where the right one is taken.
    ///
    /// The newest entry wins, so it can be tried while the old one is still there.
    fn first(&self) -> Result<Registration, Error> {
        if !self.replace {
            return Ok(self.registration.clone());
        }
        let name = EntryName::new(&format!("{}.new", self.registration.name()))?;
        Ok(self.registration.named(name))
    }
}

fn register_all(
    root: &Root,
    jobs: &[Job<'_>],
    emulators: &Emulators,
    wanted: &[&crate::emulator::Emulator],
    state: &State,
    note: &mut dyn FnMut(&str),
) -> Vec<Result<String, Error>> {
    if jobs.is_empty() {
        return Vec::new();
    }
    let own_header = HOST.probe();
    let work = |store: &Store<'_>| register_and_prove(root, jobs, store, &own_header);
    let trees = if state.sys_admin == Ok(true) {
        anchor::with_trees(root, emulators, wanted, state.anchors(), work)
    } else {
        Err(Error::system(Op::Anchor, "a private mount namespace", Errno::EPERM))
    };
    let stored = match trees {
        Err(error) => {
            if state.sys_admin == Ok(true) {
                note(&format!("note: no mounts of our own: {error}; using memory files"));
            }
            anchor::with_memory(root, emulators, wanted, work)
        }
        trees => trees,
    };
    match stored {
        Ok((results, kept)) => {
            if kept == Kept::Loose && state.anchors() && state.sys_admin == Ok(true) {
                note(
                    "note: the kernel refuses to anchor the registrations; they last as long as another binfmt_misc mount",
                );
            }
            if kept == Kept::Anchored && state.user_namespace == Ok(UserNamespace::Nested) {
                note(
                    "note: this is a user namespace; uninstall before it ends, or the emulators' memory stays taken until the machine restarts",
                );
            }
            results
        }
        // Nothing was registered, for a reason all jobs share.
        Err(error) => {
            let shared = error.to_string();
            let mut first = Some(error);
            jobs.iter()
                .map(|_| Err(first.take().unwrap_or(Error::Failed(shared.clone()))))
                .collect()
        }
    }
}

/// Registers all jobs, probes them together, and keeps only what works.
fn register_and_prove(
    root: &Root,
    jobs: &[Job<'_>],
    store: &Store<'_>,
    own_header: &[u8],
) -> Vec<Result<String, Error>> {
    let register = |(index, job): (usize, &Job<'_>)| {
        // The last line of defence: such an entry would stop every program of the machine.
        if job.registration.takes(own_header) {
            return Err(Error::Native(job.registration.name().to_string()));
        }
        let first = job.first()?;
        if job.replace {
            // Left by a replacement that was interrupted.
            remove_entry(store.instance(), first.name())?;
        }
        store.register(index, &first)
    };
    let registered: Vec<_> = jobs.iter().enumerate().map(register).collect();
    let arches =
        jobs.iter().zip(&registered).filter(|(_, result)| result.is_ok()).map(|(job, _)| job.arch);
    let probes = probe(root, arches, None).unwrap_or_default();

    let prove = |(index, (job, result)): (usize, (&Job<'_>, Result<(), Error>))| {
        result?;
        prove_one(index, job, store, &probes)
    };
    jobs.iter().zip(registered).enumerate().map(prove).collect()
}

fn prove_one(
    index: usize,
    job: &Job<'_>,
    store: &Store<'_>,
    probes: &Probes,
) -> Result<String, Error> {
    let first = job.first()?;
    let probe = probes.get(job.arch);
    let Some(probe) = probe.filter(|probe| probe.ran()) else {
        let outcome = probe
            .map_or("no test program could be run".to_owned(), |probe| probe.outcome.to_string());
        remove_entry(store.instance(), first.name())?;
        return Err(Error::DeadOnArrival { name: first.name().to_string(), outcome });
    };
    let version = probe.qemu.as_ref().map_or(String::new(), |version| format!(", QEMU {version}"));
    if !job.replace {
        return Ok(format!("registered{version}"));
    }
    // The new entry serves under its own name while the right name changes hands.
    remove_entry(store.instance(), job.registration.name())?;
    store.register(index, job.registration)?;
    remove_entry(store.instance(), first.name())?;
    Ok(format!("replaced{version}"))
}
