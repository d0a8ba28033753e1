//! `hold`: installs, stays, and puts back what vanishes. The loop of fleets' nodes.
//!
//! binfmt_misc sends no inotify events, so the entries are read again every few seconds: some
//! thirty small files, a fraction of a millisecond.

#![expect(
    clippy::disallowed_methods,
    reason = "makes and removes the readiness file it is told to"
)]

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Session;
use crate::apply::{self, StepResult};
use crate::arch::Arch;
use crate::check;
use crate::cli::HoldArgs;
use crate::entry::{Entry, EntryName};
use crate::error::{Error, Op};
use crate::host::observe;
use crate::plan::{self, Options};
use crate::root::Root;
use crate::state::Instance;

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

impl Session<'_> {
    /// Installs, then watches until SIGTERM, SIGINT or SIGHUP.
    ///
    /// # Errors
    /// Where the first install fails, in part or whole; later failures are logged and tried again.
    pub(crate) fn hold(&mut self, args: &HoldArgs) -> Result<(), Error> {
        // Before any thread starts, so that none of them takes a signal away.
        let signals = block_signals()?;
        let root = self.root.clone();
        let ready = args.ready_file.as_deref();
        not_ready(ready);

        let requested = plan::requested(&args.install, &self.emulators)?;
        let arches: Vec<_> =
            requested.iter().filter_map(|item| item.as_ref().ok().copied()).collect();
        let results = self.install(&requested, &Options::default())?;
        let ours: Vec<_> = results
            .iter()
            .filter(|result| result.registered)
            .filter_map(|result| result.arch)
            .collect();
        for result in &results {
            self.tell("installing", result);
        }
        self.verdict(results.into_iter().map(|result| ("install", result)).collect())?;

        let state = observe(&root);
        let watch = |arch: &&'static Arch| {
            let entry = state.taker(arch)?.clone();
            let unchanged = entry.name == self.emulators.entry_name(arch);
            Some(Watched { arch, entry, ours: ours.contains(arch) || unchanged })
        };
        let mut watched: Vec<_> = arches.iter().filter_map(watch).collect();
        self.log(&format!("holding {} platforms", watched.len()));
        become_ready(ready, &watched)?;

        while !signalled(&signals) {
            if self.repair(&root, &mut watched) {
                become_ready(ready, &watched)?;
            } else {
                not_ready(ready);
            }
        }
        not_ready(ready);
        if args.remove_on_exit {
            for Watched { entry, .. } in watched.iter().filter(|watched| watched.ours) {
                apply::remove_entry(&root.path(root.mount_point()), &EntryName::new(&entry.name)?)?;
                self.log(&format!("removed {}", entry.name));
            }
        }
        Ok(())
    }

    /// Looks once and puts back what is not as it was. Returns whether all is well again.
    fn repair(&mut self, root: &Root, watched: &mut [Watched]) -> bool {
        let instance = Instance::read(&root.path(root.mount_point())).unwrap_or_default();
        let intact =
            |watched: &Watched| instance.entry(&watched.entry.name) == Some(&watched.entry);
        let broken: Vec<_> =
            watched.iter().filter(|watched| !intact(watched)).map(|watched| watched.arch).collect();
        if broken.is_empty() && (instance.enabled || watched.is_empty()) {
            return true;
        }
        if let Some(finding) = check::obstacle(&observe(root)) {
            self.log_once(&format!("cannot repair: {}", finding.what));
            return false;
        }
        let well = match self.put_back(&broken) {
            Ok(()) => true,
            Err(error) => {
                self.log_once(&format!("cannot repair: {error}"));
                false
            }
        };
        let now = observe(root);
        for watched in watched.iter_mut().filter(|watched| broken.contains(&watched.arch)) {
            if let Some(entry) = now.taker(watched.arch) {
                watched.ours |= entry.name == self.emulators.entry_name(watched.arch);
                watched.entry = entry.clone();
            }
        }
        well
    }

    /// Installs again. What somebody else made work meanwhile is left alone; what does not work is
    /// replaced.
    fn put_back(&mut self, broken: &[&'static Arch]) -> Result<(), Error> {
        let mut broken: Vec<_> = broken.iter().map(|arch| Ok(*arch)).collect();
        let mut last = Ok(());
        for replace in [false, true] {
            let results = self.install(&broken, &Options { replace, ..Options::default() })?;
            broken.clear();
            last = Ok(());
            for StepResult { subject, arch, result, .. } in results {
                match result {
                    Ok(words) => self.log(&format!("repaired {subject} ({words})")),
                    Err(error) => {
                        broken.extend(arch.map(Ok));
                        last = Err(error);
                    }
                }
            }
            if broken.is_empty() {
                break;
            }
        }
        last
    }

    /// A line that would otherwise come every few seconds.
    fn log_once(&mut self, line: &str) {
        if self.last_log != line {
            self.log(line);
            self.last_log = line.to_owned();
        }
    }
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
fn become_ready(file: Option<&Path>, watched: &[Watched]) -> Result<(), Error> {
    match file {
        Some(path) if !path.exists() => fs::write(path, labels(watched.iter().map(|w| w.arch)))
            .map_err(|error| Error::system(Op::Write, path, error)),
        _ => Ok(()),
    }
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
