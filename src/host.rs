//! What this host is like: the only reader of /proc and /sys.
//!
//! Observation records, it does not fail: each fact is known, or unknown with the reason.

use std::fs;
use std::io::{self, BufReader};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use procfs::process::{MountInfo, MountInfos, Status};
use procfs::{ConfigSetting, FromRead, KernelConfig, KernelVersion};

use rustix::fs::{Mode, OFlags, openat};

use crate::arch::{ARCHES, Arch};
use crate::entry::Entry;
use crate::error::{Error, Op};
use crate::probe::Probes;
use crate::surroundings::Surroundings;

/// Where binfmt_misc is mounted by everybody's convention.
pub const MOUNT_POINT: &str = "/proc/sys/fs/binfmt_misc";
/// Number of the initial user namespace's inode (`PROC_USER_INIT_INO`).
const INITIAL_USER_NS: u64 = 0xEFFF_FFFD;
/// Bit of CAP_SYS_ADMIN in a capability set.
const CAP_SYS_ADMIN: u32 = 21;

/// The directories that hold the host: real ones, or a test's.
#[derive(Debug, Clone)]
pub struct Root {
    base: PathBuf,
    mount_point: PathBuf,
}

impl Root {
    /// A host whose root is `base` and whose binfmt_misc is, or is to be, at `mount_point`.
    pub fn new(base: &Path, mount_point: &Path) -> Self {
        Self { base: base.into(), mount_point: mount_point.into() }
    }

    /// The same host, with its binfmt_misc seen through another mount of it.
    #[must_use]
    pub fn at(&self, mount_point: &Path) -> Self {
        Self { mount_point: mount_point.into(), ..self.clone() }
    }

    /// The mount point as the host calls it.
    pub fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    /// Path of something below this root.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.base.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Path of something below /proc.
    pub fn process(&self, path: &str) -> PathBuf {
        self.path("/proc").join(path)
    }

    /// A link to a running process's program; it can be opened as long as the process lives.
    pub fn program_of(pid: u32) -> String {
        format!("{pid}/exe")
    }

    /// The link to our own program.
    pub fn own_program(&self) -> PathBuf {
        self.process("self/exe")
    }

    /// Path through which an open file can be opened again.
    pub fn open_file(fd: i32) -> PathBuf {
        format!("/proc/self/fd/{fd}").into()
    }

    /// The process directory, to be opened before a chroot hides it.
    pub fn processes(&self) -> PathBuf {
        self.path("/proc")
    }

    /// A directory that exists and that nobody of this process misses when it is mounted over.
    ///
    /// For mounts in a private mount namespace only.
    ///
    /// # Errors
    /// ENOENT where there is no such directory.
    pub fn scratch(&self) -> Result<PathBuf, Error> {
        // The first exists wherever /proc is mounted whole; the others are there for `hidepid`
        // mounts with `subset=pid`.
        let candidates = ["/proc/fs", "/tmp", "/run", "/mnt", "/dev"];
        candidates
            .iter()
            .map(|path| self.path(path))
            .find(|path| path.is_dir())
            .ok_or_else(|| Error::system(Op::Anchor, "/proc/fs", Errno::ENOENT))
    }
}

/// Something observed, or why it could not be.
pub type Fact<T> = Result<T, String>;

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
    /// Entries that could not be read, with the reason.
    pub unreadable: Vec<(String, String)>,
}

impl Instance {
    /// Reads the instance mounted at `dir`.
    ///
    /// # Errors
    /// Where it is none, or cannot be read.
    pub fn read(dir: &Path) -> Result<Self, Error> {
        let status = dir.join("status");
        let text =
            fs::read_to_string(&status).map_err(|error| Error::system(Op::Read, &status, error))?;
        let mut this = Self { enabled: text.trim() == "enabled", ..Self::default() };
        for file in fs::read_dir(dir).map_err(|error| Error::system(Op::Read, dir, error))? {
            let file = file.map_err(|error| Error::system(Op::Read, dir, error))?;
            let name = file.file_name().to_string_lossy().into_owned();
            if name == "register" || name == "status" {
                continue;
            }
            // Bytes, as a path or a name need not be UTF-8.
            let parsed = fs::read(file.path())
                .map_err(|error| Error::system(Op::Read, file.path(), error))
                .and_then(|bytes| Entry::parse(&name, &String::from_utf8_lossy(&bytes)));
            match parsed {
                Ok(entry) => this.entries.push(entry),
                // Gone between listing and reading: somebody else is at work.
                Err(error) if error.errno() == Some(Errno::ENOENT) => {}
                Err(error) => this.unreadable.push((name, error.to_string())),
            }
        }
        Ok(this)
    }

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
    /// Whether root of the user namespace around ours is somebody here, too.
    pub outer_root: Fact<bool>,
    /// Whether this process is what its container was started for: all mounts here go with it.
    pub main_process: bool,
    /// Whether we are uid 0 of our user namespace.
    pub root: Fact<bool>,
    /// Whether we may mount.
    pub sys_admin: Fact<bool>,
    /// What is at the mount point.
    pub mount: Fact<Mount>,
    /// The instance that our programs are run by, where it can be seen.
    pub instance: Fact<Instance>,
    /// Which test programs ran just now; empty before the first probe.
    pub probes: Probes,
    /// What else decides; looked at only for `doctor`.
    pub surroundings: Option<Surroundings>,
}

/// What serves an architecture's programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server<'a> {
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
    /// What tells is the emulator's owner: files of the host's root are nobody's in the namespace.
    pub fn hides_own_instance(&self) -> bool {
        let own = |arch| {
            self.server(arch) == Some(Server::Hidden)
                && self.probes.get(arch).is_some_and(|probe| probe.anchored)
        };
        self.user_namespace == Ok(UserNamespace::Nested)
            && self.outer_root == Ok(false)
            && ARCHES.iter().any(own)
    }

    /// The entry that would take `arch`'s programs, working or not.
    pub fn taker(&self, arch: &Arch) -> Option<&Entry> {
        self.instance.as_ref().ok()?.taker(&arch.probe())
    }

    /// What ran `arch`'s test program just now; `None` where it did not run.
    pub fn server(&self, arch: &Arch) -> Option<Server<'_>> {
        let probe = self.probes.get(arch).filter(|probe| probe.ran())?;
        Some(match (self.taker(arch), &probe.qemu) {
            (Some(entry), _) => Server::Entry(entry),
            (None, Some(_)) => Server::Hidden,
            (None, None) => Server::Native,
        })
    }
}

/// Looks at everything but test programs.
pub fn observe(root: &Root) -> State {
    observe_instance(root, root.mount_point())
}

/// As [`observe`], but reads the entries through another mount, see [`look`].
pub fn observe_instance(root: &Root, instance: &Path) -> State {
    let release = read(&root.process("sys/kernel/osrelease"));
    let status = parse::<Status>(&root.process("self/status"));
    let mount = observe_mount(root);
    State {
        kernel: release.as_ref().map_err(Clone::clone).and_then(|release| {
            KernelVersion::from_str(release.trim())
                .map_err(|error| format!("{error} in '{}'", release.trim()))
        }),
        config: observe_config(root, release.as_deref().unwrap_or_default().trim()),
        filesystem: read(&root.process("filesystems")).map(|text| {
            text.lines().any(|line| line.split_whitespace().last() == Some("binfmt_misc"))
        }),
        module: read(
            &root
                .path("/lib/modules")
                .join(release.as_deref().unwrap_or_default().trim())
                .join("modules.dep"),
        )
        .map(|text| text.contains("/binfmt_misc.ko")),
        user_namespace: observe_user_namespace(root),
        outer_root: observe_outer_root(root),
        main_process: observe_main_process(root),
        root: status.as_ref().map(|status| status.euid == 0).map_err(Clone::clone),
        sys_admin: status.map(|status| status.capeff >> CAP_SYS_ADMIN & 1 == 1),
        instance: match &mount {
            // Reading through an automount would trigger it.
            Ok(Mount::Autofs) if instance == root.mount_point() => {
                Err("its automount has not been triggered".to_owned())
            }
            Ok(Mount::None) if instance == root.mount_point() => {
                Err("binfmt_misc is not mounted".to_owned())
            }
            Err(why) if instance == root.mount_point() => Err(why.clone()),
            _ => Instance::read(&root.path(instance)).map_err(|error| error.to_string()),
        },
        mount,
        probes: Probes::default(),
        surroundings: None,
    }
}

fn read(path: &Path) -> Fact<String> {
    fs::read_to_string(path).map_err(|error| Error::system(Op::Read, path, error).to_string())
}

fn parse<T: FromRead>(path: &Path) -> Fact<T> {
    T::from_file(path).map_err(|error| error.to_string())
}

fn observe_user_namespace(root: &Root) -> Fact<UserNamespace> {
    let map = read(&root.process("self/uid_map"))?;
    let whole = map.split_whitespace().eq(["0", "0", "4294967295"]);
    // A nested namespace may map everything too; its inode tells. A fake root has no inode.
    let inode = fs::read_link(root.process("self/ns/user")).ok();
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

/// The second column of uid_map is of the namespace around ours.
fn observe_outer_root(root: &Root) -> Fact<bool> {
    let map = read(&root.process("self/uid_map"))?;
    Ok(map.lines().any(|line| line.split_whitespace().nth(1) == Some("0")))
}

/// Whether process 1 is this one, or an init that was started to run this one's command line.
fn observe_main_process(root: &Root) -> bool {
    let command = |pid: &str| fs::read(root.process(pid).join("cmdline")).unwrap_or_default();
    let own = command("self");
    !own.is_empty() && command("1").ends_with(&own)
}

/// What mountinfo says: unlike `stat`, it does not trigger an automount and knows read-only.
fn observe_mount(root: &Root) -> Fact<Mount> {
    let mounts = parse::<MountInfos>(&root.process("self/mountinfo"))?;
    let top = visible_mount(&mounts.0, root.mount_point());
    Ok(match top {
        None => Mount::None,
        Some(mount) => match mount.fs_type.as_str() {
            "autofs" => Mount::Autofs,
            "binfmt_misc" => {
                let read_only = mount.mount_options.contains_key("ro")
                    || mount.super_options.contains_key("ro");
                Mount::Binfmt { writable: !read_only }
            }
            other => Mount::Other(other.to_owned()),
        },
    })
}

/// The mount that a path leads to, if the path is a mount point.
///
/// mountinfo also lists mounts that others hide: those below a fresh /proc, for one. So the path is
/// walked as the kernel does, from mount to mount.
pub(crate) fn visible_mount<'a>(mounts: &'a [MountInfo], path: &Path) -> Option<&'a MountInfo> {
    let listed = |id: i32| mounts.iter().any(|mount| mount.mnt_id == id);
    let mut prefixes: Vec<_> = path.ancestors().collect();
    prefixes.reverse();
    let mut at: Option<&MountInfo> = None;
    for prefix in prefixes {
        // Mounts may be stacked on one point. After a chroot the first has no parent in the list.
        while let Some(next) = mounts.iter().find(|mount| {
            let on_top = at.map_or(!listed(mount.pid) || mount.pid == mount.mnt_id, |at| {
                mount.pid == at.mnt_id && mount.mnt_id != at.mnt_id
            });
            on_top && mount.mount_point == prefix
        }) {
            at = Some(next);
        }
    }
    at.filter(|mount| mount.mount_point == path)
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
    let from_proc = fs::File::open(root.process("config.gz"))
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

/// Opens a private mount namespace for this thread and all it starts.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN.
pub fn isolate_mounts() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
}

/// Opens a user namespace and in it a private mount namespace, for this process of one thread.
///
/// Programs are still run by the entries of the namespace around it, as this one mounts no
/// binfmt_misc of its own.
///
/// # Errors
/// EPERM where the host or a security module forbids it, EUSERS or ENOSPC at a limit.
pub fn isolate_as_user(root: &Root) -> io::Result<()> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    unshare_user(CloneFlags::CLONE_NEWNS)?;
    map_ids(&open_processes(root)?, &format!("0 {uid} 1"), &format!("0 {gid} 1"))
}

/// Opens a user namespace, and others with it.
///
/// The kernel refuses that, with EINVAL, to a process of several threads. Threads that have been
/// joined may still be on their way out, so it is tried for a while.
///
/// # Errors
/// As unshare(2).
pub fn unshare_user(others: CloneFlags) -> nix::Result<()> {
    for _ in 0..1000 {
        match unshare(CloneFlags::CLONE_NEWUSER | others) {
            Err(Errno::EINVAL) => std::thread::sleep(std::time::Duration::from_millis(1)),
            result => return result,
        }
    }
    Err(Errno::EINVAL)
}

/// Opens /proc, to be used from a root without one.
///
/// # Errors
/// ENOENT where it is not mounted.
pub fn open_processes(root: &Root) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(root.processes(), flags, Mode::empty())?)
}

/// Maps ids of this process, which has just opened a user namespace: one of each.
///
/// # Errors
/// EPERM where the ids are not ours to map.
pub fn map_ids(processes: &OwnedFd, uid_map: &str, gid_map: &str) -> io::Result<()> {
    let write = |file: &str, text: &str| -> io::Result<()> {
        let file = openat(processes, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        io::Write::write_all(&mut fs::File::from(file), text.as_bytes())
    };
    // Without this the kernel lets no unprivileged process map a group.
    write("self/setgroups", "deny")?;
    write("self/uid_map", uid_map)?;
    write("self/gid_map", gid_map)
}

/// Mounts a binfmt_misc, of whichever instance our user namespace has, at `at`.
///
/// # Errors
/// As mount(2): ENODEV where the kernel has none, EPERM without CAP_SYS_ADMIN.
pub fn mount_binfmt(at: &Path) -> Result<(), Error> {
    mount(Some("binfmt_misc"), at, Some("binfmt_misc"), MsFlags::empty(), None::<&str>)
        .map_err(|errno| Error::system(Op::Mount, at, errno))
}

/// Takes a mount away at once.
///
/// # Errors
/// As umount(2): EBUSY while files below it are open.
pub fn unmount(at: &Path) -> Result<(), Error> {
    umount2(at, MntFlags::empty()).map_err(|errno| Error::system(Op::Unmount, at, errno))
}

/// Makes the host's instance readable without changing anything that others see.
///
/// Returns the directory to read it from. Where nothing is mounted at the mount point, this thread
/// moves to a private mount namespace and mounts there. Not so in a nested user namespace, which its
/// first mount would cut off from the host's entries for life, unless what ran in `state.probes`
/// shows that it has an instance already.
pub fn look(root: &Root, state: &State) -> PathBuf {
    let harmless = state.user_namespace == Ok(UserNamespace::Initial) || state.hides_own_instance();
    if !state.mounted()
        && harmless
        && isolate_mounts().is_ok()
        && let Ok(scratch) = root.scratch()
        && mount_binfmt(&scratch).is_ok()
    {
        return scratch;
    }
    root.mount_point().into()
}

/// Lets systemd's automount mount what it stands for, as any access from the host does.
pub fn trigger_automount(root: &Root) -> io::Result<()> {
    fs::read_dir(root.path(root.mount_point()))?.take(1).for_each(drop);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "\
        29 1 254:1 / / rw - ext4 /dev/vda1 rw\n\
        23 29 0:22 / /proc rw - proc proc rw\n\
        34 23 0:30 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw\n\
        57 34 0:45 / /proc/sys/fs/binfmt_misc rw - binfmt_misc binfmt_misc rw\n";

    fn at(mountinfo: &str, path: &str) -> Option<String> {
        let mounts = MountInfos::from_read(mountinfo.as_bytes()).unwrap();
        visible_mount(&mounts.0, Path::new(path)).map(|mount| mount.fs_type.clone())
    }

    #[test]
    fn of_stacked_mounts_the_top_one_is_seen() {
        assert_eq!(at(PLAIN, MOUNT_POINT).as_deref(), Some("binfmt_misc"));
        assert_eq!(at(PLAIN, "/proc/sys"), None);
    }

    #[test]
    fn what_a_fresh_proc_hides_is_not_seen() {
        let fresh = format!("{PLAIN}60 23 0:50 / /proc rw - proc proc rw\n");
        assert_eq!(at(&fresh, MOUNT_POINT), None);
        let mounted =
            format!("{fresh}61 60 0:51 / /proc/sys/fs/binfmt_misc rw - binfmt_misc none rw\n");
        assert_eq!(at(&mounted, MOUNT_POINT).as_deref(), Some("binfmt_misc"));
    }

    #[test]
    fn after_a_chroot_the_first_mount_has_no_parent() {
        let chroot = "57 34 0:45 / /binfmt_misc rw - binfmt_misc binfmt_misc rw\n";
        assert_eq!(at(chroot, "/binfmt_misc").as_deref(), Some("binfmt_misc"));
    }
}
