//! Changes a tree: writes and removes files beneath it.
//!
//! A file is replaced whole or not at all: written beside its place, synced, renamed.

#![expect(clippy::disallowed_methods, reason = "writes beneath the root that it was told to")]

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Mode, OFlags, Stat, fchmod, fstat, fsync, linkat, mkdirat, openat, renameat,
    symlinkat, unlinkat,
};

use super::Tree;
use crate::error::{Error, Op};

impl Tree {
    /// Opens a file's directory, made with all above it if need be.
    fn parent(&self, path: &Path) -> Result<(OwnedFd, OsString), Error> {
        let (dir, name) =
            (path.parent().unwrap_or(Path::new("/")), path.file_name().unwrap_or_default());
        let mut above: Vec<_> = dir.ancestors().collect();
        above.reverse();
        for dir in above {
            if self.has(dir) {
                continue;
            }
            let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else { continue };
            self.make_dir(parent, name).map_err(self.failed(Op::Write, dir))?;
        }
        let dir_fd = self.resolve(dir, OFlags::DIRECTORY).map_err(self.failed(Op::Write, path))?;
        Ok((dir_fd, name.into()))
    }

    /// Makes a directory that everybody can enter, whatever the umask, and that a power cut leaves.
    fn make_dir(&self, parent: &Path, name: &OsStr) -> rustix::io::Result<()> {
        let parent = self.resolve(parent, OFlags::DIRECTORY)?;
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
    pub(crate) fn write(
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
    pub(crate) fn write_text(&self, path: &Path, mode: u32, text: &str) -> Result<(), Error> {
        self.write(path, mode, |file| {
            file.write_all(text.as_bytes())
                .map_err(|error| Error::system(Op::Write, self.shown(path), error))
        })
    }

    /// Gives a file a second name that lasts when it is replaced: its own with `.orig` after it, and a
    /// number where that is taken.
    ///
    /// # Errors
    /// The kernel's answer.
    pub(crate) fn keep(&self, path: &Path) -> Result<PathBuf, Error> {
        let (dir, name) = self.parent(path)?;
        for number in 0.. {
            let mut kept = name.clone();
            kept.push(".orig");
            if number > 0 {
                kept.push(format!(".{number}"));
            }
            let to = path.with_file_name(&kept);
            match linkat(&dir, &name, &dir, &kept, AtFlags::empty()) {
                Ok(()) => return Ok(to),
                Err(rustix::io::Errno::EXIST) => {}
                Err(errno) => return Err(self.failed(Op::Write, &to)(errno)),
            }
        }
        Err(self.failed(Op::Write, path)(rustix::io::Errno::EXIST))
    }

    /// Opens a file that only its owner may open, and makes it if need be: to be locked.
    ///
    /// # Errors
    /// The kernel's answer.
    pub(crate) fn private_file(&self, path: &Path) -> Result<File, Error> {
        let (dir, name) = self.parent(path)?;
        let failed = self.failed(Op::Write, path);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = openat(&dir, &name, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o600));
        let file = File::from(file.map_err(&failed)?);
        fchmod(&file, Mode::from_raw_mode(0o600)).map_err(&failed)?;
        Ok(file)
    }

    /// Whether a path still leads to this very file.
    pub(crate) fn is_at(&self, path: &Path, file: &File) -> bool {
        let id = |stat: Stat| (stat.st_dev, stat.st_ino);
        let there = self.place(path, OFlags::NOFOLLOW).and_then(fstat).map(id);
        there.is_ok() && fstat(file).map(id) == there
    }

    /// Makes a symbolic link, if nothing is there.
    ///
    /// # Errors
    /// The kernel's answer.
    pub(crate) fn link(&self, path: &Path, to: &str) -> Result<(), Error> {
        let (dir, name) = self.parent(path)?;
        match symlinkat(to, &dir, &name) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
            Err(errno) => Err(self.failed(Op::Write, path)(errno)),
        }
    }

    /// Removes what a [`Tree::write`] that was killed left beside its place.
    pub(crate) fn sweep(&self, path: &Path) {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
        if let Ok(dir) = self.place(parent, OFlags::DIRECTORY) {
            let _ = unlinkat(&dir, beside(name), AtFlags::empty());
        }
    }

    /// Removes a directory if it is empty.
    ///
    /// # Errors
    /// The kernel's answer.
    pub(crate) fn remove_dir(&self, path: &Path) -> Result<(), Error> {
        let failed = self.failed(Op::Remove, path);
        let parent = path.parent().unwrap_or(Path::new("/"));
        let dir = self.place(parent, OFlags::DIRECTORY).map_err(&failed)?;
        unlinkat(&dir, path.file_name().unwrap_or_default(), AtFlags::REMOVEDIR).map_err(&failed)
    }

    /// Removes a file, link or empty directory. That it is gone already is no error.
    ///
    /// # Errors
    /// The kernel's answer.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), Error> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        let dir = match self.place(parent, OFlags::DIRECTORY) {
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
