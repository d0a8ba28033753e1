//! What speaks against persisting in a tree: found before anything is written, changes nothing.

use std::path::{Component, Path};

use nix::errno::Errno;
use nix::unistd::geteuid;

use super::CONF;
use super::boot::Boot;
use super::files::{explain, interpreter, parse_conf};
use crate::arch::{Arch, HOST};
use crate::elf;
use crate::error::{Error, Op};
use crate::root::Root;
use crate::shown::shorten;
use crate::state::{RunBy, State, UserNamespace};
use crate::tree::{Seen, Tree, Unseen};

/// Programs that tell what a system is built for, the surest first.
const PROGRAMS: [&str; 6] = [
    "/usr/lib/systemd/systemd",
    "/lib/systemd/systemd",
    "/sbin/init",
    "/bin/busybox",
    "/bin/sh",
    "/usr/bin/env",
];

/// Refuses a directory that a unit, a shell and an entry would not all read alike.
pub(super) fn lib_dir(dir: &Path) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._+-@".contains(c);
    let up = dir.components().any(|part| part == Component::ParentDir);
    let named = dir.file_name().is_some() && dir.to_str().is_some_and(|dir| dir.chars().all(plain));
    if dir.is_absolute() && !up && named {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "--lib-dir takes an absolute path of letters, digits and ._+-@, not '{}'",
        shorten(&dir.to_string_lossy())
    )))
}

/// Refuses a directory other than the one of an earlier run: the file of registrations names one.
pub(super) fn elsewhere(tree: &Tree, lib_dir: &Path) -> Result<(), Error> {
    let rules = parse_conf(&tree.read(Path::new(CONF))?);
    let mut dirs = rules.values().filter_map(|rule| interpreter(rule)?.parent());
    match dirs.find(|dir| *dir != lib_dir && tree.has(&dir.join("manifest"))) {
        None => Ok(()),
        Some(dir) => Err(Error::Host {
            what: format!("emulators were persisted in {} before", dir.display()),
            hint: format!(
                "use --lib-dir {0}, or remove those first: persist --remove --lib-dir {0}",
                dir.display()
            ),
        }),
    }
}

/// The architecture that the tree's system is built for; `None` where no program tells.
///
/// # Errors
/// An architecture without a row in `arch.rs`, so not this machine's; or files that cannot be read.
pub(super) fn system(tree: &Tree) -> Result<Option<&'static Arch>, Error> {
    for path in PROGRAMS.map(Path::new) {
        let start = match tree.look(path) {
            Ok(Seen { start, .. }) => {
                start.map_err(|errno| Error::system(Op::Read, tree.shown(path), errno))?
            }
            Err(Unseen::System(errno)) if errno != Errno::ENOENT && errno != Errno::ENOTDIR => {
                return Err(Error::system(Op::Read, tree.shown(path), errno));
            }
            Err(_) => continue,
        };
        if let elf::File::Elf(elf) = elf::File::parse(&start) {
            let unknown = || foreign(tree, "an unknown architecture");
            return elf.arch().map(Some).ok_or_else(unknown);
        }
    }
    Ok(None)
}

/// The first thing that is in the way, if anything is.
///
/// `state` has the probe of the tree's own architecture `system`.
pub(super) fn check(
    tree: &Tree,
    system: Option<&Arch>,
    state: &State,
    lib_dir: &Path,
    root: &Root,
) -> Result<(), Error> {
    // An entry for a machine's own architecture stops each of its programs, from the next boot on.
    if let Some(arch) = system
        && arch != HOST
        && state.run_by(arch) != Ok(Some(RunBy::Native))
    {
        return Err(foreign(tree, arch.oci));
    }
    if tree.has(Path::new("/etc/NIXOS")) {
        return Err(Error::Host {
            what: "NixOS writes such files itself, from its configuration".to_owned(),
            hint: "set boot.binfmt.emulatedSystems = [ \"aarch64-linux\" ]; or use `hold`, which needs no files"
                .to_owned(),
        });
    }
    if !boots(tree) {
        return Err(Error::Host {
            what: format!("no system boots from {}", tree.shown(Path::new("/")).display()),
            hint: GIVE_THE_ROOT.to_owned(),
        });
    }
    if state.user_namespace == Ok(UserNamespace::Nested) && tree.is_root() && !booted(root) {
        return Err(Error::Host {
            what: "this is a user namespace, and the machine boots outside of it".to_owned(),
            hint: "run `persist` on the machine itself, as root".to_owned(),
        });
    }
    let etc = Path::new(CONF).parent().unwrap_or(Path::new("/"));
    for dir in [lib_dir, etc] {
        tree.writable(dir).map_err(|error| explain(tree, lib_dir, dir, error))?;
    }
    if !tree.executable(lib_dir)? {
        return Err(Error::Host {
            what: format!("{} is mounted noexec", tree.shown(lib_dir).display()),
            hint: "choose another place with --lib-dir".to_owned(),
        });
    }
    others_may_write(tree, lib_dir)
}

/// For who runs `persist` in a container.
pub(super) const GIVE_THE_ROOT: &str =
    "in a container, give it the host's root: -v /:/host, with --root /host";

/// Whether a system boots from the tree. An image of one file has none of these; what is written to it is gone with
/// its container.
pub(super) fn boots(tree: &Tree) -> bool {
    let init = ["/sbin/init", "/init", "/etc/inittab"];
    Boot::of(tree) != Boot::Unknown || init.iter().any(|path| tree.has(Path::new(path)))
}

/// Debian's group `staff`, which may change /usr/local (its policy, section 9.1.2).
const STAFF: u32 = 50;

/// Refuses a place where somebody else could put another emulator: each boot registers it, and then it runs
/// as whoever starts a foreign program, root too.
fn others_may_write(tree: &Tree, lib_dir: &Path) -> Result<(), Error> {
    for dir in lib_dir.ancestors() {
        let Some((owner, group, mode)) = tree.rights(dir) else { continue };
        let ours = [0, geteuid().as_raw()].contains(&owner);
        let by_group = mode & 0o020 != 0 && ![0, STAFF].contains(&group);
        if !ours || by_group || mode & 0o002 != 0 {
            return Err(Error::Host {
                what: format!(
                    "{} belongs to somebody else, or others may write to it",
                    tree.shown(dir).display()
                ),
                hint: format!(
                    "give it to root alone: chown root:root {0} && chmod go-w {0}; or choose another place with --lib-dir",
                    tree.outside(dir)
                ),
            });
        }
    }
    Ok(())
}

/// Whether process 1 is an init, as in a whole system: system containers have a user namespace, too.
fn booted(root: &Root) -> bool {
    let name = std::fs::read_to_string(root.proc("1/comm")).unwrap_or_default();
    ["systemd", "init", "openrc-init", "runit", "s6-svscan"].contains(&name.trim())
}

fn foreign(tree: &Tree, what: &str) -> Error {
    Error::Host {
        what: format!(
            "the system in {} is for {what}, which this machine does not run natively",
            tree.shown(Path::new("/")).display()
        ),
        hint: "run `persist` on that machine: it needs emulators that are built for it".to_owned(),
    }
}
