//! The root that a program lives in: files are found as a process with that root would find them,
//! so that an absolute link in an unpacked image does not lead to the host. Only reads.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use rustix::fs::{
    Access, FileType, Mode, OFlags, ResolveFlags, StatVfsMountFlags, access, fstat, fstatvfs, open,
    openat2,
};

use crate::elf;
use crate::error::Error;
use crate::root::Root;

/// Where a shell looks for commands, unless `PATH` says otherwise.
const DIRS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// A root: our own, or a directory.
pub(super) struct Place {
    root: PathBuf,
    /// `None` for our own.
    dir: Option<OwnedFd>,
}

/// What is known of a regular file without running it.
pub(super) struct Seen {
    /// Its first bytes, or why it cannot be read.
    pub(super) start: Result<Vec<u8>, Errno>,
    pub(super) size: u64,
    /// Permission bits.
    pub(super) mode: u32,
    /// Whether we may execute it, as far as permissions and mount go.
    pub(super) executable: bool,
    pub(super) noexec: bool,
    pub(super) nosuid: bool,
    file: Option<File>,
}

/// Why there is no such file to look at.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unseen {
    /// It is something else: a directory, a pipe.
    Other(&'static str),
    /// A link whose target is not there.
    Dangling,
    /// The path leads nowhere.
    System(Errno),
}

impl Place {
    /// # Errors
    /// Where `root` is no directory that can be entered.
    pub(super) fn new(root: &Path) -> Result<Self, Error> {
        let dir = if root == Path::new("/") {
            None
        } else {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let dir = open(root, flags, Mode::empty());
            Some(dir.map_err(|error| {
                let (root, why) = (root.display(), errno(error.into()).desc());
                Error::Usage(format!("--root {root} cannot be looked into: {why}"))
            })?)
        };
        Ok(Self { root: root.into(), dir })
    }

    /// Whether it is the root of this very process.
    pub(super) fn is_own(&self) -> bool {
        self.dir.is_none()
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// A path of this root as commands from outside call it, quoted for a shell where it has to be.
    pub(super) fn outside(&self, path: &Path) -> String {
        let path = match &self.dir {
            None => path.into(),
            Some(_) => self.root.join(path.strip_prefix("/").unwrap_or(path)),
        };
        let path = path.display().to_string();
        let plain = |c: char| c.is_alphanumeric() || "/._-+,:@%=".contains(c);
        if path.starts_with(|c| c != '-') && path.chars().all(plain) {
            return path;
        }
        format!("'{}'", path.replace('\'', "'\\''"))
    }

    /// A program as a shell in this root would find it.
    pub(super) fn find(&self, program: &Path) -> PathBuf {
        if program.is_absolute() || program.components().count() > 1 {
            return program.into();
        }
        self.command(program).unwrap_or_else(|| program.into())
    }

    /// A command's path, by the directories that shells look into.
    pub(super) fn command(&self, name: &Path) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").filter(|_| self.is_own());
        let dirs: Vec<_> = match &path {
            Some(path) => std::env::split_paths(path).collect(),
            None => DIRS.map(PathBuf::from).into(),
        };
        dirs.iter().map(|dir| dir.join(name)).find(|path| self.has(path))
    }

    /// Whether something is there.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.open(path, OFlags::empty()).is_ok()
    }

    /// Looks at a file.
    ///
    /// It is opened for reading only when it is known to be a regular file: opening a pipe waits
    /// for its other end, opening a device may do anything.
    pub(super) fn look(&self, path: &Path) -> Result<Seen, Unseen> {
        let fd = match self.open(path, OFlags::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::NOENT) if self.open(path, OFlags::NOFOLLOW).is_ok() => {
                return Err(Unseen::Dangling);
            }
            Err(error) => return Err(Unseen::System(Errno::from_raw(error.raw_os_error()))),
        };
        let system = |error: rustix::io::Errno| Unseen::System(errno(error.into()));
        let stat = fstat(&fd).map_err(system)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Directory => return Err(Unseen::Other("a directory")),
            FileType::Fifo => return Err(Unseen::Other("a named pipe")),
            FileType::Socket => return Err(Unseen::Other("a socket")),
            _ => return Err(Unseen::Other("a device")),
        }
        let flags = fstatvfs(&fd).map(|fs| fs.f_flag).unwrap_or(StatVfsMountFlags::empty());
        let again = Root::fd_path(fd.as_raw_fd());
        let file = File::open(&again).map_err(errno);
        let start = file.as_ref().map_err(|errno| *errno).and_then(|file| {
            let mut start = Vec::new();
            file.take(elf::ENOUGH as u64).read_to_end(&mut start).map_err(errno)?;
            Ok(start)
        });
        Ok(Seen {
            start,
            size: stat.st_size.cast_unsigned(),
            mode: stat.st_mode & 0o7777,
            executable: access(&again, Access::EXEC_OK).is_ok(),
            noexec: flags.contains(StatVfsMountFlags::NOEXEC),
            nosuid: flags.contains(StatVfsMountFlags::NOSUID),
            file: file.ok(),
        })
    }

    fn open(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
        let Some(dir) = &self.dir else { return open(path, flags, Mode::empty()) };
        match openat2(dir, path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
            // Before Linux 5.6, and where an old seccomp filter does not know the call.
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => {
                open(self.root.join(path.strip_prefix("/").unwrap_or(path)), flags, Mode::empty())
            }
            other => other,
        }
    }
}

impl Seen {
    /// Up to `most` bytes from the middle of the file.
    pub(super) fn read(&self, at: u64, len: u64, most: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(len).ok().filter(|len| (1..=most).contains(len))?];
        self.file.as_ref()?.read_exact_at(&mut bytes, at).ok()?;
        Some(bytes)
    }
}

fn errno(error: io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(Errno::EIO as i32))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "makes the roots to look into")]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn absolute_links_stay_in_the_root() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("bin")).unwrap();
        fs::write(root.path().join("bin/dash"), "here").unwrap();
        symlink("/bin/dash", root.path().join("bin/sh")).unwrap();
        symlink("../../../../bin/dash", root.path().join("out")).unwrap();
        symlink("/bin/none", root.path().join("bin/dangling")).unwrap();
        let place = Place::new(root.path()).unwrap();
        for path in ["/bin/sh", "bin/sh", "/out", "/../../bin/dash"] {
            assert_eq!(place.look(Path::new(path)).unwrap().start.unwrap(), b"here", "{path}");
        }
        assert_eq!(place.look(Path::new("/bin/dangling")).err(), Some(Unseen::Dangling));
        let enoent = Some(Unseen::System(Errno::ENOENT));
        assert_eq!(place.look(Path::new("/bin/none")).err(), enoent);
        assert_eq!(place.look(Path::new("/bin")).err(), Some(Unseen::Other("a directory")));
        assert_eq!(place.find(Path::new("dash")), Path::new("/bin/dash"));
        assert_eq!(place.find(Path::new("none")), Path::new("none"));
    }

    #[test]
    fn paths_are_quoted_for_a_shell() {
        let place = Place::new(Path::new("/")).unwrap();
        assert_eq!(place.outside(Path::new("/bin/a-b_c.d")), "/bin/a-b_c.d");
        assert_eq!(place.outside(Path::new("/a b/it's")), "'/a b/it'\\''s'");
        assert_eq!(place.outside(Path::new("$(x)")), "'$(x)'");
        let root = tempfile::tempdir().unwrap();
        let outside = Place::new(root.path()).unwrap().outside(Path::new("/bin/x"));
        assert_eq!(Path::new(&outside), root.path().join("bin/x"));
    }

    #[test]
    fn a_pipe_is_not_opened() {
        let root = tempfile::tempdir().unwrap();
        let pipe = root.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let place = Place::new(Path::new("/")).unwrap();
        assert_eq!(place.look(&pipe).err(), Some(Unseen::Other("a named pipe")));
    }

    #[test]
    fn parts_of_a_file_are_read_within_bounds() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("x"), "0123456789").unwrap();
        let seen = Place::new(root.path()).unwrap().look(Path::new("/x")).unwrap();
        assert_eq!(seen.read(2, 3, 10).unwrap(), b"234");
        for (at, len) in [(2, 0), (2, 11), (8, 3), (u64::MAX, 2)] {
            assert_eq!(seen.read(at, len, 10), None, "{at} {len}");
        }
    }
}
