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

/// Of entries that are there, and for those who may not write to them.
#[test]
fn a_dry_run_of_an_uninstall_fails_where_the_real_run_would() {
    let ran = in_namespace(
        r#"$B --install arm64 >/dev/null 2>&1; mount -o remount,bind,ro $M
           $B uninstall arm64 --dry-run || echo $?; $B uninstall arm64 >/dev/null || echo $?
           mount -o remount,bind,rw $M; chmod u-w $M/register $M/qemu-aarch64
           other() { setpriv --bounding-set -dac_override --inh-caps -all $B "$@"; }
           other uninstall arm64 --dry-run || echo $?; other uninstall arm64 >/dev/null || echo $?
           other install riscv64 --dry-run || echo $?; other install riscv64 >/dev/null || echo $?
           $B uninstall arm64 --dry-run"#,
    )
    .ok();
    let (read_only, denied) = (
        "cannot: binfmt_misc is mounted read-only here",
        "cannot: you may look at binfmt_misc here, but not change it",
    );
    assert_eq!(
        ran.stdout,
        format!(
            "aarch64: {read_only}\n1\n1\naarch64: {denied}\n1\n1\nriscv64: {denied}\n1\n1\n\
             aarch64: remove qemu-aarch64\n"
        ),
        "{}",
        ran.stderr
    );
    let errors: Vec<_> = ran.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(errors.chunks(2).all(|both| both[0] == both[1]), "{errors:?}");
}

/// Filters refuse mount(2) before the kernel looks at anything.
#[test]
fn a_dry_run_knows_of_a_filter_that_refuses_mounts() {
    let ran = in_namespace(
        r#"filtered() { /usr/bin/env python3 -c '
import ctypes, os, struct, sys
step = lambda code, true, false, k: struct.pack("HBBI", code, true, false, k)
# Loads the number of the system call; that of mount, 165, fails with EPERM.
program = step(0x20, 0, 0, 0) + step(0x15, 0, 1, 165) + step(6, 0, 0, 0x50001) + step(6, 0, 0, 0x7FFF0000)
held = ctypes.create_string_buffer(program)
described = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(held))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, described, 0, 0) == 0
os.execvp(sys.argv[1], sys.argv[1:])' "$@"; }
           filtered $B install arm64 --dry-run || echo $?; filtered $B install arm64 >/dev/null || echo $?
           mount -t binfmt_misc none $M; filtered $B install arm64 --dry-run; filtered $B install arm64 >/dev/null 2>&1"#,
    )
    .ok();
    assert_eq!(
        ran.stdout,
        "arm64: cannot: binfmt_misc is not mounted here, and a filter of system calls (seccomp) forbids mounting it\n1\n1\n\
         arm64: register qemu-aarch64 with flags POCF\n",
        "{}",
        ran.stderr
    );
}

#[test]
fn what_was_meant_is_told_of_an_uninstall_too() {
    let ran = in_namespace(
        r#"for name in arm65 aarch64-linux-gnu darwin/arm64 nonesuch ppc; do $B uninstall $name 2>&1 >/dev/null | grep -E '^(hint|note)' || echo -; done"#,
    )
    .ok();
    let lines: Vec<_> = ran.stdout.lines().filter(|line| !line.contains("no entries")).collect();
    assert_eq!(
        lines,
        [
            "hint: did you mean linux/arm64?",
            "hint: did you mean linux/arm64?",
            "hint: darwin is an operating system; emulators run programs for Linux: linux/arm64",
            "note: ppc is the 32-bit architecture; most people mean ppc64le"
        ]
    );
}

#[test]
fn a_dry_run_of_persist_knows_what_is_there_and_what_stays() {
    let ran = in_namespace(
        r#"R=$T/root; mkdir -p $R/usr/lib/systemd; touch $R/usr/lib/systemd/systemd-binfmt
           persist() { $B persist --root $R "$@" 2>$T/log; }; lib=$R/usr/local/lib/binfmtctl
           persist --install arm64,riscv64; persist --install arm64 --dry-run
           mkdir $lib/qemu-arm; persist --install arm,arm64 --dry-run || echo $?; persist --install arm,arm64 || echo $?
           echo '# mine' >>$R/etc/binfmt.d/zz-binfmtctl.conf
           persist --remove --dry-run || echo $?; tail -n 1 $T/log; find $R -type f | wc -l
           persist --remove || echo $?; tail -n 1 $T/log"#,
    )
    .ok();
    let error = "error: cannot remove /mnt/root/etc/binfmt.d/zz-binfmtctl.conf: it was changed since, and still registers the \
                 emulators that it names";
    assert_eq!(
        ran.stdout,
        format!(
            "arm64: nothing to do: unchanged\n\
             /usr/local/lib/binfmtctl/register: nothing to do: unchanged\n\
             /etc/binfmt.d/zz-binfmtctl.conf: nothing to do: unchanged\n\
             arm: cannot: /mnt/root/usr/local/lib/binfmtctl/qemu-arm is a directory\n\
             arm64: nothing to do: unchanged\n\
             /usr/local/lib/binfmtctl/register: nothing to do: unchanged\n\
             /etc/binfmt.d/zz-binfmtctl.conf: nothing to do: unchanged\n1\n1\n\
             remove /usr/local/lib/binfmtctl/register\n1\n{error}\n6\n1\n{error}\n"
        )
    );
}

/// A file that cannot be looked at keeps none of the others.
#[test]
fn persist_removes_all_that_it_can() {
    let ran = in_namespace(
        r#"R=$T/root; mkdir -p $R/usr/lib/systemd; touch $R/usr/lib/systemd/systemd-binfmt
           persist() { $B persist --root $R "$@" 2>$T/log; }; lib=$R/usr/local/lib/binfmtctl
           persist --install arm64,riscv64; rm $lib/qemu-aarch64; ln -s qemu-aarch64 $lib/qemu-aarch64
           persist --remove --dry-run >/dev/null || echo $?; persist --remove || echo $?
           tail -n 1 $T/log; ls $lib; rm $lib/qemu-aarch64; persist --remove; ls $R/usr/local/lib"#,
    )
    .ok();
    assert_eq!(
        ran.stdout,
        "1\n1\nerror: cannot remove /mnt/root/usr/local/lib/binfmtctl/qemu-aarch64: cannot read \
         /mnt/root/usr/local/lib/binfmtctl/qemu-aarch64: Too many symbolic links encountered\nmanifest\nqemu-aarch64\n"
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

/// Emulators that are no QEMU say nothing of themselves: their entries do.
#[test]
fn other_emulators_are_told_by_name() {
    let guests = guests(&["amd64"]);
    let ran = in_namespace(&format!(
        r#"{REGISTER}
           mount -t binfmt_misc none $M; cp {}/amd64/bin/busybox $T/true
           emulator() {{ $B --status --json | grep -A 9 '"linux/arm64"$' | grep -E '"(emulator|available)"' | tr -d '
'; }}
           register FEX-arm64 $T/true F; emulator; $B install arm64 --dry-run
           echo -1 >$M/FEX-arm64; register qemu-x $T/true F; emulator"#,
        guests.display()
    ))
    .ok();
    let lines: Vec<_> = ran.stdout.lines().collect();
    assert_eq!(
        ran.stdout,
        "      \"available\": true,      \"emulator\": \"FEX\",\
         arm64: nothing to do: works already by FEX-arm64, /mnt/true (FEX), flags F\n      \
         \"available\": true,      \"emulator\": null,",
        "{lines:?}"
    );
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
        "error: this is a user namespace, and the machine boots outside of it"
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
    assert_eq!(lines[2], "installing: arm there is no emulator for arm");
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
        ran.stderr.starts_with("note: arm64 works here by an entry outside of this user namespace")
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

/// Entries that are anchored outlast their mount.
#[test]
fn hold_does_not_say_that_it_removed_what_it_cannot_see() {
    let ran = in_namespace(
        r#"mount -t binfmt_misc none /sys
           $B hold --install arm64 --remove-on-exit --ready-file $T/ready 2>$T/log & pid=$!
           for i in $(seq 100); do [ ! -e $T/ready ] || break; sleep 0.1; done
           kill -STOP $pid; umount $M; kill $pid; kill -CONT $pid; wait $pid || echo $?; ls /sys | grep qemu
           grep -c 'removing: qemu-aarch64 cannot read' $T/log"#,
    )
    .ok();
    assert_eq!(ran.stdout, "1\nqemu-aarch64\n1\n");
}
