//! What was observed of a host, and the questions that it answers. Pure: the readers fill it.
//!
//! Each fact is known, or unknown with the reason.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use procfs::KernelVersion;
use serde::{Deserialize, Serialize};

use crate::arch::{ARCHES, Arch, HOST, programs};
use crate::entry::Entry;
use crate::error::Error;
use crate::family::QEMU;

/// Something observed, or why it could not be.
pub(crate) type Fact<T> = Result<T, String>;

/// Who sees which binfmt_misc: it belongs to user namespaces (Linux 6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserNamespace {
    /// The host's own.
    Initial,
    /// A nested one: rootless containers, `unshare -U`.
    Nested,
}

/// What is at the mount point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// Nothing.
    None,
    /// systemd's automount, not yet triggered.
    Autofs,
    /// binfmt_misc.
    Binfmt {
        /// Whether it can be written through this mount.
        writable: bool,
    },
    /// Some other file system.
    Other(String),
}

/// Whether the kernel can have binfmt_misc.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Config {
    /// Built in.
    BuiltIn,
    /// A module.
    Module,
    /// Left out.
    Absent,
}

/// One binfmt_misc, as read through a mount of it.
#[derive(Debug, Clone, Default)]
pub struct Instance {
    /// What the file `status` says.
    pub enabled: bool,
    /// Its entries in match order, newest first.
    pub entries: Vec<Entry>,
    /// Entries that could not be read, by their files' names, with the reason.
    pub unreadable: Vec<(OsString, String)>,
}

impl Instance {
    /// The entry of that name.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// The entry that takes a program starting with `header`: the newest enabled match.
    pub fn taker(&self, header: &[u8]) -> Option<&Entry> {
        self.entries.iter().find(|entry| self.enabled && entry.enabled && entry.takes(header))
    }
}

/// Everything that was observed of a host.
#[derive(Debug)]
pub struct State {
    /// The running kernel's version.
    pub kernel: Fact<KernelVersion>,
    /// What its configuration says of binfmt_misc.
    pub config: Fact<Config>,
    /// Whether it knows the file system now: built in, or module loaded.
    pub filesystem: Fact<bool>,
    /// Whether the module lies where modprobe would find it.
    pub module: Fact<bool>,
    /// Where we are.
    pub user_namespace: Fact<UserNamespace>,
    /// Whether uid 0 of the user namespace around ours is mapped into ours.
    pub outer_root: Fact<bool>,
    /// Whether this process is what its container was started for: all mounts here go with it.
    pub main_process: bool,
    /// Whether we are uid 0 of our user namespace.
    pub root: Fact<bool>,
    /// Whether we may mount.
    pub sys_admin: Fact<bool>,
    /// Where binfmt_misc is mounted, or will be.
    pub mount_point: PathBuf,
    /// What is at the mount point.
    pub mount: Fact<Mount>,
    /// Whether we may write to the instance that is mounted there.
    pub may_write: Fact<bool>,
    /// Whether a filter of system calls keeps everybody here from mounting anything.
    pub mount_filtered: bool,
    /// Whether binfmt_misc is mounted there, too, below what hides it.
    pub covered: bool,
    /// The instance that our programs are run by, where it can be seen.
    pub instance: Fact<Instance>,
    /// Which test programs ran just now.
    pub probes: Result<Probes, Error>,
    /// What else decides; looked at only for `doctor`.
    pub surroundings: Option<Surroundings>,
}

/// Entries by the architectures whose programs they take: there may be thousands that take none.
#[derive(Debug)]
pub struct Takers<'a>(Vec<(&'static Arch, &'a Entry)>);

impl<'a> Takers<'a> {
    /// The entry that takes `arch`'s programs.
    pub fn of(&self, arch: &Arch) -> Option<&'a Entry> {
        self.0.iter().find(|(other, _)| *other == arch).map(|(_, entry)| *entry)
    }

    /// The other entries that take what `entry` would.
    pub fn instead_of(&self, entry: &Entry) -> impl Iterator<Item = Option<&'a Entry>> {
        let taker = |arch| self.of(arch).filter(|taker| taker.file != entry.file);
        entry.arches().map(taker)
    }
}

/// What runs an architecture's programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunBy<'a> {
    /// The CPU.
    Native,
    /// An entry's emulator.
    Entry(&'a Entry),
    /// An emulator whose entry cannot be seen from here.
    Hidden,
}

impl State {
    /// The kernel's version, where it could be read.
    pub fn version(&self) -> Option<KernelVersion> {
        self.kernel.as_ref().ok().copied()
    }

    /// Whether binfmt_misc is at the mount point.
    pub fn mounted(&self) -> bool {
        matches!(self.mount, Ok(Mount::Binfmt { .. }))
    }

    /// Whether registrations are to hold their instance alive, see [`crate::anchor`].
    ///
    /// In a nested user namespace that has a price: an instance that is held holds its namespace,
    /// and once the namespace's last process is gone nobody can uninstall there, so the emulators'
    /// memory stays taken. There it is done only where the registrations would otherwise go at once.
    pub fn anchors(&self) -> bool {
        self.user_namespace != Ok(UserNamespace::Nested) || self.main_process
    }

    /// Whether some program is run by an entry of our own nested user namespace's instance, though
    /// the instance is not mounted here: mounting it then parts us from nothing.
    ///
    /// Told by the emulator file's owner: files of the host's root show as uid 65534 here.
    pub fn hides_own_instance(&self) -> bool {
        let own = |arch| {
            self.run_by(arch) == Ok(Some(RunBy::Hidden))
                && self.probe(arch).is_some_and(|probe| probe.anchored)
        };
        self.user_namespace == Ok(UserNamespace::Nested)
            && self.outer_root == Ok(false)
            && ARCHES.iter().any(own)
    }

    /// What mounting binfmt_misc here would hide: the architectures that run by entries of a
    /// namespace around this one, as a first mount gives this namespace an empty instance of its own.
    pub fn mount_would_hide(&self) -> Vec<&'static Arch> {
        if self.user_namespace != Ok(UserNamespace::Nested)
            || self.mounted()
            || self.hides_own_instance()
        {
            return Vec::new();
        }
        let hidden = |arch: &&Arch| self.run_by(arch) == Ok(Some(RunBy::Hidden));
        ARCHES.iter().filter(hidden).collect()
    }

    /// The entry that would take each architecture's programs, where there is one.
    pub fn takers(&self) -> Takers<'_> {
        let Ok(instance) = &self.instance else { return Takers(Vec::new()) };
        let taker = |(arch, program): &(&'static Arch, Vec<u8>)| {
            instance.taker(program).map(|entry| (*arch, entry))
        };
        Takers(programs().iter().filter_map(taker).collect())
    }

    /// The entry that would take `arch`'s programs, working or not.
    pub fn matching_entry(&self, arch: &Arch) -> Option<&Entry> {
        self.instance.as_ref().ok()?.taker(&arch.probe())
    }

    /// Kinds of `arch`'s programs that no entry takes, where one takes others of them: its magic and
    /// mask ask for too much.
    pub fn missed(&self, arch: &Arch) -> Vec<&'static str> {
        let Ok(instance) = &self.instance else { return Vec::new() };
        let kinds = arch.kinds();
        let all = kinds.len();
        let taken = |(_, program): &(&str, Vec<u8>)| instance.taker(program).is_some();
        let missed: Vec<_> = kinds.into_iter().filter(|kind| !taken(kind)).collect();
        if missed.len() == all || self.run_by(arch) == Ok(Some(RunBy::Native)) {
            return Vec::new();
        }
        missed.into_iter().map(|(name, _)| name).collect()
    }

    /// The entries that are seen here, enabled, match and hold their emulator, and yet are not asked:
    /// the kernel then goes by another instance, that of our own user namespace.
    pub fn not_asked(&self) -> Vec<(&'static Arch, &Entry)> {
        if self.user_namespace != Ok(UserNamespace::Nested) {
            return Vec::new();
        }
        let refused = |arch| {
            let outcome = self.probe(arch).map(|probe| &probe.outcome);
            outcome == Some(&Outcome::Refused(Errno::ENOEXEC as i32))
        };
        let fits = |entry: &Entry| {
            let around = self.surroundings.as_ref();
            let file = around.and_then(|around| around.interpreters.get(&entry.name));
            // Such a file itself is what the kernel refuses.
            !matches!(file, Some(Interpreter::NoProgram | Interpreter::ForeignArch))
        };
        let Takers(takers) = self.takers();
        let held = takers.into_iter().filter(|(_, entry)| entry.flags.has('F'));
        held.filter(|(arch, entry)| refused(arch) && fits(entry)).collect()
    }

    /// What became of `arch`'s test program, where one was run.
    pub fn probe(&self, arch: &Arch) -> Option<&Probe> {
        self.probes.as_ref().ok()?.by_target.get(arch.target)
    }

    /// What ran `arch`'s test program just now, as a container would start it; `None` where it did
    /// not run.
    ///
    /// # Errors
    /// Where that is not known, the reason: no test program could be run, or it ran and proves nothing.
    pub fn run_by(&self, arch: &Arch) -> Fact<Option<RunBy<'_>>> {
        let probes = self.probes.as_ref().map_err(ToString::to_string)?;
        let Some(probe) = probes.by_target.get(arch.target).filter(|probe| probe.ran()) else {
            return Ok(None);
        };
        let entry = self.matching_entry(arch);
        // That our own programs run natively needs no proof: this is one. Of others it does.
        let native = match &probe.program {
            _ if arch == HOST => true,
            _ if probe.emulator.is_some() || !arch.may_be_native() => false,
            Program::Itself => true,
            Program::Emulator { .. } => false,
            Program::Unknown if entry.is_some() => false,
            Program::Unknown => {
                return Err("a test program ran; what ran it could not be seen".to_owned());
            }
        };
        if native {
            return Ok(Some(RunBy::Native));
        }
        // In a root that has all the emulator wants, running proves nothing for a container, but for an
        // emulator that the kernel itself holds and that needs no libraries.
        let held = entry.is_some_and(|entry| entry.flags.has('F'));
        let alone = probe.program == Program::Emulator { is_static: true };
        match entry {
            Some(entry) if probes.empty_root || (held && alone) => Ok(Some(RunBy::Entry(entry))),
            None if probes.empty_root => Ok(Some(RunBy::Hidden)),
            Some(entry) if !entry.flags.has('F') => Ok(None),
            _ => Err("a test program ran in this root; an empty one, like a container's, is refused here".to_owned()),
        }
    }

    /// What runs `arch`'s programs, as far as it says so itself; else as its entry calls it. QEMU's always
    /// say so: what is only called like them is none.
    pub fn emulator(&self, arch: &Arch) -> Option<Identity> {
        if let Some(told) = self.probe(arch).and_then(|probe| probe.emulator.clone()) {
            return Some(told);
        }
        let Ok(Some(RunBy::Entry(entry))) = self.run_by(arch) else { return None };
        let family = entry.family().filter(|family| family.version_variable.is_none())?;
        Some(Identity { family: family.name.to_owned(), version: String::new() })
    }

    /// Why an entry does not run test programs.
    pub fn why_not_running(&self, entry: &Entry) -> String {
        let interpreter = entry.interpreter.display();
        if !entry.enabled {
            return "it is disabled".to_owned();
        }
        if !entry.flags.has('F') {
            return format!(
                "it lacks flag F, so {interpreter} would have to be in every container"
            );
        }
        let arches: Vec<_> = entry.arches().collect();
        if arches.is_empty() {
            return "it matches no program of any known architecture".to_owned();
        }
        let winner = arches
            .iter()
            .find_map(|arch| self.matching_entry(arch))
            .filter(|winner| winner.file != entry.file);
        if let Some(winner) = winner {
            return format!("the newer entry {} handles its programs", winner.name);
        }
        let missed: Vec<_> = arches.iter().flat_map(|arch| self.missed(arch)).collect();
        match arches.iter().find_map(|arch| self.probe(arch)) {
            Some(probe) if probe.ran() && !missed.is_empty() => {
                format!("its magic and mask miss {}", missed.join(" and "))
            }
            Some(probe) => probe.outcome.to_string(),
            None => "no test program was run".to_owned(),
        }
    }
}

/// How long a program that only exits may take: emulators start in milliseconds, but a loaded
/// machine may have to read them first.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(10);

/// How a test program ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It exited with 0.
    Ran,
    /// exec failed with this errno: ENOEXEC no handler, ENOENT a handler without flag F.
    Refused(i32),
    /// It, or the emulator, was killed or exited otherwise.
    Crashed(String),
    /// It was still there after the time limit.
    TimedOut,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ran => f.write_str("a test program ran"),
            Self::Refused(errno) => {
                write!(f, "a test program did not start: {}", Errno::from_raw(*errno).desc())
            }
            Self::Crashed(how) => write!(f, "the emulator failed on a test program: {how}"),
            Self::TimedOut => write!(f, "a test program did not end within {TIME_LIMIT:?}"),
        }
    }
}

/// What an emulator says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Name of its [`crate::family::Family`].
    pub family: String,
    /// `11.1.3 (Debian 1:11.1.3+ds-1)`; empty where it does not say.
    pub version: String,
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.family)?;
        if self.version.is_empty() { Ok(()) } else { write!(f, " {}", self.version) }
    }
}

/// Which program ran when a test program was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// It ended before it could be seen.
    Unknown,
    /// The test program itself.
    Itself,
    /// Another one.
    Emulator {
        /// Whether that needs no libraries.
        is_static: bool,
    },
}

/// What became of one architecture's test program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// How it ended.
    pub outcome: Outcome,
    /// The emulator that ran it, where that can be told.
    pub emulator: Option<Identity>,
    /// Which program that was.
    pub program: Program,
    /// Whether the file that ran is, byte for byte, the emulator at hand.
    pub ours: bool,
    /// Whether the file that ran is root's of our user namespace, in memory: as an install leaves it.
    pub anchored: bool,
    /// amd64: the micro-architecture levels above v1 that programs may use.
    pub levels: Vec<String>,
}

impl Probe {
    /// Whether programs of this architecture work in containers.
    pub fn ran(&self) -> bool {
        self.outcome == Outcome::Ran
    }

    /// The version of the QEMU that ran it.
    pub fn qemu(&self) -> Option<&str> {
        let qemu = |it: &&Identity| it.family == QEMU.name && !it.version.is_empty();
        self.emulator.as_ref().filter(qemu).map(|it| it.version.as_str())
    }
}

/// All that was probed, by QEMU target.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Probes {
    /// Whether the root was empty: without the right to chroot it is the caller's own.
    pub empty_root: bool,
    /// Results by QEMU target.
    pub by_target: BTreeMap<String, Probe>,
}

/// What lies at an entry's interpreter path, as seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Interpreter {
    Static,
    Dynamic,
    Script,
    ForeignArch,
    NoProgram,
    NotExecutable,
    NoExecMount,
    Fuse,
    Missing,
    /// It could not be looked at.
    Unknown,
}

/// Facts around binfmt_misc.
#[derive(Debug)]
pub struct Surroundings {
    /// `uname -r`.
    pub release: Fact<String>,
    /// What lies at each entry's interpreter path.
    pub interpreters: BTreeMap<String, Interpreter>,
    /// Whether PID 1 has binfmt_misc mounted, or its automount: then it stays.
    pub held_by_init: Fact<bool>,
    /// Whether systemd runs and brings systemd-binfmt.
    pub systemd_binfmt: Fact<bool>,
    /// Names of the entries that binfmt.d's files register.
    pub configured: Fact<Vec<String>>,
    /// Version of Debian's binfmt-support, where it is installed.
    pub binfmt_support: Fact<Option<String>>,
    /// Builders and engines that run, by process name.
    pub builders: Fact<Vec<String>>,
    /// Of binfmt-support's records, names of QEMU's that register without flag F.
    pub binfmt_support_without_f: Fact<Vec<String>>,
    /// Whether this kernel, on amd64, runs programs for 386 by itself.
    pub native_386: Fact<bool>,
    /// Name and id of a process of each other user namespace that has a binfmt_misc of its own
    /// without entries.
    pub cut_off: Fact<Vec<(String, u32)>>,
    /// Name and id of each other systemd that shares our entries: in a container with privileges. It
    /// removes all of them as it stops, and as it starts systemd-binfmt.
    pub other_systemds: Fact<Vec<(String, u32)>>,
    /// Whether SELinux enforces.
    pub selinux: Fact<bool>,
    /// SELinux label of what lies at each entry's interpreter path, where SELinux enforces.
    pub labels: BTreeMap<String, String>,
    /// The AppArmor profile that confines us, if one does.
    pub apparmor: Fact<Option<String>>,
    /// Whether we may gain no privileges, so that setuid programs do not work.
    pub no_new_privs: Fact<bool>,
    /// Whether system calls are filtered.
    pub seccomp: Fact<bool>,
}
