//! The kernel's side: is there a binfmt_misc, can it be reached, and does it take registrations.

use std::path::Path;

use super::{
    Check, Finding, Fix, Level, Result, advice, command, echo, failure, install, ok, point, repair,
    unknown, warning,
};
use crate::arch::ARCHES;
use crate::kernel;
use crate::root::MOUNT_POINT;
use crate::state::{Config, Mount, State, UserNamespace};

const PRIVILEGED: &str = "run it as root; in a container, with --privileged";
const OWNER: &str = "run it as root, with sudo; in a container, with --privileged. In a user namespace that sees the host's \
    binfmt_misc even root may not";
const BIND: &str = "or give the container the host's mount, where it has one: -v /proc/sys/fs/binfmt_misc:/binfmt_misc, with \
    --mount /binfmt_misc";

/// In the order in which one depends on the other.
pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "kernel-version",
        about: "the kernel knows flag F",
        story: "Flag F opens the emulator when it is registered, not when a program starts, so that containers \
            need no emulator of their own. Linux has it since 4.8; before that, registering with F gives \
            \"invalid argument\".",
        blocks_install: true,
        run: kernel_version,
    },
    Check {
        id: "kernel-support",
        about: "the kernel has binfmt_misc",
        story: "Without CONFIG_BINFMT_MISC, or while its module is not loaded, mounting binfmt_misc gives \"no such \
            device\". A container cannot load modules from its own files; mounting asks the host's kernel to load \
            it, which works where modprobe and the module are installed.",
        blocks_install: true,
        run: kernel_support,
    },
    Check {
        id: "user-namespace",
        about: "which binfmt_misc is used here",
        story: "Since Linux 6.7 each user namespace may have a binfmt_misc of its own. The kernel uses that of the nearest \
            namespace around a program that has one. What is registered in a rootless container's namespace is for it \
            alone. Before 6.7 there is only the host's.",
        blocks_install: true,
        run: user_namespace,
    },
    Check {
        id: "private-instance",
        about: "this user namespace is not cut off from the host's entries",
        story: "Once a user namespace has mounted binfmt_misc, it has one of its own until it ends, even after unmounting, \
            and no longer sees the host's. One install in rootless Podman or Docker is enough: programs for other \
            architectures then run for root, but not in rootless containers.",
        blocks_install: false,
        run: private_instance,
    },
    Check {
        id: "privileges",
        about: "this process may mount and register",
        story: "Registering needs uid 0 of the user namespace that owns the binfmt_misc, and a writable mount of it. \
            Mounting needs CAP_SYS_ADMIN, which containers have only with --privileged. Looking needs no rights.",
        blocks_install: false,
        run: privileges,
    },
    Check {
        id: "mounted",
        about: "binfmt_misc is mounted",
        story: "Entries are made through a mount of binfmt_misc. They also work where it is not mounted. But since Linux 6.7 \
            the kernel removes all entries when the last mount goes.",
        blocks_install: true,
        run: mounted,
    },
    Check {
        id: "automount",
        about: "systemd's automount has been triggered",
        story: "systemd mounts binfmt_misc when somebody on the host first looks at it. A container does not trigger that. \
            So what other tools register from a container goes when that container ends. `ls` on the host triggers it.",
        blocks_install: false,
        run: automount,
    },
    Check {
        id: "writable",
        about: "binfmt_misc is mounted writable",
        story: "Containers without --privileged see /proc/sys read-only: registering gives \"read-only file system\".",
        blocks_install: true,
        run: writable,
    },
    Check {
        id: "enabled",
        about: "binfmt_misc is switched on as a whole",
        story: "Writing 0 to its file `status` switches all entries off, while each still reads `enabled`. Every program for \
            another architecture then gets \"exec format error\".",
        blocks_install: true,
        run: enabled,
    },
];

fn kernel_version(state: &State) -> Vec<Result> {
    match &state.kernel {
        Err(why) => unknown(format!("kernel version unknown: {why}")),
        Ok(v) if !kernel::FLAG_F.is_in(v) => failure(
            format!(
                "kernel {}.{}.{} is too old: flag F, without which containers find no emulator, needs 4.8",
                v.major, v.minor, v.patch
            ),
            "programs for other architectures do not start in containers",
            advice("update the kernel"),
        ),
        Ok(v) => ok(format!("kernel {}.{}.{} knows flag F", v.major, v.minor, v.patch)),
    }
}

fn kernel_support(state: &State) -> Vec<Result> {
    let all = "no program for another architecture runs";
    match (&state.filesystem, &state.config, &state.module) {
        _ if state.mounted() => ok("the kernel has binfmt_misc"),
        (Ok(true), ..) => ok("the kernel has binfmt_misc"),
        (_, Ok(Config::Absent), _) => failure(
            "this kernel was built without binfmt_misc (CONFIG_BINFMT_MISC is not set)",
            all,
            advice("use a kernel with CONFIG_BINFMT_MISC=y or =m"),
        ),
        (Ok(false), _, Ok(true)) => warning(
            "the module binfmt_misc is not loaded; mounting loads it where that is allowed",
            all,
            repair("modprobe binfmt_misc"),
        ),
        (Ok(false), Ok(Config::Module), _) | (Ok(false), Err(_), _) => warning(
            "the kernel does not know binfmt_misc yet: its module is not loaded, or there is none",
            all,
            repair("modprobe binfmt_misc").and("on the host: a container cannot load its modules"),
        ),
        (Ok(false), Ok(Config::BuiltIn), _) => {
            unknown("the kernel's configuration has binfmt_misc, its list of file systems has not")
        }
        (Err(why), ..) => unknown(format!("whether the kernel has binfmt_misc is unknown: {why}")),
    }
}

fn user_namespace(state: &State) -> Vec<Result> {
    match &state.user_namespace {
        Err(why) => unknown(format!("user namespace unknown: {why}")),
        Ok(UserNamespace::Initial) => {
            ok("the host's own user namespace: registrations are for the whole machine")
        }
        Ok(UserNamespace::Nested) => match state.version() {
            Some(v) if !kernel::OWN_INSTANCE.is_in(&v) => failure(
                "inside a user namespace, which cannot have a binfmt_misc of its own before Linux 6.7",
                "installing from here fails",
                advice("run as root on the host, outside rootless containers"),
            ),
            _ => ok(
                "a nested user namespace: registrations are for it and those below it, not for the whole machine",
            ),
        },
    }
}

fn private_instance(state: &State) -> Vec<Result> {
    match (&state.user_namespace, &state.instance) {
        (Ok(UserNamespace::Nested), Ok(instance)) if instance.entries.is_empty() => warning(
            "this user namespace has a binfmt_misc of its own, and that is empty",
            "programs for other architectures do not start here, whatever is registered on the host",
            install(state, "all", false).and(format!("or {END}")),
        ),
        (Ok(UserNamespace::Nested), Ok(_)) if !state.not_asked().is_empty() => not_asked(state),
        (Ok(UserNamespace::Nested), Err(_)) if nothing_foreign_runs(state) && !state.covered => warning(
            "no emulator works here: nothing is registered on the host, or this user namespace has a binfmt_misc of its own, which \
                is empty",
            "programs for other architectures do not start here: exec format error",
            match state.sys_admin {
                Ok(true) => install(state, "all", false).and(format!(
                    "that is for this namespace alone, and for as long as it or its container lasts; where the host has \
                    emulators, {END}"
                )),
                _ => advice(format!("install on the host, as root; where it has emulators, {END}")),
            },
        ),
        (Err(why), _) => unknown(format!("user namespace unknown: {why}")),
        _ => ok("not cut off from anybody's entries"),
    }
}

const END: &str = "end the namespace: `podman system migrate`, or restart the rootless engine";

/// Whether test programs of other architectures were tried, and none ran.
fn nothing_foreign_runs(state: &State) -> bool {
    let foreign = || ARCHES.iter().filter(|arch| !arch.may_be_native());
    foreign().any(|arch| state.probe(arch).is_some())
        && foreign().all(|arch| state.run_by(arch) == Ok(None))
}

/// The entries in sight are not those that the kernel goes by.
pub(crate) fn not_asked(state: &State) -> Vec<Result> {
    let found = state.not_asked();
    let names: Vec<_> = found.iter().map(|(_, entry)| entry.name.as_str()).collect();
    let arches: Vec<_> = found.iter().map(|(arch, _)| arch.oci).collect();
    let what = format!(
        "{}: seen here, but not used: this user namespace has a binfmt_misc of its own, which is not the one mounted here",
        names.join(", ")
    );
    let way = match state.sys_admin {
        // Namespaces are parted already: this mount parts them from nothing.
        Ok(true) => repair(format!(
            "mount -t binfmt_misc binfmt_misc {} && {}",
            point(state),
            command(state, format!("--install {}", arches.join(","))).in_one_line()
        ))
        .done_by([Fix::Mount, Fix::Install { list: arches.join(","), replace: false }])
        .and(format!("that is for this namespace alone; or {END}")),
        _ => advice(END),
    };
    let effect = format!("programs for {} do not start: exec format error", arches.join(", "));
    failure(what, effect, way)
}

fn privileges(state: &State) -> Vec<Result> {
    let install = "installing from here";
    match (&state.root, &state.sys_admin) {
        (Ok(true), Ok(true)) => ok("root with CAP_SYS_ADMIN: may mount and register"),
        (Ok(true), Ok(false)) => ok(
            "root without CAP_SYS_ADMIN: may register where binfmt_misc is mounted already, but not mount it",
        ),
        (Ok(false), _) => ok("not root: can look, but not register"),
        (Err(why), _) | (_, Err(why)) => {
            unknown(format!("privileges unknown: {why}; {install} may fail"))
        }
    }
}

fn mounted(state: &State) -> Vec<Result> {
    match (&state.mount, &state.sys_admin) {
        (Ok(Mount::Binfmt { .. }), _) if state.mount_point != Path::new(MOUNT_POINT) => {
            ok(format!("binfmt_misc is mounted at {}", state.mount_point.display()))
        }
        (Ok(Mount::Binfmt { .. }), _) => ok("binfmt_misc is mounted"),
        (Ok(Mount::Other(fs)), _) if state.covered => failure(
            format!("{fs} is mounted over binfmt_misc, which hides it"),
            "entries cannot be seen, and installing from here fails",
            match state.sys_admin {
                Ok(true) => repair(format!("umount {}", point(state))),
                _ => advice(format!("as root: umount {}", point(state))),
            },
        ),
        (Ok(Mount::None | Mount::Other(_)), _) if !state.mount_would_hide().is_empty() => ok(
            "binfmt_misc is not mounted here, and should not be: programs run by the entries of a namespace around this one, \
                which a mount would hide",
        ),
        (Ok(Mount::None | Mount::Other(_)), _) if state.mount_filtered => failure(
            "binfmt_misc is not mounted here, and a filter of system calls (seccomp) forbids mounting it",
            "installing from here fails, and entries cannot be seen",
            advice(format!("{PRIVILEGED}; {BIND}")),
        ),
        (Ok(Mount::None | Mount::Other(_)), Ok(false)) => failure(
            "binfmt_misc is not mounted here, and mounting it needs CAP_SYS_ADMIN",
            "installing from here fails, and entries cannot be seen",
            advice(format!("{PRIVILEGED}; {BIND}")),
        ),
        (Ok(Mount::None), _)
            if state.user_namespace == Ok(UserNamespace::Nested) && nothing_foreign_runs(state) =>
        {
            ok("binfmt_misc is not mounted here, as in most containers")
        }
        (Ok(Mount::None), _) if state.instance.is_ok() => {
            ok("binfmt_misc is not mounted here; its entries were seen by a mount for a moment")
        }
        (Ok(Mount::None), _) => warning(
            "binfmt_misc is not mounted here",
            "entries made elsewhere cannot be seen or changed",
            command(state, "--install all").and("it mounts binfmt_misc"),
        ),
        (Ok(Mount::Autofs), _) => ok("binfmt_misc is mounted as soon as the host looks at it"),
        (Ok(Mount::Other(fs)), _) => warning(
            format!("{fs} is mounted at the mount point, not binfmt_misc"),
            "entries made elsewhere cannot be seen or changed",
            command(state, "--install all").and("it mounts binfmt_misc on top"),
        ),
        (Err(why), _) => unknown(format!("mounts unknown: {why}")),
    }
}

fn automount(state: &State) -> Vec<Result> {
    match &state.mount {
        Ok(Mount::Autofs) => warning(
            "systemd's automount of binfmt_misc has not been triggered",
            "nothing holds what other tools' containers register",
            repair(format!("ls {}", point(state))),
        ),
        Ok(_) => ok("no automount waits to be triggered"),
        Err(why) => unknown(format!("mounts unknown: {why}")),
    }
}

fn writable(state: &State) -> Vec<Result> {
    match &state.mount {
        Ok(Mount::Binfmt { writable: false }) => failure(
            "binfmt_misc is mounted read-only here",
            "installing and uninstalling from here fail",
            if state.sys_admin == Ok(true) {
                repair(format!("mount -o remount,rw {}", point(state))).done_by([Fix::Writable])
            } else {
                advice(PRIVILEGED)
            },
        ),
        Ok(Mount::Binfmt { writable: true }) => ok("binfmt_misc is mounted writable"),
        Ok(Mount::None) if state.instance.is_ok() => ok("an install mounts binfmt_misc writable"),
        _ => unknown("whether binfmt_misc can be written is not known until it is mounted"),
    }
}

/// What keeps entries from being made or removed through the mount that is there.
pub(crate) fn not_to_be_changed(state: &State) -> Option<Finding> {
    let denied = || match state.mounted() && state.may_write == Ok(false) {
        true => failure(
            "you may look at binfmt_misc here, but not change it",
            "installing and uninstalling from here fail",
            advice(OWNER),
        ),
        false => Vec::new(),
    };
    let all = writable(state).into_iter().chain(denied());
    all.map(|result| result.called("writable")).find(|finding| finding.level == Level::Failure)
}

fn enabled(state: &State) -> Vec<Result> {
    match &state.instance {
        Ok(instance) if instance.enabled => ok("binfmt_misc is enabled"),
        Ok(_) => failure(
            "binfmt_misc is disabled as a whole: no entry takes effect",
            "no program for another architecture starts: exec format error",
            echo(state, "1", "status"),
        ),
        Err(why) => unknown(format!("entries cannot be seen: {why}")),
    }
}
