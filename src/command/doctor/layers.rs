//! The files of an image, found in its layers without unpacking them. What is compressed goes through a
//! file without a name, of which only programs and what loaders read are kept.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use flate2::read::MultiGzDecoder;
use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create, open};
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use tar::{Archive, EntryType};

use crate::elf;
use crate::tree::Piece;

/// How many files are remembered: an image with all of a distribution has a tenth of them.
const MAX_FILES: usize = 4_000_000;
/// How much of a layer is unpacked at most, in bytes.
const MAX_LAYER: u64 = 64 << 30;
/// Files of this size are kept whole.
const SMALL: u64 = 1 << 16;
/// How many links are followed for one path, as the kernel does.
const MAX_LINKS: usize = 40;

/// Files by their path, from the root and without links.
#[derive(Debug, Default)]
pub(super) struct Files {
    nodes: BTreeMap<PathBuf, Node>,
    scratch: Option<Rc<File>>,
    used: u64,
}

/// What lies at a path.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Directory,
    File(Contents),
    Link(PathBuf),
    Other(&'static str),
}

/// A file of an image.
#[derive(Debug, Clone)]
pub(super) struct Contents {
    /// As much of it as is kept.
    pub(super) piece: Piece,
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) owner: u32,
}

/// Why a path leads to nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// Nothing is there.
    Absent,
    /// Links lead in a circle.
    Circle,
}

impl Files {
    /// Puts a layer on top of those before it.
    ///
    /// # Errors
    /// Where it is no tar archive, compressed or not, is damaged, or there is no room to unpack it.
    pub(super) fn add(&mut self, layer: &Piece) -> io::Result<()> {
        let mut new = Vec::new();
        let mut hidden = Vec::new();
        let (reader, plain) = unpacked(layer)?;
        for entry in Archive::new(reader.take(MAX_LAYER)).entries()? {
            let mut entry = entry?;
            let path = normal(Path::new("/"), &path_of(&entry.path_bytes()));
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            match name.as_deref().and_then(|name| name.strip_prefix(".wh.")) {
                Some(".wh..opq") => hidden.push((path.with_file_name(""), true)),
                Some(name) => hidden.push((path.with_file_name(name), false)),
                None => {
                    let node = self.node(&mut entry, &path, plain.then_some(layer), &new)?;
                    new.extend(node.map(|node| (path, node)));
                }
            }
            if self.nodes.len() + new.len() > MAX_FILES {
                return Err(io::Error::other("it has too many files"));
            }
        }
        for (path, whole) in hidden {
            self.hide(&path, whole);
        }
        for (path, node) in new {
            // A directory that was there keeps what is in it; all else takes its place.
            if !matches!((&node, self.nodes.get(&path)), (Node::Directory, Some(Node::Directory))) {
                self.hide(&path, false);
                self.nodes.insert(path, node);
            }
        }
        Ok(())
    }

    /// Takes away a path and what is below it; only that, where the directory itself stays.
    fn hide(&mut self, path: &Path, below: bool) {
        let path = normal(Path::new("/"), path);
        let inside = |other: &PathBuf| other.starts_with(&path) && !(below && *other == path);
        if !matches!(self.nodes.get(&path), None | Some(Node::Directory)) && !below {
            self.nodes.remove(&path);
            return;
        }
        let from = self.nodes.range(path.clone()..).map(|(other, _)| other);
        let gone: Vec<_> = from.take_while(|other| other.starts_with(&path)).cloned().collect();
        gone.into_iter().filter(inside).for_each(|other| drop(self.nodes.remove(&other)));
    }

    fn node<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        path: &Path,
        plain: Option<&Piece>,
        new: &[(PathBuf, Node)],
    ) -> io::Result<Option<Node>> {
        let link = entry.link_name_bytes().map(|name| path_of(&name)).unwrap_or_default();
        Ok(Some(match entry.header().entry_type() {
            EntryType::Directory => Node::Directory,
            EntryType::Symlink => Node::Link(link),
            EntryType::Link => {
                let target = normal(Path::new("/"), &link);
                let earlier = new.iter().rev().find(|(other, _)| *other == target);
                let node = earlier.map(|(_, node)| node).or_else(|| self.nodes.get(&target));
                return Ok(node.cloned());
            }
            EntryType::Fifo => Node::Other("a named pipe"),
            EntryType::Char | EntryType::Block => Node::Other("a device"),
            kind if kind.is_file() || kind == EntryType::GNUSparse => {
                Node::File(self.contents(entry, path, plain)?)
            }
            _ => return Ok(None),
        }))
    }

    fn contents<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        path: &Path,
        plain: Option<&Piece>,
    ) -> io::Result<Contents> {
        let (size, at) = (entry.size(), entry.raw_file_position());
        let (mode, owner) = (entry.header().mode()? & 0o7777, entry.header().uid().unwrap_or(0));
        let piece = match plain.filter(|_| entry.header().entry_type() != EntryType::GNUSparse) {
            Some(layer) => layer.part(at, size).ok_or(io::ErrorKind::UnexpectedEof)?,
            None => self.keep(entry, path)?,
        };
        Ok(Contents { piece, size, mode, owner: u32::try_from(owner).unwrap_or(0) })
    }

    /// Keeps the start of a file, or all of it where more may be asked for.
    fn keep<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, path: &Path) -> io::Result<Piece> {
        let mut start = Vec::new();
        let size = entry.size();
        (&mut *entry).take(elf::ENOUGH as u64).read_to_end(&mut start)?;
        let scratch = match &self.scratch {
            Some(scratch) => scratch.clone(),
            None => self.scratch.insert(Rc::new(scratch()?)).clone(),
        };
        let mut to = &*scratch;
        to.write_all(&start)?;
        let mut len = start.len() as u64;
        if start.starts_with(b"\x7fELF") || size <= SMALL || path.ends_with("etc/ld.so.cache") {
            len += io::copy(entry, &mut to)?;
        }
        let piece = Piece { file: scratch, start: self.used, len };
        self.used += len;
        Ok(piece)
    }

    /// What a path leads to, and its path without links.
    ///
    /// # Errors
    /// Where nothing is there.
    pub(super) fn find(&self, path: &Path, follow_last: bool) -> Result<(PathBuf, Node), Lost> {
        let mut links = 0;
        let mut at = PathBuf::from("/");
        let mut ahead: Vec<_> = parts(path).into_iter().rev().collect();
        while let Some(part) = ahead.pop() {
            if part == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&part);
            match self.nodes.get(&next) {
                Some(Node::Link(to)) if follow_last || !ahead.is_empty() => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Lost::Circle);
                    }
                    if to.is_absolute() {
                        at = "/".into();
                    }
                    ahead.extend(parts(to).into_iter().rev());
                }
                // Layers need not name the directories of what they hold.
                Some(_) => at = next,
                None if self.has_below(&next) => at = next,
                None => return Err(Lost::Absent),
            }
        }
        let node = self.nodes.get(&at).cloned().unwrap_or(Node::Directory);
        Ok((at, node))
    }

    fn has_below(&self, dir: &Path) -> bool {
        let next = self.nodes.range(dir.to_owned()..).next();
        next.is_some_and(|(path, _)| path.starts_with(dir))
    }

    /// The names in a directory, sorted.
    pub(super) fn names(&self, dir: &Path) -> Vec<String> {
        let Ok((dir, Node::Directory)) = self.find(dir, true) else { return Vec::new() };
        let below = self.nodes.range(dir.clone()..).take_while(|(path, _)| path.starts_with(&dir));
        let name = |path: &PathBuf| {
            let name = path.strip_prefix(&dir).ok()?.components().next()?;
            Some(name.as_os_str().to_string_lossy().into_owned())
        };
        let mut names: Vec<_> = below.filter_map(|(path, _)| name(path)).collect();
        names.dedup();
        names
    }
}

/// A path from the bytes of an archive.
fn path_of(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::OsStr::from_bytes(bytes).into()
}

/// Its names, `..` among them.
fn parts(path: &Path) -> Vec<std::ffi::OsString> {
    let part = |part: Component<'_>| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().filter_map(part).collect()
}

/// A path below `root`, without `.` and `..`.
fn normal(root: &Path, path: &Path) -> PathBuf {
    let mut normal = root.to_owned();
    for part in parts(path) {
        match part == ".." {
            true => drop(normal.pop()),
            false => normal.push(part),
        }
    }
    normal
}

/// A file without a name, for as long as it is open.
///
/// # Errors
/// Where no directory takes one, and memory does not either.
fn scratch() -> io::Result<File> {
    let chosen = std::env::var_os("TMPDIR").map(PathBuf::from);
    let dirs = chosen.into_iter().chain(["/var/tmp", "/tmp"].map(PathBuf::from));
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let mut files = dirs.filter_map(|dir| open(dir, flags, Mode::RUSR | Mode::WUSR).ok());
    let file =
        files.next().map_or_else(|| memfd_create("binfmtctl-image", MemfdFlags::CLOEXEC), Ok)?;
    Ok(file.into())
}

/// Reads a piece from its start to its end.
struct Section {
    piece: Piece,
    at: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use std::os::unix::fs::FileExt;
        let left = usize::try_from(self.piece.len - self.at).unwrap_or(usize::MAX);
        let len = buffer.len().min(left);
        let got = self.piece.file.read_at(&mut buffer[..len], self.piece.start + self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}

impl Seek for Section {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.piece.len.checked_add_signed(by),
        };
        self.at = to.ok_or(io::ErrorKind::InvalidInput)?.min(self.piece.len);
        Ok(self.at)
    }
}

/// What is in a piece when it is unpacked, and whether it was not packed at all.
fn unpacked(piece: &Piece) -> io::Result<(Box<dyn Read>, bool)> {
    let start = piece.read(0, piece.len.min(6)).unwrap_or_default();
    let section = Section { piece: piece.clone(), at: 0 };
    Ok(match start.as_slice() {
        [0x1f, 0x8b, ..] => (Box::new(MultiGzDecoder::new(section)), false),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => (Box::new(Zstd::new(BufReader::new(section))), false),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => (Box::new(xz2::read::XzDecoder::new(section)), false),
        _ => (Box::new(section), true),
    })
}

/// A file as it is, or what is in it if it is packed.
///
/// # Errors
/// Where it is damaged, or there is no room.
pub(super) fn unpack(piece: &Piece) -> io::Result<Piece> {
    let (reader, plain) = unpacked(piece)?;
    if plain {
        return Ok(piece.clone());
    }
    let file = Rc::new(scratch()?);
    let len = io::copy(&mut reader.take(MAX_LAYER), &mut &*file)?;
    Ok(Piece { file, start: 0, len })
}

/// A member of an archive: its contents, or the link that it is.
pub(super) enum Member {
    File(Piece),
    Link(PathBuf),
}

/// The members of an archive that is not packed, by name.
///
/// # Errors
/// Where it is none.
pub(super) fn members(piece: &Piece) -> io::Result<BTreeMap<PathBuf, Member>> {
    let mut archive = Archive::new(Section { piece: piece.clone(), at: 0 });
    let mut members = BTreeMap::new();
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let path = normal(Path::new(""), &path_of(&entry.path_bytes()));
        let member = match entry.header().entry_type() {
            EntryType::Symlink | EntryType::Link => {
                let link = path_of(&entry.link_name_bytes().unwrap_or_default());
                let hard = entry.header().entry_type() == EntryType::Link;
                let dir = path.parent().filter(|_| !hard).unwrap_or(Path::new(""));
                Member::Link(normal(dir, &link))
            }
            _ => match piece.part(entry.raw_file_position(), entry.size()) {
                Some(part) => Member::File(part),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            },
        };
        members.insert(path, member);
        if members.len() > MAX_FILES {
            break;
        }
    }
    Ok(members)
}

/// zstd, which may come in several frames, some of them to be skipped.
struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    open: bool,
}

impl<R: BufRead> Zstd<R> {
    fn new(source: R) -> Self {
        Self { source, decoder: FrameDecoder::new(), open: false }
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.open {
                let got = self.decoder.read(buffer)?;
                if got > 0 {
                    return Ok(got);
                }
                self.open = !self.decoder.is_finished();
                if self.open {
                    let one = BlockDecodingStrategy::UptoBlocks(1);
                    self.decoder.decode_blocks(&mut self.source, one).map_err(io::Error::other)?;
                }
                continue;
            }
            if self.source.fill_buf()?.is_empty() {
                return Ok(0);
            }
            match self.decoder.init(&mut self.source) {
                Ok(()) => self.open = true,
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let mut skipped = (&mut self.source).take(length.into());
                    io::copy(&mut skipped, &mut io::sink())?;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tar::{Builder, Header};

    use super::*;

    /// A layer with these files; `->` in a name makes a link, `/` at its end a directory.
    fn layer(names: &[&str]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for name in names {
            let mut header = Header::new_gnu();
            header.set_mode(0o755);
            header.set_size(0);
            let (path, text) = match name.split_once("->") {
                Some((path, to)) => {
                    header.set_entry_type(EntryType::Symlink);
                    header.set_link_name(to).unwrap();
                    (path, "")
                }
                None if name.ends_with('/') => {
                    header.set_entry_type(EntryType::Directory);
                    (*name, "")
                }
                None => (*name, *name),
            };
            header.set_size(text.len() as u64);
            builder.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn piece(bytes: &[u8]) -> Piece {
        let file = scratch().unwrap();
        (&file).write_all(bytes).unwrap();
        Piece { file: Rc::new(file), start: 0, len: bytes.len() as u64 }
    }

    fn files(layers: &[&[u8]]) -> Files {
        let mut files = Files::default();
        layers.iter().for_each(|layer| files.add(&piece(layer)).unwrap());
        files
    }

    fn text(files: &Files, path: &str) -> Option<String> {
        let (_, Node::File(contents)) = files.find(Path::new(path), true).ok()? else {
            return None;
        };
        let bytes = contents.piece.read(0, contents.size).unwrap();
        Some(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn later_layers_hide_what_is_below() {
        let base = layer(&["./a/x", "a/y", "b/x", "b/deep/y", "c/x", "d"]);
        let top = layer(&["a/.wh.x", "b/.wh..wh..opq", "b/new", ".wh.d", "c"]);
        let files = files(&[&base, &top]);
        let there: Vec<_> = ["/a/x", "/a/y", "/b/x", "/b/deep/y", "/b/new", "/c", "/c/x", "/d"]
            .into_iter()
            .filter(|path| text(&files, path).is_some())
            .collect();
        assert_eq!(there, ["/a/y", "/b/new", "/c"]);
        assert_eq!(
            (files.names(Path::new("/b")), files.names(Path::new("/"))),
            (vec!["new".to_owned()], vec!["a".to_owned(), "b".to_owned(), "c".to_owned()])
        );
    }

    #[test]
    fn links_stay_in_the_image() {
        let files = files(&[&layer(&[
            "usr/bin/dash",
            "bin->usr/bin",
            "usr/bin/sh->/bin/dash",
            "out->../../../usr",
            "loop->loop",
        ])]);
        assert_eq!(text(&files, "/bin/sh").as_deref(), Some("usr/bin/dash"));
        assert_eq!(text(&files, "/out/bin/../bin/sh").as_deref(), Some("usr/bin/dash"));
        assert_eq!(files.find(Path::new("/bin/sh"), true).unwrap().0, Path::new("/usr/bin/dash"));
        assert_eq!(files.find(Path::new("/loop"), true).unwrap_err(), Lost::Circle);
        assert_eq!(files.find(Path::new("/bin/x"), true).unwrap_err(), Lost::Absent);
    }

    #[test]
    fn packed_layers_are_read_as_those_that_are_not() {
        let plain = layer(&["x", "y"]);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let zstd = ruzstd::encoding::compress_to_vec(
            &plain[..],
            ruzstd::encoding::CompressionLevel::Fastest,
        );
        // What some builders put between frames, to find files again.
        let skipped = [&b"\x50\x2a\x4d\x18\x03\0\0\0abc"[..], &zstd].concat();
        let two = [&zstd[..], b"\x50\x2a\x4d\x18\x03\0\0\0abc"].concat();
        for packed in [gzip.finish().unwrap(), zstd, two] {
            assert_eq!(text(&files(&[&packed]), "/y").as_deref(), Some("y"));
        }
        let mut read = Vec::new();
        Zstd::new(BufReader::new(&skipped[..])).read_to_end(&mut read).unwrap();
        assert_eq!(read, plain);
    }

    #[test]
    fn damaged_layers_are_errors() {
        let plain = layer(&["x", "y"]);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let gzip = gzip.finish().unwrap();
        for bytes in [&plain[..600], &gzip[..gzip.len() / 2], b"not a layer at all"] {
            assert!(Files::default().add(&piece(bytes)).is_err(), "{} bytes", bytes.len());
        }
    }
}
