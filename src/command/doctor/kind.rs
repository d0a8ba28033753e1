//! What a file is that is neither an ELF program nor a script: told by its first bytes. Pure.

/// A kind of file that the kernel does not run.
#[derive(Debug)]
pub(super) struct Kind {
    /// What it is: `FILE is …`.
    pub(super) what: &'static str,
    /// What to do with it.
    pub(super) advice: &'static str,
    is: fn(&[u8]) -> bool,
}

const fn kind(what: &'static str, advice: &'static str, is: fn(&[u8]) -> bool) -> Kind {
    Kind { what, advice, is }
}

const UNPACK: &str = "unpack it, and start the program that is in it";
const FETCH: &str = "fetch it again, from another address: look at what it says, and let the download fail on errors (curl -f)";
const OTHER_BUILD: &str = "use the build for Linux";
const TEXT: &str = "its first line has to be #! and the path of its interpreter, such as #!/bin/sh";

/// The first that fits is taken, so the special ones come first.
#[rustfmt::skip]
const KINDS: &[Kind] = &[
    kind("empty", "fetch or build it again: a download or a build broke off, or the disk was full", |b| b.is_empty()),
    kind("nothing but zero bytes, as far as was looked", "fetch or build it again: its contents were lost, as in a crash of the \
        machine or a download that broke off", |b| b.iter().all(|byte| *byte == 0)),
    kind("a pointer of Git LFS: the file itself was not fetched", "in its repository: git lfs install && git lfs pull; in CI, check \
        it out with LFS", |b| b.starts_with(b"version https://git-lfs.github.com/spec/")),
    kind("an actually portable executable (APE), which no kernel knows by itself", "start it with a shell: sh FILE; entries for Windows \
        programs (wine, WSLInterop) take it before that", |b| b.starts_with(b"MZqFpD='") || b.starts_with(b"jartsr='")),
    kind("a Windows program for .NET", "start it with `dotnet` or `mono`, or use the build for Linux", |b| is_pe(b) && contains(b, b"mscoree.dll")),
    kind("a Windows program", "use the build for Linux, or install Wine", is_pe),
    kind("a program for DOS or Windows", "use the build for Linux", |b| b.starts_with(b"MZ")),
    kind("a macOS program (Mach-O)", OTHER_BUILD, is_mach_o),
    kind("a Java class", "start it with `java` and the name of its class", |b| b.starts_with(b"\xca\xfe\xba\xbe")),
    kind("a Java archive", "start it with `java -jar`", |b| b.starts_with(b"PK\x03\x04") && contains(b, b"META-INF/")),
    kind("an Android package", "it runs on Android only", |b| b.starts_with(b"PK\x03\x04") && contains(b, b"AndroidManifest.xml")),
    kind("a zip archive", "unpack it with `unzip`, and start the program that is in it", |b| b.starts_with(b"PK\x03\x04") || b.starts_with(b"PK\x05\x06")),
    kind("compressed with gzip", "unpack it: `tar -xzf` if it is an archive, `gunzip` if it is a single file", |b| b.starts_with(b"\x1f\x8b")),
    kind("compressed with xz", "unpack it: `tar -xJf` if it is an archive, `unxz` if it is a single file", |b| b.starts_with(b"\xfd7zXZ\0")),
    kind("compressed with zstd", "unpack it: `tar --zstd -xf` if it is an archive, `unzstd` if it is a single file", |b| b.starts_with(b"\x28\xb5\x2f\xfd")),
    kind("compressed with bzip2", "unpack it: `tar -xjf` if it is an archive, `bunzip2` if it is a single file", |b| b.starts_with(b"BZh")),
    kind("compressed with lz4", "unpack it with `unlz4`", |b| b.starts_with(b"\x04\x22\x4d\x18")),
    kind("a 7-Zip archive", UNPACK, |b| b.starts_with(b"7z\xbc\xaf\x27\x1c")),
    kind("a tar archive", "unpack it with `tar -xf`, and start the program that is in it", |b| b.get(257..262) == Some(b"ustar")),
    kind("a Debian package", "install it: `apt-get install ./FILE.deb`, or look into it: `dpkg-deb -x`", |b| b.starts_with(b"!<arch>\ndebian")),
    kind("a static library, from which a linker makes programs", "name the program itself", |b| b.starts_with(b"!<arch>\n") || b.starts_with(b"!<thin>\n")),
    kind("an RPM package", "install it with `dnf` or `rpm -i`", |b| b.starts_with(b"\xed\xab\xee\xdb")),
    kind("a cpio archive", UNPACK, |b| b.starts_with(b"070701") || b.starts_with(b"070702")),
    kind("a squashfs image", "mount it, or unpack it with `unsquashfs`", |b| b.starts_with(b"hsqs")),
    kind("WebAssembly", "start it with a runtime such as `wasmtime`", |b| b.starts_with(b"\0asm")),
    kind("compiled Python", "start it with the same version of `python3` that made it, or use the .py file", is_pyc),
    kind("compiled Lua", "start it with the same version of `lua` that made it", |b| b.starts_with(b"\x1bLua")),
    kind("compiled LuaJIT", "start it with `luajit`", |b| b.starts_with(b"\x1bLJ")),
    kind("LLVM bitcode, from which a compiler makes programs", "compile it with `clang`, or start it with `lli`", |b| b.starts_with(b"BC\xc0\xde") || b.starts_with(b"\xde\xc0\x17\x0b")),
    kind("compiled Erlang", "start it with `erl`", |b| b.starts_with(b"FOR1")),
    kind("a kernel image", "it is started by a boot loader", |b| b.get(514..518) == Some(b"HdrS")),
    kind("an SQLite database", "it is no program: sqlite3 opens it", |b| b.starts_with(b"SQLite format 3\0")),
    kind("an image of a disk or file system", "mount it, or start it in a virtual machine", is_disk),
    kind("a file that is encrypted (age, GnuPG)", "decrypt it first", is_encrypted),
    kind("an image of U-Boot's", "it is started by a boot loader", |b| b.starts_with(b"\x27\x05\x19\x56")),
    kind("compiled GNU Guile or Emacs Lisp", "start it with the program that made it", |b| b.starts_with(b"GOOF") || b.starts_with(b";ELC")),
    kind("a picture", "it is no program", |b| b.starts_with(b"\x89PNG") || b.starts_with(b"\xff\xd8\xff") || b.starts_with(b"GIF8")),
    kind("a PDF document", "it is no program", |b| b.starts_with(b"%PDF-")),
    kind("a signature or a key, not the file that belongs to it", "fetch the file itself", |b| text(b).starts_with("-----BEGIN ")),
    kind("an HTML page: a server's answer in place of the file", FETCH, is_html),
    kind("an XML document, usually a server's answer in place of the file", FETCH, |b| text(b).starts_with("<?xml")),
    kind("a JSON document, usually a server's answer in place of the file", FETCH, is_json),
    kind("a server's answer in place of the file", FETCH, is_answer),
    kind("a linker's script: text that stands for a library", "the library itself is the file with a number after .so: name that, or install its \
        package again", is_linker_script),
    kind("a unit of systemd's", "copy it to /etc/systemd/system and start it with `systemctl start`", |b| first_line_is(b, &["[Unit]", "[Service]"])),
    kind("a desktop entry", "start the program that stands after Exec= in it, or the entry with `gio launch`", |b| first_line_is(b, &["[Desktop Entry]"])),
    kind("a Windows batch file", "use the script for Linux, usually of the same name with .sh or without an ending", is_batch),
    kind("source code, which a compiler makes a program of", "compile it, and start the result: for C, `cc FILE -o PROGRAM`", is_source),
    kind("a dump of a file in hexadecimal numbers", "make the file of it again: xxd -r FILE > PROGRAM", is_dump),
    kind("a server's answer with its headers, before the file itself", "fetch it again without them (curl without -i)", |b| b.starts_with(b"HTTP/1.") || b.starts_with(b"HTTP/2 ")),
    kind("YAML, which is data and no program", "give it to the tool that reads it (kubectl, docker compose, ansible-playbook), or name the program itself", is_yaml),
    kind("a Dockerfile", "build an image of it: docker build -f FILE .", is_dockerfile),
    kind("a diff", "apply it: patch -p1 < FILE", |b| text(b).starts_with("diff --git ") || text(b).starts_with("--- a/")),
    kind("base64, the text form of the real file", "unpack it: base64 -d FILE > PROGRAM", is_base64),
    kind("a PHP script", "start it with `php`", |b| text(b).starts_with("<?php")),
    kind("a text without #! on its first line", TEXT, |b| !b.contains(&0) && std::str::from_utf8(&b[..whole(b)]).is_ok()),
    kind("neither a program nor a script", "look at what `file` says of it", |_| true),
];

/// What a file is that starts with these bytes.
pub(super) fn of(start: &[u8]) -> &'static Kind {
    KINDS.iter().find(|kind| (kind.is)(start)).unwrap_or(&KINDS[KINDS.len() - 1])
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// How many of the bytes are whole characters: the last may be cut.
fn whole(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    }
}

/// The text that it starts with, without what stands before the first word.
fn text(bytes: &[u8]) -> &str {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(&bytes[..whole(bytes)]).unwrap_or_default().trim_start()
}

/// Whether its first line that is no comment is one of these.
fn first_line_is(bytes: &[u8], lines: &[&str]) -> bool {
    lines_but(text(bytes), &["#", ";"]).next().is_some_and(|first| lines.contains(&first))
}

/// Lines without blanks around them, but for empty ones and comments, which begin so.
fn lines_but<'a>(text: &'a str, comments: &[&str]) -> impl Iterator<Item = &'a str> {
    let code =
        |line: &&str| !line.is_empty() && !comments.iter().any(|start| line.starts_with(start));
    text.lines().map(str::trim).filter(code)
}

fn is_linker_script(bytes: &[u8]) -> bool {
    let text = text(bytes);
    ["/* GNU ld script", "GROUP (", "GROUP(", "INPUT (", "INPUT(", "OUTPUT_FORMAT("]
        .iter()
        .any(|word| text.starts_with(word))
}

/// Of C and its kin, Go, Rust, Java.
fn is_source(bytes: &[u8]) -> bool {
    const STARTS: [&str; 10] = [
        "#include ",
        "#include<",
        "#define ",
        "#ifndef ",
        "#pragma ",
        "package main",
        "int main(",
        "fn main(",
        "using namespace ",
        "public class ",
    ];
    let text = text(bytes);
    text.starts_with("/*") && text.contains("#include")
        || lines_but(text, &["//"])
            .next()
            .is_some_and(|line| STARTS.iter().any(|start| line.starts_with(start)))
}

/// Two lines of `key: value`, or the mark that it begins with.
fn is_yaml(bytes: &[u8]) -> bool {
    let text = text(bytes);
    let key = |line: &str| {
        line.split_once(':').is_some_and(|(key, rest)| {
            !key.is_empty()
                && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
                && (rest.is_empty() || rest.starts_with(' '))
        })
    };
    let lines: Vec<_> = text
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .take(3)
        .collect();
    let mark = lines.first().is_some_and(|line| line.trim_end() == "---");
    let inner = |line: &&str| line.starts_with([' ', '-']) || key(line.trim_end());
    match mark {
        true => lines.len() > 1 && lines[1..].iter().all(inner),
        false => lines.len() > 1 && key(lines[0].trim_end()) && lines.iter().all(inner),
    }
}

/// A number of bytes, and then these in hexadecimal.
fn is_dump(bytes: &[u8]) -> bool {
    let first = text(bytes).lines().next().unwrap_or_default();
    let mut words = first.split_whitespace();
    let hex = |word: &&str| word.chars().all(|c| c.is_ascii_hexdigit());
    let at = words.next().unwrap_or_default().trim_end_matches(':');
    at.len() >= 6 && at.chars().all(|c| c == '0') && words.take(4).filter(hex).count() == 4
}

fn is_dockerfile(bytes: &[u8]) -> bool {
    let mut lines = lines_but(text(bytes), &["#"]);
    let mut first = lines.next().unwrap_or_default();
    if first.starts_with("ARG ") {
        first = lines.next().unwrap_or_default();
    }
    first.starts_with("FROM ")
}

/// Lines of one length, of base64's characters alone.
fn is_base64(bytes: &[u8]) -> bool {
    let text = text(bytes);
    let first = text.lines().next().unwrap_or_default();
    let of_it = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    first.len() >= 60
        && first.len() <= 76
        && text.chars().all(|c| of_it(c) || c == '\n' || c == '\r')
        || first.len() > 76 && first.starts_with("f0VMR") && first.chars().all(of_it)
}

fn is_batch(bytes: &[u8]) -> bool {
    let text = text(bytes).to_lowercase();
    ["@echo off", "@rem ", "rem ", "@setlocal", "::"].iter().any(|start| text.starts_with(start))
}

fn is_encrypted(bytes: &[u8]) -> bool {
    let starts: [&[u8]; 3] = [b"age-encryption.org/", b"-----BEGIN PGP MESSAGE", b"-----BEGIN AGE"];
    starts.iter().any(|start| bytes.starts_with(start))
}

/// A partition table, or one of ext4, XFS, ISO 9660, QEMU's.
fn is_disk(bytes: &[u8]) -> bool {
    let at = |at: usize, magic: &[u8]| bytes.get(at..at + magic.len()) == Some(magic);
    at(0, b"QFI\xfb")
        || at(0, b"XFSB")
        || at(0, b"KDMV")
        || at(510, b"\x55\xaa")
        || at(512, b"EFI PART")
        || at(1080, b"\x53\xef")
        || at(0x8001, b"CD001")
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn is_pe(bytes: &[u8]) -> bool {
    let header = number(bytes, 0x3c).and_then(|at| bytes.get(usize::try_from(at).ok()?..));
    bytes.starts_with(b"MZ") && header.is_some_and(|header| header.starts_with(b"PE\0\0"))
}

/// Of one architecture, or of several: there the next number counts them, where Java has its version,
/// which is 45 or more.
fn is_mach_o(bytes: &[u8]) -> bool {
    let one = [b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe"];
    let several = bytes.starts_with(b"\xca\xfe\xba\xbe")
        && bytes.get(4..8).is_some_and(|count| count[..3] == [0; 3] && count[3] < 45);
    several || one.iter().any(|magic| bytes.starts_with(*magic))
}

/// Two bytes of version, then a carriage return and a line end.
fn is_pyc(bytes: &[u8]) -> bool {
    bytes.get(2..4) == Some(b"\r\n")
        && bytes.get(1).is_some_and(|high| (0x0c..=0x10).contains(high))
}

fn is_html(bytes: &[u8]) -> bool {
    let text = text(bytes);
    let start = text.get(..15).unwrap_or(text).to_ascii_lowercase();
    ["<!doctype html", "<html", "<head", "<body"].iter().any(|tag| start.starts_with(tag))
}

fn is_json(bytes: &[u8]) -> bool {
    let text = text(bytes);
    let rest = text.strip_prefix(['{', '[']).map(str::trim_start);
    rest.is_some_and(|rest| rest.starts_with(['"', '{', '}', ']']))
}

/// A short text as servers send it with an error.
fn is_answer(bytes: &[u8]) -> bool {
    const SAID: [&str; 16] = [
        "curl: (",
        "requested url returned error",
        "no such object",
        "not found",
        "404",
        "403 ",
        "forbidden",
        "access denied",
        "unauthorized",
        "bad gateway",
        "service unavailable",
        "too many requests",
        "rate limit",
        "internal server error",
        "moved permanently",
        "bad credentials",
    ];
    let text = text(bytes);
    let first = text.lines().next().unwrap_or_default().to_lowercase();
    text.len() < 500 && text.lines().count() <= 5 && SAID.iter().any(|said| first.contains(said))
}

/// What interpreter a text without `#!` is for, if its name or its first lines say so.
pub(super) fn interpreter(name: &str, start: &[u8]) -> Option<&'static str> {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let by_name = match extension {
        "py" => Some("/usr/bin/env python3"),
        "pl" => Some("/usr/bin/env perl"),
        "rb" => Some("/usr/bin/env ruby"),
        "js" | "mjs" => Some("/usr/bin/env node"),
        "lua" => Some("/usr/bin/env lua"),
        "ps1" => Some("/usr/bin/env pwsh"),
        "zsh" => Some("/usr/bin/env zsh"),
        "fish" => Some("/usr/bin/env fish"),
        "awk" => Some("/usr/bin/awk -f"),
        "php" => Some("/usr/bin/env php"),
        "tcl" => Some("/usr/bin/env tclsh"),
        "R" => Some("/usr/bin/env Rscript"),
        "bash" => Some("/bin/bash"),
        _ => None,
    };
    let lines = || text(start).lines().map(str::trim).filter(|line| !line.is_empty());
    let commands = [
        "echo ", "exec ", "export ", "set -", "cd ", "if [ ", "for ", "exit ", "printf ", ". ",
        "sleep ",
    ];
    let shell = extension == "sh"
        || lines().take(20).any(|line| commands.iter().any(|word| line.starts_with(word)));
    // Written for bash: what other shells do not understand.
    let bash = lines()
        .any(|line| line.contains("[[ ") || line.starts_with("function ") || line.contains("=("));
    by_name.or_else(|| by_words(text(start))).or(match (shell, bash) {
        (true, true) => Some("/bin/bash"),
        (true, false) => Some("/bin/sh"),
        _ => None,
    })
}

/// Told by what only one language begins a line with.
fn by_words(text: &str) -> Option<&'static str> {
    let first = lines_but(text, &["#"]).next().unwrap_or_default();
    let words: Vec<_> = first.split_whitespace().collect();
    let name = |word: &str| word.chars().all(|c| c.is_alphanumeric() || "_.,".contains(c));
    match words.as_slice() {
        ["import", module] if name(module) => Some("/usr/bin/env python3"),
        ["import", module, "as", ..] if name(module) => Some("/usr/bin/env python3"),
        ["from", module, "import", ..] if name(module) => Some("/usr/bin/env python3"),
        ["def" | "class", .., last] if last.ends_with(':') => Some("/usr/bin/env python3"),
        ["use", "strict;" | "warnings;"] => Some("/usr/bin/env perl"),
        ["require", word, ..] if word.starts_with(['\'', '"']) => Some("/usr/bin/env ruby"),
        ["const" | "let" | "var", _, "=", word, ..] if word.starts_with("require(") => {
            Some("/usr/bin/env node")
        }
        ["\"use" | "'use", ..] => Some("/usr/bin/env node"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_are_no_scripts_are_told_by_their_first_words() {
        let cases: &[(&[u8], &str)] = &[
            (b"#include <stdio.h>\n", "source code, which a compiler makes a program of"),
            (b"// a\npackage main\n", "source code, which a compiler makes a program of"),
            (b"apiVersion: v1\nkind: Pod\n", "YAML, which is data and no program"),
            (b"---\n- hosts: all\n", "YAML, which is data and no program"),
            (b"note: see below\nand more text\n", "a text without #! on its first line"),
            (b"# x\nFROM debian\nRUN true\n", "a Dockerfile"),
            (b"[Unit]\nDescription=x\n", "a unit of systemd's"),
            (b"[Desktop Entry]\n", "a desktop entry"),
            (b"@echo off\r\necho hi\r\n", "a Windows batch file"),
            (
                b"/* GNU ld script */\nGROUP ( x )\n",
                "a linker's script: text that stands for a library",
            ),
            (
                b"f0VMRgIBAQAAAAAAAAAAAAIAtwABAAAAeABAAAAAAABAAAAAAAAAAAAAAAAAAAAA\nAAAA\n",
                "base64, the text form of the real file",
            ),
        ];
        for (bytes, what) in cases {
            assert_eq!(of(bytes).what, *what, "{bytes:?}");
        }
    }

    #[test]
    fn each_kind_is_told_by_its_first_bytes() {
        let pe = |tail: &[u8]| {
            let mut bytes = b"MZ".to_vec();
            bytes.resize(0x40, 0);
            bytes[0x3c] = 0x40;
            [&bytes[..], b"PE\0\0", tail].concat()
        };
        let tar = || [&[b'x'; 257][..], b"ustar\0"].concat();
        let cases: &[(&[u8], &str)] = &[
            (b"", "empty"),
            (&[0; 4096], "nothing but zero bytes, as far as was looked"),
            (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n",
                "a pointer of Git LFS: the file itself was not fetched",
            ),
            (
                b"MZqFpD='\n",
                "an actually portable executable (APE), which no kernel knows by itself",
            ),
            (&pe(b"d\x86"), "a Windows program"),
            (&pe(b"mscoree.dll"), "a Windows program for .NET"),
            (b"MZ\x90", "a program for DOS or Windows"),
            (b"\xcf\xfa\xed\xfe\x0c\0\0\x01", "a macOS program (Mach-O)"),
            (b"\xca\xfe\xba\xbe\0\0\0\x02", "a macOS program (Mach-O)"),
            (b"\xca\xfe\xba\xbe\0\0\0\x41", "a Java class"),
            (b"PK\x03\x04....META-INF/MANIFEST.MF", "a Java archive"),
            (b"PK\x03\x04....tool/bin", "a zip archive"),
            (b"\x1f\x8b\x08", "compressed with gzip"),
            (b"\xfd7zXZ\0", "compressed with xz"),
            (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
            (b"BZh91AY", "compressed with bzip2"),
            (&tar(), "a tar archive"),
            (b"!<arch>\ndebian-binary", "a Debian package"),
            (b"!<arch>\n/   ", "a static library, from which a linker makes programs"),
            (b"\xed\xab\xee\xdb", "an RPM package"),
            (b"\0asm\x01", "WebAssembly"),
            (b"\xcb\x0d\r\n", "compiled Python"),
            (b"\x1bLuaT", "compiled Lua"),
            (b"BC\xc0\xde", "LLVM bitcode, from which a compiler makes programs"),
            (b"\n<!DOCTYPE html>", "an HTML page: a server's answer in place of the file"),
            (b"<html><body>", "an HTML page: a server's answer in place of the file"),
            (
                b"<?xml version=\"1.0\"?><Error><Code>AccessDenied",
                "an XML document, usually a server's answer in place of the file",
            ),
            (
                b"{\n  \"message\": \"Not Found\"}",
                "a JSON document, usually a server's answer in place of the file",
            ),
            (b"Not Found", "a server's answer in place of the file"),
            (b"404: Not Found\n", "a server's answer in place of the file"),
            (b"echo hello\n", "a text without #! on its first line"),
            (b"{ echo hello; }\n", "a text without #! on its first line"),
            (b"caf\xc3", "a text without #! on its first line"),
            (b"SQLite format 3\0", "an SQLite database"),
            (b"\x80\x81\x82", "neither a program nor a script"),
        ];
        for (bytes, what) in cases {
            assert_eq!(of(bytes).what, *what, "{bytes:?}");
        }
    }

    #[test]
    fn a_text_may_say_what_it_is_for() {
        for (name, text, wanted) in [
            ("x", "echo hello\n", Some("/bin/sh")),
            ("x", "set -e\nif [[ $1 = x ]]; then :; fi\n", Some("/bin/bash")),
            ("x.py", "import os\n", Some("/usr/bin/env python3")),
            ("x.sh", "true\n", Some("/bin/sh")),
            ("x", "import os\nprint(1)\n", Some("/usr/bin/env python3")),
            ("x", "import the goods first\n", None),
            ("x.ps1", "Write-Host hi\n", Some("/usr/bin/env pwsh")),
            ("README", "What this is, echoes of it\n", None),
            ("passwd", "root:x:0:0:root:/root:/bin/bash\n", None),
        ] {
            assert_eq!(interpreter(name, text.as_bytes()), wanted, "{text}");
        }
    }
}
