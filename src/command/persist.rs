//! `persist`: files on the host's disk from which the next boot registers.
//!
//! Emulators go to a directory of their own, registrations to binfmt.d, where systemd-binfmt looks
//! for them; where that does not run, a service of ours reads the same file. A manifest names all
//! that was written, so that `--remove` takes away that and nothing else.

mod obstacle;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::Session;
use crate::apply::StepResult;
use crate::arch::{ARCHES, Arch, HOST};
use crate::cli::PersistArgs;
use crate::emulator::{Emulator, digest};
use crate::entry::{EntryName, Registration};
use crate::error::{Error, Op};
use crate::host::observe;
use crate::namespace::look;
use crate::plan::{self, Options};
use crate::probe;
use crate::state::{Instance, Server, State};
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
        let any = |paths: &[&str]| paths.iter().any(|path| tree.exists(Path::new(path)));
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
         d=/proc/sys/fs/binfmt_misc\n\
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
#[derive(Debug, Default, PartialEq, Eq)]
struct Manifest(BTreeMap<PathBuf, Vec<String>>);

impl Manifest {
    fn parse(text: &str) -> Self {
        let mut this = Self::default();
        for (sha256, path) in text.lines().filter_map(|line| line.split_once("  ")) {
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

impl Session<'_> {
    /// Writes, or with `--remove` takes away, what the next boot registers from.
    ///
    /// # Errors
    /// The first thing that went wrong, after all items were tried.
    pub(crate) fn persist(&mut self, args: &PersistArgs) -> Result<(), Error> {
        obstacle::lib_dir(&args.lib_dir)?;
        let tree = Tree::open(&args.root)?;
        let _alone = tree.lock();
        obstacle::elsewhere(&tree, &args.lib_dir)?;
        let manifest = args.lib_dir.join("manifest");
        if args.remove {
            return self.unpersist(&tree, &manifest);
        }
        let options = Options {
            flags: args.flags.as_deref().map(crate::entry::Flags::parse).transpose()?,
            no_credentials: args.no_credentials,
            replace: false,
        };
        let list = args.install.as_deref().unwrap_or("all");
        let requested = plan::requested(list, &self.emulators)?;
        if requested.is_empty() {
            return Err(Error::NoEmulators);
        }

        // The tree's system runs on this very kernel and CPU, or on one like it.
        let mut state = observe(self.root);
        let system = obstacle::system(&tree)?;
        let arches = requested.iter().filter_map(|item| item.as_ref().ok().copied());
        let also = system.filter(|arch| !requested.contains(&Ok(arch)));
        state.probes = probe::probe(self.root, arches.chain(also), None)?;

        let mut job = Job {
            tree: &tree,
            lib_dir: &args.lib_dir,
            written: Manifest::parse(&tree.read(&manifest)?),
            manifest,
            changed: false,
            kept: Vec::new(),
            registrations: Vec::new(),
        };
        let boot = Boot::of(&tree);
        obstacle::check(&tree, boot, system, &state, &job)?;
        let mut rules = parse_conf(&tree.read(Path::new(CONF))?);
        let mut results = Vec::new();
        for item in &requested {
            let (subject, result) = match item {
                Err(name) => {
                    let name = Error::shorten(name);
                    (name.clone(), Err(Error::UnknownArch(name)))
                }
                Ok(arch) => (
                    arch.oci.to_owned(),
                    self.persist_one(arch, &options, &state, &mut job, &mut rules),
                ),
            };
            let result = StepResult {
                subject,
                result,
                arch: item.as_ref().ok().copied(),
                registered: false,
            };
            self.tell("persisting", &result);
            results.push(("persist", result));
        }

        let script_path = args.lib_dir.join("register");
        job.text(&(script_path.clone(), 0o755, script()))?;
        job.text(&(CONF.into(), 0o644, conf(&rules)))?;
        boot.files(&script_path).iter().try_for_each(|wanted| job.text(wanted))?;
        if let Some((link, to)) = boot.link() {
            let link = Path::new(link);
            tree.link(link, to).map_err(|error| job.explain(link, error))?;
        }
        job.finish()?;

        for (path, kept) in &job.kept {
            let (path, kept) = (tree.shown(path), tree.shown(kept));
            self.log(&format!(
                "warning: {} was not as persist had left it: kept as {}",
                path.display(),
                kept.display()
            ));
        }
        let active = self.are_active(&job.registrations);
        self.log(&match boot {
            _ if !job.changed && active => "unchanged, and active now".to_owned(),
            _ if !job.changed => "unchanged".to_owned(),
            Boot::Present => {
                "systemd-binfmt registers these at the next boot, and at each of its restarts"
                    .to_owned()
            }
            Boot::Systemd | Boot::OpenRc => {
                "the service binfmtctl registers these at the next boot".to_owned()
            }
            Boot::Unknown => format!(
                "note: found neither systemd nor OpenRC there: let its boot run `sh {}`",
                script_path.display()
            ),
        });
        // New emulators are not what an entry of before has open.
        if job.changed || !active {
            self.log(&format!(
                "to use them now, run on that machine: sh {}",
                script_path.display()
            ));
        }
        self.verdict(results)
    }

    /// Whether the running kernel has all of these.
    fn are_active(&self, registrations: &[Registration]) -> bool {
        let instance = self.root.path(look(self.root, &observe(self.root)));
        let instance = Instance::read(&instance).unwrap_or_default();
        instance.enabled
            && registrations.iter().all(|registration| {
                instance.entry(registration.name().as_str()).is_some_and(|entry| {
                    registration.is(entry) && entry.interpreter == registration.interpreter()
                })
            })
    }

    fn persist_one(
        &self,
        arch: &'static Arch,
        options: &Options,
        state: &State,
        job: &mut Job<'_>,
        rules: &mut BTreeMap<String, String>,
    ) -> Result<String, Error> {
        if arch == HOST {
            return Ok("this machine's own architecture, which is never registered".to_owned());
        }
        if state.server(arch) == Some(Server::Native) {
            return Ok("runs natively on this machine and is not registered".to_owned());
        }
        let emulator = self.emulators.get(arch).ok_or(Error::NoEmulators)?;
        let path = job.lib_dir.join(&emulator.name);
        let name = EntryName::new(&emulator.name)?;
        let registration = Registration::new(name, arch, &path, options.flags(state)?)?;
        let new = job.emulator(&path, emulator, &self.emulators)?;
        let rule = registration.to_string();
        job.registrations.push(registration);
        let new_rule = rules.insert(emulator.name.clone(), rule.clone()) != Some(rule);
        Ok(if new || new_rule { path.display().to_string() } else { "unchanged".to_owned() })
    }

    fn unpersist(&mut self, tree: &Tree, manifest: &Path) -> Result<(), Error> {
        let written = Manifest::parse(&tree.read(manifest)?);
        tree.sweep(manifest);
        if written.0.is_empty() {
            self.log("nothing was persisted there");
            return Ok(());
        }
        for boot in [Boot::Systemd, Boot::OpenRc] {
            // Only together with the file it points to.
            if let Some((link, _)) = boot.link()
                && boot.files(Path::new("/")).iter().any(|(path, ..)| written.0.contains_key(path))
            {
                tree.remove(Path::new(link))?;
            }
        }
        for (path, known) in &written.0 {
            tree.sweep(path);
            let Some(file) = tree.open_file(path)? else { continue };
            let sha256 =
                digest(file).map_err(|error| Error::system(Op::Read, tree.shown(path), error))?;
            if known.contains(&sha256) {
                tree.remove(path)?;
                self.log(&format!("removed {}", tree.shown(path).display()));
            } else {
                self.log(&format!(
                    "warning: {} was changed since and is left",
                    tree.shown(path).display()
                ));
            }
        }
        tree.remove(manifest)?;
        // Not empty if a file was left.
        let _ = tree.remove(manifest.parent().unwrap_or(Path::new("/")));
        self.log("registrations of the running system stay: `binfmtctl --uninstall` removes those");
        Ok(())
    }
}

/// One run's writing.
struct Job<'a> {
    tree: &'a Tree,
    lib_dir: &'a Path,
    manifest: PathBuf,
    written: Manifest,
    changed: bool,
    /// Files of somebody else that were in the way, and where they are now.
    kept: Vec<(PathBuf, PathBuf)>,
    /// What is now on disk.
    registrations: Vec<Registration>,
}

impl Job<'_> {
    /// Notes what is about to be written, before it is: what `--remove` does not know of, it leaves.
    ///
    /// A file that others made or changed gets another name before it loses this one.
    fn note(&mut self, path: &Path, sha256: &str) -> Result<(), Error> {
        if let Some(file) = self.tree.open_file(path)? {
            let there = digest(file)
                .map_err(|error| Error::system(Op::Read, self.tree.shown(path), error))?;
            let known = self.written.0.get(path).is_some_and(|known| known.contains(&there));
            if !known && there != sha256 {
                let kept = self.tree.keep(path).map_err(|error| self.explain(path, error))?;
                self.kept.push((path.into(), kept));
            }
        }
        self.written.add(path, sha256);
        self.changed = true;
        self.tree
            .write_text(&self.manifest, 0o644, &self.written.text())
            .map_err(|error| self.explain(&self.manifest, error))
    }

    fn has(&self, path: &Path, sha256: &str) -> Result<bool, Error> {
        let file = self.tree.open_file(path)?;
        let same = file.and_then(|file| digest(file).ok()).is_some_and(|other| other == sha256);
        // Something that is as we want it, but not of our making, stays somebody else's.
        Ok(same
            && self.written.0.get(path).is_some_and(|known| known.iter().any(|one| one == sha256)))
    }

    fn emulator(
        &mut self,
        path: &Path,
        emulator: &Emulator,
        all: &crate::emulator::Emulators,
    ) -> Result<bool, Error> {
        let sha256 = emulator.sha256().map_err(|error| Error::system(Op::Read, path, error))?;
        if self.has(path, &sha256)? {
            return Ok(false);
        }
        self.note(path, &sha256)?;
        let written = self.tree.write(path, 0o755, |file| {
            all.unpack(vec![(emulator, file)]).pop().unwrap_or(Err(Error::NoEmulators))
        });
        written.map(|()| true).map_err(|error| self.explain(path, error))
    }

    fn text(&mut self, (path, mode, text): &Wanted) -> Result<(), Error> {
        let sha256 =
            digest(text.as_bytes()).map_err(|error| Error::system(Op::Read, path, error))?;
        if self.has(path, &sha256)? {
            return Ok(());
        }
        self.note(path, &sha256)?;
        self.tree.write_text(path, *mode, text).map_err(|error| self.explain(path, error))
    }

    /// Forgets the contents that were there before an upgrade.
    fn finish(&mut self) -> Result<(), Error> {
        for known in self.written.0.values_mut() {
            known.drain(..known.len() - 1);
        }
        let text = self.written.text();
        if self.tree.read(&self.manifest)? == text {
            return Ok(());
        }
        self.tree
            .write_text(&self.manifest, 0o644, &text)
            .map_err(|error| self.explain(&self.manifest, error))
    }

    /// A host that `path` cannot be written to needs another place, or another way.
    fn explain(&self, path: &Path, error: Error) -> Error {
        use Errno::{EACCES, EDQUOT, ENOSPC, EPERM, EROFS};
        let Error::System { op: Op::Write, errno, .. } = error else { return error };
        let hint = match errno {
            EROFS if path.starts_with(self.lib_dir) => {
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
        let what = Error::system(Op::Write, self.tree.shown(path), errno).to_string();
        Error::Host { what, hint: hint.to_owned() }
    }
}

/// The registrations in a file of ours, by entry.
fn parse_conf(text: &str) -> BTreeMap<String, String> {
    let rules = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    rules
        .filter_map(|rule| {
            let delimiter = rule.chars().next()?;
            let name = rule[delimiter.len_utf8()..].split(delimiter).next()?;
            Some((name.to_owned(), rule.to_owned()))
        })
        .collect()
}

/// The emulator that a rule names.
fn interpreter(rule: &str) -> Option<&Path> {
    rule.chars().next().and_then(|delimiter| rule.split(delimiter).nth(6)).map(Path::new)
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
