//! Why one program does, or does not, run: its file, its handler, its dynamic loader or interpreter.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::finding;
use super::handler::{handler, taker};
use super::place::{Place, Seen, Unseen};
use super::run::{End, Ran};
use super::story::Story;
use crate::arch::{Arch, Class, Data};
use crate::check::{Finding, Level, Way, advice, repair};
use crate::elf::{self, Elf, Loader};
use crate::entry::Entry;
use crate::state::State;

/// How many interpreters of scripts are followed; the kernel gives up after five as well.
pub(super) const MAX_SCRIPTS: usize = 5;
/// Longest path that the kernel takes, and so longest loader's.
const MAX_PATH: usize = 4096;

const FETCH: &str = "fetch it again: a copy, a download or an image layer was cut short";

/// What `--explain` tells of a program's findings, in the order of `exec`.
pub(super) const STORIES: &[Story] = &[
    Story {
        id: "file",
        about: "the program's file is there and is a program",
        story: "The kernel starts ELF programs, scripts that begin with #!, and what an entry of binfmt_misc takes. \
            Of anything else it says \"exec format error\"; shells then try to read it as a script of their own, \
            which ends in \"syntax error\" or \"not found\". A file that was cut short has a whole header at times: \
            then it ends with a bus error, or QEMU says \"Incomplete read of file header\".",
    },
    Story {
        id: "file-noexec",
        about: "its file system allows execution",
        story: "Nothing is executed from a file system mounted noexec: \"permission denied\", also for root.",
    },
    Story {
        id: "file-permission",
        about: "it may be executed",
        story: "Without execute permission the kernel says \"permission denied\". A program that may be executed but not \
            read needs an entry with flag O, or the emulator says \"Error while loading\".",
    },
    Story {
        id: "file-setuid",
        about: "as a setuid program it gets its owner's rights",
        story: "A setuid program such as sudo says \"effective uid is not 0\" where its file system is mounted nosuid, \
            where no_new_privs is set, and, if it is emulated, where its entry lacks flag C: then the emulator runs \
            with the rights of the caller.",
    },
    Story {
        id: "file-script",
        about: "the script's interpreter is there",
        story: "\"No such file or directory\" for a script that exists is about the interpreter on its first line. A line \
            end from Windows becomes part of the interpreter's name; a byte order mark before #! hides it. The \
            kernel hands all that follows the interpreter over as one argument: `env` needs -S to take it apart.",
    },
    Story {
        id: "file-handler",
        about: "the CPU or an entry runs it",
        story: "The newest enabled entry whose magic and mask fit the file's first bytes takes it; then the CPU is asked. \
            Where nobody takes it, the kernel says \"exec format error\". An entry may miss it by a few bytes: \
            AppImages carry theirs where masks demand zeros.",
    },
    Story {
        id: "file-loader",
        about: "its dynamic loader is in its root",
        story: "A dynamically linked program names its loader, such as /lib/ld-linux-aarch64.so.1. If that is not in the \
            program's root the kernel says \"no such file or directory\", and QEMU \"Could not open\": mostly because \
            the image is of another architecture than the program, or has another libc. On a host, foreign libraries \
            come from packages of that architecture; QEMU_LD_PREFIX names another place for them.",
    },
    Story {
        id: "file-run",
        about: "it ran when asked to",
        story: "`--run` starts the program, in its root, and tells how that ended. What it prints goes to standard error.",
    },
];

/// Looks at a program and everything it needs.
pub(super) fn diagnose(place: &Place, path: &Path, state: &State, scripts: usize) -> Vec<Finding> {
    let shown = path.display();
    let seen = match place.look(path) {
        Ok(seen) => seen,
        Err(why) => return vec![unseen(place, path, &why)],
    };
    let mut findings: Vec<_> = permissions(place, path, &seen).into_iter().collect();
    let start = match &seen.start {
        Ok(start) => start,
        Err(errno) => {
            let what = format!("what {shown} is cannot be told: {}", errno.desc());
            findings.push(finding("file", Level::Unknown, what, "", Way::default()));
            return findings;
        }
    };
    let broken =
        |what: String, effect: &str, way: Way| finding("file", Level::Failure, what, effect, way);
    let taker = taker(state, path, start);
    match elf::File::parse(start) {
        elf::File::Elf(elf) => {
            findings.extend(program(place, path, &seen, &elf, start, taker, state));
        }
        elf::File::Damaged(wrong) => findings.push(broken(
            format!("{shown} is a damaged program: {wrong}"),
            Errno::ENOEXEC.desc(),
            advice(FETCH),
        )),
        // binfmt_misc comes before everything else: Windows programs, archives, odd scripts.
        _ if taker.is_some() => {
            let name = taker.map_or("", |entry| entry.name.as_str());
            let what = format!("{shown} is no ELF program; {name} takes it");
            findings.push(finding("file", Level::Ok, what, "", Way::default()));
        }
        elf::File::Empty => {
            findings.push(broken(
                format!("{shown} is empty"),
                Errno::ENOEXEC.desc(),
                advice(FETCH),
            ));
        }
        elf::File::Windows => findings.push(broken(
            format!("{shown} is a Windows program"),
            Errno::ENOEXEC.desc(),
            advice("use a Linux build of it, or install Wine"),
        )),
        elf::File::Other if start.starts_with(b"\xef\xbb\xbf#!") => findings.push(broken(
            format!("{shown} begins with a byte order mark, which hides its #! from the kernel"),
            Errno::ENOEXEC.desc(),
            repair(format!("sed -i '1s/^\\xef\\xbb\\xbf//' {}", place.outside(path))),
        )),
        elf::File::Other => findings.push(broken(
            format!("{shown} is neither a program nor a script that begins with #!"),
            "Exec format error, except from a shell",
            advice("if it is a shell script, its first line has to be #!/bin/sh"),
        )),
        elf::File::Script(line) => findings.extend(script(place, path, line, state, scripts)),
    }
    findings
}

fn unseen(place: &Place, path: &Path, why: &Unseen) -> Finding {
    let (shown, root) = (path.display(), place.root().display());
    let in_root = if place.is_own() { String::new() } else { format!(" in {root}") };
    let (what, effect, way) = match why {
        Unseen::Other(what) => {
            (format!("{shown} is {what}"), Errno::EACCES.desc(), advice("name the program itself"))
        }
        Unseen::Dangling => (
            format!("{shown} is a link to something that is not there{in_root}"),
            Errno::ENOENT.desc(),
            advice("install what it leads to; with --root DIR if it belongs to another root"),
        ),
        Unseen::System(Errno::ENOENT) => (
            format!("{shown} is not there{in_root}"),
            Errno::ENOENT.desc(),
            advice("check the path; with --root DIR if it belongs to another root"),
        ),
        Unseen::System(errno) => (
            format!("{shown} cannot be reached{in_root}: {}", errno.desc()),
            errno.desc(),
            advice(format!("check each directory of it: namei -l {}", place.outside(path))),
        ),
    };
    finding("file", Level::Failure, what, effect, way)
}

fn permissions(place: &Place, path: &Path, seen: &Seen) -> Option<Finding> {
    let shown = path.display();
    let here = place.outside(path);
    let failure = |id, what: String, way: Way| {
        Some(finding(id, Level::Failure, what, Errno::EACCES.desc(), way))
    };
    if seen.noexec {
        return failure(
            "file-noexec",
            format!("{shown} is on a file system mounted noexec"),
            repair(format!("mount -o remount,exec \"$(findmnt -no TARGET -T {here})\"")),
        );
    }
    if seen.mode & 0o111 == 0 {
        return failure(
            "file-permission",
            format!("{shown} is not executable"),
            repair(format!("chmod +x {here}")),
        );
    }
    if !seen.executable {
        return failure(
            "file-permission",
            format!("{shown} may not be executed by this user"),
            repair(format!("chmod a+x {here}")).and("or become its owner"),
        );
    }
    None
}

fn script(place: &Place, path: &Path, line: &str, state: &State, scripts: usize) -> Vec<Finding> {
    const ID: &str = "file-script";
    let shown = path.display();
    let failure =
        |what: String, effect: &str, way: Way| vec![finding(ID, Level::Failure, what, effect, way)];
    if line.ends_with('\r') {
        return failure(
            format!(
                "the first line of {shown} ends in a carriage return, which becomes part of the interpreter's name"
            ),
            Errno::ENOENT.desc(),
            repair(format!("sed -i 's/\\r$//' {}", place.outside(path))),
        );
    }
    let (interpreter, argument) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    if interpreter.is_empty() {
        return failure(
            format!("the first line of {shown} names no interpreter"),
            Errno::ENOEXEC.desc(),
            repair(format!("sed -i '1s|.*|#!/bin/sh|' {}", place.outside(path))),
        );
    }
    let what = format!("{shown} is a script for {interpreter}");
    let mut findings = vec![finding(ID, Level::Ok, what, "", Way::default())];
    if !place.has(Path::new(interpreter)) {
        findings.extend(failure(
            format!("its interpreter {interpreter} is not in {}", place.root().display()),
            "No such file or directory, though the script exists",
            advice("install the interpreter there, or correct the first line"),
        ));
        return findings;
    }
    if scripts == 0 {
        findings.extend(failure(
            "its interpreter is a script, whose interpreter is a script, and so on".to_owned(),
            Errno::ELOOP.desc(),
            advice("name a program on the first line"),
        ));
        return findings;
    }
    findings.extend(diagnose(place, Path::new(interpreter), state, scripts - 1));
    if Path::new(interpreter).file_name() == Some(OsStr::new("env")) {
        findings.extend(env(place, argument.trim(), state, scripts - 1));
    }
    findings
}

/// What `#!/usr/bin/env …` leads to.
fn env(place: &Place, argument: &str, state: &State, scripts: usize) -> Vec<Finding> {
    let failure = |what: String, effect: String, way: Way| {
        vec![finding("file-script", Level::Failure, what, &effect, way)]
    };
    let split = argument.strip_prefix("-S").or_else(|| argument.strip_prefix("--split-string="));
    let command = match split {
        // Assignments come before the command.
        Some(words) => words.split_whitespace().find(|word| !word.contains('=')),
        None if argument.starts_with('-') || argument.contains('=') => None,
        None if argument.contains([' ', '\t']) => {
            return failure(
                format!(
                    "the kernel hands \"{argument}\" to env as one word, as the name of a command"
                ),
                format!("env: '{argument}': No such file or directory"),
                advice(format!("write #!/usr/bin/env -S {argument} on its first line")),
            );
        }
        None => Some(argument).filter(|argument| !argument.is_empty()),
    };
    // Other options than -S: what they lead to is env's affair.
    let Some(command) = command.filter(|command| !command.starts_with('-')) else {
        return Vec::new();
    };
    match Path::new(command)
        .is_absolute()
        .then(|| command.into())
        .or_else(|| place.command(Path::new(command)))
    {
        Some(path) => diagnose(place, &path, state, scripts),
        None => failure(
            format!("env does not find {command} in {}", place.root().display()),
            format!("env: '{command}': No such file or directory"),
            advice(format!("install {command} there")),
        ),
    }
}

fn program(
    place: &Place,
    path: &Path,
    seen: &Seen,
    elf: &Elf<'_>,
    start: &[u8],
    taker: Option<&Entry>,
    state: &State,
) -> Vec<Finding> {
    let shown = path.display();
    let arch = Arch::of_header(start).or_else(|| elf.arch());
    let for_arch =
        arch.map_or_else(|| "an architecture nobody here knows".to_owned(), ToString::to_string);
    let loader = match elf.loader {
        Loader::None => None,
        Loader::Path(path) => Some(path.as_bytes().to_vec()),
        Loader::Beyond { at, len } => Some(seen.read(at, len, MAX_PATH).unwrap_or_default()),
    };
    let loader = loader.map(|mut path| {
        path.truncate(path.iter().position(|byte| *byte == 0).unwrap_or(path.len()));
        path
    });
    let loader = loader.as_deref().map(|path| Path::new(OsStr::from_bytes(path)));
    let what = format!("{shown} is a program for {for_arch}: {}", identity(elf, loader));

    let mut findings = Vec::new();
    let broken =
        |what: String, effect: &str, way: Way| finding("file", Level::Failure, what, effect, way);
    let no_program = match elf.kind {
        1 => Some("an object file, from which a linker makes programs"),
        4 => Some("a core dump"),
        2 | 3 => None,
        _ => Some("an ELF file, but of no kind that runs"),
    };
    if let Some(kind) = no_program {
        let what = format!("{shown} is {kind} ({for_arch})");
        return vec![broken(what, Errno::ENOEXEC.desc(), advice("name the program itself"))];
    }
    if seen.size < elf.needs {
        findings.push(broken(
            format!("{shown} is cut short: it has {} bytes of at least {}", seen.size, elf.needs),
            "bus error (signal 7), or: Incomplete read of file header",
            advice(FETCH),
        ));
    } else {
        findings.push(finding("file", Level::Ok, what, "", Way::default()));
    }
    findings.push(handler(place, elf, arch, taker, start, state));
    findings.extend(loader.and_then(|loader| missing_loader(place, loader, elf, arch)));
    findings.extend(setuid(place, path, seen, taker, state));
    findings
}

/// `64 bits, little-endian, machine 183, ABI version 1, statically linked`.
fn identity(elf: &Elf<'_>, loader: Option<&Path>) -> String {
    let bits = if elf.class == Class::Elf64 { 64 } else { 32 };
    let order = if elf.data == Data::Little { "little" } else { "big" };
    let mut text = format!("{bits} bits, {order}-endian, machine {}", elf.machine);
    if elf.osabi != 0 {
        text.push_str(&format!(", OS ABI {}", elf.osabi));
    }
    if elf.padding[0] != 0 && !elf.is_appimage() {
        text.push_str(&format!(", ABI version {}", elf.padding[0]));
    }
    if elf.is_appimage() {
        text.push_str(&format!(", AppImage type {}", elf.padding[2]));
    }
    text.push_str(&match loader {
        None => ", statically linked".to_owned(),
        Some(path) if path.as_os_str().is_empty() => ", dynamically linked".to_owned(),
        Some(path) => format!(", dynamically linked, by {}", path.display()),
    });
    text
}

fn missing_loader(
    place: &Place,
    loader: &Path,
    elf: &Elf<'_>,
    arch: Option<&Arch>,
) -> Option<Finding> {
    if loader.as_os_str().is_empty() {
        return None;
    }
    let (shown, root) = (loader.display(), place.root().display());
    let platform = arch.map(|arch| arch.platforms().swap_remove(0));
    let way = advice(format!(
        "start it in an image of its own architecture{}, or name its root with --root DIR",
        platform.map_or(String::new(), |name| format!(": docker run --platform {name}"))
    ));
    let failure = |what: String, effect: &str| {
        Some(finding("file-loader", Level::Failure, what, effect, way.clone()))
    };
    let seen = match place.look(loader) {
        Ok(seen) => seen,
        Err(_) => {
            return failure(
                format!("its dynamic loader {shown} is not in {root}"),
                "No such file or directory, though the program exists; or: Could not open",
            );
        }
    };
    let start = seen.start.ok()?;
    let same = match elf::File::parse(&start) {
        elf::File::Elf(other) => {
            (other.class, other.data, other.machine) == (elf.class, elf.data, elf.machine)
        }
        _ => false,
    };
    if same {
        return None;
    }
    let is =
        Arch::of_header(&start).map_or("no program".to_owned(), |arch| format!("one for {arch}"));
    failure(
        format!("its dynamic loader {shown} in {root} is {is}"),
        "Invalid ELF image for this architecture, or: Exec format error",
    )
}

/// What came of starting it.
pub(super) fn ran(Ran { end, last }: &Ran) -> Finding {
    const ID: &str = "file-run";
    let it = |level, what: String| finding(ID, level, what, "", Way::default());
    let last = match last.last() {
        Some(last) => format!("; it said: {last}"),
        None => String::new(),
    };
    match end {
        End::NotEntered(errno) => {
            let why = errno.desc();
            it(Level::Unknown, format!("it was not started: its root cannot be entered: {why}"))
        }
        End::Refused(errno) => finding(
            ID,
            Level::Failure,
            format!("it did not start: {}", errno.desc()),
            "this program",
            advice("see the findings before this one"),
        ),
        End::Status(0) => it(Level::Ok, "it ran".to_owned()),
        End::Status(status) => {
            it(Level::Warning, format!("it ran, and failed by itself: exit status {status}{last}"))
        }
        End::Signal(signal) => finding(
            ID,
            Level::Failure,
            format!("it started, and was killed by {}{last}", signal_name(*signal)),
            "this program",
            advice("try a newer emulator: `binfmtctl --status` shows which runs it"),
        ),
        End::TimedOut(limit) => {
            it(Level::Unknown, format!("it still ran after {} s, and was ended", limit.as_secs()))
        }
        End::Interrupted => it(Level::Unknown, "it was interrupted".to_owned()),
    }
}

fn signal_name(signal: i32) -> String {
    match Signal::try_from(signal) {
        Ok(name) => format!("signal {signal}, {name}"),
        Err(_) => format!("signal {signal}"),
    }
}

fn setuid(
    place: &Place,
    path: &Path,
    seen: &Seen,
    taker: Option<&Entry>,
    state: &State,
) -> Option<Finding> {
    if seen.mode & 0o6000 == 0 {
        return None;
    }
    let shown = path.display();
    let around = state.surroundings.as_ref();
    let (why, way) = if seen.nosuid {
        let command =
            format!("mount -o remount,suid \"$(findmnt -no TARGET -T {})\"", place.outside(path));
        ("its file system is mounted nosuid".to_owned(), repair(command))
    } else if around.is_some_and(|around| around.no_new_privs == Ok(true)) {
        let way = advice("start it from where that is not set");
        ("no_new_privs is set here".to_owned(), way)
    } else if let Some(entry) = taker.filter(|entry| !entry.flags.has('C')) {
        let subject = entry.arches().next().map_or("all", |arch| arch.oci);
        (
            format!("{} lacks flag C", entry.name),
            repair(format!("binfmtctl --install {subject} --replace")),
        )
    } else {
        return None;
    };
    Some(finding(
        "file-setuid",
        Level::Warning,
        format!("{shown} is setuid, but does not get its owner's rights: {why}"),
        "sudo, for one: effective uid is not 0",
        way,
    ))
}
