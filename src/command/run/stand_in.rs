//! The stand-in: what the kernel starts in place of an emulator that is not unpacked yet.
//!
//! It is this very program, under a name that tells the emulator and the process that will bring it, see
//! `watcher`. That one notices its start. It waits and executes the program again, until the kernel
//! gives the program to the emulator itself. Where nobody brings it any more, it unpacks the emulator to memory and becomes it.
//!
//! It may find itself in any root, also one without /proc or devices, and the program is to find all as
//! its caller left it. So it does its work before `main`: Rust's runtime ignores SIGPIPE, opens what is closed of the standard
//! streams, and cannot do that everywhere.

#![expect(unsafe_code, reason = "there is no other way to run before `main`")]

use std::ffi::{CStr, CString, OsStr, c_char, c_ulong};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{execve, execveat};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, Stat, fstat, memfd_create, stat, statat};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, PidfdFlags, getsid, pidfd_open};

use super::{MAX_SCRIPTS, sigpipe};
use crate::arch::Arch;
use crate::emulator::Emulators;
use crate::error::{Error, Op};
use crate::root::Root;

/// Where stand-ins are when they are registered. The watcher's id follows, and the emulator's name below.
const DIR: &str = "binfmtctl-run-";
/// How often it asks for the emulator. Each time costs some tenths of a millisecond.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// What the name of a stand-in tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name<'a> {
    /// The process that brings the emulator.
    pub watcher: Pid,
    /// The emulator's target.
    pub target: &'a str,
}

impl<'a> Name<'a> {
    /// Reads a stand-in's path; `None` for all other programs.
    pub(super) fn parse(path: &'a [u8]) -> Option<Self> {
        let path = Path::new(OsStr::from_bytes(path));
        let target = path.file_name()?.to_str()?.strip_prefix("qemu-")?;
        let watcher = path.parent()?.file_name()?.to_str()?.strip_prefix(DIR)?;
        Some(Self { watcher: Pid::from_raw(watcher.parse().ok()?)?, target })
    }

    /// The directory of all stand-ins of one watcher.
    pub(super) fn dir(watcher: u32) -> String {
        format!("{DIR}{watcher}")
    }

    /// Where a watcher shows that it lives.
    pub(super) fn socket(watcher: u32) -> io::Result<SocketAddr> {
        SocketAddr::from_abstract_name(Self::dir(watcher))
    }

    /// The file of the stand-in for one architecture.
    pub(super) fn file(arch: &Arch) -> PathBuf {
        arch.emulator_name().into()
    }
}

// SAFETY: the C library calls what stands in this section before `main`, as a function that needs no
// arguments and returns nothing, and `stand_in` is one. It needs nothing that `main` would first have to set up:
// memory and system calls are the C library's and the kernel's.
#[used]
#[unsafe(link_section = ".init_array")]
static STAND_IN: extern "C" fn() = stand_in;

/// Becomes the program, if this is a stand-in; returns if it is none, or has to unpack the emulator itself.
extern "C" fn stand_in() {
    let words = Words::of_this_process();
    let Some(name) = words.name() else { return };
    // The program must not find it open.
    let _ = fcntl_setfd(open_program(), FdFlags::CLOEXEC);
    if wait(name.watcher) {
        words.execute_again();
    }
    fill_standard_streams();
}

/// Waits a moment, in which the emulator may have come; `false` where nobody brings it any more.
///
/// The watcher is found by its id, or in another namespace of processes by its socket. In one of networks besides it is
/// not found: that stand-in does not wait.
fn wait(watcher: Pid) -> bool {
    // The leader of its session: who has its id after it, or elsewhere, hardly is.
    let by_id = || {
        let process = pidfd_open(watcher, PidfdFlags::empty()).ok()?;
        (getsid(Some(watcher)) == Ok(watcher)).then_some(process)
    };
    if let Some(process) = by_id() {
        // Its end may mean that all is there: then, too, the kernel is asked once more.
        let _ = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&PAUSE));
        return true;
    }
    let by_socket = || {
        UnixDatagram::unbound()?.connect_addr(&Name::socket(watcher.as_raw_pid().cast_unsigned())?)
    };
    let found = by_socket().is_ok();
    if found {
        let _ = poll(&mut [], Some(&PAUSE));
    }
    found
}

/// Opens those that are closed for as long as this program runs.
fn fill_standard_streams() {
    while let Ok(file) = memfd_create(c"stream", MemfdFlags::CLOEXEC) {
        if file.as_raw_fd() > 2 {
            return;
        }
        let _ = file.into_raw_fd();
    }
}

/// Arguments and environment, as the kernel passed them: the stand-in's own path, the program's, and the
/// program's arguments with the name that it goes by.
struct Words {
    arguments: Vec<&'static CStr>,
    environment: Vec<&'static CStr>,
}

impl Words {
    fn of_this_process() -> Self {
        unsafe extern "C" {
            static environ: *const *const c_char;
        }
        // SAFETY: the C library lets `environ` point to the environment that the kernel put on the stack, and nothing here
        // has changed it. Before it lie the arguments, behind their number and each list with a null at its end. No
        // pointer is as small as that number.
        unsafe {
            let list = |mut at: *const *const c_char| {
                let mut words = Vec::new();
                while !(*at).is_null() {
                    words.push(CStr::from_ptr(*at));
                    at = at.add(1);
                }
                words
            };
            let (mut first, mut count) = (environ.sub(1), 0);
            while first.sub(1).read().addr() != count {
                first = first.sub(1);
                count += 1;
            }
            Self { arguments: list(first), environment: list(environ) }
        }
    }

    fn name(&self) -> Option<Name<'_>> {
        // Flag P is always there: without the program's own name this is none of ours.
        self.arguments.get(2)?;
        Name::parse(self.arguments[0].to_bytes())
    }

    /// Executes the program as its caller did; returns where that cannot be done.
    fn execute_again(&self) {
        let [_, path, program @ ..] = self.arguments.as_slice() else { return };
        let file = open_program();
        let id = |stat: rustix::io::Result<Stat>| stat.map(|stat| (stat.st_dev, stat.st_ino)).ok();
        let is_it = |found| id(found).is_some_and(|found| Some(found) == id(fstat(file)));
        // With rights that its caller lacks nothing is looked up again: he may have put something else there.
        let may_look_up = !has_more_rights();
        // Opened by its caller, or by us below, and called so by the kernel, which a root need not have.
        if let Some((dir, below)) = below_open_file(path.to_bytes())
            && (may_look_up || below.is_empty())
            && let Ok(below) = CString::new(below)
        {
            // SAFETY: it was left open for us; if not, the kernel says so.
            let dir = unsafe { BorrowedFd::borrow_raw(dir) };
            if is_it(statat(dir, &below, rustix::fs::AtFlags::EMPTY_PATH)) {
                let _ = execveat(dir, &below, program, &self.environment, AtFlags::AT_EMPTY_PATH);
            }
        }
        if may_look_up && is_it(stat(*path)) {
            if let Some(script) = self.script() {
                let _ = execve(script[0], script, &self.environment);
            }
            let _ = execve(path, program, &self.environment);
        }
        // Or it is gone, or not to be seen by whom it was started for. The kernel wants it to stay open.
        let _ = fcntl_setfd(file, FdFlags::empty());
        let _ = execveat(file, c"", program, &self.environment, AtFlags::AT_EMPTY_PATH);
        let _ = fcntl_setfd(file, FdFlags::CLOEXEC);
    }

    /// The script that was started, with its arguments, if the program is its interpreter: processes are called by it.
    fn script(&self) -> Option<&[&'static CStr]> {
        let [_, path, program @ ..] = self.arguments.as_slice() else { return None };
        // SAFETY: the kernel puts the path there that was executed, as a string; or nothing, and 0 is no address.
        let started = unsafe {
            let at = libc::getauxval(libc::AT_EXECFN) as *const c_char;
            (!at.is_null()).then(|| CStr::from_ptr(at))?
        };
        // It stands behind its interpreter's name, perhaps with one argument from its first line; and that may be
        // a script as well, and so on.
        let at = (1..=2 * MAX_SCRIPTS)
            .find(|at| started != *path && program.get(*at) == Some(&started))?;
        Some(&program[at..])
    }
}

/// The program's file, which flag O leaves open.
fn open_program() -> BorrowedFd<'static> {
    const AT_EXECFD: c_ulong = 2;
    // SAFETY: it is ours for as long as this process lives; 0 is a number like others, where standard input was closed.
    unsafe { BorrowedFd::borrow_raw(libc::getauxval(AT_EXECFD) as i32) }
}

/// Whether flag C gave us rights of the program's owner, or its capabilities.
fn has_more_rights() -> bool {
    // SAFETY: it only looks into what the kernel passed.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Number of an open file and the path below it, of `/dev/fd/NUMBER[/PATH]`.
fn below_open_file(path: &[u8]) -> Option<(i32, &[u8])> {
    let rest = path.strip_prefix(b"/dev/fd/")?;
    let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
    let number = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    Some((number, rest.get(end + 1..).unwrap_or_default()))
}

/// Unpacks the emulator to memory and becomes it, if this is a stand-in; returns only if it is none, or that fails.
///
/// # Errors
/// What prevents it.
pub(crate) fn main() -> Option<Error> {
    let words = Words::of_this_process();
    let target = words.name()?.target.to_owned();
    let program = Path::new(OsStr::from_bytes(words.arguments[1].to_bytes()));
    let failed = |errno| Error::system(Op::Start, program, errno);
    Some(match unpacked(&target) {
        Err(error) => {
            Error::Unemulated { program: program.display().to_string(), why: Box::new(error) }
        }
        Ok(emulator) => failed(become_emulator(&emulator, &words)),
    })
}

/// A file in memory that may be executed, with this emulator.
fn unpacked(target: &str) -> Result<OwnedFd, Error> {
    let emulators = Emulators::new(None, "")?;
    let arch = Arch::by_target(target).ok_or(Error::NoEmulators)?;
    let emulator = emulators.find(arch)?;
    let file = memfd_create(emulator.name.as_str(), MemfdFlags::CLOEXEC | MemfdFlags::EXEC)
        .map_err(|error| Error::system(Op::Memory, &emulator.shown_as, error))?;
    let file = File::from(file);
    emulators.unpack(vec![(emulator, &file)]).into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(file.into())
}

/// With the arguments that make it do what it does where the kernel starts it.
fn become_emulator(emulator: &OwnedFd, words: &Words) -> Errno {
    let [own, path, name, arguments @ ..] = words.arguments.as_slice() else {
        return Errno::EINVAL;
    };
    if !sigpipe::was_ignored() {
        // SAFETY: no function is called by it.
        let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    }
    let file = open_program();
    let by_file = has_more_rights().then(|| {
        let _ = fcntl_setfd(file, FdFlags::empty());
        CString::new(Root::fd_path(file.as_raw_fd()).into_os_string().into_vec())
    });
    let path = by_file.as_ref().map_or(*path, |by_file| by_file.as_deref().unwrap_or(path));
    let all = [*own, c"-0", *name, c"--", path];
    let all: Vec<_> = all.iter().chain(arguments).collect();
    match execveat(emulator, c"", &all, &words.environment, AtFlags::AT_EMPTY_PATH) {
        Err(errno) => errno,
        Ok(never) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stand_in_is_called_so() {
        let name = Name::parse(b"/proc/fs/binfmtctl-run-42/qemu-arm").unwrap();
        assert_eq!(name, Name { watcher: Pid::from_raw(42).unwrap(), target: "arm" });
        for other in [
            "binfmtctl",
            "/usr/bin/qemu-arm",
            "/binfmtctl-run-/qemu-arm",
            "/binfmtctl-run-0/qemu-arm",
            "/binfmtctl-run-42x/qemu-arm",
            "/binfmtctl-run-42/arm",
            "/binfmtctl-run-42",
            "",
        ] {
            assert_eq!(Name::parse(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn open_files_are_found_by_the_kernels_name_for_them() {
        assert_eq!(below_open_file(b"/dev/fd/3"), Some((3, &b""[..])));
        assert_eq!(below_open_file(b"/dev/fd/12/bin/sh"), Some((12, &b"bin/sh"[..])));
        assert_eq!(below_open_file(b"/dev/fd/x"), None);
        assert_eq!(below_open_file(b"/bin/sh"), None);
    }
}
