//! What a program inherits that an emulator obeys: QEMU's variables and the kernel's limits. And the
//! proof of it: the smallest program of an architecture, started in this very environment.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create, open};

use super::run::{End, Ran, watch};
use crate::arch::{ARCHES, Arch};
use crate::root::Root;
use crate::state::{RunBy, State};

/// What is inherited by all that is started from here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Environment {
    /// QEMU's variables that are set, by name.
    pub(super) variables: Vec<(String, String)>,
    /// Limits that are in force.
    pub(super) limits: Vec<Limit>,
    /// How many files may be open, and what that may be raised to.
    pub(super) files: (u64, u64),
    /// Who we are.
    pub(super) user: u32,
}

/// A limit of the kernel's, as `ulimit` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Limit {
    /// Its option of `ulimit`.
    pub(super) option: char,
    /// What is limited.
    pub(super) what: &'static str,
    pub(super) soft: u64,
    pub(super) hard: u64,
    /// The command that raises it, where that was found to help.
    pub(super) raise: Option<String>,
}

/// Limits that emulators run into, with what counts as none.
const LIMITS: [(Resource, char, &str, u64); 5] = [
    (Resource::RLIMIT_AS, 'v', "address space", 1 << 40),
    (Resource::RLIMIT_DATA, 'd', "data", 1 << 32),
    (Resource::RLIMIT_STACK, 's', "stack", 1 << 20),
    (Resource::RLIMIT_NPROC, 'u', "processes", 256),
    (Resource::RLIMIT_FSIZE, 'f', "size of files", RLIM_INFINITY),
];

/// What follows `QEMU_` in the names of the variables that QEMU 5 to 11 read in `linux-user/main.c`.
const VARIABLES: [&str; 25] = [
    "ARGV0",
    "CPU",
    "DFILTER",
    "GDB",
    "GUEST_BASE",
    "JITDUMP",
    "LD_PREFIX",
    "LOG",
    "LOG_FILENAME",
    "ONE_INSN_PER_TB",
    "PAGESIZE",
    "PERFMAP",
    "PLUGIN",
    "RAND_SEED",
    "RESERVED_VA",
    "RTSIG_MAP",
    "SET_ENV",
    "SINGLESTEP",
    "STACK_SIZE",
    "STRACE",
    "TB_SIZE",
    "TRACE",
    "UNAME",
    "UNSET_ENV",
    "VERSION",
];

/// How the smallest program of an architecture ended here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trial {
    pub(super) ran: Ran,
    /// What is the cause for its failure: without it, it ran.
    pub(super) cause: Option<Cause>,
}

/// An architecture whose programs do not run from here, for what is inherited.
#[derive(Debug)]
pub(super) struct Blamed {
    pub(super) arch: &'static Arch,
    pub(super) trial: Trial,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    Variable(String),
    Limit(Limit),
}

impl Environment {
    pub(super) fn observe() -> Self {
        let text = |text: &OsStr| text.to_string_lossy().into_owned();
        let mut variables: Vec<_> = std::env::vars_os()
            .map(|(name, value)| (text(&name), text(&value)))
            .filter(|(name, _)| {
                VARIABLES.iter().any(|known| name.strip_prefix("QEMU_") == Some(known))
            })
            .collect();
        variables.sort();
        let limit = |(resource, option, what, none): &(Resource, char, &'static str, u64)| {
            let (soft, hard) = getrlimit(*resource).ok()?;
            (soft < *none).then_some(Limit { option: *option, what, soft, hard, raise: None })
        };
        Self {
            variables,
            user: nix::unistd::geteuid().as_raw(),
            files: getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((RLIM_INFINITY, RLIM_INFINITY)),
            limits: LIMITS.iter().filter_map(limit).collect(),
        }
    }

    /// Lets us open as many files as we may, and write files of any size: what we look at is not to suffer
    /// from these limits.
    pub(super) fn raise_files(&self) {
        let (_, most) = self.files;
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
        if let Ok((_, most)) = getrlimit(Resource::RLIMIT_FSIZE) {
            let _ = setrlimit(Resource::RLIMIT_FSIZE, most, most);
        }
    }

    /// Tries the architectures that emulators run here, and keeps those that fail for what is inherited. A test
    /// program that failed for a limit says nothing of its emulator, so it is forgotten.
    pub(super) fn blame(&self, root: &Root, state: &mut State) -> Vec<Blamed> {
        if self.variables.is_empty() && self.limits.is_empty() {
            return Vec::new();
        }
        let emulated = |arch: &&'static Arch| {
            state.matching_entry(arch).is_some() || state.run_by(arch) == Ok(Some(RunBy::Hidden))
        };
        let limit = Duration::from_secs(3);
        let blamed = ARCHES.iter().filter(emulated).filter_map(|arch| {
            let trial = self.try_out(root, arch, limit)?;
            trial.cause.is_some().then_some(Blamed { arch, trial })
        });
        let blamed: Vec<_> = blamed.collect();
        for Blamed { arch, trial } in &blamed {
            if let (Some(Cause::Limit(_)), Ok(probes)) = (&trial.cause, &mut state.probes) {
                probes.by_target.remove(arch.target);
            }
        }
        blamed
    }

    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Where an emulator looks for a program's files before it looks in the root.
    pub(super) fn prefix(&self) -> Option<PathBuf> {
        self.variable("QEMU_LD_PREFIX").filter(|dir| !dir.is_empty()).map(PathBuf::from)
    }

    /// Starts the smallest program of `arch`; where it fails, again without what may be to blame.
    pub(super) fn try_out(&self, root: &Root, arch: &Arch, limit: Duration) -> Option<Trial> {
        let program = Memory::new(&arch.probe()).ok()?;
        let ran = program.run(root, &[], limit);
        if ran.end == End::Status(0) {
            return Some(Trial { ran, cause: None });
        }
        let names: Vec<_> = self.variables.iter().map(|(name, _)| name.as_str()).collect();
        let works = |without: &[&str]| program.run(root, without, limit).end == End::Status(0);
        let one = names.iter().find(|name| works(&[name]));
        let all = || (names.len() > 1 && works(&names)).then(|| names.join(" "));
        let cause = one.map(ToString::to_string).or_else(all).map(Cause::Variable);
        let raised = || self.limits.iter().find_map(|limit| limit.raised(|| works(&[])));
        // One that cannot be raised cannot be proved to be it: those on memory are what it usually is.
        let suspect =
            || self.limits.iter().find(|limit| ['v', 'd'].contains(&limit.option)).cloned();
        let cause = cause.or_else(|| raised().or_else(suspect).map(Cause::Limit));
        Some(Trial { ran, cause })
    }
}

impl Limit {
    /// This limit with the command that raises it, if `works` with it as high as it may be set.
    fn raised(&self, works: impl FnOnce() -> bool) -> Option<Self> {
        let (resource, ..) = LIMITS.iter().find(|(_, option, ..)| *option == self.option)?;
        // Only some may set the other limit, which this one must not exceed.
        let most = [RLIM_INFINITY, self.hard].into_iter().filter(|most| *most > self.soft);
        let mut most =
            most.filter(|most| setrlimit(*resource, *most, self.hard.max(*most)).is_ok());
        let most = most.next()?;
        let helps = works();
        setrlimit(*resource, self.soft, self.hard).ok()?;
        let value = if most == RLIM_INFINITY {
            "unlimited".to_owned()
        } else {
            (most / self.unit()).to_string()
        };
        let which = if most > self.hard { "" } else { "S" };
        helps.then(|| Self {
            raise: Some(format!("ulimit -{which}{} {value}", self.option)),
            ..self.clone()
        })
    }

    /// As `ulimit` shows and takes it.
    pub(super) fn shown(&self) -> String {
        format!("ulimit -{} {}", self.option, self.soft / self.unit())
    }

    fn unit(&self) -> u64 {
        if self.option == 'u' { 1 } else { 1024 }
    }
}

/// A program that lies nowhere but in memory.
struct Memory(OwnedFd);

impl Memory {
    fn new(program: &[u8]) -> io::Result<Self> {
        let fd = memfd_create("binfmtctl-trial", MemfdFlags::CLOEXEC)?;
        let mut file = File::from(fd);
        file.write_all(program)?;
        // What is open for writing is not executed. An emulator without flag O opens it itself, so it
        // is not closed on the way.
        Ok(Self(open(Root::fd_path(file.as_raw_fd()), OFlags::RDONLY, Mode::empty())?))
    }

    fn run(&self, root: &Root, without: &[&str], limit: Duration) -> Ran {
        let mut command = Command::new(Root::fd_path(self.0.as_raw_fd()));
        let null = File::open(root.path(Path::new("/dev/null")));
        command.stdin(null.map_or_else(|_| Stdio::inherit(), Stdio::from));
        // Standard output is the report's, and some emulators complain there.
        command.stdout(Stdio::piped());
        for name in without.iter().flat_map(|names| names.split(' ')) {
            command.env_remove(name);
        }
        watch(command, Some(limit), false)
    }
}
