//! `run`: emulation for one program and its children, without root and without touching the host.
//!
//! Since Linux 6.7 a user namespace may have a binfmt_misc of its own. This process opens one in which
//! it is root, mounts and registers there, takes on its own uid again in a second namespace within,
//! and becomes the program. All of it goes when the last process does. Where there is no binfmt_misc
//! to be had, the program's emulator is started with it: see `directly`. What may be needed, but is not
//! unpacked yet, is left to a process beside the program: see `watcher`.

#![expect(clippy::disallowed_methods, reason = "makes a namespace and a root for one program")]

mod directly;
mod sigpipe;
pub(crate) mod stand_in;
pub(crate) mod watcher;

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::CloneFlags;
use nix::unistd::{Gid, Uid, chdir, chroot, execvp, getegid, geteuid, pivot_root};
use rustix::fs::{FileType, Mode, OFlags, fstat};
use rustix::process::umask;

use super::Context;
use crate::anchor::{self, write_registration};
use crate::apply::remove_entry;
use crate::arch::{ARCHES, Arch, HOST};
use crate::cache::Cache;
use crate::cli::{Options, Run};
use crate::elf;
use crate::emulator::{Emulator, Emulators};
use crate::error::{Error, Op, errno};
use crate::host::observe;
use crate::kernel;
use crate::namespace;
use crate::plan;
use crate::root::Root;
use crate::state::State;
use crate::tree::Tree;

/// First argument of the process that maps ids from outside; a pid follows.
pub(crate) const SUBCOMMAND: &str = "__map-ids";

/// Becomes the program; returns only if that fails.
///
/// # Errors
/// What prevents it: the kernel's or the host's settings, an emulator that is not at hand, the
/// program's own start.
pub(crate) fn run(context: &mut Context<'_>, request: &Run) -> Result<(), Error> {
    let Some(program) = request.command.first() else {
        return clean_cache(context);
    };
    refuse_empty_words(program, request)?;
    // What is made on the way has the modes it is to have; the program has its caller's umask.
    let umask = umask(Mode::from_raw_mode(0o022));
    let root = context.root;
    let state = observe(root);
    let lacking = state.version().filter(|v| !kernel::OWN_INSTANCE.is_in(v)).map(|v| {
        let version = format!("{}.{}.{}", v.major, v.minor, v.patch);
        format!("kernel {version} cannot give a user namespace a binfmt_misc of its own")
    });
    let Wanted { now, later } = match &lacking {
        Some(why) => Wanted::at_once(vec![directly::emulator(context.emulators, request, why)?]),
        None => wanted(context, request)?,
    };
    let unpacked = unpack_told(context, &now)?;

    let (uid, gid) = (geteuid(), getegid());
    let processes = namespace::open_processes(root)
        .map_err(|error| Error::system(Op::Read, root.proc_dir(), error))?;
    open_namespace(root, request.map_root || uid.is_root())?;
    let way = match lacking {
        Some(why) => Way::Directly { why },
        None => register(context, &state, (&now, &unpacked.paths), &later)?,
    };
    let (instance, direct) = match way {
        Way::ByEntries { instance } => (instance, None),
        Way::Directly { why } => {
            let only = directly::emulator(context.emulators, request, &why)?;
            let path = now.iter().zip(&unpacked.paths).find(|(one, _)| one.arch == only.arch);
            let path = path.map(|(_, path)| path).ok_or(Error::NoEmulator(only.arch.oci))?;
            directly::tell(context, only, request, &why);
            (None, Some(directly::Direct::new(path, &why)?))
        }
    };
    drop(unpacked);
    if let Some(dir) = &request.root {
        enter_root(root, dir, instance.as_deref(), &request.bind)?;
    } else {
        let tree = Tree::open(Path::new("/"))?;
        request.bind.iter().try_for_each(|bind| bind_to(bind, &tree))?;
    }
    let workdir = request.workdir.as_deref().or(request.root.is_some().then_some(Path::new("/")));
    if let Some(dir) = workdir {
        chdir(dir).map_err(|errno| Error::system(Op::Enter, dir, errno))?;
    }
    if !request.map_root && !uid.is_root() {
        become_user(&processes, uid, gid)?;
    }
    rustix::process::umask(umask);
    // The file stays open until it is executed.
    let (file, words) = match &direct {
        Some(direct) => direct.command(&request.command)?,
        None => (program.into(), request.command.clone()),
    };
    let errno = start(&file, &words);
    Err(Error::system(Op::Start, program, errno))
}

/// An empty word is a variable that was not set, of a script.
fn refuse_empty_words(program: &OsStr, request: &Run) -> Result<(), Error> {
    if program.is_empty() {
        return Err(Error::Usage("the name of the program is empty".to_owned()));
    }
    if request.bind.iter().any(|bind| bind.is_empty() || bind.as_bytes().starts_with(b":")) {
        return Err(Error::Usage("--bind takes SRC or SRC:DST, and SRC is empty".to_owned()));
    }
    Ok(())
}

/// How a program gets to its emulator.
enum Way {
    /// By entries of this instance of our own; none where nothing is emulated.
    ByEntries { instance: Option<PathBuf> },
    /// The emulator is started with it, as entries cannot be had.
    Directly { why: String },
}

/// Mounts an instance, if the kernel has a binfmt_misc at all, and registers there the emulators that are unpacked, and
/// what stands in for the others.
fn register(
    context: &mut Context<'_>,
    state: &State,
    (now, paths): (&[&Emulator], &[PathBuf]),
    later: &[&Emulator],
) -> Result<Way, Error> {
    let root = context.root;
    let flags = plan::flags(&Options::default(), state);
    let write = |instance: &Path, emulators: &[&Emulator], paths: &[PathBuf]| {
        emulators.iter().zip(paths).try_for_each(|(emulator, path)| {
            write_registration(instance, &emulator.registration(path, &flags)?)
        })
    };
    if now.is_empty() && later.is_empty() {
        return Ok(Way::ByEntries { instance: None });
    }
    let instance = match mount_instance(root) {
        Err(error) if error.errno() == Some(Errno::ENODEV) => {
            return Ok(Way::Directly { why: "this kernel has no binfmt_misc".to_owned() });
        }
        other => other?,
    };
    write(&instance, now, paths)?;
    if !later.is_empty()
        && let Err(error) = watcher::start(root, &instance, context.emulators, later, &flags)
    {
        context.log.verbose(&format!("note: all emulators are unpacked at once: {error}"));
        later.iter().try_for_each(|one| remove_entry(&instance, one.name.as_ref()))?;
        let unpacked = unpack_told(context, later)?;
        write(&instance, later, &unpacked.paths)?;
    }
    Ok(Way::ByEntries { instance: Some(instance) })
}

/// Becomes what this file holds, by these words of which the first is its name, with what our caller did
/// about SIGPIPE; returns the reason where that fails.
fn start(file: &Path, words: &[OsString]) -> std::io::Error {
    let Some((name, arguments)) = words.split_first() else { return Errno::EINVAL.into() };
    if !sigpipe::was_ignored() {
        // Sets it back to what it is by default.
        return Command::new(file).arg0(name).args(arguments).exec();
    }
    let file = std::iter::once(file.as_os_str());
    let all = file.chain(words.iter().map(OsString::as_os_str));
    let words: Result<Vec<_>, _> = all.map(|word| CString::new(word.as_bytes())).collect();
    match words.as_deref() {
        Ok([file, words @ ..]) => match execvp(file, words) {
            Err(errno) => errno.into(),
            Ok(never) => match never {},
        },
        _ => Errno::EINVAL.into(),
    }
}

/// Where emulators were unpacked.
#[derive(Default)]
struct Unpacked {
    paths: Vec<PathBuf>,
    /// What must stay open until they are registered.
    _held: Vec<File>,
    /// Why they are in memory, if they are.
    why: Option<String>,
}

/// The same, and tells the user of emulators that the next run will not find.
fn unpack_told(context: &mut Context<'_>, wanted: &[&Emulator]) -> Result<Unpacked, Error> {
    let unpacked = unpack(context.root, context.emulators, wanted)?;
    if let Some(why) = &unpacked.why {
        let note = format!("note: emulators are unpacked to memory, for this run only: {why}");
        context.log.news(&note);
    }
    Ok(unpacked)
}

/// Unpacks emulators: to the user's cache, or to memory where the cache cannot be written, or nothing in it may
/// be executed.
fn unpack(root: &Root, emulators: &Emulators, wanted: &[&Emulator]) -> Result<Unpacked, Error> {
    if wanted.is_empty() {
        return Ok(Unpacked::default());
    }
    let cached =
        Cache::place().map(|dir| Cache::open(dir).and_then(|cache| cache.paths(emulators, wanted)));
    let why = match cached {
        Some(Ok(paths)) => return Ok(Unpacked { paths, ..Unpacked::default() }),
        None => "neither XDG_CACHE_HOME nor HOME is set".to_owned(),
        // Elsewhere it would be damaged as well.
        Some(Err(error @ Error::DamagedEmulator { .. })) => return Err(error),
        Some(Err(error)) => error.to_string(),
    };
    let files = anchor::memory_files(root, emulators, wanted)?;
    let held = files.into_iter().collect::<Result<Vec<_>, _>>()?;
    let paths = held.iter().map(|file| Root::fd_path(file.as_raw_fd())).collect();
    Ok(Unpacked { paths, _held: held, why: Some(why) })
}

/// Removes the emulators that runs have unpacked.
fn clean_cache(context: &mut Context<'_>) -> Result<(), Error> {
    let told = match Cache::place() {
        None => "there is no cache: neither XDG_CACHE_HOME nor HOME is set".to_owned(),
        Some(dir) if dir.symlink_metadata().is_err() => {
            format!("nothing to remove: there is no {}", dir.display())
        }
        Some(dir) => format!("removed {}", Cache::open(dir)?.clear()?.display()),
    };
    context.log.news(&told);
    Ok(())
}

/// The emulators to register.
struct Wanted<'a> {
    /// Those that are needed, or are there already.
    now: Vec<&'a Emulator>,
    /// Those that may be needed, and are not unpacked until then.
    later: Vec<&'a Emulator>,
}

impl<'a> Wanted<'a> {
    fn at_once(now: Vec<&'a Emulator>) -> Self {
        Self { now, later: Vec::new() }
    }
}

/// The emulators to register: those named; else the program's own if it is foreign; else all.
fn wanted<'a>(context: &mut Context<'a>, request: &Run) -> Result<Wanted<'a>, Error> {
    let emulators = context.emulators;
    emulators.some()?;
    if let Some(list) = request.platforms() {
        plan::notes(&list).iter().for_each(|note| context.log.news(&format!("note: {note}")));
        let named = plan::requested(&list, emulators)
            .into_iter()
            .collect::<Result<Vec<_>, _>>()
            .map_err(Error::UnknownPlatform)?;
        let foreign = named.into_iter().filter(|arch| *arch != HOST);
        let found: Result<_, _> = foreign.map(|arch| emulators.find(arch)).collect();
        return found.map(Wanted::at_once);
    }
    let of_program = arch_of(request).filter(|arch| *arch != HOST);
    if let Some(emulator) = of_program.and_then(|arch| emulators.get(arch)) {
        return Ok(Wanted::at_once(vec![emulator]));
    }
    let all = ARCHES.iter().filter(|arch| *arch != HOST).filter_map(|arch| emulators.get(arch));
    if !watcher::is_possible(emulators) {
        return Ok(Wanted::at_once(all.collect()));
    }
    let cache =
        Cache::place().and_then(|dir| Cache::open(dir).ok()).filter(|cache| !cache.is_noexec());
    let is_there = |one: &&Emulator| cache.as_ref().is_some_and(|cache| cache.holds(one));
    let (now, later) = all.partition(is_there);
    Ok(Wanted { now, later })
}

/// Mounts the namespace's own instance where programs look for it, or where else there is room.
fn mount_instance(root: &Root) -> Result<PathBuf, Error> {
    let at = root.path(root.mount_point());
    match namespace::mount_binfmt(&at) {
        Ok(()) => Ok(at),
        Err(error) if error.errno() == Some(Errno::ENOENT) => {
            let scratch = root.scratch()?;
            namespace::mount_binfmt(&scratch).map(|()| scratch)
        }
        Err(error) if error.errno() == Some(Errno::EPERM) => Err(Error::Host {
            what: error.to_string(),
            hint: forbidden(root).unwrap_or_else(|| {
                "a security module or seccomp filter forbids mounting: run outside of the container"
                    .to_owned()
            }),
        }),
        Err(error) => Err(error),
    }
}

/// The architecture of the program, or of the interpreter of its script, where it can be read.
fn arch_of(request: &Run) -> Option<&'static Arch> {
    let tree = Tree::open(request.root.as_deref().unwrap_or(Path::new("/"))).ok()?;
    let mut path = tree.find(Path::new(request.command.first()?));
    if let Some(workdir) = request.workdir.as_deref().filter(|_| path.is_relative()) {
        path = workdir.join(path);
    }
    for _ in 0..MAX_SCRIPTS {
        match elf::File::parse(&tree.look(&path).ok()?.start.ok()?) {
            elf::File::Elf(elf) => return elf.arch(),
            elf::File::Script(line) => path = line.split([' ', '\t']).next()?.into(),
            _ => return None,
        }
    }
    None
}

/// How many scripts the kernel starts for one another.
const MAX_SCRIPTS: usize = 5;

/// Opens the outer namespaces: root over itself, mounts of its own.
fn open_namespace(root: &Root, whole_range: bool) -> Result<(), Error> {
    // Ids beyond our own are mapped from outside, by the setuid helpers, after we are inside.
    let mut mapper = if whole_range { Mapper::start(root)? } else { None };
    let refused = |error: std::io::Error| Error::Host {
        what: format!("cannot open a user namespace: {}", errno(error).desc()),
        hint: forbidden(root).unwrap_or_else(|| {
            "a security module or seccomp filter forbids it: run outside of the container"
                .to_owned()
        }),
    };
    if let Some(mapper) = &mut mapper {
        namespace::unshare_user(CloneFlags::CLONE_NEWNS).map_err(|errno| refused(errno.into()))?;
        mapper.map()?;
    } else {
        namespace::isolate_as_user(root).map_err(refused)?;
    }
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .map_err(|errno| Error::system(Op::Enter, "a private mount namespace", errno))
}

/// The setting that forbids user namespaces here, in words.
fn forbidden(root: &Root) -> Option<String> {
    let setting = |path: &str| {
        std::fs::read_to_string(root.proc(path)).ok().map(|text| text.trim().to_owned())
    };
    let settings = [
        ("sys/user/max_user_namespaces", "0", "user.max_user_namespaces", "15000"),
        ("sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone", "1"),
        (
            "sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns",
            "0",
        ),
    ];
    settings.iter().find(|(path, forbids, ..)| setting(path).as_deref() == Some(*forbids)).map(|(_, forbids, name, allows)| {
        format!("this host has {name}={forbids}: root can allow it by `sysctl {name}={allows}`, or install for all: binfmtctl --install")
    })
}

/// Takes on the caller's own ids again, in a namespace within.
fn become_user(processes: &OwnedFd, uid: Uid, gid: Gid) -> Result<(), Error> {
    namespace::unshare_user(CloneFlags::empty())
        .map_err(std::io::Error::from)
        .and_then(|()| namespace::map_ids(processes, &format!("{uid} 0 1"), &format!("{gid} 0 1")))
        .map_err(|error| Error::system(Op::Enter, "a user namespace of your own ids", error))
}

/// A process that stays outside and maps ids besides the caller's own: for root all, for others the
/// subordinate ones.
struct Mapper {
    child: Child,
}

impl Mapper {
    /// `None` where the caller has no ids but its own.
    fn start(root: &Root) -> Result<Option<Self>, Error> {
        let has = |file| subordinate(file, root).is_some();
        if !geteuid().is_root() && (!has("subuid") || !has("subgid")) {
            return Ok(None);
        }
        let child = Command::new(root.own_exe())
            .args([SUBCOMMAND, &std::process::id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| Error::system(Op::Start, root.own_exe(), error))?;
        Ok(Some(Self { child }))
    }

    fn map(&mut self) -> Result<(), Error> {
        // Closing its input is the word to begin.
        drop(self.child.stdin.take());
        let mut said = String::new();
        if let Some(mut out) = self.child.stdout.take() {
            let _ = out.read_to_string(&mut said);
        }
        match self.child.wait() {
            Ok(status) if status.success() => Ok(()),
            _ => Err(Error::Host {
                what: format!("cannot map your subordinate ids: {}", said.trim()),
                hint: "install newuidmap and newgidmap (package uidmap), setuid root".to_owned(),
            }),
        }
    }
}

/// The caller's range in /etc/subuid or /etc/subgid: first id and count.
fn subordinate(file: &str, root: &Root) -> Option<(u32, u32)> {
    let uid = geteuid();
    let name = nix::unistd::User::from_uid(uid).ok().flatten().map(|user| user.name);
    let text = std::fs::read_to_string(root.path("/etc").join(file)).ok()?;
    subordinate_to(&[name.as_deref().unwrap_or_default(), &uid.to_string()], &text)
}

/// First id and count of the range that belongs to an owner of one of these names (subuid(5)).
pub(crate) fn subordinate_to(names: &[&str], text: &str) -> Option<(u32, u32)> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let mine = !owner.is_empty() && names.contains(&owner);
        let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        mine.then_some(range)
    })
}

/// Main of the mapping process: waits for the word, then runs newuidmap and newgidmap on `pid`.
///
/// # Errors
/// Where one of them fails; what it said goes to `out`.
pub(crate) fn map_ids(pid: Option<&str>, root: &Root, out: &mut dyn Write) -> Result<(), Error> {
    let pid = pid.ok_or_else(|| Error::Usage(format!("{SUBCOMMAND} is only for internal use")))?;
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    if geteuid().is_root() {
        return map_all(pid, root).inspect_err(|error| drop(write!(out, "{error}")));
    }
    for (tool, file, own) in
        [("newuidmap", "subuid", geteuid().as_raw()), ("newgidmap", "subgid", getegid().as_raw())]
    {
        let Some((first, count)) = subordinate(file, root) else { continue };
        let own = own.to_string();
        let range = [first.to_string(), count.to_string()];
        let output =
            Command::new(tool).args([pid, "0", &own, "1", "1", &range[0], &range[1]]).output();
        let failed = match output {
            Ok(output) if output.status.success() => continue,
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => format!("{tool}: {error}"),
        };
        let _ = write!(out, "{failed}");
        return Err(Error::Failed(failed));
    }
    Ok(())
}

/// Maps every id that there is here to itself, in the namespace that `pid` opened: what root makes in
/// it belongs to whom it should. Root without CAP_SETUID gets its own id.
///
/// The very last id, which nobody has, is left out: programs take a map of all ids for the initial
/// namespace's. runc then sets what only that may set, and fails.
fn map_all(pid: &str, root: &Root) -> Result<(), Error> {
    for (map, own) in [("uid_map", geteuid().as_raw()), ("gid_map", getegid().as_raw())] {
        let here = root.proc("self").join(map);
        let here = std::fs::read_to_string(&here)
            .map_err(|error| Error::system(Op::Read, &here, error))?;
        let ranges = here.lines().filter_map(|line| {
            let mut fields = line.split_whitespace();
            let (first, count) = (fields.next()?, fields.nth(1)?.parse::<u32>().ok()?);
            let count = count.min(u32::MAX - 1);
            Some(format!("{first} {first} {count}\n"))
        });
        let (all, path) = (ranges.collect::<String>(), root.proc(pid).join(map));
        let write = |path: &Path, text: &str| {
            File::options()
                .write(true)
                .open(path)
                .and_then(|mut file| file.write_all(text.as_bytes()))
        };
        write(&path, &all)
            .or_else(|_| {
                // Which the kernel allows where no group can be given up any more.
                let _ = write(&root.proc(pid).join("setgroups"), "deny");
                write(&path, &format!("{own} {own} 1\n"))
            })
            .map_err(|error| Error::system(Op::WriteFile, &path, error))?;
    }
    Ok(())
}

/// Makes `dir` the root, with what programs expect of one.
fn enter_root(
    root: &Root,
    dir: &Path,
    instance: Option<&Path>,
    binds: &[OsString],
) -> Result<(), Error> {
    let failed = |at: &Path| {
        let at = at.to_owned();
        move |errno| Error::system(Op::Enter, &at, errno)
    };
    let bind = |from: &Path, to: &Path| {
        mount(Some(from), to, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
            .map_err(failed(to))
    };
    bind(dir, dir)?;
    let tree = Tree::open(dir)?;
    let top = tree.place(Path::new("."), OFlags::empty()).map_err(errno).map_err(failed(dir))?;
    let id = |fd: &OwnedFd| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino)).ok();
    // A root need not have all of them, a dangling link is none, and `/` has them already. Nor is the root
    // itself one of them, should a link lead there.
    let pair = |path: &str| {
        let from = root.path(path);
        let (here, to) =
            (from.metadata().ok()?, tree.place(Path::new(path), OFlags::empty()).ok()?);
        let is_dir = FileType::from_raw_mode(fstat(&to).ok()?.st_mode) == FileType::Directory;
        let apart = id(&to) != Some((here.dev(), here.ino())) && id(&to) != id(&top);
        (here.is_dir() == is_dir && apart).then_some((from, to, is_dir))
    };
    let pairs = ["/proc", "/dev", "/sys", "/etc/resolv.conf"].into_iter().filter_map(pair);
    let pairs: Vec<_> = pairs.collect();
    let at = |to: &OwnedFd| Root::fd_path(to.as_raw_fd());
    // The old root goes with all mounts on it, and entries with their last mount: so one stays, hidden
    // below the first of these.
    if let Some(instance) = instance {
        let (_, below, _) =
            pairs.iter().find(|(.., is_dir)| *is_dir).ok_or_else(|| Error::Host {
                what: format!("{} has none of /proc, /dev and /sys", dir.display()),
                hint: "it is not the root of a system; make one of these directories in it"
                    .to_owned(),
            })?;
        bind(instance, &at(below))?;
    }
    pairs.iter().try_for_each(|(from, to, _)| bind(from, &at(to)))?;
    binds.iter().try_for_each(|one| bind_to(one, &tree))?;
    // Not chroot alone: the kernel allows no further user namespaces from inside one.
    chdir(dir)
        .and_then(|()| match pivot_root(".", ".") {
            Ok(()) => umount2(".", MntFlags::MNT_DETACH),
            // A machine that runs from its initramfs has a root that cannot be replaced, only covered.
            Err(Errno::EINVAL) => {
                mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)
                    .and_then(|()| chroot("."))
            }
            Err(errno) => Err(errno),
        })
        .map_err(failed(dir))
}

/// `SRC[:DST]`, with DST as the root's own links lead.
fn bind_to(bind: &OsStr, root: &Tree) -> Result<(), Error> {
    let bytes = bind.as_bytes();
    let (from, to) = match bytes.iter().position(|byte| *byte == b':') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, bytes),
    };
    let to = Path::new(OsStr::from_bytes(to));
    let from = OsStr::from_bytes(from);
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    root.place(to, OFlags::empty())
        .map_err(errno)
        .and_then(|to| {
            mount(Some(from), &Root::fd_path(to.as_raw_fd()), None::<&str>, flags, None::<&str>)
        })
        .map_err(|errno| {
            let (from, to) = (Path::new(from).display(), root.shown(to));
            Error::system(Op::Bind, format!("{from} to {}", to.display()), errno)
        })
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests build directories")]
mod tests {
    use super::*;

    #[test]
    fn settings_that_forbid_are_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("proc/sys/user")).unwrap();
        std::fs::write(dir.path().join("proc/sys/user/max_user_namespaces"), "0\n").unwrap();
        let root = Root::new(dir.path(), Path::new(crate::root::MOUNT_POINT));
        assert!(forbidden(&root).unwrap().starts_with("this host has user.max_user_namespaces=0"));
        std::fs::write(dir.path().join("proc/sys/user/max_user_namespaces"), "15000\n").unwrap();
        assert_eq!(forbidden(&root), None);
    }
}
