//! What kernels, shells, engines and emulators say when a program does not start, and what they mean.
//! Pure.

use crate::check::{Finding, Level, Way, advice};
use crate::report::supported;
use crate::state::State;

/// Who says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// An emulator, of itself or of the program it runs.
    Emulator,
    /// Who starts a program, with the kernel's answer.
    Starter,
    /// The program, or its loader.
    Program,
    /// Who registers, mounts or pulls.
    Tool,
}

/// A message that people paste.
#[derive(Debug)]
pub(super) struct Message {
    /// Part of it, in lower case.
    says: &'static str,
    by: By,
    /// What it means.
    pub(super) means: &'static str,
    /// What to do, or how to find out which of several causes it is.
    pub(super) advice: &'static str,
}

const fn message(says: &'static str, by: By, means: &'static str, advice: &'static str) -> Message {
    Message { says, by, means, advice }
}

const MEMORY: &str = "look for limits: `ulimit -v`, `ulimit -d`, Limit…= of a systemd service, --memory and --ulimit of a container, \
    vm.overcommit_memory";
const RESERVED: &str = "unset QEMU_RESERVED_VA and QEMU_GUEST_BASE";
const NEWER: &str = "`binfmtctl --status` shows the version; `binfmtctl --install all --replace` puts this one's in place";
const PROGRAM: &str =
    "`binfmtctl doctor PROGRAM` tells which; with --root DIR for a program of another root";

/// The first that fits is taken, so the special ones come first.
#[rustfmt::skip]
const MESSAGES: &[Message] = &[
    message("\\r': no such file", By::Starter, CRLF, NO_CRLF),
    message("\\r: no such file", By::Starter, CRLF, NO_CRLF),
    message("\r: no such file", By::Starter, CRLF, NO_CRLF),
    message("^m: bad interpreter", By::Starter, CRLF, NO_CRLF),
    message("static\": executable file not found", By::Starter, "the image does not have that emulator, and needs none: an entry with flag F holds its own", "leave the \
        emulator out of the command and the Dockerfile; `binfmtctl --install LIST` registers with flag F"),
    message("executable file not found in", By::Starter, "the image has no command of that name, or PATH does not lead to it", "`binfmtctl doctor --image FILE` looks \
        into an image that was saved (docker save)"),
    message("-static: no such file", By::Starter, "something starts that emulator by its path, and the image does not have it: an entry without flag F, or a Dockerfile \
        that copies it", "`binfmtctl --install all --replace` registers with flag F, which needs no emulator in images"),
    message("203/exec", By::Starter, "systemd could not start the file of ExecStart=", "`binfmtctl doctor` with the path of ExecStart= tells why"),
    message("unable to execute target architecture", By::Starter, "debootstrap found no emulator for the architecture that it was asked for", "binfmtctl --install \
        ARCH, and start again"),
    message("failure trying to run: chroot", By::Starter, "debootstrap could not start a program in the new root: no emulator for its architecture works there",
        "binfmtctl --install ARCH, and start again; `binfmtctl doctor --root DIR /bin/true` looks at one program of the root"),
    message("error relocating", By::Program, "a library is older than the program, or of another C library: a program for glibc on musl (Alpine)", PROGRAM),
    message("pthread_create failed", By::Program, "it may not start threads: an old engine's filter (seccomp) does not know clone3, or a limit is reached",
        "newer engine (Docker 20.10.10), or start it without the filter; look for limits: `ulimit -u`, --pids-limit, TasksMax="),
    message("module binfmt_misc not found", By::Tool, NO_MODULE, MODULES),
    message("couldn't load the binfmt_misc module", By::Tool, NO_MODULE, MODULES),
    message("binfmt_misc: permission denied", By::Tool, "mounting binfmt_misc needs root with CAP_SYS_ADMIN", "run it as root; in a container, with --privileged"),
    message("register: permission denied", By::Tool, "registering needs root: with sudo the whole command, not only `echo`, has to run as root", "sudo sh -c 'echo … > \
        /proc/sys/fs/binfmt_misc/register', or sudo binfmtctl --install all"),
    message("register: no such file or directory", By::Tool, "binfmt_misc is not mounted", "binfmtctl --install all, which mounts it; or: mount -t binfmt_misc binfmt_misc \
        /proc/sys/fs/binfmt_misc"),
    message("unknown filesystem type binfmt_misc", By::Tool, NOT_LOADED, LOAD),
    message("unknown filesystem type 'binfmt_misc'", By::Tool, NOT_LOADED, LOAD),
    message("/proc/self/exe: operation not permitted", By::Tool, "a new namespace was refused: user namespaces are off here", "allow them, or start it as root: \
        `sysctl kernel.unprivileged_userns_clone kernel.apparmor_restrict_unprivileged_userns user.max_user_namespaces` shows what forbids them"),
    message("unsupported syscall", By::Emulator, "its emulator does not know a system call, and says so; most programs do without it", NEWER),
    message("tcg doesn't support requested feature", By::Emulator, "the emulated CPU lacks something that was asked for: this is a warning, and does no harm", ""),
    message("bail out!", By::Emulator, "its emulator crashed", NEWER),
    message("function not implemented", By::Program, "a system call is not known: QEMU before 9.2 lacks openat2, which tar of new distributions uses; or a filter (seccomp) \
        of an old engine denies it", NEWER),
    message("no match for platform", By::Tool, "the image has no build for that platform", "look at its platforms, and name one of them: --platform"),
    message("multiple platforms feature", By::Tool, ONE_PLATFORM, BUILDER),
    message("multi-platform build is not supported", By::Tool, ONE_PLATFORM, BUILDER),
    message("invalid platform", By::Tool, MISSPELT, NAMES),
    message("unknown operating system or architecture", By::Tool, MISSPELT, NAMES),
    message("exit status 255", By::Program, "an emulator gave up before the program started, or the program ended so by itself", "the line before this one tells which: \
        paste that"),
    message("exit status 133", By::Program, "a program stopped itself (signal 5)", "what it said before tells why"),
    message("exit status 139", By::Program, CRASHED, NEWER),
    message("exit status 132", By::Program, "a program used an instruction that its CPU lacks (signal 4)", "natively: use a build for older CPUs; emulated: unset QEMU_CPU, \
        or try QEMU_CPU=max"),
    message("exit status 134", By::Program, "a program gave up (signal 6)", "what it said before tells why"),
    message("exit status 135", By::Program, "a program's file is cut short, or memory that it was promised is not there (signal 7)", PROGRAM),
    message("exit status 137", By::Program, "a program was ended from outside (signal 9): usually by the kernel, when memory runs out", "give it more memory; `dmesg` tells \
        whether that was it"),
    message("exit status 127", By::Program, "a command, or a library that it needs, was not found", PROGRAM),
    message("exit status 126", By::Program, "a command cannot be executed", PROGRAM),
    message("killed by signal (segmentation fault)", By::Program, CRASHED, NEWER),
    message("sub-process /usr/bin/dpkg returned", By::Tool, "a package's script failed", "the lines before this one tell which, and why"),
    message("unable to find cpu model", By::Emulator, "QEMU_CPU names a CPU that its emulator does not know", "unset QEMU_CPU"),
    message("unable to find a guest_base", By::Emulator, "its emulator finds no room for the program's addresses", MEMORY),
    message("jit buffer", By::Emulator, "its emulator gets no memory for the code that it makes", MEMORY),
    message("requires more than reserved virtual", By::Emulator, "QEMU_RESERVED_VA is too small for the program", RESERVED),
    message("reserved virtual address", By::Emulator, "QEMU_RESERVED_VA does not fit the emulator", RESERVED),
    message("virtual address space that is in use", By::Emulator, "QEMU_GUEST_BASE leads to memory that is in use", RESERVED),
    message("requested guest base", By::Emulator, "QEMU_GUEST_BASE does not fit the emulator", RESERVED),
    message("more virtual address space", By::Emulator, "the program wants more memory than its emulator can give it", MEMORY),
    message("qemu_thread_create", By::Emulator, "its emulator may not start a thread", "look for limits: `ulimit -u`, `ulimit -v`, `ulimit -d`, \
        TasksMax= of a systemd service, --pids-limit of a container"),
    message("cannot initialize crypto", By::Emulator, "its emulator gets no random numbers: getrandom(2) is filtered, and /dev/urandom is not there",
        "start it without that seccomp filter, or with /dev/urandom in its root"),
    message("invalid elf image for this architecture", By::Emulator, "its emulator was handed a program, or a dynamic loader, of another architecture", PROGRAM),
    message("from ld_preload cannot be preloaded", By::Program, "the library that LD_PRELOAD names is for another architecture, or not there; the program goes on \
        without it", "unset LD_PRELOAD"),
    message("wrong elf class", By::Program, "a shared library is for another architecture than the program, or of another word size", PROGRAM),
    message("error while loading shared libraries", By::Program, "a shared library that the program needs is not in its root, or does not fit it", PROGRAM),
    message("cannot open shared object file", By::Program, "a shared library is not where the loader looks", PROGRAM),
    message("error loading shared library", By::Program, "a shared library that the program needs is not in its root (musl says it so)", PROGRAM),
    message("version `glibc", By::Program, "the program was built on a newer distribution than this one", "build it here, use a static or musl build, or a newer image"),
    message("error while loading ", By::Emulator, "its emulator cannot open the program: it may not read it (its entry lacks flag O), or takes another \
        word for its path (its entry lacks flag P, or several emulators are mixed)", NEWER),
    message("incomplete read of file header", By::Emulator, "the program, or its dynamic loader, is cut short", "fetch it again"),
    message("could not open '", By::Emulator, "the emulator works; the program's dynamic loader is not in its root: root and program are of different \
        architectures, or of different C libraries (glibc and musl)", PROGRAM),
    message("uncaught target signal 4", By::Emulator, "the program used an instruction that the emulated CPU lacks, or that its emulator gets wrong",
        "unset QEMU_CPU; else try QEMU_CPU=max, or a newer emulator: binfmtctl --install all --replace"),
    message("uncaught target signal 11", By::Emulator, "the program crashed; QEMU 7.0 to 10.1 cause that in ldconfig and libc-bin of newer distributions", NEWER),
    message("uncaught target signal 6", By::Emulator, "the program gave up (abort)", "what it says before this line tells why"),
    message("uncaught target signal", By::Emulator, "the program was killed by a signal", "what it says before this line tells why"),
    message("qemu internal sig", By::Emulator, "its emulator crashed itself", NEWER),
    message("rosetta error", By::Emulator, "Apple's Rosetta does not find what the program needs, usually its dynamic loader", PROGRAM),
    message("lfstack.push invalid packing", By::Program, "Go's runtime got addresses above 47 bits from its emulator", "export QEMU_GUEST_BASE=0x800000000000, or build with Go 1.26 or newer"),
    message("failed to create new os thread", By::Program, "an old QEMU does not know how Go starts threads", NEWER),
    message("kernel too old", By::Program, "its C library wants a newer kernel than it is shown", "unset QEMU_UNAME; else use an older image, or a newer kernel"),
    message("does not support x86-64-v", By::Program, "it was built for newer CPUs than this one, or than its emulator offers", "use an image of a \
        distribution for older CPUs; for emulated programs: unset QEMU_CPU, or binfmtctl --install amd64 --replace"),
    message("cpu isa level is lower", By::Program, "a library was built for newer CPUs than this one, or than its emulator offers", "use an image of a \
        distribution for older CPUs; for emulated programs: unset QEMU_CPU, or binfmtctl --install amd64 --replace"),
    message("ptrace: function not implemented", By::Program, "emulated programs cannot trace others: gdb, strace, leak checkers", "run them natively, \
        or without that: ASAN_OPTIONS=detect_leaks=0"),
    message("effective uid is not 0", By::Program, "a setuid program did not get its owner's rights: its entry lacks flag C, its file system is nosuid, or \
        no_new_privs is set", "`binfmtctl doctor $(command -v sudo)` tells which"),
    message("requested image's platform", By::Tool, "the image is for another platform than this machine, so it runs emulated, or not at all", "name the platform \
        that you want: --platform"),
    message("no matching manifest", By::Tool, "the image has no build for that platform", "look at its platforms, and name one of them: --platform"),
    message("does not match the specified platform", By::Tool, "the image that is here is for another platform than the one asked for", "pull it again with --platform"),
    message("unterminated quoted string", By::Starter, EXEC_AS_SCRIPT, NO_HANDLER),
    message("bad cpu type in executable", By::Starter, "macOS has no emulator for that architecture, or the program is for Linux", "softwareupdate --install-rosetta, \
        for programs of amd64 Macs"),
    message("syntax error near unexpected token", By::Starter, EXEC_AS_SCRIPT, NO_HANDLER),
    message("system error -8", By::Starter, NOBODY, NO_HANDLER),
    message("elf: not found", By::Starter, EXEC_AS_SCRIPT, NO_HANDLER),
    message("word unexpected", By::Starter, EXEC_AS_SCRIPT, NO_HANDLER),
    message("\"(\" unexpected", By::Starter, EXEC_AS_SCRIPT, NO_HANDLER),
    message("\")\" unexpected", By::Starter, EXEC_AS_SCRIPT, NO_HANDLER),
    message("exec format error", By::Starter, NOBODY, NO_HANDLER),
    message("errno 8", By::Starter, NOBODY, NO_HANDLER),
    message("error=8", By::Starter, NOBODY, NO_HANDLER),
    message("cannot execute binary file", By::Starter, NOBODY, NO_HANDLER),
    message("required file not found", By::Starter, NOT_THERE, PROGRAM),
    message("inside /proc", By::Tool, "engines do not mount anything inside /proc", "mount it elsewhere: -v /proc/sys/fs/binfmt_misc:/binfmt_misc, with --mount /binfmt_misc"),
    message("no such device", By::Tool, NOT_LOADED, LOAD),
    message("write error: file exists", By::Tool, "an entry of that name is registered already", "binfmtctl --install all --replace"),
    message("file exists", By::Tool, "an entry of that name is registered already", "binfmtctl --install all --replace"),
    message("write error: invalid argument", By::Tool, "the kernel refuses that registration: flag F needs Linux 4.8, or it is malformed", "`binfmtctl --install` writes it as the kernel wants it"),
    message("invalid argument", By::Tool, "the kernel refuses that: in a registration, flag F needs Linux 4.8", "`binfmtctl doctor` looks at the kernel"),
    message("too many levels of symbolic links", By::Starter, "interpreters lead to interpreters: scripts of scripts, an entry for this machine's own programs, an emulator \
        that is itself emulated; or links that lead to themselves", PROGRAM),
    message("read-only file system", By::Tool, "binfmt_misc is mounted read-only here, as in containers without --privileged", "`binfmtctl doctor` tells how to write to it"),
    message("operation not permitted", By::Tool, "mounting or registering needs root, in a container --privileged", "`binfmtctl doctor` tells what is missing"),
    message("text file busy", By::Tool, "the file is being written, or an entry holds it as its emulator (flag F)", "write a new file and rename it"),
    message("no such file or directory", By::Starter, NOT_THERE, PROGRAM),
    message("not found", By::Starter, NOT_THERE, PROGRAM),
    message("permission denied", By::Starter, "the file, or what runs it, may not be executed: its mode, a file system mounted noexec, a security module; an emulator may not read it (no flag O)", PROGRAM),
    message("bad system call", By::Program, "a filter (seccomp) forbids a system call that it makes", "newer engine (Docker 20.10.10, libseccomp 2.5), or \
        --security-opt seccomp=unconfined"),
    message("cannot allocate", By::Program, "it got no memory: a limit, or an emulated CPU with fewer addresses than it wants", MEMORY),
    message("illegal instruction", By::Program, "it used an instruction that its CPU lacks", "natively: use a build for older CPUs; emulated: unset QEMU_CPU, or try QEMU_CPU=max"),
    message("segmentation fault", By::Program, "the program, or its emulator, crashed", "`binfmtctl doctor --run PROGRAM` tells the two apart"),
    message("trace/breakpoint trap", By::Program, "a program stopped itself, or a debugger was expected (signal 5)", "what it said before tells why"),
    message("bus error", By::Program, "the program's file is cut short, or memory it was promised is not there", PROGRAM),
];

const CRLF: &str =
    "the script's lines end as on Windows, and the carriage return is taken for a part of a name";
const NO_CRLF: &str =
    "sed -i 's/\\r$//' SCRIPT; with git, `*.sh text eol=lf` in .gitattributes keeps it so";
const NOBODY: &str = "nothing here runs that file: it is for an architecture without an emulator here, or it is no program at all";
const NO_MODULE: &str =
    "this kernel was built without binfmt_misc, or its modules are not installed";
const MODULES: &str = "install its modules (Ubuntu: linux-modules-extra-$(uname -r)), or restart after an update of the kernel";
const NOT_LOADED: &str = "the kernel has no binfmt_misc, or its module is not loaded";
const LOAD: &str = "modprobe binfmt_misc, on the host";
const MISSPELT: &str = "the name of the platform is misspelt";
const NAMES: &str = "`binfmtctl --status` lists the names, such as linux/arm64";
const ONE_PLATFORM: &str =
    "Docker's own builder keeps one platform in an image, unless it stores images in containerd";
const BUILDER: &str = "docker buildx create --use --driver docker-container, and build again";
const CRASHED: &str =
    "a program crashed (signal 11); if it is emulated, usually by a fault of an old QEMU";
const NO_HANDLER: &str = "`binfmtctl doctor PROGRAM` tells which, --root DIR for a program of another root, --image FILE for one of an image (docker save)";
const EXEC_AS_SCRIPT: &str =
    "the kernel did not know the program, and a shell read it as a script of its own";
const NOT_THERE: &str = "for a file that is there: its dynamic loader, a script's interpreter, or the emulator of an entry without flag F is not in its root";

/// What an emulator, or a program's loader, says.
pub(super) fn of_emulator(line: &str) -> Option<&'static Message> {
    find(line).filter(|message| matches!(message.by, By::Emulator | By::Program))
}

/// Of what was said last, the line that tells most: one that is known, one of an emulator's, the last.
pub(super) fn telling(lines: &[String]) -> Option<&str> {
    let back = || lines.iter().rev().map(String::as_str);
    let known = back().find(|line| of_emulator(line).is_some());
    known.or_else(|| back().find(|line| line.starts_with("qemu"))).or_else(|| back().next())
}

/// The program that a message names by a path from here, such as `./x`, for a command.
fn named(text: &str) -> Option<String> {
    let mut words = text.split(|c: char| c.is_whitespace() || "\"'`:,;()[]".contains(c));
    words.find(|word| word.starts_with("./") && word.len() > 2).map(crate::tree::quoted)
}

fn find(text: &str) -> Option<&'static Message> {
    let mut text = text.to_lowercase();
    // Each tool says it in words of its own.
    for words in
        ["exit code: ", "exit code ", "exited with code ", "exited with status ", "exit status: "]
    {
        text = text.replace(words, "exit status ");
    }
    MESSAGES.iter().find(|message| text.contains(message.says))
}

/// Whether a text is a message that can be explained.
pub(super) fn is_known(text: &str) -> bool {
    find(text).is_some()
}

/// Explains a message; `None` if it is none that is known.
pub(super) fn explain(text: &str, state: &State) -> Option<Finding> {
    let message = find(text)?;
    let platforms = supported(state).unwrap_or_default().join(", ");
    let mut words = message.advice.replace("PROGRAM", &named(text).unwrap_or("PROGRAM".to_owned()));
    if message.advice == NO_HANDLER {
        words.push_str(&format!("; programs for these platforms run here: {platforms}"));
    }
    Some(Finding {
        id: ID,
        level: Level::Unknown,
        what: message.means.to_owned(),
        effect: String::new(),
        way: if words.is_empty() { Way::default() } else { advice(words) },
    })
}

/// Of findings that explain a message.
pub(super) const ID: &str = "message";
