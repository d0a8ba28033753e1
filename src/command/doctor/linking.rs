//! What a dynamic loader reads of a program or a shared library. Only reads, never more than [`MOST`]
//! bytes of a file, whatever a damaged one says.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use object::elf;
use object::endian::Endianness;
use object::read::elf::{Dyn, FileHeader, ProgramHeader, SectionTable};
use object::read::{ReadCache, ReadCacheOps, ReadRef};

use crate::tree::Piece;

/// How much of a file is read: what the largest libraries have to be read of is ten times less.
const MOST: u64 = 64 << 20;
/// How many names of libraries and versions are taken from a file.
const MANY: usize = 4096;

/// A program's or library's wishes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Linking {
    /// Whether it has a part for the dynamic loader.
    pub(super) dynamic: bool,
    /// Whether it names a dynamic loader.
    pub(super) interpreter: bool,
    /// DT_SONAME: what it is called by those that need it.
    pub(super) soname: Option<String>,
    /// DT_NEEDED: libraries, in order.
    pub(super) needed: Vec<String>,
    /// DT_RPATH, not expanded.
    pub(super) rpath: Vec<String>,
    /// DT_RUNPATH, not expanded.
    pub(super) runpath: Vec<String>,
    /// Whether it says that it is a program, and not a library of the same form.
    pub(super) pie: bool,
    /// Whether the usual directories are not to be searched for it.
    pub(super) no_default: bool,
    /// Versions that it needs, by library.
    pub(super) wanted: BTreeMap<String, Vec<String>>,
    /// Versions that it defines.
    pub(super) defined: BTreeSet<String>,
    /// Levels of x86-64 that it says it needs: bit 1 for v2, 2 for v3, 3 for v4.
    pub(super) levels: u32,
    /// `e_flags`.
    pub(super) flags: u32,
    /// `e_entry`.
    pub(super) entry: u64,
    /// Whether there are only zero bytes where it starts.
    pub(super) starts_with_nothing: bool,
    /// Whether no part of it is to be loaded into memory.
    pub(super) loads_nothing: bool,
    /// Whether its code was taken out, and only what debuggers read is left.
    pub(super) debug_only: bool,
    /// Whose notes it has: `GNU`, `FreeBSD`, `Android`.
    pub(super) notes: BTreeSet<String>,
}

/// Reads it; `None` where the file makes no sense as ELF.
pub(super) fn read(piece: &Piece) -> Option<Linking> {
    let cache = ReadCache::new(Reader { piece, at: 0 });
    let left = Cell::new(MOST);
    let data = Bounded { cache: &cache, left: &left };
    match data.read_bytes_at(4, 1).ok()? {
        [1] => read_class::<elf::FileHeader32<Endianness>>(data),
        [2] => read_class::<elf::FileHeader64<Endianness>>(data),
        _ => None,
    }
}

fn read_class<Elf: FileHeader<Endian = Endianness>>(data: Bounded<'_>) -> Option<Linking> {
    let header = Elf::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let parts = Parts::<Elf> { data, endian, headers: header.program_headers(endian, data).ok()? };
    let mut this = Linking {
        entry: header.e_entry(endian).into(),
        flags: header.e_flags(endian).0,
        interpreter: parts.of(elf::PT_INTERP).next().is_some(),
        ..Linking::default()
    };
    this.loads_nothing = parts.of(elf::PT_LOAD).next().is_none();
    this.starts_with_nothing =
        parts.bytes(this.entry, 16).is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0));
    for part in parts.headers.iter().take(MANY) {
        this.read_notes(part, &parts);
        if let Ok(Some(dynamic)) = part.dynamic(endian, data) {
            this.dynamic = true;
            this.read_dynamic(dynamic, &parts);
        }
    }
    if let Ok(sections) = header.sections(endian, data) {
        this.debug_only = sections.section_by_name(endian, b".text").is_some_and(|(_, text)| {
            use object::read::elf::SectionHeader;
            text.sh_type(endian) == elf::SHT_NOBITS
        });
        // The loader goes by the dynamic part, which says the same in a form that takes longer to read.
        this.read_versions(&sections, endian, data);
    }
    Some(this)
}

/// How much of a file tells whether it was taken for a text.
pub(super) const ENOUGH_TO_TELL: u64 = 64 << 10;

/// How a program was spoilt by something that took it for a text, as no program's bytes are by chance.
pub(super) fn as_text(start: &[u8]) -> Option<&'static str> {
    let ends = start.iter().filter(|byte| **byte == b'\n').count();
    let returns = start.windows(2).filter(|pair| *pair == b"\r\n").count();
    if ends >= 24 && ends == returns {
        return Some("put in line ends, as FTP does in ASCII mode");
    }
    let whole = match std::str::from_utf8(start) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&start[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return None,
    };
    let many = whole.chars().filter(|c| !c.is_ascii()).count() >= 64;
    many.then_some("converted it to UTF-8")
}

/// A file, read where the crate wants it to be.
struct Reader<'a> {
    piece: &'a Piece,
    at: u64,
}

impl ReadCacheOps for Reader<'_> {
    fn len(&mut self) -> Result<u64, ()> {
        Ok(self.piece.len)
    }

    fn seek(&mut self, at: u64) -> Result<u64, ()> {
        self.at = at;
        Ok(at)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ()> {
        let len =
            buffer.len().min(usize::try_from(self.piece.len.saturating_sub(self.at)).unwrap_or(0));
        self.read_exact(&mut buffer[..len])?;
        Ok(len)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), ()> {
        let bytes = self.piece.read(self.at, buffer.len() as u64).ok_or(())?;
        buffer.copy_from_slice(&bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }
}

/// What is kept of it, as long as there is not too much of it.
#[derive(Clone, Copy)]
struct Bounded<'a> {
    cache: &'a ReadCache<Reader<'a>>,
    left: &'a Cell<u64>,
}

impl<'a> ReadRef<'a> for Bounded<'a> {
    fn len(self) -> Result<u64, ()> {
        self.cache.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'a [u8], ()> {
        self.left.set(self.left.get().checked_sub(size).ok_or(())?);
        self.cache.read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'a [u8], ()> {
        self.left.set(self.left.get().checked_sub(4096).ok_or(())?);
        self.cache.read_bytes_at_until(range, delimiter)
    }
}

/// The program headers, and with them what lies at an address.
struct Parts<'data, Elf: FileHeader> {
    data: Bounded<'data>,
    endian: Endianness,
    headers: &'data [Elf::ProgramHeader],
}

impl<'data, Elf: FileHeader<Endian = Endianness>> Parts<'data, Elf> {
    fn of(&self, kind: elf::ProgramType) -> impl Iterator<Item = &'data Elf::ProgramHeader> {
        let endian = self.endian;
        self.headers.iter().filter(move |part| part.p_type(endian) == kind)
    }

    /// Up to `len` bytes at an address of memory, as the file has them.
    fn bytes(&self, address: u64, len: u64) -> Option<&'data [u8]> {
        self.of(elf::PT_LOAD).find_map(|part| {
            let (start, size) =
                (part.p_vaddr(self.endian).into(), part.p_filesz(self.endian).into());
            let skip = address.checked_sub(start).filter(|skip| *skip < size)?;
            let offset: u64 = part.p_offset(self.endian).into();
            self.data.read_bytes_at(offset.checked_add(skip)?, len.min(size - skip)).ok()
        })
    }
}

impl Linking {
    fn read_notes<Elf: FileHeader<Endian = Endianness>>(
        &mut self,
        part: &Elf::ProgramHeader,
        parts: &Parts<'_, Elf>,
    ) {
        let Ok(Some(mut notes)) = part.notes(parts.endian, parts.data) else { return };
        while let Ok(Some(note)) = notes.next() {
            self.notes.insert(String::from_utf8_lossy(note.name()).into_owned());
            let Some(mut properties) = note.gnu_properties(parts.endian) else { continue };
            while let Ok(Some(property)) = properties.next() {
                if property.pr_type() == elf::GNU_PROPERTY_X86_ISA_1_NEEDED {
                    self.levels |= property.data_u32(parts.endian).unwrap_or(0);
                }
            }
        }
    }

    fn read_dynamic<Elf: FileHeader<Endian = Endianness>>(
        &mut self,
        dynamic: &[Elf::Dyn],
        parts: &Parts<'_, Elf>,
    ) {
        let all = || {
            let pairs = dynamic
                .iter()
                .map(|item| (item.d_tag(parts.endian), item.d_val(parts.endian).into()));
            pairs.take_while(|(tag, _)| *tag != elf::DT_NULL)
        };
        let value =
            |wanted| all().find(|(tag, _)| *tag == wanted).map(|(_, value): (_, u64)| value);
        let names = value(elf::DT_STRTAB)
            .zip(value(elf::DT_STRSZ))
            .and_then(|(address, size)| parts.bytes(address, size))
            .unwrap_or_default();
        let name = |at: u64| {
            let rest = usize::try_from(at).ok().and_then(|at| names.get(at..)).unwrap_or_default();
            let name = rest.split(|byte| *byte == 0).next().unwrap_or_default();
            String::from_utf8_lossy(name).into_owned()
        };
        let dirs =
            |at| name(at).split(':').map(str::to_owned).filter(|dir| !dir.is_empty()).collect();
        for (tag, value) in all().take(MANY) {
            match tag {
                elf::DT_NEEDED => self.needed.push(name(value)),
                elf::DT_SONAME => self.soname = Some(name(value)),
                elf::DT_RPATH => self.rpath = dirs(value),
                elf::DT_RUNPATH => self.runpath = dirs(value),
                elf::DT_FLAGS_1 => {
                    self.pie = value & elf::DF_1_PIE.0 != 0;
                    self.no_default = value & elf::DF_1_NODEFLIB.0 != 0;
                }
                _ => {}
            }
        }
        self.needed.retain(|name| !name.is_empty());
    }

    fn read_versions<'data, Elf: FileHeader<Endian = Endianness>>(
        &mut self,
        sections: &SectionTable<'data, Elf, Bounded<'data>>,
        endian: Endianness,
        data: Bounded<'data>,
    ) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if let Ok(Some((mut files, link))) = sections.gnu_verneed(endian, data)
            && let Ok(names) = sections.strings(endian, data, link)
        {
            let mut left = MANY;
            while left > 0
                && let Ok(Some((file, mut versions))) = files.next()
            {
                let Ok(file) = file.file(endian, names) else { continue };
                let wanted = self.wanted.entry(text(file)).or_default();
                left -= 1;
                while left > 0
                    && let Ok(Some(version)) = versions.next()
                {
                    left -= 1;
                    // One that is weak may be missing.
                    let weak = version.vna_flags.get(endian).0 & elf::VER_FLG_WEAK.0 != 0;
                    wanted.extend(version.name(endian, names).ok().filter(|_| !weak).map(text));
                }
            }
        }
        if let Ok(Some((mut versions, link))) = sections.gnu_verdef(endian, data)
            && let Ok(names) = sections.strings(endian, data, link)
        {
            while self.defined.len() < MANY
                && let Ok(Some((_, mut aliases))) = versions.next()
            {
                let name =
                    aliases.next().ok().flatten().and_then(|name| name.name(endian, names).ok());
                self.defined.extend(name.map(text));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::*;

    fn piece(bytes: &[u8], len: u64) -> Piece {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.set_len(len).unwrap();
        Piece { file: Rc::new(file), start: 0, len }
    }

    proptest! {
        /// Whatever a header says, no more is read than the file has, and never more than the limit.
        #[test]
        fn damaged_programs_are_read_within_bounds(
            changes in proptest::collection::vec((0usize..1000, any::<u8>()), 1..8),
            len in prop_oneof![0u64..5000, Just(1 << 32)],
        ) {
            for arch in crate::arch::ARCHES {
                let mut program = arch.program(&[0; 900]);
                for (at, byte) in &changes {
                    let at = at % program.len();
                    program[at] = *byte;
                }
                let _ = read(&piece(&program, len));
            }
        }
    }

    #[test]
    fn this_very_program_is_read() {
        let path = std::env::current_exe().unwrap();
        let bytes = std::fs::read(path).unwrap();
        let linking = read(&piece(&bytes, bytes.len() as u64)).unwrap();
        assert!(linking.entry != 0 && !linking.starts_with_nothing && !linking.debug_only);
    }
}
