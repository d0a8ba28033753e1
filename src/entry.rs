//! binfmt_misc's two texts: what the kernel shows of an entry, and what is written to register one.
//!
//! Parsing and `Display` are inverses. The rules are those of `fs/binfmt_misc.c` (Linux 4.8 to
//! 7.2); what a later kernel adds is kept and shown, not refused.

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::arch::{self, Arch};
use crate::error::Error;
use crate::family::{Family, QEMU};
use crate::shown::shorten;

/// Longest text that `register` accepts, in bytes.
const MAX_REGISTRATION: usize = 1920;
/// Longest file name, and so longest entry name, in bytes.
const MAX_NAME: usize = 255;

/// The name of an entry: one that the kernel accepts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EntryName(String);

impl EntryName {
    /// Checks a name.
    ///
    /// # Errors
    /// Where the kernel would refuse it: empty, `.`, `..`, `/` or NUL inside, longer than 255
    /// bytes, or one of the file system's own files, `register` and `status`.
    pub fn new(name: &str) -> Result<Self, Error> {
        let wrong = match name {
            "" => "it is empty",
            "." | ".." | "register" | "status" => "the kernel keeps that name for itself",
            _ if name.contains(['/', '\0', '\n']) => "it contains a '/', a line end or a NUL",
            _ if name.len() > MAX_NAME => "it is longer than 255 bytes",
            _ => return Ok(Self(name.to_owned())),
        };
        Err(Error::BadName { name: shorten(name), wrong })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EntryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The flags of an entry, in the kernel's order; unknown ones are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags(String);

impl Flags {
    /// The flags a registration may carry, in the order in which the kernel shows them.
    pub const KNOWN: &str = "POCF";

    /// All of them.
    pub fn all() -> Self {
        Self(Self::KNOWN.to_owned())
    }

    /// Reads the flags a user asks for.
    ///
    /// # Errors
    /// A letter that is none of P, O, C, F; or F missing: without it the emulator's path would
    /// have to exist in every container.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.trim().to_ascii_uppercase();
        if let Some(unknown) = text.chars().find(|c| !Self::KNOWN.contains(*c)) {
            return Err(Error::BadFlags {
                wrong: format!("'{}' is not one", unknown.escape_default()),
            });
        }
        if !text.contains('F') {
            return Err(Error::BadFlags { wrong: "F is missing".to_owned() });
        }
        Ok(Self(Self::KNOWN.chars().filter(|c| text.contains(*c)).collect()))
    }

    /// These flags without `flag`.
    #[must_use]
    pub fn without(&self, flag: char) -> Self {
        Self(self.0.chars().filter(|c| *c != flag).collect())
    }

    /// Whether `flag` is among them.
    pub fn has(&self, flag: char) -> bool {
        self.0.contains(flag)
    }

    /// What the kernel shows for these: C brings O along.
    #[must_use]
    pub fn as_shown(&self) -> Self {
        Self(Self::KNOWN.chars().filter(|c| self.has(*c) || (*c == 'O' && self.has('C'))).collect())
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// How an entry recognises a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// By bytes at an offset.
    Magic {
        /// Bytes before the magic.
        offset: usize,
        /// The bytes compared.
        magic: Vec<u8>,
        /// The bits that count; all where the kernel shows no mask.
        mask: Option<Vec<u8>>,
    },
    /// By the file name's extension, without its dot.
    Extension(String),
    /// By something this version does not know.
    Unknown,
}

/// One entry, as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its file's name, which may hold any byte but `/` and NUL.
    pub file: OsString,
    /// The same as text, to be shown and compared with what users type.
    pub name: String,
    /// Whether its first line says `enabled`.
    pub enabled: bool,
    /// Path of the interpreter, as it was registered.
    pub interpreter: PathBuf,
    /// Its flags, unknown ones included.
    pub flags: Flags,
    /// What it matches.
    pub rule: Rule,
    /// Lines that this version does not understand.
    pub unknown: Vec<String>,
}

impl Entry {
    /// Reads the text of an entry's file, which is called `file`.
    ///
    /// The interpreter's path may hold anything, line ends too; what follows it is the kernel's own:
    /// flags, then an extension, or an offset, the magic and perhaps a mask, then lines of the future.
    ///
    /// # Errors
    /// Where the first line is neither `enabled` nor `disabled`, or bytes are not hexadecimal.
    pub fn parse(file: impl AsRef<OsStr>, text: impl AsRef<[u8]>) -> Result<Self, Error> {
        let (file, text) = (file.as_ref(), text.as_ref());
        let name = file.to_string_lossy().into_owned();
        let bad = |what: &[u8]| Error::BadEntry {
            name: shorten(&name),
            what: shorten(&String::from_utf8_lossy(what)),
        };
        let (first, rest) = split_line(text);
        let enabled = match first {
            b"enabled" => true,
            b"disabled" => false,
            b"" => return Err(bad(b"it is empty")),
            other => return Err(bad(other)),
        };
        let mut entry = Self {
            file: file.to_owned(),
            name: name.clone(),
            enabled,
            interpreter: PathBuf::new(),
            flags: Flags::default(),
            rule: Rule::Unknown,
            unknown: Vec::new(),
        };
        let mut rest = rest;
        if let Some(value) = rest.strip_prefix(b"interpreter ") {
            let end = interpreter_end(value);
            entry.interpreter = PathBuf::from(OsStr::from_bytes(&value[..end]));
            rest = value.get(end + 1..).unwrap_or_default();
        }
        let (mut offset, mut magic, mut mask) = (0, None, None);
        let mut after_magic = false;
        while !rest.is_empty() {
            let (line, following) = split_line(rest);
            rest = following;
            let text = String::from_utf8_lossy(line);
            let (key, value) = text.split_once(' ').unwrap_or((&text, ""));
            let was_magic = std::mem::take(&mut after_magic);
            match key {
                "flags:" => entry.flags = Flags(value.trim().to_owned()),
                "extension" if magic.is_none() => {
                    entry.rule =
                        Rule::Extension(value.strip_prefix('.').unwrap_or(value).to_owned());
                }
                "offset" => offset = value.parse().map_err(|_| bad(line))?,
                "magic" => {
                    magic = Some(unhex(value).ok_or_else(|| bad(line))?);
                    after_magic = true;
                }
                "mask" if was_magic => mask = Some(unhex(value).ok_or_else(|| bad(line))?),
                _ => entry.unknown.push(text.into_owned()),
            }
        }
        if let Some(magic) = magic {
            entry.rule = Rule::Magic { offset, magic, mask };
        }
        Ok(entry)
    }

    /// Whether it would take a file that starts with `header` (no file name: magic only).
    pub fn takes(&self, header: &[u8]) -> bool {
        match &self.rule {
            Rule::Magic { offset, magic, mask } => header.get(*offset..).is_some_and(|header| {
                arch::matches(header, magic, mask.as_deref().unwrap_or_default())
            }),
            Rule::Extension(_) | Rule::Unknown => false,
        }
    }

    /// The architectures whose programs it takes.
    pub fn arches(&self) -> impl Iterator<Item = &'static Arch> {
        let takes = |(_, program): &&(_, Vec<u8>)| self.takes(program);
        arch::programs().iter().filter(takes).map(|(arch, _)| *arch)
    }

    /// The family of its emulator, by its interpreter's name or by its own.
    pub fn family(&self) -> Option<&'static Family> {
        Family::of_file(&self.interpreter).or_else(|| Family::of_name(&self.name))
    }

    /// Whether it belongs to QEMU.
    pub fn is_qemu(&self) -> bool {
        self.family() == Some(&QEMU)
    }
}

/// Up to the first line end, and what comes after it.
fn split_line(text: &[u8]) -> (&[u8], &[u8]) {
    match text.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&text[..end], &text[end + 1..]),
        None => (text, &[]),
    }
}

/// Where an interpreter's path ends: before the last flags that an offset follows, as no path can
/// come after those; where there is no offset, before the first flags.
fn interpreter_end(text: &[u8]) -> usize {
    const FLAGS: &[u8] = b"\nflags: ";
    let starts = || (0..text.len()).filter(|i| text[*i..].starts_with(FLAGS));
    let before_offset = |start: &usize| split_line(&text[*start + 1..]).1.starts_with(b"offset ");
    starts()
        .rev()
        .find(before_offset)
        .or_else(|| starts().next())
        .unwrap_or_else(|| split_line(text).0.len())
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", if self.enabled { "enabled" } else { "disabled" })?;
        writeln!(f, "interpreter {}", self.interpreter.display())?;
        writeln!(f, "flags: {}", self.flags)?;
        match &self.rule {
            Rule::Magic { offset, magic, mask } => {
                writeln!(f, "offset {offset}\nmagic {}", hex(magic))?;
                mask.iter().try_for_each(|mask| writeln!(f, "mask {}", hex(mask)))?;
            }
            Rule::Extension(extension) => writeln!(f, "extension .{extension}")?,
            Rule::Unknown => {}
        }
        self.unknown.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// What is written to `register`: valid by construction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    name: EntryName,
    magic: Vec<u8>,
    mask: Vec<u8>,
    interpreter: PathBuf,
    flags: Flags,
}

impl Registration {
    /// The registration of `arch` under `name`.
    ///
    /// # Errors
    /// Where the kernel would answer EINVAL: a path that is empty, not UTF-8 or has a line end in
    /// it, or a text of more than 1920 bytes.
    pub fn new(
        name: EntryName,
        arch: &Arch,
        interpreter: &Path,
        flags: Flags,
    ) -> Result<Self, Error> {
        let this = Self {
            name,
            magic: arch.magic(),
            mask: arch.mask(),
            interpreter: interpreter.into(),
            flags,
        };
        let wrong = match interpreter.to_str() {
            None => "it is not UTF-8",
            Some("") => "it is empty",
            Some(path) if path.contains(['\n', '\0']) => "it contains a line end or a NUL",
            Some(_) if this.delimiter().is_none() => {
                "with the entry's name it contains every possible delimiter"
            }
            Some(_) if this.to_string().len() > MAX_REGISTRATION => "it is too long for the kernel",
            Some(_) => return Ok(this),
        };
        Err(Error::BadInterpreter { path: shorten(&interpreter.to_string_lossy()), wrong })
    }

    /// A character that occurs in neither name nor path, and is no flag.
    fn delimiter(&self) -> Option<char> {
        let path = self.interpreter.to_string_lossy();
        let free = |c: &char| !self.name.as_str().contains(*c) && !path.contains(*c);
        [':', '|', ',', '!', '@', '%', '#', '~'].into_iter().find(free)
    }

    /// Name and interpreter in a line that registers, as binfmt.d's files hold them.
    pub fn name_and_interpreter(line: &str) -> Option<(&str, &Path)> {
        let delimiter = line.chars().next()?;
        let mut fields = line[delimiter.len_utf8()..].split(delimiter);
        Some((fields.next()?, Path::new(fields.nth(4)?)))
    }

    /// The name of the entry to be.
    pub fn name(&self) -> &EntryName {
        &self.name
    }

    /// The same registration under another name.
    #[must_use]
    pub fn named(&self, name: EntryName) -> Self {
        Self { name, ..self.clone() }
    }

    /// Path of the interpreter, as programs and the entry's file will show it.
    pub fn interpreter(&self) -> &Path {
        &self.interpreter
    }

    /// The same registration with another path to the interpreter.
    #[must_use]
    pub fn with_interpreter(&self, interpreter: PathBuf) -> Self {
        Self { interpreter, ..self.clone() }
    }

    /// Its flags.
    pub fn flags(&self) -> &Flags {
        &self.flags
    }

    /// Whether it would take a file that starts with `header`.
    pub fn takes(&self, header: &[u8]) -> bool {
        arch::matches(header, &self.magic, &self.mask)
    }

    /// Whether `entry` is what the kernel would show after this registration.
    pub fn is(&self, entry: &Entry) -> bool {
        entry.name == self.name.as_str() && self.is_but_for_name(entry)
    }

    /// Whether `entry` does what this registration asks for, whatever it is called.
    pub fn is_but_for_name(&self, entry: &Entry) -> bool {
        let Rule::Magic { offset: 0, magic, mask } = &entry.rule else { return false };
        // The interpreter of an unprivileged install is a file without a path, see `anchor`.
        entry.enabled
            && *magic == self.magic
            && mask.as_ref().is_some_and(|mask| *mask == self.mask)
            && entry.flags == self.flags.as_shown()
    }
}

/// The text for `register`, without a line end.
impl fmt::Display for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.interpreter.display().to_string();
        let d = self.delimiter().unwrap_or(':');
        write!(f, "{d}{}{d}M{d}0{d}", self.name)?;
        self.magic.iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        f.write_char(d)?;
        self.mask.iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        write!(f, "{d}{path}{d}{}", self.flags)
    }
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const AARCH64: &str = "enabled\ninterpreter /usr/bin/qemu-aarch64\nflags: POCF\noffset 0\n\
        magic 7f454c460201010000000000000000000200b700\n\
        mask ffffffffffffff00fffffffffffffffffeffffff\n";

    #[test]
    fn parsing_and_display_are_inverses() {
        for text in [
            AARCH64,
            "disabled\ninterpreter /usr/bin/python3.12\nflags: \noffset 0\nmagic cb0d0d0a\n",
            "enabled\ninterpreter /usr/bin/wine\nflags: \nextension .exe\n",
            "enabled\ninterpreter /init\nflags: PFT\noffset 4\nmagic 4d5a\nnew-in-7.3 yes\n",
            "enabled\ninterpreter /x\nflags: B\n",
        ] {
            assert_eq!(Entry::parse("x", text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn nonsense_is_an_error_and_no_panic() {
        for text in [
            "",
            "\n",
            "maybe\n",
            "enabled\nmagic 7f4\n",
            "enabled\nmagic zz\n",
            "enabled\noffset -1\n",
        ] {
            assert!(Entry::parse("x", text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_path_with_line_ends_fakes_no_line() {
        let path = "/x\nflags: F\nmask 00\nflags: P";
        let text = AARCH64.replace("/usr/bin/qemu-aarch64", path);
        let entry = Entry::parse("x", &text).unwrap();
        assert_eq!(entry.interpreter, Path::new(path));
        assert_eq!(entry.flags, Flags::parse("POCF").unwrap());
        assert_eq!(entry.to_string(), text);
        let bytes = b"enabled\ninterpreter /\xff\nflags: F\noffset 0\nmagic 00\nmask ff\nmask 0\n";
        let entry = Entry::parse(OsStr::from_bytes(b"\xff"), bytes).unwrap();
        assert_eq!(entry.interpreter.as_os_str().as_bytes(), b"/\xff");
        assert_eq!(entry.file.as_bytes(), b"\xff");
        assert_eq!(entry.unknown, ["mask 0"]);
    }

    #[test]
    fn a_name_that_leaves_no_delimiter_is_refused() {
        let arch = Arch::by_target("arm").unwrap();
        let name = EntryName::new(":|,!@%#~qemu-arm").unwrap();
        let wrong = Registration::new(name, arch, Path::new("/x"), Flags::parse("F").unwrap());
        assert!(wrong.unwrap_err().to_string().contains("every possible delimiter"));
    }

    #[test]
    fn a_registration_is_the_fields_text() {
        let arch = Arch::by_target("aarch64").unwrap();
        let name = EntryName::new("qemu-aarch64").unwrap();
        let flags = Flags::parse("FPOC").unwrap();
        let registration =
            Registration::new(name, arch, Path::new("/usr/bin/qemu-aarch64"), flags).unwrap();
        assert_eq!(
            registration.to_string(),
            r":qemu-aarch64:M:0:\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/bin/qemu-aarch64:POCF"
        );
        assert_eq!(
            Registration::name_and_interpreter(&registration.to_string()).unwrap(),
            ("qemu-aarch64", Path::new("/usr/bin/qemu-aarch64"))
        );
        assert!(registration.is(&Entry::parse("qemu-aarch64", AARCH64).unwrap()));
        let disabled = AARCH64.replace("enabled", "disabled");
        assert!(!registration.is(&Entry::parse("qemu-aarch64", &disabled).unwrap()));
    }

    #[test]
    fn the_delimiter_avoids_name_and_path() {
        let arch = Arch::by_target("arm").unwrap();
        let name = EntryName::new("a:b").unwrap();
        let text = Registration::new(name, arch, Path::new("/x|y"), Flags::parse("F").unwrap());
        assert!(text.unwrap().to_string().starts_with(",a:b,M,0,"));
    }

    #[test]
    fn names_the_kernel_refuses_are_refused() {
        let long = "x".repeat(256);
        for name in ["", ".", "..", "a/b", "register", "status", "a\nb", "a\0b", &long] {
            assert!(EntryName::new(name).is_err(), "{name}");
        }
    }

    #[test]
    fn credentials_bring_open_along() {
        assert_eq!(Flags::parse("CF").unwrap().as_shown().to_string(), "OCF");
        assert!(Flags::parse("POC").is_err() && Flags::parse("FX").is_err());
    }
}
