//! A script's first line, as the kernel reads it (`fs/binfmt_script.c`). Pure.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// How much of a file the kernel looks at, `BINPRM_BUF_SIZE` (128 bytes before Linux 5.1).
pub(super) const BUFFER: usize = 256;

/// What the kernel makes of a first line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Script {
    /// The interpreter, up to the first space.
    pub(super) interpreter: PathBuf,
    /// All that follows, as one argument.
    pub(super) argument: Option<String>,
    /// What is wrong with the line itself.
    pub(super) wrong: Option<Wrong>,
}

/// Where interpreters are.
pub(super) const USUAL: [&str; 3] = ["/usr/bin", "/bin", "/usr/local/bin"];

impl Script {
    /// Whether its interpreter is the Python of a virtual environment.
    pub(super) fn is_of_environment(&self) -> bool {
        let name = self.interpreter.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("python")
            && !USUAL.iter().any(|dir| self.interpreter.parent() == Some(Path::new(dir)))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    /// Nothing stands after `#!`.
    NoInterpreter,
    /// The interpreter's path goes on beyond what the kernel reads.
    TooLong,
    /// The argument goes on beyond what the kernel reads, and is cut there.
    ArgumentCut,
    /// A carriage return stands at its end.
    CarriageReturn,
}

/// What stands before `#!`, where the kernel wants nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hidden {
    ByteOrderMark,
    Space,
    /// It is misspelt: `!#`, `#/bin/sh`.
    Misspelt,
    /// It comes after comments.
    Late,
    /// The text is of two bytes a character, or four.
    Utf16,
    Utf32,
}

/// Reads the first line; `None` if the file does not begin with `#!`.
pub(super) fn parse(start: &[u8]) -> Option<Script> {
    let bytes = start.strip_prefix(b"#!")?;
    let read = &bytes[..bytes.len().min(BUFFER - 2)];
    let space = |byte: &u8| [b' ', b'\t'].contains(byte);
    // A zero byte ends it as well: files that are shorter are filled up with them.
    let whole = read.contains(&b'\n') || read.contains(&0) || read.len() < BUFFER - 2;
    let line = read.split(|byte| [b'\n', 0].contains(byte)).next().unwrap_or_default();
    let line = &line[line.iter().take_while(|byte| space(byte)).count()..];
    let end = line.iter().position(space);
    let (interpreter, rest) = line.split_at(end.unwrap_or(line.len()));
    let argument = String::from_utf8_lossy(rest).trim_matches([' ', '\t']).to_owned();
    let wrong = match (interpreter, whole) {
        ([], _) => Some(Wrong::NoInterpreter),
        _ if line.ends_with(b"\r") => Some(Wrong::CarriageReturn),
        (_, false) if end.is_none() => Some(Wrong::TooLong),
        (_, false) => Some(Wrong::ArgumentCut),
        _ => None,
    };
    Some(Script {
        interpreter: Path::new(OsStr::from_bytes(interpreter)).into(),
        argument: Some(argument).filter(|argument| !argument.is_empty()),
        wrong,
    })
}

/// What hides a first line from the kernel.
pub(super) fn hidden(start: &[u8]) -> Option<Hidden> {
    let two: [&[u8]; 4] = [b"\xff\xfe", b"\xfe\xff", b"#\0!\0", b"\0#\0!"];
    if start.starts_with(b"\xff\xfe\0\0") || start.starts_with(b"\0\0\xfe\xff") {
        return Some(Hidden::Utf32);
    }
    if two.iter().any(|mark| start.starts_with(mark)) {
        return Some(Hidden::Utf16);
    }
    let text = start.strip_prefix(b"\xef\xbb\xbf");
    let rest = text.unwrap_or(start).trim_ascii_start();
    let hides = rest.starts_with(b"#!") && rest.len() < start.len();
    if hides {
        return Some(if text.is_some() { Hidden::ByteOrderMark } else { Hidden::Space });
    }
    meant(start).map(|(hidden, _)| hidden)
}

/// The first line that a text is meant to begin with, where that can be told.
pub(super) fn meant(start: &[u8]) -> Option<(Hidden, String)> {
    const MISSPELT: [&str; 7] = ["!#/", "# !/", "#1/", "\\#!/", "#/bin/", "#/usr/", "//bin/"];
    let text = String::from_utf8_lossy(start);
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default().trim_end();
    let plain = |path: &str| {
        path.chars().all(|c| c.is_ascii_alphanumeric() || "/._+- =".contains(c)) && path.len() > 4
    };
    if MISSPELT.iter().any(|wrong| first.starts_with(wrong)) {
        let path = &first[first.find('/').unwrap_or_default()..];
        let path = path.strip_prefix("//").map_or(path.to_owned(), |rest| format!("/{rest}"));
        return plain(&path).then(|| (Hidden::Misspelt, format!("#!{path}")));
    }
    let comment = |line: &&str| line.is_empty() || line.starts_with('#');
    let late = std::iter::once(first).chain(lines).take_while(comment).take(40);
    let late = late.skip(1).find_map(|line| line.trim_end().strip_prefix("#!"))?;
    (late.starts_with('/') && plain(late)).then(|| (Hidden::Late, format!("#!{late}")))
}

/// A character in the first line that nobody sees, and that becomes part of a name.
pub(super) fn invisible(script: &Script) -> Option<char> {
    let argument = script.argument.as_deref().unwrap_or_default();
    let text = script.interpreter.to_string_lossy();
    let is = |c: &char| {
        ['\u{a0}', '\u{3000}', '\u{feff}', '\u{2028}'].contains(c)
            || ('\u{200b}'..='\u{200f}').contains(c)
    };
    text.chars().chain(argument.chars()).find(is)
}

/// What `env` does with its one argument.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Env {
    /// It starts this.
    Starts(String),
    /// It looks for a command of this name, which has a space in it.
    OneWord(String),
    /// It starts this, where it is one that knows -S: busybox's does not.
    Splits(String),
    /// Something else, or nothing.
    Other,
}

/// Reads the argument of a script for `env`.
pub(super) fn env(argument: Option<&str>) -> Env {
    let argument = argument.unwrap_or_default();
    let split =
        ["-S", "-vS", "--split-string="].iter().find_map(|option| argument.strip_prefix(option));
    if let Some(words) = split {
        // Options and assignments come before the command.
        let mut words = words.split_whitespace().filter(|word| !word.contains('='));
        return match words.next() {
            Some(word) if !word.starts_with('-') => {
                Env::Splits(word.trim_matches(['"', '\'']).to_owned())
            }
            _ => Env::Other,
        };
    }
    match argument {
        "" => Env::Other,
        _ if argument.starts_with('-') || argument.contains('=') => Env::Other,
        _ if argument.contains([' ', '\t']) => Env::OneWord(argument.to_owned()),
        _ => Env::Starts(argument.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(text: &str) -> (String, Option<String>, Option<Wrong>) {
        let Script { interpreter, argument, wrong } = parse(text.as_bytes()).unwrap();
        (interpreter.display().to_string(), argument, wrong)
    }

    #[test]
    fn a_first_line_is_read_as_the_kernel_reads_it() {
        let sh = |argument: Option<&str>, wrong| {
            ("/bin/sh".to_owned(), argument.map(str::to_owned), wrong)
        };
        assert_eq!(script("#!/bin/sh"), sh(None, None));
        assert_eq!(script("#! \t/bin/sh \t\n"), sh(None, None));
        assert_eq!(script("#!/bin/sh -e -u \n"), sh(Some("-e -u"), None));
        assert_eq!(script("#!/bin/sh\0-x\n"), sh(None, None));
        assert_eq!(script("#!/bin/sh -e\r\n"), sh(Some("-e\r"), Some(Wrong::CarriageReturn)));
        assert_eq!(script("#!/bin/sh\r\n").2, Some(Wrong::CarriageReturn));
        assert_eq!(script("#!\n/bin/sh\n").2, Some(Wrong::NoInterpreter));
        assert_eq!(script("#!   ").2, Some(Wrong::NoInterpreter));
        assert_eq!(script(&format!("#!/{}\n", "x".repeat(252))).2, None);
        assert_eq!(script(&format!("#!/{}\n", "x".repeat(253))).2, Some(Wrong::TooLong));
        assert_eq!(script(&format!("#!/bin/sh {}\n", "x".repeat(253))).2, Some(Wrong::ArgumentCut));
        assert_eq!(parse(b" #!/bin/sh"), None);
    }

    #[test]
    fn what_hides_a_first_line_is_found() {
        assert_eq!(hidden(b"\xef\xbb\xbf#!/bin/sh"), Some(Hidden::ByteOrderMark));
        assert_eq!(hidden(b"\n\n #!/bin/sh"), Some(Hidden::Space));
        assert_eq!(hidden(b"\xff\xfe#\0!\0/\0"), Some(Hidden::Utf16));
        assert_eq!(hidden(b"#\0!\0/\0"), Some(Hidden::Utf16));
        assert_eq!(hidden(b"\xff\xfe\0\0#\0\0\0"), Some(Hidden::Utf32));
        assert_eq!(hidden(b"!#/bin/sh\n"), Some(Hidden::Misspelt));
        assert_eq!(hidden(b"# by me\n\n#!/bin/sh\n"), Some(Hidden::Late));
        assert_eq!(meant(b"#/bin/sh -e\r\n").unwrap().1, "#!/bin/sh -e");
        assert_eq!((meant(b"# a\necho\n#!/bin/sh"), meant(b"# a\n#!x y;z\n")), (None, None));
        assert_eq!((hidden(b"#!/bin/sh"), hidden(b"echo"), hidden(b"")), (None, None, None));
    }

    #[test]
    fn env_takes_one_word_unless_told_to_split() {
        assert_eq!(env(Some("python3")), Env::Starts("python3".to_owned()));
        assert_eq!(env(Some("python3 -u")), Env::OneWord("python3 -u".to_owned()));
        assert_eq!(env(Some("-S A=1 python3 -u")), Env::Splits("python3".to_owned()));
        assert_eq!(env(Some("-Ssh -e")), Env::Splits("sh".to_owned()));
        assert_eq!(
            (env(None), env(Some("-i sh")), env(Some("-S -i sh"))),
            (Env::Other, Env::Other, Env::Other)
        );
    }
}
