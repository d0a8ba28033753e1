//! What else on a host decides whether emulation works and lasts: services, security modules,
//! interpreters' files. Reads only; each fact is known, or unknown with the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::statfs::{FUSE_SUPER_MAGIC, statfs};
use nix::sys::statvfs::{FsFlags, statvfs};
use procfs::process::Status;
use procfs::{ConfigSetting, FromRead};

use crate::arch::HOST;
use crate::elf::{self, Elf, Loader};
use crate::entry::Entry;
use crate::host::{is_empty_for, kernel_config};
use crate::mountinfo::Mounts;
use crate::root::Root;
use crate::state::{Fact, Instance, Interpreter, Surroundings};

impl Surroundings {
    /// Looks at everything; `instance` says which interpreters there are.
    pub fn observe(root: &Root, instance: &Fact<Instance>) -> Self {
        let entries =
            instance.as_ref().map(|instance| instance.entries.as_slice()).unwrap_or_default();
        let interpreters =
            entries.iter().map(|entry| (entry.name.clone(), interpreter(root, entry))).collect();
        let status = Status::from_file(root.proc("self/status")).map_err(|error| error.to_string());
        let selinux = if_there(fs::read_to_string(root.path("/sys/fs/selinux/enforce")))
            .map(|text| text.is_some_and(|text| text.trim() == "1"));
        let number =
            |value: Option<u64>| value.ok_or_else(|| "this kernel does not say".to_owned());
        Self {
            release: text(&root.proc("sys/kernel/osrelease")),
            interpreters,
            held_by_init: fs::read(root.proc("1/mountinfo"))
                .map(|mountinfo| {
                    Mounts::on_the_way_to(root.mount_point(), &mountinfo)
                        .at_path()
                        .any(|mounted| mounted.kind == "binfmt_misc" || mounted.kind == "autofs")
                })
                .map_err(|error| error.to_string()),
            systemd_binfmt: systemd_binfmt(root),
            configured: configured(root),
            binfmt_support: binfmt_support(root),
            builders: builders(root),
            binfmt_support_without_f: without_f(root),
            native_386: native_386(root),
            cut_off: cut_off(root),
            other_systemds: other_systemds(root),
            labels: entries
                .iter()
                .filter(|_| selinux == Ok(true))
                .filter_map(|entry| Some((entry.name.clone(), label(root, entry)?)))
                .collect(),
            selinux,
            apparmor: apparmor(root),
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

/// What a reader got of what need not be there.
fn if_there<T>(got: io::Result<T>) -> Fact<Option<T>> {
    match got {
        Ok(got) => Ok(Some(got)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// The files of a directory; none where it is not there.
fn files(dir: &Path) -> Fact<Vec<fs::DirEntry>> {
    let files = if_there(fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>));
    files.map(Option::unwrap_or_default).map_err(|why| format!("{}: {why}", dir.display()))
}

/// Whether systemd runs here, and brings what registers entries.
fn systemd_binfmt(root: &Root) -> Fact<bool> {
    let exists = |path: &str| {
        let there = if_there(fs::metadata(root.path(path)));
        there.map(|there| there.is_some()).map_err(|why| format!("{path}: {why}"))
    };
    Ok(exists("/run/systemd/system")?
        && (exists("/usr/lib/systemd/systemd-binfmt")? || exists("/lib/systemd/systemd-binfmt")?))
}

/// The profile that confines us.
fn apparmor(root: &Root) -> Fact<Option<String>> {
    // Without any such module, reading gives EINVAL.
    let read = |path: &str| match fs::read_to_string(root.proc(path)) {
        Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => Ok(None),
        read => if_there(read),
    };
    let profile = match read("self/attr/apparmor/current")? {
        Some(profile) => Some(profile),
        None => read("self/attr/current")?,
    };
    let confines = |profile: &String| profile.ends_with(')') && !profile.starts_with("unconfined");
    Ok(profile.map(|profile| profile.trim().to_owned()).filter(confines))
}

fn text(path: &Path) -> Fact<String> {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(|error| error.to_string())
}

fn interpreter(root: &Root, entry: &Entry) -> Interpreter {
    let path = root.path(&entry.interpreter);
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) => {
            return match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Interpreter::Missing,
                _ => Interpreter::Unknown,
            };
        }
    };
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
        _ if read.is_err() => Interpreter::Unknown,
        elf::File::Elf(elf) if elf.arch() != Some(HOST) => Interpreter::ForeignArch,
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

fn configured(root: &Root) -> Fact<Vec<String>> {
    let mut texts: BTreeMap<_, String> = BTreeMap::new();
    for dir in BINFMT_D {
        for file in files(&root.path(dir))? {
            let path = file.path();
            let conf = path.extension().is_some_and(|extension| extension == "conf");
            if conf && !texts.contains_key(&file.file_name()) {
                // A link to /dev/null takes away what another directory has; it may dangle in a root.
                let text = if_there(fs::read_to_string(&path));
                let text = text.map_err(|why| format!("{}: {why}", path.display()))?;
                texts.insert(file.file_name(), text.unwrap_or_default());
            }
        }
    }
    Ok(texts.values().flat_map(|text| registered_by(text)).map(str::to_owned).collect())
}

/// Names of the entries that a file of binfmt.d registers.
pub(crate) fn registered_by(conf: &str) -> Vec<&str> {
    let rules = conf.lines().filter(|rule| !rule.is_empty() && !rule.starts_with(['#', ';']));
    rules
        .filter_map(|rule| {
            let delimiter = rule.chars().next()?;
            rule[delimiter.len_utf8()..].split(delimiter).next()
        })
        .collect()
}

fn binfmt_support(root: &Root) -> Fact<Option<String>> {
    let status = if_there(fs::read_to_string(root.path("/var/lib/dpkg/status")))?;
    Ok(status.and_then(|status| installed_binfmt_support(&status).map(str::to_owned)))
}

/// The version line of its paragraph in dpkg's status file.
pub(crate) fn installed_binfmt_support(status: &str) -> Option<&str> {
    let paragraph = status.split("\n\n").find(|paragraph| {
        paragraph.lines().any(|line| line == "Package: binfmt-support")
            && paragraph.lines().any(|line| line == "Status: install ok installed")
    })?;
    paragraph.lines().find_map(|line| line.strip_prefix("Version: "))
}

fn builders(root: &Root) -> Fact<Vec<String>> {
    let processes = fs::read_dir(root.proc_dir()).map_err(|error| error.to_string())?;
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

/// The records that update-binfmts registers from at each boot: lines of package, type, offset,
/// magic, mask, interpreter, detector, credentials, preserve, fix_binary.
fn without_f(root: &Root) -> Fact<Vec<String>> {
    const FIX_BINARY: usize = 9;
    let records = files(&root.path("/var/lib/binfmts"))?;
    let mut names: Vec<_> = records
        .into_iter()
        .filter(|record| {
            fs::read_to_string(record.path())
                .is_ok_and(|text| text.lines().nth(FIX_BINARY).is_none_or(|line| line != "yes"))
        })
        .map(|record| record.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("qemu-"))
        .collect();
    names.sort();
    Ok(names)
}

/// By the kernel's configuration and command line, as in `arch/x86/entry/common.c` (Linux 6.7).
fn native_386(root: &Root) -> Fact<bool> {
    let config = kernel_config(root, &text(&root.proc("sys/kernel/osrelease"))?)?;
    let set = |name| config.0.get(name) == Some(&ConfigSetting::Yes);
    let words = text(&root.proc("cmdline"))?;
    let option = words.split_whitespace().rev().find_map(|w| w.strip_prefix("ia32_emulation="));
    let by_default = !set("CONFIG_IA32_EMULATION_DEFAULT_DISABLED");
    let on = match option.map(|value| value.trim_start_matches(['"'])) {
        // As kstrtobool reads it.
        Some(value) if value.starts_with(['1', 'y', 'Y', 't', 'T']) || value == "on" => true,
        Some(value) if value.starts_with(['0', 'n', 'N', 'f', 'F']) || value == "off" => false,
        _ => by_default,
    };
    Ok(set("CONFIG_IA32_EMULATION") && on)
}

/// Process 1 of each process namespace below ours that is a systemd in our own user namespace: the
/// entries that it sees are these.
fn other_systemds(root: &Root) -> Fact<Vec<(String, u32)>> {
    let user = |id: &str| fs::read_link(root.proc(id).join("ns/user")).ok();
    let own = user("self").ok_or("our user namespace cannot be seen")?;
    let mut found = Vec::new();
    for process in fs::read_dir(root.proc_dir()).map_err(|error| error.to_string())?.flatten() {
        let name = process.file_name().to_string_lossy().into_owned();
        let Ok(id) = name.parse::<u32>() else { continue };
        let Ok(comm) = text(&process.path().join("comm")) else { continue };
        if comm != "systemd" || user(&name).as_ref() != Some(&own) {
            continue;
        }
        let status = text(&process.path().join("status")).unwrap_or_default();
        let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        let ids: Vec<_> = ids.split_whitespace().collect();
        if ids.len() > 1 && ids.last() == Some(&"1") {
            found.push((comm, id));
        }
    }
    Ok(found)
}

/// User namespaces other than ours that would not find the host's entries.
fn cut_off(root: &Root) -> Fact<Vec<(String, u32)>> {
    let link = |path: &Path| fs::read_link(path).map_err(|error| error.to_string());
    let own = link(&root.proc("self/ns/user"))?;
    let mut looked_at = BTreeSet::new();
    let mut cut_off = BTreeMap::new();
    let mut hidden = 0;
    for process in fs::read_dir(root.proc_dir()).map_err(|error| error.to_string())?.flatten() {
        let Ok(id) = process.file_name().to_string_lossy().parse::<u32>() else { continue };
        let user = match fs::read_link(process.path().join("ns/user")) {
            Ok(user) => user,
            // It may also have ended in the meantime.
            Err(error) => {
                hidden += usize::from(error.kind() == std::io::ErrorKind::PermissionDenied);
                continue;
            }
        };
        let mounts = fs::read_link(process.path().join("ns/mnt")).unwrap_or_default();
        if user == own || !looked_at.insert((user.clone(), mounts)) {
            continue;
        }
        if is_empty_for(&process.path()) == Some(true) {
            let name = text(&process.path().join("comm")).unwrap_or_default();
            cut_off.entry(user).or_insert((name, id));
        }
    }
    if cut_off.is_empty() && hidden > 0 {
        return Err("other users' processes cannot be looked at".to_owned());
    }
    Ok(cut_off.into_values().collect())
}

fn label(root: &Root, entry: &Entry) -> Option<String> {
    let mut label = [0; 256];
    let len =
        rustix::fs::getxattr(root.path(&entry.interpreter), "security.selinux", &mut label[..]);
    let label = String::from_utf8_lossy(label.get(..len.ok()?)?).into_owned();
    Some(label.trim_end_matches('\0').to_owned())
}
