//! `persist`: files on the host's disk from which the next boot registers.
//!
//! Emulators go to a directory of their own, registrations to binfmt.d, where systemd-binfmt looks
//! for them; where that does not run, a service of ours reads the same file. A manifest names all
//! that was written, so that `--remove` takes away that and nothing else.

mod obstacle;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::geteuid;

use super::Context;
use crate::apply::{Outcome, StepResult, Turn, lock_file};
use crate::arch::{ARCHES, Arch};
use crate::cli::{Install, Persist};
use crate::emulator::{Emulator, Emulators, digest};
use crate::entry::{EntryName, Flags, Registration};
use crate::error::{Error, Op};
use crate::plan::{self, Action, Choice, Content, Plan, Step};
use crate::platform::Unknown;
use crate::root::MOUNT_POINT;
use crate::state::State;
use crate::tree::Tree;

/// Registrations. Files are read in the order of their names and a later one wins, so this one
/// comes after a distribution's `qemu-aarch64.conf` for the same entry.
const CONF: &str = "/etc/binfmt.d/zz-binfmtctl.conf";
const CONF_HEAD: &str =
    "# Written by `binfmtctl persist`; `binfmtctl persist --remove` removes it.\n";

/// What must run at boot for [`CONF`] to take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Boot {
    /// systemd-binfmt does.
    Present,
    /// systemd without systemd-binfmt, or with it masked: a unit of ours.
    Systemd,
    /// OpenRC: a service of ours. Its own need not be in a runlevel, and that of older versions
    /// takes the backslashes out of registrations (`read` without `-r` in its binfmt.sh).
    OpenRc,
    /// Nobody.
    Unknown,
}

/// Where an administrator masks systemd-binfmt.
const BINFMT_UNIT: &str = "/etc/systemd/system/systemd-binfmt.service";
const UNIT: &str = "/etc/systemd/system/binfmtctl.service";
const UNIT_WANTED: &str = "/etc/systemd/system/sysinit.target.wants/binfmtctl.service";
const INIT: &str = "/etc/init.d/binfmtctl";
const INIT_WANTED: &str = "/etc/runlevels/boot/binfmtctl";

/// A file to be there, with its content.
type Wanted = (PathBuf, u32, String);

impl Boot {
    fn of(tree: &Tree) -> Self {
        let any = |paths: &[&str]| paths.iter().any(|path| tree.has(Path::new(path)));
        // Some mask it, as it drops the entries of others: WSL's, for one.
        let masked =
            tree.link_text(Path::new(BINFMT_UNIT)).is_some_and(|to| to == Path::new("/dev/null"));
        if !masked && any(&["/usr/lib/systemd/systemd-binfmt", "/lib/systemd/systemd-binfmt"]) {
            Self::Present
        } else if any(&["/usr/lib/systemd/systemd", "/lib/systemd/systemd"]) {
            Self::Systemd
        } else if any(&["/sbin/openrc-run", "/usr/sbin/openrc-run"]) {
            Self::OpenRc
        } else {
            Self::Unknown
        }
    }

    /// The files of ours it needs.
    fn files(self, script: &Path) -> Vec<Wanted> {
        let start = script.display();
        match self {
            Self::Present | Self::Unknown => Vec::new(),
            Self::Systemd => vec![(
                UNIT.into(),
                0o644,
                format!(
                    "[Unit]\nDescription=Register emulators for other architectures\n\
                     DefaultDependencies=no\nAfter=local-fs.target proc-sys-fs-binfmt_misc.automount\n\
                     Before=sysinit.target\nRequiresMountsFor={start}\n\n\
                     [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh {start}\n\n\
                     [Install]\nWantedBy=sysinit.target\n"
                ),
            )],
            Self::OpenRc => vec![(
                INIT.into(),
                0o755,
                format!(
                    "#!/sbin/openrc-run\ndescription=\"Register emulators for other architectures\"\n\n\
                     depend() {{\n\tneed localmount\n\tafter procfs modules binfmt\n}}\n\nstart() {{\n\tebegin \"Registering emulators\"\n\
                     \t/bin/sh {start}\n\teend $?\n}}\n"
                ),
            )],
        }
    }

    /// The link that makes it run, and what it points to.
    fn link(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Systemd => Some((UNIT_WANTED, "../binfmtctl.service")),
            Self::OpenRc => Some((INIT_WANTED, INIT)),
            Self::Present | Self::Unknown => None,
        }
    }
}

/// What our own services run: registers each line of [`CONF`].
fn script() -> String {
    format!(
        "#!/bin/sh\n# Registers what {CONF} holds. {}\
         d={MOUNT_POINT}\n\
         [ -e $d/register ] || mount -t binfmt_misc binfmt_misc $d || exit 1\n\
         while IFS= read -r rule; do\n\
         \tcase $rule in '' | '#'*) continue ;; esac\n\
         \tname=${{rule#?}} name=${{name%%\"${{rule%\"$name\"}}\"*}}\n\
         \t[ ! -e \"$d/$name\" ] || echo -1 >\"$d/$name\"\n\
         \tprintf '%s\\n' \"$rule\" >$d/register || failed=1\n\
         done <{CONF}\nexit ${{failed:-0}}\n",
        CONF_HEAD.trim_start_matches("# "),
    )
}

/// What was written, by path: each content the file may have, as SHA-256.
///
/// Two during an upgrade: a run that is killed leaves either.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Manifest(BTreeMap<PathBuf, Vec<String>>);

impl Manifest {
    fn parse(text: &str) -> Self {
        let mut this = Self::default();
        for (sha256, path) in text.split('\n').filter_map(|line| line.split_once("  ")) {
            this.add(Path::new(path), sha256);
        }
        this
    }

    fn add(&mut self, path: &Path, sha256: &str) {
        let known = self.0.entry(path.into()).or_default();
        if !known.iter().any(|other| other == sha256) {
            known.push(sha256.to_owned());
        }
    }

    /// In the format of sha256sum, so that it can be checked by hand.
    fn text(&self) -> String {
        let lines =
            self.0.iter().flat_map(|(path, known)| known.iter().map(move |sha256| (sha256, path)));
        lines.fold(String::new(), |mut text, (sha256, path)| {
            let _ = writeln!(text, "{sha256}  {}", path.display());
            text
        })
    }
}

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
    let install = &request.install;
    let requested = plan::requested(&install.list, context.emulators);
    if requested.is_empty() {
        return Err(Error::NoEmulators);
    }

    // The tree's system runs on this very kernel and CPU, or on one like it.
    let system = obstacle::system(&tree)?;
    let arches = requested.iter().filter_map(|item| item.as_ref().ok().copied());
    let also = system.filter(|arch| !requested.contains(&Ok(arch)));
    let state = context.observe(&arches.chain(also).collect::<Vec<_>>());
    let boot = Boot::of(&tree);
    obstacle::check(&tree, system, &state, lib_dir, context.root)?;

    let (plan, registrations) =
        plan_emulators(&requested, install, context.emulators, &state, lib_dir);
    plan::notes(&install.list).iter().for_each(|note| context.log.news(&format!("note: {note}")));
    if request.dry_run {
        let rules = parse_conf(&tree.read(Path::new(CONF))?);
        let all: Vec<_> = registrations.values().collect();
        let files = plan_files(&all, rules, boot, lib_dir);
        crate::report::written(write!(context.out, "{plan}{files}"))?;
        return context.last_word("persist", plan.refused());
    }

    let _alone = Alone::take(&tree, lib_dir, context)?;
    // Another run may have been at work until now.
    obstacle::elsewhere(&tree, lib_dir)?;
    write(context, &tree, lib_dir, (plan, registrations), (boot, &state))
}

/// Carries the plan out.
fn write(
    context: &mut Context<'_>,
    tree: &Tree,
    lib_dir: &Path,
    (plan, registrations): (Plan<'_>, Registrations),
    (boot, state): (Boot, &State),
) -> Result<(), Error> {
    let rules = parse_conf(&tree.read(Path::new(CONF))?);
    let there = lib_dir.ancestors().find(|dir| tree.has(dir)).unwrap_or(lib_dir);
    let mut writing = Writing::new(tree, lib_dir)?;
    let mut results = Vec::new();
    let mut made = Vec::new();
    for step in plan.steps {
        let registration = registrations.get(&step.subject);
        let result = writing.carry_out(step, context.emulators);
        context.tell("persisting", std::slice::from_ref(&result));
        if !matches!(result.outcome, Outcome::Failed(_)) {
            made.extend(registration);
        }
        results.push(result);
    }
    for step in plan_files(&made, rules, boot, lib_dir).steps {
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

/// Keeps other runs from writing to the same system while it lives.
///
/// It is a lock on a file that only root can open, in the directory that all runs write to: a container
/// and its host share that, and nobody else can hold them up.
struct Alone<'a> {
    tree: &'a Tree,
    _file: File,
}

/// Its name ends as none that systemd-binfmt reads.
const LOCK: &str = "/etc/binfmt.d/.zz-binfmtctl.lock";

impl<'a> Alone<'a> {
    /// `None` where the file system has no locks, as NFS may; one goes on without.
    fn take(
        tree: &'a Tree,
        lib_dir: &Path,
        context: &mut Context<'_>,
    ) -> Result<Option<Self>, Error> {
        let path = Path::new(LOCK);
        loop {
            let file =
                tree.private_file(path).map_err(|error| explain(tree, lib_dir, path, error))?;
            match lock_file(&file, || context.log.line("waiting for another binfmtctl persist")) {
                Turn::NoLocks => return Ok(None),
                Turn::Never => {
                    return Err(Error::Host {
                        what: "another binfmtctl persist does not come to its end".to_owned(),
                        hint: format!("find it: fuser {}", tree.outside(path)),
                    });
                }
                // The other one removed the file at its end.
                _ if !tree.is_at(path, &file) => {}
                _ => return Ok(Some(Self { tree, _file: file })),
            }
        }
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        let _ = self.tree.remove(Path::new(LOCK));
    }
}

/// Registrations by what their items are called.
type Registrations = BTreeMap<String, Registration>;

/// Plans the emulators' files, and what is to be registered of them.
fn plan_emulators<'a>(
    requested: &[Result<&'static Arch, Unknown>],
    install: &Install,
    emulators: &'a Emulators,
    state: &State,
    lib_dir: &Path,
) -> (Plan<'a>, Registrations) {
    let flags = plan::flags(&install.options, state);
    let mut registrations = Registrations::new();
    let mut steps = Vec::new();
    for item in requested {
        let (subject, action) = match item {
            Err(name) => {
                let refuse = Action::Refuse(Error::UnknownArch(name.clone()));
                (name.shown().to_owned(), refuse)
            }
            Ok(arch) => {
                let planned = plan_emulator(arch, &flags, emulators, state, lib_dir);
                let subject = arch.oci.to_owned();
                let action = planned.map(|(action, registration)| {
                    registrations.extend(registration.map(|it| (subject.clone(), it)));
                    action
                });
                (subject, action.unwrap_or_else(Action::Refuse))
            }
        };
        steps.push(Step { subject, action });
    }
    (Plan { steps, ..Plan::default() }, registrations)
}

fn plan_emulator<'a>(
    arch: &'static Arch,
    flags: &Flags,
    emulators: &'a Emulators,
    state: &State,
    lib_dir: &Path,
) -> Result<(Action<'a>, Option<Registration>), Error> {
    let emulator = match plan::choose(arch, emulators, state)? {
        Choice::Native(why) => return Ok((Action::Keep(why.to_owned()), None)),
        Choice::Emulator(emulator) => emulator,
    };
    let path = lib_dir.join(&emulator.name);
    let name = EntryName::new(&emulator.name)?;
    let registration = Registration::new(name, arch, &path, flags.clone())?;
    let write = Action::Write { path, mode: 0o755, content: Content::Emulator(emulator) };
    Ok((write, Some(registration)))
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
        _ if !changed && active => "unchanged, and active now".to_owned(),
        _ if !changed => "unchanged".to_owned(),
        Boot::Present => {
            format!(
                "systemd-binfmt registers {these} at the next boot, and at each of its restarts"
            )
        }
        Boot::Systemd | Boot::OpenRc => {
            format!("the service binfmtctl registers {these} at the next boot")
        }
        Boot::Unknown => format!(
            "note: found neither systemd nor OpenRC there: let its boot run `sh {}`",
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
        context.log.news("nothing was persisted there");
        return Ok(());
    }
    let lib_dir = manifest.parent().unwrap_or(Path::new("/"));
    let _alone = if dry_run { None } else { Alone::take(tree, lib_dir, context)? };
    let written = Manifest::parse(&tree.read(manifest)?);
    if !dry_run {
        tree.sweep(manifest);
    }
    let (mine, left) = whose(tree, manifest, &written)?;
    if dry_run {
        let text: String = mine.iter().map(|path| format!("remove {}\n", path.display())).collect();
        return crate::report::written(context.out.write_all(text.as_bytes()));
    }
    let mut results = Vec::new();
    let mut result = |path: &Path, outcome| {
        let subject = tree.shown(path).display().to_string();
        results.push(StepResult { subject, arch: None, outcome });
    };
    for boot in [Boot::Systemd, Boot::OpenRc] {
        // Only together with the file it points to.
        if let Some((link, _)) = boot.link()
            && boot.files(Path::new("/")).iter().any(|(path, ..)| mine.contains(&path.as_path()))
            && let Err(error) = tree.remove(Path::new(link))
        {
            result(Path::new(link), Outcome::Failed(error));
        }
    }
    for path in &mine {
        tree.sweep(path);
        match tree.remove(path) {
            Ok(()) => context.log.news(&format!("removed {}", tree.shown(path).display())),
            Err(error) => result(path, Outcome::Failed(error)),
        }
    }
    for (path, why) in &left {
        let shown = tree.shown(path);
        context.log.line(&format!("warning: {} {why} and is left", shown.display()));
    }
    let conf_left = left.iter().any(|(path, _)| *path == Path::new(CONF));
    if conf_left {
        result(Path::new(CONF), Outcome::Failed(Error::ChangedSince));
    } else if results.is_empty() {
        tree.remove(manifest)?;
        // Not empty if a file was left.
        let _ = tree.remove(manifest.parent().unwrap_or(Path::new("/")));
    }
    context
        .log
        .line("registrations of the running system stay: `binfmtctl --uninstall` removes those");
    context.verdict("remove", results)
}

/// Of what was written: what is as it was written, and what is not or is still needed, with the reason.
type Whose<'a> = (Vec<&'a Path>, Vec<(&'a Path, &'static str)>);

fn whose<'a>(tree: &Tree, manifest: &Path, written: &'a Manifest) -> Result<Whose<'a>, Error> {
    let (mut mine, mut left) = (Vec::new(), Vec::new());
    for (path, known) in &written.0 {
        match There::look(tree, path, MOST)? {
            There::Nothing => {}
            _ if !is_written(path, manifest) => {
                left.push((path.as_path(), "is no file of persist's"))
            }
            There::File(sha256) if known.contains(&sha256) => mine.push(path.as_path()),
            _ => left.push((path.as_path(), "was changed since")),
        }
    }
    // A file of registrations that stays goes on naming emulators.
    if left.iter().any(|(path, _)| *path == Path::new(CONF)) {
        let rules = parse_conf(&tree.read(Path::new(CONF))?);
        let named = |path: &&Path| rules.values().any(|rule| interpreter(rule) == Some(*path));
        let needed: Vec<_> = mine.iter().copied().filter(named).collect();
        mine.retain(|path| !needed.contains(path));
        left.extend(needed.into_iter().map(|path| (path, "is named in it")));
    }
    Ok((mine, left))
}

/// Whether a run that has its manifest there can have written this file: who can write the manifest is
/// not to name others.
fn is_written(path: &Path, manifest: &Path) -> bool {
    path.parent() == manifest.parent() || [CONF, UNIT, INIT].map(Path::new).contains(&path)
}

/// What lies where a file of ours is to be.
#[derive(PartialEq, Eq)]
enum There {
    Nothing,
    /// A file with this SHA-256.
    File(String),
    /// Something that is none of ours: no file, or a longer one.
    Other,
}

/// No file of ours is longer, in bytes.
const MOST: u64 = 1 << 28;

impl There {
    fn look(tree: &Tree, path: &Path, most: u64) -> Result<Self, Error> {
        match tree.open_file(path, most) {
            Ok(None) => Ok(Self::Nothing),
            Ok(Some(file)) => digest(file.take(most))
                .map(Self::File)
                .map_err(|error| Error::system(Op::Read, tree.shown(path), error)),
            Err(Error::Host { .. }) => Ok(Self::Other),
            Err(error) => Err(error),
        }
    }
}

/// The file that names all that was written, in the directory of emulators.
const MANIFEST: &str = "manifest";

/// One run's writing.
struct Writing<'a> {
    tree: &'a Tree,
    lib_dir: &'a Path,
    manifest: PathBuf,
    written: Manifest,
    changed: bool,
    /// Files of somebody else that were in the way, and where they are now.
    kept: Vec<(PathBuf, PathBuf)>,
}

impl<'a> Writing<'a> {
    fn new(tree: &'a Tree, lib_dir: &'a Path) -> Result<Self, Error> {
        let manifest = lib_dir.join(MANIFEST);
        let written = Manifest::parse(&tree.read(&manifest)?);
        Ok(Self { tree, lib_dir, manifest, written, changed: false, kept: Vec::new() })
    }

    /// Carries out one step of a plan.
    fn carry_out(&mut self, step: Step<'_>, all: &Emulators) -> StepResult {
        let outcome = match step.action {
            Action::Keep(why) => Ok(Outcome::Unchanged(why)),
            Action::Refuse(error) => Err(error),
            Action::Write { path, mode, content } => {
                let written = match content {
                    Content::Emulator(emulator) => self.emulator(&path, mode, emulator, all),
                    Content::Text(text) => self.text(&path, mode, &text),
                };
                written.map(|new| match new {
                    true => Outcome::Written(path.display().to_string()),
                    false => Outcome::Unchanged("unchanged".to_owned()),
                })
            }
            Action::Link { path, to } => self
                .tree
                .link(&path, &to.to_string_lossy())
                .map(|()| Outcome::Written(path.display().to_string()))
                .map_err(|error| explain(self.tree, self.lib_dir, &path, error)),
            _ => Err(Error::NotTried),
        };
        let outcome = outcome.unwrap_or_else(Outcome::Failed);
        StepResult { subject: step.subject, arch: None, outcome }
    }

    /// Notes what is about to be written, before it is: what `--remove` does not know of, it leaves.
    ///
    /// A file that others made or changed gets another name before it loses this one.
    fn note(&mut self, path: &Path, sha256: &str) -> Result<(), Error> {
        let ours = match There::look(self.tree, path, MOST)? {
            There::Nothing => true,
            There::File(there) => {
                there == sha256
                    || self.written.0.get(path).is_some_and(|known| known.contains(&there))
            }
            There::Other => false,
        };
        if !ours {
            let kept = self.tree.keep(path).map_err(|error| self.explain(path, error))?;
            self.kept.push((path.into(), kept));
        }
        let mut written = self.written.clone();
        written.add(path, sha256);
        self.tree
            .write_text(&self.manifest, 0o644, &written.text())
            .map_err(|error| self.explain(&self.manifest, error))?;
        self.written = written;
        self.changed = true;
        Ok(())
    }

    fn has(&self, path: &Path, sha256: &str, size: u64) -> Result<bool, Error> {
        let same = There::look(self.tree, path, size)? == There::File(sha256.to_owned());
        // Something that is as we want it, but not of our making, stays somebody else's. And what
        // others may write to will not stay as it is.
        Ok(same
            && self.written.0.get(path).is_some_and(|known| known.iter().any(|one| one == sha256))
            && self.tree.look(path).is_ok_and(|seen| {
                [0, geteuid().as_raw()].contains(&seen.owner) && seen.mode & 0o022 == 0
            }))
    }

    /// Writes an emulator; returns whether it was not there already.
    fn emulator(
        &mut self,
        path: &Path,
        mode: u32,
        emulator: &Emulator,
        all: &Emulators,
    ) -> Result<bool, Error> {
        let sha256 = emulator.sha256().map_err(|error| Error::system(Op::Read, path, error))?;
        if self.has(path, &sha256, emulator.size)? {
            return Ok(false);
        }
        self.note(path, &sha256)?;
        let written = self.tree.write(path, mode, |file| {
            all.unpack(vec![(emulator, file)]).pop().unwrap_or(Err(Error::NoEmulators))
        });
        written.map(|()| true).map_err(|error| self.explain(path, error))
    }

    /// Writes a text; returns whether it was not there already.
    fn text(&mut self, path: &Path, mode: u32, text: &str) -> Result<bool, Error> {
        let sha256 =
            digest(text.as_bytes()).map_err(|error| Error::system(Op::Read, path, error))?;
        if self.has(path, &sha256, text.len() as u64)? {
            return Ok(false);
        }
        self.note(path, &sha256)?;
        let written = self.tree.write_text(path, mode, text);
        written.map(|()| true).map_err(|error| self.explain(path, error))
    }

    /// Forgets contents that files had before an upgrade: what is there now is what counts.
    fn finish(&mut self) -> Result<(), Error> {
        let mut now = Manifest::default();
        for (path, known) in &self.written.0 {
            let there = match known.len() {
                0 | 1 => None,
                _ => Some(There::look(self.tree, path, MOST)?),
            };
            let there = there.and_then(|there| match there {
                There::File(sha256) if known.contains(&sha256) => Some(sha256),
                _ => None,
            });
            match there {
                Some(there) => now.add(path, &there),
                None => known.iter().for_each(|sha256| now.add(path, sha256)),
            }
        }
        self.written = now;
        let text = self.written.text();
        if text.is_empty() || self.tree.read(&self.manifest)? == text {
            return Ok(());
        }
        self.tree
            .write_text(&self.manifest, 0o644, &text)
            .map_err(|error| self.explain(&self.manifest, error))
    }

    /// Says which files were in the way.
    fn tell(&self, context: &mut Context<'_>) {
        for (path, kept) in &self.kept {
            let (path, kept) = (self.tree.shown(path), self.tree.shown(kept));
            context.log.line(&format!(
                "warning: {} was not as persist had left it: kept as {}",
                path.display(),
                kept.display()
            ));
        }
    }

    fn explain(&self, path: &Path, error: Error) -> Error {
        explain(self.tree, self.lib_dir, path, error)
    }
}

/// A host that `path` cannot be written to needs another place, or another way.
fn explain(tree: &Tree, lib_dir: &Path, path: &Path, error: Error) -> Error {
    use Errno::{EACCES, EDQUOT, ENOSPC, EPERM, EROFS};
    let Error::System { op: Op::Write, errno, .. } = error else { return error };
    let hint = match errno {
        EROFS if path.starts_with(lib_dir) => {
            "an immutable host: choose a writable place with --lib-dir; `hold` needs no files"
        }
        EROFS => {
            "an immutable host: declare binfmt in its own configuration; `hold` needs no files"
        }
        EPERM | EACCES => "run it as root; if it is, `lsattr -d` shows immutable directories",
        ENOSPC | EDQUOT => {
            "make room there, choose another place with --lib-dir, or persist fewer platforms"
        }
        _ => return error,
    };
    // The path in the error may be the one that the emulator has elsewhere.
    let what = Error::system(Op::Write, tree.shown(path), errno).to_string();
    Error::Host { what, hint: hint.to_owned() }
}

/// The registrations in a file of ours, by entry.
fn parse_conf(text: &str) -> BTreeMap<String, String> {
    let rules = text.split('\n').filter(|line| !line.is_empty() && !line.starts_with('#'));
    rules
        .filter_map(|rule| {
            let (name, _) = Registration::name_and_interpreter(rule)?;
            Some((name.to_owned(), rule.to_owned()))
        })
        .collect()
}

/// The emulator that a rule names.
fn interpreter(rule: &str) -> Option<&Path> {
    Registration::name_and_interpreter(rule).map(|(_, interpreter)| interpreter)
}

fn conf(rules: &BTreeMap<String, String>) -> String {
    // In the order of the architectures, so that two runs write the same.
    let position =
        |name: &str| ARCHES.iter().position(|arch| name.ends_with(&arch.emulator_name()));
    let mut rules: Vec<_> = rules.iter().collect();
    rules.sort_by_key(|(name, _)| (position(name), (*name).clone()));
    rules.iter().fold(CONF_HEAD.to_owned(), |mut text, (_, rule)| {
        let _ = writeln!(text, "{rule}");
        text
    })
}

/// Whether both readers give back what they wrote, whatever they read; for [`crate::fuzzing`].
pub(crate) fn readers_are_inverses(text: &str) -> bool {
    let manifest = Manifest::parse(text);
    let rules = parse_conf(text);
    Manifest::parse(&manifest.text()) == manifest && parse_conf(&conf(&rules)) == rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_is_its_own_inverse() {
        let text = "11  /a\n22  /b\n33  /b\n";
        assert_eq!(Manifest::parse(text).text(), text);
    }

    #[test]
    fn a_conf_is_read_as_it_was_written() {
        let text = format!("{CONF_HEAD}:qemu-aarch64:M:0:a:b:/x:F\n:qemu-arm:M:0:a:b:/y:F\n");
        let rules = parse_conf(&text);
        assert_eq!(conf(&rules), text);
        assert_eq!(interpreter(&rules["qemu-arm"]), Some(Path::new("/y")));
    }
}
