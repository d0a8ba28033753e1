//! The directories that hold the host: the only file in which `/proc` stands.

use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::error::{Error, Op};

/// Where binfmt_misc is mounted by everybody's convention.
pub const MOUNT_POINT: &str = "/proc/sys/fs/binfmt_misc";

/// The directories that hold the host: real ones, or a test's.
#[derive(Debug, Clone)]
pub struct Root {
    base: PathBuf,
    mount_point: PathBuf,
}

impl Root {
    /// The host that this process sees.
    ///
    /// A mount point of the user's gets the path that the kernel's list of mounts has: absolute, without links.
    pub fn of_this_system(mount_point: &Path) -> Self {
        if mount_point == Path::new(MOUNT_POINT) {
            return Self::new(Path::new("/"), mount_point);
        }
        let real = mount_point.canonicalize().or_else(|_| std::path::absolute(mount_point));
        Self::new(Path::new("/"), &real.unwrap_or_else(|_| mount_point.into()))
    }

    /// A host whose root is `base` and whose binfmt_misc is, or is to be, at `mount_point`.
    pub fn new(base: &Path, mount_point: &Path) -> Self {
        Self { base: base.into(), mount_point: mount_point.into() }
    }

    /// The mount point as the host calls it.
    pub fn mount_point(&self) -> &Path {
        &self.mount_point
    }

    /// Refuses a mount point that can be none, before anything is looked at through it.
    ///
    /// # Errors
    /// It is no directory; or it is not there, and is not the usual one, which comes with the kernel's module.
    pub fn check_mount_point(&self) -> Result<(), Error> {
        let at = self.path(&self.mount_point);
        match at.metadata() {
            Ok(found) if !found.is_dir() => {
                Err(Error::system(Op::Mount, &self.mount_point, Errno::ENOTDIR))
            }
            Err(error) if self.mount_point != Path::new(MOUNT_POINT) => {
                Err(Error::system(Op::Mount, &self.mount_point, error))
            }
            _ => Ok(()),
        }
    }

    /// Path of something below this root.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.base.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Path of something below /proc.
    pub fn proc(&self, path: &str) -> PathBuf {
        self.path("/proc").join(path)
    }

    /// A link to a running process's program; it can be opened as long as the process lives.
    pub fn exe_of(pid: u32) -> String {
        format!("{pid}/exe")
    }

    /// The link to our own program.
    pub fn own_exe(&self) -> PathBuf {
        self.proc("self/exe")
    }

    /// Path through which an open file can be opened again.
    pub fn fd_path(fd: i32) -> PathBuf {
        format!("/proc/self/fd/{fd}").into()
    }

    /// The process directory, to be opened before a chroot hides it.
    pub fn proc_dir(&self) -> PathBuf {
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
