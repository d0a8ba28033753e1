//! Opens namespaces and mounts binfmt_misc in them.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{Mode, OFlags, openat};

use crate::error::{Error, Op};
use crate::root::Root;
use crate::state::{State, UserNamespace};

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
    Ok(rustix::fs::open(root.proc_dir(), flags, Mode::empty())?)
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
