//! What may be wrong with a host: a table of pure checks.
//!
//! Ids never change; messages may. A check that could not look says so and is no failure.

use crate::host::{Config, Mount, State, UserNamespace};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Level {
    Ok,
    Unknown,
    Warning,
    Failure,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The check's id.
    pub id: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What is so.
    pub what: String,
    /// What to do about it; empty where nothing is to be done.
    pub repair: String,
}

/// One row: an id, what it looks at, whether its failure makes an install pointless.
pub struct Check {
    /// Stable id.
    pub id: &'static str,
    /// Whether an install stops at its failure.
    pub blocks_install: bool,
    run: fn(&State) -> (Level, String, String),
}

/// All checks, in the order in which one depends on the other.
pub const CHECKS: &[Check] = &[
    Check { id: "kernel-version", blocks_install: true, run: kernel_version },
    Check { id: "kernel-support", blocks_install: true, run: kernel_support },
    Check { id: "user-namespace", blocks_install: false, run: user_namespace },
    Check { id: "root", blocks_install: false, run: privileges },
    Check { id: "mounted", blocks_install: true, run: mounted },
    Check { id: "writable", blocks_install: true, run: writable },
    Check { id: "enabled", blocks_install: true, run: enabled },
];

impl Check {
    /// Looks at one state.
    pub fn run(&self, state: &State) -> Finding {
        let (level, what, repair) = (self.run)(state);
        Finding { id: self.id, level, what, repair }
    }
}

/// Runs all checks.
pub fn check(state: &State) -> Vec<Finding> {
    CHECKS.iter().map(|check| check.run(state)).collect()
}

/// The first finding that makes an install pointless.
pub fn obstacle(state: &State) -> Option<Finding> {
    CHECKS
        .iter()
        .filter(|check| check.blocks_install)
        .map(|check| check.run(state))
        .find(|finding| finding.level == Level::Failure)
}

fn ok(what: impl Into<String>) -> (Level, String, String) {
    (Level::Ok, what.into(), String::new())
}

fn warning(what: impl Into<String>, repair: &str) -> (Level, String, String) {
    (Level::Warning, what.into(), repair.to_owned())
}

fn failure(what: impl Into<String>, repair: impl Into<String>) -> (Level, String, String) {
    (Level::Failure, what.into(), repair.into())
}

fn unknown(what: impl Into<String>) -> (Level, String, String) {
    (Level::Unknown, what.into(), String::new())
}

fn kernel_version(state: &State) -> (Level, String, String) {
    match &state.kernel {
        Err(why) => unknown(format!("kernel version unknown: {why}")),
        Ok(v) if (v.major, v.minor) < (4, 8) => failure(
            format!(
                "kernel {}.{}.{} is too old: flag F, without which containers find no emulator, needs 4.8",
                v.major, v.minor, v.patch
            ),
            "update the kernel",
        ),
        Ok(v) => ok(format!("kernel {}.{}.{} knows flag F", v.major, v.minor, v.patch)),
    }
}

fn kernel_support(state: &State) -> (Level, String, String) {
    let seen = matches!(state.mount, Ok(Mount::Binfmt { .. }));
    match (&state.filesystem, &state.config, &state.module) {
        _ if seen => ok("the kernel has binfmt_misc"),
        (Ok(true), ..) => ok("the kernel has binfmt_misc"),
        (_, Ok(Config::Absent), _) => failure(
            "this kernel was built without binfmt_misc (CONFIG_BINFMT_MISC is not set)",
            "use a kernel with CONFIG_BINFMT_MISC=y or =m",
        ),
        (Ok(false), _, Ok(true)) => warning(
            "the module binfmt_misc is not loaded; mounting loads it where that is allowed",
            "modprobe binfmt_misc",
        ),
        (Ok(false), Ok(Config::Module), _) | (Ok(false), Err(_), _) => warning(
            "the kernel does not know binfmt_misc yet: its module is not loaded, or there is none",
            "run `modprobe binfmt_misc` on the host",
        ),
        (Ok(false), Ok(Config::BuiltIn), _) => {
            unknown("the kernel's configuration has binfmt_misc, its list of file systems has not")
        }
        (Err(why), ..) => unknown(format!("whether the kernel has binfmt_misc is unknown: {why}")),
    }
}

fn user_namespace(state: &State) -> (Level, String, String) {
    match &state.user_namespace {
        Err(why) => unknown(format!("user namespace unknown: {why}")),
        Ok(UserNamespace::Initial) => {
            ok("the host's own user namespace: registrations are for the whole machine")
        }
        Ok(UserNamespace::Nested) => match state.version() {
            Some(v) if (v.major, v.minor) < (6, 7) => failure(
                "inside a user namespace, which cannot have a binfmt_misc of its own before Linux 6.7",
                "run as root on the host, outside rootless containers",
            ),
            _ => ok(
                "a nested user namespace: registrations are for it and those below it, not for the whole machine",
            ),
        },
    }
}

fn privileges(state: &State) -> (Level, String, String) {
    match (&state.root, &state.sys_admin) {
        (Ok(true), Ok(true)) => ok("root with CAP_SYS_ADMIN: may mount and register"),
        (Ok(true), Ok(false)) => warning(
            "root without CAP_SYS_ADMIN: may register where binfmt_misc is mounted already, but not mount it",
            "run the container with --privileged",
        ),
        (Ok(false), _) => warning("not root: can look, but not register", "run as root"),
        (Err(why), _) | (_, Err(why)) => unknown(format!("privileges unknown: {why}")),
    }
}

fn mounted(state: &State) -> (Level, String, String) {
    match (&state.mount, &state.sys_admin) {
        (Ok(Mount::Binfmt { .. }), _) => ok("binfmt_misc is mounted"),
        (Ok(Mount::None | Mount::Other(_)), Ok(false)) => failure(
            "binfmt_misc is not mounted here, and mounting it needs CAP_SYS_ADMIN",
            "run the container with --privileged, or give it the host's mount: -v /proc/sys/fs/binfmt_misc:/binfmt_misc, with --mount /binfmt_misc",
        ),
        (Ok(Mount::None), _) => warning("binfmt_misc is not mounted here", "--install mounts it"),
        (Ok(Mount::Autofs), _) => {
            ok("binfmt_misc is mounted as soon as the host looks at it (automount)")
        }
        (Ok(Mount::Other(fs)), _) => warning(
            format!("{fs} is mounted at the mount point, not binfmt_misc"),
            "--install mounts binfmt_misc on top of it",
        ),
        (Err(why), _) => unknown(format!("mounts unknown: {why}")),
    }
}

fn writable(state: &State) -> (Level, String, String) {
    match &state.mount {
        Ok(Mount::Binfmt { writable: false }) => failure(
            "binfmt_misc is mounted read-only here",
            "run the container with --privileged, or mount it writable elsewhere and use --mount",
        ),
        Ok(Mount::Binfmt { writable: true }) => ok("binfmt_misc is mounted writable"),
        _ => unknown("whether binfmt_misc can be written is not known until it is mounted"),
    }
}

fn enabled(state: &State) -> (Level, String, String) {
    match &state.instance {
        Ok(instance) if instance.enabled => ok("binfmt_misc is enabled"),
        Ok(_) => failure(
            "binfmt_misc is disabled as a whole: no entry takes effect",
            "echo 1 > /proc/sys/fs/binfmt_misc/status",
        ),
        Err(why) => unknown(format!("entries cannot be seen: {why}")),
    }
}
