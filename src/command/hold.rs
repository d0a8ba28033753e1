//! `hold`: installs, stays, and puts back what vanishes. The loop of fleets' nodes.
//!
//! binfmt_misc sends no inotify events, so the entries are read again every few seconds: some
//! thirty small files, a fraction of a millisecond.

mod files;
mod notify;

use std::os::fd::AsFd;
use std::time::{Duration, Instant, SystemTime};

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
use crate::privilege;
use crate::state::{Instance, State};

use files::Metric;
use notify::Notify;

/// How often the entries are looked at.
const INTERVAL: Duration = Duration::from_secs(2);
/// How often the metrics are written where nothing changes.
const METRICS_INTERVAL: Duration = Duration::from_secs(10);

/// One architecture to keep working.
struct Watched {
    arch: &'static Arch,
    /// The entry that serves it, as it was when it last worked.
    entry: Entry,
    /// Whether that entry is of our making, and so ours to remove.
    ours: bool,
    /// How often it was put back.
    repairs: u64,
    /// What happened to it, until it is put back.
    trouble: Option<String>,
}

impl Watched {
    /// Whether the same entry still takes the architecture's programs.
    fn is_intact(&self, instance: &Instance) -> bool {
        instance.taker(&self.arch.probe()) == Some(&self.entry)
    }

    /// What is not as it was, in words.
    fn what_happened(&self, instance: &Instance) -> String {
        let name = &self.entry.name;
        match (instance.entry(name), instance.taker(&self.arch.probe())) {
            (None, _) => format!("its entry {name} was removed"),
            (Some(entry), _) if !entry.enabled => format!("its entry {name} was disabled"),
            (Some(_), Some(taker)) if taker.name != *name => {
                format!("the newer entry {} handles its programs", taker.name)
            }
            _ => format!("its entry {name} was changed"),
        }
    }
}

/// Installs, then watches until SIGTERM, SIGINT or SIGHUP.
///
/// # Errors
/// Where the first install fails, in part or whole; later failures are logged and tried again.
pub(crate) fn hold(context: &mut Context<'_>, request: &Hold) -> Result<(), Error> {
    if request.dry_run {
        let install = Some(request.what.install());
        return change::change(
            context,
            &Change { uninstall: None, install, dry_run: true, json: false },
        );
    }
    // Before any thread starts, so that none of them takes a signal away.
    let signals = block_signals()?;
    context.log.stamp();
    privilege::keep(privilege::INSTALL);
    let notify = Notify::of_environment();
    let ready = request.ready_file.as_deref();
    for path in [ready, request.metrics_file.as_deref()].into_iter().flatten() {
        files::check(path)?;
    }
    files::remove(ready);
    let install = request.what.install();
    let mut watched = first_install(context, &install)?;
    let names: Vec<_> = watched.iter().map(|watched| watched.arch.oci).collect();
    let holding = match names.is_empty() {
        true => "holding nothing: no entry that is seen here is for any of these".to_owned(),
        false => format!("holding {}", names.join(", ")),
    };
    context.log.line(&holding);
    become_ready(context, request, &watched)?;
    let mut metrics = Metrics::new(request);
    metrics.write(&watched, true)?;
    notify.status(&holding);
    notify.ready();

    // Twice in the time after which systemd takes this process for dead.
    let interval = notify.watchdog.map_or(INTERVAL, |watchdog| INTERVAL.min(watchdog / 2));
    let mut was_well = true;
    while !signalled(&signals, interval) {
        let before: u64 = watched.iter().map(|watched| watched.repairs).sum();
        let well = repair(context, &install.options, &mut watched);
        let repairs: u64 = watched.iter().map(|watched| watched.repairs).sum();
        let told = match well {
            true => become_ready(context, request, &watched),
            false => {
                files::remove(ready);
                Ok(())
            }
        };
        let news = well != was_well || repairs != before;
        if let Err(error) = told.and(metrics.write(&watched, news)) {
            context.log.once(&format!("cannot write its status: {error}"));
        }
        notify.alive();
        if news {
            notify.status(&status(&holding, well, repairs));
        }
        was_well = well;
    }
    notify.stopping();
    files::remove(ready);
    files::remove(request.metrics_file.as_deref());
    context.log.line("ending: a signal came");
    if request.remove_on_exit { remove(context, &watched) } else { Ok(()) }
}

/// The line for `systemctl status`.
fn status(holding: &str, well: bool, repairs: u64) -> String {
    let times = if repairs == 1 { "entry" } else { "entries" };
    match well {
        true => format!("{holding}; put back {repairs} {times} so far"),
        false => format!("not all entries could be put back: see the log ({holding})"),
    }
}

/// Tells by the readiness file that all is well.
fn become_ready(
    context: &mut Context<'_>,
    request: &Hold,
    watched: &[Watched],
) -> Result<(), Error> {
    let Some(path) = request.ready_file.as_deref().filter(|path| !path.exists()) else {
        return Ok(());
    };
    context.log.verbose(&format!("ready: {}", path.display()));
    files::write_whole(path, &files::labels(watched.iter().map(|watched| watched.arch)))
}

/// The file of metrics, and when it was written.
struct Metrics<'a> {
    request: &'a Hold,
    written: Option<Instant>,
}

impl<'a> Metrics<'a> {
    fn new(request: &'a Hold) -> Self {
        Self { request, written: None }
    }

    /// Writes it where there is news, and else now and then: the time of the last look is in it.
    fn write(&mut self, watched: &[Watched], news: bool) -> Result<(), Error> {
        let Some(path) = self.request.metrics_file.as_deref() else { return Ok(()) };
        if !news && self.written.is_some_and(|written| written.elapsed() < METRICS_INTERVAL) {
            return Ok(());
        }
        self.written = Some(Instant::now());
        let all = watched.iter().map(|watched| Metric {
            arch: watched.arch.oci,
            entry: &watched.entry.name,
            intact: watched.trouble.is_none(),
            repairs: watched.repairs,
        });
        files::write_whole(path, &files::metrics(all, SystemTime::now()))
    }
}

/// Installs, and finds the entries to be watched.
fn first_install(context: &mut Context<'_>, install: &Install) -> Result<Vec<Watched>, Error> {
    let Installed { results, state } = change::install(context, install)?;
    context.tell("installing", &results);
    let made: Vec<_> =
        results.iter().filter(|it| it.registered()).filter_map(|it| it.arch).collect();
    context.verdict("install", results)?;
    keep_in_sight(context, &state)?;
    let watch = |arch: &'static Arch| {
        let entry = state.matching_entry(arch)?.clone();
        let unchanged = entry.name == context.emulators.entry_name(arch);
        let ours = made.contains(&arch) || unchanged;
        Some(Watched { arch, entry, ours, repairs: 0, trouble: None })
    };
    let requested = plan::requested(&install.list, context.emulators);
    Ok(requested.into_iter().flatten().filter_map(watch).collect())
}

/// Mounts binfmt_misc where its entries were seen though it is not mounted: an install that changes nothing mounts nothing,
/// and entries that cannot be seen again are taken for lost.
///
/// # Errors
/// As mount(2).
fn keep_in_sight(context: &Context<'_>, state: &State) -> Result<(), Error> {
    match state.instance.is_ok() {
        true => apply::mount(context.root, state).map(drop),
        false => Ok(()),
    }
}

/// Removes what is of our making.
fn remove(context: &mut Context<'_>, watched: &[Watched]) -> Result<(), Error> {
    let instance = context.root.path(context.root.mount_point());
    let mut results = Vec::new();
    // Where they cannot be seen, nothing says that they are gone.
    let seen = Instance::read(&instance);
    for Watched { entry, .. } in watched.iter().filter(|watched| watched.ours) {
        let removed = seen.as_ref().map_err(Error::clone);
        let removed = removed.and_then(|_| apply::remove_entry(&instance, &entry.file));
        let outcome = removed.map_or_else(Outcome::Failed, |()| Outcome::Removed);
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
    if watched.iter().all(|watched| watched.is_intact(&instance)) {
        watched.iter_mut().for_each(|watched| watched.trouble = None);
        context.log.forget();
        return true;
    }
    // That all are disabled is told below, once.
    let instance = Instance { enabled: true, ..instance };
    let broken: Vec<_> = watched
        .iter()
        .filter(|watched| !watched.is_intact(&instance))
        .map(|watched| watched.arch)
        .collect();
    for watched in watched.iter_mut().filter(|watched| broken.contains(&watched.arch)) {
        let what = match &seen {
            Err(why) => format!("its entry cannot be seen: {why}"),
            Ok(_) => watched.what_happened(&instance),
        };
        if watched.trouble.as_ref() != Some(&what) {
            context.log.line(&format!("lost: {}: {what}", watched.arch));
            watched.trouble = Some(what);
        }
    }
    let repaired = match check::obstacle(&observe(context.root)) {
        Some(finding) => Err(finding.what),
        None => put_back(context, options, &broken)
            .and_then(|(well, now)| {
                now.iter().try_for_each(|now| keep_in_sight(context, now))?;
                Ok((well, now))
            })
            .map_err(|error| error.to_string()),
    };
    let (well, now) = match repaired {
        Ok(repaired) => repaired,
        Err(why) => {
            context.log.once(&format!("cannot repair: {why}"));
            return false;
        }
    };
    let Some(now) = now else { return well };
    for watched in watched.iter_mut().filter(|watched| broken.contains(&watched.arch)) {
        let works = now.probe(watched.arch).is_some_and(|probe| probe.ran());
        if let Some(entry) = now.matching_entry(watched.arch).filter(|_| works) {
            watched.ours |= entry.name == context.emulators.entry_name(watched.arch);
            watched.entry = entry.clone();
            watched.trouble = None;
            watched.repairs += 1;
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
fn signalled(signals: &SignalFd, interval: Duration) -> bool {
    let interval = Timespec {
        tv_sec: interval.as_secs().try_into().unwrap_or(1),
        tv_nsec: interval.subsec_nanos().into(),
    };
    let mut fds = [PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
    poll(&mut fds, Some(&interval)).is_ok_and(|ready| ready > 0)
}
