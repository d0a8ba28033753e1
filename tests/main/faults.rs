//! Faults that the shape of the program once let through: each was seen by users, and none may return.

use crate::support::{REGISTER, guests, in_namespace};

#[test]
fn a_dry_run_of_any_command_changes_nothing() {
    let ran = in_namespace(
        r#"R=$T/root; mkdir -p $R/usr/lib/systemd; touch $R/usr/lib/systemd/systemd-binfmt
           $B persist --root $R --install arm64,arm65 --dry-run || echo $?; find $R -type f
           $B hold --install arm64 --dry-run; mounted
           $B --dry-run persist --root $R --install arm64 2>/dev/null || echo $?
           $B --install arm64 doctor --list >/dev/null 2>&1 || echo $?; mounted"#,
    )
    .ok();
    assert_eq!(
        ran.stdout,
        "arm64: write /usr/local/lib/binfmtctl/qemu-aarch64\n\
         arm65: cannot: unsupported architecture: arm65\n\
         /usr/local/lib/binfmtctl/register: write /usr/local/lib/binfmtctl/register\n\
         /etc/binfmt.d/zz-binfmtctl.conf: write /etc/binfmt.d/zz-binfmtctl.conf\n1\n\
         /mnt/root/usr/lib/systemd/systemd-binfmt\n\
         mount binfmt_misc on /proc/sys/fs/binfmt_misc\narm64: register qemu-aarch64 with flags POCF\n0\n\
         2\n2\n0\n"
    );
}

#[test]
fn a_dry_run_fails_where_the_real_run_would() {
    let ran = in_namespace(
        r#"mount -t binfmt_misc none $M; echo 0 >$M/status
           $B --dry-run --install arm64 || echo $?; $B --install arm64 >/dev/null || echo $?
           echo 1 >$M/status; mount -o remount,bind,ro $M
           $B --dry-run --install arm64 || echo $?; $B --install arm64 >/dev/null || echo $?
           both() { $B --uninstall nonesuch --install arm65 "$@" 2>&1 >/dev/null | grep -v ing:; }
           both --dry-run; both"#,
    )
    .ok();
    let told = "hint: did you mean linux/arm64?\nerror: cannot uninstall nonesuch: not found\n";
    assert_eq!(
        ran.stdout,
        format!(
            "arm64: cannot: binfmt_misc is disabled as a whole: no entry takes effect\n1\n1\n\
             arm64: cannot: binfmt_misc is mounted read-only here\n1\n1\n{told}{told}"
        )
    );
}

/// In its own root an emulator that the kernel does not hold is found, in a container it is not.
#[test]
fn an_entry_without_f_is_no_platform_where_no_empty_root_can_be_had() {
    let ran = in_namespace(&format!(
        r#"{REGISTER}
           XDG_CACHE_HOME=$T/c $B run --platform arm64 true; cp $T/c/binfmtctl/*/qemu-aarch64 $T/emulator; chmod 755 $T/emulator
           mount -t binfmt_misc none $M; echo 0 >/proc/sys/user/max_user_namespaces
           restricted() {{ setpriv --bounding-set -sys_chroot,-sys_admin --inh-caps -all "$@"; }}
           register other $T/emulator ''
           restricted $B | grep -c linux/arm64 || true; restricted $B --status --require arm64 >/dev/null 2>&1 || echo $?
           echo -1 >$M/other; register other $T/emulator F
           restricted $B | grep -c linux/arm64; restricted $B --status --require arm64 >/dev/null && echo 0"#
    ))
    .ok();
    assert_eq!(ran.stdout, "0\n1\n1\n0\n");
}

/// A handler that is no QEMU, and whose entry is another user namespace's, is not the CPU.
#[test]
fn what_is_run_by_nobody_knows_whom_is_not_native() {
    let guests = guests(&["amd64"]);
    let ran = in_namespace(&format!(
        r#"mount -t binfmt_misc none $M; cp {}/amd64/bin/busybox $T/true
           printf '%s' ':other:M:0:\x7fELF\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x03\x00:\xff\xff\xff\xff\xff\xfe\xfe\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/mnt/true:F' >$M/register
           unshare -Urm --pid --fork --mount-proc $B --status --format json >$T/json
           grep -c '"by": "native"' $T/json"#,
        guests.display()
    ))
    .ok();
    // This machine's own, and no other.
    assert_eq!(ran.stdout, "1\n", "{}", ran.stderr);
}

#[test]
fn what_cannot_be_probed_is_not_said_to_be_unsupported() {
    let ran = in_namespace("mkdir $T/r; cp $B $T/r/b; chroot $T/r /b || echo $?").ok();
    assert_eq!(ran.stdout, "1\n");
    assert!(ran.last_line().starts_with("error: cannot run test programs"), "{}", ran.stderr);
}

#[test]
fn somebody_who_holds_a_file_open_breaks_no_install() {
    let ran = in_namespace(
        r#"unshare -m --pid --fork --mount-proc bash -c '
               mount -t binfmt_misc none /sys; exec 3<>/sys/status
               ( while ! exec 4<$M/status; do sleep 0.01; done; sleep 4 ) 2>/dev/null & $B --install arm64' || echo $?
           true"#,
    )
    .ok();
    assert!(ran.stdout.contains("\"linux/arm64\""), "{}", ran.stdout);
    assert!(
        !ran.stdout.ends_with("1\n") && ran.stderr.contains("installing: arm64 OK"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_persist_that_fails_writes_nothing_and_promises_nothing() {
    let ran = in_namespace(
        r#"R=$T/root; mkdir -p $R/usr/lib/systemd; touch $R/usr/lib/systemd/systemd-binfmt
           $B persist --root $R --install arm65 2>$T/log || echo $?; grep -c 'next boot' $T/log || true; find $R -type f
           $B persist --root $R --install arm65,arm64 2>$T/log || echo $?; grep 'next boot' $T/log
           $B persist --install arm64 || echo $?; ls /usr/local/lib/binfmtctl 2>/dev/null || true"#,
    )
    .ok();
    assert_eq!(
        ran.stdout,
        "1\n0\n/mnt/root/usr/lib/systemd/systemd-binfmt\n1\n\
         systemd-binfmt registers qemu-aarch64 at the next boot, and at each of its restarts\n1\n"
    );
    assert_eq!(
        ran.last_line(),
        "error: this is a user namespace of a machine that booted outside of it"
    );
}

/// One that is missing does not shift the others' results.
#[test]
fn each_result_is_of_its_own_architecture() {
    let ran = in_namespace(
        r#"XDG_CACHE_HOME=$T/c $B run --platform arm64,s390x true; mkdir $T/e; cp $T/c/binfmtctl/*/qemu-* $T/e; rm -f $T/e/*.verified
           cp /bin/ls $T/e/qemu-riscv64
           $B --install arm64,riscv64,arm,s390x --qemu-binary-path $T/e >/dev/null || echo $?; ls $M"#,
    )
    .ok();
    assert_eq!(ran.stdout, "1\nqemu-aarch64\nqemu-s390x\nregister\nstatus\n");
    let lines: Vec<_> = ran.stderr.lines().filter(|line| line.starts_with("installing")).collect();
    assert!(lines[0].starts_with("installing: arm64 OK"), "{lines:?}");
    assert!(
        lines[1].starts_with("installing: riscv64 /mnt/e/qemu-riscv64 cannot be registered"),
        "{lines:?}"
    );
    assert_eq!(lines[2], "installing: arm no emulator for arm at hand");
    assert!(lines[3].starts_with("installing: s390x OK"), "{lines:?}");
}

/// The first mount in a user namespace hides the host's entries: what ran by them goes on running.
#[test]
fn an_install_in_a_user_namespace_keeps_what_ran_there() {
    let guests = guests(&["arm64", "riscv64"]);
    let ran = in_namespace(&format!(
        r#"$B --install arm64 >/dev/null 2>&1
           unshare -Urm --pid --fork --mount-proc bash -c '
               run() {{ chroot {0}/$1 /bin/busybox uname -m; }}
               run arm64; $B --install riscv64 >/dev/null; run arm64; run riscv64; ls $M'"#,
        guests.display()
    ))
    .ok();
    assert_eq!(
        ran.stdout,
        "aarch64\naarch64\nriscv64\nqemu-aarch64\nqemu-riscv64\nregister\nstatus\n"
    );
    assert!(
        ran.stderr.starts_with("note: arm64 ran here by an entry outside of this user namespace")
    );
}

#[test]
fn hold_removes_all_that_it_can_at_its_end() {
    let ran = in_namespace(
        r#"$B hold --install arm64,riscv64 --remove-on-exit --ready-file $T/ready 2>$T/log & pid=$!
           for i in $(seq 100); do [ ! -e $T/ready ] || break; sleep 0.1; done
           mount -o remount,bind,ro $M; kill $pid; wait $pid || echo $?; grep -c 'removing: .* cannot remove' $T/log"#,
    )
    .ok();
    assert_eq!(ran.stdout, "1\n2\n");
}
