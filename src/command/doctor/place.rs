//! Where a program lives: a root directory, our own or another, or an image. Only reads.

use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::layers::{Contents, Files, Lost, Node};
use crate::elf;
use crate::tree::{DIRS, MOST_TEXT, Seen, Tree, Unseen, quoted, unseen};

/// A root.
pub(super) struct Place {
    /// What it is called.
    path: PathBuf,
    at: At,
    /// What programs in it find in their environment.
    environment: Vec<(String, String)>,
}

enum At {
    Tree(Tree),
    Image(Files),
}

impl From<Tree> for Place {
    fn from(tree: Tree) -> Self {
        // That of another root is not known.
        let libraries = std::env::var("LD_LIBRARY_PATH").ok().filter(|_| tree.is_own());
        let environment = libraries.map(|dirs| ("LD_LIBRARY_PATH".to_owned(), dirs));
        let environment = environment.into_iter().collect();
        Self { path: tree.path().into(), at: At::Tree(tree), environment }
    }
}

impl Place {
    /// The root that an image makes.
    pub(super) fn of_image(name: &Path, files: Files, environment: Vec<(String, String)>) -> Self {
        Self { path: name.into(), at: At::Image(files), environment }
    }

    /// Whether it is the root of this very process.
    pub(super) fn is_own(&self) -> bool {
        matches!(&self.at, At::Tree(tree) if tree.is_own())
    }

    pub(super) fn is_image(&self) -> bool {
        matches!(self.at, At::Image(_))
    }

    /// Whether commands that repair something are given inside of it: here, or in a Dockerfile.
    pub(super) fn is_inside(&self) -> bool {
        self.is_own() || self.is_image()
    }

    /// This machine's own root, for another one that may have been made of its files.
    pub(super) fn beside(&self) -> Option<Self> {
        if self.is_inside() {
            return None;
        }
        Tree::open(Path::new("/")).ok().map(Self::from)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A variable that its programs find.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// A path of it for commands, quoted for a shell where it has to be.
    pub(super) fn outside(&self, path: &Path) -> String {
        match &self.at {
            At::Tree(tree) => tree.outside(path),
            At::Image(_) => quoted(&path.display().to_string()),
        }
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
        if let At::Tree(tree) = &self.at {
            return tree.command(name);
        }
        let dirs: Vec<_> = match self.variable("PATH") {
            Some(path) => std::env::split_paths(path).collect(),
            None => DIRS.map(PathBuf::from).into(),
        };
        dirs.iter().map(|dir| dir.join(name)).find(|path| self.has(path))
    }

    /// Whether something is there.
    pub(super) fn has(&self, path: &Path) -> bool {
        match &self.at {
            At::Tree(tree) => tree.has(path),
            At::Image(files) => files.find(path, true).is_ok(),
        }
    }

    /// The names in a directory, sorted; none where there is no such directory.
    pub(super) fn names(&self, dir: &Path) -> Vec<String> {
        match &self.at {
            At::Tree(tree) => tree.names(dir),
            At::Image(files) => files.names(dir),
        }
    }

    /// A file's first bytes, at most so many; `None` where it is no regular file, or cannot be read.
    pub(super) fn bytes(&self, path: &Path, most: u64) -> Option<Vec<u8>> {
        let piece = self.look(path).ok()?.piece?;
        piece.read(0, piece.len.min(most))
    }

    /// A small text file, as far as it is UTF-8.
    pub(super) fn text(&self, path: &Path) -> Option<String> {
        Some(String::from_utf8_lossy(&self.bytes(path, MOST_TEXT)?).into_owned())
    }

    /// The same file by a path without links.
    pub(super) fn canonical(&self, path: &Path) -> Option<PathBuf> {
        match &self.at {
            At::Tree(tree) => tree.canonical(path),
            At::Image(files) => files.find(path, true).ok().map(|(path, _)| path),
        }
    }

    /// Looks at a file.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn look(&self, path: &Path) -> Result<Seen, Unseen> {
        match &self.at {
            At::Tree(tree) => tree.look(path),
            At::Image(files) => look(files, path),
        }
    }
}

fn look(files: &Files, path: &Path) -> Result<Seen, Unseen> {
    let (_, node) = files.find(path, true).map_err(|lost| {
        let errno = if lost == Lost::Circle { Errno::ELOOP } else { Errno::ENOENT };
        let link = |path: &Path| match files.find(path, false) {
            Ok((_, Node::Link(to))) => Some(to),
            _ => None,
        };
        unseen(path, errno, |path| files.find(path, true).is_ok(), link)
    })?;
    let Contents { piece, size, mode, owner } = match node {
        Node::File(contents) => contents,
        Node::Other(what) => return Err(Unseen::Other(what)),
        Node::Directory | Node::Link(_) => return Err(Unseen::Other("a directory")),
    };
    let start = piece.read(0, piece.len.min(elf::ENOUGH as u64)).ok_or(Errno::EIO);
    let executable = mode & 0o111 != 0;
    let (noexec, nosuid) = (false, false);
    Ok(Seen { start, size, mode, owner, executable, noexec, nosuid, piece: Some(piece) })
}
