//! `run` of a program that this machine runs itself: emulators are unpacked when something needs them, and nobody
//! can tell the first program that did from others.

use std::path::PathBuf;

use crate::run_needs_root::{Home, may_change_user, with_subordinate_ids};
use crate::support::{Ran, guests};

/// `unpacked` lists the emulators in the cache, `watchers` the watchers of this home's runs, `gone` waits for their end, and
/// `clear` leaves nothing in the cache.
const PRELUDE: &str = r#"cd ~
    unpacked() { find ~/.cache/binfmtctl -type f | sed 's,.*/,,; /verified$/d' | sort | tr '\n' ' '; }
    watchers() { for p in $(grep -lzx "HOME=$HOME" /proc/[0-9]*/environ 2>/dev/null); do grep -qzx __watch ${p%environ}cmdline 2>/dev/null && basename ${p%/environ}; done; }
    gone() { for i in $(seq 100); do [ -z "$(watchers)" ] && return; sleep 0.1; done; watchers; }
    clear() { rm -rf ~/.cache; }
"#;

struct Guests {
    home: Home,
    /// With a directory for each architecture.
    root: PathBuf,
}

impl Guests {
    fn new() -> Self {
        let home = Home::new();
        let root = home.guest(guests(&["amd64", "arm64", "riscv64", "s390x"]));
        Self { home, root }
    }

    /// A bash script; `$ARM64`, `$RISCV64` and `$S390X` are programs, `$ROOT` is a root for arm64 without /proc.
    #[track_caller]
    fn run(&self, script: &str) -> Ran {
        let root = self.root.display();
        let ran = self.home.run(&format!(
            "{PRELUDE}\nexport ROOT={root}/arm64 ARM64={root}/arm64/bin/busybox \
             RISCV64={root}/riscv64/bin/busybox S390X={root}/s390x/bin/busybox\n{script}"
        ));
        ran.ok()
    }
}

#[test]
fn only_what_is_needed_is_unpacked() {
    if !may_change_user() {
        return;
    }
    let ran = Guests::new().run(
        r#"$B run true; unpacked; echo none
           $B run sh -c '$ARM64 uname -m'; unpacked; echo
           $B run sh -c '$ARM64 uname -m; $RISCV64 uname -m'; unpacked; echo
           clear; root=$ROOT/../amd64; mkdir $root/proc; cp $RISCV64 $root/bin/foreign
           $B run --root $root -- /bin/sh -c 'exec -a uname /bin/foreign -m'; unpacked; echo
           clear; printf '#!%s sh\necho "$0" "$@"\n' $S390X >script; chmod +x script
           $B run sh -c './script a b'; unpacked; echo
           open=$($B run $S390X ls /proc/self/fd | wc -l); clear; cp $S390X busybox
           with=$($B run sh -c '(sleep 0.1; exec rm busybox) & ./busybox ls /proc/self/fd; wait' | wc -l); echo $((with - open <= 1))
           $B run sh -c '$S390X sh -c "exit 42"'; echo $?; $B run sh -c 'exec $S390X sh -c "kill -TERM \$\$"'; echo $?; gone"#,
    );
    assert_eq!(
        ran.stdout,
        "none\naarch64\nqemu-aarch64 \naarch64\nriscv64\nqemu-aarch64 qemu-riscv64 \nriscv64\nqemu-riscv64 \n\
         ./script a b\nqemu-s390x \n1\n42\n143\n",
        "{}",
        ran.stderr
    );
}

/// Each is done by a run that has to unpack the emulator while the program waits, and by one that has it before.
#[test]
fn the_first_program_finds_all_as_its_caller_left_it() {
    if !may_change_user() {
        return;
    }
    let guests = Guests::new();
    for (options, script) in [
        ("", r#"$ARM64 printf '%s|' -x -- '' $'\xe9' 'a b' | od -c"#),
        ("", r#"(exec -a echo $ARM64 argv0)"#),
        (
            "",
            r#"$ARM64 cat /proc/self/comm; $ARM64 ls /proc/self/fd; $ARM64 env -i A=1 $ARM64 env"#,
        ),
        ("", r#"$ARM64 ls /proc/self/fd <&-; $ARM64 ls /proc/self/fd 2>&- <&-"#),
        ("", r#"$ARM64 sh -c 'echo closed >&9' 9>&1 <&- >&- 2>&-; echo $?"#),
        ("", r#"$ARM64 yes | head -1; echo ${PIPESTATUS[0]}"#),
        ("", r#"trap '' PIPE; $ARM64 yes 2>&1 | head -1; echo ${PIPESTATUS[0]}"#),
        ("", r#"umask 0127; $ARM64 sh -c umask"#),
        ("", r#"cd ${ARM64%/bin/busybox}; bin/busybox pwd; PATH=$PWD/bin; busybox pwd"#),
        ("", r#"$ARM64 cat /proc/self/fd/0 <$0; bash -c '/dev/fd/7 echo open' 7<$ARM64"#),
        (
            "",
            r#"printf '#!%s sh\ncat /proc/$$/comm; echo "$0" "$@"\n' $ARM64 >script; chmod +x script; ./script a ''"#,
        ),
        (
            "",
            r#"printf '#!%s sh\necho "$0" "$@"; cat /proc/$$/comm\n' $ARM64 >one; echo '#!./one a' >two; chmod +x one two; ./two b"#,
        ),
        ("", r#"cp $ARM64 busybox; chmod 111 busybox; ./busybox echo unreadable; rm busybox"#),
        ("", r#"unshare -Ur $ARM64 id -u"#),
        ("", r#"$ARM64 sh -c 'read x; echo "$x"' <<<in; echo $?"#),
        (
            "--map-root",
            r#"chroot $ROOT /bin/busybox echo in a root; chroot $ROOT /bin/sh -c 'echo "$0" "$@"' a b"#,
        ),
        ("--map-root", r#"chroot $ROOT /bin/sh -c 'echo x >&9' 9>&1 <&- >&- 2>&-; echo $?"#),
        (
            "--map-root",
            r#"trap '' PIPE; chroot $ROOT /bin/busybox yes 2>&1 | head -1; echo ${PIPESTATUS[0]}"#,
        ),
        (
            "--map-root",
            r#"unshare --pid --fork --mount-proc $ARM64 sh -c 'echo $$; cat /proc/self/comm'"#,
        ),
    ] {
        let ran = guests.run(&format!(
            r#"cat >program <<'END'
{script}
END
               $B run {options} bash program >first 2>&1; echo $? >>first; unpacked
               $B run {options} --platform arm64 bash program >other 2>&1; echo $? >>other
               [ -s first ] && diff first other && clear"#
        ));
        assert_eq!(ran.stdout, "qemu-aarch64 ", "{options} {script}\n{}", ran.stderr);
    }
}

#[test]
fn many_first_programs_at_once_wait_for_one_emulator() {
    if !may_change_user() {
        return;
    }
    let ran = Guests::new().run(
        r#"$B run bash -c 'for i in $(seq 20); do $ARM64 sh -c "echo \$0 \$1" at once >out.$i & done; wait'
           cat out.* | sort | uniq -c | tr -s ' '; unpacked; echo; clear
           $B run bash -c 'for i in 1 2 3 4; do for p in $ARM64 $RISCV64; do $p uname -m & done; done; wait' | sort | uniq -c | tr -s ' '; unpacked"#,
    );
    assert_eq!(
        ran.stdout,
        " 20 at once\nqemu-aarch64 \n 4 aarch64\n 4 riscv64\nqemu-aarch64 qemu-riscv64 ",
        "{}",
        ran.stderr
    );
}

#[test]
fn the_watcher_is_nobodys_child_and_ends_with_the_last_process() {
    if !may_change_user() {
        return;
    }
    let ran = Guests::new().run(
        r#"$B run bash -c 'read x </proc/$$/task/$$/children; echo "[$x]"'; gone
           $B run sh -c '(sleep 3; exec $ARM64 uname -m >late) >/dev/null 2>&1 & echo main; exit 3' | cat; watchers | wc -l
           for i in $(seq 100); do [ -s late ] && break; sleep 0.1; done; cat late; gone; unpacked"#,
    );
    assert_eq!(ran.stdout, "[]\nmain\n1\naarch64\nqemu-aarch64 ", "{}", ran.stderr);
}

#[test]
fn programs_run_without_a_watcher() {
    if !may_change_user() {
        return;
    }
    let guests = Guests::new();
    for options in ["", "--map-root"] {
        let chroot = if options.is_empty() { "" } else { "chroot $ROOT" };
        let program = if options.is_empty() { "$ARM64" } else { "/bin/busybox" };
        // Once before anybody needs it, once while it unpacks what takes longest.
        let ran = guests.run(&format!(
            r#"cat >program <<'END'
touch started; while [ -e started ]; do sleep 0.1; done
{chroot} {program} printf '%s|' -0 -- '' $'\xe9' 'a b'; echo
({chroot} {program} sh -c 'echo closed >&9' 9>&1 <&- >&- 2>&-)
trap '' PIPE; {chroot} {program} yes 2>&1 | head -1; echo ${{PIPESTATUS[0]}}
{chroot} {program} sh -c 'exit 42'; echo $?
END
               $B run {options} --platform arm64 bash program >other 2>&1 & until [ -e started ]; do sleep 0.1; done; rm started; wait
               clear; $B run {options} bash program >first 2>&1 & until [ -e started ]; do sleep 0.1; done; kill -KILL $(watchers); gone; rm started; wait
               [ -s first ] && diff first other && find ~/.cache -type f
               $B run {options} bash -c 'touch started; while [ -e started ]; do sleep 0.1; done; $S390X uname -m' & until [ -e started ]; do sleep 0.1; done
               killed=$(watchers); rm started; sleep 0.3; kill -KILL $killed 2>/dev/null; wait; gone"#
        ));
        assert_eq!(ran.stdout, "s390x\n", "{options}\n{}", ran.stderr);
    }
}

/// busybox's su itself looks whether it is root, as in `guests`. Once it waits for its emulator, once nobody brings that. Nor can
/// it be had from memory in the end.
#[test]
fn setuid_programs_have_their_owners_rights_from_the_first_on() {
    if !may_change_user() {
        return;
    }
    let busybox = guests(&["arm64"]).join("arm64/bin/busybox");
    let ran = with_subordinate_ids(
        "arm64",
        &format!("cp {} .", busybox.display()),
        r#"cat >program <<'END'
             mkdir memory; mount -t tmpfs none memory; cp ../busybox memory/; chmod 4755 memory/busybox
             su() { setpriv --reuid 1000 --regid 1000 --clear-groups memory/busybox su nonesuch 2>&1 || true; }
END
           $B run --map-root -- bash -euc '. ./program; su; su'; rm -r .cache memory
           watcher='$(grep -slzx "HOME=$HOME" /proc/[0-9]*/environ | sed s/environ/cmdline/ | xargs grep -slzx _[_]watch | cut -d/ -f3)'
           $B run --map-root -- bash -euc ". ./program; kill -KILL $watcher; su; su; umount memory; find .cache -type f
             (ulimit -f 1; trap '' XFSZ; ../busybox true) || echo \$?" 2>said; cat said"#,
    );
    let lines: Vec<_> = ran.stdout.lines().collect();
    let su = "su: unknown user nonesuch";
    assert!(lines.len() == 7 && lines[..4] == [su; 4] && lines[4] == "126", "{}", ran.stdout);
    assert!(
        lines[5].starts_with("hint: ") && lines[6].starts_with("error: cannot start ../busybox: "),
        "{}",
        ran.stdout
    );
}

#[test]
fn what_cannot_be_cached_is_unpacked_to_memory_when_it_is_needed() {
    if !may_change_user() {
        return;
    }
    let ran = Guests::new().run(
        r#"mkdir full noexec; run() { $B run sh -c '$ARM64 uname -m; $ARM64 cat /proc/self/comm'; }; export -f run
           unshare -Urm bash -c 'mount -t tmpfs -o size=1m none full; HOME=$PWD/full run; find full -type f'
           unshare -Urm bash -c 'mount -t tmpfs -o noexec none noexec; HOME=$PWD/noexec run; find noexec -type f'
           HOME=/proc run; (unset HOME; run)
           $B run sh -c '$ARM64 true; $B run --clean-cache; $RISCV64 uname -m'; unpacked"#,
    );
    assert_eq!(
        ran.stdout,
        format!("{}riscv64\nqemu-riscv64 ", "aarch64\nbusybox\n".repeat(4)),
        "{}",
        ran.stderr
    );
}

/// The first process of a namespace gets all orphans: there, all emulators are unpacked at once.
#[test]
fn a_first_process_gets_no_child_that_it_did_not_start() {
    if !may_change_user() {
        return;
    }
    let ran = Guests::new().run(
        r#"unshare -Ur --pid --fork --mount-proc $B run bash -c 'read x </proc/$$/task/$$/children; echo "$$[$x]"; $ARM64 uname -m'; unpacked | wc -w"#,
    );
    let count: usize = ran.stdout.lines().last().unwrap().parse().unwrap();
    assert!(ran.stdout.starts_with("1[]\naarch64\n") && count > 10, "{}{}", ran.stdout, ran.stderr);
}
