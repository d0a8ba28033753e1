//! Rows on what a dynamically linked program needs: its loader, its libraries, their versions, and the
//! CPU that all of these were built for. Pure.

use std::path::Path;

use super::file::{foreign_system, is_program};
use super::libraries::{Family, Missing};
use super::subject::{Home, LoaderFile, Program, Runner, Subject};
use crate::arch::HOST;
use crate::check::{Result, Way, advice, command, failure, ok, repair, unknown};
use crate::tree::Unseen;

/// `e_machine` of LoongArch.
const LOONGARCH: u16 = 258;

/// Names of the levels of x86-64, by their bits in a program's note.
const LEVELS: [&str; 4] = ["x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4"];

fn looked_at<'a>(subject: &'a Subject<'_>) -> Option<&'a Program<'a>> {
    subject
        .program()
        .filter(|program| is_program(subject, program) && foreign_system(program).is_none())
}

/// `file-loader`: its dynamic loader is in its root.
pub(super) fn loader(subject: &Subject<'_>) -> Vec<Result> {
    let Some(program) = looked_at(subject) else { return Vec::new() };
    let Some(loader) = &program.loader else { return Vec::new() };
    let (shown, root) = (loader.display(), subject.root());
    let absent = "No such file or directory, though the program exists; or: Could not open";
    let (what, effect) = match &program.loader_file {
        LoaderFile::Unknown | LoaderFile::Fits => return Vec::new(),
        LoaderFile::Missing(Unseen::Dangling { link, to }) => (
            format!(
                "its dynamic loader {shown} is not in {root}: {} leads to {}",
                link.display(),
                to.display()
            ),
            absent,
        ),
        LoaderFile::Missing(_) => (format!("its dynamic loader {shown} is not in {root}"), absent),
        LoaderFile::Foreign(arch) => (
            format!(
                "its dynamic loader {shown} in {root} is {}",
                arch.map_or("no program".to_owned(), |arch| format!("one for {arch}"))
            ),
            "Invalid ELF image for this architecture, or: Exec format error",
        ),
        // An emulator reads it, and does not execute it.
        LoaderFile::NotExecutable if program.runner.emulates() => return Vec::new(),
        LoaderFile::NotExecutable => {
            let command = format!("chmod +x {}", subject.place.outside(loader));
            let what = format!("its dynamic loader {shown} in {root} is not executable");
            return failure(what, nix::errno::Errno::EACCES.desc(), repair(command));
        }
    };
    let home = program.home.clone().unwrap_or_default();
    let (why, way) = way_to_loader(subject, program, loader, &home);
    failure(format!("{what}{why}"), effect, way)
}

/// Why the loader is not there, as the root shows, and the way out.
#[expect(clippy::too_many_lines, reason = "one case after the other")]
fn way_to_loader(
    subject: &Subject<'_>,
    program: &Program<'_>,
    loader: &Path,
    home: &Home,
) -> (String, Way) {
    let own = subject.place.is_own();
    // A machine installs its own architecture's packages.
    let inside = subject.place.is_inside() && !(own && program.arch != Some(HOST));
    let arch = program.arch.map_or_else(|| "its architecture".to_owned(), ToString::to_string);
    let same: Vec<_> = home
        .loaders
        .iter()
        .filter(|(_, other)| *other == program.arch)
        .map(|(path, _)| path)
        .collect();
    let family = |path: &Path| Family::of(path);
    let here = subject.here();
    if let Some(store) = ["/nix/store", "/gnu/store"].iter().find(|store| loader.starts_with(store))
    {
        let tool = if *store == "/nix/store" { "Nix" } else { "Guix" };
        let alike = same.iter().find(|path| family(path) == family(loader));
        let other = alike.map_or(String::new(), |path| {
            format!("; or let it use what is here, if that is enough: patchelf --set-interpreter {} {here}", path.display())
        });
        let words = format!("start it where {store} is, or use a build for this system{other}");
        return (format!(": it was built with {tool}"), advice(words));
    }
    let old_world = program.elf.machine == LOONGARCH && loader.ends_with("lib64/ld.so.1");
    if old_world {
        let words = "use the build for the new world, whose loader is /lib64/ld-linux-loongarch-lp64d.so.1; kernels and emulators \
            know the old one, of Loongnix and UOS, only with libLoL";
        return (": it is of LoongArch's old world".to_owned(), advice(words));
    }
    if home.id == "nixos" || (home.loaders.is_empty() && subject.place.has(Path::new("/nix/store")))
    {
        let words = "NixOS keeps no loader there: set programs.nix-ld.enable, or start it with `nix-shell -p steam-run --run`";
        return (": this is NixOS".to_owned(), advice(words));
    }
    if let Some(found) = same.iter().find(|path| path.file_name() == loader.file_name()) {
        let (dir, to) = (loader.parent().unwrap_or(Path::new("/")), subject.place.outside(loader));
        let dir = subject.place.outside(dir);
        let command = format!("mkdir -p {dir} && ln -s {} {to}", found.display());
        return (format!(": it is at {}", found.display()), repair(command));
    }
    match (family(loader), same.first().and_then(|path| family(path))) {
        (Some(Family::Musl), Some(Family::Glibc)) => return musl_program(home, inside),
        (Some(Family::Glibc), Some(Family::Musl)) => return glibc_program(home, inside),
        _ => {}
    }
    if let Some(other) = same.first() {
        let armhf = |path: &Path| path.to_string_lossy().contains("armhf");
        if program.arch.is_some_and(|arch| arch.oci == "arm") && armhf(loader) != armhf(other) {
            let (is, root) = if armhf(loader) { ("armhf", "armel") } else { ("armel", "armhf") };
            let words = format!("use the build for {root}, or a root for {is}");
            return (format!(": it is for {is}, and this root for {root}"), advice(words));
        }
        return (
            format!(": this root has {}", other.display()),
            advice(
                "use a build for this distribution, or a root of the distribution that it was built for",
            ),
        );
    }
    if let Some(prefix) = home.prefix.as_ref().filter(|_| program.runner.emulates()) {
        let words = format!("libraries for {arch} are in {}", prefix.display());
        return (
            String::new(),
            repair(format!("export QEMU_LD_PREFIX={}", prefix.display())).and(words),
        );
    }
    let root_of = home.loaders.iter().find_map(|(_, arch)| *arch);
    match root_of {
        None if let Some((libc, here)) = &home.libc => {
            let words = "install its package again (libc6, glibc), or copy the loader from where that library came from";
            let way = match here {
                true => copied(subject, loader),
                false => advice(words),
            };
            (format!(": it has the C library {}, but not its loader", libc.display()), way)
        }
        None => (
            ", nor any other".to_owned(),
            advice(
                "this root is for static programs: link it statically, or start from a root that has a C library",
            ),
        ),
        Some(root_arch) if own => (
            format!(": this root is for {root_arch}"),
            advice(format!(
                "name the root that it belongs to with --root DIR, start it in a container for {arch}, or install {arch}'s C library here{}",
                multiarch(program, &home.id)
            )),
        ),
        Some(root_arch) => (
            format!(": that root is for {root_arch}"),
            advice(format!("use the build for {root_arch}, or a root or image for {arch}")),
        ),
    }
}

/// How Debian and its kin install libraries of another architecture beside their own.
fn multiarch(program: &Program<'_>, id: &str) -> String {
    let debian = program.arch.and_then(|arch| match arch.oci {
        "amd64" | "arm64" | "riscv64" | "s390x" => Some(arch.oci),
        "386" => Some("i386"),
        "arm" => Some("armhf"),
        "ppc64le" => Some("ppc64el"),
        _ => None,
    });
    match debian.filter(|_| ["debian", "ubuntu", "linuxmint", "raspbian"].contains(&id)) {
        Some(name) => format!(
            ": dpkg --add-architecture {name} && apt-get update && apt-get install libc6:{name}"
        ),
        None => String::new(),
    }
}

/// Built for Alpine, in a root of Debian's kind.
fn musl_program(home: &Home, inside: bool) -> (String, Way) {
    const IMAGE: &str = "or use a build for glibc (its name often ends in -gnu or -linux), or run it in an Alpine image";
    let why = ": it was built for musl (Alpine), and this root has glibc".to_owned();
    let debian = ["debian", "ubuntu", "linuxmint", "raspbian"].contains(&home.id.as_str());
    let way = match (debian, inside) {
        (true, true) => repair("apt-get install -y musl").and(IMAGE),
        (true, false) => advice(format!("install the package musl in it; {IMAGE}")),
        _ => advice(format!("install musl in it; {IMAGE}")),
    };
    (why, way)
}

/// Built for Debian or its kind, in a root of Alpine's.
fn glibc_program(home: &Home, inside: bool) -> (String, Way) {
    const IMAGE: &str = "it is enough for simple programs; else use a build for musl (its name often has -musl or -alpine), or an image \
        of another kind (-slim or -bookworm in place of -alpine)";
    let why =
        ": it was built for glibc (Debian, Fedora), and this root has musl (Alpine)".to_owned();
    let way = match (home.id.as_str(), inside) {
        ("alpine", true) => repair("apk add gcompat").and(IMAGE),
        ("alpine", false) => advice(format!("install the package gcompat in it: {IMAGE}")),
        _ => advice("use a build for musl, or a root or image with glibc"),
    };
    (why, way)
}

/// `file-libraries`: its shared libraries are where its loader looks.
pub(super) fn libraries(subject: &Subject<'_>) -> Vec<Result> {
    let Some(libraries) = looked_at(subject).and_then(|program| program.libraries.as_ref()) else {
        return Vec::new();
    };
    if libraries.missing.is_empty() {
        return match libraries.found {
            0 => Vec::new(),
            1 => ok("its shared library is there"),
            found => ok(format!("its {found} shared libraries are there")),
        };
    }
    libraries.missing.iter().flat_map(|missing| absent(subject, missing)).collect()
}

fn absent(subject: &Subject<'_>, missing: &Missing) -> Vec<Result> {
    let Missing { name, needed_by, unfit, not_in_cache, elsewhere, sought, here, .. } = missing;
    let root = subject.root();
    let effect =
        format!("error while loading shared libraries: {name}: cannot open shared object file");
    let inside = subject.place.is_inside();
    let needs = format!("{needed_by} needs {name}");
    match (elsewhere, unfit) {
        (Some(path), _) if *not_in_cache => {
            let command =
                if inside { "ldconfig".to_owned() } else { format!("chroot {root} ldconfig") };
            let what = format!("{needs}: it is at {}, but not in /etc/ld.so.cache", path.display());
            failure(what, effect, repair(command))
        }
        (Some(path), _) => {
            let dir = path.parent().unwrap_or(Path::new("/")).display();
            let what =
                format!("{needs}: it is at {}, where its loader does not look", path.display());
            failure(
                what,
                effect,
                repair(format!("export LD_LIBRARY_PATH={dir}"))
                    .and("for the shell in which it is started"),
            )
        }
        (None, Some((path, why))) => {
            let what = format!("{needs}: {} {why}", path.display());
            failure(what, effect, advice(package(subject, name)))
        }
        (None, None) if let Some(path) = here => failure(
            format!(
                "{needs}, which is not in {root}: this machine has it, and its loader is the same"
            ),
            effect,
            copied(subject, path),
        ),
        (None, None) if !sought.is_empty() => {
            let (what, words) = in_its_own_dirs(subject, missing);
            failure(what, effect, advice(words))
        }
        (None, None) => failure(
            format!("{needs}, which is not in {root}"),
            effect,
            advice(package(subject, name)),
        ),
    }
}

/// Copies a file of this machine's to the same place in the root.
fn copied(subject: &Subject<'_>, path: &Path) -> Way {
    let to = subject.place.outside(path);
    repair(format!("mkdir -p $(dirname {to}) && cp -L {} {to}", path.display()))
}

/// A library that whoever needs it looks for in directories that it names itself: what is wrong, and what to do.
fn in_its_own_dirs(subject: &Subject<'_>, missing: &Missing) -> (String, String) {
    let Missing { name, needed_by, sought, moves, .. } = missing;
    let dirs: Vec<_> = sought
        .iter()
        .map(|(dir, there)| {
            format!("{}{}", dir.display(), if *there { "" } else { " (not there)" })
        })
        .collect();
    let what = format!(
        "{needed_by} needs {name}, which is not in {}; it names directories of its own for that (RUNPATH): {}",
        subject.root(),
        dirs.join(", ")
    );
    let words = match sought.first() {
        Some((dir, _)) if *moves => format!(
            "it was copied or moved without its libraries, which belong into {}: unpack or move all that it came with \
            together, and link to it (ln -s) in place of copying it",
            dir.display()
        ),
        _ => package(subject, name),
    };
    (what, words)
}

/// How to get a library.
fn package(subject: &Subject<'_>, name: &str) -> String {
    let place = subject.place;
    let there = |path: &str| place.has(Path::new(path));
    let how = if there("/sbin/apk") || there("/usr/sbin/apk") || there("/etc/apk") {
        format!("apk add so:{name}")
    } else if there("/usr/bin/dpkg") || there("/var/lib/dpkg") {
        format!("`apt-file search {name}` names the package, usually {}", debian_package(name))
    } else if there("/usr/bin/rpm") || there("/var/lib/rpm") {
        format!("dnf install '{name}()(64bit)'")
    } else {
        "its name tells what it is part of".to_owned()
    };
    format!(
        "install the package that has it: {how}; or put it where the loader looks, or its directory into LD_LIBRARY_PATH"
    )
}

/// Debian's rule: libfoo.so.1 is in libfoo1, libfoo2.so.1 in libfoo2-1.
fn debian_package(soname: &str) -> String {
    let (name, version) = soname.split_once(".so").unwrap_or((soname, ""));
    let version = version.trim_start_matches('.');
    let dash =
        if name.ends_with(|c: char| c.is_ascii_digit()) && !version.is_empty() { "-" } else { "" };
    format!("{name}{dash}{version}").to_lowercase().replace('_', "-")
}

/// `file-versions`: its libraries are new enough.
pub(super) fn versions(subject: &Subject<'_>) -> Vec<Result> {
    let Some(libraries) = looked_at(subject).and_then(|program| program.libraries.as_ref()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for old in &libraries.too_old {
        let library = old.library.display();
        let last = old.versions.last().map(String::as_str).unwrap_or_default();
        let has =
            old.newest.as_ref().map_or(String::new(), |newest| format!("; it has up to {newest}"));
        let way = match last.split('_').next() {
            Some("GLIBC") => {
                "it was built on a newer distribution: build it on this one, use a static or musl build, or a newer \
                root or image"
            }
            Some("GLIBCXX" | "CXXABI") => {
                "install a newer libstdc++, or build it with this root's compiler"
            }
            _ => "install a newer version of that library, or build the program against this one",
        };
        let way = match &old.instead {
            Some(path) => repair("unset LD_LIBRARY_PATH")
                .and(format!("then it gets {}, which has it", path.display())),
            None => advice(way),
        };
        found.extend(failure(
            format!("{} needs {} of {library}{has}", old.needed_by, old.versions.join(", ")),
            format!("version `{last}' not found"),
            way,
        ));
    }
    found
}

/// `file-cpu`: the CPU has what it was built for.
pub(super) fn cpu(subject: &Subject<'_>) -> Vec<Result> {
    let Some(program) =
        looked_at(subject).filter(|program| program.arch.is_some_and(|arch| arch.oci == "amd64"))
    else {
        return Vec::new();
    };
    let own = (
        subject.path.display().to_string(),
        program.linking.as_ref().map_or(0, |linking| linking.levels),
    );
    let all = program
        .libraries
        .as_ref()
        .and_then(|libraries| libraries.levels.clone())
        .unwrap_or_default();
    let (who, bits) = if all.1 > own.1 { all } else { own };
    let needs = (1..LEVELS.len()).rev().find(|level| bits >> level & 1 == 1);
    let Some(needs) = needs else { return Vec::new() };
    let Some(probe) =
        program.arch.and_then(|arch| subject.state.probe(arch)).filter(|probe| probe.ran())
    else {
        return unknown(format!(
            "{who} needs {}; whether that is there is not known",
            LEVELS[needs]
        ));
    };
    let has = probe.levels.len();
    if has >= needs {
        return Vec::new();
    }
    let (cpu, way) = match program.runner {
        Runner::Native => (
            "this CPU",
            advice(format!("use a build, or an image of a distribution, for {}", LEVELS[has])),
        ),
        _ if subject.environment.variable("QEMU_CPU").is_some() => {
            ("the emulated CPU", repair("unset QEMU_CPU"))
        }
        _ => ("the emulated CPU", command(subject.state, "--install amd64 --replace")),
    };
    failure(
        format!("{who} needs {}, and {cpu} offers {}", LEVELS[needs], LEVELS[has]),
        "CPU ISA level is lower than required; or signal 4, SIGILL",
        way,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debians_names_of_packages_follow_its_rule() {
        for (soname, package) in [
            ("libfoo.so.1", "libfoo1"),
            ("libssl.so.3", "libssl3"),
            ("libfoo2.so.1", "libfoo2-1"),
            ("libX_y.so", "libx-y"),
        ] {
            assert_eq!(debian_package(soname), package);
        }
    }
}
