//! What this host is like: kernel, mounts, rights, entries. Reads only.
//!
//! Observation records, it does not fail: each fact is known, or unknown with the reason.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use nix::errno::Errno;
use procfs::process::Status;
use procfs::{ConfigSetting, FromRead, KernelConfig, KernelVersion};
use rustix::fs::{
    Access, AtFlags, CWD, Dir, Mode, OFlags, ResolveFlags, accessat, fstatfs, openat, openat2,
};

use crate::entry::Entry;
use crate::error::{Error, Op};
use crate::mountinfo::{Mounts, points_of};
use crate::namespace::mount_is_filtered;
use crate::root::{MOUNT_POINT, Root};
use crate::state::{Config, Fact, Instance, Mount, State, UserNamespace};

/// Number of the initial user namespace's inode (`PROC_USER_INIT_INO`).
const INITIAL_USER_NS: u64 = 0xEFFF_FFFD;
/// What /proc/PID/status says of a process whose system calls are filtered (`SECCOMP_MODE_FILTER`).
const FILTERED: u32 = 2;
/// Bit of CAP_SYS_ADMIN in a capability set.
const CAP_SYS_ADMIN: u32 = 21;

/// No entry's text is longer: the kernel takes registrations of 1920 bytes.
const MOST_ENTRY: u64 = 1 << 16;

impl Instance {
    /// Reads the instance mounted at `dir`.
    ///
    /// # Errors
    /// Where it is none, or cannot be read.
    pub fn read(dir: &Path) -> Result<Self, Error> {
        let failed = |error: rustix::io::Errno| Error::system(Op::Read, dir, error);
        let opened = open_dir(CWD, dir).map_err(failed)?;
        let status = read_plain(&opened, "status".as_ref())
            .map_err(|error| Error::system(Op::Read, dir.join("status"), error))?;
        let mut this = Self { enabled: status.trim_ascii() == b"enabled", ..Self::default() };
        for name in entry_names(&opened).map_err(failed)? {
            let parsed = read_plain(&opened, &name)
                .map_err(|error| Error::system(Op::Read, dir.join(&name), error))
                .and_then(|text| Entry::parse(&name, &text));
            match parsed {
                Ok(entry) => this.entries.push(entry),
                // Gone between listing and reading: somebody else is at work.
                Err(error) if error.errno() == Some(Errno::ENOENT) => {}
                Err(error) => this.unreadable.push((name, error.to_string())),
            }
        }
        Ok(this)
    }
}

fn open_dir(at: impl AsFd, dir: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(at, dir, flags, Mode::empty())
}

/// The files of an instance that are entries, in its own order.
fn entry_names(dir: &OwnedFd) -> rustix::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for file in Dir::read_from(dir)? {
        let name = OsStr::from_bytes(file?.file_name().to_bytes()).to_owned();
        if ![".", "..", "register", "status"].iter().any(|other| name == *other) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Reads a file of an instance: a regular one, and no link to another.
fn read_plain(dir: &OwnedFd, name: &OsStr) -> std::io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = fs::File::from(openat(dir, name, flags, Mode::empty())?);
    if !file.metadata()?.is_file() {
        return Err(Errno::EINVAL.into());
    }
    let mut text = Vec::new();
    file.take(MOST_ENTRY).read_to_end(&mut text)?;
    Ok(text)
}

/// Whether the binfmt_misc that a process of another user namespace sees has no entries; `None` where it
/// sees none, or does not let us look.
///
/// That process's user may change all of its mounts at any moment. So none of its links is followed, no
/// file is opened, and what the directory is on is asked of the directory itself.
pub(crate) fn is_empty_for(process: &Path) -> Option<bool> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, process.join("root"), flags, Mode::empty()).ok()?;
    let inside = MOUNT_POINT.trim_start_matches('/');
    let scoped = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // Not told that it is a directory, the kernel triggers no automount.
    let at = openat2(root, inside, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), scoped).ok()?;
    if fstatfs(&at).ok()?.f_type != BINFMTFS_MAGIC {
        return None;
    }
    let dir = open_dir(at, Path::new(".")).ok()?;
    entry_names(&dir).ok().map(|names| names.is_empty())
}

/// Of `linux/magic.h`.
const BINFMTFS_MAGIC: rustix::fs::FsWord = 0x4249_4e4d;

/// Looks at everything but test programs.
pub fn observe(root: &Root) -> State {
    let release = read(&root.proc("sys/kernel/osrelease")).map(|text| text.trim().to_owned());
    let version = |text: &String| {
        KernelVersion::from_str(text).map_err(|error| format!("{error} in '{text}'"))
    };
    let name = release.as_deref().unwrap_or_default();
    let modules = root.path("/lib/modules").join(name).join("modules.dep");
    let status = parse::<Status>(&root.proc("self/status"));
    let (mount, instance) = observe_entries(root);
    State {
        covered: matches!(mount, Ok(Mount::Other(_))) && is_at(root, "binfmt_misc"),
        kernel: release.as_ref().map_err(Clone::clone).and_then(version),
        config: observe_config(root, name),
        filesystem: observe_filesystem(root),
        module: read(&modules).map(|text| text.contains("/binfmt_misc.ko")),
        user_namespace: observe_user_namespace(root),
        outer_root: observe_outer_root(root),
        main_process: observe_main_process(root),
        root: status.as_ref().map(|status| status.euid == 0).map_err(Clone::clone),
        mount_filtered: status.as_ref().is_ok_and(|status| status.seccomp == Some(FILTERED))
            && mount_is_filtered(),
        sys_admin: status.map(|status| status.capeff >> CAP_SYS_ADMIN & 1 == 1),
        may_write: observe_access(root),
        instance,
        mount,
        mount_point: root.mount_point().to_owned(),
        probes: Err(Error::NoneRun),
        surroundings: None,
    }
}

/// What is at the mount point, and the entries in it: what an install changes.
pub(crate) fn observe_entries(root: &Root) -> (Fact<Mount>, Fact<Instance>) {
    let mount = observe_mount(root);
    let instance = match &mount {
        // Reading through an automount would trigger it.
        Ok(Mount::Autofs) => Err("its automount has not been triggered".to_owned()),
        Ok(Mount::None) => Err("binfmt_misc is not mounted".to_owned()),
        Err(why) => Err(why.clone()),
        Ok(Mount::Other(kind)) => Err(format!("{kind} is mounted there, not binfmt_misc")),
        Ok(Mount::Binfmt { .. }) => {
            Instance::read(&root.path(root.mount_point())).map_err(|error| error.to_string())
        }
    };
    (mount, instance)
}

/// Whether we may write to the instance, by its file `register`, which has the owner of all others.
fn observe_access(root: &Root) -> Fact<bool> {
    let register = root.path(root.mount_point()).join("register");
    match accessat(CWD, &register, Access::WRITE_OK, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::ACCESS | rustix::io::Errno::ROFS) => Ok(false),
        Err(errno) => Err(Error::system(Op::Read, register, errno).to_string()),
    }
}

/// Whether the kernel knows the file system now; looking may have made it load its module.
pub(crate) fn observe_filesystem(root: &Root) -> Fact<bool> {
    read(&root.proc("filesystems"))
        .map(|text| text.lines().any(|line| line.split_whitespace().last() == Some("binfmt_misc")))
}

fn read(path: &Path) -> Fact<String> {
    fs::read_to_string(path).map_err(|error| Error::system(Op::Read, path, error).to_string())
}

fn parse<T: FromRead>(path: &Path) -> Fact<T> {
    T::from_file(path).map_err(|error| error.to_string())
}

fn observe_user_namespace(root: &Root) -> Fact<UserNamespace> {
    let map = read(&root.proc("self/uid_map"))?;
    let whole = maps_all(&map);
    // A nested namespace may map everything too; its inode tells. A fake root has no inode.
    let inode = fs::read_link(root.proc("self/ns/user")).ok();
    let inode = inode
        .as_deref()
        .and_then(Path::to_str)
        .and_then(|link| link.strip_prefix("user:[")?.strip_suffix(']')?.parse::<u64>().ok());
    Ok(if whole && inode.is_none_or(|inode| inode == INITIAL_USER_NS) {
        UserNamespace::Initial
    } else {
        UserNamespace::Nested
    })
}

fn observe_outer_root(root: &Root) -> Fact<bool> {
    Ok(maps_outer_root(&read(&root.proc("self/uid_map"))?))
}

/// Whether a uid_map is the initial namespace's, or one like it.
pub(crate) fn maps_all(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Whether uid 0 of the parent user namespace is mapped into this one: the second column of uid_map.
pub(crate) fn maps_outer_root(map: &str) -> bool {
    map.lines().any(|line| line.split_whitespace().nth(1) == Some("0"))
}

/// Whether process 1 is this one, or an init that was started to run this one's command line.
fn observe_main_process(root: &Root) -> bool {
    let command = |pid: &str| fs::read(root.proc(pid).join("cmdline")).unwrap_or_default();
    let own = command("self");
    !own.is_empty() && command("1").ends_with(&own)
}

/// What mountinfo says: unlike `stat`, it does not trigger an automount and knows read-only.
fn observe_mount(root: &Root) -> Fact<Mount> {
    let mountinfo = root.proc("self/mountinfo");
    let mountinfo = fs::read(&mountinfo)
        .map_err(|error| Error::system(Op::Read, &mountinfo, error).to_string())?;
    Ok(match Mounts::on_the_way_to(root.mount_point(), &mountinfo).visible() {
        None => Mount::None,
        Some(mounted) => match mounted.kind.to_str() {
            Some("autofs") => Mount::Autofs,
            Some("binfmt_misc") => Mount::Binfmt { writable: !mounted.read_only },
            _ => Mount::Other(mounted.kind.to_string_lossy().into_owned()),
        },
    })
}

/// Whether such a file system is at the mount point, hidden or not.
fn is_at(root: &Root, kind: &str) -> bool {
    let mountinfo = fs::read(root.proc("self/mountinfo")).unwrap_or_default();
    Mounts::on_the_way_to(root.mount_point(), &mountinfo)
        .at_path()
        .any(|mounted| mounted.kind == kind)
}

/// Where binfmt_misc can be seen, if it is not at the mount point but elsewhere.
pub(crate) fn mounted_elsewhere(root: &Root) -> Option<PathBuf> {
    if !matches!(observe_mount(root), Ok(Mount::None)) {
        return None;
    }
    let mountinfo = fs::read(root.proc("self/mountinfo")).ok()?;
    let points = points_of("binfmt_misc", &mountinfo).into_iter();
    points
        .filter(|at| {
            let visible = Mounts::on_the_way_to(at, &mountinfo);
            visible.visible().is_some_and(|mounted| mounted.kind == "binfmt_misc")
        })
        .find(|at| root.path(at).join("status").exists())
}

fn observe_config(root: &Root, release: &str) -> Fact<Config> {
    Ok(match kernel_config(root, release)?.0.get("CONFIG_BINFMT_MISC") {
        Some(ConfigSetting::Yes) => Config::BuiltIn,
        Some(ConfigSetting::Module) => Config::Module,
        _ => Config::Absent,
    })
}

/// The running kernel's configuration.
pub(crate) fn kernel_config(root: &Root, release: &str) -> Fact<KernelConfig> {
    let from_proc = fs::File::open(root.proc("config.gz"))
        .map_err(procfs::ProcError::from)
        .and_then(|file| KernelConfig::from_read(GzDecoder::new(file)));
    let config = from_proc.or_else(|_| {
        let boot = root.path("/boot").join(format!("config-{release}"));
        KernelConfig::from_read(BufReader::new(fs::File::open(boot)?))
    });
    config.map_err(|_| {
        "the kernel's configuration is neither in /proc/config.gz nor in /boot".to_owned()
    })
}
