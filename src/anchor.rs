//! Keeps emulators in memory and registrations alive after this process and its mounts are gone.
//!
//! Linux 6.7 (and the stable lines 5.4.283, 5.10.225 and 6.1.107) destroys all entries when the
//! last binfmt_misc mount goes. An entry with flag F holds its interpreter's file open, the file
//! holds the mount it is on, and a mount whose mount point is deleted leaves every namespace but
//! stays whole, with the mounts on it. So each emulator gets a tree of its own:
//!
//! ```text
//! scratch            a tmpfs that only this process's private namespaces see
//! └── 0              mount point, deleted at the end from a namespace where nothing is mounted on it
//!     =  tmpfs       held by the entry's open file …
//!        ├── usr/bin/qemu-aarch64
//!        └── binfmt_misc   … and so holds the instance, which holds the entry
//! ```
//!
//! Removing the entry lets go of the file, the tree and the memory. It never touches the disk.
//!
//! The instance also holds its user namespace. That is no matter for the initial one; from a nested
//! one that has ended nobody can remove the entry any more, see [`crate::state::State::anchors`].

#![expect(
    clippy::disallowed_methods,
    reason = "builds directories in file systems it has just mounted"
)]

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{chdir, chroot};
use rustix::fs::{MemfdFlags, Mode, OFlags, XattrFlags, getxattr, memfd_create, open, setxattr};

use crate::emulator::{Emulator, Emulators};
use crate::entry::Registration;
use crate::error::{Error, Op};
use crate::namespace;
use crate::plan::Job;
use crate::root::Root;

/// Where a tree has its instance.
const INSTANCE: &str = "binfmt_misc";
/// The extended attribute that SELinux decides by.
const SELINUX: &str = "security.selinux";

/// How the emulators of one install are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// In trees that also hold the instance.
    Anchored,
    /// In trees or memory files; the instance lives as long as somebody else's mount of it.
    Loose,
}

/// An emulator that was unpacked, with the entry that is to be made for it.
#[derive(Debug)]
pub(crate) struct Unpacked<'a> {
    /// What is to be registered.
    pub job: Job<'a>,
    file: Result<Held, Error>,
}

/// Where an unpacked emulator is.
#[derive(Debug)]
enum Held {
    /// In the tree mounted at this directory.
    Tree(PathBuf),
    /// In a file without a name.
    Memory(File),
}

impl Unpacked<'_> {
    /// Registers it, as its job says or under another name.
    ///
    /// `instance` is a directory through which this thread reaches the instance.
    ///
    /// # Errors
    /// What went wrong when it was unpacked, or the kernel's answer.
    pub(crate) fn register(
        &self,
        registration: &Registration,
        instance: &Path,
    ) -> Result<(), Error> {
        match &self.file {
            Err(error) => Err(error.clone()),
            // In a thread with a root of its own, where the emulator is at the path to be shown.
            Ok(Held::Tree(tree)) => in_thread(|| {
                unshare(CloneFlags::CLONE_FS)
                    .and_then(|()| chroot(tree))
                    .and_then(|()| chdir("/"))
                    .map_err(|errno| Error::system(Op::Anchor, tree, errno))?;
                write_registration(&Path::new("/").join(INSTANCE), registration)
            }),
            Ok(Held::Memory(file)) => {
                register_memory(file, &self.job.emulator.shown_as, registration, instance)
            }
        }
    }
}

/// Registers a file without a name by way of its link in /proc.
///
/// Entries and guest programs show the path that was registered. So that this is the usual
/// one, it exists for a moment as a link, if the root can be written and nothing is there.
fn register_memory(
    file: &File,
    shown_as: &Path,
    registration: &Registration,
    instance: &Path,
) -> Result<(), Error> {
    let open_file = Root::fd_path(file.as_raw_fd());
    let linked = shown_as.parent().is_some_and(|dir| fs::create_dir_all(dir).is_ok())
        && symlink(&open_file, shown_as).is_ok();
    if !linked {
        return write_registration(instance, &registration.with_interpreter(open_file));
    }
    let result = write_registration(instance, registration);
    let _ = fs::remove_file(shown_as);
    result
}

/// One write to an instance's `register`, which must exist.
///
/// # Errors
/// The kernel's answer.
pub(crate) fn write_registration(
    instance: &Path,
    registration: &Registration,
) -> Result<(), Error> {
    let register = instance.join("register");
    let failed = |error| {
        let what = format!("{} in {}", registration.name(), register.display());
        Error::system(Op::Register, what, error)
    };
    let mut file = File::options().write(true).open(&register).map_err(failed)?;
    let text = registration.to_string();
    match file.write(text.as_bytes()) {
        Ok(written) if written == text.len() => Ok(()),
        Ok(_) => Err(failed(Errno::EIO.into())),
        Err(error) => Err(failed(error)),
    }
}

/// Unpacks the emulators of `jobs` into trees, lets `work` register them, and if it is to `anchor`,
/// cuts the trees loose.
///
/// If they are not cut loose, they are unmounted when this process ends: each entry keeps its
/// emulator, but no entry keeps the instance. `work` runs in a thread with mounts of its own;
/// processes it starts see them too.
///
/// # Errors
/// Where trees cannot be built at all, mostly for want of CAP_SYS_ADMIN or CAP_SYS_CHROOT; `work`
/// has not run then.
pub(crate) fn with_trees<'a, T: Send>(
    root: &Root,
    emulators: &Emulators,
    jobs: Vec<Job<'a>>,
    anchor: bool,
    work: impl FnOnce(Vec<Unpacked<'a>>) -> T + Send,
) -> Result<(T, Kept), Error> {
    let scratch = root.scratch()?;
    let instance = root.path(root.mount_point());
    let failed = |errno: Errno| Error::system(Op::Anchor, &scratch, errno);
    in_thread(|| {
        namespace::isolate_mounts().map_err(failed)?;
        mount_tmpfs(&scratch)?;
        let trees: Vec<_> = (0..jobs.len()).map(|i| scratch.join(i.to_string())).collect();
        trees.iter().try_for_each(|tree| make_dir(tree))?;
        // Two mount namespaces: in the outer one the trees' mount points are plain directories, which
        // can therefore be deleted there while the inner one, held open, still has the mounts.
        let open = || {
            namespace::current_mounts(root)
                .map_err(|error| Error::system(Op::Anchor, &scratch, error))
        };
        let outer = open()?;
        let own_root = File::open("/").map_err(|error| Error::system(Op::Anchor, "/", error))?;
        namespace::isolate_mounts().map_err(failed)?;
        let inner = open()?;
        let unpacked = build(&instance, emulators, jobs, &trees)?;
        let result = work(unpacked);
        release(&instance);
        let cut = anchor && namespace::enter_mounts(&outer, &own_root).is_ok() && {
            release(&instance);
            // Not `all`: one that fails is no reason to leave the others.
            trees.iter().filter(|tree| fs::remove_dir(tree).is_err()).count() == 0
        };
        drop(inner);
        Ok((result, if cut { Kept::Anchored } else { Kept::Loose }))
    })
}

/// Runs `work` in a thread, as a namespace once entered cannot be left.
fn in_thread<T: Send>(work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    let failed = |error: std::io::Error| Error::system(Op::Anchor, "a thread", error);
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, work).map_err(failed)?;
        thread.join().unwrap_or_else(|_| Err(failed(Errno::EIO.into())))
    })
}

/// Lets go of this namespace's copy of the instance's mount, at once and not when the kernel
/// gets round to freeing the namespace: what is left then is what will last.
fn release(instance: &Path) {
    while umount2(instance, MntFlags::MNT_DETACH).is_ok() {}
}

/// Makes a directory that everybody can enter, whatever the umask.
fn make_dir(at: &Path) -> Result<(), Error> {
    let failed = |error| Error::system(Op::Anchor, at, error);
    DirBuilder::new().recursive(true).mode(0o755).create(at).map_err(failed)?;
    fs::set_permissions(at, Permissions::from_mode(0o755)).map_err(failed)
}

fn mount_tmpfs(at: &Path) -> Result<(), Error> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    // An emulator is registered for its content, and setuid programs run by their own credentials:
    // flag C does not need the emulator's file system to allow setuid.
    mount(Some("binfmtctl"), at, Some("tmpfs"), flags, Some("mode=755"))
        .map_err(|errno| Error::system(Op::Anchor, at, errno))
}

/// Builds one tree an emulator and fills it.
fn build<'a>(
    instance: &Path,
    emulators: &Emulators,
    jobs: Vec<Job<'a>>,
    trees: &[PathBuf],
) -> Result<Vec<Unpacked<'a>>, Error> {
    let label = own_label();
    let mut writers = Vec::new();
    for (job, tree) in jobs.iter().zip(trees) {
        let failed = |error| Error::system(Op::Anchor, tree, error);
        mount_tmpfs(tree)?;
        let held = tree.join(INSTANCE);
        make_dir(&held)?;
        mount(Some(instance), &held, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(|errno| Error::system(Op::Anchor, &held, errno))?;
        let file = inside(tree, &job.emulator.shown_as);
        let dirs: Vec<_> = file.ancestors().skip(1).take_while(|dir| dir != tree).collect();
        dirs.into_iter().rev().try_for_each(make_dir)?;
        let writer =
            File::options().write(true).create_new(true).mode(0o755).open(&file).map_err(failed)?;
        writer.set_permissions(Permissions::from_mode(0o755)).map_err(failed)?;
        writers.push((job.emulator, writer));
    }
    if let Some(tree) = trees.first() {
        may_chroot(tree)?;
    }
    let unpacked = emulators.unpack(writers).into_iter().zip(trees);
    let held = unpacked.zip(jobs).map(|((result, tree), job)| {
        if let Some(label) = &label {
            let file = inside(tree, &job.emulator.shown_as);
            let _ = setxattr(file, SELINUX, label, XattrFlags::empty());
        }
        Unpacked { job, file: result.map(|()| Held::Tree(tree.clone())) }
    });
    Ok(held.collect())
}

/// Tries, before any emulator is unpacked, what every registration from a tree needs.
fn may_chroot(tree: &Path) -> Result<(), Error> {
    in_thread(|| {
        unshare(CloneFlags::CLONE_FS)
            .and_then(|()| chroot(tree))
            .map_err(|errno| Error::system(Op::Anchor, tree, errno))
    })
}

fn inside(tree: &Path, absolute: &Path) -> PathBuf {
    tree.join(absolute.strip_prefix("/").unwrap_or(absolute))
}

/// The SELinux label of our own program, where the system has labels.
///
/// Files in a tmpfs of ours would get one that other containers may not execute; whoever may run
/// this program may also run the emulators it brings.
fn own_label() -> Option<Vec<u8>> {
    let mut label = vec![0; 1024];
    let len = getxattr(std::env::current_exe().ok()?, SELINUX, &mut label).ok()?;
    label.truncate(len);
    Some(label)
}

/// Unpacks the emulators of `jobs` into memory files: needs no right to mount.
///
/// Memory files, not files of the container's root: they work with a read-only root, need no disk,
/// and leave the container's layers free to be deleted (ZFS and device mapper refuse that while an
/// entry holds a file of theirs).
///
/// # Errors
/// Where the kernel gives none.
pub(crate) fn in_memory<'a>(
    root: &Root,
    emulators: &Emulators,
    jobs: Vec<Job<'a>>,
) -> Result<Vec<Unpacked<'a>>, Error> {
    let wanted: Vec<_> = jobs.iter().map(|job| job.emulator).collect();
    let files = memory_files(root, emulators, &wanted)?;
    Ok(files
        .into_iter()
        .zip(jobs)
        .map(|(file, job)| Unpacked { job, file: file.map(Held::Memory) })
        .collect())
}

/// Unpacks emulators into memory files, which can be registered by their links in /proc.
///
/// # Errors
/// Where the kernel gives none.
pub(crate) fn memory_files(
    root: &Root,
    emulators: &Emulators,
    wanted: &[&Emulator],
) -> Result<Vec<Result<File, Error>>, Error> {
    let (mut files, mut writers) = (Vec::new(), Vec::new());
    for emulator in wanted {
        let failed = |error: std::io::Error| Error::system(Op::Memory, &emulator.shown_as, error);
        let writer = memory_file(root, emulator).map_err(|errno| failed(errno.into()))?;
        writer.set_permissions(Permissions::from_mode(0o755)).map_err(failed)?;
        // The kernel executes no file that is open for writing: keep a second, read-only opening.
        files.push(File::open(Root::fd_path(writer.as_raw_fd())).map_err(failed)?);
        writers.push((*emulator, writer));
    }
    let unpacked = emulators.unpack(writers).into_iter().zip(files);
    Ok(unpacked.map(|(result, file)| result.map(|()| file)).collect())
}

/// A file without a name in memory, which may be executed. Linux 6.3 wants that said where
/// vm.memfd_noexec is 1. Where it is 2 it gives none, and one in a tmpfs of the system's serves as well.
fn memory_file(root: &Root, emulator: &Emulator) -> rustix::io::Result<File> {
    let name = emulator.name.as_str();
    match memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::EXEC) {
        Err(rustix::io::Errno::INVAL) => memfd_create(name, MemfdFlags::CLOEXEC),
        Err(rustix::io::Errno::ACCESS) => in_tmpfs(root).ok_or(rustix::io::Errno::ACCESS),
        other => other,
    }
    .map(File::from)
}

/// A file without a name in a tmpfs from which programs can be started.
fn in_tmpfs(root: &Root) -> Option<OwnedFd> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let places = ["/dev/shm", "/run", "/tmp", "/dev"].map(|place| root.path(place));
    let fit = |place: &&PathBuf| {
        statfs(place.as_path()).is_ok_and(|fs| fs.filesystem_type() == TMPFS_MAGIC)
            && statvfs(place.as_path()).is_ok_and(|fs| !fs.flags().contains(FsFlags::ST_NOEXEC))
    };
    places.iter().filter(fit).find_map(|place| open(place, flags, Mode::from_raw_mode(0o700)).ok())
}
