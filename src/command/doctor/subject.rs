//! What is known of each file that takes part in starting a program: the program, the interpreters
//! of scripts, and what these need. Reads; judges nothing.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;

use super::environment::{Environment, Trial};
use super::kind::{self, Kind};
use super::libraries::{Family, Identity, Libraries, Search};
use super::linking::{self, Linking};
use super::place::Place;
use super::script::{self, Env, Hidden, Script};
use crate::arch::{Arch, HOST};
use crate::elf::{self, Elf, Loader};
use crate::entry::{Entry, Rule};
use crate::root::Root;
use crate::state::{Outcome, RunBy, State};
use crate::tree::{Seen, Unseen};

/// How often the kernel goes from a file to the one that is to run it, before it gives up (`fs/exec.c`).
pub(super) const MAX_DEPTH: usize = 5;
/// How many files are looked at: with `env` a chain may go on for ever.
const MAX_CHAIN: usize = 16;
/// Largest C library that is compared, in bytes.
const MAX_LIBC: u64 = 16 << 20;
/// Longest path that the kernel takes, and so longest loader's.
const MAX_PATH: u64 = 4096;

/// A file that takes part.
pub(super) struct Subject<'a> {
    pub(super) place: &'a Place,
    pub(super) state: &'a State,
    pub(super) environment: &'a Environment,
    pub(super) path: PathBuf,
    /// How often the kernel has gone on to another file before it comes to this one.
    pub(super) depth: usize,
    pub(super) seen: Result<Seen, Unseen>,
    /// The entry that takes it.
    pub(super) taker: Option<&'a Entry>,
    pub(super) content: Content<'a>,
}

/// What is in it.
pub(super) enum Content<'a> {
    /// It cannot be read, or not even found.
    Unread,
    Program(Box<Program<'a>>),
    /// An ELF header that makes no sense.
    Damaged(&'static str),
    Script(Script, Next),
    /// A script whose `#!` the kernel does not see.
    Hidden(Hidden),
    Other(&'static Kind),
}

/// Where a script leads to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Next {
    /// Whether its interpreter is there.
    pub(super) there: bool,
    /// What `env` is asked for, with the path where that is.
    pub(super) command: Option<(String, Option<PathBuf>)>,
    /// One that may take its place, where it is not there: the same elsewhere, or python3 for python.
    pub(super) instead: Option<PathBuf>,
    /// Whether `env` is one that does not know -S.
    pub(super) busybox: bool,
}

/// An ELF program.
pub(super) struct Program<'a> {
    pub(super) elf: Elf<'static>,
    pub(super) arch: Option<&'static Arch>,
    pub(super) runner: Runner<'a>,
    /// How it was spoilt by something that took it for a text.
    pub(super) as_text: Option<&'static str>,
    /// What its dynamic part says; `None` where that cannot be read.
    pub(super) linking: Option<Linking>,
    /// Path of its dynamic loader; empty where it cannot be read.
    pub(super) loader: Option<PathBuf>,
    pub(super) loader_file: LoaderFile,
    pub(super) libraries: Option<Libraries>,
    /// What is known of the root where its loader is not.
    pub(super) home: Option<Home>,
    /// How the smallest program of its architecture ended, where an emulator runs it.
    pub(super) trial: Option<Trial>,
}

/// What runs an architecture's programs here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Runner<'a> {
    Native,
    Entry(&'a Entry),
    /// An entry that cannot be seen.
    Hidden,
    Nobody,
}

impl Runner<'_> {
    pub(super) fn emulates(self) -> bool {
        matches!(self, Self::Entry(_) | Self::Hidden)
    }
}

/// What lies where a program wants its loader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LoaderFile {
    /// None is wanted, or it could not be looked at.
    Unknown,
    Fits,
    Missing(Unseen),
    /// It is for this architecture, or no program at all.
    Foreign(Option<&'static Arch>),
    NotExecutable,
}

/// A root, as far as it tells what programs fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Home {
    /// ID of os-release: `debian`, `alpine`.
    pub(super) id: String,
    /// Its dynamic loaders, with their architecture.
    pub(super) loaders: Vec<(PathBuf, Option<&'static Arch>)>,
    /// Directory for QEMU_LD_PREFIX that has the wanted loader.
    pub(super) prefix: Option<PathBuf>,
    /// Its C library, and whether that is the same as this machine's own, which has the wanted loader, too.
    pub(super) libc: Option<(PathBuf, bool)>,
}

/// What is given to all that is looked at.
pub(super) struct Looker<'a> {
    pub(super) root: &'a Root,
    pub(super) place: &'a Place,
    pub(super) state: &'a State,
    pub(super) environment: &'a Environment,
}

impl<'a> Looker<'a> {
    /// The program, then what runs it, and so on: in the order of exec(2).
    pub(super) fn chain(&self, path: &Path) -> Vec<Subject<'a>> {
        let mut trials = BTreeMap::new();
        let mut chain = Vec::new();
        let mut ahead = VecDeque::from([(path.to_owned(), 0)]);
        while let Some((path, depth)) = ahead.pop_front()
            && chain.len() < MAX_CHAIN
        {
            let mut subject = self.look(path, depth);
            if let Content::Script(script, next) = &subject.content
                && next.there
                && depth <= MAX_DEPTH
            {
                ahead.push_back((script.interpreter.clone(), depth + 1));
                // That is a new start, so the kernel counts from zero.
                let command = next.command.as_ref().and_then(|(_, path)| path.clone());
                ahead.extend(command.map(|path| (path, 0)));
            }
            if let Content::Program(program) = &mut subject.content
                && program.runner.emulates()
                && let Some(arch) = program.arch
            {
                let trial = trials.entry(arch.target).or_insert_with(|| self.try_out(arch));
                program.trial.clone_from(trial);
            }
            chain.push(subject);
        }
        chain
    }

    fn try_out(&self, arch: &Arch) -> Option<Trial> {
        // It hung before: it need not be waited for as long again.
        let hangs = self.state.probe(arch).is_some_and(|probe| probe.outcome == Outcome::TimedOut);
        let limit = Duration::from_secs(if hangs { 2 } else { 10 });
        self.environment.try_out(self.root, arch, limit)
    }

    fn look(&self, path: PathBuf, depth: usize) -> Subject<'a> {
        let Self { place, state, environment, .. } = *self;
        let seen = place.look(&path);
        let start = seen.as_ref().ok().and_then(|seen| seen.start.as_ref().ok());
        let taker = start.and_then(|start| taker(state, &path, start));
        let content = match (start, &seen) {
            (Some(start), Ok(seen)) => self.content(&path, start, seen, taker),
            _ => Content::Unread,
        };
        Subject { place, state, environment, path, depth, seen, taker, content }
    }

    fn content(
        &self,
        path: &Path,
        start: &[u8],
        seen: &Seen,
        taker: Option<&'a Entry>,
    ) -> Content<'a> {
        match elf::File::parse(start) {
            elf::File::Elf(elf) => {
                Content::Program(Box::new(self.program(path, &elf, start, seen, taker)))
            }
            elf::File::Damaged(wrong) => Content::Damaged(wrong),
            _ => match (script::parse(start), script::hidden(start)) {
                (Some(script), _) => {
                    let next = self.next(path, &script);
                    Content::Script(script, next)
                }
                (None, Some(hidden)) => Content::Hidden(hidden),
                (None, None) => Content::Other(kind::of(start)),
            },
        }
    }

    fn next(&self, path: &Path, script: &Script) -> Next {
        let there =
            !script.interpreter.as_os_str().is_empty() && self.place.has(&script.interpreter);
        let mut next = Next { there, ..Next::default() };
        if !there && script.interpreter.is_absolute() {
            let name = script.interpreter.file_name().unwrap_or_default().to_string_lossy();
            let names = [name.to_string(), format!("{name}3")];
            // Beside the script, where a virtual environment was moved; else its own Python is not any other.
            let beside = path.parent().map(|dir| dir.join(name.as_ref()));
            let any = !script.is_of_environment();
            let usual = |name| script::USUAL.map(|dir| Path::new(dir).join(name));
            let paths = beside.into_iter().chain(names.iter().flat_map(usual).filter(|_| any));
            next.instead = paths.into_iter().find(|path| self.place.has(path));
        }
        if !there || script.interpreter.file_name() != Some(OsStr::new("env")) {
            return next;
        }
        let command = match script::env(script.argument.as_deref()) {
            Env::Splits(command) => {
                let real = self.place.canonical(&script.interpreter).unwrap_or_default();
                next.busybox = real.file_name() == Some(OsStr::new("busybox"));
                command
            }
            Env::Starts(command) => command,
            Env::OneWord(_) | Env::Other => return next,
        };
        let path = Path::new(&command);
        let found = match path.is_absolute() {
            true => Some(path.to_owned()).filter(|path| self.place.has(path)),
            false => self.place.command(path),
        };
        next.command = Some((command, found));
        next
    }

    #[expect(clippy::too_many_arguments, reason = "what is known of the program by then")]
    fn program(
        &self,
        path: &Path,
        elf: &Elf<'_>,
        start: &[u8],
        seen: &Seen,
        taker: Option<&'a Entry>,
    ) -> Program<'a> {
        let arch = Arch::of_header(start).or_else(|| elf.arch());
        let loader = match elf.loader {
            Loader::None => None,
            Loader::Path(path) => Some(PathBuf::from(path)),
            Loader::Beyond { at, len } => Some(beyond(seen, at, len).unwrap_or_default()),
        };
        let mut program = Program {
            elf: elf.without_loader(),
            arch,
            runner: runner(self.state, arch, taker),
            as_text: seen.piece.as_ref().and_then(|piece| {
                linking::as_text(&piece.read(0, piece.len.min(linking::ENOUGH_TO_TELL))?)
            }),
            linking: seen.piece.as_ref().and_then(linking::read),
            loader: loader.clone(),
            loader_file: LoaderFile::Unknown,
            libraries: None,
            home: None,
            trial: None,
        };
        let Some(loader) = loader.filter(|loader| !loader.as_os_str().is_empty()) else {
            return program;
        };
        let prefix = self.prefix(&program);
        program.loader_file = self.loader_file(&loader, prefix.as_deref(), elf);
        if ![LoaderFile::Fits, LoaderFile::NotExecutable].contains(&program.loader_file) {
            let mut home = self.home(&loader);
            home.prefix.take_if(|prefix| !self.is_enough(prefix, path, &loader, elf, &program));
            program.home = Some(home);
            return program;
        }
        let search = Search::new(self.place, prefix.as_deref(), &loader, Identity::of(elf), arch);
        if let Some((search, linking)) = search.zip(program.linking.as_ref()) {
            program.libraries = Some(search.better(self.better(arch)).follow(path, linking));
        }
        program
    }

    /// Whether all libraries that a program needs are in such a directory, or here.
    #[expect(clippy::too_many_arguments, reason = "what is known of the program by then")]
    fn is_enough(
        &self,
        prefix: &Path,
        path: &Path,
        loader: &Path,
        elf: &Elf<'_>,
        program: &Program<'_>,
    ) -> bool {
        let search = Search::new(self.place, Some(prefix), loader, Identity::of(elf), program.arch);
        let both = search.zip(program.linking.as_ref());
        both.is_some_and(|(search, linking)| search.follow(path, linking).missing.is_empty())
    }

    /// Directories for better CPUs whose libraries are taken.
    fn better(&self, arch: Option<&Arch>) -> Vec<String> {
        let levels =
            arch.and_then(|arch| self.state.probe(arch)).map(|probe| probe.levels.as_slice());
        levels.unwrap_or_default().iter().map(|level| format!("x86-64-{level}")).collect()
    }

    /// Where the program's emulator looks before it looks in the root: only on this very machine.
    fn prefix(&self, program: &Program<'_>) -> Option<PathBuf> {
        let arch = program.arch.filter(|_| self.place.is_own() && program.runner.emulates())?;
        // As Debian's and upstream's builds have it, unless the variable says otherwise.
        let built_in = [
            format!("/etc/qemu-binfmt/{}", arch.target),
            format!("/usr/gnemul/qemu-{}", arch.target),
        ];
        let built_in = built_in.into_iter().map(PathBuf::from).find(|dir| self.place.has(dir));
        self.environment.prefix().or(built_in)
    }

    fn loader_file(&self, loader: &Path, prefix: Option<&Path>, elf: &Elf<'_>) -> LoaderFile {
        let inside = prefix.map(|prefix| prefix.join(loader.strip_prefix("/").unwrap_or(loader)));
        let path = inside.filter(|path| self.place.has(path)).unwrap_or_else(|| loader.into());
        let seen = match self.place.look(&path) {
            Ok(seen) => seen,
            Err(why) => return LoaderFile::Missing(why),
        };
        let Ok(start) = seen.start else { return LoaderFile::Unknown };
        match elf::File::parse(&start) {
            elf::File::Elf(other) if Identity::of(&other) == Identity::of(elf) => {
                match seen.mode & 0o111 {
                    0 => LoaderFile::NotExecutable,
                    _ => LoaderFile::Fits,
                }
            }
            elf::File::Elf(other) => LoaderFile::Foreign(other.arch()),
            _ => LoaderFile::Foreign(None),
        }
    }

    /// The C library of a root without this loader.
    fn libc(&self, loader: &Path) -> Option<(PathBuf, bool)> {
        const DIRS: [&str; 4] = ["/lib64", "/usr/lib64", "/lib", "/usr/lib"];
        let inside = |dir: &&str| {
            let names = self.place.names(Path::new(dir));
            let triplets = names.into_iter().filter(|name| name.contains("-linux-"));
            triplets.map(|name| Path::new(dir).join(name)).collect::<Vec<_>>()
        };
        let dirs = DIRS.iter().map(PathBuf::from).chain(DIRS.iter().flat_map(inside));
        let libc = dirs.map(|dir| dir.join("libc.so.6")).find(|path| self.place.has(path))?;
        let same = self.place.beside().is_some_and(|here| {
            here.has(loader) && here.bytes(&libc, MAX_LIBC) == self.place.bytes(&libc, MAX_LIBC)
        });
        Some((libc, same))
    }

    /// Looks around in a root that lacks this loader.
    fn home(&self, wanted: &Path) -> Home {
        const DIRS: [&str; 6] =
            ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/lib32", "/system/bin"];
        let release = ["/etc/os-release", "/usr/lib/os-release"];
        let release =
            release.iter().find_map(|path| self.place.text(Path::new(path))).unwrap_or_default();
        let id = release.lines().find_map(|line| line.strip_prefix("ID=")).unwrap_or_default();
        let mut home = Home { id: id.trim_matches(['"', '\'']).to_owned(), ..Home::default() };
        for dir in DIRS {
            for name in self.place.names(Path::new(dir)) {
                let path = Path::new(dir).join(&name);
                let android = dir == "/system/bin" && name.starts_with("linker");
                if (android || Family::of(&path).is_some())
                    && let Some(start) = self.place.bytes(&path, elf::ENOUGH as u64)
                    && let elf::File::Elf(elf) = elf::File::parse(&start)
                    && !home.loaders.iter().any(|(other, _)| other.file_name() == path.file_name())
                {
                    home.loaders.push((path, elf.arch()));
                }
            }
        }
        if home.loaders.is_empty() {
            home.libc = self.libc(wanted);
        }
        // Debian's cross compilers bring libraries of other architectures to such places.
        let wanted = wanted.strip_prefix("/").unwrap_or(wanted);
        let names =
            if self.place.is_own() { self.place.names(Path::new("/usr")) } else { Vec::new() };
        let triplets = names.iter().filter(|name| name.contains("-linux-"));
        home.prefix = triplets
            .map(|name| Path::new("/usr").join(name))
            .find(|dir| self.place.has(&dir.join(wanted)));
        home
    }
}

/// A loader's path that lies beyond a file's first bytes.
fn beyond(seen: &Seen, at: u64, len: u64) -> Option<PathBuf> {
    let bytes =
        seen.piece.as_ref()?.read(at, Some(len).filter(|len| (1..=MAX_PATH).contains(len))?)?;
    let path = bytes.split(|byte| *byte == 0).next()?;
    Some(Path::new(OsStr::from_bytes(path)).into())
}

/// The entry that takes a file: by its first bytes, or by its name's extension.
fn taker<'a>(state: &'a State, path: &Path, start: &[u8]) -> Option<&'a Entry> {
    let instance = state.instance.as_ref().ok().filter(|instance| instance.enabled)?;
    let extension = path.extension().and_then(|extension| extension.to_str());
    instance.entries.iter().filter(|entry| entry.enabled).find(|entry| match &entry.rule {
        Rule::Extension(wanted) => Some(wanted.as_str()) == extension,
        _ => entry.takes(start),
    })
}

fn runner<'a>(state: &State, arch: Option<&Arch>, taker: Option<&'a Entry>) -> Runner<'a> {
    if let Some(entry) = taker {
        return Runner::Entry(entry);
    }
    let Some(arch) = arch else { return Runner::Nobody };
    match state.run_by(arch) {
        Ok(Some(RunBy::Native)) => Runner::Native,
        _ if arch == HOST => Runner::Native,
        // Where entries can be seen, this very file is one that they do not take.
        Ok(Some(_)) if state.instance.is_err() => Runner::Hidden,
        _ => Runner::Nobody,
    }
}

impl Subject<'_> {
    pub(super) fn shown(&self) -> std::path::Display<'_> {
        self.path.display()
    }

    /// Its first bytes.
    pub(super) fn start(&self) -> &[u8] {
        let start = self.seen.as_ref().ok().and_then(|seen| seen.start.as_deref().ok());
        start.unwrap_or_default()
    }

    /// A command that changes the file, as somebody who may do so.
    pub(super) fn edited(&self, command: &str) -> String {
        let other = self.seen.as_ref().is_ok_and(|seen| seen.owner != self.environment.user);
        let root = self.environment.user == 0;
        match other && !root && !self.place.is_image() {
            true if command.contains(['>', '&']) => {
                format!("sudo sh -c {}", crate::tree::quoted(command))
            }
            true => format!("sudo {command}"),
            false => command.to_owned(),
        }
    }

    /// As commands from outside of its root call it.
    pub(super) fn here(&self) -> String {
        self.place.outside(&self.path)
    }

    pub(super) fn root(&self) -> std::path::Display<'_> {
        self.place.path().display()
    }

    pub(super) fn program(&self) -> Option<&Program<'_>> {
        match &self.content {
            Content::Program(program) => Some(program),
            _ => None,
        }
    }

    /// The error with which the kernel gave up, where it did so for the length of the chain.
    pub(super) fn too_deep(&self) -> bool {
        let emulated = self.program().is_some_and(|program| program.runner.emulates());
        self.depth + usize::from(emulated) > MAX_DEPTH
    }
}

impl Unseen {
    /// What the kernel would say.
    pub(super) fn errno(&self) -> Errno {
        match self {
            Self::Other(_) => Errno::EACCES,
            Self::Dangling { .. } => Errno::ENOENT,
            Self::System(errno) => *errno,
        }
    }
}
