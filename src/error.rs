//! What can go wrong, in words: what was tried, on what, why, and the way out.
//!
//! The advice is chosen by operation and errno, never by message text.

use std::fmt;
use std::path::Path;

use nix::errno::Errno;

use crate::platform::{Unknown, meant};

/// Something that was asked of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Op {
    Mount,
    Unmount,
    Register,
    Remove,
    Read,
    List,
    Write,
    WriteFile,
    Probe,
    Anchor,
    Memory,
    Enter,
    Bind,
    Clear,
    Start,
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Op::Mount => "mount binfmt_misc on",
            Op::Unmount => "unmount",
            Op::Register => "register",
            Op::Remove => "remove",
            Op::Read | Op::List => "read",
            Op::Write | Op::WriteFile => "write",
            Op::Probe => "run test programs in",
            Op::Anchor => "set up memory for emulators in",
            Op::Memory => "make a memory file for",
            Op::Enter => "enter",
            Op::Bind => "bind",
            Op::Clear => "remove",
            Op::Start => "start",
        })
    }
}

/// Everything that ends a command or one item of it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The kernel said no.
    #[error("cannot {op} {target}: {}", errno.desc())]
    System { op: Op, target: String, errno: Errno },
    /// A name no entry can have.
    #[error("'{name}' cannot be the name of an entry: {wrong}")]
    BadName { name: String, wrong: &'static str },
    /// A path no entry can have.
    #[error("'{path}' cannot be the interpreter of an entry: {wrong}")]
    BadInterpreter { path: String, wrong: &'static str },
    /// Flags that cannot work.
    #[error("bad flags: {wrong}")]
    BadFlags { wrong: String },
    /// An entry's text that is none.
    #[error("cannot understand the entry {name}: {what}")]
    BadEntry { name: String, what: String },
    /// A name that is no architecture.
    #[error("{0}")]
    UnknownArch(Unknown),
    /// The same, where nothing can be done without it.
    #[error("{0}")]
    UnknownPlatform(Unknown),
    /// A list with nothing between two commas.
    #[error("empty name in the list '{0}'")]
    EmptyItem(String),
    /// The binary was built with an empty `qemu-bins/`.
    #[error("this binary carries no emulators")]
    NoEmulators,
    /// The user's directory has none.
    #[error("there are no emulators in {dir}")]
    NoneInDirectory { dir: String, name: String },
    /// An emulator whose bytes are not those that were recorded.
    #[error("the emulator {name} is damaged: {wrong}")]
    DamagedEmulator { name: String, wrong: String },
    /// An emulator that would not work in a container.
    #[error("{path} cannot be registered: {wrong}")]
    UnfitEmulator { path: String, wrong: &'static str },
    /// The host cannot do it; found before anything was changed.
    #[error("{what}")]
    Host { what: String, hint: String },
    /// A registration that would have taken the host's own programs.
    #[error("{0} matches the host's own programs and is never registered")]
    Native(String),
    /// A new entry whose emulator did not run the test program.
    #[error("the new entry {name} does not work: {outcome}; it was removed again")]
    DeadOnArrival { name: String, outcome: String },
    /// The entries are gone once our own mount is.
    #[error(
        "the registrations did not last: the kernel removes them with the last mount of binfmt_misc"
    )]
    DidNotLast,
    /// The process that runs test programs said nothing sensible.
    #[error("cannot run test programs: {0}")]
    NotProbed(String),
    /// No test program has been run yet.
    #[error("no test programs were run")]
    NoneRun,
    /// What runs here cannot be found out.
    #[error("cannot tell what runs its programs: {0}")]
    NotKnown(String),
    /// A mount would hide what works now.
    #[error(
        "mounting binfmt_misc here would hide the host's entries, which these platforms need: {0}"
    )]
    WouldHide(String),
    /// Nothing can be installed here.
    #[error("{what}")]
    Obstacle { what: String, hint: Option<String> },
    /// An entry has the name, and does not work.
    #[error("{name} is registered already but does not work in containers: {why}")]
    Dead { name: String, why: String, arch: &'static str },
    /// No entry is meant by this name.
    #[error("not found")]
    NotFound(String),
    /// A file that somebody changed, and so keeps.
    #[error("it was changed since, and still registers the emulators that it names")]
    ChangedSince,
    /// Other runs got in the way again and again.
    #[error("other programs keep changing the entries")]
    Crowded,
    /// An item that was left out.
    #[error("it was not tried")]
    NotTried,
    /// An entry that is there after it was removed.
    #[error("it is still there: something registers it again")]
    StillThere,
    /// An emulator that is not at hand.
    #[error("there is no emulator for {0}")]
    NoEmulator(&'static str),
    /// A program that was started by `run`, or below, and whose emulator nobody could unpack.
    #[error("cannot start {program}: {why}")]
    Unemulated { program: String, why: Box<Error> },
    /// Platforms that were required and do not work.
    #[error("not available: {0}")]
    Missing(String),
    /// The doctor found something to repair.
    #[error("{}", problems(*count))]
    Unhealthy { count: usize, worst: &'static str },
    /// The reader of the report has closed the pipe.
    #[error("nobody reads the output")]
    NoReader,
    /// A value that a command does not take.
    #[error("{0}")]
    Usage(String),
    /// Something that was typed, where what was meant can be told.
    #[error("{what}")]
    Unclear { what: String, hint: String },
    /// Some items failed; each was reported already, and its advice.
    #[error("{}", failed(verb, names, first))]
    Items {
        /// What was tried: `install`.
        verb: &'static str,
        /// The items.
        names: Vec<String>,
        /// What happened to the first.
        #[source]
        first: Box<Error>,
    },
    /// A helper program failed; what it said.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// A failed system call.
    pub fn system(op: Op, target: impl AsRef<Path>, error: impl Into<std::io::Error>) -> Self {
        Self::System { op, target: target.as_ref().display().to_string(), errno: errno(error) }
    }

    /// The errno behind it, where there is one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::System { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::System { op, errno, target } => {
                return hint(*op, *errno, target).map(str::to_owned);
            }
            Self::Unclear { hint, .. } => hint,
            Self::BadFlags { .. } => "--flags takes letters of POCF, and F must be among them",
            Self::UnknownArch(unknown) | Self::UnknownPlatform(unknown) => unknown.advice(),
            Self::NotFound(name) => return meant(name),
            Self::EmptyItem(_) => "separate names by single commas: arm64,riscv64",
            Self::NoEmulators => {
                "fill qemu-bins/ with scripts/get-qemu and build again, or set QEMU_BINARY_PATH to a directory that has some: qemu-aarch64 and so on"
            }
            Self::NoneInDirectory { name, .. } => {
                return Some(format!(
                    "its files must be called {name} and so on; without --qemu-binary-path and QEMU_BINARY_PATH, those in this binary are used"
                ));
            }
            Self::BadName { .. } => "check QEMU_BINARY_PREFIX",
            Self::UnfitEmulator { .. } => "use statically linked emulators built for this machine",
            Self::DamagedEmulator { .. } => "the binary or image is damaged: fetch it again",
            Self::Host { hint, .. } => hint,
            Self::Obstacle { hint, .. } => return hint.clone(),
            Self::Dead { arch, .. } => {
                return Some(format!("--install {arch} --replace replaces it"));
            }
            Self::Unemulated { .. } => {
                "the process that unpacks emulators for this run has ended: start it anew"
            }
            Self::NoEmulator(_) => "`binfmtctl --version` lists the emulators that there are",
            Self::WouldHide(_) => {
                "install on the host, as root; or install all of them here, from a binary that has their emulators"
            }
            Self::Missing(names) => {
                return Some(format!("binfmtctl --install {}", names.replace(", ", ",")));
            }
            Self::Unhealthy { worst, .. } => {
                return Some(format!("`binfmtctl doctor --explain {worst}` tells more"));
            }
            Self::Crowded => "try again when they are done",
            Self::DidNotLast => {
                "give the container the host's mount: -v /proc/sys/fs/binfmt_misc:/binfmt_misc, with --mount /binfmt_misc; or keep `binfmtctl hold` running"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }

    /// The process's exit code: 2 for a command that makes no sense, 1 for all else.
    pub fn exit_code(&self) -> u8 {
        match self {
            // As env and chroot have it: 127 for a command that is not there, 126 for one that does not start.
            Self::System { op: Op::Start, errno: Errno::ENOENT, .. } => 127,
            Self::System { op: Op::Start, .. } | Self::Unemulated { .. } => 126,
            // As the shell tells of a program that SIGPIPE ended, which is what others do.
            Self::NoReader => 141,
            Self::Usage(_)
            | Self::Unclear { .. }
            | Self::UnknownPlatform(_)
            | Self::EmptyItem(_)
            | Self::BadFlags { .. }
            | Self::BadName { .. } => 2,
            _ => 1,
        }
    }
}

/// The kernel's answer in an error of std, nix or rustix; EIO where there is none.
pub(crate) fn errno(error: impl Into<std::io::Error>) -> Errno {
    match Errno::from_raw(error.into().raw_os_error().unwrap_or(0)) {
        Errno::UnknownErrno => Errno::EIO,
        errno => errno,
    }
}

fn problems(count: usize) -> String {
    if count == 1 { "1 problem found".to_owned() } else { format!("{count} problems found") }
}

/// The last word on items that failed.
fn failed(verb: &str, names: &[String], first: &Error) -> String {
    match (names, first) {
        // It speaks of all of them.
        (_, Error::Obstacle { .. }) => first.to_string(),
        ([name], _) => format!("cannot {verb} {name}: {first}"),
        _ => format!("cannot {verb} {} of them ({}): {first}", names.len(), names.join(", ")),
    }
}

const PRIVILEGED: &str = "run it as root, with sudo; in a container, with --privileged";

const MOUNT_PROC: &str = "mount /proc first: `mount -t proc proc /proc`";

/// The table of advice.
#[expect(clippy::too_many_lines, reason = "a table")]
fn hint(op: Op, errno: Errno, target: &str) -> Option<&'static str> {
    use Errno::{
        EACCES, EAGAIN, EBUSY, EEXIST, EINVAL, EISDIR, ELOOP, EMFILE, ENODEV, ENOENT, ENOMEM,
        ENOSPC, ENOTDIR, EPERM, EROFS, ETXTBSY,
    };
    Some(match (op, errno) {
        (Op::Mount, ENODEV) => {
            "this kernel has no binfmt_misc: run `modprobe binfmt_misc` on the host, or use a kernel with CONFIG_BINFMT_MISC"
        }
        (Op::Mount, EPERM | EACCES) => {
            "run the container with --privileged, or give it the host's mount: -v /proc/sys/fs/binfmt_misc:/binfmt_misc, with --mount /binfmt_misc"
        }
        (Op::Mount, ENOTDIR) => "--mount takes a directory",
        (Op::Mount, ENOENT) => {
            "the mount point does not exist: check --mount, and that /proc is mounted"
        }
        (Op::Mount | Op::Read, ELOOP) if op == Op::Mount || target.contains("binfmt_misc") => {
            "an automount is broken there: run `systemctl restart proc-sys-fs-binfmt_misc.automount` on the host"
        }
        (Op::Read, ELOOP) => "a symbolic link there leads back to itself: remove it",
        (Op::Mount, EBUSY) => "something else is being mounted there at the same time: try again",
        (Op::Register, EINVAL) => {
            "the kernel refuses this registration: flag F needs Linux 4.8 or newer"
        }
        (Op::Register, EEXIST) => "an entry of that name exists: --replace replaces it",
        (Op::Register, EACCES) => {
            "only root of the user namespace that owns this binfmt_misc may register, and only what is not on a noexec file system"
        }
        (Op::Register, ENOENT) => {
            "the emulator's file or the file system's `register` is gone: check --mount"
        }
        (Op::Register, ETXTBSY) => {
            "the emulator's file is still open for writing: try again when it is complete"
        }
        (Op::Register, ELOOP) => {
            "the interpreter is itself a program that needs an interpreter: remove entries for the host's own architecture first"
        }
        (Op::Register | Op::Remove | Op::Write, EROFS) => {
            "it is mounted read-only: run the container with --privileged, or mount it writable elsewhere and use --mount"
        }
        (Op::Register | Op::Remove, EPERM) | (Op::Remove | Op::Write, EACCES) => PRIVILEGED,
        (Op::Remove, ENOENT) => "it was removed in the meantime",
        (Op::Anchor | Op::Memory | Op::Probe | Op::Write | Op::Mount, ENOSPC | ENOMEM) => {
            "there is not enough memory for the emulators: install fewer, or raise the container's limit"
        }
        (Op::WriteFile, EACCES | EPERM) => {
            "you may not write there: name another directory, or run it as root"
        }
        (Op::WriteFile, ENOENT) => "that directory does not exist: make it, or name another",
        (Op::WriteFile, EISDIR) => "that is a directory: name a file in it",
        (Op::WriteFile, ENOTDIR) => {
            "a part of that path is a file, not a directory: check the path"
        }
        (Op::WriteFile, EROFS) => "it is read-only: name another directory",
        (Op::WriteFile, ENOSPC) => "there is no room left there: make room, or write elsewhere",
        (Op::Probe | Op::Anchor | Op::Start, EAGAIN) => {
            "no more processes may be started here: raise the limit (docker run --pids-limit, ulimit -u)"
        }
        (Op::Probe | Op::Anchor, EPERM | EACCES) => PRIVILEGED,
        (Op::Probe | Op::Anchor, ENOENT) => MOUNT_PROC,
        // All else may be missing for itself.
        (Op::Read, ENOENT) if target.starts_with("/proc") => MOUNT_PROC,
        (Op::Start, ENOENT) if target == "/proc/self/exe" => MOUNT_PROC,
        (Op::Bind, ENOENT) => "both sides of --bind SRC:DST must be there: make what is missing",
        (Op::Bind, ENOTDIR) => "--bind takes two files, or two directories",
        (Op::Read | Op::Enter, ENOENT) => "it does not exist: check the path",
        (Op::Read | Op::Enter, ENOTDIR) => "a directory was expected: check the path",
        (Op::Clear, EACCES | EPERM) => "you may not remove it: run it as root, with sudo",
        (Op::Clear, EROFS) => "it is on a read-only file system",
        (Op::Read | Op::Enter, EACCES) => "you may not read it: run it as root, with sudo",
        (Op::Memory, EACCES) => {
            "memory files may not be executed here: run `sysctl vm.memfd_noexec=1`, or the container with --privileged or --tmpfs /run:exec"
        }
        (Op::List, ENOENT) => {
            "check the path that --qemu-binary-path or QEMU_BINARY_PATH names: nothing is there"
        }
        (Op::List, ENOTDIR) => "--qemu-binary-path and QEMU_BINARY_PATH take a directory",
        (Op::List, EACCES) => "you may not read it: run it as root, with sudo",
        (Op::Start, Errno::ENOEXEC) => {
            "`binfmtctl doctor PROGRAM` tells why; --platform names what to emulate"
        }
        (Op::Start, ENOENT) => {
            "the program, or what starts it (a script's interpreter, a dynamic loader), is missing: `binfmtctl doctor PROGRAM` tells which"
        }
        (Op::Start, EACCES) => "it is not executable: `binfmtctl doctor PROGRAM` tells why",
        (_, EMFILE) => "this process may not open so many files: raise the limit (ulimit -n)",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a hint is about, by its words: each row is a situation that somebody was in.
    #[test]
    fn hints_fit_what_was_tried() {
        use Errno::*;
        for (op, target, errno, words) in [
            (Op::Mount, "/m", ENODEV, "modprobe binfmt_misc"),
            (Op::Mount, "/m", EPERM, "--privileged"),
            (Op::Mount, "/etc/passwd", ENOTDIR, "--mount takes a directory"),
            (Op::Mount, "/m", ENOENT, "check --mount"),
            (Op::Mount, "/m", ELOOP, "proc-sys-fs-binfmt_misc.automount"),
            (Op::Mount, "/m", EBUSY, "try again"),
            (Op::Register, "x", EACCES, "noexec"),
            (Op::Register, "x", EINVAL, "Linux 4.8"),
            (Op::Register, "x", EEXIST, "--replace"),
            (Op::Register, "x", ENOENT, "check --mount"),
            (Op::Register, "x", EROFS, "read-only"),
            (Op::Register, "x", ETXTBSY, "open for writing"),
            (Op::Register, "x", ELOOP, "needs an interpreter"),
            (Op::Register, "x", EPERM, "sudo"),
            (Op::Remove, "x", EACCES, "sudo"),
            (Op::Remove, "x", ENOENT, "was removed"),
            (Op::Write, "/usr/bin/qemu-arm", ENOSPC, "memory for the emulators"),
            (Op::WriteFile, "standard output", ENOSPC, "no room left"),
            (Op::WriteFile, "/x", EACCES, "you may not write there"),
            (Op::WriteFile, "/x/y", ENOENT, "does not exist"),
            (Op::WriteFile, "/usr/x", EROFS, "read-only"),
            (Op::Memory, "x", EACCES, "memfd_noexec"),
            (Op::Probe, "x", EMFILE, "ulimit -n"),
            (Op::Probe, "/", ENOENT, "mount /proc first"),
            (Op::Read, "/proc/self/ns/mnt", ENOENT, "mount /proc first"),
            (Op::Read, "/mnt/nope", ENOENT, "check the path"),
            (Op::List, "/nope", ENOENT, "--qemu-binary-path or QEMU_BINARY_PATH"),
            (Op::List, "/etc/passwd", ENOTDIR, "QEMU_BINARY_PATH take a directory"),
            (Op::List, "/root/x", EACCES, "you may not read it"),
            (Op::Enter, "/nope", ENOENT, "check the path"),
            (Op::Enter, "/etc/passwd", ENOTDIR, "a directory was expected"),
            (Op::Bind, "/a to /b", ENOENT, "make what is missing"),
            (Op::Bind, "/a to /b", ENOTDIR, "two directories"),
            (Op::Clear, "/x", EROFS, "read-only"),
            (Op::Clear, "/x", EACCES, "you may not remove it"),
            (Op::WriteFile, "/tmp", EISDIR, "name a file"),
            (Op::WriteFile, "/dev/null/x", ENOTDIR, "is a file, not a directory"),
            (Op::Start, "x", ENOEXEC, "doctor PROGRAM"),
            (Op::Start, "x", ENOENT, "dynamic loader"),
            (Op::Start, "x", EACCES, "not executable"),
            (Op::Start, "/proc/self/exe", ENOENT, "mount /proc first"),
        ] {
            let hint = hint(op, errno, target).unwrap_or_default();
            assert!(hint.contains(words), "{op:?} {target} {errno}: {hint}");
            // Whoever gave a wrong path is not to be sent to look for rights or memory.
            let about_a_path =
                matches!(op, Op::Read | Op::List | Op::WriteFile | Op::Enter | Op::Bind);
            for other in ["mount /proc", "memory for", "--privileged"] {
                let stray = about_a_path && hint.contains(other) && !words.contains(other);
                assert!(!stray, "{op:?} {target} {errno}: {hint}");
            }
        }
    }

    #[test]
    fn an_error_says_what_was_tried_on_what() {
        let error = Error::system(Op::Register, "qemu-arm in /binfmt_misc/register", Errno::EPERM);
        assert_eq!(
            error.to_string(),
            "cannot register qemu-arm in /binfmt_misc/register: Operation not permitted"
        );
        assert_eq!(error.hint().unwrap(), PRIVILEGED);
    }
}
