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

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, chroot};
use rustix::fs::{MemfdFlags, XattrFlags, getxattr, memfd_create, setxattr};

use crate::emulator::{Emulator, Emulators};
use crate::entry::Registration;
use crate::error::{Error, Op};
use crate::namespace;
use crate::root::Root;

/// Where a tree has its instance.
const INSTANCE: &str = "binfmt_misc";
/// The extended attribute that SELinux decides by.
const SELINUX: &str = "security.selinux";

/// How the emulators of one install are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// In trees that also hold the instance.
    Anchored,
    /// In trees or memory files; the instance lives as long as somebody else's mount of it.
    Loose,
}

/// Emulators that were unpacked and can be registered.
#[derive(Debug)]
pub struct Store<'a> {
    files: Vec<Unpacked>,
    emulators: Vec<&'a Emulator>,
    /// A directory through which the instance can be reached.
    instance: PathBuf,
}

#[derive(Debug)]
enum Unpacked {
    /// In the tree mounted at this directory.
    Tree(PathBuf),
    /// In a file without a name.
    Memory(File),
    /// Not at all.
    Failed(Error),
}

impl Store<'_> {
    /// Registers the emulator that was wanted at position `index`.
    ///
    /// # Errors
    /// What went wrong when it was unpacked, or the kernel's answer.
    pub fn register(&self, index: usize, registration: &Registration) -> Result<(), Error> {
        match &self.files[index] {
            Unpacked::Failed(error) => Err(error.clone()),
            Unpacked::Tree(tree) => thread::scope(|scope| {
                // In a thread with a root of its own, where the emulator is at the path to be shown.
                let enter = || {
                    unshare(CloneFlags::CLONE_FS)
                        .and_then(|()| chroot(tree))
                        .and_then(|()| chdir("/"))
                        .map_err(|errno| Error::system(Op::Anchor, tree, errno))?;
                    write_registration(&Path::new("/").join(INSTANCE), registration)
                };
                scope
                    .spawn(enter)
                    .join()
                    .unwrap_or_else(|_| Err(Error::system(Op::Anchor, tree, Errno::EIO)))
            }),
            Unpacked::Memory(file) => self.register_memory(index, file, registration),
        }
    }

    /// Registers a file without a name by way of its link in /proc.
    ///
    /// Entries and guest programs show the path that was registered. So that this is the usual
    /// one, it exists for a moment as a link, if the root can be written and nothing is there.
    fn register_memory(
        &self,
        index: usize,
        file: &File,
        registration: &Registration,
    ) -> Result<(), Error> {
        let open_file = Root::fd_path(file.as_raw_fd());
        let shown_as = &self.emulators[index].shown_as;
        let linked = shown_as.parent().is_some_and(|dir| fs::create_dir_all(dir).is_ok())
            && symlink(&open_file, shown_as).is_ok();
        if !linked {
            return write_registration(&self.instance, &registration.with_interpreter(open_file));
        }
        let result = write_registration(&self.instance, registration);
        let _ = fs::remove_file(shown_as);
        result
    }

    /// The directory through which this thread reaches the instance.
    pub fn instance(&self) -> &Path {
        &self.instance
    }
}

/// One write to an instance's `register`, which must exist.
///
/// # Errors
/// The kernel's answer.
pub fn write_registration(instance: &Path, registration: &Registration) -> Result<(), Error> {
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

/// Unpacks `wanted` into trees, lets `work` register them, and if it is to `anchor`, cuts them loose.
///
/// Trees that are not cut loose fall apart with this process: each entry keeps its emulator, and
/// none the instance. `work` runs in a thread with mounts of its own; processes it starts see them too.
///
/// # Errors
/// Where trees cannot be built at all, mostly for want of CAP_SYS_ADMIN; `work` has not run then.
pub fn with_trees<T: Send>(
    root: &Root,
    emulators: &Emulators,
    wanted: &[&Emulator],
    anchor: bool,
    work: impl FnOnce(&Store<'_>) -> T + Send,
) -> Result<(T, Kept), Error> {
    let scratch = root.scratch()?;
    let instance = root.path(root.mount_point());
    let trees: Vec<_> = (0..wanted.len()).map(|i| scratch.join(i.to_string())).collect();
    // Two threads, each with a mount namespace of its own: in the outer one the trees' mount points
    // are plain directories, which it may therefore delete while the inner one still has them.
    in_thread(|| {
        namespace::isolate_mounts().map_err(|errno| Error::system(Op::Anchor, &scratch, errno))?;
        mount_tmpfs(&scratch)?;
        for tree in &trees {
            fs::create_dir(tree).map_err(|error| Error::system(Op::Anchor, tree, error))?;
        }
        let (built, building) = mpsc::channel::<()>();
        let (cut, cutting) = mpsc::channel::<()>();
        let (scratch, instance, trees) = (&scratch, &instance, &trees);
        thread::scope(|scope| {
            // It owns `built`, so that the outer thread stops waiting whichever way it ends.
            let inner = scope.spawn(move || {
                namespace::isolate_mounts()
                    .map_err(|errno| Error::system(Op::Anchor, scratch, errno))?;
                let store = build(instance, emulators, wanted, trees)?;
                let result = work(&store);
                release(instance);
                let _ = built.send(());
                let _ = cutting.recv();
                Ok(result)
            });
            let mut kept = Kept::Loose;
            if building.recv().is_ok() && anchor {
                release(instance);
                // Not `all`: one that fails is no reason to leave the others.
                let failed = trees.iter().filter(|tree| fs::remove_dir(tree).is_err()).count();
                if failed == 0 {
                    kept = Kept::Anchored;
                }
            }
            drop(cut);
            let result = inner
                .join()
                .unwrap_or_else(|_| Err(Error::system(Op::Anchor, scratch, Errno::EIO)));
            result.map(|result| (result, kept))
        })
    })
}

/// Runs `work` in a thread, as a namespace once entered cannot be left.
fn in_thread<T: Send>(work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|_| Err(Error::system(Op::Anchor, "a thread", Errno::EIO)))
}

/// Lets go of this namespace's copy of the instance's mount, at once and not when the kernel
/// gets round to freeing the namespace: what is left then is what will last.
fn release(instance: &Path) {
    while umount2(instance, MntFlags::MNT_DETACH).is_ok() {}
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
    wanted: &[&'a Emulator],
    trees: &[PathBuf],
) -> Result<Store<'a>, Error> {
    let label = own_label();
    let mut writers = Vec::new();
    for (emulator, tree) in wanted.iter().zip(trees) {
        let failed = |error| Error::system(Op::Anchor, tree, error);
        mount_tmpfs(tree)?;
        let held = tree.join(INSTANCE);
        fs::create_dir(&held).map_err(failed)?;
        mount(Some(instance), &held, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(|errno| Error::system(Op::Anchor, &held, errno))?;
        let file = inside(tree, &emulator.shown_as);
        fs::create_dir_all(file.parent().unwrap_or(tree)).map_err(failed)?;
        let writer =
            File::options().write(true).create_new(true).mode(0o755).open(&file).map_err(failed)?;
        writers.push((*emulator, writer));
    }
    let files = emulators.unpack(writers).into_iter().zip(wanted.iter().zip(trees));
    let files = files.map(|(unpacked, (emulator, tree))| {
        if let Some(label) = &label {
            let _ = setxattr(inside(tree, &emulator.shown_as), SELINUX, label, XattrFlags::empty());
        }
        match unpacked {
            Ok(()) => Unpacked::Tree(tree.clone()),
            Err(error) => Unpacked::Failed(error),
        }
    });
    Ok(Store { files: files.collect(), emulators: wanted.to_vec(), instance: instance.into() })
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

/// Unpacks `wanted` into memory files and lets `work` register them: needs no right to mount.
///
/// Memory files, not files of the container's root: they work with a read-only root, need no disk,
/// and leave the container's layers free to be deleted (ZFS and device mapper refuse that while an
/// entry holds a file of theirs).
pub fn with_memory<T>(
    root: &Root,
    emulators: &Emulators,
    wanted: &[&Emulator],
    work: impl FnOnce(&Store<'_>) -> T,
) -> Result<(T, Kept), Error> {
    let mut files = Vec::new();
    let mut writers = Vec::new();
    for emulator in wanted {
        let failed = |error: std::io::Error| Error::system(Op::Anchor, &emulator.shown_as, error);
        let writer = memfd_create(emulator.name.as_str(), MemfdFlags::CLOEXEC)
            .map_err(|errno| failed(errno.into()))?;
        let writer = File::from(writer);
        writer.set_permissions(fs::Permissions::from_mode(0o755)).map_err(failed)?;
        // The kernel executes no file that is open for writing: keep a second, read-only opening.
        files.push(File::open(Root::fd_path(writer.as_raw_fd())).map_err(failed)?);
        writers.push((*emulator, writer));
    }
    let unpacked = emulators.unpack(writers).into_iter().zip(files);
    let files = unpacked.map(|(unpacked, file)| match unpacked {
        Ok(()) => Unpacked::Memory(file),
        Err(error) => Unpacked::Failed(error),
    });
    let instance = root.path(root.mount_point());
    let store = Store { files: files.collect(), emulators: wanted.to_vec(), instance };
    Ok((work(&store), Kept::Loose))
}
