//! What runs at a system's boot, and what of ours it needs. Only looks.

use std::path::{Path, PathBuf};

use super::{CONF, CONF_HEAD};
use crate::root::MOUNT_POINT;
use crate::tree::Tree;

/// What must run at boot for [`CONF`] to take effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Boot {
    /// systemd-binfmt does.
    Present,
    /// systemd without systemd-binfmt, or with it masked: a unit of ours.
    Systemd,
    /// OpenRC: a service of ours. Its own need not be in a runlevel, and that of older versions
    /// takes the backslashes out of registrations (`read` without `-r` in its binfmt.sh).
    OpenRc,
    /// Neither systemd nor OpenRC.
    Unknown,
}

/// Where an administrator masks systemd-binfmt.
const BINFMT_UNIT: &str = "/etc/systemd/system/systemd-binfmt.service";
const BINFMT_WSL: &str = "/usr/lib/systemd/system/systemd-binfmt.service.d/wsl.conf";
pub(super) const UNIT: &str = "/etc/systemd/system/binfmtctl.service";
const UNIT_WANTED: &str = "/etc/systemd/system/sysinit.target.wants/binfmtctl.service";
pub(super) const INIT: &str = "/etc/init.d/binfmtctl";
const INIT_WANTED: &str = "/etc/runlevels/boot/binfmtctl";

/// A file to be there, with its content.
pub(super) type Wanted = (PathBuf, u32, String);

impl Boot {
    pub(super) fn of(tree: &Tree) -> Self {
        let any = |paths: &[&str]| paths.iter().any(|path| tree.has(Path::new(path)));
        // Some mask it, as it drops the entries of others: WSL's, for one. Ubuntu's images for WSL brought a
        // condition instead, until 2025.
        let masked =
            tree.link_text(Path::new(BINFMT_UNIT)).is_some_and(|to| to == Path::new("/dev/null"));
        let condition = tree.read(Path::new(BINFMT_WSL)).unwrap_or_default();
        let masked = masked || condition.contains("ConditionVirtualization=!wsl");
        if !masked && any(&["/usr/lib/systemd/systemd-binfmt", "/lib/systemd/systemd-binfmt"]) {
            Self::Present
        } else if any(&["/usr/lib/systemd/systemd", "/lib/systemd/systemd"]) {
            Self::Systemd
        } else if any(&["/sbin/openrc-run", "/usr/sbin/openrc-run"]) {
            Self::OpenRc
        } else {
            Self::Unknown
        }
    }

    /// The files of ours it needs.
    pub(super) fn files(self, script: &Path) -> Vec<Wanted> {
        let start = script.display();
        match self {
            Self::Present | Self::Unknown => Vec::new(),
            Self::Systemd => vec![(
                UNIT.into(),
                0o644,
                format!(
                    "[Unit]\nDescription=Register emulators for other architectures\n\
                     DefaultDependencies=no\nAfter=local-fs.target proc-sys-fs-binfmt_misc.automount\n\
                     Before=sysinit.target\nRequiresMountsFor={start}\n\n\
                     [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh {start}\n\n\
                     [Install]\nWantedBy=sysinit.target\n"
                ),
            )],
            Self::OpenRc => vec![(
                INIT.into(),
                0o755,
                format!(
                    "#!/sbin/openrc-run\ndescription=\"Register emulators for other architectures\"\n\n\
                     depend() {{\n\tneed localmount\n\tafter procfs modules binfmt\n}}\n\nstart() {{\n\tebegin \"Registering emulators\"\n\
                     \t/bin/sh {start}\n\teend $?\n}}\n"
                ),
            )],
        }
    }

    /// The link that makes it run, and what it points to.
    pub(super) fn link(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Systemd => Some((UNIT_WANTED, "../binfmtctl.service")),
            Self::OpenRc => Some((INIT_WANTED, INIT)),
            Self::Present | Self::Unknown => None,
        }
    }
}

/// What our own services run: registers each line of [`CONF`].
pub(super) fn script() -> String {
    format!(
        "#!/bin/sh\n# Registers what {CONF} holds. {}\
         d={MOUNT_POINT}\n\
         [ -e $d/register ] || mount -t binfmt_misc binfmt_misc $d || exit 1\n\
         while IFS= read -r rule; do\n\
         \tcase $rule in '' | '#'*) continue ;; esac\n\
         \tname=${{rule#?}} name=${{name%%\"${{rule%\"$name\"}}\"*}}\n\
         \t[ ! -e \"$d/$name\" ] || echo -1 >\"$d/$name\"\n\
         \tprintf '%s\\n' \"$rule\" >$d/register || failed=1\n\
         done <{CONF}\nexit ${{failed:-0}}\n",
        CONF_HEAD.trim_start_matches("# "),
    )
}
