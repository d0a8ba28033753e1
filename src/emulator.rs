//! The emulators this binary carries, or a directory of others: list, unpack, verify.
//!
//! `qemu-bins/manifest` says what is embedded. It has a line an emulator, `target qemu-version
//! package-version size sha256 pack`; a pack is one xz stream of one or more emulators in the
//! order of their lines. Writes only where it is told to.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use include_dir::{Dir, include_dir};
use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};
use xz2::bufread::XzDecoder;

use crate::arch::{ARCHES, Arch, HOST};
use crate::elf::{self, Elf, Loader};
use crate::entry::{EntryName, Flags, Registration, hex};
use crate::error::{Error, Op};
use crate::shown::shorten;
use crate::terminal::Progress;

static QEMU_BINS: Dir<'_> = include_dir!("$QEMU_BINS");

/// Where programs and entries see the embedded emulators.
const SHOWN_IN: &str = "/usr/bin";

/// One statically linked qemu-user program.
#[derive(Debug, Clone)]
pub struct Emulator {
    /// The guest it runs.
    pub arch: &'static Arch,
    /// Its file name, which is also its entry's: `qemu-aarch64`.
    pub name: String,
    /// Its path as entries and guest programs see it: `/usr/bin/qemu-aarch64`.
    pub shown_as: PathBuf,
    /// QEMU's version, `11.1.3`; empty where it is not known.
    pub version: String,
    /// Version of the package or source that it comes from.
    pub package: String,
    /// Size in bytes.
    pub size: u64,
    sha256: Option<String>,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    /// In an embedded xz stream, after `skip` bytes of others.
    Pack {
        file: &'static str,
        skip: u64,
    },
    File(PathBuf),
}

impl Emulator {
    /// What registers it, where programs and entries are to see it at `path`.
    ///
    /// # Errors
    /// Where the kernel would refuse it.
    pub(crate) fn registration(&self, path: &Path, flags: &Flags) -> Result<Registration, Error> {
        Registration::new(EntryName::new(&self.name)?, self.arch, path, flags.clone())
    }

    /// Whether `file` holds exactly this emulator.
    pub fn is(&self, file: &File) -> bool {
        let same_size = file.metadata().is_ok_and(|metadata| metadata.len() == self.size);
        same_size
            && self.sha256().is_ok_and(|sha256| digest(file).is_ok_and(|other| sha256 == other))
    }

    /// SHA-256 in hexadecimal: the recorded one, or that of the file as it is now.
    ///
    /// # Errors
    /// Those of reading the file.
    pub fn sha256(&self) -> io::Result<String> {
        match (&self.sha256, &self.source) {
            (Some(sha256), _) => Ok(sha256.clone()),
            (None, Source::File(path)) => digest(File::open(path)?),
            (None, Source::Pack { .. }) => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// SHA-256 of a stream in hexadecimal.
///
/// # Errors
/// Those of reading.
pub(crate) fn digest(mut from: impl Read) -> io::Result<String> {
    let mut hash = Hashing { to: io::sink(), hash: Sha256::new() };
    io::copy(&mut from, &mut hash)?;
    Ok(hex(&hash.hash.finalize()))
}

/// Counts on the way through what SHA-256 a stream has.
struct Hashing<W> {
    to: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// The emulators at hand.
#[derive(Debug, Default)]
pub struct Emulators {
    list: Vec<Emulator>,
    /// Files in the user's directory that cannot serve.
    unfit: Vec<(&'static Arch, Error)>,
    prefix: String,
    /// The user's directory, if they come from there.
    dir: Option<PathBuf>,
    progress: Progress,
}

impl Emulators {
    /// Those of the user's directory (`QEMU_BINARY_PATH`) if given, else the embedded ones.
    ///
    /// `prefix` (`QEMU_BINARY_PREFIX`) goes before the name of every binary and entry.
    ///
    /// # Errors
    /// A `/` in the prefix, a directory that cannot be read, a damaged manifest.
    pub fn new(dir: Option<&Path>, prefix: &str) -> Result<Self, Error> {
        EntryName::new(&format!("{prefix}{}", HOST.emulator_name())).map_err(
            |error| match error {
                Error::BadName { wrong, .. } => Error::BadName { name: shorten(prefix), wrong },
                other => other,
            },
        )?;
        let prefix = prefix.to_owned();
        Ok(match dir {
            Some(dir) => {
                let (list, unfit) = list_dir(dir, &prefix)?;
                Self { list, unfit, prefix, dir: Some(dir.into()), ..Self::default() }
            }
            None => {
                let manifest = QEMU_BINS.get_file("manifest").and_then(|file| file.contents_utf8());
                let list = parse_manifest(manifest.unwrap_or_default(), &prefix)?;
                Self { list, prefix, ..Self::default() }
            }
        })
    }

    /// The same, which tell a person who waits how far unpacking is.
    pub fn with_progress(self, progress: Progress) -> Self {
        Self { progress, ..self }
    }

    /// Whether they are in this program itself, so that they can be had wherever it runs.
    pub(crate) fn are_embedded(&self) -> bool {
        self.dir.is_none()
    }

    /// What goes before the names of binaries and entries.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// All of them, those that people ask for most first.
    pub fn iter(&self) -> impl Iterator<Item = &Emulator> {
        self.list.iter()
    }

    /// The one that runs `arch`.
    pub fn get(&self, arch: &Arch) -> Option<&Emulator> {
        self.list.iter().find(|emulator| emulator.arch == arch)
    }

    /// The one that runs `arch`.
    ///
    /// # Errors
    /// Where there is none, or none that can serve.
    pub fn find(&self, arch: &'static Arch) -> Result<&Emulator, Error> {
        if let Some((_, error)) = self.unfit.iter().find(|(unfit, _)| *unfit == arch) {
            return Err(error.clone());
        }
        self.some()?;
        self.get(arch).ok_or(Error::NoEmulator(arch.oci))
    }

    /// What to say where there is none at all.
    fn none(&self) -> Error {
        match &self.dir {
            None => Error::NoEmulators,
            Some(dir) => {
                let name = format!("{}qemu-aarch64", self.prefix);
                Error::NoneInDirectory { dir: dir.display().to_string(), name }
            }
        }
    }

    /// The name that `arch`'s entry has or would have.
    pub fn entry_name(&self, arch: &Arch) -> String {
        format!("{}{}", self.prefix, arch.emulator_name())
    }

    /// Makes sure that there are any.
    ///
    /// # Errors
    /// Where there are none.
    pub fn some(&self) -> Result<(), Error> {
        if self.list.is_empty() { Err(self.none()) } else { Ok(()) }
    }

    /// Writes out the `wanted` emulators, a thread for each pack, and verifies each on its way.
    ///
    /// A pack is read only as far as the last emulator wanted of it. Results are in the order of
    /// `wanted`; the writers are dropped, so that the files can be executed.
    pub fn unpack<W: Write + Send>(&self, wanted: Vec<(&Emulator, W)>) -> Vec<Result<(), Error>> {
        self.unpack_each(wanted, &|_, _| Ok(()))
    }

    /// The same; `complete` gets each writer as soon as its emulator is.
    pub fn unpack_each<W: Write + Send>(
        &self,
        wanted: Vec<(&Emulator, W)>,
        complete: &(dyn Fn(&Emulator, W) -> Result<(), Error> + Sync),
    ) -> Vec<Result<(), Error>> {
        self.progress.show("unpacking emulators");
        let all = wanted.len();
        let count = AtomicUsize::new(0);
        let done = &|emulator: &Emulator, to| {
            let count = count.fetch_add(1, Ordering::Relaxed) + 1;
            self.progress.show(&format!("unpacked {} ({count} of {all})", emulator.name));
            complete(emulator, to)
        };
        let mut results: Vec<_> = wanted.iter().map(|_| Ok(())).collect();
        let mut jobs: Vec<(Option<&str>, Vec<_>)> = Vec::new();
        for ((emulator, to), result) in wanted.into_iter().zip(&mut results) {
            let pack = match emulator.source {
                Source::Pack { file, .. } => Some(file),
                Source::File(_) => None,
            };
            match jobs.iter_mut().find(|(other, _)| pack.is_some() && *other == pack) {
                Some((_, members)) => members.push((emulator, to, result)),
                None => jobs.push((pack, vec![(emulator, to, result)])),
            }
        }
        let queue = Mutex::new(jobs.into_iter());
        let next = || queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
        let work = || {
            while let Some((_, members)) = next() {
                unpack_one_by_one(members, done);
            }
        };
        // This thread works as well; where no others can be had it works alone.
        thread::scope(|scope| {
            for _ in 1..thread::available_parallelism().map_or(1, usize::from) {
                let _ = thread::Builder::new().spawn_scoped(scope, work);
            }
            work();
        });
        self.progress.clear();
        results
    }
}

/// Reads one pack, or one file, and feeds its members' writers.
fn unpack_one_by_one<W: Write>(
    mut members: Vec<(&Emulator, W, &mut Result<(), Error>)>,
    done: &dyn Fn(&Emulator, W) -> Result<(), Error>,
) {
    members.sort_by_key(|(emulator, ..)| match emulator.source {
        Source::Pack { skip, .. } => skip,
        Source::File(_) => 0,
    });
    let mut pack: Option<XzDecoder<&[u8]>> = None;
    let mut at = 0;
    for (emulator, mut to, result) in members {
        let copied = match &emulator.source {
            Source::File(path) => File::open(path)
                .map_err(|error| Error::system(Op::Read, path, error))
                .and_then(|file| copy_verified(emulator, file, &mut to)),
            Source::Pack { file, skip } => {
                let bytes =
                    QEMU_BINS.get_file(file).map(include_dir::File::contents).unwrap_or_default();
                let pack = pack.get_or_insert_with(|| XzDecoder::new_multi_decoder(bytes));
                match io::copy(&mut pack.by_ref().take(skip - at), &mut io::sink()) {
                    Err(error) => Err(damaged(emulator, &error)),
                    Ok(skipped) => {
                        at += skipped + emulator.size;
                        copy_verified(emulator, pack.by_ref(), &mut to)
                    }
                }
            }
        };
        *result = copied.and_then(|()| done(emulator, to));
    }
}

fn damaged(emulator: &Emulator, wrong: &impl ToString) -> Error {
    Error::DamagedEmulator { name: emulator.name.clone(), wrong: wrong.to_string() }
}

/// Copies `emulator.size` bytes and compares their SHA-256 with the recorded one.
fn copy_verified(emulator: &Emulator, mut from: impl Read, to: impl Write) -> Result<(), Error> {
    let mut to = Hashing { to, hash: Sha256::new() };
    let mut buffer = vec![0; 1 << 16];
    let mut left = emulator.size;
    while left > 0 {
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let got = match from.read(&mut buffer[..most]) {
            Ok(0) => return Err(damaged(emulator, &"it ends early")),
            Ok(got) => got,
            Err(error) => return Err(damaged(emulator, &error)),
        };
        to.write_all(&buffer[..got])
            .map_err(|error| Error::system(Op::Write, &emulator.shown_as, error))?;
        left -= got as u64;
    }
    match &emulator.sha256 {
        Some(recorded) if *recorded != hex(&to.hash.finalize()) => {
            Err(damaged(emulator, &"its checksum is not the recorded one"))
        }
        _ => Ok(()),
    }
}

/// Reads the lines of a manifest.
fn parse_manifest(text: &'static str, prefix: &str) -> Result<Vec<Emulator>, Error> {
    let mut emulators: Vec<Emulator> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let fields: Vec<_> = line.split_whitespace().collect();
        let parsed = match fields[..] {
            [target, version, package, size, sha256, file] => Arch::by_target(target)
                .zip(size.parse().ok())
                .filter(|_| sha256.len() == 64)
                .map(|(arch, size)| (arch, version, package, size, sha256, file)),
            _ => None,
        };
        let Some((arch, version, package, size, sha256, file)) = parsed else {
            let wrong = format!("cannot understand the line '{}'", shorten(line));
            return Err(Error::DamagedEmulator { name: "manifest".to_owned(), wrong });
        };
        let before = emulators
            .iter()
            .filter(|e| matches!(e.source, Source::Pack { file: f, .. } if f == file));
        let skip = before.map(|e| e.size).sum();
        let name = format!("{prefix}{}", arch.emulator_name());
        emulators.push(Emulator {
            arch,
            shown_as: Path::new(SHOWN_IN).join(&name),
            name,
            version: version.to_owned(),
            package: package.to_owned(),
            size,
            sha256: Some(sha256.to_ascii_lowercase()),
            source: Source::Pack { file, skip },
        });
    }
    Ok(emulators)
}

/// Emulators in a directory, and why others there cannot serve.
type Listed = (Vec<Emulator>, Vec<(&'static Arch, Error)>);

/// Looks for emulators in a directory.
fn list_dir(dir: &Path, prefix: &str) -> Result<Listed, Error> {
    std::fs::read_dir(dir).map_err(|error| Error::system(Op::List, dir, error))?;
    let (mut emulators, mut unfit) = (Vec::new(), Vec::new());
    for arch in ARCHES {
        let name = format!("{prefix}{}", arch.emulator_name());
        match look_at(&dir.join(&name)) {
            Ok(None) => {}
            Ok(Some(size)) => {
                let path = dir.join(&name);
                emulators.push(Emulator {
                    arch,
                    // Relative paths mean nothing to the kernel later.
                    shown_as: std::path::absolute(&path).unwrap_or_else(|_| path.clone()),
                    name,
                    version: String::new(),
                    package: String::new(),
                    size,
                    sha256: None,
                    source: Source::File(path),
                });
            }
            Err(error) => unfit.push((arch, error)),
        }
    }
    Ok((emulators, unfit))
}

/// The size of an emulator's file; `None` where there is none.
fn look_at(path: &Path) -> Result<Option<u64>, Error> {
    let failed = |error| Error::system(Op::List, path, error);
    // A FIFO would wait for somebody who writes.
    let options = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, options, Mode::empty()) {
        Ok(file) => File::from(file),
        // A link that leads nowhere is a mistake of somebody, and not to be passed over.
        Err(rustix::io::Errno::NOENT) if path.symlink_metadata().is_err() => return Ok(None),
        Err(errno) => return Err(failed(errno.into())),
    };
    let metadata = file.metadata().map_err(failed)?;
    let mut start = Vec::new();
    if metadata.is_file() {
        file.take(elf::ENOUGH as u64).read_to_end(&mut start).map_err(failed)?;
    }
    match unfit(&start) {
        None => Ok(Some(metadata.len())),
        Some(wrong) => Err(Error::UnfitEmulator { path: path.display().to_string(), wrong }),
    }
}

/// Why a program that starts with `start` cannot serve as an emulator in any container.
pub(crate) fn unfit(start: &[u8]) -> Option<&'static str> {
    match elf::File::parse(start) {
        elf::File::Elf(elf) if elf.arch() != Some(HOST) => {
            Some("it is built for another architecture than this machine's")
        }
        elf::File::Elf(Elf { loader: Loader::None, .. }) => None,
        elf::File::Elf(_) => {
            Some("it is dynamically linked and would not find its libraries in containers")
        }
        _ => Some("it is not an ELF program"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_may_hold_several() {
        let sha = "0123456789abcdef".repeat(4);
        let text = format!(
            "# comment\naarch64 11.1 1:11.1 10 {sha} a.xz\narm 11.1 1:11.1 20 {sha} a.xz\nmips 11.1 1:11.1 5 {sha} b.xz\n"
        );
        let list = parse_manifest(text.leak(), "x-").unwrap();
        let skips: Vec<_> = list
            .iter()
            .map(|e| match e.source {
                Source::Pack { skip, .. } => skip,
                Source::File(_) => unreachable!(),
            })
            .collect();
        assert_eq!(skips, [0, 10, 0]);
        assert_eq!(list[1].name, "x-qemu-arm");
    }

    #[test]
    fn a_damaged_manifest_is_an_error() {
        for text in ["aarch64\n", "nonsense 1 1 1 00 a.xz\n", "arm 1 1 x 00 a.xz\n"] {
            assert!(parse_manifest(text, "").is_err(), "{text}");
        }
    }

    #[test]
    fn dynamic_and_foreign_programs_are_unfit() {
        assert_eq!(unfit(b"#!/bin/sh"), Some("it is not an ELF program"));
        assert!(unfit(&Arch::by_target("s390x").unwrap().probe()).is_some());
        let mut own_program = HOST.probe();
        assert_eq!(unfit(&own_program), None);
        let header = if HOST.class == crate::arch::Class::Elf64 { 64 } else { 52 };
        own_program[header] = 3; // its only program header becomes PT_INTERP
        assert!(unfit(&own_program).unwrap().contains("dynamically"));
    }
}
