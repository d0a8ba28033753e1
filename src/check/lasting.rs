//! What else on the machine has a say: what will undo an install, and what keeps programs from running.

use super::{Check, Level, Result, Way, advice, command, ok, point, repair, unknown, warning};

use crate::entry::Entry;
use crate::kernel;
use crate::state::State;
use crate::state::Surroundings;

/// In the order of how soon each takes effect.
pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "security-module",
        about: "no security module is known to stand in the way",
        story: "Under SELinux a container may execute an emulator only if its file's label allows it; \
            \"container_file_t\" with another container's categories makes programs end silently or with signal 11. \
            binfmtctl gives its emulators the label of its own program. AppArmor profiles may deny mounting.",
        blocks_install: false,
        run: security_module,
    },
    Check {
        id: "seccomp",
        about: "whether system calls are filtered",
        story: "Containers filter system calls unless they are started with --privileged. For an emulated program, the \
            filter applies to the calls of its emulator. If a program fails with \"operation not permitted\" or \
            \"function not implemented\" here, and not outside, try it with --security-opt seccomp=unconfined.",
        blocks_install: false,
        run: seccomp,
    },
    Check {
        id: "no-new-privs",
        about: "setuid programs may gain rights here",
        story: "A process with no_new_privs, or on a mount with nosuid, starts setuid programs without their owner's \
            rights, emulated or not: sudo says \"effective uid is not 0\". Flag C cannot change that.",
        blocks_install: false,
        run: no_new_privs,
    },
    Check {
        id: "cut-off",
        about: "no user namespace is cut off from the host's entries",
        story: "If the user namespace of a rootless engine once mounted binfmt_misc, it has an empty one of its own until it \
            ends. Programs for other architectures then run for root, but give \"exec format error\" in its containers. \
            Only namespaces that still have it mounted can be found.",
        blocks_install: false,
        run: cut_off,
    },
    Check {
        id: "lasting",
        about: "the host has binfmt_misc mounted",
        story: "Since Linux 6.7 (and 5.4.283, 5.10.225, 6.1.107) the kernel removes all entries when the last mount of \
            binfmt_misc goes. If the host does not mount it, what other tools register from a container is gone when \
            that container ends. binfmtctl keeps a mount alive for its own entries.",
        blocks_install: false,
        run: lasting,
    },
    Check {
        id: "systemd-binfmt",
        about: "systemd-binfmt knows every emulator's entry",
        story: "`systemctl restart systemd-binfmt`, which package upgrades do too, removes every entry and registers those \
            that the files in binfmt.d name. Entries that no file names are gone. `binfmtctl persist` writes such a \
            file; `binfmtctl hold` puts back what vanishes.",
        blocks_install: false,
        run: systemd_binfmt,
    },
    Check {
        id: "wiping",
        about: "nothing is seen that removes all entries",
        story: "systemd removes every entry when it stops, and systemd-binfmt when it starts, whoever made them. In a \
            container with --privileged it does that to the host's. WSL's distributions share one binfmt_misc: when one \
            stops, the others lose their entries, WSLInterop too. `binfmtctl hold` puts back what vanishes.",
        blocks_install: false,
        run: wiping,
    },
    Check {
        id: "binfmt-support",
        about: "Debian's binfmt-support registers with flag F",
        story: "binfmt-support before 2.1.7 registers without flag F, so emulators are not found in containers. Later \
            versions set F only for records in /var/lib/binfmts that ask for it. All others are registered without F at \
            every boot.",
        blocks_install: false,
        run: binfmt_support,
    },
    Check {
        id: "builder",
        about: "builders see the current platforms",
        story: "buildkitd, and dockerd with it, only adds platforms to its list. A platform that was uninstalled stays in \
            `docker buildx ls` until it restarts, and a build for it fails.",
        blocks_install: false,
        run: builder,
    },
    Check {
        id: "virtual-host",
        about: "which machine entries are registered on",
        story: "Docker Desktop and WSL run containers in a virtual machine of their own. Entries are registered there, and \
            are gone when it restarts.",
        blocks_install: false,
        run: virtual_host,
    },
];

/// Of a process that has it: nothing takes it away.
pub(crate) const NO_NEW_PRIVS: &str = "it cannot be taken back: start from where it is not set; a container without --security-opt \
    no-new-privileges, a systemd service without NoNewPrivileges=";

fn look(state: &State, check: impl FnOnce(&Surroundings) -> Vec<Result>) -> Vec<Result> {
    state
        .surroundings
        .as_ref()
        .map_or_else(|| unknown("the surroundings were not looked at"), check)
}

fn security_module(state: &State) -> Vec<Result> {
    look(state, |around| {
        let profile = match &around.apparmor {
            Ok(profile) => profile.as_ref().filter(|name| name.ends_with("(enforce)")),
            Err(why) => return unknown(format!("whether AppArmor confines us is unknown: {why}")),
        };
        if let Some(profile) = profile
            && state.sys_admin == Ok(true)
        {
            return warning(
                format!("AppArmor confines this process: {profile}"),
                "mounting, and so installing from here, fails where the profile denies it",
                advice(
                    "start the container with --privileged, or with --security-opt apparmor=unconfined",
                ),
            );
        }
        let of_container = |(name, label): (&String, &String)| {
            let path = state.instance.as_ref().ok()?.entry(name)?.interpreter.display();
            (label.split(':').nth(2) == Some("container_file_t")).then(|| Result {
                level: Level::Warning,
                what: format!("{path} of {name} has a container's SELinux label: {label}"),
                effect: "in other containers, programs for other architectures end silently or with signal 11"
                    .to_owned(),
                way: repair(format!("chcon -t bin_t {path}")),
            })
        };
        let found: Vec<_> = around.labels.iter().filter_map(of_container).collect();
        if !found.is_empty() {
            return found;
        }
        match &around.selinux {
            Ok(true) => ok("SELinux enforces, and no emulator has a container's label"),
            Ok(false) => ok("no security module confines this process"),
            Err(why) => unknown(format!("whether SELinux enforces is unknown: {why}")),
        }
    })
}

fn seccomp(state: &State) -> Vec<Result> {
    look(state, |around| match &around.seccomp {
        Ok(true) => ok("system calls are filtered here, those of emulators too"),
        Ok(false) => ok("system calls are not filtered here"),
        Err(why) => unknown(format!("whether system calls are filtered is unknown: {why}")),
    })
}

fn cut_off(state: &State) -> Vec<Result> {
    look(state, |around| {
        let entries = state.instance.iter().flat_map(|instance| &instance.entries);
        if entries.filter(|entry| entry.enabled).count() == 0 {
            return ok("there are no entries to be cut off from");
        }
        match &around.cut_off {
            Err(why) => {
                unknown(format!("whether rootless engines see the entries is unknown: {why}"))
            }
            Ok(processes) if processes.is_empty() => {
                ok("no user namespace is cut off from these entries")
            }
            Ok(processes) => {
                let one = |(name, id): &(String, u32)| {
                    Result {
                    level: Level::Warning,
                    what: format!(
                        "the user namespace of process {id} ({name}) has a binfmt_misc of its own, which is empty"
                    ),
                    effect: "programs for other architectures do not start in its containers: exec format error".to_owned(),
                    way: advice(
                        "as its user: podman system migrate; or restart its rootless engine",
                    ),
                }
                };
                processes.iter().map(one).collect()
            }
        }
    })
}

fn no_new_privs(state: &State) -> Vec<Result> {
    look(state, |around| match &around.no_new_privs {
        Ok(true) => warning(
            "no_new_privs is set for this process and all it starts",
            "sudo and other setuid programs started from here do not get their owner's rights",
            advice(NO_NEW_PRIVS),
        ),
        Ok(false) => ok("setuid programs may gain rights here"),
        Err(why) => unknown(format!("whether setuid programs may gain rights is unknown: {why}")),
    })
}

fn lasting(state: &State) -> Vec<Result> {
    look(state, |around| match (&around.held_by_init, &state.version()) {
        (Ok(true), _) => ok("the host has binfmt_misc mounted: entries stay"),
        (_, Some(v)) if !kernel::ENTRIES_GO_WITH_MOUNT.is_in(v) => {
            ok("this kernel keeps entries without a mount")
        }
        (Ok(false), _) => warning(
            "the host itself does not have binfmt_misc mounted",
            "what other tools register from a container is gone when that container ends; binfmtctl keeps its own entries",
            advice("on the host: mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc"),
        ),
        (Err(why), _) => {
            unknown(format!("whether the host has binfmt_misc mounted is unknown: {why}"))
        }
    })
}

fn systemd_binfmt(state: &State) -> Vec<Result> {
    look(state, |around| {
        let Ok(instance) = &state.instance else { return unknown("entries cannot be seen") };
        match &around.systemd_binfmt {
            Ok(true) => {}
            Ok(false) => return ok("systemd-binfmt does not run here"),
            Err(why) => {
                return unknown(format!("whether systemd-binfmt runs here is unknown: {why}"));
            }
        }
        let configured = match &around.configured {
            Ok(configured) => configured,
            Err(why) => {
                return unknown(format!("what systemd-binfmt registers is unknown: {why}"));
            }
        };
        let lost: Vec<_> = instance
            .entries
            .iter()
            .filter(|entry| entry.is_qemu() && !configured.contains(&entry.name))
            .map(|entry| entry.name.as_str())
            .collect();
        if lost.is_empty() {
            return ok("systemd-binfmt knows every emulator's entry");
        }
        warning(
            format!("systemd-binfmt does not know {}", lost.join(", ")),
            "these are gone after `systemctl restart systemd-binfmt`, which upgrades do, and after a reboot",
            command(state, "persist --install all"),
        )
    })
}

/// Whether a Debian version is before `2.1.7`, by its upstream numbers.
fn before_2_1_7(version: &str) -> bool {
    let upstream = version.split('-').next().unwrap_or_default();
    let numbers: Vec<u32> = upstream.split('.').map_while(|number| number.parse().ok()).collect();
    numbers < vec![2, 1, 7]
}

fn binfmt_support(state: &State) -> Vec<Result> {
    look(state, |around| {
        let version = match &around.binfmt_support {
            Ok(Some(version)) => version,
            Ok(None) => return ok("binfmt-support is not installed"),
            Err(why) => {
                return unknown(format!("whether binfmt-support is installed is unknown: {why}"));
            }
        };
        if before_2_1_7(version) {
            return warning(
                format!("binfmt-support {version} registers without flag F"),
                "containers find no emulator once it has registered again",
                repair("apt-get remove binfmt-support").and("or install it from a newer release"),
            );
        }
        match &around.binfmt_support_without_f {
            Ok(names) if names.is_empty() => {
                ok(format!("binfmt-support {version} registers with flag F"))
            }
            Ok(names) => warning(
                format!("binfmt-support registers {} without flag F", names.join(", ")),
                "containers find no emulator from the next boot on",
                repair("apt-get install --only-upgrade qemu-user-static").and("or remove it"),
            ),
            Err(why) => unknown(format!("what binfmt-support registers is unknown: {why}")),
        }
    })
}

fn wiping(state: &State) -> Vec<Result> {
    const LOST: &str =
        "then no program for another architecture starts, here and in all containers";
    look(state, |around| {
        let mut found = Vec::new();
        if is_wsl(around) && around.systemd_binfmt == Ok(true) {
            found.extend(warning(
                "WSL's distributions share one binfmt_misc, and systemd removes all entries when one of them stops",
                LOST,
                advice(HOLD),
            ));
        }
        match &around.other_systemds {
            Err(why) => found.extend(unknown(format!("other systemds cannot be seen: {why}"))),
            Ok(systemds) => found.extend(systemds.iter().flat_map(|(name, id)| {
                let what = format!(
                    "process {id} ({name}) is the init of a container that may write these entries: it removes all of them \
                    when it starts systemd-binfmt, and when it stops"
                );
                warning(what, LOST, advice(format!("in that container: systemctl mask systemd-binfmt, and /proc/sys read-only (no --privileged); or {HOLD}")))
            })),
        }
        if found.is_empty() { ok("nothing is seen that removes all entries") } else { found }
    })
}

const HOLD: &str = "keep `binfmtctl hold` running: it puts back what vanishes";

fn is_wsl(around: &Surroundings) -> bool {
    around.release.as_deref().unwrap_or_default().to_lowercase().contains("microsoft")
}

fn builder(state: &State) -> Vec<Result> {
    look(state, |around| match &around.builders {
        Ok(builders) if builders.is_empty() => ok("no builder runs here"),
        Ok(builders) => ok(format!(
            "{} runs here: it only adds platforms to its list until it is restarted",
            builders.join(" and ")
        )),
        Err(why) => unknown(format!("whether a builder runs is unknown: {why}")),
    })
}

fn virtual_host(state: &State) -> Vec<Result> {
    look(state, |around| {
        let release = around.release.as_deref().unwrap_or_default().to_lowercase();
        let instance = state.instance.as_ref().ok();
        let interop =
            |entry: &Entry| entry.enabled && entry.name.to_lowercase().starts_with("wslinterop");
        if is_wsl(around) && instance.is_some_and(|it| !it.entries.iter().any(interop)) {
            return warning(
                "WSL's own entry, WSLInterop, is gone: something has removed all entries, as systemd does when it stops",
                "Windows programs do not start: exec format error",
                repair(format!("echo :WSLInterop:M::MZ::/init:PF > {}/register", point(state))),
            );
        }
        let machine = if is_wsl(around) {
            "WSL's"
        } else if release.contains("linuxkit") {
            "Docker Desktop's"
        } else {
            return ok("not a known virtual machine of a desktop product");
        };
        vec![Result {
            level: Level::Ok,
            what: format!("this is {machine} virtual machine: registrations go when it restarts"),
            effect: String::new(),
            way: Way::default(),
        }]
    })
}
