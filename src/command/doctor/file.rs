//! Rows on the file itself: whether it is there, may be executed, and is a program. Pure.

use std::path::Path;

use nix::errno::Errno;

use super::kind;
use super::libraries::Family;
use super::script::{self, BUFFER, Env, Hidden, Script, Wrong, env};
use super::subject::{Content, MAX_DEPTH, Next, Program, Subject};
use crate::arch::{Class, Data};
use crate::check::{Result, Way, advice, command, failure, ok, repair, unknown, warning};
use crate::tree::{Seen, Unseen};

const FETCH: &str = "fetch it again: a copy, a download or an image layer was cut short";
/// `e_type` of a file that a linker makes programs from.
const OBJECT: u16 = 1;
/// Of a program that lies at fixed addresses.
const FIXED: u16 = 2;
/// Of a program that lies anywhere, and of a shared library.
const MOVABLE: u16 = 3;
/// Of a process's memory.
const CORE: u16 = 4;

/// `file`: it is there and is a program.
pub(super) fn file(subject: &Subject<'_>) -> Vec<Result> {
    let shown = subject.shown();
    let seen = match &subject.seen {
        Ok(seen) => seen,
        Err(why) => return unseen(subject, why),
    };
    if let Err(errno) = &seen.start {
        return unknown(format!("what {shown} is cannot be told: {}", errno.desc()));
    }
    match &subject.content {
        Content::Unread => Vec::new(),
        Content::Program(program) => elf(subject, seen, program),
        Content::Damaged(wrong) => failure(
            format!("{shown} is a damaged program: {wrong}"),
            Errno::ENOEXEC.desc(),
            advice(FETCH),
        ),
        // binfmt_misc comes before everything else: Windows programs, archives, odd scripts.
        _ if let Some(entry) = subject.taker => {
            ok(format!("{shown} is no ELF program; the entry {} is registered for it", entry.name))
        }
        Content::Script(..) => Vec::new(),
        Content::Hidden(hidden) => hides(subject, *hidden),
        Content::Other(kind) => other(subject, seen, kind),
    }
}

fn unseen(subject: &Subject<'_>, why: &Unseen) -> Vec<Result> {
    let (shown, root) = (subject.shown(), subject.root());
    let in_root = if subject.place.is_own() { String::new() } else { format!(" in {root}") };
    let effect = why.errno().desc();
    match why {
        Unseen::Other(what) => {
            failure(format!("{shown} is {what}"), effect, advice("name the program itself"))
        }
        Unseen::Dangling { link, to } => {
            let of = if *link == subject.path {
                String::new()
            } else {
                format!("{} of ", link.display())
            };
            let what = match of.is_empty() {
                true => {
                    format!("{shown} is a link to {}, which is not there{in_root}", to.display())
                }
                false => format!(
                    "{of}{shown} is a link to {}, which is not there{in_root}",
                    to.display()
                ),
            };
            failure(what, effect, dangling(subject, to))
        }
        Unseen::System(Errno::ENOENT) => failure(
            format!("{shown} is not there{in_root}"),
            effect,
            advice(not_there(&subject.path)),
        ),
        Unseen::System(Errno::ELOOP) => failure(
            format!(
                "{shown} is a link that leads to itself, or too long a chain of links{in_root}"
            ),
            effect,
            advice("make the link again"),
        ),
        Unseen::System(errno) => failure(
            format!("{shown} cannot be reached{in_root}: {}", errno.desc()),
            effect,
            advice(format!("check each directory of it: namei -l {}", subject.here())),
        ),
    }
}

/// Names of images are given for programs.
fn not_there(path: &Path) -> String {
    let name = path.display().to_string();
    let plain = !name.contains(['/', ' ']);
    let message = name.contains(' ');
    if path.is_relative() && !message && (name.contains(':') || plain) {
        let name = crate::tree::quoted(&name);
        let or = if plain { "PATH leads to no such command; " } else { "" };
        return format!(
            "{or}if it is the name of an image: docker save -o FILE {name} and binfmtctl doctor --image FILE look into it"
        );
    }
    if message {
        return "check the path; if it is a message, binfmtctl does not know it: `binfmtctl doctor` looks at the machine".to_owned();
    }
    "check the path; with --root DIR if it belongs to another root".to_owned()
}

/// An absolute link of an unpacked root leads out of it, unless one says which root that is.
fn dangling(subject: &Subject<'_>, to: &Path) -> Way {
    let inside = |dir: &&Path| {
        let inside = dir.join(to.strip_prefix("/").unwrap_or(to));
        **dir != *"/" && **dir != *"" && to.is_absolute() && subject.place.has(&inside)
    };
    // The outermost: /usr of a root has /bin, too.
    match subject.path.ancestors().skip(1).filter(inside).last() {
        Some(root) => {
            let path =
                Path::new("/").join(subject.path.strip_prefix(root).unwrap_or(&subject.path));
            let place = subject.place;
            advice(format!(
                "it is there in the root {}: binfmtctl doctor --root {} {}",
                root.display(),
                place.outside(root),
                crate::tree::quoted(&path.display().to_string()),
            ))
        }
        None => advice(format!(
            "install what has {}, or make the link again; with --root DIR if it belongs to another root",
            to.display()
        )),
    }
}

fn other(subject: &Subject<'_>, seen: &Seen, kind: &kind::Kind) -> Vec<Result> {
    let shown = subject.shown();
    let what = format!("{shown} is {}", kind.what);
    let effect = "Exec format error; a shell reads it as a script of its own";
    let start = seen.start.as_deref().unwrap_or_default();
    let name = subject.path.file_name().unwrap_or_default().to_string_lossy();
    let text = kind.what.starts_with("a text");
    let there = |line: &&str| {
        let mut words = line.split(' ');
        let there = subject.place.has(Path::new(words.next().unwrap_or_default()));
        let by_env = line.starts_with("/usr/bin/env ");
        there && (!by_env || words.all(|word| subject.place.command(Path::new(word)).is_some()))
    };
    match kind::interpreter(&name, start).filter(|_| text) {
        Some(interpreter) if there(&interpreter) => failure(
            what,
            effect,
            repair(subject.edited(&format!(
                "sed -i{} -e '1i #!{interpreter}' {}",
                without_returns(start),
                subject.here()
            )))
            .and(format!("if it is a script for {interpreter}, as it seems; else {}", kind.advice)),
        ),
        Some(interpreter) => failure(
            what,
            effect,
            advice(format!(
                "it seems to be a script for {interpreter}, which is not here: install that, and put #!{interpreter} on the first line"
            )),
        ),
        None => failure(what, effect, advice(kind.advice)),
    }
}

fn hides(subject: &Subject<'_>, hidden: Hidden) -> Vec<Result> {
    let (shown, here) = (subject.shown(), subject.here());
    let start = subject.start();
    let returns = without_returns(start);
    let (_, line) = script::meant(start).unwrap_or((hidden, String::new()));
    let (what, command) = match hidden {
        Hidden::Misspelt => (
            "has a misspelt first line, which has to begin with #!",
            format!("sed -i{returns} -e '1s|.*|{line}|' {here}"),
        ),
        Hidden::Late => (
            "has its #! below other lines, and it has to come first",
            format!("sed -i{returns} -e '1i {line}' {here}"),
        ),
        Hidden::ByteOrderMark => (
            "begins with a byte order mark, which hides its #! from the kernel",
            format!("sed -i -e '1s/^\\xef\\xbb\\xbf//'{returns} {here}"),
        ),
        Hidden::Space => (
            "has blanks or empty lines before #!, which has to come first",
            format!("sed -i -e '/[^[:space:]]/,$!d' -e '1s/^[[:space:]]*//'{returns} {here}"),
        ),
        Hidden::Utf16 | Hidden::Utf32 => (
            "is a text in UTF-16 or UTF-32, which the kernel and shells do not read",
            format!(
                "t=$(mktemp) && iconv -f {} -t UTF-8 {here} | sed 's/\\r$//' > $t && cat $t > {here} && rm $t",
                encoding(start)
            ),
        ),
    };
    failure(format!("{shown} {what}"), Errno::ENOEXEC.desc(), repair(subject.edited(&command)))
}

/// What takes the line ends of Windows away, where a text has them.
fn without_returns(start: &[u8]) -> &'static str {
    if start.windows(2).any(|pair| pair == b"\r\n") { " -e 's/\\r$//'" } else { "" }
}

/// As iconv calls it: without a mark the byte order has to be named.
fn encoding(start: &[u8]) -> &'static str {
    match start {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => "UTF-32",
        [b'#', 0, ..] => "UTF-16LE",
        [0, b'#', ..] => "UTF-16BE",
        _ => "UTF-16",
    }
}

fn elf(subject: &Subject<'_>, seen: &Seen, program: &Program<'_>) -> Vec<Result> {
    let shown = subject.shown();
    let arch =
        program.arch.map_or_else(|| "an unknown architecture".to_owned(), ToString::to_string);
    if let Some(how) = program.as_text {
        return failure(
            format!("{shown} is damaged: something took it for a text and {how}"),
            "it crashes, or does not start: Exec format error",
            advice("fetch it again as binary data; in git, `FILE binary` in .gitattributes"),
        );
    }
    if let Some((kind, effect, way)) = no_program(subject, program) {
        return failure(format!("{shown} is {kind} ({arch})"), effect, advice(way));
    }
    if let Some((system, way)) = foreign_system(program) {
        let what = format!("{shown} is a program for {system}, not for Linux ({arch})");
        return failure(what, "it does not start, or ends at once", advice(way));
    }
    if program.linking.as_ref().is_some_and(|linking| linking.loads_nothing) {
        return failure(
            format!("{shown} is damaged: it names no part that is to be loaded into memory"),
            "it crashes at once: signal 11, SIGSEGV",
            advice("fetch or build it again"),
        );
    }
    let needs = program.elf.needs;
    if seen.size < needs {
        return failure(
            format!("{shown} is cut short: it has {} bytes of at least {needs}", seen.size),
            "bus error (signal 7), or: Incomplete read of file header",
            advice(FETCH),
        );
    }
    let big_power = program.elf.machine == 21 && program.elf.data == Data::Big;
    if program.linking.as_ref().is_some_and(|linking| linking.starts_with_nothing) && !big_power {
        return failure(
            format!("{shown} is damaged: there are only zero bytes where its code begins"),
            "it crashes at once: signal 11 or 4",
            advice("fetch or build it again: its contents were lost, as in a crash of the machine"),
        );
    }
    ok(format!("{shown} is a program for {}", identity(program)))
}

/// Whether an ELF file is one that can be started.
pub(super) fn is_program(subject: &Subject<'_>, program: &Program<'_>) -> bool {
    no_program(subject, program).is_none()
}

/// `arm64, dynamically linked (/lib/ld-linux-aarch64.so.1)`.
fn identity(program: &Program<'_>) -> String {
    let elf = &program.elf;
    let mut text = match program.arch {
        Some(arch) => arch.to_string(),
        None => {
            let bits = if elf.class == Class::Elf64 { 64 } else { 32 };
            let order = if elf.data == Data::Little { "little" } else { "big" };
            format!(
                "an unknown architecture ({bits} bits, {order}-endian, machine {})",
                elf.machine
            )
        }
    };
    if ![0, 3].contains(&elf.osabi) {
        text.push_str(&format!(", OS ABI {}", elf.osabi));
    }
    if elf.is_appimage() {
        text.push_str(&format!(", AppImage type {}", elf.padding[2]));
    } else if elf.padding[0] != 0 {
        text.push_str(&format!(", ABI version {}", elf.padding[0]));
    }
    text.push_str(&match &program.loader {
        None => ", statically linked".to_owned(),
        Some(path) if path.as_os_str().is_empty() => ", dynamically linked".to_owned(),
        Some(path) => format!(", dynamically linked ({})", path.display()),
    });
    text
}

/// Why an ELF file is no program: what it is, what comes of starting it, and what to do.
fn no_program(
    subject: &Subject<'_>,
    program: &Program<'_>,
) -> Option<(&'static str, &'static str, &'static str)> {
    const NAME_IT: &str = "name the program itself";
    const CRASH: &str = "it crashes at once: signal 11, SIGSEGV";
    match program.elf.kind {
        OBJECT => {
            let what = "an object file, from which a linker makes programs";
            return Some((what, Errno::ENOEXEC.desc(), NAME_IT));
        }
        CORE => return Some(("a core dump", Errno::ENOEXEC.desc(), NAME_IT)),
        FIXED | MOVABLE => {}
        _ => {
            return Some(("an ELF file, but of no kind that runs", Errno::ENOEXEC.desc(), NAME_IT));
        }
    }
    let linking = program.linking.as_ref()?;
    if linking.debug_only {
        let what = "only what debuggers read of a program: its code was taken out";
        return Some((what, CRASH, "install the package with the program itself"));
    }
    if program.loader.is_some() {
        return None;
    }
    // glibc's and musl's loaders are libraries that can be started.
    let loads =
        Family::of(&subject.path).is_some() || linking.soname.as_deref().is_some_and(is_loader);
    let library = linking.soname.is_some() || linking.entry == 0 || !linking.needed.is_empty();
    match program.elf.kind {
        _ if loads => None,
        MOVABLE if library && !linking.pie => {
            Some(("a shared library, not a program", CRASH, "name the program that uses it"))
        }
        _ if !linking.needed.is_empty() => Some((
            "a program that needs shared libraries, but names no dynamic loader",
            CRASH,
            "it was linked or stripped wrongly: build or fetch it again",
        )),
        _ => None,
    }
}

fn is_loader(soname: &str) -> bool {
    Family::of(Path::new(soname)).is_some() || soname.starts_with("libc.")
}

/// The system that a program is for, if that is another one.
pub(super) fn foreign_system(program: &Program<'_>) -> Option<(&'static str, &'static str)> {
    const BUILD: &str = "use the build for Linux";
    const ANDROID: &str =
        "it runs where Android's loader and libraries are: use the build for Linux";
    let loader = program.loader.as_deref().and_then(Path::to_str).unwrap_or_default();
    let by_loader = [
        ("/system/bin/linker", "Android", ANDROID),
        ("/libexec/ld-elf", "FreeBSD", BUILD),
        ("/usr/libexec/ld.elf_so", "NetBSD", BUILD),
        ("/usr/libexec/ld.so", "OpenBSD", BUILD),
        ("/usr/libexec/ld-elf.so.2", "DragonFly BSD", BUILD),
        ("/system/runtime_loader", "Haiku", BUILD),
        ("/lib/amd64/ld.so.1", "Solaris", BUILD),
        ("/usr/lib/amd64/ld.so.1", "Solaris", BUILD),
        ("/usr/lib/ld.so.1", "Solaris", BUILD),
    ];
    if let Some((_, system, way)) = by_loader.iter().find(|(start, ..)| loader.starts_with(start)) {
        return Some((system, way));
    }
    // A program of Linux's may have notes of others, but not their OS ABI.
    let notes = program.linking.as_ref().map(|linking| &linking.notes);
    let noted = ["FreeBSD", "NetBSD", "OpenBSD", "DragonFly"]
        .into_iter()
        .find(|name| notes.is_some_and(|notes| notes.contains(*name)) && loader.is_empty());
    let by_abi = match program.elf.osabi {
        1 => Some("HP-UX"),
        2 => Some("NetBSD"),
        4 => Some("GNU/Hurd"),
        6 => Some("Solaris"),
        7 => Some("AIX"),
        8 => Some("IRIX"),
        9 => Some("FreeBSD"),
        10 => Some("Tru64"),
        12 => Some("OpenBSD"),
        13 => Some("OpenVMS"),
        _ => None,
    };
    by_abi.or(noted).map(|system| (system, BUILD))
}

/// `file-noexec`: its file system allows execution.
pub(super) fn noexec(subject: &Subject<'_>) -> Vec<Result> {
    match &subject.seen {
        Ok(seen) if seen.noexec => failure(
            format!("{} is on a file system mounted noexec", subject.shown()),
            Errno::EACCES.desc(),
            repair(format!(
                "mount -o remount,exec \"$(findmnt -no TARGET -T {})\"",
                subject.here()
            )),
        ),
        _ => Vec::new(),
    }
}

/// `file-permission`: it may be executed.
pub(super) fn permission(subject: &Subject<'_>) -> Vec<Result> {
    let (shown, here) = (subject.shown(), subject.here());
    match &subject.seen {
        // One thing at a time: there permissions do not count.
        Ok(seen) if seen.noexec || seen.executable => Vec::new(),
        Ok(seen) => {
            let what = match seen.mode & 0o111 {
                0 => format!("{shown} is not executable"),
                _ => format!("{shown} may not be executed by this user"),
            };
            let mode = if seen.mode & 0o111 == 0 { "+x" } else { "a+x" };
            failure(
                what,
                Errno::EACCES.desc(),
                repair(subject.edited(&format!("chmod {mode} {here}"))),
            )
        }
        Err(_) => Vec::new(),
    }
}

/// `file-setuid`: as a setuid program it gets its owner's rights.
pub(super) fn setuid(subject: &Subject<'_>) -> Vec<Result> {
    let Ok(seen) = &subject.seen else { return Vec::new() };
    if seen.mode & 0o6000 == 0 {
        return Vec::new();
    }
    if let Content::Script(..) = &subject.content {
        return warning(
            format!("{} is setuid, which the kernel ignores for scripts", subject.shown()),
            "it runs with the rights of who starts it",
            advice("start it through sudo, or make a small program of it"),
        );
    }
    if subject.program().is_none() {
        return Vec::new();
    }
    let around = subject.state.surroundings.as_ref();
    let (why, way) = if seen.nosuid {
        let command =
            format!("mount -o remount,suid \"$(findmnt -no TARGET -T {})\"", subject.here());
        ("its file system is mounted nosuid".to_owned(), repair(command))
    } else if around.is_some_and(|around| around.no_new_privs == Ok(true)) {
        ("no_new_privs is set here".to_owned(), advice(crate::check::NO_NEW_PRIVS))
    } else if let Some(entry) = subject.taker.filter(|entry| !entry.flags.has('C')) {
        let arch = entry.arches().next().map_or("all", |arch| arch.oci);
        (
            format!("{} lacks flag C", entry.name),
            command(subject.state, format!("--install {arch} --replace")),
        )
    } else {
        return Vec::new();
    };
    warning(
        format!("{} is setuid, but does not get its owner's rights: {why}", subject.shown()),
        "sudo, for one: effective uid is not 0",
        way,
    )
}

/// `file-script`: the script's interpreter is there.
pub(super) fn script(subject: &Subject<'_>) -> Vec<Result> {
    let mut found = Vec::new();
    if let Content::Script(script, next) = &subject.content
        && subject.taker.is_none()
    {
        found = first_line(subject, script, next);
    }
    if subject.too_deep() && found.iter().all(|result| result.level == crate::check::Level::Ok) {
        let what = format!(
            "{} is {} steps from the first script: the kernel goes {MAX_DEPTH} from file to file, and an emulator is a step",
            subject.shown(),
            subject.depth
        );
        let way = advice("name a program, not a script, on the first line of the first one");
        found.extend(failure(what, Errno::ELOOP.desc(), way));
    }
    found
}

/// What to do where a script's interpreter is not.
fn no_interpreter(subject: &Subject<'_>, script: &Script, next: &Next) -> Way {
    let plain = |path: &Path| {
        let text = path.to_string_lossy();
        text.chars()
            .all(|c| c.is_ascii_alphanumeric() || "/._+-".contains(c))
            .then(|| text.into_owned())
    };
    if let Some(path) = &next.instead
        && let (Some(from), Some(to)) = (plain(&script.interpreter), plain(path))
    {
        let sed = format!("sed -i '1s|{from}|{to}|' {}", subject.here());
        return repair(subject.edited(&sed)).and("or install the interpreter that it names");
    }
    let name = script.interpreter.file_name().unwrap_or_default().to_string_lossy();
    if script.is_of_environment() {
        return advice(
            "it belongs to a virtual environment of Python's that was moved or removed: make it again (python3 -m venv --clear DIR) and \
            install into it again",
        );
    }
    let there = |path: &str| subject.place.has(Path::new(path));
    let tool = if there("/etc/apk") {
        "apk add"
    } else if there("/var/lib/dpkg") {
        "apt-get install"
    } else if there("/var/lib/rpm") || there("/usr/lib/sysimage/rpm") {
        "dnf install"
    } else {
        return advice(format!("install {name} there, or correct the first line"));
    };
    match package(&name) {
        Some(package) => {
            advice(format!("install it there: `{tool} {package}`, or correct the first line"))
        }
        None => advice(format!("install {name} there, or correct the first line")),
    }
}

/// The package that distributions have an interpreter in, where all call it alike.
fn package(interpreter: &str) -> Option<&'static str> {
    const ALIKE: [&str; 10] =
        ["bash", "perl", "python3", "ruby", "zsh", "fish", "php", "ksh", "tcsh", "gawk"];
    match interpreter {
        "node" => Some("nodejs"),
        "env" => Some("coreutils"),
        "awk" => Some("gawk"),
        _ => ALIKE.into_iter().find(|name| *name == interpreter),
    }
}

/// It is looked for in the directory where the script is started.
fn relative(subject: &Subject<'_>, script: &Script) -> Vec<Result> {
    let interpreter = script.interpreter.display();
    let text = interpreter.to_string();
    let whole = Path::new("/").join(&script.interpreter);
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._+-".contains(c));
    let way = match plain && subject.place.has(&whole) {
        true => repair(subject.edited(&format!(
            "sed -i '1s|{text}|{}|' {}",
            whole.display(),
            subject.here()
        ))),
        false => advice("write its whole path on the first line"),
    };
    failure(
        format!(
            "its interpreter {interpreter} is no whole path: it is looked for in the directory where the script is started"
        ),
        "No such file or directory, though the script exists",
        way,
    )
}

/// Its first line ends as on Windows.
fn carriage_return(subject: &Subject<'_>, script: &Script, next: &Next) -> Vec<Result> {
    let shown = subject.shown();
    let way = repair(subject.edited(&format!("sed -i 's/\\r$//' {}", subject.here())));
    // `env -S` takes it for a blank; what comes after the first line is another matter.
    if splits(script) && !next.busybox {
        return warning(
            format!("lines of {shown} end as on Windows; env drops that on the first one only"),
            "its interpreter may read the carriage returns as parts of words",
            way,
        );
    }
    let part = if script.argument.is_some() { "argument" } else { "name" };
    failure(
        format!(
            "the first line of {shown} ends in a carriage return, which becomes part of the interpreter's {part}"
        ),
        Errno::ENOENT.desc(),
        way,
    )
}

/// Whether its interpreter is an `env` that takes its argument apart.
fn splits(script: &Script) -> bool {
    script.interpreter.ends_with("env")
        && script.argument.as_deref().is_some_and(|argument| argument.starts_with("-S"))
}

fn first_line(subject: &Subject<'_>, script: &Script, next: &Next) -> Vec<Result> {
    let (shown, here) = (subject.shown(), subject.here());
    let interpreter = script.interpreter.display();
    let edit = |sed: &str| repair(subject.edited(&format!("sed -i '{sed}' {here}")));
    match script.wrong {
        Some(Wrong::CarriageReturn) => return carriage_return(subject, script, next),
        Some(Wrong::NoInterpreter) => {
            return failure(
                format!("the first line of {shown} names no interpreter"),
                Errno::ENOEXEC.desc(),
                edit("1s|.*|#!/bin/sh|").and("if it is a shell script"),
            );
        }
        Some(Wrong::TooLong) => {
            return failure(
                format!(
                    "the first line of {shown} is too long: the kernel reads {BUFFER} bytes of it"
                ),
                Errno::ENOEXEC.desc(),
                advice(
                    "name a link to the interpreter at a shorter path, or start it through /usr/bin/env",
                ),
            );
        }
        Some(Wrong::ArgumentCut) | None => {}
    }
    if let Some(c) = script::invisible(script) {
        let bytes: String = c.to_string().bytes().map(|byte| format!("\\x{byte:02x}")).collect();
        let blank = if ['\u{a0}', '\u{3000}'].contains(&c) { " " } else { "" };
        return failure(
            format!(
                "the first line of {shown} has an invisible character (U+{:04X}) in it, which becomes part of a name",
                u32::from(c)
            ),
            Errno::ENOENT.desc(),
            edit(&format!("1s/{bytes}/{blank}/g")),
        );
    }
    let mut found = ok(format!("{shown} is a script for {interpreter}"));
    if script.wrong == Some(Wrong::ArgumentCut) {
        found.extend(warning(
            format!("the first line of {shown} is cut: the kernel reads {BUFFER} bytes of it"),
            format!("the last options for {interpreter} are lost"),
            advice("put them into the script, as `set` does for shells"),
        ));
    }
    if script.interpreter.is_relative() {
        found.extend(relative(subject, script));
        return found;
    }
    if !next.there {
        found.extend(failure(
            format!("its interpreter {interpreter} is not in {}", subject.root()),
            "No such file or directory, though the script exists",
            no_interpreter(subject, script, next),
        ));
    }
    found.extend(through_env(subject, script, next));
    found
}

fn through_env(subject: &Subject<'_>, script: &Script, next: &Next) -> Vec<Result> {
    if let (Some((command, None)), root) = (&next.command, subject.root()) {
        let newer = format!("{command}3");
        let way = match subject.place.command(Path::new(&newer)) {
            Some(_) if ["python", "pip"].contains(&command.as_str()) => {
                let sed = format!("sed -i '1s|{command}|{newer}|' {}", subject.here());
                repair(subject.edited(&sed)).and(format!("or install {command} there"))
            }
            _ => advice(format!("install {command} there, or put its directory into PATH")),
        };
        return failure(
            format!("env does not find {command} in {root}"),
            format!("env: '{command}': No such file or directory"),
            way,
        );
    }
    let argument = script.argument.as_deref().unwrap_or_default();
    if next.busybox {
        return failure(
            "its env is busybox's, which does not know -S".to_owned(),
            "env: unrecognized option: S, or: invalid option",
            advice(
                "install GNU env (in Alpine: apk add coreutils-env), or name the interpreter itself on the first line",
            ),
        );
    }
    let by_env = script.interpreter.file_name() == Some(std::ffi::OsStr::new("env"));
    match env(script.argument.as_deref()) {
        Env::OneWord(_) if by_env => failure(
            format!("the kernel hands \"{argument}\" to env as one word, as the name of a command"),
            format!("env: '{argument}': No such file or directory"),
            repair(subject.edited(&format!("sed -i '1s|env |env -S |' {}", subject.here()))),
        ),
        _ => Vec::new(),
    }
}
