//! The root that a program lives in: files are found as a process with that root would find them,
//! so that an absolute link in an unpacked image does not lead to the host. Only reads.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use rustix::fs::{
    Access, Dir, FileType, Mode, OFlags, ResolveFlags, StatVfsMountFlags, access, fstat, fstatvfs,
    open, openat2, readlinkat,
};

use crate::elf;
use crate::error::Error;
use crate::root::Root;

/// Where a shell looks for commands, unless `PATH` says otherwise.
const DIRS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// How many links the kernel follows for one path.
const MAX_LINKS: usize = 40;
/// How many names of one directory are looked at.
const MAX_NAMES: usize = 20_000;

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
    /// Its owner.
    pub(super) owner: u32,
    /// Whether we may execute it, as far as permissions and mount go.
    pub(super) executable: bool,
    pub(super) noexec: bool,
    pub(super) nosuid: bool,
    /// All of it, where it can be read.
    pub(super) piece: Option<Piece>,
}

/// A file, or a part of one, to be read from.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) file: Rc<File>,
    pub(super) start: u64,
    pub(super) len: u64,
}

/// Why there is no such file to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unseen {
    /// It is something else: a directory, a pipe.
    Other(&'static str),
    /// This link, the path or a directory of it, leads to a place where nothing is.
    Dangling { link: PathBuf, to: PathBuf },
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
        quoted(&path.display().to_string())
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

    /// The names in a directory, sorted; none where there is no such directory.
    pub(super) fn names(&self, dir: &Path) -> Vec<String> {
        let names = self.open_readable(dir, OFlags::DIRECTORY).and_then(Dir::new);
        let names = names.into_iter().flatten().take(MAX_NAMES).flatten();
        let mut names: Vec<_> =
            names.map(|name| name.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// A file's first bytes, at most so many; `None` where it is no regular file, or cannot be read.
    pub(super) fn bytes(&self, path: &Path, most: u64) -> Option<Vec<u8>> {
        let piece = self.look(path).ok()?.piece?;
        piece.read(0, piece.len.min(most))
    }

    /// A small text file, as far as it is UTF-8.
    pub(super) fn text(&self, path: &Path) -> Option<String> {
        Some(String::from_utf8_lossy(&self.bytes(path, 1 << 20)?).into_owned())
    }

    /// The same file by a path without links, as this root has it.
    pub(super) fn canonical(&self, path: &Path) -> Option<PathBuf> {
        let real = |fd: &OwnedFd| fs::read_link(Root::fd_path(fd.as_raw_fd())).ok();
        let real_path = real(&self.open(path, OFlags::empty()).ok()?)?;
        let Some(dir) = &self.dir else { return Some(real_path) };
        Some(Path::new("/").join(real_path.strip_prefix(real(dir)?).ok()?))
    }

    /// Looks at a file.
    ///
    /// It is opened for reading only when it is known to be a regular file: opening a pipe waits
    /// for its other end, opening a device may do anything.
    pub(super) fn look(&self, path: &Path) -> Result<Seen, Unseen> {
        let fd = self.open(path, OFlags::empty()).map_err(|error| self.unseen(path, error))?;
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
        // Some files of /proc that count as regular ones wait for something to say.
        let nonblock = OFlags::NONBLOCK.bits().cast_signed();
        let file = match File::options().read(true).custom_flags(nonblock).open(&again) {
            // Without /proc it has to be found once more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.open_readable(path, OFlags::NONBLOCK).map(File::from).map_err(io::Error::from)
            }
            other => other,
        };
        let file = file.map_err(errno);
        let executable = match access(&again, Access::EXEC_OK) {
            Err(rustix::io::Errno::NOENT) => stat.st_mode & 0o111 != 0,
            other => other.is_ok(),
        };
        let size = stat.st_size.cast_unsigned();
        let start = file.as_ref().map_err(|errno| *errno).and_then(|file| {
            let mut start = Vec::new();
            file.take(elf::ENOUGH as u64).read_to_end(&mut start).map_err(errno)?;
            Ok(start)
        });
        Ok(Seen {
            start,
            size,
            mode: stat.st_mode & 0o7777,
            owner: stat.st_uid,
            executable,
            noexec: flags.contains(StatVfsMountFlags::NOEXEC),
            nosuid: flags.contains(StatVfsMountFlags::NOSUID),
            piece: file.ok().map(|file| Piece { file: Rc::new(file), start: 0, len: size }),
        })
    }

    /// Why a path cannot be opened.
    fn unseen(&self, path: &Path, error: rustix::io::Errno) -> Unseen {
        let mut above: Vec<_> = path.ancestors().filter(|path| *path != Path::new("")).collect();
        above.reverse();
        let broken = above.into_iter().find(|path| !self.has(path));
        match broken.and_then(|link| Some((link, self.leads_to(link)?))) {
            Some((link, to)) if error == rustix::io::Errno::NOENT => {
                Unseen::Dangling { link: link.into(), to }
            }
            _ => Unseen::System(Errno::from_raw(error.raw_os_error())),
        }
    }

    /// Where a link leads to in the end; `None` if it is no link.
    fn leads_to(&self, link: &Path) -> Option<PathBuf> {
        let mut at = link.to_owned();
        for _ in 0..MAX_LINKS {
            let text = self.open(&at, OFlags::NOFOLLOW).ok().and_then(|fd| {
                let text = readlinkat(fd, "", Vec::new()).ok()?;
                Some(PathBuf::from(String::from_utf8_lossy(text.as_bytes()).into_owned()))
            });
            match text {
                Some(text) => at = at.parent().unwrap_or(Path::new("/")).join(text),
                None => break,
            }
        }
        Some(at).filter(|at| at != link)
    }

    fn open(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        self.open_readable(path, flags | OFlags::PATH)
    }

    fn open_readable(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
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

impl Piece {
    /// These bytes of it; `None` where it has fewer.
    pub(super) fn read(&self, at: u64, len: u64) -> Option<Vec<u8>> {
        let end = at.checked_add(len)?;
        let mut bytes = vec![0; usize::try_from(len).ok().filter(|_| end <= self.len)?];
        self.file.read_exact_at(&mut bytes, self.start.checked_add(at)?).ok()?;
        Some(bytes)
    }
}

/// Text as one word of a shell's command line.
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@%=".contains(c);
    if text.starts_with(|c| c != '-') && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn errno(error: io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(Errno::EIO as i32))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "makes the roots to look into")]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn dangling(link: &str, to: &str) -> Option<Unseen> {
        Some(Unseen::Dangling { link: link.into(), to: to.into() })
    }

    #[test]
    fn absolute_links_stay_in_the_root() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("bin")).unwrap();
        fs::write(root.path().join("bin/dash"), "here").unwrap();
        symlink("/bin/dash", root.path().join("bin/sh")).unwrap();
        symlink("../../../../bin/dash", root.path().join("out")).unwrap();
        symlink("/bin/none", root.path().join("bin/dangling")).unwrap();
        symlink("dangling", root.path().join("bin/twice")).unwrap();
        symlink("/nowhere", root.path().join("lib")).unwrap();
        symlink("loop", root.path().join("loop")).unwrap();
        let place = Place::new(root.path()).unwrap();
        for path in ["/bin/sh", "bin/sh", "/out", "/../../bin/dash"] {
            assert_eq!(place.look(Path::new(path)).unwrap().start.unwrap(), b"here", "{path}");
            assert_eq!(place.canonical(Path::new(path)).unwrap(), Path::new("/bin/dash"), "{path}");
        }
        let unseen = |path: &str| place.look(Path::new(path)).err();
        assert_eq!(unseen("/bin/dangling"), dangling("/bin/dangling", "/bin/none"));
        assert_eq!(unseen("/bin/twice"), dangling("/bin/twice", "/bin/none"));
        assert_eq!(unseen("/lib/x"), dangling("/lib", "/nowhere"));
        assert_eq!(unseen("/bin/none"), Some(Unseen::System(Errno::ENOENT)));
        assert_eq!(unseen("/loop"), Some(Unseen::System(Errno::ELOOP)));
        assert_eq!(unseen("/bin"), Some(Unseen::Other("a directory")));
        assert_eq!(place.find(Path::new("dash")), Path::new("/bin/dash"));
        assert_eq!(place.find(Path::new("none")), Path::new("none"));
        assert_eq!(place.names(Path::new("/bin")), [".", "..", "dangling", "dash", "sh", "twice"]);
        assert_eq!(place.text(Path::new("/bin/sh")).as_deref(), Some("here"));
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
        let piece = Place::new(root.path()).unwrap().look(Path::new("/x")).unwrap().piece.unwrap();
        assert_eq!(piece.read(2, 3).unwrap(), b"234");
        assert_eq!(piece.read(2, 0).unwrap(), b"");
        for (at, len) in [(8, 3), (2, u64::MAX), (u64::MAX, 2)] {
            assert_eq!(piece.read(at, len), None, "{at} {len}");
        }
        let part = Piece { start: 4, len: 3, ..piece };
        assert_eq!((part.read(0, 3).unwrap(), part.read(1, 3)), (b"456".to_vec(), None));
    }
}
