//! The watcher: a process beside a run, which unpacks each emulator when the first program needs it.
//!
//! Stand-ins are registered for emulators that are not in the cache. Whatever root a program starts them
//! from, the kernel opens the one file that they are, so the watcher notices, looks who it was, and
//! registers the emulator itself. It ends when nothing of the run is left, holds none of the caller's files open, and
//! is nobody's child whom the program knows. It never touches more than the run's own instance and the user's cache.

#![expect(
    clippy::disallowed_methods,
    reason = "makes links in a file system that it has just mounted"
)]
#![expect(unsafe_code, reason = "no crate closes files that are not its own")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::libc;
use nix::mount::{MsFlags, mount};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::process::{PidfdFlags, child_subreaper, getpid, pidfd_open, setsid};
use serde::{Deserialize, Serialize};

use super::stand_in::Name;
use super::unpack;
use crate::anchor::write_registration;
use crate::apply::remove_entry;
use crate::arch::Arch;
use crate::emulator::{Emulator, Emulators};
use crate::entry::{EntryName, Flags};
use crate::error::{Error, Op};
use crate::namespace;
use crate::root::Root;

/// First argument of the process that starts a watcher; a [`Job`] follows.
pub(crate) const SUBCOMMAND: &str = "__start-watcher";
/// The same of the watcher itself.
pub(crate) const WATCH: &str = "__watch";

/// What a watcher says when it watches.
const READY: &str = "ready\n";

/// How often it is looked whether anything is left of a run whose own program has ended.
const PAUSE: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// Stand-ins ask more often than this.
const QUIET: Duration = Duration::from_millis(200);
/// For how long they may ask without being seen.
const RESTLESS: Duration = Duration::from_secs(3);

/// After so many times all that are left are brought at once. Each time a stream is read from its start: to bring
/// thirty one by one takes thirty times as long.
const ALONE: usize = 5;

/// What a watcher is told.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    /// Where the run's instance is mounted.
    instance: PathBuf,
    /// What goes before the names of entries.
    prefix: String,
    /// The flags to register with.
    flags: String,
    /// The emulators that are not there yet.
    targets: Vec<String>,
}

/// Whether emulators can be left to a watcher.
///
/// A stand-in may be started where a directory of emulators cannot be reached. And a process that gets orphans, as the
/// first one does, would get the watcher.
pub(super) fn is_possible(emulators: &Emulators) -> bool {
    emulators.are_embedded() && !getpid().is_init() && child_subreaper() == Ok(None)
}

/// Starts a watcher over this process and all that it will start, which brings emulators to an instance when they are needed.
/// From then on each has a stand-in there.
///
/// # Errors
/// What prevents it; then there may be some stand-ins all the same.
pub(super) fn start(
    root: &Root,
    instance: &Path,
    emulators: &Emulators,
    missing: &[&Emulator],
    flags: &Flags,
) -> Result<(), Error> {
    let job = Job {
        instance: instance.into(),
        prefix: emulators.prefix().to_owned(),
        flags: flags.to_string(),
        targets: missing.iter().map(|emulator| emulator.arch.target.to_owned()).collect(),
    };
    let failed = |error: std::io::Error| Error::system(Op::Start, root.own_exe(), error);
    let job = serde_json::to_string(&job).map_err(|error| failed(error.into()))?;
    let this = pidfd_open(getpid(), PidfdFlags::empty()).map_err(|errno| failed(errno.into()))?;
    let said = Command::new(root.own_exe())
        .args([SUBCOMMAND, &job])
        .stdin(Stdio::from(this))
        .stderr(Stdio::null())
        .output()
        .map_err(failed)?;
    if said.stdout == READY.as_bytes() {
        return Ok(());
    }
    Err(Error::Failed("the process that is to bring them does not start".to_owned()))
}

/// Main of the process between a run and its watcher, which then is no child of the run: ends as soon as that one watches.
///
/// # Errors
/// What prevents it.
pub(crate) fn start_watcher(
    job: Option<&str>,
    root: &Root,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let failed = |error| Error::system(Op::Start, root.own_exe(), error);
    let job = job.ok_or_else(internal)?;
    // Whoever waits for the end of a pipe or lock of our caller's is not to wait for the watcher.
    // SAFETY: nothing is closed yet, and what this process starts uses none but its standard streams.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    let mut watcher = Command::new(root.own_exe())
        .args([WATCH, job])
        .current_dir("/")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let mut word = String::new();
    if let Some(said) = watcher.stdout.take() {
        BufReader::new(said).read_line(&mut word).map_err(failed)?;
    }
    out.write_all(word.as_bytes()).map_err(failed)
}

fn internal() -> Error {
    Error::Usage(format!("{SUBCOMMAND} is only for internal use"))
}

/// Main of the watcher: says so once it watches. Its standard input is the process that became the program.
///
/// # Errors
/// What it cannot do. Stand-ins see that it is gone, and do without.
pub(crate) fn watch(job: Option<&str>, root: &Root, out: &mut dyn Write) -> Result<(), Error> {
    let failed = |errno| Error::system(Op::Enter, "a private mount namespace", errno);
    let job: Job = job.and_then(|job| serde_json::from_str(job).ok()).ok_or_else(internal)?;
    // The terminal's signals are not for us, and by this stand-ins know us.
    setsid().map_err(|errno| failed(crate::error::errno(errno)))?;
    // The program may get another root, and mount what it likes.
    namespace::isolate_mounts().map_err(failed)?;
    let emulators = Emulators::new(None, &job.prefix)?;
    let left: Result<Vec<_>, _> = job
        .targets
        .iter()
        .map(|target| emulators.find(Arch::by_target(target).ok_or(Error::NoEmulators)?))
        .collect();
    let flags = Flags::parse(&job.flags)?;
    // Mounts of ours may hide it, but it stays within reach.
    let held =
        File::open(&job.instance).map_err(|error| Error::system(Op::Read, &job.instance, error))?;
    let instance = Root::fd_path(held.as_raw_fd());
    let (emulators, left) = (&emulators, left?);
    let mut watch = Watch { root, emulators, instance, flags, left, alone: ALONE, restless: None };
    let events = events(root)?;
    // Only those who do not see our id need it.
    let _socket = Name::socket(std::process::id()).and_then(|name| UnixDatagram::bind_addr(&name));
    watch.register_stand_ins()?;
    let said = out.write_all(READY.as_bytes()).and_then(|()| out.flush());
    said.map_err(|error| Error::system(Op::Start, root.own_exe(), error))?;
    watch.until_nothing_is_left(&events)
}

/// Tells each time somebody executes the file that this program is, and stand-ins are.
fn events(root: &Root) -> Result<OwnedFd, Error> {
    let watched = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).and_then(|events| {
        // To execute it the kernel reads its start. Registering opens it only, and is no news.
        let flags = WatchFlags::ACCESS;
        inotify::add_watch(&events, root.own_exe(), flags).map(|_| events)
    });
    watched.map_err(|errno| Error::system(Op::Read, root.own_exe(), errno))
}

struct Watch<'a> {
    root: &'a Root,
    emulators: &'a Emulators,
    instance: PathBuf,
    flags: Flags,
    left: Vec<&'a Emulator>,
    /// How many times more what is wanted is brought without the others.
    alone: usize,
    /// First and last of the events since somebody was found who waits.
    restless: Option<(Instant, Instant)>,
}

impl Watch<'_> {
    /// Registers what starts in place of emulators: links to our own program, which are gone with our mounts. Flag F opens
    /// what they lead to.
    fn register_stand_ins(&self) -> Result<(), Error> {
        let links = self.root.scratch()?;
        let failed = |error: std::io::Error| Error::system(Op::Anchor, &links, error);
        mount(Some("tmpfs"), &links, Some("tmpfs"), MsFlags::empty(), None::<&str>)
            .map_err(|errno| failed(errno.into()))?;
        let dir = links.join(Name::dir(std::process::id()));
        fs::create_dir(&dir).map_err(failed)?;
        self.left.iter().try_for_each(|emulator| {
            let link = dir.join(Name::file(emulator.arch));
            symlink(self.root.own_exe(), &link).map_err(failed)?;
            write_registration(&self.instance, &emulator.registration(&link, &self.flags)?)
        })
    }

    fn until_nothing_is_left(&mut self, events: &OwnedFd) -> Result<(), Error> {
        // Since the run's own program has ended: when it was last looked what else is left.
        let mut ended: Option<Instant> = None;
        while !self.left.is_empty() {
            let program = std::io::stdin();
            let mut fds =
                [PollFd::new(events, PollFlags::IN), PollFd::new(&program, PollFlags::IN)];
            let (watched, most) = match ended {
                None => (&mut fds[..], None),
                Some(_) => (&mut fds[..1], Some(&PAUSE)),
            };
            let _ = poll(watched, most);
            let (executed, just_ended) =
                (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
            if just_ended
                || ended.is_some_and(|looked| {
                    looked.elapsed().as_secs() >= PAUSE.tv_sec.cast_unsigned()
                })
            {
                if !self.anybody_is_left() {
                    break;
                }
                ended = Some(Instant::now());
            }
            if executed {
                self.look(events)?;
            }
        }
        Ok(())
    }

    /// Brings what those need who have just begun to wait.
    fn look(&mut self, events: &OwnedFd) -> Result<(), Error> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        while rustix::io::read(events, &mut buffer).is_ok() {}
        // The kernel tells of it before it can be seen. Who is missed asks again.
        for pause in [0, 1, 4] {
            sleep(Duration::from_millis(pause));
            let wanted = self.wanted();
            if !wanted.is_empty() {
                self.restless = None;
                self.alone = self.alone.saturating_sub(1);
                return if self.alone > 0 { self.bring(&wanted) } else { self.bring_all() };
            }
        }
        let now = Instant::now();
        let (first, last) = self.restless.unwrap_or((now, now));
        let first = if now - last < QUIET { first } else { now };
        self.restless = Some((first, now));
        // Somebody waits whom we do not see, or others use this program a lot.
        if now - first > RESTLESS {
            return self.bring_all();
        }
        Ok(())
    }

    /// The emulators that stand-ins of ours wait for.
    fn wanted(&self) -> Vec<usize> {
        let waiting = |process: &PathBuf| {
            let mut start = [0; 4096];
            let len = File::open(process.join("cmdline")).ok()?.read(&mut start).ok()?;
            let name = start[..len].split(|byte| *byte == 0).next().and_then(Name::parse)?;
            let index = self.left.iter().position(|it| it.arch.target == name.target)?;
            (name.watcher == getpid()).then_some(index)
        };
        let mut wanted: Vec<_> = self.processes().filter_map(|it| waiting(&it)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        wanted
    }

    /// Whether any process is in the run's user namespace, or below, but us.
    fn anybody_is_left(&self) -> bool {
        self.processes().any(|process| is_inside(&process))
    }

    /// The directories of all processes but our own.
    fn processes(&self) -> impl Iterator<Item = PathBuf> {
        let own = fs::read_link(self.root.proc("self")).unwrap_or_default();
        let all = fs::read_dir(self.root.proc_dir()).into_iter().flatten().flatten();
        all.map(|entry| entry.path()).filter(move |path| {
            let name = path.file_name().unwrap_or_default();
            name.as_encoded_bytes().iter().all(u8::is_ascii_digit) && name != own
        })
    }

    fn bring_all(&mut self) -> Result<(), Error> {
        self.bring(&(0..self.left.len()).collect::<Vec<_>>())
    }

    /// Unpacks emulators and lets them take their stand-ins' places.
    fn bring(&mut self, wanted: &[usize]) -> Result<(), Error> {
        let emulators: Vec<_> = wanted.iter().map(|index| self.left[*index]).collect();
        let unpacked = unpack(self.root, self.emulators, &emulators)?;
        for (emulator, path) in emulators.iter().zip(&unpacked.paths) {
            let registration = emulator.registration(path, &self.flags)?;
            // The newest wins. At no time there is none, so under another name first.
            let other = EntryName::new(&format!("{}.new", emulator.name))?;
            write_registration(&self.instance, &registration.named(other.clone()))?;
            remove_entry(&self.instance, emulator.name.as_ref())?;
            write_registration(&self.instance, &registration)?;
            remove_entry(&self.instance, other.as_str().as_ref())?;
        }
        self.left.retain(|one| emulators.iter().all(|brought| brought.arch != one.arch));
        Ok(())
    }
}

/// Whether a process is in our user namespace or below: of others the kernel does not tell us what they execute.
fn is_inside(process: &Path) -> bool {
    fs::read_link(process.join("exe")).is_ok()
}
