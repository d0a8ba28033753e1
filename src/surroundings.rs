//! What else on a host decides whether emulation works and lasts: services, security modules,
//! interpreters' files. Reads only; each fact is known, or unknown with the reason.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use nix::sys::statfs::{FUSE_SUPER_MAGIC, statfs};
use nix::sys::statvfs::{FsFlags, statvfs};
use procfs::FromRead;
use procfs::process::{MountInfos, Status};

use crate::elf::{self, Elf, Loader};
use crate::emulator::own;
use crate::entry::Entry;
use crate::host::{Fact, Instance, Root};

/// What lies at an entry's interpreter path, as seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Interpreter {
    Static,
    Dynamic,
    Script,
    ForeignArch,
    NoProgram,
    NotExecutable,
    NoExecMount,
    Fuse,
    Missing,
}

/// Facts around binfmt_misc.
#[derive(Debug)]
pub struct Surroundings {
    /// `uname -r`.
    pub release: Fact<String>,
    /// What lies at each entry's interpreter path.
    pub interpreters: BTreeMap<String, Interpreter>,
    /// Whether PID 1 has binfmt_misc mounted, or its automount: then it stays.
    pub held_by_init: Fact<bool>,
    /// Whether systemd runs and brings systemd-binfmt.
    pub systemd_binfmt: Fact<bool>,
    /// Names of the entries that binfmt.d's files register.
    pub configured: Vec<String>,
    /// Version of Debian's binfmt-support, where it is installed.
    pub binfmt_support: Option<String>,
    /// Builders and engines that run, by process name.
    pub builders: Fact<Vec<String>>,
    /// Whether SELinux enforces.
    pub selinux: bool,
    /// The AppArmor profile that confines us, if one does.
    pub apparmor: Option<String>,
    /// Whether we may gain no privileges, so that setuid programs do not work.
    pub no_new_privs: Fact<bool>,
    /// Whether system calls are filtered.
    pub seccomp: Fact<bool>,
}

impl Surroundings {
    /// Looks at everything; `instance` says which interpreters there are.
    pub fn observe(root: &Root, instance: &Fact<Instance>) -> Self {
        let entries =
            instance.as_ref().map(|instance| instance.entries.as_slice()).unwrap_or_default();
        let interpreters =
            entries.iter().map(|entry| (entry.name.clone(), interpreter(root, entry))).collect();
        let status =
            Status::from_file(root.process("self/status")).map_err(|error| error.to_string());
        let number =
            |value: Option<u64>| value.ok_or_else(|| "this kernel does not say".to_owned());
        Self {
            release: text(&root.process("sys/kernel/osrelease")),
            interpreters,
            held_by_init: MountInfos::from_file(root.process("1/mountinfo"))
                .map(|mounts| {
                    mounts.0.iter().any(|mount| {
                        mount.mount_point == root.mount_point()
                            && ["binfmt_misc", "autofs"].contains(&mount.fs_type.as_str())
                    })
                })
                .map_err(|error| error.to_string()),
            systemd_binfmt: Ok(root.path("/run/systemd/system").is_dir()
                && ["/usr/lib/systemd/systemd-binfmt", "/lib/systemd/systemd-binfmt"]
                    .iter()
                    .any(|path| root.path(path).exists())),
            configured: configured(root),
            binfmt_support: binfmt_support(root),
            builders: builders(root),
            selinux: text(&root.path("/sys/fs/selinux/enforce")).is_ok_and(|text| text == "1"),
            apparmor: text(&root.process("self/attr/apparmor/current"))
                .or_else(|_| text(&root.process("self/attr/current")))
                .ok()
                .filter(|profile| profile.ends_with(')') && !profile.starts_with("unconfined")),
            no_new_privs: status
                .as_ref()
                .map_err(Clone::clone)
                .and_then(|s| number(s.nonewprivs))
                .map(|n| n != 0),
            seccomp: status
                .as_ref()
                .map_err(Clone::clone)
                .and_then(|s| number(s.seccomp.map(u64::from)))
                .map(|mode| mode != 0),
        }
    }
}

fn text(path: &Path) -> Fact<String> {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(|error| error.to_string())
}

fn interpreter(root: &Root, entry: &Entry) -> Interpreter {
    let path = root.path(&entry.interpreter);
    let Ok(metadata) = fs::metadata(&path) else { return Interpreter::Missing };
    if !metadata.is_file()
        || std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o111 == 0
    {
        return Interpreter::NotExecutable;
    }
    if statvfs(&path).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_NOEXEC)) {
        return Interpreter::NoExecMount;
    }
    let mut start = Vec::new();
    let read =
        File::open(&path).and_then(|file| file.take(elf::ENOUGH as u64).read_to_end(&mut start));
    match elf::File::parse(&start) {
        _ if read.is_err() => Interpreter::Missing,
        elf::File::Elf(elf) if elf.arch() != Some(own()) => Interpreter::ForeignArch,
        elf::File::Elf(Elf { loader: Loader::None, .. }) => {
            let fuse = statfs(&path).is_ok_and(|fs| fs.filesystem_type() == FUSE_SUPER_MAGIC);
            if fuse { Interpreter::Fuse } else { Interpreter::Static }
        }
        elf::File::Elf(_) => Interpreter::Dynamic,
        elf::File::Script(_) => Interpreter::Script,
        _ => Interpreter::NoProgram,
    }
}

/// binfmt.d's directories, the first wins for files of one name.
const BINFMT_D: [&str; 4] =
    ["/etc/binfmt.d", "/run/binfmt.d", "/usr/local/lib/binfmt.d", "/usr/lib/binfmt.d"];

fn configured(root: &Root) -> Vec<String> {
    let mut files: BTreeMap<_, String> = BTreeMap::new();
    for dir in BINFMT_D {
        for file in fs::read_dir(root.path(dir)).into_iter().flatten().flatten() {
            if file.path().extension().is_some_and(|extension| extension == "conf") {
                files
                    .entry(file.file_name())
                    .or_insert_with(|| text(&file.path()).unwrap_or_default());
            }
        }
    }
    let rules = files.values().flat_map(|text| text.lines());
    let rules = rules.filter(|rule| !rule.is_empty() && !rule.starts_with(['#', ';']));
    rules
        .filter_map(|rule| {
            let delimiter = rule.chars().next()?;
            rule[delimiter.len_utf8()..].split(delimiter).next().map(str::to_owned)
        })
        .collect()
}

/// The version line of its paragraph in dpkg's status file.
fn binfmt_support(root: &Root) -> Option<String> {
    let status = fs::read_to_string(root.path("/var/lib/dpkg/status")).ok()?;
    let paragraph = status.split("\n\n").find(|paragraph| {
        paragraph.lines().any(|line| line == "Package: binfmt-support")
            && paragraph.lines().any(|line| line == "Status: install ok installed")
    })?;
    paragraph.lines().find_map(|line| line.strip_prefix("Version: ")).map(str::to_owned)
}

fn builders(root: &Root) -> Fact<Vec<String>> {
    let processes = fs::read_dir(root.processes()).map_err(|error| error.to_string())?;
    let mut builders: Vec<_> = processes
        .flatten()
        .filter(|process| {
            process.file_name().to_string_lossy().starts_with(|c: char| c.is_ascii_digit())
        })
        .filter_map(|process| text(&process.path().join("comm")).ok())
        .filter(|name| ["buildkitd", "dockerd"].contains(&name.as_str()))
        .collect();
    builders.sort();
    builders.dedup();
    Ok(builders)
}
