//! Registrations outlive the process, its mounts, and go without a trace.

use crate::support::{alone_in_namespace, guests, in_namespace};

/// Without an anchor the kernel drops all entries with the last mount: were it not so, the tests
/// below could not fail.
#[test]
fn entries_vanish_with_the_last_mount_unless_anchored() {
    let ran = in_namespace(
        r#"mount -t binfmt_misc none $M
           printf ':x:M::magic::/bin/true:F' >$M/register; ls $M; umount $M; sleep 0.2
           mount -t binfmt_misc none $M; ls $M"#,
    )
    .ok();
    assert_eq!(ran.stdout, "register\nstatus\nx\nregister\nstatus\n");
}

#[test]
fn anchored_entries_outlive_every_mount_and_process() {
    let guests = guests(&["arm64"]);
    let ran = in_namespace(&format!(
        r#"unshare -m --pid --fork --mount-proc $B --install arm64 >/dev/null
           mounted
           sleep 0.3
           chroot {}/arm64 /bin/busybox uname -m
           mount -t binfmt_misc none $M; ls $M"#,
        guests.display()
    ))
    .ok();
    assert_eq!(ran.stdout, "0\naarch64\nqemu-aarch64\nregister\nstatus\n");
    assert!(ran.stderr.starts_with("note: this is a user namespace; uninstall before it ends"));
}

/// A user namespace that is held by an entry of its own could never be cleaned up.
#[test]
fn a_user_namespace_that_ends_frees_its_emulators() {
    let ran = alone_in_namespace(
        r#"shmem() { awk '/^Shmem:/ { print $2 }' /proc/meminfo; }
           before=$(shmem)
           unshare -Urm --pid --fork --mount-proc bash -c '$B --install all >/dev/null 2>&1; awk "/^Shmem:/ { print \$2 }" /proc/meminfo >$T/full; :'
           for i in $(seq 100); do after=$(shmem); [ $((after - before)) -ge 3000 ] || break; sleep 0.1; done
           echo $(($(cat $T/full) - before)) $((after - before))"#,
    )
    .ok();
    let numbers: Vec<i64> = ran.stdout.split_whitespace().map(|n| n.parse().unwrap()).collect();
    let [held, left] = numbers[..] else { panic!("{}", ran.stdout) };
    assert!(held > 60_000, "all emulators hold {held} KiB");
    assert!(left < 3_000, "{left} KiB are left");
}

#[test]
fn uninstalling_frees_all_memory() {
    let ran = alone_in_namespace(
        r#"shmem() { awk '/^Shmem:/ { print $2 }' /proc/meminfo; }
           before=$(shmem)
           $B --install all >/dev/null 2>&1; full=$(shmem)
           $B --uninstall arm64 >/dev/null 2>&1; less=$(shmem)
           $B --uninstall all >/dev/null 2>&1
           # The kernel frees it soon, and other programs of the machine come and go.
           for i in $(seq 100); do after=$(shmem); [ $((after - before)) -ge 3000 ] || break; sleep 0.1; done
           echo $((full - before)) $((full - less)) $((after - before))
           cat /proc/self/mountinfo | grep -c binfmtctl || true"#,
    )
    .ok();
    let numbers: Vec<i64> = ran.stdout.split_whitespace().map(|n| n.parse().unwrap()).collect();
    let [held, of_one, left, mounts] = numbers[..] else { panic!("{}", ran.stdout) };
    // KiB. Other programs of the machine use shared memory too, but not as much as an emulator.
    assert!(held > 60_000, "all emulators hold {held}");
    assert!(of_one > 3_000, "one emulator held {of_one}");
    assert!(left < 3_000, "{left} are left");
    assert_eq!(mounts, 0);
}

#[test]
fn two_installs_at_once_both_work() {
    let guests = guests(&["arm64", "riscv64"]);
    let ran = in_namespace(&format!(
        r#"$B --install arm64,riscv64,arm >/dev/null 2>&1 & one=$!
           $B --install riscv64,arm64,s390x >/dev/null 2>&1 & two=$!
           wait $one || true; wait $two || true
           $B --install arm64,riscv64,arm,s390x >/dev/null 2>&1
           ls $M; for arch in arm64 riscv64; do chroot {}/$arch /bin/busybox uname -m; done"#,
        guests.display()
    ))
    .ok();
    assert_eq!(
        ran.stdout,
        "qemu-aarch64\nqemu-arm\nqemu-riscv64\nqemu-s390x\nregister\nstatus\naarch64\nriscv64\n"
    );
}

/// Killed at many different moments: programs run as before, or as after.
#[test]
fn sigkill_at_any_step_leaves_the_old_or_the_new_state() {
    let guests = guests(&["arm64"]);
    let ran = in_namespace(&format!(
        r#"mount -t binfmt_misc none $M
           $B --install arm64 --flags OF >/dev/null 2>&1
           for delay in 0.01 0.03 0.06 0.1 0.14 0.18 0.22 0.26 0.3 0.34 0.4 0.5 0.6; do
             $B --install arm64 --replace >/dev/null 2>&1 & pid=$!
             sleep $delay; kill -9 $pid 2>/dev/null || true; wait $pid 2>/dev/null || true
             chroot {}/arm64 /bin/busybox uname -m
             $B --install arm64 --flags OF --replace >/dev/null 2>&1
           done
           ls $M; grep -c binfmtctl /proc/self/mountinfo || true"#,
        guests.display()
    ))
    .ok();
    assert_eq!(
        ran.stdout,
        format!("{}qemu-aarch64\nregister\nstatus\n0\n", "aarch64\n".repeat(13))
    );
}

#[test]
fn a_read_only_root_is_enough() {
    let ran = in_namespace(
        r#"cp $B $T/b; mkdir $T/proc
           unshare -m --pid --fork --mount-proc sh -ec \
             'mount --rbind /proc $T/proc; mount -o remount,bind,ro $T; exec chroot $T /b --install arm64 >/dev/null'
           sleep 0.2; $B --install arm64 2>&1 >/dev/null | tail -n 1"#,
    )
    .ok();
    assert!(ran.stderr.contains("installing: arm64 OK (registered, "), "{}", ran.stderr);
    // Here root is mapped to root: whose entry it is cannot be told without a mount that might hide it.
    assert!(ran.stdout.starts_with("installing: arm64 OK (works already (QEMU "), "{}", ran.stdout);
}

/// Without CAP_SYS_ADMIN: memory files instead of trees. Somebody else has mounted binfmt_misc.
#[test]
fn without_the_right_to_mount_memory_files_serve() {
    let guests = guests(&["arm64"]);
    let ran = in_namespace(&format!(
        r#"mount -t binfmt_misc none $M
           setpriv --bounding-set -sys_admin --inh-caps -all $B --install arm64 >/dev/null
           grep -E 'flags|interpreter' $M/qemu-aarch64; chroot {}/arm64 /bin/busybox uname -m
           $B --install arm64 >/dev/null
           $B --uninstall arm64 >/dev/null 2>&1; ls $M; ls /usr/bin/qemu-aarch64 2>&1 | grep -c 'No such'"#,
        guests.display()
    ))
    .ok();
    let lines: Vec<_> = ran.stdout.lines().collect();
    assert_eq!(lines[1..], ["flags: POCF", "aarch64", "register", "status", "1"]);
    assert!(ran.stderr.starts_with("installing: arm64 OK (registered, "), "{}", ran.stderr);
    assert!(ran.stderr.ends_with("installing: arm64 OK (unchanged)\n"), "{}", ran.stderr);
}
