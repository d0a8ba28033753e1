//! `hold`: installs, stays, and puts back what vanishes. The loop of fleets' nodes.
//!
//! binfmt_misc sends no inotify events, so the entries are read again every few seconds: some
//! thirty small files, a fraction of a millisecond.

#![expect(
    clippy::disallowed_methods,
    reason = "makes and removes the readiness file it is told to"
)]

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Context;
use super::change::{self, Installed};
use crate::apply::{self, Outcome, StepResult};
use crate::arch::Arch;
use crate::check;
use crate::cli::{Change, Hold, Install, Options};
use crate::entry::Entry;
use crate::error::{Error, Op};
use crate::host::observe;
use crate::plan;
use crate::state::{Instance, State};

/// How often the entries are looked at, in seconds.
const INTERVAL: i64 = 2;

/// One architecture to keep working.
struct Watched {
    arch: &'static Arch,
    /// The entry that serves it, as it was when it last worked.
    entry: Entry,
    /// Whether that entry is of our making, and so ours to remove.
    ours: bool,
}

impl Watched {
    /// Whether the same entry still takes the architecture's programs.
    fn is_intact(&self, instance: &Instance) -> bool {
        instance.taker(&self.arch.probe()) == Some(&self.entry)
    }
}

/// Installs, then watches until SIGTERM, SIGINT or SIGHUP.
///
/// # Errors
/// Where the first install fails, in part or whole; later failures are logged and tried again.
pub(crate) fn hold(context: &mut Context<'_>, request: &Hold) -> Result<(), Error> {
    if request.dry_run {
        let install = Some(request.install.clone());
        return change::change(
            context,
            &Change { uninstall: None, install, dry_run: true, json: false },
        );
    }
    // Before any thread starts, so that none of them takes a signal away.
    let signals = block_signals()?;
    let ready = request.ready_file.as_deref();
    not_ready(ready);
    let mut watched = first_install(context, &request.install)?;
    let names: Vec<_> = watched.iter().map(|watched| watched.arch.oci).collect();
    context.log.line(&match names.is_empty() {
        true => "holding nothing: the machine runs all of these by itself".to_owned(),
        false => format!("holding {}", names.join(", ")),
    });
    become_ready(context, ready, &watched)?;

    while !signalled(&signals) {
        if repair(context, &request.install.options, &mut watched) {
            if let Err(error) = become_ready(context, ready, &watched) {
                context.log.once(&format!("cannot tell that all is ready: {error}"));
            }
        } else {
            not_ready(ready);
        }
    }
    not_ready(ready);
    if request.remove_on_exit { remove(context, &watched) } else { Ok(()) }
}

/// Installs, and finds the entries to be watched.
fn first_install(context: &mut Context<'_>, install: &Install) -> Result<Vec<Watched>, Error> {
    let Installed { results, state } = change::install(context, install)?;
    context.tell("installing", &results);
    let made: Vec<_> =
        results.iter().filter(|it| it.registered()).filter_map(|it| it.arch).collect();
    context.verdict("install", results)?;
    let watch = |arch: &'static Arch| {
        let entry = state.matching_entry(arch)?.clone();
        let unchanged = entry.name == context.emulators.entry_name(arch);
        Some(Watched { arch, entry, ours: made.contains(&arch) || unchanged })
    };
    let requested = plan::requested(&install.list, context.emulators);
    Ok(requested.into_iter().flatten().filter_map(watch).collect())
}

/// Removes what is of our making.
fn remove(context: &mut Context<'_>, watched: &[Watched]) -> Result<(), Error> {
    let instance = context.root.path(context.root.mount_point());
    let mut results = Vec::new();
    for Watched { entry, .. } in watched.iter().filter(|watched| watched.ours) {
        let outcome = match apply::remove_entry(&instance, &entry.file) {
            Ok(()) => Outcome::Removed,
            Err(error) => Outcome::Failed(error),
        };
        results.push(StepResult { subject: entry.name.clone(), arch: None, outcome });
    }
    context.tell("removing", &results);
    context.verdict("remove", results)
}

/// Looks once and puts back what is not as it was. Returns whether all is well again.
fn repair(context: &mut Context<'_>, options: &Options, watched: &mut [Watched]) -> bool {
    let at = context.root.path(context.root.mount_point());
    let seen = Instance::read(&at);
    let instance = seen.as_ref().cloned().unwrap_or_default();
    let is_broken = |watched: &&mut Watched| !watched.is_intact(&instance);
    if watched.is_empty() || (instance.enabled && watched.iter_mut().filter(is_broken).count() == 0)
    {
        return true;
    }
    let broken: Vec<_> = watched
        .iter()
        .filter(|watched| !watched.is_intact(&Instance { enabled: true, ..instance.clone() }))
        .map(|watched| watched.arch)
        .collect();
    if let Some(finding) = check::obstacle(&observe(context.root)) {
        context.log.once(&format!("cannot repair: {}", finding.what));
        return false;
    }
    let (well, now) = match put_back(context, options, &broken) {
        Ok((well, state)) => (well, state),
        Err(error) => {
            context.log.once(&format!("cannot repair: {error}"));
            return false;
        }
    };
    let Some(now) = now else { return well };
    for watched in watched.iter_mut().filter(|watched| broken.contains(&watched.arch)) {
        if let Some(entry) = now.matching_entry(watched.arch) {
            watched.ours |= entry.name == context.emulators.entry_name(watched.arch);
            watched.entry = entry.clone();
        }
    }
    well
}

/// Installs again. What somebody else made work meanwhile is left alone; what does not work is
/// replaced.
fn put_back(
    context: &mut Context<'_>,
    options: &Options,
    broken: &[&'static Arch],
) -> Result<(bool, Option<State>), Error> {
    let mut list: Vec<_> = broken.iter().map(|arch| arch.oci.to_owned()).collect();
    let mut state = None;
    for replace in [false, true] {
        if list.is_empty() {
            break;
        }
        let options = Options { replace, ..options.clone() };
        let installed = change::install(context, &Install { list: list.clone(), options })?;
        state = Some(installed.state);
        list.clear();
        for result in installed.results {
            match &result.outcome {
                Outcome::Failed(error) => {
                    if replace {
                        context.log.once(&format!("cannot repair {}: {error}", result.subject));
                    }
                    list.push(result.subject);
                }
                _ => context.log.line(&format!("repaired: {result}")),
            }
        }
    }
    Ok((list.is_empty(), state))
}

fn block_signals() -> Result<SignalFd, Error> {
    let mut set = SigSet::empty();
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]
        .into_iter()
        .for_each(|signal| set.add(signal));
    set.thread_block()
        .and_then(|()| SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC))
        .map_err(|errno| Error::system(Op::Read, "signals", errno))
}

/// Waits one interval, or less if a signal comes.
fn signalled(signals: &SignalFd) -> bool {
    let interval = Timespec { tv_sec: INTERVAL, tv_nsec: 0 };
    let mut fds = [PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
    poll(&mut fds, Some(&interval)).is_ok_and(|ready| ready > 0)
}

/// Writes the readiness file: a line a platform, as Node Feature Discovery reads labels of nodes.
///
/// It is there whole or not at all: a probe that finds it may go by that alone.
fn become_ready(
    context: &mut Context<'_>,
    file: Option<&Path>,
    watched: &[Watched],
) -> Result<(), Error> {
    let Some(path) = file.filter(|path| !path.exists()) else { return Ok(()) };
    let labels = labels(watched.iter().map(|watched| watched.arch));
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let written = fs::File::create(&beside)
        .and_then(|mut file| file.write_all(labels.as_bytes()))
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    context.log.verbose(&format!("ready: {}", path.display()));
    written.map_err(|error| Error::system(Op::WriteFile, path, error))
}

/// `binfmt.linux-arm64=true`: a label's name has no slash.
fn labels<'a>(arches: impl Iterator<Item = &'a Arch>) -> String {
    arches
        .flat_map(Arch::platforms)
        .map(|platform| format!("binfmt.{}=true\n", platform.replace('/', "-")))
        .collect()
}

fn not_ready(file: Option<&Path>) {
    if let Some(path) = file {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_no_slash() {
        let arches = ["aarch64", "arm"].map(|target| Arch::by_target(target).unwrap());
        assert_eq!(
            labels(arches.into_iter()),
            "binfmt.linux-arm64=true\nbinfmt.linux-arm-v7=true\nbinfmt.linux-arm-v6=true\n"
        );
    }
}
