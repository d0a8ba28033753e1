//! Why one program does, or does not, run: a row a kind of fault, tried on each file that takes part.

use super::story::Story;
use super::subject::Subject;
use super::{file, handler, link};
use crate::check::{Finding, Result};

/// One row: an id, what it is about, a pure function.
pub(super) struct Row {
    story: Story,
    look: fn(&Subject<'_>) -> Vec<Result>,
}

const fn row(
    id: &'static str,
    about: &'static str,
    look: fn(&Subject<'_>) -> Vec<Result>,
    story: &'static str,
) -> Row {
    Row { story: Story { id, about, story }, look }
}

/// In the order of exec(2).
pub(super) const ROWS: &[Row] = &[
    row(
        "file-noexec",
        "its file system allows execution",
        file::noexec,
        "Nothing is executed from a file system mounted noexec: \"permission denied\", also for root.",
    ),
    row(
        "file-permission",
        "it may be executed",
        file::permission,
        "Without execute permission the kernel says \"permission denied\". A program that may be executed but not read \
            needs an entry with flag O, or the emulator says \"Error while loading\".",
    ),
    row(
        "file",
        "the program's file is there and is a program",
        file::file,
        "The kernel starts ELF programs, scripts that begin with #!, and files that an entry of binfmt_misc matches. \
            For anything else it says \"exec format error\"; shells then try to read it as a script of their own, which \
            ends in \"syntax error\" or \"not found\". A failed download may have left an error page, an archive or a \
            Git LFS pointer in the place of the program. A file that was cut short may still have a whole header: then \
            it ends with a bus error, or QEMU says \"Incomplete read of file header\".",
    ),
    row(
        "file-script",
        "the script's interpreter is there",
        file::script,
        "\"No such file or directory\" for a script that exists is about the interpreter on its first line. A line \
            end from Windows becomes part of the interpreter's name; a byte order mark or a blank before #! hides it. \
            The kernel reads 256 bytes of the line, and gives the interpreter all that follows its name as one argument: \
            `env` needs -S to split it. The kernel follows at most five interpreters, and an emulator is one of them; \
            then it says \"too many levels of symbolic links\".",
    ),
    row(
        "file-handler",
        "the CPU or an entry runs it",
        handler::handler,
        "The kernel uses the newest enabled entry whose magic and mask match the file's first bytes. If none does, \
            the CPU has to run it. If it cannot, the kernel says \"exec format error\". An entry may fail to match \
            because of a few bytes: AppImages carry theirs where masks ask for zeros, and a mask that is too strict \
            misses static or position-independent programs. The emulator is tried with the smallest program of the same \
            architecture.",
    ),
    row(
        "file-environment",
        "nothing that it inherits stops its emulator",
        handler::environment,
        "Emulators read variables: QEMU_CPU chooses the CPU that programs see, QEMU_LD_PREFIX where loaders and \
            libraries are looked for, QEMU_RESERVED_VA and QEMU_GUEST_BASE what memory they get; with QEMU_GDB they wait \
            for a debugger. They need more address space than the programs themselves, which `ulimit -v` may deny. To \
            find the cause, the smallest program is started with each of these and without.",
    ),
    row(
        "file-setuid",
        "as a setuid program it gets its owner's rights",
        file::setuid,
        "A setuid program such as sudo says \"effective uid is not 0\" where its file system is mounted nosuid, where \
            no_new_privs is set, and, if it is emulated, where its entry lacks flag C: then the emulator runs with the rights \
            of the caller.",
    ),
    row(
        "file-loader",
        "its dynamic loader is in its root",
        link::loader,
        "A dynamically linked program names its loader, such as /lib/ld-linux-aarch64.so.1. If that is not in the program's \
            root the kernel says \"no such file or directory\", and QEMU \"Could not open\": usually because the image is of \
            another architecture than the program, or has another libc: Alpine's is musl, most others' glibc. On a host, \
            foreign libraries come from packages of that architecture; QEMU_LD_PREFIX names another place for them.",
    ),
    row(
        "file-libraries",
        "its shared libraries are where its loader looks",
        link::libraries,
        "A program names the libraries that it needs, and these may name others. glibc's loader looks where the \
            program says (RPATH, RUNPATH), in LD_LIBRARY_PATH, in /etc/ld.so.cache and in the directories it was built \
            with; musl's in /etc/ld-musl-ARCH.path, or /lib, /usr/local/lib and /usr/lib. It ignores libraries for other \
            architectures. If one is missing, the program ends with \"error while loading shared libraries\" and exit \
            status 127.",
    ),
    row(
        "file-versions",
        "its libraries are new enough",
        link::versions,
        "glibc and others give names to versions of what they offer, and a program says which it was linked against. On an \
            older distribution its loader says \"version `GLIBC_2.38' not found\".",
    ),
    row(
        "file-cpu",
        "the CPU has what it was built for",
        link::cpu,
        "Distributions build for ever newer CPUs: RHEL 9 for x86-64-v2, RHEL 10 for v3. Programs and libraries carry a note of \
            it, and glibc's loader says \"CPU ISA level is lower than required\". Without a note the program ends with signal 4, \
            SIGILL. What an emulated CPU offers depends on the emulator and on QEMU_CPU.",
    ),
];

/// What `--explain` tells beside the rows.
const OTHERS: &[Story] = &[
    Story {
        id: handler::ENVIRONMENT,
        about: "nothing that is inherited here stops emulators",
        story: "Programs that are started from this shell or service inherit its variables, such as QEMU_CPU, and its \
            limits, such as `ulimit -v`. Emulators obey them. So the same program may run in a container, which inherits \
            neither, and fail here. To find the cause, the smallest program of each architecture is started with each of \
            these and without.",
    },
    Story {
        id: "file-run",
        about: "it ran when asked to",
        story: "`--run` starts the program, in its root, and tells how that ended: by itself, by its emulator, or not within \
            --timeout. What it prints goes to standard error.",
    },
    Story {
        id: super::images::ID,
        about: "what an image says of itself is true",
        story: "`doctor --image FILE` looks into what `docker save`, `podman save` or a build with type=oci wrote, without \
            running it: the platforms, what each starts, and whether that finds its loader and libraries in the image's \
            own layers. If the programs are for another architecture than the image says, it was built from a base \
            image, or with programs, of the wrong platform.",
    },
    Story {
        id: super::message::ID,
        about: "what a message means",
        story: "`doctor MESSAGE` explains what kernels, shells, engines and emulators say when a program does not start: \
            doctor 'exec /bin/sh: exec format error'. After that come the findings for this machine.",
    },
];

/// All that `--list` and `--explain` know of single programs.
pub(super) fn stories() -> impl Iterator<Item = Story> {
    ROWS.iter().map(|row| row.story).chain(OTHERS.iter().copied())
}

/// Looks at each file that takes part.
pub(super) fn judge(chain: &[Subject<'_>]) -> Vec<Finding> {
    let each = chain.iter().flat_map(|subject| ROWS.iter().map(move |row| (subject, row)));
    each.flat_map(|(subject, row)| {
        (row.look)(subject).into_iter().map(|result| result.called(row.story.id))
    })
    .collect()
}
