//! Unpacked emulators of one user, kept from one `run` to the next.
//!
//! Each lies in `$XDG_CACHE_HOME/binfmtctl` under its SHA-256, with a record of the file as it was when
//! that was last verified. Any write to a file changes its inode's ctime, which no user can set: while
//! record and file agree nothing has to be read, and where they do not it is unpacked again.

#![expect(clippy::disallowed_methods, reason = "writes the cache, in a directory of its own")]

use std::fs::{self, DirBuilder, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::emulator::{Emulator, Emulators};
use crate::error::{Error, Op};

/// One user's cache.
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// Opens the cache, and makes it if need be.
    ///
    /// # Errors
    /// Neither `XDG_CACHE_HOME` nor `HOME` set; a directory that others own or may write to.
    pub fn open() -> Result<Self, Error> {
        let absolute =
            |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let base =
            absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
        let dir = base.map(|base| base.join("binfmtctl")).ok_or_else(|| Error::Host {
            what: "no place to keep unpacked emulators: neither XDG_CACHE_HOME nor HOME is set"
                .to_owned(),
            hint: "set HOME, or XDG_CACHE_HOME to a directory of your own".to_owned(),
        })?;
        let failed = |error| Error::system(Op::Write, &dir, error);
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

    /// Paths of these emulators' files; unpacks those that are not there, or not as they were.
    ///
    /// # Errors
    /// What prevents the first that cannot be had.
    pub fn paths(&self, all: &Emulators, wanted: &[&Emulator]) -> Result<Vec<PathBuf>, Error> {
        let mut paths = Vec::new();
        let mut missing = Vec::new();
        for emulator in wanted {
            let sha256 = emulator
                .sha256()
                .map_err(|error| Error::system(Op::Read, &emulator.name, error))?;
            // The file name is what entries and `ps` show, so it stays the emulator's own.
            let path = self.dir.join(&sha256).join(&emulator.name);
            if !is_as_verified(&path, emulator.size) {
                missing.push((*emulator, path.clone()));
            }
            paths.push(path);
        }
        self.unpack(all, &missing)?;
        Ok(paths)
    }

    fn unpack(&self, all: &Emulators, missing: &[(&Emulator, PathBuf)]) -> Result<(), Error> {
        let mut writers = Vec::new();
        for (emulator, path) in missing {
            let failed = |error| Error::system(Op::Write, path, error);
            let dir = path.parent().unwrap_or(&self.dir);
            DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
            // Two runs at once each write a file of their own; the last rename wins, both are right.
            let beside = beside(path);
            let _ = fs::remove_file(&beside);
            let file = File::options()
                .write(true)
                .create_new(true)
                .mode(0o500)
                .open(&beside)
                .map_err(failed)?;
            writers.push((*emulator, file));
        }
        let results = all.unpack(writers);
        for ((_, path), result) in missing.iter().zip(results) {
            let failed = |error| Error::system(Op::Write, path, error);
            if let Err(error) = result {
                let _ = fs::remove_file(beside(path));
                return Err(error);
            }
            fs::rename(beside(path), path).map_err(failed)?;
            let record = record(&fs::symlink_metadata(path).map_err(failed)?);
            let record_path = path.with_extension("verified");
            let beside = beside(&record_path);
            let _ = fs::remove_file(&beside);
            let mut file = File::options()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&beside)
                .map_err(failed)?;
            file.write_all(record.as_bytes())
                .and_then(|()| fs::rename(&beside, &record_path))
                .map_err(failed)?;
        }
        Ok(())
    }
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension(format!("new-{}", std::process::id()))
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
            && metadata.size() == size
            && recorded == record(&metadata))
    };
    same().unwrap_or(false)
}
