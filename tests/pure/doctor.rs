//! Each check finds what it is there for, and nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use binfmtctl::testing::{
    Arch, Class, Finding, HOST, Level, MOUNT_POINT, Outcome, Root, State, Surroundings, Way, check,
    checks, observe, stories,
};

use crate::hosts::{copy, hosts, probes};
use crate::support::{SOURCE, binfmtctl};

/// A healthy host with one working entry, to be broken.
struct Host {
    dir: tempfile::TempDir,
    probes: BTreeMap<String, serde_json::Value>,
    /// What a file cannot tell.
    edit: fn(&mut State),
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        copy(&hosts().join("healthy"), dir.path());
        let mut this = Self { dir, probes: BTreeMap::new(), edit: |_| {} };
        for (target, what) in [("x86_64", "native"), ("i386", "native"), ("aarch64", "11.1.3")] {
            this.probe(target, what.into());
        }
        this.write("proc/1/mountinfo", &this.read("proc/self/mountinfo"));
        this.entry("qemu-aarch64", "aarch64", "/usr/bin/qemu-aarch64", "POCF");
        this
    }

    fn write(&self, path: &str, text: &str) {
        self.bytes(path, text.as_bytes());
    }

    fn bytes(&self, path: &str, bytes: &[u8]) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.dir.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// A directory, also where a file should be.
    fn directory(&self, path: &str) {
        fs::create_dir_all(self.dir.path().join(path)).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.dir.path().join(path)).unwrap()
    }

    fn replace(&self, path: &str, from: &str, to: &str) {
        let text = self.read(path);
        assert!(text.contains(from), "{path} has no {from}");
        self.write(path, &text.replace(from, to));
    }

    fn entry(&self, name: &str, target: &str, interpreter: &str, flags: &str) {
        let hex = |bytes: Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let arch = Arch::by_target(target).unwrap();
        self.write(
            &format!("proc/sys/fs/binfmt_misc/{name}"),
            &format!(
                "enabled\ninterpreter {interpreter}\nflags: {flags}\noffset 0\nmagic {}\nmask {}\n",
                hex(arch.magic()),
                hex(arch.mask())
            ),
        );
    }

    fn probe(&mut self, target: &str, what: serde_json::Value) {
        self.probes.insert(target.to_owned(), what);
    }

    /// An emulator for 386, on a kernel with this command line and configuration.
    fn i386(&mut self, cmdline: &str, config: &str) {
        self.entry("qemu-i386", "i386", "/usr/bin/qemu-i386", "POCF");
        self.probe("i386", "11.1.3".into());
        self.write("proc/cmdline", &format!("{cmdline}\n"));
        let config = format!("CONFIG_BINFMT_MISC=m\n{config}\n");
        self.write("boot/config-6.12.48+deb13-amd64", &config);
    }

    /// A rootless engine's namespace has an instance of its own, which is empty.
    fn cut_off(&mut self) {
        self.edit = |state| {
            let around = state.surroundings.as_mut().unwrap();
            around.cut_off = Ok(vec![("catatonit".to_owned(), 123)]);
        };
    }

    /// An entry whose interpreter is this file; without F, as only then its path counts.
    fn interpreter(&mut self, bytes: &[u8]) {
        self.entry("qemu-aarch64", "aarch64", "/usr/bin/qemu-aarch64", "POCF");
        self.probe("aarch64", 8.into());
        self.bytes("usr/bin/qemu-aarch64", bytes);
    }

    fn all(&self) -> Vec<Finding> {
        let root = Root::new(self.dir.path(), Path::new(MOUNT_POINT));
        let mut state = observe(&root);
        state.probes = Ok(probes(&serde_json::to_string(&self.probes).unwrap()));
        state.surroundings = Some(Surroundings::observe(&root, &state.instance));
        (self.edit)(&mut state);
        check(&state)
    }

    /// What is not as it should be, worst first.
    fn findings(&self) -> Vec<(&'static str, Level)> {
        let wrong = self.all().into_iter().filter(|finding| finding.level >= Level::Warning);
        wrong
            .map(|finding| {
                assert!(!finding.effect.is_empty() && finding.way != Way::default(), "{finding:?}");
                (finding.id, finding.level)
            })
            .collect()
    }
}

/// A dynamically linked program of this machine.
fn dynamic() -> Vec<u8> {
    let mut program = HOST.probe();
    program[if HOST.class == Class::Elf64 { 64 } else { 52 }] = 3;
    program
}

#[test]
fn a_healthy_host_has_nothing_to_repair() {
    assert_eq!(Host::new().findings(), []);
}

type Break = fn(&mut Host);

/// One thing broken, one finding. Where one cause has two names, both are given.
const BREAKS: &[(&[&str], Break)] = &[
    (&["kernel-version"], |host| {
        host.write("proc/sys/kernel/osrelease", "4.4.0-210-generic\n");
        host.entry("qemu-aarch64", "aarch64", "/usr/bin/qemu-aarch64", "OCF");
    }),
    (&["kernel-support", "mounted"], |host| {
        host.write("proc/filesystems", "nodev\tproc\n");
        host.write("boot/config-6.12.48+deb13-amd64", "# CONFIG_BINFMT_MISC is not set\n");
        let mounts = host.read("proc/self/mountinfo");
        host.write(
            "proc/self/mountinfo",
            &mounts.lines().take(2).map(|l| format!("{l}\n")).collect::<String>(),
        );
    }),
    (&["kernel-support", "mounted"], |host| {
        host.write("proc/filesystems", "nodev\tproc\n");
        host.write("lib/modules/6.12.48+deb13-amd64/modules.dep", "kernel/fs/binfmt_misc.ko.xz:\n");
        let mounts = host.read("proc/self/mountinfo");
        host.write(
            "proc/self/mountinfo",
            &mounts.lines().take(2).map(|l| format!("{l}\n")).collect::<String>(),
        );
    }),
    (&["user-namespace"], |host| {
        host.write("proc/self/uid_map", "0 100000 65536\n");
        host.write("proc/sys/kernel/osrelease", "6.1.0-40-amd64\n");
    }),
    (&["private-instance"], |host| {
        host.write("proc/self/uid_map", "0 100000 65536\n");
        fs::remove_file(host.dir.path().join("proc/sys/fs/binfmt_misc/qemu-aarch64")).unwrap();
        host.probe("aarch64", 8.into());
    }),
    (&["mounted"], |host| {
        let mounts = host.read("proc/self/mountinfo");
        host.write(
            "proc/self/mountinfo",
            &mounts.lines().take(2).map(|l| format!("{l}\n")).collect::<String>(),
        );
    }),
    (&["automount"], |host| {
        let mounts = host.read("proc/self/mountinfo");
        host.write(
            "proc/self/mountinfo",
            &mounts.lines().take(3).map(|l| format!("{l}\n")).collect::<String>(),
        );
    }),
    (&["writable"], |host| {
        host.replace(
            "proc/self/mountinfo",
            "binfmt_misc binfmt_misc rw",
            "binfmt_misc binfmt_misc ro",
        )
    }),
    (&["enabled"], |host| host.write("proc/sys/fs/binfmt_misc/status", "disabled\n")),
    (&["entry-unreadable"], |host| host.write("proc/sys/fs/binfmt_misc/odd", "maybe\n")),
    (&["entry-native"], |host| {
        host.entry("odd", HOST.target, "/usr/bin/x", "F");
    }),
    (&["entry-native"], |host| {
        host.i386("quiet", "CONFIG_IA32_EMULATION=y");
    }),
    (&["entry-native"], |host| {
        host.i386(
            "quiet ia32_emulation=on",
            "CONFIG_IA32_EMULATION=y\nCONFIG_IA32_EMULATION_DEFAULT_DISABLED=y",
        );
    }),
    (&["entry-native"], |host| {
        // Only what compilers make by default: position-independent programs.
        host.entry("odd", HOST.target, "/usr/bin/x", "F");
        host.replace("proc/sys/fs/binfmt_misc/odd", "0200", "0300");
        host.replace("proc/sys/fs/binfmt_misc/odd", "feff", "ffff");
    }),
    (&["entry-disabled"], |host| {
        host.replace("proc/sys/fs/binfmt_misc/qemu-aarch64", "enabled", "disabled");
        host.probe("aarch64", 8.into());
    }),
    (&["entry-matches"], |host| {
        host.entry("qemu-microblaze", "riscv64", "/usr/bin/qemu-microblaze", "POCF");
        host.replace("proc/sys/fs/binfmt_misc/qemu-microblaze", "f300", "f3ff");
    }),
    (&["entry-complete"], |host| {
        // Only programs at fixed addresses.
        host.replace("proc/sys/fs/binfmt_misc/qemu-aarch64", "feff", "ffff");
    }),
    (&["entry-complete"], |host| {
        // Only those with OS ABI 0.
        let name = "proc/sys/fs/binfmt_misc/qemu-aarch64";
        host.replace(name, "ffffffffffffff00", "ffffffffffffffff");
    }),
    (&["wiping"], |host| {
        host.edit = |state| {
            let around = state.surroundings.as_mut().unwrap();
            around.other_systemds = Ok(vec![("systemd".to_owned(), 123)]);
        };
    }),
    (&["virtual-host"], |host| {
        host.write("proc/sys/kernel/osrelease", "6.6.87.2-microsoft-standard-WSL2\n");
    }),
    (&["wiping"], |host| {
        host.write("proc/sys/kernel/osrelease", "6.6.87.2-microsoft-standard-WSL2\n");
        host.write(
            "proc/sys/fs/binfmt_misc/WSLInterop",
            "enabled\ninterpreter /init\nflags: PF\noffset 0\nmagic 4d5a\n",
        );
        host.write("usr/lib/systemd/systemd-binfmt", "");
        host.write("etc/binfmt.d/q.conf", ":qemu-aarch64:M:0:x:x:/x:F\n");
        host.directory("run/systemd/system");
    }),
    (&["interpreter-missing"], |host| {
        host.write(
            "proc/sys/fs/binfmt_misc/python3.99",
            "enabled\ninterpreter /usr/bin/python3.99\nflags: \noffset 0\nmagic a70d0d0a\n",
        );
    }),
    (&["interpreter-missing"], |host| {
        host.write(
            "proc/sys/fs/binfmt_misc/wine",
            "enabled\ninterpreter /usr/bin/wine\nflags: \nextension .exe\n",
        );
    }),
    (&["emulator-runs"], |host| {
        host.entry("rosetta", "s390x", "/run/rosetta/rosetta", "POCF");
        host.probe("s390x", 8.into());
    }),
    (&["private-instance"], |host| {
        host.write("proc/self/uid_map", "0 100000 65536\n");
        host.probe("aarch64", 8.into());
    }),
    (&["entry-shadowed"], |host| {
        // Two of one architecture: the order of a listing decides, so which one is hidden is not said here.
        host.entry("qemu-aarch64-two", "aarch64", "/usr/bin/qemu-aarch64", "POCF");
    }),
    (&["entry-duplicate"], |host| {
        host.entry("FEX-aarch64", "aarch64", "/usr/bin/FEX", "POCF");
        host.entry("rosetta", "aarch64", "/mnt/rosetta", "POCF");
    }),
    (&["flag-f"], |host| {
        host.bytes("usr/bin/qemu-aarch64", &HOST.probe());
        host.entry("qemu-aarch64", "aarch64", "/usr/bin/qemu-aarch64", "POC");
        host.probe("aarch64", 2.into());
    }),
    (&["flag-o", "flag-c"], |host| {
        host.entry("qemu-aarch64", "aarch64", "/usr/bin/qemu-aarch64", "PF")
    }),
    (&["flag-c"], |host| host.entry("qemu-aarch64", "aarch64", "/usr/bin/qemu-aarch64", "POF")),
    (&["flag-p"], |host| host.entry("qemu-aarch64", "aarch64", "/usr/bin/qemu-aarch64", "OCF")),
    (&["flag-p", "emulator-version"], |host| host.probe("aarch64", "5.2.0".into())),
    (&["flag-p"], |host| host.write("proc/sys/kernel/osrelease", "5.4.0-200-generic\n")),
    (&["flag-f", "interpreter-missing"], |host| {
        host.entry("qemu-aarch64", "aarch64", "/usr/bin/qemu-aarch64", "POC");
        host.probe("aarch64", 2.into());
    }),
    (&["interpreter-dynamic", "emulator-runs"], |host| host.interpreter(&dynamic())),
    (&["interpreter-script", "emulator-runs"], |host| host.interpreter(b"#!/bin/sh\n")),
    (&["interpreter-arch", "emulator-runs"], |host| {
        host.interpreter(&Arch::by_target("s390x").unwrap().probe())
    }),
    (&["interpreter-executable", "emulator-runs"], |host| host.interpreter(b"text")),
    (&["emulator-runs"], |host| {
        host.edit = |state| {
            let probe = state.probes.as_mut().unwrap().by_target.get_mut("aarch64").unwrap();
            probe.outcome = Outcome::Crashed("signal 11".to_owned());
        }
    }),
    (&["emulator-version"], |host| host.probe("aarch64", "7.2.0 (Debian 1:7.2+dfsg-7)".into())),
    (&["no-new-privs"], |host| {
        host.replace("proc/self/status", "NoNewPrivs:\t0", "NoNewPrivs:\t1")
    }),
    (&["security-module"], |host| {
        host.write("proc/self/attr/current", "docker-default (enforce)\n")
    }),
    (&["security-module"], |host| {
        host.edit = |state| {
            let around = state.surroundings.as_mut().unwrap();
            around.selinux = Ok(true);
            let label = "system_u:object_r:container_file_t:s0:c57,c861";
            around.labels.insert("qemu-aarch64".to_owned(), label.to_owned());
        }
    }),
    (&["cut-off"], |host| host.cut_off()),
    (&["lasting"], |host| {
        host.write("proc/1/mountinfo", "29 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw\n")
    }),
    (&["systemd-binfmt"], |host| {
        host.write("usr/lib/systemd/systemd-binfmt", "");
        host.directory("run/systemd/system");
    }),
    (&["binfmt-support"], |host| {
        host.write(
            "var/lib/dpkg/status",
            "Package: binfmt-support\nStatus: install ok installed\nVersion: 2.1.6-1\n\n",
        );
    }),
    (&["binfmt-support"], |host| {
        let package = "Package: binfmt-support\nStatus: install ok installed\nVersion: 2.2.2-2\n\n";
        host.write("var/lib/dpkg/status", package);
        let record = |fix_binary| {
            format!("qemu-user\nmagic\n0\n\\x7fELF\n\\xff\n/usr/bin/q\n\nyes\n\n{fix_binary}\n")
        };
        host.write("var/lib/binfmts/qemu-arm", &record("yes"));
        host.write("var/lib/binfmts/qemu-riscv64", &record("no"));
    }),
];

#[test]
fn one_thing_broken_is_one_finding() {
    for (expected, break_it) in BREAKS {
        let mut host = Host::new();
        break_it(&mut host);
        let found: Vec<_> = host.findings().into_iter().map(|(id, _)| id).collect();
        assert_eq!(found, *expected);
    }
}

/// What looks odd and is right.
const SOUND: &[(&str, Break)] = &[
    ("386 that the kernel does not run, by configuration", |host| {
        host.i386("quiet", "# CONFIG_IA32_EMULATION is not set");
    }),
    ("386 that the kernel does not run, by its command line", |host| {
        host.i386("quiet ia32_emulation=0", "CONFIG_IA32_EMULATION=y");
    }),
    ("an entry that is off while another serves", |host| {
        host.entry("qemu-aarch64-old", "aarch64", "/usr/bin/old", "PO");
        host.replace("proc/sys/fs/binfmt_misc/qemu-aarch64-old", "enabled", "disabled");
    }),
    ("an old QEMU that is not told of P", |host| {
        host.entry("qemu-aarch64", "aarch64", "/usr/bin/qemu-aarch64", "OCF");
        host.probe("aarch64", "5.2.0".into());
    }),
    ("an old QEMU, and kernel, with a name that tells of P", |host| {
        host.write("proc/sys/kernel/osrelease", "5.4.0-200-generic\n");
        host.entry("qemu-aarch64", "aarch64", "/usr/bin/qemu-aarch64-static-binfmt-P", "POCF");
        host.probe("aarch64", "5.2.0".into());
    }),
    ("a rootless engine, and nothing that it could miss", |host| {
        host.cut_off();
        fs::remove_file(host.dir.path().join("proc/sys/fs/binfmt_misc/qemu-aarch64")).unwrap();
    }),
    ("an AppArmor profile that only complains", |host| {
        host.write("proc/self/attr/current", "lax (complain)\n")
    }),
];

#[test]
fn what_is_right_is_no_finding() {
    for (what, change) in SOUND {
        let mut host = Host::new();
        change(&mut host);
        let mut findings = host.findings();
        // That it is old is said all the same.
        findings.retain(|(id, _)| !(what.contains("old QEMU") && *id == "emulator-version"));
        assert_eq!(findings, [], "{what}");
    }
}

/// What could not be looked at is told as unknown, and not as well.
#[test]
fn what_is_not_known_is_told_as_such() {
    const CASES: &[(&str, Break)] = &[
        ("binfmt-support", |host| host.directory("var/lib/dpkg/status")),
        ("security-module", |host| host.directory("sys/fs/selinux/enforce")),
        ("security-module", |host| host.directory("proc/self/attr/current")),
        ("systemd-binfmt", |host| {
            host.write("usr/lib/systemd/systemd-binfmt", "");
            host.directory("run/systemd/system");
            host.directory("etc/binfmt.d/x.conf");
        }),
        ("binfmt-support", |host| {
            let package =
                "Package: binfmt-support\nStatus: install ok installed\nVersion: 2.2.2-2\n\n";
            host.write("var/lib/dpkg/status", package);
            host.write("var/lib/binfmts", "no directory");
        }),
    ];
    for (id, break_it) in CASES {
        let mut host = Host::new();
        break_it(&mut host);
        let found = host.all().into_iter().find(|finding| finding.id == *id).unwrap();
        assert_eq!(found.level, Level::Unknown, "{found:?}");
    }
}

/// Checks without a row above: they say what is so, and nothing to repair.
const TELLING: &[&str] = &["privileges", "other-handlers", "seccomp", "builder"];
/// Shown on the real kernel below, as a fake root has no mounts.
const REAL_ONLY: &[&str] = &["interpreter-noexec", "interpreter-fuse"];

#[test]
fn every_check_is_tried() {
    for check in checks() {
        let broken = BREAKS.iter().any(|(ids, _)| ids.contains(&check.id));
        assert!(
            broken || TELLING.contains(&check.id) || REAL_ONLY.contains(&check.id),
            "{}",
            check.id
        );
    }
}

#[test]
fn a_known_entry_in_binfmt_d_is_not_lost() {
    let host = Host::new();
    host.write("usr/lib/systemd/systemd-binfmt", "");
    host.directory("run/systemd/system");
    host.write("etc/binfmt.d/zz.conf", "# comment\n:qemu-aarch64:M:0:x:x:/x:F\n");
    assert_eq!(host.findings(), []);
}

/// The texts that `--list` and `--explain` print. `UPDATE_EXPECTED=1` rewrites them.
#[test]
fn the_stories_are_as_they_were_reviewed() {
    let run = |args: &[&str]| binfmtctl(args).ok().stdout;
    let mut text = run(&["doctor", "--list"]);
    for story in stories() {
        text.push_str(&format!("\n{}", run(&["doctor", "--explain", story.id])));
    }
    let path = Path::new(SOURCE).join("tests/pure/stories");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert_eq!(fs::read_to_string(path).unwrap_or_default(), text);
}
