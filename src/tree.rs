//! A directory tree that is a system's root, our own or another's: the one place where files below such a
//! root are found and opened.
//!
//! Symbolic links are followed as that system would follow them, and never lead out of the tree. A file is
//! opened only once it is known to be a regular one: opening a pipe waits for its other end, opening a
//! device may do anything. This file only reads; `tree/write.rs` changes.

mod write;

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use rustix::fs::{
    Access, AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, StatVfsMountFlags,
    accessat, fstat, fstatvfs, openat, openat2, readlinkat,
};

use crate::elf;
use crate::error::{Error, Op, errno};
use crate::root::Root;

/// Where a shell looks for commands, unless `PATH` says otherwise.
pub(crate) const DIRS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// How many links the kernel follows for one path.
const MAX_LINKS: usize = 40;
/// How many names of one directory are looked at.
const MAX_NAMES: usize = 20_000;
/// No text that is read here is longer, in bytes.
pub(crate) const MOST_TEXT: u64 = 1 << 20;

/// A system's root directory.
#[derive(Debug)]
pub(crate) struct Tree {
    path: PathBuf,
    /// `None` for our own.
    dir: Option<OwnedFd>,
}

/// What is known of a regular file without running it.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Its first bytes, or why it cannot be read.
    pub start: Result<Vec<u8>, Errno>,
    /// In bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// Its owner.
    pub owner: u32,
    /// Whether we may execute it, as far as permissions and mount go.
    pub executable: bool,
    /// Whether its mount forbids programs.
    pub noexec: bool,
    /// Whether its mount ignores setuid.
    pub nosuid: bool,
    /// All of it, where it can be read.
    pub piece: Option<Piece>,
}

/// A file, or a part of one, to be read from.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) file: Rc<File>,
    pub(crate) start: u64,
    pub(crate) len: u64,
}

/// Why there is no such file to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unseen {
    /// It is something else: a directory, a pipe.
    Other(&'static str),
    /// This link, the path or a directory of it, leads to a place where nothing is.
    Dangling {
        /// The link.
        link: PathBuf,
        /// Where it leads.
        to: PathBuf,
    },
    /// The path leads nowhere.
    System(Errno),
}

impl Tree {
    /// Opens the tree at `path`.
    ///
    /// # Errors
    /// Where it is no directory that can be entered.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let dir = match path == Path::new("/") {
            true => None,
            false => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                let dir = openat(CWD, path, flags, Mode::empty());
                Some(dir.map_err(|errno| Error::system(Op::Read, path, errno))?)
            }
        };
        Ok(Self { path: path.into(), dir })
    }

    /// Whether it is the root of this very process, as far as its path tells.
    pub(crate) fn is_own(&self) -> bool {
        self.dir.is_none()
    }

    /// Whether it is the root directory of this process, by whatever path it was opened.
    pub(crate) fn is_root(&self) -> bool {
        let id = |stat: Stat| (stat.st_dev, stat.st_ino);
        let own = rustix::fs::stat("/").map(id);
        let Some(dir) = &self.dir else { return true };
        own.is_ok() && fstat(dir).map(id) == own
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How a path inside is called outside, for messages.
    pub(crate) fn shown(&self, path: &Path) -> PathBuf {
        self.path.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The same for commands, quoted for a shell where it has to be.
    pub(crate) fn outside(&self, path: &Path) -> String {
        let path = if self.is_own() { path.into() } else { self.shown(path) };
        quoted(&path.display().to_string())
    }

    fn failed(&self, op: Op, path: &Path) -> impl Fn(rustix::io::Errno) -> Error {
        let shown = self.shown(path);
        move |errno| Error::system(op, &shown, errno)
    }

    /// A program as a shell in this root would find it.
    pub(crate) fn find(&self, program: &Path) -> PathBuf {
        if program.is_absolute() || program.components().count() > 1 {
            return program.into();
        }
        self.command(program).unwrap_or_else(|| program.into())
    }

    /// A command's path, by the directories that shells look into.
    pub(crate) fn command(&self, name: &Path) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").filter(|_| self.is_own());
        let dirs: Vec<_> = match &path {
            Some(path) => std::env::split_paths(path).collect(),
            None => DIRS.map(PathBuf::from).into(),
        };
        dirs.iter().map(|dir| dir.join(name)).find(|path| self.has(path))
    }

    /// Whether something is there.
    pub(crate) fn has(&self, path: &Path) -> bool {
        self.place(path, OFlags::empty()).is_ok()
    }

    /// The names in a directory, sorted; none where there is no such directory.
    pub(crate) fn names(&self, dir: &Path) -> Vec<String> {
        let names = self.resolve(dir, OFlags::DIRECTORY).and_then(Dir::new);
        let names = names.into_iter().flatten().take(MAX_NAMES).flatten();
        let mut names: Vec<_> =
            names.map(|name| name.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The same file by a path without links, as this root has it.
    pub(crate) fn canonical(&self, path: &Path) -> Option<PathBuf> {
        let real = |fd: &OwnedFd| fs::read_link(Root::fd_path(fd.as_raw_fd())).ok();
        let real_path = real(&self.place(path, OFlags::empty()).ok()?)?;
        let Some(dir) = &self.dir else { return Some(real_path) };
        Some(Path::new("/").join(real_path.strip_prefix(real(dir)?).ok()?))
    }

    /// Looks at a file.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn look(&self, path: &Path) -> Result<Seen, Unseen> {
        let (fd, stat) = self.regular(path)?;
        let flags = fstatvfs(&fd).map(|fs| fs.f_flag).unwrap_or(StatVfsMountFlags::empty());
        let file = self.reopen(path, &fd, &stat).map_err(errno);
        let size = stat.st_size.cast_unsigned();
        let start = file.as_ref().map_err(|errno| *errno).and_then(|file| {
            let mut start = Vec::new();
            file.take(elf::ENOUGH as u64).read_to_end(&mut start).map_err(errno)?;
            Ok(start)
        });
        let again = Root::fd_path(fd.as_raw_fd());
        let executable = match accessat(CWD, &again, Access::EXEC_OK, AtFlags::empty()) {
            // Without /proc.
            Err(rustix::io::Errno::NOENT) => stat.st_mode & 0o111 != 0,
            other => other.is_ok(),
        };
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

    /// A regular file, not opened yet.
    fn regular(&self, path: &Path) -> Result<(OwnedFd, Stat), Unseen> {
        let fd = self.place(path, OFlags::empty()).map_err(|error| self.unseen(path, error))?;
        let stat = fstat(&fd).map_err(|error| Unseen::System(errno(error)))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok((fd, stat)),
            FileType::Directory => Err(Unseen::Other("a directory")),
            FileType::Fifo => Err(Unseen::Other("a named pipe")),
            FileType::Socket => Err(Unseen::Other("a socket")),
            _ => Err(Unseen::Other("a device")),
        }
    }

    /// Opens for reading what is known to be a regular file.
    fn reopen(&self, path: &Path, fd: &OwnedFd, stat: &Stat) -> io::Result<File> {
        // Some files of /proc that count as regular ones wait for something to say.
        let flags = OFlags::NONBLOCK;
        let again = Root::fd_path(fd.as_raw_fd());
        match File::options().read(true).custom_flags(flags.bits().cast_signed()).open(again) {
            // Without /proc it has to be found once more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = self.resolve(path, flags)?;
                let now = fstat(&file)?;
                let same = (now.st_dev, now.st_ino) == (stat.st_dev, stat.st_ino);
                if same { Ok(file.into()) } else { Err(Errno::ESTALE.into()) }
            }
            other => other,
        }
    }

    /// Opens a regular file for reading; `None` where nothing is there.
    ///
    /// # Errors
    /// Where something else is there, or it is longer than `most` bytes; the kernel's answer.
    pub(crate) fn open_file(&self, path: &Path, most: u64) -> Result<Option<File>, Error> {
        let not_ours = |what: &str| Error::Host {
            what: format!("{} is {what}", self.shown(path).display()),
            hint: "binfmtctl writes no such file: move it away".to_owned(),
        };
        match self.regular(path) {
            Ok((_, stat)) if stat.st_size.cast_unsigned() > most => {
                Err(not_ours(&format!("longer than {most} bytes")))
            }
            Ok((fd, stat)) => self
                .reopen(path, &fd, &stat)
                .map(Some)
                .map_err(|error| Error::system(Op::Read, self.shown(path), error)),
            Err(Unseen::Other(what)) => Err(not_ours(what)),
            Err(Unseen::Dangling { .. } | Unseen::System(Errno::ENOENT | Errno::ENOTDIR)) => {
                Ok(None)
            }
            Err(Unseen::System(errno)) => Err(Error::system(Op::Read, self.shown(path), errno)),
        }
    }

    /// Reads a text of at most 1 MiB; empty where there is none.
    ///
    /// # Errors
    /// As [`Tree::open_file`], or where it is not UTF-8.
    pub(crate) fn read(&self, path: &Path) -> Result<String, Error> {
        let mut text = String::new();
        if let Some(file) = self.open_file(path, MOST_TEXT)? {
            file.take(MOST_TEXT)
                .read_to_string(&mut text)
                .map_err(|error| Error::system(Op::Read, self.shown(path), error))?;
        }
        Ok(text)
    }

    /// What a symbolic link says; `None` where there is none.
    pub(crate) fn link_text(&self, path: &Path) -> Option<PathBuf> {
        let dir = self.place(path.parent()?, OFlags::DIRECTORY).ok()?;
        let text = readlinkat(&dir, path.file_name()?, Vec::new()).ok()?;
        Some(OsString::from_vec(text.into_bytes()).into())
    }

    /// Whether files can be made in a directory, or in the one where it would be made.
    ///
    /// # Errors
    /// The kernel's answer: EROFS, EACCES; EPERM for a directory that is immutable.
    pub(crate) fn writable(&self, dir: &Path) -> Result<(), Error> {
        accessat(self.nearest(dir)?, ".", Access::WRITE_OK, AtFlags::empty())
            .map_err(self.failed(Op::Write, dir))
    }

    /// Whether programs in a directory, or in the one where it would be made, can be run.
    ///
    /// # Errors
    /// The kernel's answer.
    pub(crate) fn executable(&self, dir: &Path) -> Result<bool, Error> {
        let mount = fstatvfs(self.nearest(dir)?).map_err(self.failed(Op::Read, dir))?;
        Ok(!mount.f_flag.contains(StatVfsMountFlags::NOEXEC))
    }

    /// Owner, group and permission bits of a directory that is there.
    pub(crate) fn rights(&self, dir: &Path) -> Option<(u32, u32, u32)> {
        let stat = fstat(self.place(dir, OFlags::DIRECTORY).ok()?).ok()?;
        Some((stat.st_uid, stat.st_gid, stat.st_mode & 0o7777))
    }

    /// The last directory of a path that is there.
    fn nearest(&self, dir: &Path) -> Result<OwnedFd, Error> {
        let there = dir.ancestors().find(|dir| self.has(dir)).unwrap_or(Path::new("/"));
        self.place(there, OFlags::DIRECTORY).map_err(self.failed(Op::Write, dir))
    }

    /// Why a path cannot be opened.
    fn unseen(&self, path: &Path, error: rustix::io::Errno) -> Unseen {
        let link = |path: &Path| {
            let text = readlinkat(self.place(path, OFlags::NOFOLLOW).ok()?, "", Vec::new()).ok()?;
            Some(PathBuf::from(OsString::from_vec(text.into_bytes())))
        };
        unseen(path, errno(error), |path| self.has(path), link)
    }

    /// A path's place in the file system: what is there is not opened.
    ///
    /// # Errors
    /// The kernel's answer.
    pub(crate) fn place(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        self.resolve(path, flags | OFlags::PATH)
    }

    /// Opens what a path inside leads to. Without `O_PATH` for directories only.
    fn resolve(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC;
        let Some(dir) = &self.dir else { return openat(CWD, path, flags, Mode::empty()) };
        match openat2(dir, path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
            // Before Linux 5.6, and where an old seccomp filter does not know the call.
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => walk(dir, path, flags),
            other => other,
        }
    }
}

/// Does what openat2 does with RESOLVE_IN_ROOT: goes through a path step by step, and takes each link's
/// text for a path of the tree.
fn walk(root: &OwnedFd, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let here = || openat(root, ".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let mut way = vec![here()?];
    let mut todo: VecDeque<OsString> = steps(path);
    let mut links = 0;
    while let Some(step) = todo.pop_front() {
        let Some(dir) = way.last() else { break };
        if step == ".." {
            way.truncate((way.len() - 1).max(1));
            continue;
        }
        let step_flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let next = openat(dir, &step, step_flags, Mode::empty())?;
        let kind = FileType::from_raw_mode(fstat(&next)?.st_mode);
        let wanted_itself = todo.is_empty() && flags.contains(OFlags::NOFOLLOW);
        if kind != FileType::Symlink || wanted_itself {
            way.push(next);
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(rustix::io::Errno::LOOP);
        }
        let text = readlinkat(&next, "", Vec::new())?;
        let text = PathBuf::from(OsString::from_vec(text.into_bytes()));
        if text.is_absolute() {
            way.truncate(1);
        }
        steps(&text).into_iter().rev().for_each(|step| todo.push_front(step));
    }
    let last = way.pop().map_or_else(here, Ok)?;
    let is_dir = FileType::from_raw_mode(fstat(&last)?.st_mode) == FileType::Directory;
    match flags.contains(OFlags::DIRECTORY) {
        true if !is_dir => Err(rustix::io::Errno::NOTDIR),
        true if !flags.contains(OFlags::PATH) => openat(&last, ".", flags, Mode::empty()),
        _ => Ok(last),
    }
}

/// The steps of a path: names, and `..`.
fn steps(path: &Path) -> VecDeque<OsString> {
    let step = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsStr::new("..").to_owned()),
        _ => None,
    };
    path.components().filter_map(step).collect()
}

/// Why a path leads to nothing, in a root that `has` paths and in which a `link` says something.
pub(crate) fn unseen(
    path: &Path,
    errno: Errno,
    has: impl Fn(&Path) -> bool,
    link: impl Fn(&Path) -> Option<PathBuf>,
) -> Unseen {
    let mut above: Vec<_> = path.ancestors().filter(|path| *path != Path::new("")).collect();
    above.reverse();
    let Some(broken) = above.into_iter().find(|path| !has(path)) else {
        return Unseen::System(errno);
    };
    let mut to = broken.to_owned();
    for _ in 0..MAX_LINKS {
        match link(&to) {
            Some(text) => to = to.parent().unwrap_or(Path::new("/")).join(text),
            None => break,
        }
    }
    match errno {
        Errno::ENOENT if to != broken => Unseen::Dangling { link: broken.into(), to },
        _ => Unseen::System(errno),
    }
}

impl Piece {
    /// A part of it; `None` where it has no such part.
    pub(crate) fn part(&self, at: u64, len: u64) -> Option<Self> {
        let whole = at.checked_add(len)? <= self.len;
        let start = self.start.checked_add(at)?;
        whole.then(|| Self { file: self.file.clone(), start, len })
    }

    /// These bytes of it; `None` where it has fewer.
    pub(crate) fn read(&self, at: u64, len: u64) -> Option<Vec<u8>> {
        let end = at.checked_add(len)?;
        let mut bytes = vec![0; usize::try_from(len).ok().filter(|_| end <= self.len)?];
        self.file.read_exact_at(&mut bytes, self.start.checked_add(at)?).ok()?;
        Some(bytes)
    }
}

/// Text as one word of a shell's command line.
pub(crate) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+,:@%=".contains(c);
    if text.starts_with(|c| c != '-') && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
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
        let place = Tree::open(root.path()).unwrap();
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
    }

    /// As openat2 does, where there is none.
    #[test]
    fn a_walk_by_hand_leads_to_the_same_files() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("a/b")).unwrap();
        fs::write(root.path().join("a/b/file"), "").unwrap();
        for (link, to) in [
            ("abs", "/a/b"),
            ("a/up", "../../../a/b/file"),
            ("a/b/top", "/"),
            ("loop", "loop"),
            ("gone", "/none"),
            ("twice", "abs/top/a"),
        ] {
            symlink(to, root.path().join(link)).unwrap();
        }
        let dir = Tree::open(root.path()).unwrap().dir.unwrap();
        let id = |fd: rustix::io::Result<OwnedFd>| {
            fd.and_then(fstat).map(|stat| (stat.st_dev, stat.st_ino))
        };
        for path in [
            "/",
            ".",
            "..",
            "a",
            "/abs/file",
            "abs/../b/file",
            "a/up",
            "a/up/x",
            "twice/b/file",
            "loop",
            "gone",
            "gone/x",
            "/../../etc/passwd",
            "a/b/top/a/b/top/abs",
            "none/..",
            "abs/top",
        ] {
            for flags in [
                OFlags::PATH,
                OFlags::PATH | OFlags::NOFOLLOW,
                OFlags::PATH | OFlags::DIRECTORY,
                OFlags::DIRECTORY,
            ] {
                let kernel = openat2(&dir, path, flags, Mode::empty(), ResolveFlags::IN_ROOT);
                let ours = walk(&dir, Path::new(path), flags);
                assert_eq!(id(ours), id(kernel), "{path} {flags:?}");
            }
        }
    }

    #[test]
    fn only_regular_files_within_the_limit_are_opened() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        symlink("/dev/zero", at("zero")).unwrap();
        fs::create_dir(at("dir")).unwrap();
        File::create(at("sparse")).unwrap().set_len(10 << 40).unwrap();
        fs::write(at("text"), "text").unwrap();
        let tree = Tree::open(root.path()).unwrap();
        let open = |path: &str| tree.open_file(Path::new(path), 100);
        for path in ["/pipe", "/dir", "/sparse"] {
            assert!(matches!(open(path), Err(Error::Host { .. })), "{path}");
        }
        // The tree has no /dev.
        assert!(open("/zero").unwrap().is_none());
        assert!(open("/text").unwrap().is_some());
        assert_eq!(tree.read(Path::new("/text")).unwrap(), "text");
        assert!(tree.read(Path::new("/sparse")).is_err());
        let own = Tree::open(Path::new("/")).unwrap();
        assert!(own.open_file(Path::new("/dev/zero"), 100).is_err());
    }

    #[test]
    fn paths_are_quoted_for_a_shell() {
        let place = Tree::open(Path::new("/")).unwrap();
        assert_eq!(place.outside(Path::new("/bin/a-b_c.d")), "/bin/a-b_c.d");
        assert_eq!(place.outside(Path::new("/a b/it's")), "'/a b/it'\\''s'");
        assert_eq!(place.outside(Path::new("$(x)")), "'$(x)'");
        let root = tempfile::tempdir().unwrap();
        let outside = Tree::open(root.path()).unwrap().outside(Path::new("/bin/x"));
        assert_eq!(Path::new(&outside), root.path().join("bin/x"));
    }

    #[test]
    fn a_pipe_is_not_opened() {
        let root = tempfile::tempdir().unwrap();
        let pipe = root.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let place = Tree::open(Path::new("/")).unwrap();
        assert_eq!(place.look(&pipe).err(), Some(Unseen::Other("a named pipe")));
    }

    #[test]
    fn parts_of_a_file_are_read_within_bounds() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("x"), "0123456789").unwrap();
        let piece = Tree::open(root.path()).unwrap().look(Path::new("/x")).unwrap().piece.unwrap();
        assert_eq!(piece.read(2, 3).unwrap(), b"234");
        assert_eq!(piece.read(2, 0).unwrap(), b"");
        for (at, len) in [(8, 3), (2, u64::MAX), (u64::MAX, 2)] {
            assert_eq!(piece.read(at, len), None, "{at} {len}");
        }
        let part = Piece { start: 4, len: 3, ..piece };
        assert_eq!((part.read(0, 3).unwrap(), part.read(1, 3)), (b"456".to_vec(), None));
    }
}
