//! Installing, running and uninstalling on the real kernel, in private namespaces.

use crate::support::{REGISTER, guests, in_namespace};

const ARCHES: &[(&str, &str, &str)] = &[
    // Debian's name, OCI's, what `uname -m` says
    ("arm64", "arm64", "aarch64"),
    ("armhf", "arm", "armv7l"),
    ("riscv64", "riscv64", "riscv64"),
    ("s390x", "s390x", "s390x"),
    ("ppc64el", "ppc64le", "ppc64le"),
];

/// Real programs, in a root that holds nothing but themselves.
#[test]
fn debian_programs_of_five_architectures_run() {
    let debian: Vec<_> = ARCHES.iter().map(|(debian, ..)| *debian).collect();
    let guests = guests(&debian);
    let ran = in_namespace(&format!(
        r#"$B --install all >/dev/null
           cd {}
           for arch in {}; do chroot $arch /bin/sh -c 'uname -m'; done"#,
        guests.display(),
        debian.join(" ")
    ))
    .ok();
    let machines: Vec<_> = ran.stdout.lines().collect();
    let expected: Vec<_> = ARCHES.iter().map(|(.., machine)| *machine).collect();
    assert_eq!(machines, expected);
}

/// Each embedded emulator runs the test program of its row.
#[test]
fn all_installs_everything_that_is_not_native() {
    let ran = in_namespace("$B --install all").ok();
    let summary: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let list = |key: &str| {
        summary[key]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let (supported, entries) = (list("supported"), list("emulators"));
    for (_, oci, _) in ARCHES.iter().filter(|(_, oci, _)| *oci != "arm") {
        assert!(supported.contains(&format!("linux/{oci}")), "{oci} of {supported:?}");
    }
    assert!(
        supported.contains(&"linux/arm/v7".to_owned())
            && supported.contains(&"linux/arm/v6".to_owned())
    );
    assert!(entries.is_sorted() && entries.contains(&"qemu-aarch64".to_owned()));
    // A log line each, and none of them a failure: 33 guests but what this machine runs itself.
    let lines: Vec<_> = ran.stderr.lines().collect();
    assert_eq!(lines.len(), 32, "{lines:?}");
    assert!(
        lines.iter().all(|line| line.starts_with("installing: ") && line.contains(" OK (")),
        "{lines:?}"
    );
}

#[test]
fn entries_look_as_the_field_expects() {
    let ran = in_namespace("$B --install arm64 2>/dev/null >/dev/null; cat $M/qemu-aarch64").ok();
    assert_eq!(
        ran.stdout,
        "enabled\ninterpreter /usr/bin/qemu-aarch64\nflags: POCF\noffset 0\n\
         magic 7f454c460201010000000000000000000200b700\n\
         mask ffffffffffffff00fffffffffffffffffeffffff\n"
    );
}

#[test]
fn installing_twice_changes_nothing() {
    // An entry's inode tells whether it is the same one. strace would show the writes; the inode suffices.
    let ran = in_namespace(
        "$B --install arm64,riscv64 >/dev/null 2>&1
         stat -c %i $M/qemu-*; $B --install arm64,riscv64 >/dev/null; stat -c %i $M/qemu-*",
    )
    .ok();
    let inodes: Vec<_> = ran.stdout.lines().collect();
    assert_eq!(inodes[..2], inodes[2..]);
    assert_eq!(
        ran.stderr,
        "installing: arm64 OK (unchanged)\ninstalling: riscv64 OK (unchanged)\n"
    );
}

#[test]
fn uninstalling_two_leaves_the_others_working() {
    let guests = guests(&["armhf"]);
    let ran = in_namespace(&format!(
        "$B --install arm64,riscv64,arm >/dev/null 2>&1
         $B --uninstall linux/arm64,qemu-riscv64 >/dev/null
         ls $M; chroot {}/armhf /bin/busybox uname -m",
        guests.display()
    ))
    .ok();
    assert_eq!(ran.stdout, "qemu-arm\nregister\nstatus\narmv7l\n");
    assert_eq!(ran.stderr, "uninstalling: aarch64 OK\nuninstalling: riscv64 OK\n");
}

#[test]
fn other_tools_entries_survive_everything_but_their_full_name() {
    let ran = in_namespace(
        r#"$B --install arm64 >/dev/null 2>&1
           printf ':WSLInterop:M::MZ::/init:PF' >$M/register 2>/dev/null || printf ':WSLInterop:M::MZ::/init:P' >$M/register
           printf ':python3.12:M::pyc::/usr/bin/python3:' >$M/register
           printf ':qemu-future:M::futu::/usr/bin/qemu-future:' >$M/register
           $B --uninstall all >/dev/null
           $B --uninstall '*' >/dev/null
           $B --uninstall 'p*' >/dev/null
           ls $M; echo
           $B --uninstall python3.12 >/dev/null; ls $M"#,
    )
    .ok();
    assert_eq!(
        ran.stdout,
        "WSLInterop\npython3.12\nregister\nstatus\n\nWSLInterop\nregister\nstatus\n"
    );
    assert_eq!(
        ran.stderr,
        "uninstalling: future OK\nuninstalling: aarch64 OK\nuninstalling: * not found\n\
         uninstalling: p* not found\nuninstalling: python3.12 OK\n"
    );
}

#[test]
fn what_a_name_means_to_uninstall() {
    let ran = in_namespace(&format!(
        r#"{REGISTER}
           $B --install arm64,riscv64 >/dev/null 2>&1
           register qemu-aarch64-old /usr/bin/qemu-aarch64 ''
           $B --uninstall aarch64 >/dev/null 2>&1; ls $M
           $B --uninstall aarch64 >/dev/null 2>&1; $B --uninstall nonesuch >/dev/null 2>&1 || echo gone $?
           $B --uninstall 'qemu-*' >/dev/null; $B --uninstall 'qemu-*' >/dev/null; ls $M"#
    ))
    .ok();
    assert_eq!(ran.stdout, "qemu-riscv64\nregister\nstatus\ngone 1\nregister\nstatus\n");
    assert_eq!(ran.stderr, "uninstalling: riscv64 OK\nuninstalling: qemu-* not found\n");
}

#[test]
fn this_machines_own_architecture_is_never_registered() {
    // All the ways to ask for it; afterwards a program must still start.
    let ran = in_namespace(
        r#"for list in linux/amd64 x86_64 amd64,arm64 linux/amd64/v3; do
             $B --install $list --replace >/dev/null
           done
           mkdir $T/e; cp $B $T/e/qemu-x86_64
           QEMU_BINARY_PATH=$T/e $B --install amd64 --replace --flags F >/dev/null
           /bin/true; ls $M"#,
    )
    .ok();
    assert_eq!(ran.stdout, "qemu-aarch64\nregister\nstatus\n");
    let own = "installing: amd64 OK (this machine's own architecture, which is never registered)";
    assert_eq!(ran.stderr.lines().filter(|line| *line == own).count(), 5, "{}", ran.stderr);
}

#[test]
fn an_entry_without_f_is_named_and_replaced_on_request() {
    let guests = guests(&["arm64"]);
    let ran = in_namespace(&format!(
        r#"{REGISTER}
           mount -t binfmt_misc none $M
           register qemu-aarch64 /usr/bin/qemu-aarch64 ''
           $B --install arm64 >/dev/null || echo refused $?
           $B --install arm64 --replace >/dev/null
           ls $M; grep flags $M/qemu-aarch64; chroot {}/arm64 /bin/busybox uname -m"#,
        guests.display()
    ))
    .ok();
    assert_eq!(ran.stdout, "refused 1\nqemu-aarch64\nregister\nstatus\nflags: POCF\naarch64\n");
    let lines: Vec<_> = ran.stderr.lines().collect();
    assert_eq!(
        lines[0],
        "installing: arm64 qemu-aarch64 is registered already but does not work in containers: \
         it lacks flag F, so /usr/bin/qemu-aarch64 would have to be in every container"
    );
    assert_eq!(lines[1], "hint: --install arm64 --replace replaces it");
    assert!(lines[3].starts_with("installing: arm64 OK (replaced, QEMU "), "{lines:?}");
}

#[test]
fn a_disabled_entry_is_named_and_replaced_on_request() {
    let ran = in_namespace(
        "$B --install arm64 >/dev/null 2>&1; echo 0 >$M/qemu-aarch64
         $B --install arm64 >/dev/null || echo refused $?
         $B --install arm64 --replace >/dev/null; head -1 $M/qemu-aarch64",
    )
    .ok();
    assert_eq!(ran.stdout, "refused 1\nenabled\n");
    assert!(ran.stderr.contains("does not work in containers: it is disabled\n"), "{}", ran.stderr);
}

/// The old entry stays if the new emulator does not run.
#[test]
fn a_bad_emulator_replaces_nothing() {
    let ran = in_namespace(
        r#"$B --install arm64 >/dev/null 2>&1
           mkdir $T/e; cp $B $T/e/qemu-aarch64; cp $B $T/e/qemu-riscv64
           cat $M/qemu-aarch64 >$T/e/before
           QEMU_BINARY_PATH=$T/e $B --install arm64,riscv64 --replace >/dev/null || echo refused $?
           cat $M/qemu-aarch64 | diff - $T/e/before; ls $M
           $B --install arm64 >/dev/null"#,
    )
    .ok();
    assert_eq!(ran.stdout, "refused 1\nqemu-aarch64\nregister\nstatus\n");
    assert!(
        ran.stderr
            .contains("qemu-aarch64.new does not work: the emulator failed on a test program"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.ends_with("installing: arm64 OK (unchanged)\n"), "{}", ran.stderr);
}

#[test]
fn a_foreign_entry_that_works_is_left_alone() {
    let ran = in_namespace(
        r#"$B --install arm64 --flags OF >/dev/null 2>&1
           $B --install arm64 >/dev/null; grep flags $M/qemu-aarch64
           $B --install arm64 --no-credentials --replace >/dev/null; grep flags $M/qemu-aarch64"#,
    )
    .ok();
    assert_eq!(ran.stdout, "flags: OF\nflags: POF\n");
    let first = ran.stderr.lines().next().unwrap();
    assert!(
        first.starts_with(
            "installing: arm64 OK (works already by qemu-aarch64, /usr/bin/qemu-aarch64 (QEMU "
        ) && first.ends_with(", flags OF)"),
        "{first}"
    );
}

#[test]
fn a_dry_run_changes_nothing_and_says_what_would_be() {
    let ran = in_namespace(
        "mount -t binfmt_misc none $M
         $B --install arm64,riscv64 >/dev/null 2>&1
         $B --dry-run --uninstall riscv64 --install amd64,arm64,riscv64,bogus || echo $?; ls $M",
    )
    .ok();
    assert_eq!(
        ran.stdout,
        "riscv64: remove qemu-riscv64\n\
         amd64: nothing to do: this machine's own architecture, which is never registered\n\
         arm64: nothing to do: unchanged\n\
         riscv64: register qemu-riscv64 with flags POCF\n\
         bogus: cannot: unsupported architecture: bogus\n1\n\
         qemu-aarch64\nqemu-riscv64\nregister\nstatus\n"
    );
}

#[test]
fn prefix_and_directory_of_the_environment_are_honoured() {
    let ran = in_namespace(
        r#"$B --install arm64 >/dev/null 2>&1
           QEMU_BINARY_PREFIX=my- $B --install riscv64 >/dev/null; ls $M; grep interpreter $M/my-qemu-riscv64
           QEMU_BINARY_PREFIX=a/b $B --install riscv64 >/dev/null || echo refused $?
           QEMU_BINARY_PREFIX=my- $B --uninstall riscv64 >/dev/null; ls $M"#,
    )
    .ok();
    assert_eq!(
        ran.stdout,
        "my-qemu-riscv64\nqemu-aarch64\nregister\nstatus\ninterpreter /usr/bin/my-qemu-riscv64\n\
         refused 2\nqemu-aarch64\nregister\nstatus\n"
    );
    assert!(ran.stderr.contains("error: 'a/b' cannot be the name of an entry"), "{}", ran.stderr);
}

#[test]
fn status_in_a_namespace_without_an_instance_mounts_none() {
    // The first mount would cut the namespace off from its ancestors' entries for life.
    let ran = in_namespace("$B --status | sed -n 1,3p; $B | sed -n 1,2p; mounted").ok();
    assert!(ran.stdout.contains(" linux/amd64 "), "{}", ran.stdout);
    assert!(ran.stdout.ends_with("{\n  \"supported\": [\n0\n"), "{}", ran.stdout);
}

#[test]
fn a_nested_namespace_is_served_by_its_parents_entries() {
    let ran = in_namespace(
        "$B --install arm64 >/dev/null 2>&1
         unshare -Urm --pid --fork --mount-proc $B | grep -c arm64",
    )
    .ok();
    assert_eq!(ran.stdout, "1\n");
}

#[test]
fn an_uninstall_says_what_it_could_not_reach() {
    let ran = in_namespace(
        "$B --install arm64 >/dev/null 2>&1
         unshare -Urm --pid --fork --mount-proc $B --uninstall all | grep -c arm64",
    )
    .ok();
    assert_eq!(ran.stdout, "1\n");
    let note = "note: arm64: still work, by entries that cannot be seen from here\nhint: ";
    assert!(ran.stderr.contains(note), "{}", ran.stderr);
}

#[test]
fn it_is_static_and_runs_in_an_empty_root() {
    let ran = in_namespace(
        "mkdir $T/r; cp $B $T/r/b
         chroot $T/r /b --version | sed -n 1p; chroot $T/r /b --install arm64 || echo failed $?",
    )
    .ok();
    assert_eq!(ran.stdout, format!("binfmtctl {}\nfailed 1\n", env!("CARGO_PKG_VERSION")));
    assert!(ran.stderr.starts_with("hint: "), "{}", ran.stderr);
}

#[test]
fn disabled_as_a_whole_is_said_before_anything_is_tried() {
    let ran = in_namespace(
        "mount -t binfmt_misc none $M; echo 0 >$M/status
         $B --install arm64 >/dev/null || echo refused $?; ls $M",
    )
    .ok();
    assert_eq!(ran.stdout, "refused 1\nregister\nstatus\n");
    assert_eq!(
        ran.stderr,
        "hint: echo 1 > /proc/sys/fs/binfmt_misc/status\n\
         error: binfmt_misc is disabled as a whole: no entry takes effect\n"
    );
}

#[test]
fn read_only_is_said_before_anything_is_tried() {
    let ran = in_namespace(
        "mount -t binfmt_misc none $M; mount -o remount,bind,ro $M
         $B --install arm64 >/dev/null || echo refused $?; ls $M",
    )
    .ok();
    assert_eq!(ran.stdout, "refused 1\nregister\nstatus\n");
    assert!(ran.last_line() == "error: binfmt_misc is mounted read-only here", "{}", ran.stderr);
}
