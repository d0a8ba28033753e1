//! Unpacked emulators of one user, kept from one `run` to the next.
//!
//! Each lies in `$XDG_CACHE_HOME/binfmtctl` under its SHA-256, with a record of the file as it was when
//! that was last verified. Any write to a file changes its inode's ctime, which no user can set: while
//! record and file agree nothing has to be read, and where they do not it is unpacked again.

#![expect(clippy::disallowed_methods, reason = "writes the cache, in a directory of its own")]

use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statvfs::{FsFlags, statvfs};
use rustix::fs::{FlockOperation, flock};

use crate::emulator::{Emulator, Emulators};
use crate::error::{Error, Op};

/// One user's cache.
#[derive(Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// Where it is; `None` where neither `XDG_CACHE_HOME` nor `HOME` is set.
    pub(crate) fn place() -> Option<PathBuf> {
        let absolute =
            |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base =
            absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
        base.map(|base| base.join("binfmtctl"))
    }

    /// Opens a cache, and makes it if need be.
    ///
    /// # Errors
    /// The kernel's answer; a directory that others own or may write to.
    pub(crate) fn open(dir: PathBuf) -> Result<Self, Error> {
        let failed = |error| Error::system(Op::WriteFile, &dir, error);
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed)?;
        let metadata = fs::symlink_metadata(&dir).map_err(failed)?;
        if !metadata.is_dir() || !is_private(&metadata) {
            return Err(Error::Host {
                what: format!(
                    "{} belongs to somebody else, or others may write to it",
                    dir.display()
                ),
                hint: "remove it, or set XDG_CACHE_HOME to a directory of your own".to_owned(),
            });
        }
        Ok(Self { dir })
    }

    /// Removes all that is in it, and itself; returns where it was.
    ///
    /// # Errors
    /// What cannot be removed.
    pub(crate) fn clear(self) -> Result<PathBuf, Error> {
        fs::remove_dir_all(&self.dir)
            .map_err(|error| Error::system(Op::Clear, &self.dir, error))?;
        Ok(self.dir)
    }

    /// Whether this emulator is there, as it should be.
    pub(crate) fn holds(&self, emulator: &Emulator) -> bool {
        self.place_of(emulator).is_ok_and(|path| is_as_verified(&path, emulator.size))
    }

    /// Whether nothing in it can be executed.
    pub(crate) fn is_noexec(&self) -> bool {
        statvfs(&self.dir).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_NOEXEC))
    }

    /// The file name is what entries and `ps` show, so it is the emulator's own.
    fn place_of(&self, emulator: &Emulator) -> Result<PathBuf, Error> {
        let sha256 = emulator.sha256();
        let sha256 = sha256.map_err(|error| Error::system(Op::Read, &emulator.name, error))?;
        Ok(self.dir.join(sha256).join(&emulator.name))
    }

    /// Paths of these emulators' files; unpacks those that are not there, or not as they were.
    ///
    /// # Errors
    /// What prevents the first that cannot be had.
    pub(crate) fn paths(
        &self,
        all: &Emulators,
        wanted: &[&Emulator],
    ) -> Result<Vec<PathBuf>, Error> {
        if self.is_noexec() {
            return Err(Error::Host {
                what: format!("{} is mounted noexec", self.dir.display()),
                hint: "set XDG_CACHE_HOME to a directory whose programs may be executed".to_owned(),
            });
        }
        let mut paths = Vec::new();
        let mut missing = Vec::new();
        for emulator in wanted {
            let path = self.place_of(emulator)?;
            if !is_as_verified(&path, emulator.size) {
                missing.push((*emulator, path.clone()));
            }
            paths.push(path);
        }
        self.unpack(all, &missing)?;
        Ok(paths)
    }

    fn unpack(&self, all: &Emulators, missing: &[(&Emulator, PathBuf)]) -> Result<(), Error> {
        if missing.is_empty() {
            return Ok(());
        }
        self.tidy(all);
        let mut writers = Vec::new();
        for (emulator, path) in missing {
            writers.push((*emulator, Writing::new(path)?));
        }
        // Each takes its place as soon as it is complete: a run that is ended early keeps what it did.
        let results = all.unpack_each(writers, &|_, writing| writing.complete());
        // Errors of writing name the path that the emulator will have elsewhere.
        let here = |error, path: &Path| match error {
            Error::System { op: Op::Write, errno, .. } => Error::system(Op::WriteFile, path, errno),
            other => other,
        };
        let mut results = results.into_iter().zip(missing);
        results.try_for_each(|(result, (_, path))| result.map_err(|error| here(error, path)))
    }

    /// Removes what runs left that were killed, and emulators that this program no longer brings and that
    /// nobody has used for a month: another version of it may be in use beside this one.
    fn tidy(&self, all: &Emulators) {
        let ours: Vec<_> = all.iter().filter_map(|emulator| emulator.sha256().ok()).collect();
        let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten();
        for dir in entries(&self.dir).filter(|dir| dir.file_type().is_ok_and(|it| it.is_dir())) {
            let known =
                dir.file_name().to_str().is_some_and(|name| ours.iter().any(|it| it == name));
            for file in entries(&dir.path()) {
                let path = file.path();
                let left =
                    path.extension().is_some_and(|it| it.as_bytes().starts_with(NEW.as_bytes()));
                // Who writes a file has it locked.
                let given_up = || {
                    let lock = FlockOperation::NonBlockingLockExclusive;
                    File::open(&path).is_ok_and(|file| flock(&file, lock).is_ok())
                };
                let unused = || {
                    let used = file.metadata().and_then(|it| it.accessed().or(it.modified()));
                    used.is_ok_and(|used| used.elapsed().is_ok_and(|it| it > UNUSED))
                };
                if (left && given_up()) || (!left && !known && unused()) {
                    let _ = fs::remove_file(&path);
                }
            }
            // Not empty where anything is in use.
            let _ = fs::remove_dir(dir.path());
        }
    }
}

/// Ends of the names of files that are being written.
const NEW: &str = "new-";
/// Emulators of another version are kept for so long after their last use.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 3600);

/// The directory is one user's alone. But where an emulator starts programs by itself, those who are
/// somebody else inside have to start it.
const EMULATOR_MODE: u32 = 0o555;

/// An emulator's file on its way into the cache.
struct Writing<'a> {
    path: &'a Path,
    beside: PathBuf,
    file: File,
}

impl<'a> Writing<'a> {
    fn new(path: &'a Path) -> Result<Self, Error> {
        let failed = |error| Error::system(Op::WriteFile, path, error);
        if let Some(dir) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        }
        // Two runs at once each write a file of their own; the last rename wins, both are right.
        let beside = beside(path);
        loop {
            let _ = fs::remove_file(&beside);
            let mut new = File::options();
            let file = new
                .write(true)
                .create_new(true)
                .mode(EMULATOR_MODE)
                .open(&beside)
                .map_err(failed)?;
            // Another run may have taken it for one that was left, until it was locked.
            let _ = flock(&file, FlockOperation::LockExclusive);
            if beside.exists() {
                return Ok(Self { path, beside, file });
            }
        }
    }

    /// Puts the file in its place, with the record of it.
    fn complete(self) -> Result<(), Error> {
        let failed = |error| Error::system(Op::WriteFile, self.path, error);
        fs::rename(&self.beside, self.path).map_err(failed)?;
        let record = record(&fs::symlink_metadata(self.path).map_err(failed)?);
        let record_path = self.path.with_extension("verified");
        let beside = beside(&record_path);
        let _ = fs::remove_file(&beside);
        let mut new = File::options();
        let file = new.write(true).create_new(true).mode(0o600).open(&beside);
        file.and_then(|mut file| {
            let _ = flock(&file, FlockOperation::LockExclusive);
            file.write_all(record.as_bytes())
        })
        .and_then(|()| fs::rename(&beside, &record_path))
        .inspect_err(|_| drop(fs::remove_file(&beside)))
        .map_err(failed)
    }
}

impl Write for Writing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Writing<'_> {
    /// Where it is complete its name is another one.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.beside);
    }
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension(format!("{NEW}{}", std::process::id()))
}

/// Ours, and nobody else may write.
fn is_private(metadata: &Metadata) -> bool {
    metadata.uid() == nix::unistd::geteuid().as_raw() && metadata.mode() & 0o022 == 0
}

/// What tells one state of a file from another.
fn record(metadata: &Metadata) -> String {
    format!(
        "{} {} {} {}\n",
        metadata.ino(),
        metadata.size(),
        metadata.ctime(),
        metadata.ctime_nsec()
    )
}

fn is_as_verified(path: &Path, size: u64) -> bool {
    let same = || -> io::Result<bool> {
        let metadata = fs::symlink_metadata(path)?;
        let recorded = fs::read_to_string(path.with_extension("verified"))?;
        Ok(metadata.is_file()
            && is_private(&metadata)
            && metadata.mode() & 0o777 == EMULATOR_MODE
            && metadata.size() == size
            && recorded == record(&metadata))
    };
    same().unwrap_or(false)
}
