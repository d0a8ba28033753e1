//! Runs a tiny program of each architecture through the kernel, in an empty root.
//!
//! The kernel's answer is the only proof that a platform works in containers. The work is done by
//! a child process of its own (the hidden subcommand [`SUBCOMMAND`]), which moves into an empty
//! root and cannot come back. It changes nothing that others see.

#![expect(
    clippy::disallowed_methods,
    reason = "test programs are written into a root of their own"
)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::chroot;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{AtFlags, Mode, OFlags, openat, readlinkat, unlinkat};
use rustix::pipe::fcntl_setpipe_size;
use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use crate::arch::{AMD64_LEVELS, Arch, HOST};
use crate::elf;
use crate::emulator::{Emulator, Emulators};
use crate::error::{Error, Op};
use crate::family::{Family, QEMU};
use crate::namespace::{isolate_as_user, isolate_mounts};
use crate::privilege;
use crate::root::Root;
use crate::state::{Identity, Outcome, Probe, Probes, Program, TIME_LIMIT};

/// First argument of a process that is to probe; arguments after it are QEMU target names.
pub(crate) const SUBCOMMAND: &str = "__probe";

/// How much of what an emulator says of itself is read, in bytes.
const MOST_PRINTED: usize = 4096;

/// What a probing process is to do; it is handed over as JSON in one argument.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    targets: Vec<String>,
    identify: Option<Identify>,
}

/// The emulators to compare with what runs, as for [`Emulators::new`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Identify {
    /// Directory of emulators, in place of those embedded.
    pub path: Option<PathBuf>,
    /// Prefix of their names.
    pub prefix: String,
}

/// Probes `arches` in a child process.
///
/// Reading and hashing emulators takes time, so [`Probe::ours`] is found only if `identify` is
/// given.
///
/// # Errors
/// Where the child cannot be started or says nothing sensible.
pub(crate) fn probe<'a>(
    root: &Root,
    arches: impl IntoIterator<Item = &'a Arch>,
    identify: Option<Identify>,
) -> Result<Probes, Error> {
    let own = root.own_exe();
    let job =
        Job { targets: arches.into_iter().map(|arch| arch.target.to_owned()).collect(), identify };
    let failed = |error: io::Error| Error::system(Op::Probe, "an empty root", error);
    let mut child = Command::new(&own)
        .arg(SUBCOMMAND)
        .arg(serde_json::to_string(&job).map_err(|error| failed(error.into()))?)
        // Pipes, as a root need not have a /dev/null.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    drop(child.stdin.take());
    // One after the other: errors are a few lines, which the pipe takes.
    let read = |from: &mut dyn Read| {
        let mut text = Vec::new();
        from.read_to_end(&mut text).map(|_| text)
    };
    let printed = child.stdout.take().map_or(Ok(Vec::new()), |mut stdout| read(&mut stdout));
    let said = child.stderr.take().map_or(Ok(Vec::new()), |mut stderr| read(&mut stderr));
    let status = child.wait().map_err(failed)?;
    let (printed, said) = (printed.map_err(failed)?, said.map_err(failed)?);
    serde_json::from_slice(&printed).map_err(|_| {
        let said = String::from_utf8_lossy(&said);
        let last = said.lines().last().unwrap_or_default();
        let how = match (status.signal(), status.code()) {
            (Some(signal), _) => format!("ended by signal {signal}"),
            (None, Some(code)) => format!("exit status {code}"),
            (None, None) => "ended".to_owned(),
        };
        let said = last.strip_prefix("error: ").unwrap_or(last);
        Error::NotProbed(if said.is_empty() { how } else { said.to_owned() })
    })
}

/// The probing process's main: `job` is its argument, [`Probes`] go to `out` as JSON.
///
/// # Errors
/// Where no directory can be had that programs can be started from.
pub(crate) fn main(job: Option<&str>, root: &Root, out: &mut dyn Write) -> Result<(), Error> {
    let job: Job = job
        .and_then(|job| serde_json::from_str(job).ok())
        .ok_or_else(|| Error::Usage(format!("{SUBCOMMAND} is only for internal use")))?;
    let emulators = match &job.identify {
        Some(Identify { path, prefix }) => Emulators::new(path.as_deref(), prefix)?,
        None => Emulators::default(),
    };
    // Test programs are to be executable, whatever the caller's umask is.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let targets = job.targets;
    let arches: Vec<_> = targets.iter().filter_map(|target| Arch::by_target(target)).collect();
    let stage = Stage::enter(root)?;
    // Emulators are what others registered, and their programs need no rights.
    privilege::keep(CapabilitySet::empty());
    let programs: Vec<_> = arches.into_iter().map(Programs::of).collect();
    // All files are complete before the first program starts: a descriptor open for writing that
    // another thread's child inherits would make exec fail with ETXTBSY.
    for (name, program) in programs.iter().flat_map(|programs| &programs.files) {
        stage.write(name, program).map_err(|error| Error::system(Op::Probe, &stage.dir, error))?;
    }
    let results = Mutex::new(BTreeMap::new());
    let queue = Mutex::new(programs.iter());
    let lock = |error: std::sync::PoisonError<_>| error.into_inner();
    thread::scope(|scope| {
        let work = || {
            loop {
                let Some(programs) = queue.lock().unwrap_or_else(lock).next() else { break };
                let probe = programs.run(&stage, &emulators);
                if let Ok(mut results) = results.lock() {
                    results.insert(programs.arch.target.to_owned(), probe);
                }
            }
        };
        // This thread works as well; where no others can be had it works alone.
        for _ in 1..thread::available_parallelism().map_or(1, usize::from) {
            let _ = thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    for (name, _) in programs.iter().flat_map(|programs| &programs.files) {
        stage.remove(name);
    }
    let by_target = results.into_inner().unwrap_or_default();
    let probes = Probes { empty_root: stage.empty, by_target };
    serde_json::to_writer(out, &probes)
        .map_err(|error| Error::system(Op::Write, "stdout", io::Error::from(error)))
}

/// The test programs of one architecture, by file name.
struct Programs {
    arch: &'static Arch,
    files: Vec<(String, Vec<u8>)>,
}

impl Programs {
    fn of(arch: &'static Arch) -> Self {
        let mut files = vec![(arch.target.to_owned(), arch.probe())];
        if arch.oci == "amd64" {
            let level = |(level, code): &(&str, &[u8])| {
                (format!("{}-{level}", arch.target), arch.level_probe(code))
            };
            files.extend(AMD64_LEVELS.iter().map(level));
        }
        // Who runs our own programs is known.
        let waiting = arch.waiting().filter(|_| arch != HOST);
        files.extend(waiting.map(|program| (format!("{}-waiting", arch.target), program)));
        Self { arch, files }
    }

    fn run(&self, stage: &Stage, emulators: &Emulators) -> Probe {
        let mut outcome = stage.run(&self.files[0].0);
        if matches!(outcome, Outcome::Crashed(_)) {
            outcome = stage.run_and_listen(&self.files[0].0);
        }
        let mut probe = Probe {
            outcome,
            emulator: None,
            program: Program::Unknown,
            ours: false,
            anchored: false,
            levels: Vec::new(),
        };
        if !probe.ran() {
            return probe;
        }
        let (version, file) = stage.version(&self.files[0].0);
        let same = |emulator: &Emulator| file.as_ref().is_some_and(|file| emulator.is(file));
        probe.anchored = file.as_ref().is_some_and(is_in_roots_memory);
        probe.ours = emulators.get(self.arch).is_some_and(same);
        if let Some(version) = version {
            probe.emulator = Some(Identity { family: QEMU.name.to_owned(), version });
            let is_static = file.as_ref().is_some_and(is_static);
            probe.program = Program::Emulator { is_static };
        } else if let Some((name, _)) = self.files.iter().find(|(name, _)| is_waiting(name)) {
            (probe.program, probe.emulator) = stage.who_runs(name);
        }
        // Each level includes those below it.
        let levels = self.files[1..].iter().filter(|(name, _)| !is_waiting(name));
        probe.levels.extend(
            levels
                .take_while(|(name, _)| stage.run(name) == Outcome::Ran)
                .filter_map(|(name, _)| name.rsplit_once('-').map(|(_, level)| level.to_owned())),
        );
        probe
    }
}

/// Whether a test program is one that waits.
fn is_waiting(name: &str) -> bool {
    name.ends_with("-waiting")
}

/// What tells one file from all others.
fn file_id(metadata: io::Result<fs::Metadata>) -> Option<(u64, u64)> {
    metadata.ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Whether a program needs no libraries.
fn is_static(file: &File) -> bool {
    let mut start = vec![0; elf::ENOUGH];
    let Ok(read) = file.read_at(&mut start, 0) else { return false };
    let parsed = elf::File::parse(&start[..read]);
    matches!(parsed, elf::File::Elf(elf) if elf.loader == elf::Loader::None)
}

fn is_in_roots_memory(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.uid() == 0)
        && fstatfs(file).is_ok_and(|fs| fs.filesystem_type() == TMPFS_MAGIC)
}

/// The place the test programs run in.
struct Stage {
    /// What is to be put before a program's name.
    dir: PathBuf,
    /// Whether nothing else is there, not even an emulator.
    empty: bool,
    /// To look at running programs from a root without /proc.
    processes: OwnedFd,
    /// The other side of streams that programs are not to use.
    null: File,
    /// Parent and name of a directory on disk, to be removed.
    leftover: Option<(OwnedFd, String)>,
}

impl Stage {
    /// Moves this process into an empty root, by the strongest means that is allowed.
    fn enter(root: &Root) -> Result<Self, Error> {
        let open_dir = |path: &Path| {
            rustix::fs::open(
                path,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .map_err(|error| Error::system(Op::Probe, path, error))
        };
        let processes = open_dir(&root.proc_dir())?;
        let null = root.path("/dev/null");
        let null = match File::options().read(true).write(true).open(&null) {
            Ok(null) => null,
            // A root without /dev: the read end of a pipe that nobody writes to.
            Err(_) => File::from(OwnedFd::from(
                io::pipe().map_err(|error| Error::system(Op::Probe, &null, error))?.0,
            )),
        };
        let stage = |dir, empty, leftover| Self { dir, empty, processes, null, leftover };

        if isolate_mounts().is_ok() || isolate_as_user(root).is_ok() {
            let dir = root.scratch()?;
            let tmpfs = mount(
                Some("tmpfs"),
                &dir,
                Some("tmpfs"),
                MsFlags::MS_NODEV,
                Some("mode=755,size=4m"),
            );
            if tmpfs.is_ok() {
                show_urandom(root, &dir);
            }
            if tmpfs.is_ok() && chroot(&dir).is_ok() && std::env::set_current_dir("/").is_ok() {
                return Ok(stage("/".into(), true, None));
            }
        }
        // Without the right to mount: a directory on disk, for as long as it takes.
        let name = format!(".binfmtctl-probe-{}", std::process::id());
        let temporary = std::env::var_os("TMPDIR").map(PathBuf::from);
        let places = ["/tmp", "/run", "/var/tmp", "/dev", "/"].map(|path| root.path(path));
        for place in temporary.into_iter().chain(places) {
            let executable =
                statvfs(&place).is_ok_and(|fs| !fs.flags().contains(FsFlags::ST_NOEXEC));
            let dir = place.join(&name);
            if executable && fs::DirBuilder::new().mode(0o755).create(&dir).is_ok() {
                let leftover = Some((open_dir(&place)?, name));
                let empty = chroot(&dir).is_ok() && std::env::set_current_dir("/").is_ok();
                return Ok(stage(if empty { "/".into() } else { dir }, empty, leftover));
            }
        }
        Err(Error::system(Op::Probe, "a temporary directory", Errno::EACCES))
    }

    fn write(&self, name: &str, program: &[u8]) -> io::Result<()> {
        let path = self.dir.join(name);
        File::options().write(true).create_new(true).mode(0o755).open(path)?.write_all(program)
    }

    fn remove(&self, name: &str) {
        let _ = fs::remove_file(self.dir.join(name));
    }

    fn null(&self) -> Stdio {
        self.null.try_clone().map_or_else(|_| Stdio::inherit(), Stdio::from)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.dir.join(name));
        command.env_clear().stdin(self.null()).stdout(self.null()).stderr(self.null());
        command
    }

    /// Starts a test program and waits for its end.
    fn run(&self, name: &str) -> Outcome {
        Self::outcome(&mut self.command(name))
    }

    /// The same; where it fails, with what it, or its emulator, said last.
    fn run_and_listen(&self, name: &str) -> Outcome {
        let Ok((from, to)) = io::pipe() else { return self.run(name) };
        let mut command = self.command(name);
        command.stderr(OwnedFd::from(to));
        let outcome = Self::outcome(&mut command);
        drop(command);
        let Outcome::Crashed(how) = outcome else { return outcome };
        let said = read_now(from);
        let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
        // Of several lines the first is mostly what is wrong, and the others are how it is used.
        let told =
            lines.clone().find(|line| line.starts_with("qemu")).or_else(|| lines.next_back());
        Outcome::Crashed(match told {
            Some(line) => format!("{how}; it says: {}", line.chars().take(200).collect::<String>()),
            None => how,
        })
    }

    fn outcome(command: &mut Command) -> Outcome {
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return Outcome::Refused(error.raw_os_error().unwrap_or(0)),
        };
        match wait(&mut child) {
            None => Outcome::TimedOut,
            Some(status) if status.success() => Outcome::Ran,
            Some(status) => Outcome::Crashed(match status.signal() {
                Some(signal) => format!("signal {signal}"),
                None => format!("exit status {}", status.code().unwrap_or(-1)),
            }),
        }
    }

    /// Asks the emulator behind a test program for its version, and for its file.
    ///
    /// QEMU prints its version instead of running anything when `QEMU_VERSION` is set. It is made
    /// to wait on a full pipe with that, so that it can be looked at while it lives.
    fn version(&self, name: &str) -> (Option<String>, Option<File>) {
        let full_pipe = || -> io::Result<_> {
            let (from, mut to) = io::pipe()?;
            let filling = fcntl_setpipe_size(&to, 4096)?;
            to.write_all(&vec![0; filling])?;
            Ok((from, to, filling))
        };
        let Ok((mut from, to, filling)) = full_pipe() else { return (None, None) };
        let mut command = self.command(name);
        let Ok(mut child) = command.env("QEMU_VERSION", "1").stdout(to).spawn() else {
            return (None, None);
        };
        drop(command); // and with it our own writing end
        let program = self.program_of(child.id());
        let printed = read_printed(&mut from, filling + MOST_PRINTED);
        drop(from);
        wait_until(&mut child, Instant::now() + TIME_LIMIT);
        let text = String::from_utf8_lossy(printed.get(filling..).unwrap_or_default()).into_owned();
        let version = QEMU.version(&text);
        (version, program)
    }

    /// The program that a child runs, as long as the child lives.
    ///
    /// A child runs ours at first, and may do so for a moment yet when it is said to be started: the
    /// parent of a `vfork` goes on before the kernel has put the new program in the old one's place.
    fn program_of(&self, child: u32) -> Option<File> {
        let open = |pid| {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            openat(&self.processes, Root::exe_of(pid), flags, Mode::empty()).map(File::from).ok()
        };
        let ours = open(std::process::id()).and_then(|file| file_id(file.metadata()));
        let end = Instant::now() + TIME_LIMIT;
        loop {
            let program = open(child)?;
            if file_id(program.metadata()) != ours || Instant::now() >= end {
                return Some(program);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Starts a test program that waits, and sees what then runs: it, or an emulator of it.
    fn who_runs(&self, name: &str) -> (Program, Option<Identity>) {
        let nothing = (Program::Unknown, None);
        let Ok(mut child) = self.command(name).spawn() else { return nothing };
        let running = self.program_of(child.id());
        let path = readlinkat(&self.processes, Root::exe_of(child.id()), Vec::new()).ok();
        let _ = child.kill();
        let _ = child.wait();
        let program = file_id(fs::metadata(self.dir.join(name)));
        let (Some(running), Some(program)) = (running, program) else { return nothing };
        if file_id(running.metadata()) == Some(program) {
            return (Program::Itself, None);
        }
        let path = path.map(|path| PathBuf::from(OsString::from_vec(path.into_bytes())));
        let family = path.and_then(|path| Family::of_file(&path));
        let identity =
            |family: &Family| Identity { family: family.name.to_owned(), version: String::new() };
        (Program::Emulator { is_static: is_static(&running) }, family.map(identity))
    }
}

/// Reads what is in a pipe already: something left behind may keep its other end open.
fn read_now(mut from: io::PipeReader) -> String {
    let mut bytes = vec![0; MOST_PRINTED];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    let ready = matches!(poll(&mut [PollFd::new(&from, PollFlags::IN)], Some(&now)), Ok(1));
    let got = if ready { from.read(&mut bytes).unwrap_or(0) } else { 0 };
    String::from_utf8_lossy(&bytes[..got]).into_owned()
}

/// Reads what a process prints, at most so many bytes and for so long: an emulator that is none may
/// print without an end.
fn read_printed(from: &mut io::PipeReader, most: usize) -> Vec<u8> {
    let mut printed = Vec::new();
    let mut buffer = [0; 4096];
    let end = Instant::now() + TIME_LIMIT;
    while printed.len() < most {
        let left = end.saturating_duration_since(Instant::now());
        let left = rustix::event::Timespec {
            tv_sec: left.as_secs().cast_signed(),
            tv_nsec: left.subsec_nanos().into(),
        };
        if Instant::now() >= end
            || !matches!(poll(&mut [PollFd::new(&*from, PollFlags::IN)], Some(&left)), Ok(1))
        {
            break;
        }
        match from.read(&mut buffer) {
            Ok(got) if got > 0 => printed.extend(&buffer[..got]),
            _ => break,
        }
    }
    printed
}

/// Puts /dev/urandom into an empty root, as every container has it: emulators read it where a filter
/// keeps getrandom(2) from them.
fn show_urandom(root: &Root, dir: &Path) {
    let name = Path::new("dev/urandom");
    let shown = fs::DirBuilder::new()
        .mode(0o755)
        .create(dir.join("dev"))
        .and_then(|()| File::create_new(dir.join(name)))
        .and_then(|_| {
            let (from, to, flags) = (root.path(name), dir.join(name), MsFlags::MS_BIND);
            Ok(mount(Some(&from), &to, None::<&str>, flags, None::<&str>)?)
        });
    // Without it, the others do.
    drop(shown);
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some((place, name)) = &self.leftover {
            let _ = unlinkat(place, name.as_str(), AtFlags::REMOVEDIR);
        }
    }
}

/// Waits for the end of `child`, and ends it when its time is up.
fn wait(child: &mut Child) -> Option<ExitStatus> {
    wait_until(child, Instant::now() + TIME_LIMIT)
}

fn wait_until(child: &mut Child, end: Instant) -> Option<ExitStatus> {
    let mut pause = Duration::from_micros(200);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < end => thread::sleep(pause),
            _ => break,
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}
