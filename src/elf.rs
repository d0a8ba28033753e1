//! The start of a program's file: what the kernel and an emulator read of it. Pure; allocates nothing
//! beyond what it is given.

use crate::arch::{Arch, Class, Data};

/// How many bytes of a file are enough for everything here, the kernel's own 256 included.
pub(crate) const ENOUGH: usize = 4096;

/// Program header type of a part that is mapped into memory.
const PT_LOAD: u64 = 1;
/// Program header type of the dynamic loader's path.
const PT_INTERP: u64 = 3;

/// What a file is, by its first bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum File<'a> {
    /// Nothing in it.
    Empty,
    /// An ELF program.
    Elf(Elf<'a>),
    /// An ELF file that ends before its header does, or whose header makes no sense.
    Damaged(&'static str),
    /// A script: what follows `#!`, without surrounding space.
    Script(&'a str),
    /// A Windows program.
    Windows,
    /// Something else: without `#!` the kernel does not run it.
    Other,
}

/// An ELF header's fields, as far as running it depends on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elf<'a> {
    /// Word size.
    pub class: Class,
    /// Byte order.
    pub data: Data,
    /// `e_machine`.
    pub machine: u16,
    /// `e_type`: 1 object file, 2 executable, 3 position-independent executable or library, 4 core dump.
    pub kind: u16,
    /// `EI_OSABI`.
    pub osabi: u8,
    /// Bytes 8 to 15, which are zero in ordinary programs; an AppImage has `AI` and its type here.
    pub padding: [u8; 8],
    /// Path of the dynamic loader, from PT_INTERP, where it lies in what was given.
    pub loader: Loader<'a>,
    /// Bytes that the file has to have at least: up to the end of the last part that is mapped.
    pub needs: u64,
}

/// Whether and where a program wants a dynamic loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loader<'a> {
    /// It is statically linked.
    None,
    /// This one.
    Path(&'a str),
    /// Its path lies beyond what was given: tools that change it put it at the file's end.
    Beyond {
        /// Offset of the path in the file.
        at: u64,
        /// Its length; 0 where not even that is known.
        len: u64,
    },
}

impl<'a> File<'a> {
    /// Reads the first bytes of a file, [`ENOUGH`] of them where it has so many.
    pub fn parse(bytes: &'a [u8]) -> Self {
        if bytes.is_empty() {
            return Self::Empty;
        }
        if let Some(rest) = bytes.strip_prefix(b"#!") {
            let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
            return std::str::from_utf8(line)
                .map_or(Self::Other, |line| Self::Script(line.trim_matches([' ', '\t'])));
        }
        if bytes.starts_with(b"MZ") {
            return Self::Windows;
        }
        if !bytes.starts_with(b"\x7fELF") {
            return Self::Other;
        }
        Elf::parse(bytes).map_or_else(Self::Damaged, Self::Elf)
    }
}

impl<'a> Elf<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, &'static str> {
        let class = match bytes.get(4) {
            Some(1) => Class::Elf32,
            Some(2) => Class::Elf64,
            Some(_) => return Err("its ELF class is neither 32 nor 64 bits"),
            None => return Err("it ends within the ELF header"),
        };
        let data = match bytes.get(5) {
            Some(1) => Data::Little,
            Some(2) => Data::Big,
            _ => return Err("its ELF byte order is neither little nor big"),
        };
        let size = if class == Class::Elf64 { 64 } else { 52 };
        if bytes.len() < size {
            return Err("it ends within the ELF header");
        }
        let number = |at: usize, len: usize| number(bytes, data, at, len);
        let mut padding = [0; 8];
        padding.copy_from_slice(&bytes[8..16]);
        let (loader, needs) = segments(bytes, class, data);
        Ok(Self {
            class,
            data,
            kind: number(16, 2) as u16,
            machine: number(18, 2) as u16,
            osabi: bytes[7],
            padding,
            loader,
            needs,
        })
    }

    /// The row of its architecture, by class, byte order and machine.
    ///
    /// MIPS n32 and o32 look the same here; the first row is taken.
    pub fn arch(&self) -> Option<&'static Arch> {
        let same = |arch: &&Arch| {
            (arch.class, arch.data, arch.machine) == (self.class, self.data, self.machine)
        };
        crate::arch::ARCHES.iter().find(same)
    }

    /// The same header, to be kept when the bytes it was read from are gone.
    pub fn without_loader(&self) -> Elf<'static> {
        let Self { class, data, machine, kind, osabi, padding, needs, .. } = *self;
        Elf { class, data, machine, kind, osabi, padding, needs, loader: Loader::None }
    }

    /// Whether it is an AppImage, by the bytes that its format puts into the header.
    pub fn is_appimage(&self) -> bool {
        self.padding.starts_with(b"AI")
    }
}

/// A number of the file's byte order; bytes that are not there count as zero.
fn number(bytes: &[u8], data: Data, at: usize, len: usize) -> u64 {
    let bytes = at.checked_add(len).and_then(|end| bytes.get(at..end)).unwrap_or_default();
    let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
    match data {
        Data::Big => bytes.iter().fold(0, fold),
        Data::Little => bytes.iter().rev().fold(0, fold),
    }
}

/// The loader's path and how far the file has to reach, from the program headers.
fn segments(bytes: &[u8], class: Class, data: Data) -> (Loader<'_>, u64) {
    let number = |at: usize, len: usize| number(bytes, data, at, len);
    let (table, entry, count, size) = match class {
        Class::Elf64 => (number(32, 8), number(54, 2), number(56, 2), 56),
        Class::Elf32 => (number(28, 4), number(42, 2), number(44, 2), 32),
    };
    let position = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let end = table.saturating_add(count * entry);
    let mut needs = if count > 0 { end } else { 0 };
    let mut loader = Loader::None;
    if position(end) > bytes.len() {
        loader = Loader::Beyond { at: 0, len: 0 };
    }
    for index in 0..count {
        let at = position(table.saturating_add(index * entry));
        if at.saturating_add(size) > bytes.len() {
            break;
        }
        let kind = number(at, 4);
        if kind != PT_INTERP && kind != PT_LOAD {
            continue;
        }
        let (offset, size) = match class {
            Class::Elf64 => (number(at.saturating_add(8), 8), number(at.saturating_add(32), 8)),
            Class::Elf32 => (number(at.saturating_add(4), 4), number(at.saturating_add(16), 4)),
        };
        let end = offset.saturating_add(size);
        needs = needs.max(end);
        if kind == PT_INTERP {
            let path = bytes.get(position(offset)..position(end)).unwrap_or_default();
            let path = path.split(|byte| *byte == 0).next().unwrap_or_default();
            loader = match std::str::from_utf8(path) {
                Ok(path) if !path.is_empty() => Loader::Path(path),
                _ => Loader::Beyond { at: offset, len: size },
            };
        }
    }
    (loader, needs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_probe_is_read_as_its_own_architecture() {
        for arch in crate::arch::ARCHES {
            let program = arch.probe();
            let File::Elf(elf) = File::parse(&program) else { panic!("{arch}") };
            assert_eq!(elf.arch().map(|found| found.machine), Some(arch.machine), "{arch}");
            assert_eq!(
                (elf.kind, elf.loader, elf.is_appimage()),
                (2, Loader::None, false),
                "{arch}"
            );
        }
    }

    #[test]
    fn a_dynamic_loader_is_found() {
        let arch = Arch::by_target("aarch64").unwrap();
        let mut program = arch.program(b"/lib/ld-linux-aarch64.so.1\0");
        program[64] = 3; // PT_INTERP
        program[64 + 8] = 120; // p_offset
        program[64 + 32] = 27; // p_filesz
        let File::Elf(elf) = File::parse(&program) else { panic!() };
        assert_eq!((elf.loader, elf.needs), (Loader::Path("/lib/ld-linux-aarch64.so.1"), 147));
        let File::Elf(elf) = File::parse(&program[..120]) else { panic!() };
        assert_eq!((elf.loader, elf.needs), (Loader::Beyond { at: 120, len: 27 }, 147));
        let File::Elf(elf) = File::parse(&program[..100]) else { panic!() };
        assert_eq!((elf.loader, elf.needs), (Loader::Beyond { at: 0, len: 0 }, 120));
    }

    #[test]
    fn a_probe_needs_all_of_its_bytes() {
        for arch in crate::arch::ARCHES {
            let program = arch.probe();
            let File::Elf(elf) = File::parse(&program) else { panic!("{arch}") };
            assert_eq!(elf.needs, program.len() as u64, "{arch}");
        }
    }

    #[test]
    fn what_is_no_program_is_said_to_be_none() {
        assert_eq!(File::parse(b""), File::Empty);
        assert_eq!(File::parse(b"#! /bin/sh -e \nexit"), File::Script("/bin/sh -e"));
        assert_eq!(File::parse(b"#!/bin/sh\r\n"), File::Script("/bin/sh\r"));
        assert_eq!(File::parse(b"MZ\x90"), File::Windows);
        assert_eq!(File::parse(b"echo hello"), File::Other);
        assert_eq!(File::parse(b"\x7fELF\x02\x01"), File::Damaged("it ends within the ELF header"));
        assert!(matches!(File::parse(b"\x7fELF\x07\x01\x01"), File::Damaged(_)));
    }
}
