//! Opens namespaces and mounts binfmt_misc in them.

#![expect(clippy::disallowed_methods, reason = "opens namespaces and mounts in them")]

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{chroot, fchdir};
use rustix::fs::{Mode, OFlags, openat};

use crate::error::{Error, Op};
use crate::root::Root;
use crate::state::{Instance, State, UserNamespace};

/// Opens a private mount namespace for this thread and all it starts.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN.
pub(crate) fn isolate_mounts() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
}

/// This thread's mount namespace, to be entered again.
///
/// # Errors
/// ENOENT where /proc is not mounted.
pub(crate) fn current_mounts(root: &Root) -> io::Result<fs::File> {
    fs::File::open(root.proc("thread-self/ns/mnt"))
}

/// Enters a mount namespace, with `root`, opened in it, as the root directory: this process may be
/// in a chroot.
///
/// The kernel refuses that, with EINVAL, to a thread whose root directory others share. Threads that
/// have been joined may still be on their way out, so it is tried for a while.
///
/// # Errors
/// As setns(2).
pub(crate) fn enter_mounts(mounts: &fs::File, root: &fs::File) -> nix::Result<()> {
    until_alone(|| setns(mounts, CloneFlags::CLONE_NEWNS))?;
    fchdir(root)?;
    chroot(".")
}

/// Opens a user namespace and in it a private mount namespace, for this process of one thread.
///
/// Programs are still run by the entries of the namespace around it, as this one mounts no
/// binfmt_misc of its own.
///
/// # Errors
/// EPERM where the host or a security module forbids it, EUSERS or ENOSPC at a limit.
pub(crate) fn isolate_as_user(root: &Root) -> io::Result<()> {
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
pub(crate) fn unshare_user(others: CloneFlags) -> nix::Result<()> {
    until_alone(|| unshare(CloneFlags::CLONE_NEWUSER | others))
}

/// Tries for a second what the kernel refuses, with EINVAL, as long as there are other threads.
fn until_alone(attempt: impl Fn() -> nix::Result<()>) -> nix::Result<()> {
    for _ in 0..1000 {
        match attempt() {
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
pub(crate) fn open_processes(root: &Root) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(root.proc_dir(), flags, Mode::empty())?)
}

/// Maps ids of this process, which has just opened a user namespace: one of each.
///
/// # Errors
/// EPERM where the ids are not ours to map.
pub(crate) fn map_ids(processes: &OwnedFd, uid_map: &str, gid_map: &str) -> io::Result<()> {
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
pub(crate) fn mount_binfmt(at: &Path) -> Result<(), Error> {
    mount(Some("binfmt_misc"), at, Some("binfmt_misc"), MsFlags::empty(), None::<&str>)
        .map_err(|errno| Error::system(Op::Mount, at, errno))
}

/// Whether a filter of system calls refuses every mount: the kernel itself looks first for the mount point,
/// and there is none.
pub(crate) fn mount_is_filtered() -> bool {
    let nowhere = mount(None::<&str>, "", None::<&str>, MsFlags::empty(), None::<&str>);
    nowhere.is_err_and(|errno| errno != Errno::ENOENT)
}

/// Takes a mount away at once.
///
/// # Errors
/// As umount(2): EBUSY while files below it are open.
pub(crate) fn unmount(at: &Path) -> Result<(), Error> {
    umount2(at, MntFlags::empty()).map_err(|errno| Error::system(Op::Unmount, at, errno))
}

/// Whether binfmt_misc is not mounted, and mounting it to look at it changes nothing for anybody.
///
/// In a nested user namespace it would: its first mount cuts it off from the host's entries for
/// life, unless what ran in `state.probes` shows that it has an instance already.
pub(crate) fn may_look(state: &State) -> bool {
    !state.mounted()
        && (state.user_namespace == Ok(UserNamespace::Initial) || state.hides_own_instance())
}

/// Reads the entries where binfmt_misc is not mounted, if that changes nothing.
pub(crate) fn peek(root: &Root, state: &State) -> Option<Instance> {
    if !may_look(state) {
        return None;
    }
    with_private_mount(root, |instance| Instance::read(instance).ok()).flatten()
}

/// Lets `work` use a mount of binfmt_misc that only its thread sees; `None` where none is allowed.
/// See [`may_look`] for when that is harmless.
pub(crate) fn with_private_mount<T: Send>(
    root: &Root,
    work: impl FnOnce(&Path) -> T + Send,
) -> Option<T> {
    let look = || {
        isolate_mounts().ok()?;
        let scratch = root.scratch().ok()?;
        mount_binfmt(&scratch).ok()?;
        let result = work(&scratch);
        // At once, and not when the kernel gets round to freeing the namespace.
        let _ = umount2(&scratch, MntFlags::MNT_DETACH);
        Some(result)
    };
    std::thread::scope(|scope| {
        std::thread::Builder::new().spawn_scoped(scope, look).ok()?.join().ok().flatten()
    })
}

/// Lets systemd's automount mount what it stands for, as any access from the host does.
pub(crate) fn trigger_automount(root: &Root) -> io::Result<()> {
    fs::read_dir(root.path(root.mount_point()))?.take(1).for_each(drop);
    Ok(())
}
