//! `persist`: files on the host's disk from which the next boot registers.
//!
//! Emulators go to a directory of their own, registrations to binfmt.d, where systemd-binfmt looks
//! for them; where that does not run, a service of ours reads the same file. A manifest names all
//! that was written, so that `--remove` takes away that and nothing else.

mod boot;
mod files;
mod obstacle;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Context;
use crate::apply::{Outcome, StepResult};
use crate::arch::Arch;
use crate::cli::Persist;
use crate::emulator::Emulators;
use crate::entry::{Flags, Registration};
use crate::error::Error;
use crate::plan::{self, Action, Choice, Content, Job, Plan, Step};
use crate::report::written;
use crate::state::State;
use crate::tree::Tree;
use boot::{Boot, Wanted, script};
use files::{Alone, MANIFEST, Manifest, Whose, Writing, conf, parse_conf, whose};

/// Registrations. Files are read in the order of their names and a later one wins, so this one
/// comes after a distribution's `qemu-aarch64.conf` for the same entry.
const CONF: &str = "/etc/binfmt.d/zz-binfmtctl.conf";
const CONF_HEAD: &str =
    "# Written by `binfmtctl persist`; `binfmtctl persist --remove` removes it.\n";

/// Writes, or with `--remove` takes away, what the next boot registers from.
///
/// # Errors
/// What is in the way; or what failed, after all items were tried.
pub(crate) fn persist(context: &mut Context<'_>, request: &Persist) -> Result<(), Error> {
    let lib_dir = request.lib_dir.as_path();
    obstacle::lib_dir(lib_dir)?;
    let tree = Tree::open(&request.root)?;
    obstacle::elsewhere(&tree, lib_dir)?;
    if request.remove {
        return remove(context, &tree, &lib_dir.join(MANIFEST), request.dry_run);
    }
    let install = &request.what.install();
    let requested = plan::requested(&install.list, context.emulators);
    if requested.is_empty() {
        context.emulators.some()?;
    }

    // The tree's system runs on this very kernel and CPU, or on one like it.
    let system = obstacle::system(&tree)?;
    let arches = requested.iter().filter_map(|item| item.as_ref().ok().copied());
    let also = system.filter(|arch| !requested.contains(&Ok(arch)));
    let state = context.observe(&arches.chain(also).collect::<Vec<_>>());
    let boot = Boot::of(&tree);
    obstacle::check(&tree, system, &state, lib_dir, context.root)?;

    let flags = plan::flags(&install.options, &state);
    let emulators = context.emulators;
    let plan =
        plan::each(&requested, |arch| plan_emulator(arch, &flags, emulators, &state, lib_dir));
    plan::notes(&install.list).iter().for_each(|note| context.log.news(&format!("note: {note}")));
    if request.dry_run {
        return dry_run(context, &tree, lib_dir, plan, boot);
    }

    let _alone = Alone::take(&tree, lib_dir, context)?;
    // Another run may have been at work until now.
    obstacle::elsewhere(&tree, lib_dir)?;
    write(context, &tree, lib_dir, &plan, (boot, &state))
}

/// Prints the plan, as far as it is not done already.
fn dry_run(
    context: &mut Context<'_>,
    tree: &Tree,
    lib_dir: &Path,
    plan: Plan<'_>,
    boot: Boot,
) -> Result<(), Error> {
    let there = Writing::new(tree, lib_dir)?;
    let rules = parse_conf(&tree.read(Path::new(CONF))?);
    let fits = |step: &&Step<'_>| !matches!(there.compare(step), Some(Action::Refuse(_)));
    let made: Vec<_> = plan.steps.iter().filter(fits).filter_map(registration).collect();
    let files = plan_files(&made, rules, boot, lib_dir).steps;
    let compared = |step: &Step<'_>| there.compare(step);
    let found: Vec<_> = plan.steps.iter().chain(&files).map(compared).collect();
    let steps =
        plan.steps.into_iter().chain(files).zip(found).map(|(step, found)| Step {
            action: found.unwrap_or(step.action),
            subject: step.subject,
        });
    let plan = Plan { steps: steps.collect(), ..Plan::default() };
    written(write!(context.out, "{plan}"))?;
    context.last_word("persist", plan.refused())
}

/// Carries the plan out.
fn write(
    context: &mut Context<'_>,
    tree: &Tree,
    lib_dir: &Path,
    plan: &Plan<'_>,
    (boot, state): (Boot, &State),
) -> Result<(), Error> {
    let rules = parse_conf(&tree.read(Path::new(CONF))?);
    let there = lib_dir.ancestors().find(|dir| tree.has(dir)).unwrap_or(lib_dir);
    let mut writing = Writing::new(tree, lib_dir)?;
    let mut results = Vec::new();
    let mut made = Vec::new();
    for step in &plan.steps {
        let result = writing.carry_out(step, context.emulators);
        context.tell("persisting", std::slice::from_ref(&result));
        if !matches!(result.outcome, Outcome::Failed(_)) {
            made.extend(registration(step));
        }
        results.push(result);
    }
    for step in &plan_files(&made, rules, boot, lib_dir).steps {
        let result = writing.carry_out(step, context.emulators);
        if let Outcome::Failed(_) = result.outcome {
            context.tell("persisting", std::slice::from_ref(&result));
            results.push(result);
        }
    }
    writing.finish()?;
    writing.tell(context);
    // Where nothing could be written, no empty directories stay.
    for dir in lib_dir.ancestors().take_while(|dir| *dir != there) {
        let _ = tree.remove_dir(dir);
    }
    if !made.is_empty() {
        let active = are_active(state, &made);
        tell_when(context, boot, &made, &writing, active);
    }
    context.verdict("persist", results)
}

/// What each boot is to register of a step.
fn registration<'a>(step: &'a Step<'_>) -> Option<&'a Registration> {
    match &step.action {
        Action::Write { content: Content::Emulator(job), .. } => Some(&job.registration),
        _ => None,
    }
}

fn plan_emulator<'a>(
    arch: &'static Arch,
    flags: &Flags,
    emulators: &'a Emulators,
    state: &State,
    lib_dir: &Path,
) -> Result<Action<'a>, Error> {
    let emulator = match plan::choose(arch, emulators, state)? {
        Choice::Native(why) => return Ok(Action::Keep(why.to_owned())),
        Choice::Emulator(emulator) => emulator,
    };
    let path = lib_dir.join(&emulator.name);
    let registration = emulator.registration(&path, flags)?;
    let content = Content::Emulator(Job { arch, emulator, registration, replaces: false });
    Ok(Action::Write { path, mode: 0o755, content })
}

/// Plans the files that make each boot register these, besides what earlier runs wrote.
fn plan_files(
    registrations: &[&Registration],
    mut rules: BTreeMap<String, String>,
    boot: Boot,
    lib_dir: &Path,
) -> Plan<'static> {
    if registrations.is_empty() {
        return Plan::default();
    }
    for registration in registrations {
        rules.insert(registration.name().to_string(), registration.to_string());
    }
    let script_path = lib_dir.join("register");
    let mut files =
        vec![(script_path.clone(), 0o755, script()), (CONF.into(), 0o644, conf(&rules))];
    files.extend(boot.files(&script_path));
    let step = |path: PathBuf, action| Step { subject: path.display().to_string(), action };
    let write = |(path, mode, text): Wanted| {
        step(path.clone(), Action::Write { path, mode, content: Content::Text(text) })
    };
    let mut steps: Vec<_> = files.into_iter().map(write).collect();
    steps
        .extend(boot.link().map(|(path, to)| {
            step(path.into(), Action::Link { path: path.into(), to: to.into() })
        }));
    Plan { steps, ..Plan::default() }
}

/// Whether the running kernel has all of these.
fn are_active(state: &State, registrations: &[&Registration]) -> bool {
    let Ok(instance) = &state.instance else { return false };
    instance.enabled
        && registrations.iter().all(|registration| {
            instance.entry(registration.name().as_str()).is_some_and(|entry| {
                registration.is(entry) && entry.interpreter == registration.interpreter()
            })
        })
}

/// Says when what was written takes effect.
fn tell_when(
    context: &mut Context<'_>,
    boot: Boot,
    made: &[&Registration],
    writing: &Writing<'_>,
    active: bool,
) {
    let (changed, script) = (writing.changed, writing.lib_dir.join("register"));
    let names: Vec<_> = made.iter().map(|registration| registration.name().as_str()).collect();
    let these = names.join(", ");
    context.log.news(&match boot {
        _ if !changed && active => {
            "the files are unchanged, and the registrations are active now".to_owned()
        }
        _ if !changed => "the files are unchanged".to_owned(),
        Boot::Present => {
            format!(
                "systemd-binfmt registers {these} at the next boot, and at each of its restarts"
            )
        }
        Boot::Systemd | Boot::OpenRc => {
            format!("the service binfmtctl registers {these} at the next boot")
        }
        Boot::Unknown => format!(
            "note: found neither systemd nor OpenRC there: make its boot run `sh {}`",
            script.display()
        ),
    });
    // New emulators are not what an entry of before has open.
    if changed || !active {
        context.log.news(&format!("to use them now, run on that machine: sh {}", script.display()));
    }
}

/// Takes away what was written. What was changed since is left, and all else is tried.
fn remove(
    context: &mut Context<'_>,
    tree: &Tree,
    manifest: &Path,
    dry_run: bool,
) -> Result<(), Error> {
    if !tree.has(manifest) {
        if !dry_run {
            tree.sweep(manifest);
        }
        if !obstacle::boots(tree) {
            context.log.news(&format!("hint: {}", obstacle::GIVE_THE_ROOT));
        }
        let root = tree.shown(Path::new("/"));
        context.log.news(&format!("nothing was persisted in {}", root.display()));
        return Ok(());
    }
    let lib_dir = manifest.parent().unwrap_or(Path::new("/"));
    let _alone = if dry_run { None } else { Alone::take(tree, lib_dir, context)? };
    let manifested = Manifest::parse(&tree.read(manifest)?);
    if !dry_run {
        tree.sweep(manifest);
    }
    let Whose { mine, left, unseen } = whose(tree, manifest, &manifested)?;
    for (path, why) in &left {
        let shown = tree.shown(path);
        context.log.line(&format!("warning: {} {why} and is not removed", shown.display()));
    }
    let conf_left = left.iter().any(|(path, _)| *path == Path::new(CONF));
    let changed = conf_left.then_some((Path::new(CONF), Error::ChangedSince));
    let mut results = Vec::new();
    let mut result = |path: &Path, error| {
        let subject = tree.shown(path).display().to_string();
        results.push(StepResult { subject, arch: None, outcome: Outcome::Failed(error) });
    };
    unseen.into_iter().chain(changed).for_each(|(path, error)| result(path, error));
    if dry_run {
        let text: String = mine.iter().map(|path| format!("remove {}\n", path.display())).collect();
        written(context.out.write_all(text.as_bytes()))?;
        return context.verdict("remove", results);
    }
    for boot in [Boot::Systemd, Boot::OpenRc] {
        // Only together with the file it points to.
        if let Some((link, _)) = boot.link()
            && boot.files(Path::new("/")).iter().any(|(path, ..)| mine.contains(&path.as_path()))
            && let Err(error) = tree.remove(Path::new(link))
        {
            result(Path::new(link), error);
        }
    }
    manifested.written_by_persist(manifest).for_each(|path| tree.sweep(path));
    for path in &mine {
        match tree.remove(path) {
            Ok(()) => context.log.news(&format!("removed {}", tree.shown(path).display())),
            Err(error) => result(path, error),
        }
    }
    if results.is_empty() {
        tree.remove(manifest)?;
        // Not empty if a file was left.
        let _ = tree.remove(manifest.parent().unwrap_or(Path::new("/")));
    }
    context
        .log
        .line("registrations of the running system stay: `binfmtctl --uninstall` removes those");
    context.verdict("remove", results)
}

/// Whether both readers give back what they wrote, whatever they read; for [`crate::fuzzing`].
pub(crate) fn readers_are_inverses(text: &str) -> bool {
    let manifest = Manifest::parse(text);
    let rules = parse_conf(text);
    Manifest::parse(&manifest.text()) == manifest && parse_conf(&conf(&rules)) == rules
}
