//! The files of `persist`: which are there, whose they are, writing them so that `--remove` knows them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::geteuid;

use super::boot::{INIT, UNIT};
use super::{CONF, CONF_HEAD};
use crate::apply::{Outcome, StepResult, Turn, lock_file};
use crate::arch::ARCHES;
use crate::command::Context;
use crate::emulator::{Emulators, digest};
use crate::entry::Registration;
use crate::error::{Error, Op};
use crate::plan::{Action, Content, Job, Step};
use crate::tree::Tree;

/// What was written, by path: each content the file may have, as SHA-256.
///
/// Two during an upgrade: a run that is killed leaves either.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Manifest(BTreeMap<PathBuf, Vec<String>>);

impl Manifest {
    pub(super) fn parse(text: &str) -> Self {
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

    /// All files in it that `persist` may have written, also those that are not there: a run that is killed
    /// names a file first, and may leave half of it beside its place.
    pub(super) fn written_by_persist(&self, manifest: &Path) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path).filter(move |path| is_written(path, manifest))
    }

    /// In the format of sha256sum, so that it can be checked by hand.
    pub(super) fn text(&self) -> String {
        let lines =
            self.0.iter().flat_map(|(path, known)| known.iter().map(move |sha256| (sha256, path)));
        lines.fold(String::new(), |mut text, (sha256, path)| {
            let _ = writeln!(text, "{sha256}  {}", path.display());
            text
        })
    }
}

/// Keeps other runs from writing to the same system while it lives.
///
/// It is a lock on a file that only root can open, in the directory that all runs write to: a container
/// and its host share that, and nobody else can hold them up.
pub(super) struct Alone<'a> {
    tree: &'a Tree,
    _file: File,
}

/// Its name ends as none that systemd-binfmt reads.
const LOCK: &str = "/etc/binfmt.d/.zz-binfmtctl.lock";

impl<'a> Alone<'a> {
    /// `None` where the file system has no locks, as NFS may; one goes on without.
    pub(super) fn take(
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
                        what: "another binfmtctl persist is still running".to_owned(),
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

/// Of what was written.
#[derive(Default)]
pub(super) struct Whose<'a> {
    /// What is as it was written.
    pub(super) mine: Vec<&'a Path>,
    /// What is not, or is still needed; with the reason.
    pub(super) left: Vec<(&'a Path, &'static str)>,
    /// What cannot be looked at.
    pub(super) unseen: Vec<(&'a Path, Error)>,
}

pub(super) fn whose<'a>(
    tree: &Tree,
    manifest: &Path,
    written: &'a Manifest,
) -> Result<Whose<'a>, Error> {
    let mut whose = Whose::default();
    let Whose { mine, left, unseen } = &mut whose;
    for (path, known) in &written.0 {
        match There::look(tree, path, MOST) {
            Ok(There::Nothing) => {}
            Ok(_) if !is_written(path, manifest) => left.push((path, "is no file of persist's")),
            Ok(There::File(sha256)) if known.contains(&sha256) => mine.push(path),
            Ok(_) => left.push((path, "was changed since")),
            Err(error) => unseen.push((path, error)),
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
    Ok(whose)
}

/// Whether `persist` writes this file. A manifest may have been changed: a file that it names but that
/// `persist` never writes is not removed.
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
pub(super) const MANIFEST: &str = "manifest";

/// One run's writing.
pub(super) struct Writing<'a> {
    tree: &'a Tree,
    pub(super) lib_dir: &'a Path,
    manifest: PathBuf,
    written: Manifest,
    pub(super) changed: bool,
    /// Files of somebody else that were in the way, and where they are now.
    kept: Vec<(PathBuf, PathBuf)>,
}

impl<'a> Writing<'a> {
    pub(super) fn new(tree: &'a Tree, lib_dir: &'a Path) -> Result<Self, Error> {
        let manifest = lib_dir.join(MANIFEST);
        let written = Manifest::parse(&tree.read(&manifest)?);
        Ok(Self { tree, lib_dir, manifest, written, changed: false, kept: Vec::new() })
    }

    /// What becomes of a step as things are now, where that is not what was planned.
    pub(super) fn compare(&self, step: &Step<'_>) -> Option<Action<'static>> {
        let done = match &step.action {
            Action::Write { path, content, .. } => {
                wanted(path, content).and_then(|(sha256, size)| self.has(path, &sha256, size))
            }
            Action::Link { path, .. } => Ok(self.tree.link_text(path).is_some()),
            _ => Ok(false),
        };
        match done {
            Ok(false) => None,
            Ok(true) => Some(Action::Keep("unchanged".to_owned())),
            Err(error) => Some(Action::Refuse(error)),
        }
    }

    /// Carries out one step of a plan.
    pub(super) fn carry_out(&mut self, step: &Step<'_>, all: &Emulators) -> StepResult {
        let outcome = match &step.action {
            Action::Keep(why) => Ok(Outcome::Unchanged(why.clone())),
            Action::Refuse(error) => Err(error.clone()),
            Action::Write { path, mode, content } => {
                self.put(path, *mode, content, all).map(|new| match new {
                    true => Outcome::Written(path.display().to_string()),
                    false => Outcome::Unchanged("unchanged".to_owned()),
                })
            }
            Action::Link { path, to } => self
                .tree
                .link(path, &to.to_string_lossy())
                .map(|()| Outcome::Written(path.display().to_string()))
                .map_err(|error| self.explain(path, error)),
            _ => Err(Error::NotTried),
        };
        let outcome = outcome.unwrap_or_else(Outcome::Failed);
        StepResult { subject: step.subject.clone(), arch: None, outcome }
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
        self.write_manifest(&written)?;
        self.written = written;
        self.changed = true;
        Ok(())
    }

    /// Whether a file is there already.
    fn has(&self, path: &Path, sha256: &str, size: u64) -> Result<bool, Error> {
        // Another file, or a link, gets another name; a directory cannot have two.
        if self.tree.rights(path).is_some() && self.tree.link_text(path).is_none() {
            return Err(Error::Host {
                what: format!("{} is a directory", self.tree.shown(path).display()),
                hint: "it is none that binfmtctl makes: move it away".to_owned(),
            });
        }
        let same = There::look(self.tree, path, size)? == There::File(sha256.to_owned());
        // Something that is as we want it, but not of our making, stays somebody else's. And what
        // others may write to will not stay as it is.
        Ok(same
            && self.written.0.get(path).is_some_and(|known| known.iter().any(|one| one == sha256))
            && self.tree.look(path).is_ok_and(|seen| {
                [0, geteuid().as_raw()].contains(&seen.owner) && seen.mode & 0o022 == 0
            }))
    }

    /// Writes a file; returns whether it was not there already.
    fn put(
        &mut self,
        path: &Path,
        mode: u32,
        content: &Content<'_>,
        all: &Emulators,
    ) -> Result<bool, Error> {
        let (sha256, size) = wanted(path, content)?;
        if self.has(path, &sha256, size)? {
            return Ok(false);
        }
        self.note(path, &sha256)?;
        let written = match content {
            Content::Emulator(Job { emulator, .. }) => self.tree.write(path, mode, |file| {
                all.unpack(vec![(*emulator, file)]).pop().unwrap_or(Err(Error::NoEmulators))
            }),
            Content::Text(text) => self.tree.write_text(path, mode, text),
        };
        written.map(|()| true).map_err(|error| self.explain(path, error))
    }

    /// Forgets contents that files had before an upgrade: what is there now is what counts.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        for (path, known) in self.written.0.iter_mut().filter(|(_, known)| known.len() > 1) {
            match There::look(self.tree, path, MOST)? {
                There::File(sha256) if known.contains(&sha256) => *known = vec![sha256],
                _ => {}
            }
        }
        match self.written.0.is_empty() || self.tree.read(&self.manifest)? == self.written.text() {
            true => Ok(()),
            false => self.write_manifest(&self.written),
        }
    }

    fn write_manifest(&self, written: &Manifest) -> Result<(), Error> {
        self.tree
            .write_text(&self.manifest, 0o644, &written.text())
            .map_err(|error| self.explain(&self.manifest, error))
    }

    /// Says which files were in the way.
    pub(super) fn tell(&self, context: &mut Context<'_>) {
        for (path, kept) in &self.kept {
            let (path, kept) = (self.tree.shown(path), self.tree.shown(kept));
            context.log.line(&format!(
                "warning: {} was not what persist wrote: it is kept as {}",
                path.display(),
                kept.display()
            ));
        }
    }

    fn explain(&self, path: &Path, error: Error) -> Error {
        explain(self.tree, self.lib_dir, path, error)
    }
}

/// SHA-256 and size of what a file is to hold.
fn wanted(path: &Path, content: &Content<'_>) -> Result<(String, u64), Error> {
    let (sha256, size) = match content {
        Content::Emulator(Job { emulator, .. }) => (emulator.sha256(), emulator.size),
        Content::Text(text) => (digest(text.as_bytes()), text.len() as u64),
    };
    let sha256 = sha256.map_err(|error| Error::system(Op::Read, path, error))?;
    Ok((sha256, size))
}

/// A host that `path` cannot be written to needs another place, or another way.
pub(super) fn explain(tree: &Tree, lib_dir: &Path, path: &Path, error: Error) -> Error {
    use Errno::{EACCES, EDQUOT, ENOSPC, EPERM, EROFS};
    let Error::System { op: Op::Write, errno, .. } = error else { return error };
    let hint = match errno {
        EROFS if path.starts_with(lib_dir) => {
            "this system is read-only: choose a writable place with --lib-dir; `hold` needs no files"
        }
        EROFS => {
            "this system is read-only: set up binfmt_misc in its own configuration; `hold` needs no files"
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
pub(super) fn parse_conf(text: &str) -> BTreeMap<String, String> {
    let rules = text.split('\n').filter(|line| !line.is_empty() && !line.starts_with('#'));
    rules
        .filter_map(|rule| {
            let (name, _) = Registration::name_and_interpreter(rule)?;
            Some((name.to_owned(), rule.to_owned()))
        })
        .collect()
}

/// The emulator that a rule names.
pub(super) fn interpreter(rule: &str) -> Option<&Path> {
    Registration::name_and_interpreter(rule).map(|(_, interpreter)| interpreter)
}

pub(super) fn conf(rules: &BTreeMap<String, String>) -> String {
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
