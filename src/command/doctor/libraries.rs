//! Which shared libraries a program gets, searched for as its dynamic loader would: glibc's
//! (`elf/dl-load.c`, `elf/dl-cache.c`) or musl's (`ldso/dynlink.c`). Only reads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::kind;
use super::linking::{self, Linking};
use super::place::Place;
use crate::arch::{Arch, Class, Data};
use crate::elf::{self, Elf};
use crate::tree::Unseen;

/// How many libraries are followed: browsers have three hundred.
const MOST: usize = 1000;
/// Largest ld.so.cache that is read, in bytes.
const MAX_CACHE: u64 = 16 << 20;
/// Bits of `e_flags` that tell how 32-bit ARM passes floating-point numbers.
const ARM_FLOAT: u32 = 0x600;

/// Whose loader it is: they search differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Glibc,
    Musl,
}

impl Family {
    /// By the name that loaders have had for decades.
    pub(super) fn of(loader: &Path) -> Option<Self> {
        let name = loader.file_name()?.to_str()?;
        let glibc = ["ld-linux", "ld64.so", "ld.so.1"];
        match name {
            _ if name.starts_with("ld-musl-") => Some(Self::Musl),
            _ if glibc.iter().any(|start| name.starts_with(start)) => Some(Self::Glibc),
            _ => None,
        }
    }
}

/// What two files must have in common to be linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    class: Class,
    data: Data,
    machine: u16,
}

impl Identity {
    pub(super) fn of(elf: &Elf<'_>) -> Self {
        Self { class: elf.class, data: elf.data, machine: elf.machine }
    }
}

/// What is missing, and what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Libraries {
    /// How many were found.
    pub(super) found: usize,
    pub(super) missing: Vec<Missing>,
    pub(super) too_old: Vec<TooOld>,
    /// Who needs the highest level of x86-64, and its bits.
    pub(super) levels: Option<(String, u32)>,
}

/// A library that is not where the loader looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) name: String,
    pub(super) needed_by: String,
    /// What is found under its name, but cannot be used.
    pub(super) unfit: Option<(PathBuf, String)>,
    /// Where it is, in a directory that ld.so.conf names: the cache is out of date.
    pub(super) not_in_cache: bool,
    /// Where it is, in a directory that the loader does not search.
    pub(super) elsewhere: Option<PathBuf>,
    /// Directories that whoever needs it names itself (RPATH, RUNPATH), and whether each is there.
    pub(super) sought: Vec<(PathBuf, bool)>,
    /// Whether such a directory goes by where the program is ($ORIGIN).
    pub(super) moves: bool,
    /// Where this very machine has it, whose files this root was made of.
    pub(super) here: Option<PathBuf>,
}

/// A library that lacks versions which others were linked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TooOld {
    pub(super) library: PathBuf,
    pub(super) needed_by: String,
    pub(super) versions: Vec<String>,
    /// The newest of the same kind that it has.
    pub(super) newest: Option<String>,
    /// One that has them, and that would be taken without LD_LIBRARY_PATH.
    pub(super) instead: Option<PathBuf>,
}

/// Where a program is, and how its loader searches.
pub(super) struct Search<'a> {
    place: &'a Place,
    /// This machine, where the root was made of its files.
    here: Option<Place>,
    /// Directory that an emulator looks into before the root (QEMU_LD_PREFIX).
    prefix: Option<&'a Path>,
    family: Family,
    identity: Identity,
    /// Floating-point convention, where it is known.
    float: u32,
    /// LD_LIBRARY_PATH.
    first: Vec<PathBuf>,
    /// What the loader searches last.
    default: Vec<PathBuf>,
    cache: BTreeMap<String, Vec<PathBuf>>,
    /// Whether there is a cache at all.
    cached: bool,
    /// Directories below each that are for better CPUs.
    better: Vec<String>,
    /// Values of $PLATFORM.
    platform: Vec<&'static str>,
}

/// One that is loaded: the program, or a library.
struct Loaded {
    path: PathBuf,
    /// What $ORIGIN stands for in it.
    origin: PathBuf,
    linking: Linking,
    /// Which one needed it.
    by: Option<usize>,
}

impl<'a> Search<'a> {
    /// For programs that the loader at `loader` starts.
    pub(super) fn new(
        place: &'a Place,
        prefix: Option<&'a Path>,
        loader: &Path,
        identity: Identity,
        arch: Option<&'static Arch>,
    ) -> Option<Self> {
        // Alpine's gcompat goes by the name of glibc's loader, and hands over to musl's.
        let gcompat = place.has(&within(place, prefix, Path::new("/lib/libgcompat.so.0")));
        let family = Family::of(loader)?;
        let family = if gcompat { Family::Musl } else { family };
        let mut this = Self {
            place,
            here: same_loader(place, loader),
            prefix,
            family,
            identity,
            float: 0,
            first: Vec::new(),
            default: Vec::new(),
            cache: BTreeMap::new(),
            cached: false,
            better: Vec::new(),
            platform: arch.map_or(Vec::new(), |arch| vec![arch.target]),
        };
        let first = place.variable("LD_LIBRARY_PATH").unwrap_or_default();
        this.first =
            first.split([':', ';']).filter(|dir| !dir.is_empty()).map(PathBuf::from).collect();
        match family {
            Family::Musl => this.default = this.musl_dirs(loader),
            Family::Glibc => {
                this.default = this.glibc_dirs(loader);
                if let Some(cache) =
                    place.bytes(&this.within(Path::new("/etc/ld.so.cache")), MAX_CACHE)
                {
                    this.cached = true;
                    for (name, path) in parse_cache(&cache, identity.data) {
                        this.cache.entry(name).or_default().push(path);
                    }
                }
            }
        }
        Some(this)
    }

    /// musl's own list, or what the administrator puts in its place.
    fn musl_dirs(&self, loader: &Path) -> Vec<PathBuf> {
        let name = loader.file_name().unwrap_or_default().to_string_lossy();
        let name = name.strip_prefix("ld-musl-").and_then(|name| name.strip_suffix(".so.1"));
        let list = name.and_then(|arch| {
            self.place.text(&self.within(Path::new(&format!("/etc/ld-musl-{arch}.path"))))
        });
        let list = list.unwrap_or_else(|| "/lib:/usr/local/lib:/usr/lib".to_owned());
        list.split([':', '\n']).filter(|dir| !dir.is_empty()).map(PathBuf::from).collect()
    }

    /// The directories that this very loader was built with: they stand in it, each with a slash at its end.
    fn glibc_dirs(&self, loader: &Path) -> Vec<PathBuf> {
        let bytes = self.place.bytes(&self.within(loader), MAX_CACHE).unwrap_or_default();
        let dir = |text: &[u8]| {
            let text = std::str::from_utf8(text).ok()?;
            let dir = text.strip_suffix('/').filter(|dir| dir.starts_with('/') && dir.len() > 1)?;
            dir.contains("lib").then(|| PathBuf::from(dir))
        };
        let mut dirs: Vec<_> = bytes.split(|byte| *byte == 0).filter_map(dir).collect();
        let mut seen = BTreeSet::new();
        dirs.retain(|dir| seen.insert(dir.clone()));
        if dirs.is_empty() {
            dirs = ["/lib64", "/usr/lib64", "/lib", "/usr/lib"].map(PathBuf::from).into();
        }
        dirs
    }

    fn within(&self, path: &Path) -> PathBuf {
        within(self.place, self.prefix, path)
    }

    /// Follows everything that a program needs.
    pub(super) fn follow(mut self, program: &Path, linking: &Linking) -> Libraries {
        self.float = linking.flags & ARM_FLOAT;
        let real = self.place.canonical(program).unwrap_or_else(|| program.into());
        let mut loaded = vec![Loaded {
            path: program.into(),
            origin: real.parent().unwrap_or(Path::new("/")).into(),
            linking: linking.clone(),
            by: None,
        }];
        let mut names: BTreeMap<String, Option<usize>> = BTreeMap::new();
        let mut result = Libraries::default();
        let mut at = 0;
        while at < loaded.len() && at < MOST {
            for name in loaded[at].linking.needed.clone() {
                if names.contains_key(&name) || self.is_the_loader(&name) {
                    continue;
                }
                let found = self.find(&name, &loaded, at);
                names.insert(name.clone(), found.as_ref().ok().map(|_| loaded.len()));
                match found {
                    Ok((path, linking)) => {
                        if let Some(soname) = &linking.soname {
                            names.entry(soname.clone()).or_insert(Some(loaded.len()));
                        }
                        let origin = path.parent().unwrap_or(Path::new("/")).into();
                        loaded.push(Loaded { path, origin, linking, by: Some(at) });
                    }
                    Err(unfit) => {
                        result.missing.push(self.missing(name, unfit, &loaded, at));
                    }
                }
            }
            at += 1;
        }
        result.found = loaded.len() - 1;
        if self.family == Family::Glibc {
            result.too_old = too_old(&loaded, &names);
            for old in &mut result.too_old {
                old.instead = self.instead(old);
            }
        }
        let levels = loaded.iter().map(|one| (one.path.display().to_string(), one.linking.levels));
        result.levels = levels.max_by_key(|(_, levels)| *levels).filter(|(_, levels)| *levels != 0);
        result
    }

    /// musl's loader is its C library, and stands in for the parts that others have apart.
    fn is_the_loader(&self, name: &str) -> bool {
        const PARTS: [&str; 7] = ["c", "pthread", "rt", "m", "dl", "util", "xnet"];
        self.family == Family::Musl
            && name
                .strip_prefix("lib")
                .and_then(|rest| rest.split('.').next())
                .is_some_and(|part| PARTS.contains(&part))
    }

    /// Where the loader finds a library for `loaded[by]`; else what has its name and cannot be used.
    fn find(
        &self,
        name: &str,
        loaded: &[Loaded],
        by: usize,
    ) -> Result<(PathBuf, Linking), Option<(PathBuf, String)>> {
        let mut unfit = None;
        let mut fits = |path: &Path| match self.fit(path) {
            Ok(linking) => Some((path.to_owned(), linking)),
            Err(Some(why)) => {
                unfit.get_or_insert((path.to_owned(), why));
                None
            }
            Err(None) => None,
        };
        if name.contains('/') {
            let mut paths = self.expand(name, &loaded[by].origin).into_iter();
            return paths.find_map(|path| fits(&path)).ok_or(unfit);
        }
        let (before, after) = self.own_dirs(loaded, by);
        let dirs = before.iter().chain(&self.first).chain(&after);
        if let Some(found) =
            dirs.flat_map(|dir| self.in_dir(dir, name)).find_map(|path| fits(&path))
        {
            return Ok(found);
        }
        let cached = self.cache.get(name).into_iter().flatten().cloned();
        let default = self.default.iter().flat_map(|dir| self.in_dir(dir, name));
        let usual: Vec<_> = match loaded[by].linking.no_default {
            true => Vec::new(),
            false => cached.chain(default).collect(),
        };
        usual.iter().find_map(|path| fits(path)).ok_or(unfit)
    }

    /// The directories that a program names itself: those before LD_LIBRARY_PATH, and those after.
    fn own_dirs(&self, loaded: &[Loaded], by: usize) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let own = &loaded[by];
        let expand = |one: &Loaded, dirs: &[String]| -> Vec<PathBuf> {
            dirs.iter().flat_map(|dir| self.expand(dir, &one.origin)).collect()
        };
        let mut before = Vec::new();
        let mut next = Some(by);
        let mut after = expand(own, &own.linking.runpath);
        while let Some(at) = next {
            let one = &loaded[at];
            match self.family {
                // RPATH counts for what the library needs in turn, unless there is a RUNPATH.
                Family::Glibc if !own.linking.runpath.is_empty() => break,
                Family::Glibc if one.linking.runpath.is_empty() => {
                    before.extend(expand(one, &one.linking.rpath))
                }
                Family::Glibc => {}
                // musl makes no difference between the two.
                Family::Musl => {
                    after.extend(expand(one, &one.linking.rpath));
                    after.extend(expand(one, &one.linking.runpath));
                }
            }
            next = one.by;
        }
        (before, after)
    }

    /// A directory with $ORIGIN, $LIB and $PLATFORM put in.
    fn expand(&self, text: &str, origin: &Path) -> Vec<PathBuf> {
        let origin = origin.to_string_lossy();
        let replace = |text: &str, name: &str, value: &str| {
            text.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value)
        };
        let text = replace(text, "ORIGIN", &origin);
        let mut texts = vec![text];
        if texts[0].contains("LIB") {
            let libs = self.default.iter().filter_map(|dir| dir.strip_prefix("/").ok()?.to_str());
            let libs = libs.filter(|lib| !lib.starts_with("usr/"));
            texts = libs.map(|lib| replace(&texts[0], "LIB", lib)).collect();
        }
        if texts.iter().any(|text| text.contains("PLATFORM")) {
            let with = |text: &String| {
                self.platform.iter().map(|name| replace(text, "PLATFORM", name)).collect::<Vec<_>>()
            };
            texts = texts.iter().flat_map(with).collect();
        }
        texts.into_iter().map(PathBuf::from).collect()
    }

    /// Where in a directory a library may be: what is for better CPUs comes first.
    fn in_dir(&self, dir: &Path, name: &str) -> Vec<PathBuf> {
        let better = dir.join("glibc-hwcaps");
        let names = match self.family == Family::Glibc && self.place.has(&self.within(&better)) {
            true => self.place.names(&self.within(&better)),
            false => Vec::new(),
        };
        let better = names.iter().rev().filter(|name| self.better.contains(name));
        let mut paths: Vec<_> =
            better.map(|level| dir.join("glibc-hwcaps").join(level).join(name)).collect();
        paths.push(dir.join(name));
        paths
    }

    /// Reads a library; else why it cannot be used, or nothing if it is not there.
    fn fit(&self, path: &Path) -> Result<Linking, Option<String>> {
        let seen = match self.place.look(&self.within(path)) {
            Ok(seen) => seen,
            Err(Unseen::Dangling { to, .. }) => {
                return Err(Some(format!("is a link to {}, which is not there", to.display())));
            }
            Err(_) => return Err(None),
        };
        let start =
            seen.start.map_err(|errno| Some(format!("cannot be read: {}", errno.desc())))?;
        let elf::File::Elf(elf) = elf::File::parse(&start) else {
            return Err(Some(format!("is {}", kind::of(&start).what)));
        };
        if Identity::of(&elf) != self.identity {
            let arch = elf.arch().map_or("another architecture".to_owned(), ToString::to_string);
            return Err(Some(format!("is for {arch}")));
        }
        if elf.needs > seen.size {
            return Err(Some("is cut short".to_owned()));
        }
        let linking = seen.piece.as_ref().and_then(linking::read).unwrap_or_default();
        let (own, other) = (self.float, linking.flags & ARM_FLOAT);
        if self.identity.machine == ARM && own != 0 && other != 0 && own != other {
            return Err(Some("passes floating-point numbers in another way".to_owned()));
        }
        Ok(linking)
    }

    /// Another library in the place of one that LD_LIBRARY_PATH leads to.
    fn instead(&self, old: &TooOld) -> Option<PathBuf> {
        let dir = old.library.parent()?;
        self.first.iter().find(|first| *first == dir)?;
        let name = old.library.file_name()?.to_str()?;
        let cached = self.cache.get(name).into_iter().flatten().cloned();
        let default = self.default.iter().map(|dir| dir.join(name));
        let has = |path: &PathBuf| {
            let linking = self.fit(path).ok();
            linking.is_some_and(|it| old.versions.iter().all(|wanted| it.defined.contains(wanted)))
        };
        cached.chain(default).find(has)
    }

    fn missing(
        &self,
        name: String,
        unfit: Option<(PathBuf, String)>,
        loaded: &[Loaded],
        by: usize,
    ) -> Missing {
        let origin = &loaded[0].origin;
        let own = &loaded[by].linking;
        let needed_by = loaded[by].path.display().to_string();
        let (before, after) = self.own_dirs(loaded, by);
        let sought = before.into_iter().chain(after);
        let sought = sought.map(|dir| (plain_path(&dir), self.place.has(&self.within(&dir))));
        let on_this = |here: &Place| {
            let paths = self.default.iter().map(|dir| dir.join(&name));
            paths.into_iter().find(|path| here.has(path))
        };
        let there = |dir: &PathBuf| self.fit(&dir.join(&name)).is_ok().then(|| dir.join(&name));
        let configured = (self.family == Family::Glibc)
            .then(|| self.configured(Path::new("/etc/ld.so.conf"), 4));
        let not_in_cache = configured.unwrap_or_default().iter().find_map(there);
        let near = ["", "lib", "lib64", "../lib", "../lib64"].map(|dir| origin.join(dir));
        let usual = ["/usr/local/lib", "/usr/local/lib64", "/lib64", "/usr/lib64", "/opt/lib"]
            .map(PathBuf::from);
        let elsewhere = near.iter().chain(&usual).find_map(there);
        Missing {
            not_in_cache: not_in_cache.is_some(),
            elsewhere: not_in_cache.or(elsewhere),
            sought: sought.collect(),
            moves: own.rpath.iter().chain(&own.runpath).any(|dir| dir.contains("ORIGIN")),
            here: self.here.as_ref().and_then(on_this),
            name,
            needed_by,
            unfit,
        }
    }

    /// The directories that ld.so.conf names: `ldconfig` reads it, no loader does.
    fn configured(&self, conf: &Path, depth: usize) -> Vec<PathBuf> {
        let Some(text) = self.place.text(&self.within(conf)) else { return Vec::new() };
        let mut dirs = Vec::new();
        for line in text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
            match line.strip_prefix("include") {
                Some(pattern) if pattern.starts_with([' ', '\t']) && depth > 0 => {
                    let pattern = Path::new("/etc").join(pattern.trim());
                    let dir = pattern.parent().unwrap_or(Path::new("/"));
                    let files = self.place.names(&self.within(dir));
                    let files = files.iter().filter(|name| name.ends_with(".conf"));
                    dirs.extend(files.flat_map(|name| self.configured(&dir.join(name), depth - 1)));
                }
                _ if line.starts_with('/') => {
                    dirs.extend(line.split([' ', '\t', ':', ',']).map(PathBuf::from))
                }
                _ => {}
            }
        }
        dirs
    }

    /// Directories for better CPUs that count here: `x86-64-v3`.
    #[must_use]
    pub(super) fn better(self, better: Vec<String>) -> Self {
        Self { better, ..self }
    }
}

/// `e_machine` of 32-bit ARM.
const ARM: u16 = 40;

fn within(place: &Place, prefix: Option<&Path>, path: &Path) -> PathBuf {
    let inside = prefix.map(|prefix| prefix.join(path.strip_prefix("/").unwrap_or(path)));
    inside.filter(|inside| place.has(inside)).unwrap_or_else(|| path.into())
}

/// A path without `.` and `..`, as far as names alone tell.
fn plain_path(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

/// This machine, where another root has the very same loader: it was made of this machine's files.
fn same_loader(place: &Place, loader: &Path) -> Option<Place> {
    let here = place.beside()?;
    let same = here.bytes(loader, MAX_CACHE)? == place.bytes(loader, MAX_CACHE)?;
    same.then_some(here)
}

/// Versions that are wanted of a library and that it does not define.
fn too_old(loaded: &[Loaded], names: &BTreeMap<String, Option<usize>>) -> Vec<TooOld> {
    let mut found: Vec<TooOld> = Vec::new();
    for one in loaded {
        for (file, versions) in &one.linking.wanted {
            let Some(Some(at)) = names.get(file) else { continue };
            let library = &loaded[*at];
            // One without any versions is taken with a warning.
            if library.linking.defined.is_empty() {
                continue;
            }
            let lacks = |version: &&String| !library.linking.defined.contains(*version);
            let mut lacking: Vec<_> = versions.iter().filter(lacks).cloned().collect();
            lacking.sort_by_key(|version| numbers(version));
            let Some(last) = lacking.last() else { continue };
            let kind = last.split('_').next().unwrap_or_default();
            let same = library.linking.defined.iter().filter(|version| {
                version
                    .strip_prefix(kind)
                    .is_some_and(|rest| rest.starts_with('_') && !numbers(rest).is_empty())
            });
            found.push(TooOld {
                library: library.path.clone(),
                needed_by: one.path.display().to_string(),
                newest: same.max_by_key(|version| numbers(version)).cloned(),
                versions: lacking,
                instead: None,
            });
        }
    }
    found
}

/// The numbers in a version's name: 2 and 38 for `GLIBC_2.38`.
fn numbers(version: &str) -> Vec<u32> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

/// Names and paths in ld.so.cache, in its order: glibc's format since 2.2, alone or after the older one.
fn parse_cache(bytes: &[u8], data: Data) -> Vec<(String, PathBuf)> {
    const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
    const HEADER: usize = 48;
    const ENTRY: usize = 24;
    let Some(start) = bytes.windows(MAGIC.len()).position(|window| window == MAGIC) else {
        return Vec::new();
    };
    let cache = &bytes[start..];
    let number = |at: usize| {
        let bytes = cache.get(at..at.checked_add(4)?)?.try_into().ok()?;
        let number = if data == Data::Little {
            u32::from_le_bytes(bytes)
        } else {
            u32::from_be_bytes(bytes)
        };
        usize::try_from(number).ok()
    };
    let text = |at: usize| {
        let text = cache.get(at..)?.split(|byte| *byte == 0).next()?;
        Some(String::from_utf8_lossy(text).into_owned())
    };
    let count = number(MAGIC.len()).unwrap_or(0).min(cache.len() / ENTRY);
    let entry = |index: usize| {
        let at = HEADER + index * ENTRY;
        Some((text(number(at + 4)?)?, PathBuf::from(text(number(at + 8)?)?)))
    };
    (0..count).filter_map(entry).collect()
}
