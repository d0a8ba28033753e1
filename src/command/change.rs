//! `--install` and `--uninstall`: observe, plan, apply, and observe again.

use std::time::Duration;

use super::Context;
use crate::apply::{self, Lock, StepResult};
use crate::arch::{ARCHES, Arch};
use crate::check;
use crate::cli::{Change, Install};
use crate::error::Error;
use crate::host::{observe, observe_entries};
use crate::namespace::{may_look, with_private_mount};
use crate::plan::{self, Plan};
use crate::platform::Unknown;
use crate::report::written;
use crate::state::{Instance, RunBy, State, UserNamespace};

/// How often to plan again when other runs change the entries at the same time.
const ROUNDS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(50);

/// Uninstalls, then installs, then tells what came of it.
pub(crate) fn change(context: &mut Context<'_>, request: &Change) -> Result<(), Error> {
    if request.dry_run {
        return dry_run(context, request);
    }
    let mut verdict = Ok(());
    let mut after = None;
    if let Some(list) = &request.uninstall {
        let (results, state) = uninstall(context, list);
        context.tell("uninstalling", &results);
        verdict = context.verdict("uninstall", results);
        after = Some(state);
    }
    if let Some(request) = &request.install {
        let Installed { results, state } = install(context, request)?;
        context.tell("installing", &results);
        verdict = verdict.and(context.verdict("install", results));
        after = Some(state);
    }
    let Some(mut state) = after else { return Ok(()) };
    if state.probes.is_err() {
        context.log.progress("running a test program of each architecture");
        state.probes = context.probe_all();
    }
    if request.uninstall.is_some() {
        tell_hidden(context, &state);
    }
    context.tell_summary(&state, request.json)?;
    verdict
}

/// Prints the plan; fails where the real run would.
fn dry_run(context: &mut Context<'_>, request: &Change) -> Result<(), Error> {
    let arches: Vec<_> = ARCHES.iter().collect();
    context.log.progress("looking at what works already");
    let mut state = context.observe(&arches);
    context.log.done();
    let mut plans = Vec::new();
    if let Some(list) = &request.uninstall {
        let plan = plan_uninstall(context, list, &state);
        plan::after_removal(&plan, &mut state);
        plans.push(("uninstall", plan));
    }
    if let Some(Install { list, options }) = &request.install {
        let requested = plan::requested(list, context.emulators);
        plan::notes(list).iter().for_each(|note| context.log.line(&format!("note: {note}")));
        plans.push(("install", plan::install(&requested, options, context.emulators, &state)?));
    }
    let mut failed = Vec::new();
    for (verb, plan) in &plans {
        plan.notes.iter().for_each(|note| context.log.line(&format!("note: {note}")));
        written(write!(context.out, "{plan}"))?;
        failed.push((*verb, plan.refused()));
    }
    // As in the real run, the advice on each is told, and the first failure is the last word.
    let verdicts = failed.into_iter().map(|(verb, items)| context.last_word(verb, items));
    verdicts.fold(Ok(()), Result::and)
}

fn plan_uninstall(context: &mut Context<'_>, list: &[String], state: &State) -> Plan<'static> {
    if let Err(why) = &state.instance {
        context.log.line(&format!("note: no entries can be seen: {why}"));
    }
    plan::uninstall(list, context.emulators, state)
}

/// Removes entries. The state returned has not been probed.
///
/// For this binfmt_misc is not mounted to stay: where it is not, it is for a moment, and not at all
/// where that would part a user namespace from the host's entries.
fn uninstall(context: &mut Context<'_>, list: &[String]) -> (Vec<StepResult>, State) {
    context.log.progress("looking for entries");
    let mut state = observe(context.root);
    if !state.mounted() && state.user_namespace == Ok(UserNamespace::Nested) {
        state.probes = context.probe_all();
    }
    let private = may_look(&state);
    context.peek(&mut state);
    let plan = plan_uninstall(context, list, &state);
    plan.notes.iter().for_each(|note| context.log.news(&format!("note: {note}")));
    let at = context.root.path(context.root.mount_point());
    let results = match private && plan.removes() {
        true => {
            let plan = &plan;
            with_private_mount(context.root, |instance| apply::uninstall(instance, plan))
                .unwrap_or_else(|| apply::uninstall(&at, plan))
        }
        false => {
            let log = &mut context.log;
            let _lock = Lock::take(context.root, || log.line(WAITING));
            apply::uninstall(&at, &plan)
        }
    };
    observe_after(context, &mut state);
    state.probes = Err(Error::NoneRun);
    (results, state)
}

pub(crate) const WAITING: &str = "waiting for another binfmtctl that changes entries";

/// What an install came to.
pub(crate) struct Installed {
    /// An item each.
    pub(crate) results: Vec<StepResult>,
    /// The host afterwards, all architectures probed.
    pub(crate) state: State,
}

/// One attempt at an install.
enum Attempt {
    Done(Box<Installed>),
    /// Another run changed the entries in the meantime. What was done by then is kept.
    Again(Vec<StepResult>),
}

/// Mounts binfmt_misc if need be, and installs.
///
/// # Errors
/// What keeps anything from being installed. What became of each item is in the result.
pub(crate) fn install(context: &mut Context<'_>, request: &Install) -> Result<Installed, Error> {
    let requested = plan::requested(&request.list, context.emulators);
    plan::notes(&request.list).iter().for_each(|note| context.log.news(&format!("note: {note}")));
    let mut done: Vec<StepResult> = Vec::new();
    for round in 1..=ROUNDS {
        match attempt(context, request, &requested, round == ROUNDS)? {
            Attempt::Done(mut installed) => {
                // What an earlier round made is found unchanged by a later one.
                for result in &mut installed.results {
                    if let Some(at) = done.iter().position(|old| old.subject == result.subject)
                        && !result.registered()
                        && !matches!(result.outcome, apply::Outcome::Failed(_))
                    {
                        *result = done.swap_remove(at);
                    }
                }
                let Installed { results, state } = installed.as_mut();
                if apply::prove(context.root, results, state, context.emulators) {
                    observe_after(context, state);
                }
                return Ok(*installed);
            }
            Attempt::Again(results) => {
                done.extend(results.into_iter().filter(StepResult::registered));
            }
        }
        std::thread::sleep(PAUSE);
    }
    Err(Error::Crowded)
}

fn attempt(
    context: &mut Context<'_>,
    request: &Install,
    requested: &[Result<&'static Arch, Unknown>],
    last: bool,
) -> Result<Attempt, Error> {
    let root = context.root;
    let mut state = observe(root);
    let mut lock = None;
    if state.mounted() {
        let log = &mut context.log;
        lock = Lock::take(root, || log.line(WAITING));
        if lock.as_ref().is_some_and(|lock| lock.waited) {
            (state.mount, state.instance) = observe_entries(root);
        }
    }
    // In a user namespace a mount may hide what runs there: that must be known of all.
    let all = state.user_namespace != Ok(UserNamespace::Initial) && !state.mounted();
    let arches: Vec<_> = match all {
        true => ARCHES.iter().collect(),
        false => requested.iter().filter_map(|item| item.as_ref().ok().copied()).collect(),
    };
    context.log.progress("looking at what works already");
    state.probes = context.probe(&arches);
    context.peek(&mut state);
    let plan = plan::install(requested, &request.options, context.emulators, &state)?;
    tell_plan(context, &state, &plan);
    let registers = plan.jobs().next().is_some();
    let mut mounted = false;
    if plan.mount.is_some() {
        mounted = match apply::mount(root, &state) {
            Ok(mounted) => mounted,
            // Another run mounted it at the same moment.
            Err(error) if error.errno() == Some(nix::errno::Errno::EBUSY) && !last => {
                return Ok(Attempt::Again(Vec::new()));
            }
            Err(error) => return Err(error),
        };
        let log = &mut context.log;
        lock = Lock::take(root, || log.line(WAITING));
        if entries_changed(&state, context) && !last {
            return Ok(Attempt::Again(Vec::new()));
        }
    }
    let log = &mut context.log;
    let mut note = |text: &str| log.news(text);
    let mut results = apply::install(root, plan, context.emulators, &state, &mut note);
    drop(lock);
    if !last && results.iter().any(StepResult::lost_a_race) {
        return Ok(Attempt::Again(results));
    }
    if mounted
        && state.anchors()
        && registers
        && let Err(error) = apply::prove_lasting(root, &mut results)
    {
        context.log.line(&format!(
            "note: could not test whether the registrations outlast this mount: {error}"
        ));
    }
    observe_after(context, &mut state);
    context.log.progress("running a test program of each architecture");
    state.probes = context.probe_all();
    Ok(Attempt::Done(Box::new(Installed { results, state })))
}

fn tell_plan(context: &mut Context<'_>, state: &State, plan: &Plan<'_>) {
    for finding in check::check_host(state) {
        context.log.verbose(&format!("{}: {}", finding.id, finding.what));
    }
    plan.to_string().lines().for_each(|step| context.log.verbose(&format!("plan: {step}")));
    plan.notes.iter().for_each(|note| context.log.news(&format!("note: {note}")));
}

/// Whether the entries are other ones than those that were planned with.
fn entries_changed(planned: &State, context: &Context<'_>) -> bool {
    let (_, now) = observe_entries(context.root);
    let names = |instance: &Instance| -> Vec<_> {
        let mut names: Vec<_> = instance.entries.iter().map(|entry| entry.file.clone()).collect();
        names.sort();
        names
    };
    let planned = planned.instance.as_ref().map(names).unwrap_or_default();
    now.is_ok_and(|now| names(&now) != planned)
}

/// Looks again at what a change changes.
fn observe_after(context: &Context<'_>, state: &mut State) {
    (state.mount, state.instance) = observe_entries(context.root);
    context.peek(state);
}

/// Says what runs though no entry for it can be seen: an uninstall could not reach it.
fn tell_hidden(context: &mut Context<'_>, state: &State) {
    let hidden: Vec<_> = ARCHES
        .iter()
        .filter(|arch| state.run_by(arch) == Ok(Some(RunBy::Hidden)))
        .map(|arch| arch.oci)
        .collect();
    if hidden.is_empty() {
        return;
    }
    let hidden = hidden.join(", ");
    context
        .log
        .line(&format!("note: {hidden}: still work, by entries that cannot be seen from here"));
    if state.user_namespace == Ok(UserNamespace::Nested) {
        context.log.line(&format!(
            "hint: uninstall on the host; or, if they were installed in this user namespace, mount its binfmt_misc at {} first",
            context.root.mount_point().display()
        ));
    }
}
