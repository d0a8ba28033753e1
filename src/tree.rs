//! A directory tree that is another system's root: reads, writes and removes files beneath it.
//!
//! Symbolic links are followed as that system would follow them, and never lead out of the tree.
//! A file is replaced whole or not at all: written beside its place, synced, renamed.

#![expect(clippy::disallowed_methods, reason = "writes beneath the root that it was told to")]

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    Access, AtFlags, CWD, FlockOperation, Mode, OFlags, ResolveFlags, StatVfsMountFlags, accessat,
    fchmod, flock, fstatvfs, fsync, linkat, mkdirat, openat, openat2, readlinkat, renameat,
    symlinkat, unlinkat,
};

use crate::error::{Error, Op};

/// Another system's root directory, or our own.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    path: PathBuf,
}

impl Tree {
    /// Opens the tree at `path`.
    ///
    /// # Errors
    /// Where it is no directory, or the kernel cannot keep links inside it (before Linux 5.6).
    pub fn open(path: &Path) -> Result<Self, Error> {
        let root =
            openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|errno| Error::system(Op::Read, path, errno))?;
        let this = Self { root, path: path.into() };
        match this.resolve(Path::new("."), OFlags::PATH | OFlags::DIRECTORY) {
            Err(rustix::io::Errno::NOSYS) => Err(Error::Host {
                what: "this kernel cannot keep symbolic links inside another root".to_owned(),
                hint: "writing files for the next boot needs Linux 5.6 or newer".to_owned(),
            }),
            _ => Ok(this),
        }
    }

    /// Waits until nobody else writes here, and keeps others waiting until the result is dropped.
    ///
    /// By flock(2) on the root directory, which a container and its host share. Where that cannot
    /// be had, as on NFS, one goes on without.
    pub fn lock(&self) -> Option<OwnedFd> {
        let root = self.resolve(Path::new("."), OFlags::RDONLY | OFlags::DIRECTORY).ok()?;
        flock(&root, FlockOperation::LockExclusive).ok()?;
        Some(root)
    }

    /// Whether this is the root directory of this process.
    pub fn is_root(&self) -> bool {
        let id = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
        let own = rustix::fs::stat("/").map(id);
        own.is_ok() && rustix::fs::fstat(&self.root).map(id) == own
    }

    /// How a path inside is called outside, for messages.
    pub fn shown(&self, path: &Path) -> PathBuf {
        self.path.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT)
    }

    fn failed(&self, op: Op, path: &Path) -> impl Fn(rustix::io::Errno) -> Error {
        let shown = self.shown(path);
        move |errno| Error::system(op, &shown, errno)
    }

    /// Whether something is there.
    pub fn exists(&self, path: &Path) -> bool {
        self.resolve(path, OFlags::PATH).is_ok()
    }

    /// Whether files can be made in a directory, or in the one where it would be made.
    ///
    /// # Errors
    /// The kernel's answer: EROFS, EACCES; EPERM for a directory that is immutable.
    pub fn writable(&self, dir: &Path) -> Result<(), Error> {
        accessat(self.nearest(dir)?, ".", Access::WRITE_OK, AtFlags::empty())
            .map_err(self.failed(Op::Write, dir))
    }

    /// Whether programs in a directory, or in the one where it would be made, can be run.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn executable(&self, dir: &Path) -> Result<bool, Error> {
        let mount = fstatvfs(self.nearest(dir)?).map_err(self.failed(Op::Read, dir))?;
        Ok(!mount.f_flag.contains(StatVfsMountFlags::NOEXEC))
    }

    /// The last directory of a path that is there.
    fn nearest(&self, dir: &Path) -> Result<OwnedFd, Error> {
        let there = dir.ancestors().find(|dir| self.exists(dir)).unwrap_or(Path::new("/"));
        self.resolve(there, OFlags::PATH | OFlags::DIRECTORY).map_err(self.failed(Op::Write, dir))
    }

    /// Opens a file for reading; `None` where there is none.
    ///
    /// # Errors
    /// The kernel's answer, other than that nothing is there.
    pub fn open_file(&self, path: &Path) -> Result<Option<File>, Error> {
        match self.resolve(path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(file) => Ok(Some(file.into())),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(self.failed(Op::Read, path)(errno)),
        }
    }

    /// Reads a text; empty where there is none.
    ///
    /// # Errors
    /// As [`Tree::open_file`], or where it is not UTF-8.
    pub fn read(&self, path: &Path) -> Result<String, Error> {
        let mut text = String::new();
        if let Some(mut file) = self.open_file(path)? {
            file.read_to_string(&mut text)
                .map_err(|error| Error::system(Op::Read, self.shown(path), error))?;
        }
        Ok(text)
    }

    /// Opens a file's directory, made with all above it if need be.
    fn parent(&self, path: &Path) -> Result<(OwnedFd, OsString), Error> {
        let (dir, name) =
            (path.parent().unwrap_or(Path::new("/")), path.file_name().unwrap_or_default());
        let mut above: Vec<_> = dir.ancestors().collect();
        above.reverse();
        for dir in above {
            if self.exists(dir) {
                continue;
            }
            let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else { continue };
            self.make_dir(parent, name).map_err(self.failed(Op::Write, dir))?;
        }
        let dir_fd = self
            .resolve(dir, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(self.failed(Op::Write, path))?;
        Ok((dir_fd, name.into()))
    }

    /// Makes a directory that everybody can enter, whatever the umask, and that a power cut leaves.
    fn make_dir(&self, parent: &Path, name: &OsStr) -> rustix::io::Result<()> {
        let parent = self.resolve(parent, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mode = Mode::from_raw_mode(0o755);
        mkdirat(&parent, name, mode)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fchmod(openat(&parent, name, flags, Mode::empty())?, mode)?;
        fsync(&parent)
    }

    /// Puts a file in place of whatever was there, in one step.
    ///
    /// Programs that run from the old file go on running from it.
    ///
    /// # Errors
    /// The kernel's answer, or `fill`'s; the old file is then as it was.
    pub fn write(
        &self,
        path: &Path,
        mode: u32,
        fill: impl FnOnce(&mut File) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (dir, name) = self.parent(path)?;
        let beside = beside(&name);
        let failed = self.failed(Op::Write, path);
        // Left by a run that was killed.
        let _ = unlinkat(&dir, &beside, AtFlags::empty());
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(mode);
        let mut file = File::from(openat(&dir, &beside, flags, mode).map_err(&failed)?);
        let written = fill(&mut file).and_then(|()| {
            fchmod(&file, mode).map_err(&failed)?; // whatever the umask
            fsync(&file).map_err(&failed)?;
            renameat(&dir, &beside, &dir, &name).map_err(&failed)?;
            fsync(&dir).map_err(&failed)
        });
        if written.is_err() {
            let _ = unlinkat(&dir, &beside, AtFlags::empty());
        }
        written
    }

    /// Puts a text in place, see [`Tree::write`].
    ///
    /// # Errors
    /// As [`Tree::write`].
    pub fn write_text(&self, path: &Path, mode: u32, text: &str) -> Result<(), Error> {
        self.write(path, mode, |file| {
            file.write_all(text.as_bytes())
                .map_err(|error| Error::system(Op::Write, self.shown(path), error))
        })
    }

    /// Gives a file a second name that lasts when it is replaced: its own with `.orig` after it.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn keep(&self, path: &Path) -> Result<PathBuf, Error> {
        let (dir, name) = self.parent(path)?;
        let mut kept = name.clone();
        kept.push(".orig");
        let _ = unlinkat(&dir, &kept, AtFlags::empty());
        linkat(&dir, &name, &dir, &kept, AtFlags::empty())
            .map_err(self.failed(Op::Write, &path.with_file_name(&kept)))?;
        Ok(path.with_file_name(kept))
    }

    /// What a symbolic link says; `None` where there is none.
    pub fn link_text(&self, path: &Path) -> Option<PathBuf> {
        let dir = self.resolve(path.parent()?, OFlags::PATH | OFlags::DIRECTORY).ok()?;
        let text = readlinkat(&dir, path.file_name()?, Vec::new()).ok()?;
        Some(OsString::from_vec(text.into_bytes()).into())
    }

    /// Makes a symbolic link, if nothing is there.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn link(&self, path: &Path, to: &str) -> Result<(), Error> {
        let (dir, name) = self.parent(path)?;
        match symlinkat(to, &dir, &name) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
            Err(errno) => Err(self.failed(Op::Write, path)(errno)),
        }
    }

    /// Removes what a [`Tree::write`] that was killed left beside its place.
    pub fn sweep(&self, path: &Path) {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
        if let Ok(dir) = self.resolve(parent, OFlags::PATH | OFlags::DIRECTORY) {
            let _ = unlinkat(&dir, beside(name), AtFlags::empty());
        }
    }

    /// Removes a file, link or empty directory. That it is gone already is no error.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn remove(&self, path: &Path) -> Result<(), Error> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        let dir = match self.resolve(parent, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(dir) => dir,
            Err(_) => return Ok(()),
        };
        let name = path.file_name().unwrap_or_default();
        let removed = match unlinkat(&dir, name, AtFlags::empty()) {
            Err(rustix::io::Errno::ISDIR) => unlinkat(&dir, name, AtFlags::REMOVEDIR),
            other => other,
        };
        match removed {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.failed(Op::Remove, path)(errno)),
        }
    }
}

/// Where a file is written before it takes its place.
fn beside(name: &OsStr) -> OsString {
    let mut beside = OsString::from(".");
    beside.push(name);
    beside.push(".new");
    beside
}
