//! `persist`: what it writes, keeps, leaves and removes; and what systemd's own program makes of it.

use std::path::Path;

use crate::support::{guest_root, guests, in_namespace};

/// A root in memory with systemd-binfmt, as far as anybody can tell by its name.
const ROOT: &str = r#"
    R=$T/root; mkdir -p $R/usr/lib/systemd $R/etc; touch $R/usr/lib/systemd/systemd-binfmt
    p() { $B persist --root $R "$@"; }
    files() { (cd $R && find . \( -type f -o -type l \) ! -name systemd-binfmt | sort); }
    sums() { (cd $R && find . -type f ! -name systemd-binfmt -exec sha256sum {} + -exec stat -c %i {} + | sort); }
"#;

#[test]
fn it_writes_once_and_then_leaves_everything_as_it_is() {
    let ran = in_namespace(&format!(
        r#"{ROOT}
           p --install arm64,riscv64 2>&1; files
           sed 's/:M:.*:\//:M:…:\//' $R/etc/binfmt.d/zz-binfmtctl.conf
           (cd $R; sed 's,  /,  ./,' usr/local/lib/binfmtctl/manifest | sha256sum -c --quiet)
           sums >$T/before; p --install arm64,riscv64 2>&1; sums | cmp - $T/before"#
    ))
    .ok();
    assert_eq!(
        ran.stdout,
        "persisting: arm64 OK (/usr/local/lib/binfmtctl/qemu-aarch64)\n\
         persisting: riscv64 OK (/usr/local/lib/binfmtctl/qemu-riscv64)\n\
         systemd-binfmt registers qemu-aarch64, qemu-riscv64 at the next boot, and at each of its restarts\n\
         to use them now, run on that machine: sh /usr/local/lib/binfmtctl/register\n\
         ./etc/binfmt.d/zz-binfmtctl.conf\n\
         ./usr/local/lib/binfmtctl/manifest\n\
         ./usr/local/lib/binfmtctl/qemu-aarch64\n\
         ./usr/local/lib/binfmtctl/qemu-riscv64\n\
         ./usr/local/lib/binfmtctl/register\n\
         # Written by `binfmtctl persist`; `binfmtctl persist --remove` removes it.\n\
         :qemu-aarch64:M:…:/usr/local/lib/binfmtctl/qemu-aarch64:POCF\n\
         :qemu-riscv64:M:…:/usr/local/lib/binfmtctl/qemu-riscv64:POCF\n\
         persisting: arm64 OK (unchanged)\n\
         persisting: riscv64 OK (unchanged)\n\
         the files are unchanged\nto use them now, run on that machine: sh /usr/local/lib/binfmtctl/register\n"
    );
}

#[test]
fn it_upgrades_in_place_adds_and_removes_exactly_what_it_wrote() {
    let ran = in_namespace(&format!(
        r#"{ROOT}
           mkdir $T/e; cp $B $T/e/qemu-aarch64; mkdir -p $R/etc/binfmt.d; echo mine >$R/etc/binfmt.d/mine.conf
           p --install arm64 --qemu-binary-path $T/e >/dev/null 2>&1 || QEMU_BINARY_PATH=$T/e p --install arm64 2>/dev/null
           exec 3<$R/usr/local/lib/binfmtctl/qemu-aarch64
           p --install arm64,amd64 2>&1; p --install riscv64 2>/dev/null
           cmp -s /dev/fd/3 $B && echo the old file is whole
           grep -c . $R/etc/binfmt.d/zz-binfmtctl.conf; wc -l <$R/usr/local/lib/binfmtctl/manifest
           p --remove 2>/dev/null; files; ls $R/usr/local/lib"#
    ))
    .ok();
    assert_eq!(
        ran.stdout,
        "persisting: arm64 OK (/usr/local/lib/binfmtctl/qemu-aarch64)\n\
         persisting: amd64 OK (this machine's own architecture, which is never registered)\n\
         systemd-binfmt registers qemu-aarch64 at the next boot, and at each of its restarts\n\
         to use them now, run on that machine: sh /usr/local/lib/binfmtctl/register\n\
         the old file is whole\n3\n4\n./etc/binfmt.d/mine.conf\n"
    );
}

#[test]
fn what_the_user_changed_since_stays() {
    let ran = in_namespace(&format!(
        r#"{ROOT}
           p --install arm64 2>/dev/null; echo '# mine' >>$R/etc/binfmt.d/zz-binfmtctl.conf
           p --remove 2>&1 | grep -v "^removed " | sed "s,$R,,"; files; sed -i "/# mine/d" $R/etc/binfmt.d/*; p --remove 2>/dev/null; files; echo removed"#
    ))
    .ok();
    assert_eq!(
        ran.stdout,
        "warning: /etc/binfmt.d/zz-binfmtctl.conf was changed since and is not removed\n\
         warning: /usr/local/lib/binfmtctl/qemu-aarch64 is named in it and is not removed\n\
         registrations of the running system stay: `binfmtctl --uninstall` removes those\n\
         error: cannot remove /etc/binfmt.d/zz-binfmtctl.conf: it was changed since, and still registers the emulators that it names\n\
         ./etc/binfmt.d/zz-binfmtctl.conf\n./usr/local/lib/binfmtctl/manifest\n\
         ./usr/local/lib/binfmtctl/qemu-aarch64\nremoved\n"
    );
}

#[test]
fn links_do_not_lead_out_of_the_root() {
    let ran = in_namespace(&format!(
        r#"{ROOT}
           mkdir $T/outside $R/inside; ln -s $T/outside $R/etc/binfmt.d; ln -s /inside $R/usr/local
           p --install arm64 2>/dev/null || echo refused; ls $T/outside $R/inside
           rm $R/etc/binfmt.d; p --install arm64 2>/dev/null; ls $R/inside/lib/binfmtctl"#
    ))
    .ok();
    assert_eq!(
        ran.stdout,
        "refused\n/mnt/outside:\n\n/mnt/root/inside:\nmanifest\nqemu-aarch64\nregister\n"
    );
}

#[test]
fn a_read_only_host_is_refused_with_a_way_out() {
    let ran = in_namespace(&format!(
        r#"{ROOT}
           mkdir $R/var; mount --bind $R $R; mount -o remount,bind,ro $R; mount -t tmpfs none $R/var
           p --install arm64 || true; ls $R/var"#
    ))
    .ok();
    assert_eq!(ran.stdout, "");
    assert!(
        ran.last_line().ends_with("/mnt/root/usr/local/lib/binfmtctl: Read-only file system"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr
            .contains("hint: this system is read-only: choose a writable place with --lib-dir"),
        "{}",
        ran.stderr
    );
}

/// Each is refused before anything is written, and the advice fits.
#[test]
fn what_cannot_work_is_refused_and_leaves_nothing() {
    let arm64 = guests(&["arm64"]).join("arm64/bin/busybox");
    let ran = in_namespace(&format!(
        r#"{ROOT}
           refused() {{ echo "$(p --install arm64,riscv64 "$@" 2>&1 | sed "s,$R,ROOT,") -> $(files)"; }}
           cp {arm64} $R/usr/lib/systemd/systemd; refused; rm $R/usr/lib/systemd/systemd
           mount -t tmpfs -o ro none $R/etc; refused; umount $R/etc
           mkdir $R/opt; mount -t tmpfs -o noexec none $R/opt; refused --lib-dir /opt/qemu; umount $R/opt
           touch $R/etc/NIXOS; refused; rm $R/etc/NIXOS
           for dir in lib "/a b" /a/../b /; do refused --lib-dir "$dir"; done
           rm $R/usr/lib/systemd/systemd-binfmt; refused"#,
        arm64 = arm64.display()
    ))
    .ok();
    let usage = |dir| {
        format!(
            "error: --lib-dir takes an absolute path of letters, digits and ._+-@, not '{dir}' -> \n"
        )
    };
    let expected = [
        "hint: run `persist` on that machine: it needs emulators that are built for it\n\
         error: the system in ROOT/ is for arm64, which this machine does not run natively -> ./usr/lib/systemd/systemd\n\
         hint: this system is read-only: set up binfmt_misc in its own configuration; `hold` needs no files\n\
         error: cannot write ROOT/etc/binfmt.d: Read-only file system -> \n\
         hint: choose another place with --lib-dir\n\
         error: ROOT/opt/qemu is mounted noexec -> \n\
         hint: set boot.binfmt.emulatedSystems = [ \"aarch64-linux\" ]; or use `hold`, which needs no files\n\
         error: NixOS writes such files itself, from its configuration -> ./etc/NIXOS\n"
            .to_owned(),
        usage("lib"),
        usage("/a b"),
        usage("/a/../b"),
        usage("/"),
        "hint: in a container, give it the host's root: -v /:/host, with --root /host\n\
         error: no system boots from ROOT/ -> \n"
            .to_owned(),
    ];
    assert_eq!(ran.stdout, expected.concat());
}

#[test]
fn a_full_disk_is_named_and_keeps_what_was_there() {
    let ran = in_namespace(&format!(
        r#"{ROOT}
           mkdir $R/usr/local; mount -t tmpfs -o size=1m,mode=755 none $R/usr/local
           p --install arm64 || echo $?; grep -s -c ^: $R/etc/binfmt.d/* || true; p --remove 2>/dev/null; files"#
    ))
    .ok();
    // What does not fit is registered by nothing.
    assert_eq!(ran.stdout, "1\n");
    assert_eq!(
        ran.last_line(),
        "error: cannot persist arm64: cannot write /mnt/root/usr/local/lib/binfmtctl/qemu-aarch64: No space left on device"
    );
    assert!(ran.stderr.contains("hint: make room there, choose another place"), "{}", ran.stderr);
}

/// A file in the way is kept under another name, once; ours are not.
#[test]
fn an_upgrade_keeps_what_the_user_changed() {
    let ran = in_namespace(&format!(
        r#"{ROOT}
           p --install arm64 2>/dev/null; conf=$R/etc/binfmt.d/zz-binfmtctl.conf
           echo '# mine' >>$conf; echo ':mine:E::x::/bin/x:' >>$conf
           p --install arm64,riscv64 2>&1 | grep warning; p --install arm64 2>&1 | grep warning || true
           tail -2 $conf.orig; tail -1 $conf | cut -c1-22; p --remove 2>/dev/null; files"#
    ))
    .ok();
    assert_eq!(
        ran.stdout,
        "warning: /mnt/root/etc/binfmt.d/zz-binfmtctl.conf was not what persist wrote: \
         it is kept as /mnt/root/etc/binfmt.d/zz-binfmtctl.conf.orig\n\
         # mine\n:mine:E::x::/bin/x:\n:qemu-riscv64:M:0:\\x7f\n./etc/binfmt.d/zz-binfmtctl.conf.orig\n"
    );
}

#[test]
fn an_earlier_directory_is_not_forgotten() {
    let ran = in_namespace(&format!(
        r#"{ROOT}
           p --install arm64 --lib-dir /opt/qemu 2>/dev/null
           p --install arm64 2>&1 || p --remove 2>/dev/null || echo $?; files
           p --remove --lib-dir /opt/qemu 2>/dev/null; files"#
    ))
    .ok();
    assert_eq!(
        ran.stdout,
        "hint: use --lib-dir /opt/qemu, or remove those first: persist --remove --lib-dir /opt/qemu\n\
         error: emulators were persisted in /opt/qemu before\n1\n\
         ./etc/binfmt.d/zz-binfmtctl.conf\n./opt/qemu/manifest\n./opt/qemu/qemu-aarch64\n./opt/qemu/register\n"
    );
}

/// It names the command that makes them work at once, as long as it is needed.
#[test]
fn it_says_whether_they_are_active() {
    let ran = in_namespace(&format!(
        r#"{ROOT}
           mount -t binfmt_misc none $M; true
           p --install arm64 2>&1 | tail -1; p --install arm64 2>&1 | tail -1
           mount --rbind $R/usr/local /usr/local; mount --rbind $R/etc /etc; sh /usr/local/lib/binfmtctl/register
           p --install arm64 2>&1 | tail -1; echo 0 >$M/qemu-aarch64; p --install arm64 2>&1 | tail -1"#
    ))
    .ok();
    let now = "to use them now, run on that machine: sh /usr/local/lib/binfmtctl/register\n";
    assert_eq!(
        ran.stdout,
        format!("{now}{now}the files are unchanged, and the registrations are active now\n{now}")
    );
}

/// Killed at many different moments: each file is whole, old or new, and `--remove` finds all.
#[test]
fn sigkill_at_any_step_leaves_whole_files() {
    let ran = in_namespace(&format!(
        r#"{ROOT}
           mkdir $T/e; cp $B $T/e/qemu-aarch64
           new=$(p --install arm64 2>/dev/null; sha256sum <$R/usr/local/lib/binfmtctl/qemu-aarch64); old=$(sha256sum <$B)
           for delay in 0.01 0.03 0.05 0.07 0.09 0.12 0.15 0.2 0.3; do
             QEMU_BINARY_PATH=$T/e p --install arm64 >/dev/null 2>&1
             p --install arm64 >/dev/null 2>&1 & pid=$!; sleep $delay; kill -9 $pid 2>/dev/null || true; wait $pid || true
             now=$(sha256sum <$R/usr/local/lib/binfmtctl/qemu-aarch64)
             [ "$now" = "$old" ] || [ "$now" = "$new" ] || echo torn
             grep -c qemu-aarch64 $R/etc/binfmt.d/zz-binfmtctl.conf | grep -vx 1 || true
           done
           p --install arm64 2>/dev/null; p --remove >/dev/null 2>&1; files"#
    ))
    .ok();
    assert_eq!(ran.stdout, "");
}

/// Debian's own systemd-binfmt, in a root of its own.
#[test]
fn systemd_binfmt_registers_what_was_persisted_and_drops_what_was_not() {
    let root = guest_root("amd64", &["systemd"]);
    let guests = guests(&["arm64"]);
    let ran = in_namespace(&format!(
        r#"root={root}; busybox={busybox}
           mkdir -p $root/usr/local $root/etc/binfmt.d; mount -t tmpfs -o mode=755 none $root/usr/local; mount -t tmpfs none $root/etc/binfmt.d
           mount -t binfmt_misc none $M; mount --rbind /proc $root/proc
           restart() {{ chroot $root /usr/lib/systemd/systemd-binfmt; }}
           arm64() {{ chroot $busybox /bin/busybox uname -m; }}

           $B --install riscv64,arm64 >/dev/null 2>&1
           restart; echo unpersisted: $(ls $M)

           # A distribution's file for the same entry, which must not win.
           sed 's,lib/binfmtctl/qemu,nonesuch/qemu,; s/:POCF/:/' >$root/etc/binfmt.d/qemu-aarch64.conf <<'END'
:qemu-aarch64:M:0:\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/local/lib/binfmtctl/qemu-aarch64:POCF
END
           $B persist --root $root --install arm64 2>/dev/null
           restart; restart; echo persisted: $(ls $M) $(grep flags $M/qemu-aarch64) $(arm64)
           $B persist --root $root --remove 2>/dev/null; rm $root/etc/binfmt.d/*; restart; echo removed: $(ls $M)"#,
        root = root.display(),
        busybox = guests.join("arm64").display(),
    ))
    .ok();
    assert_eq!(
        ran.stdout,
        "unpersisted: register status\n\
         persisted: qemu-aarch64 register status flags: POCF aarch64\n\
         removed: register status\n",
        "{}",
        ran.stderr
    );
}

/// `hold` puts back what systemd-binfmt drops.
#[test]
fn hold_survives_a_systemd_binfmt_restart() {
    let root = guest_root("amd64", &["systemd"]);
    let ran = in_namespace(&format!(
        r#"root={root}
           mount -t binfmt_misc none $M; mount --rbind /proc $root/proc
           $B hold --install arm64 --ready-file $T/ready 2>$T/log & pid=$!
           for i in $(seq 100); do [ ! -e $T/ready ] || break; sleep 0.1; done
           chroot $root /usr/lib/systemd/systemd-binfmt; echo $(ls $M)
           for i in $(seq 100); do [ ! -e $M/qemu-aarch64 ] || break; sleep 0.1; done; echo $(ls $M)
           kill $pid; wait $pid"#,
        root = root.display(),
    ))
    .ok();
    assert_eq!(ran.stdout, "register status\nqemu-aarch64 register status\n", "{}", ran.stderr);
}

/// Where nothing reads binfmt.d, a service of ours does.
#[test]
fn other_boots_get_a_service_that_registers_the_same() {
    let guests = guests(&["arm64"]);
    let ran = in_namespace(&format!(
        r#"R=$T/root; p() {{ $B persist --root $R "$@" 2>&1 | grep -v "^to use" | tail -1; }}
           start() {{ mkdir -p /usr/local/lib /etc/binfmt.d 2>/dev/null || true
                     mount -t tmpfs none /usr/local; mkdir -p /usr/local/lib; mount --rbind $R/usr/local /usr/local
                     mount --rbind $R/etc /etc; sh /usr/local/lib/binfmtctl/register; }}
           mkdir -p $R/sbin; touch $R/sbin/init; p --install arm64; p --remove
           touch $R/sbin/openrc-run; p --install arm64; ls $R/etc/init.d $R/etc/runlevels/boot; p --remove; find $R/etc -type f -o -type l
           rm $R/sbin/openrc-run; mkdir -p $R/usr/lib/systemd; touch $R/usr/lib/systemd/systemd; p --install arm64
           touch $R/usr/lib/systemd/systemd-binfmt; wsl=$R/usr/lib/systemd/system/systemd-binfmt.service.d
           mkdir -p $wsl; printf '[Unit]\nConditionVirtualization=!wsl\n' >$wsl/wsl.conf; p --install arm; rm -r $wsl
           ln -s /dev/null $R/etc/systemd/system/systemd-binfmt.service; p --install riscv64
           readlink -f $R/etc/systemd/system/sysinit.target.wants/binfmtctl.service | sed "s,$R,,"
           start; start; ls $M; chroot {}/arm64 /bin/busybox uname -m"#,
        guests.display()
    ))
    .ok();
    assert_eq!(
        ran.stdout,
        "note: found neither systemd nor OpenRC there: make its boot run `sh /usr/local/lib/binfmtctl/register`\n\
         registrations of the running system stay: `binfmtctl --uninstall` removes those\n\
         the service binfmtctl registers qemu-aarch64 at the next boot\n\
         /mnt/root/etc/init.d:\nbinfmtctl\n\n/mnt/root/etc/runlevels/boot:\nbinfmtctl\n\
         registrations of the running system stay: `binfmtctl --uninstall` removes those\n\
         the service binfmtctl registers qemu-aarch64 at the next boot\n\
         the service binfmtctl registers qemu-arm at the next boot\n\
         the service binfmtctl registers qemu-riscv64 at the next boot\n\
         /etc/systemd/system/binfmtctl.service\n\
         qemu-aarch64\nqemu-arm\nqemu-riscv64\nregister\nstatus\naarch64\n",
        "{}",
        ran.stderr
    );
}

/// Each waits for the other; a strict umask does not shut containers' users out.
#[test]
fn several_at_once_and_a_strict_umask_are_fine() {
    let ran = in_namespace(&format!(
        r#"{ROOT}
           umask 077; pids=
           for i in 1 2 3 4; do p --install arm64,riscv64 >$T/$i 2>&1 & pids="$pids $!"; done
           for pid in $pids; do wait $pid; done
           cat $T/[1-4] | grep -c OK
           (cd $R; sed 's,  /,  ./,' usr/local/lib/binfmtctl/manifest | sha256sum -c --quiet)
           (cd $R; stat -c '%a %n' usr/local/lib/binfmtctl usr/local/lib/binfmtctl/* etc/binfmt.d/*)"#
    ))
    .ok();
    assert_eq!(
        ran.stdout,
        "8\n755 usr/local/lib/binfmtctl\n644 usr/local/lib/binfmtctl/manifest\n\
         755 usr/local/lib/binfmtctl/qemu-aarch64\n755 usr/local/lib/binfmtctl/qemu-riscv64\n\
         755 usr/local/lib/binfmtctl/register\n644 etc/binfmt.d/zz-binfmtctl.conf\n",
        "{}",
        ran.stderr
    );
}

/// What a killed run left beside a file goes with the file.
#[test]
fn leftovers_of_killed_runs_are_removed() {
    let ran = in_namespace(&format!(
        r#"{ROOT}
           lib=$R/usr/local/lib/binfmtctl
           mkdir -p $lib; echo half >$lib/.manifest.new; p --remove 2>&1 | sed "s|$R|ROOT|"; files; rmdir $lib
           p --install arm64 2>/dev/null; echo half >$lib/.qemu-aarch64.new; p --remove 2>/dev/null; files; ls $R/usr/local/lib
           p --install arm64 2>/dev/null; mv $lib/qemu-aarch64 $lib/.qemu-aarch64.new; p --remove 2>/dev/null; files; ls $R/usr/local/lib"#
    ))
    .ok();
    assert_eq!(ran.stdout, "nothing was persisted in ROOT/\n");
}

/// As in a container that was not given the host's root, where all is as it was.
#[test]
fn removing_where_nothing_boots_names_the_root_that_is_missing() {
    let ran =
        in_namespace("mkdir $T/empty; $B persist --root $T/empty --remove 2>&1 | sed s,$T,T,").ok();
    assert_eq!(
        ran.stdout,
        "hint: in a container, give it the host's root: -v /:/host, with --root /host\n\
         nothing was persisted in T/empty/\n"
    );
}

#[test]
fn a_root_that_is_none_is_refused() {
    assert!(!Path::new("/nonesuch").exists());
    let ran = in_namespace("$B persist --root /nonesuch || echo $?").ok();
    assert_eq!(ran.stdout, "1\n");
    assert_eq!(ran.last_line(), "error: cannot read /nonesuch: No such file or directory");
}

/// Whoever may read the directory can lock it; that is not what runs wait for.
#[test]
fn nobody_else_holds_it_up_and_runs_wait_for_each_other() {
    let ran = in_namespace(&format!(
        r#"{ROOT}
           mkdir -p $R/etc/binfmt.d; (flock -s 9; sleep 60) 9<$R & (flock -s 8; sleep 60) 8<$R/etc/binfmt.d & sleep 0.3
           timeout 30 $B persist --root $R --install arm64 2>/dev/null; echo $?
           lock=$R/etc/binfmt.d/.zz-binfmtctl.lock; : >$lock; (flock 7; sleep 2; rm $lock) 7<$lock & sleep 0.3
           timeout 30 $B persist --root $R --install riscv64 2>&1 | grep waiting; ls -A $R/etc/binfmt.d
           for i in 1 2 3 4 5; do p --install arm64,arm,riscv64 2>/dev/null || echo failed; done & other=$!
           for i in 1 2 3 4 5; do p --install s390x 2>/dev/null || echo failed; done; wait $other
           grep -c ^: $R/etc/binfmt.d/zz-binfmtctl.conf; p --remove 2>/dev/null; files; ls -A $R/etc/binfmt.d
           kill %1 %2"#
    ))
    .ok();
    assert_eq!(
        ran.stdout, "0\nwaiting for another binfmtctl persist\nzz-binfmtctl.conf\n4\n",
        "{}",
        ran.stderr
    );
}

/// Devices, pipes and files without an end, as an unpacked image may have them, are never opened.
#[test]
fn what_is_no_file_is_not_opened_and_is_kept() {
    let ran = in_namespace(&format!(
        r#"{ROOT}
           lib=$R/usr/local/lib/binfmtctl; mkdir -p $lib $R/etc/binfmt.d $R/sbin; mkfifo $lib/qemu-aarch64 $R/sbin/init
           truncate -s 10T $lib/qemu-riscv64; touch $R/busybox; mkdir $R/bin; ln -s /busybox $R/bin/sh; mount --bind /dev/zero $R/busybox
           timeout 60 $B persist --root $R --install arm64,riscv64 2>&1 | sed "s,$R,,g"; ls $lib; timeout 60 $B persist --root $R --remove 2>/dev/null; ls $lib
           touch $R/etc/binfmt.d/zz-binfmtctl.conf; mount --bind /dev/zero $R/etc/binfmt.d/zz-binfmtctl.conf
           timeout 20 $B persist --root $R --install arm64 2>&1 | sed "s,$R,,""#
    ))
    .ok();
    assert_eq!(
        ran.stdout,
        "persisting: arm64 OK (/usr/local/lib/binfmtctl/qemu-aarch64)\n\
         persisting: riscv64 OK (/usr/local/lib/binfmtctl/qemu-riscv64)\n\
         warning: /usr/local/lib/binfmtctl/qemu-aarch64 was not what persist wrote: it is kept as /usr/local/lib/binfmtctl/qemu-aarch64.orig\n\
         warning: /usr/local/lib/binfmtctl/qemu-riscv64 was not what persist wrote: it is kept as /usr/local/lib/binfmtctl/qemu-riscv64.orig\n\
         systemd-binfmt registers qemu-aarch64, qemu-riscv64 at the next boot, and at each of its restarts\n\
         to use them now, run on that machine: sh /usr/local/lib/binfmtctl/register\n\
         manifest\nqemu-aarch64\nqemu-aarch64.orig\nqemu-riscv64\nqemu-riscv64.orig\nregister\n\
         qemu-aarch64.orig\nqemu-riscv64.orig\n\
         hint: binfmtctl writes no such file: move it away\nerror: /etc/binfmt.d/zz-binfmtctl.conf is a device\n"
    );
}

#[test]
fn a_place_that_others_may_write_to_is_refused_and_only_own_files_are_removed() {
    let ran = in_namespace(&format!(
        r#"{ROOT}
           mkdir -p $R/opt/open/qemu; for mode in 777 1777 770; do chmod $mode $R/opt/open; chgrp 1 $R/opt/open 2>/dev/null || true
               p --install arm64 --lib-dir /opt/open/qemu 2>&1 | tail -1 | sed "s,$R,,"; done; ls $R/opt/open/qemu
           chmod 755 $R/opt/open; p --install arm64 --lib-dir /opt/open/qemu 2>/dev/null
           mkdir $R/sbin; echo init >$R/sbin/init; echo "$(sha256sum <$R/sbin/init | cut -c1-64)  /sbin/init" >>$R/opt/open/qemu/manifest
           p --remove --lib-dir /opt/open/qemu 2>&1 | grep init | sed "s,$R,,"; files"#
    ))
    .ok();
    let refused = "error: /opt/open belongs to somebody else, or others may write to it\n";
    // 770 is refused too where the group is another one: a namespace of one id has none.
    assert_eq!(
        ran.stdout,
        format!(
            "{refused}{refused}{}warning: /sbin/init is no file of persist's and is not removed\n./sbin/init\n",
            "to use them now, run on that machine: sh /opt/open/qemu/register\nmanifest\nqemu-aarch64\nregister\n"
        )
    );
}

#[test]
fn a_disk_without_room_is_left_as_it_was() {
    let ran = in_namespace(&format!(
        r#"{ROOT}
           mkdir $R/usr/local; mount -t tmpfs -o size=8k,nr_inodes=3,mode=755 none $R/usr/local
           p --install arm64 2>&1 | grep -c 'next boot' || true; find $R/usr/local"#
    ))
    .ok();
    assert_eq!(ran.stdout, "0\n/mnt/root/usr/local\n", "{}", ran.stderr);
    let ran = in_namespace(&format!(
        r#"{ROOT}
           p --install arm64 2>/dev/null; conf=$R/etc/binfmt.d/zz-binfmtctl.conf
           for i in 1 2 3; do echo \#$i >>$conf; p --install riscv64 2>/dev/null; done; ls $R/etc/binfmt.d"#
    ))
    .ok();
    assert_eq!(
        ran.stdout,
        "zz-binfmtctl.conf\nzz-binfmtctl.conf.orig\nzz-binfmtctl.conf.orig.1\nzz-binfmtctl.conf.orig.2\n"
    );
}
