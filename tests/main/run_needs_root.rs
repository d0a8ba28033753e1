//! `run` as an ordinary user on the real kernel: programs work, and nothing is left.

use std::path::PathBuf;
use std::process::Command;

use crate::support::{BINARY, Ran, guest_root, guests, ready, skip, with_others};

/// An ordinary user of this machine's, who owns nothing but a home.
const UID: &str = "54321";

/// A home of that user's, with the program in it: the source tree may be root's alone.
pub(crate) struct Home(tempfile::TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        ready();
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir(dir.path().join("home")).unwrap();
        std::os::unix::fs::chown(
            dir.path().join("home"),
            Some(UID.parse().unwrap()),
            Some(UID.parse().unwrap()),
        )
        .unwrap();
        std::fs::copy(BINARY, dir.path().join("binfmtctl")).unwrap();
        Self(dir)
    }

    /// Copies a guest's root to where the user may read it.
    pub(crate) fn guest(&self, from: PathBuf) -> PathBuf {
        let to = self.0.path().join("root");
        let copied = Command::new("cp").arg("-a").arg(&from).arg(&to).status().unwrap();
        assert!(copied.success());
        let owned =
            Command::new("chown").args(["-R", &format!("{UID}:{UID}")]).arg(&to).status().unwrap();
        assert!(owned.success());
        to
    }

    /// A bash script as that user; `$B` is the program.
    pub(crate) fn run(&self, script: &str) -> Ran {
        let _others = with_others();
        let output = Command::new("setpriv")
            .args([
                "--reuid",
                UID,
                "--regid",
                UID,
                "--clear-groups",
                "--inh-caps=-all",
                "bash",
                "-uc",
                script,
            ])
            .current_dir(self.0.path().join("home"))
            .env_remove("XDG_CACHE_HOME")
            .env("HOME", self.0.path().join("home"))
            .env("B", self.0.path().join("binfmtctl"))
            .output();
        Ran::new(&output.unwrap())
    }
}

/// Root is not needed, but to become somebody else it is.
pub(crate) fn may_change_user() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skip("needs root to become another user");
    }
    root
}

#[test]
fn a_foreign_program_runs_as_its_caller_and_nothing_is_left() {
    if !may_change_user() {
        return;
    }
    let home = Home::new();
    let busybox = home.guest(guests(&["arm64"]).join("arm64")).join("bin/busybox");
    let busybox = busybox.display();
    let ran = home.run(&format!(
        r#"seen() {{ grep -e binfmt -e "$HOME" /proc/self/mountinfo; ls /proc/sys/fs/binfmt_misc; {busybox} true 2>/dev/null || echo $?; }}; before=$(seen)
           $B run {busybox} uname -m
           $B run -- {busybox} id -u
           $B run {busybox} sh -c 'echo one two | {busybox} tr a-z A-Z; echo "$0"' me
           $B run {busybox} sh -c 'exit 42'; echo $?
           $B run {busybox} sh -c 'kill -TERM $$'; echo $?
           echo in | $B run {busybox} cat
           $B run --platform arm64 sh -c '{busybox} uname -m'
           $B run --map-root {busybox} id -u
           $B run --platform arm64 $B run {busybox} uname -m
           $B run {busybox} sleep 0.5 & $B run {busybox} sleep 0.5 & wait
           $B run {busybox} sleep 60 & sleep 0.3; kill -KILL $!; wait
           [ "$before" = "$(seen)" ] && echo clean
           find $HOME -type f | sed "s,$HOME,,; s,/[0-9a-f]*/,/SHA256/," | sort; ls -ld ~/.cache/binfmtctl | cut -c1-10"#
    ));
    assert_eq!(
        ran.stdout,
        "aarch64\n54321\nONE TWO\nme\n42\n143\nin\naarch64\n0\naarch64\nclean\n\
         /.cache/binfmtctl/SHA256/qemu-aarch64\n/.cache/binfmtctl/SHA256/qemu-aarch64.verified\ndrwx------\n",
        "{}",
        ran.stderr
    );
}

/// As rootless engines do it: each container has its own mounts, all are in one user namespace.
#[test]
fn a_second_rootless_container_sees_and_uninstalls_what_the_first_installed() {
    if !may_change_user() {
        return;
    }
    let ran = Home::new()
        .run(
            r#"container='unshare -m --pid --fork --mount-proc'
               # What is registered for all of this machine is not seen where another user namespace has its own.
               own='m=/proc/sys/fs/binfmt_misc; mount -t binfmt_misc none $m && umount $m && exec "$@"'
               exec unshare -Urm sh -c "$own" sh unshare -U --map-user=1000 --map-group=1000 unshare -Urm bash -euc "
                   $container $B --install arm64 2>/dev/null | grep -c linux/arm64
                   $container $B --status | grep -c 'linux/arm64 .* qemu-aarch64'
                   ! $container $B --uninstall all | grep linux/arm64
                   ! grep binfmt_misc /proc/self/mounts"
            "#,
        )
        .ok();
    assert_eq!(ran.stdout, "1\n1\n");
    assert_eq!(ran.stderr, "uninstalling: aarch64 OK\n");
}

#[test]
fn a_cache_that_was_touched_is_unpacked_again() {
    if !may_change_user() {
        return;
    }
    let home = Home::new();
    let busybox = home.guest(guests(&["arm64"]).join("arm64")).join("bin/busybox");
    let ran = home.run(&format!(
        r#"run() {{ $B run {} uname -m; }}
           run; file=$(echo ~/.cache/binfmtctl/*/qemu-aarch64); good=$(sha256sum <$file)
           chmod u+w $file; printf garbage | dd of=$file bs=1 seek=100 conv=notrunc status=none; run
           [ "$good" = "$(sha256sum <$file)" ] && echo mended
           chmod 777 ~/.cache/binfmtctl; run; echo $?; $B run --clean-cache; echo $?"#,
        busybox.display()
    ));
    // Nothing is taken from where others may write, nor removed there.
    assert_eq!(ran.stdout, "aarch64\naarch64\nmended\naarch64\n0\n1\n", "{}", ran.stderr);
    let why = "belongs to somebody else, or others may write to it";
    let told: Vec<_> = ran.stderr.lines().filter(|line| line.ends_with(why)).collect();
    assert!(
        told.len() == 2
            && told[0].starts_with("note: emulators are unpacked to memory")
            && told[1].starts_with("error: "),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_whole_root_compiles_and_runs_a_program() {
    if !may_change_user() {
        return;
    }
    let home = Home::new();
    let root = home.guest(guest_root("arm64", &["dash", "coreutils", "gcc", "libc6-dev"]));
    let ran = home.run(&format!(
        r#"mkdir shared {root}/work; printf '#include <stdio.h>\nint main(int argc, char **argv) {{ printf("%%s %%zu\\n", argv[0], sizeof argv); return 7; }}\n' >shared/x.c
           $B run --root {root} --bind $PWD/shared:/work --workdir /work -- sh -c 'gcc -O2 -o x x.c && exec ./x'; echo $?
           ls shared
           $B run --map-root --root {root} -- sh -c 'id -u; uname -m; ls /proc/self/exe >/dev/null && echo proc'
           rmdir {root}/proc; $B run --root {root} -- uname -m"#,
        root = root.display()
    ));
    assert_eq!(ran.stdout, "./x 8\n7\nx\nx.c\n0\naarch64\nproc\naarch64\n", "{}", ran.stderr);
}

/// As `nobody`, with subordinate ids that only this script's mount namespace knows of.
///
/// `$SUITE` is one of Debian's that serves `arch` and what a small root has, `$SOURCE` its line for apt, `$OPTIONS` go into a root's apt.conf.
#[track_caller]
pub(crate) fn with_subordinate_ids(arch: &str, prepare: &str, script: &str) -> Ran {
    let _others = with_others();
    let home = Home::new();
    let prepared = format!(
        r#"mount --make-rprivate /; cd {dir}; touch /etc/subuid /etc/subgid
           echo nobody:200000:65536 >ids; mount --bind ids /etc/subuid; mount --bind ids /etc/subgid
           debian={source}/scripts/debian; SUITE=$($debian suite {arch} '?essential' '?priority(required)' apt); SOURCE=$($debian line $SUITE); OPTIONS=$($debian options)
           export SUITE SOURCE OPTIONS PATH=$PATH:/usr/sbin:/sbin
           {prepare}
           chown nobody: home; export HOME=$PWD/home B=$PWD/binfmtctl; cd home
           exec setpriv --reuid nobody --regid nogroup --clear-groups --inh-caps=-all bash -euo pipefail -c "$SCRIPT""#,
        dir = home.0.path().display(),
        source = crate::support::SOURCE,
    );
    let output = Command::new("unshare")
        .args(["-m", "bash", "-euo", "pipefail", "-c"])
        .arg(prepared)
        .env("SCRIPT", script)
        .output();
    Ran::new(&output.unwrap()).ok()
}

/// The first stage is unpacking; the second runs every package's own scripts, emulated.
#[test]
fn debootstraps_second_stage_needs_no_root() {
    if !may_change_user() {
        return;
    }
    let ran = with_subordinate_ids(
        "riscv64",
        r#"debootstrap --foreign --arch=riscv64 --variant=minbase --keyring="$($debian keyring)" $SUITE stage "$($debian mirror)" \
               /usr/share/debootstrap/scripts/sid >log || { cat log >&2; exit 1; }
           tar -C stage --exclude='./dev/*' -cf stage.tar .; rm -r stage; chmod 644 stage.tar"#,
        r#"$B run --map-root --platform riscv64 -- sh -c 'mkdir riscv64 && tar -C riscv64 -xpf ../stage.tar'
           run() { $B run --map-root --root riscv64 -- "$@"; }
           run env container=lxc /debootstrap/debootstrap --second-stage >log 2>&1 || { tail log >&2; exit 1; }
           tail -1 log; run sh -c 'uname -m; dpkg --audit; ls -ln /var/mail/.. | wc -l >/dev/null; stat -c %g /var/mail/'
           $B run --map-root -- rm -r riscv64"#,
    );
    assert_eq!(ran.stdout, "I: Base system installed successfully.\nriscv64\n8\n");
}

#[test]
fn mmdebstrap_builds_an_arm64_root_without_root() {
    if !may_change_user() {
        return;
    }
    let ran = with_subordinate_ids(
        "arm64",
        "",
        r#"echo "$SOURCE" | $B run --map-root -- mmdebstrap --quiet --mode=root --skip=chroot/mount \
               --aptopt="$OPTIONS" --arch=arm64 --variant=essential $SUITE arm64 - >log 2>&1 || { tail log >&2; exit 1; }
           $B run --map-root --root arm64 -- sh -c 'uname -m; dpkg --audit; id -u'
           $B run --map-root -- rm -r arm64"#,
    );
    assert_eq!(ran.stdout, "aarch64\n0\n");
}

#[test]
fn what_cannot_be_run_is_said() {
    if !may_change_user() {
        return;
    }
    let home = Home::new();
    let ran = home.run(
        r#"$B run /nonesuch; echo $?; $B run /etc/passwd; echo $?; $B run --platform bogus true; echo $?
           $B run; echo $?; $B run --root /nonesuch true; echo $?"#,
    );
    assert_eq!(ran.stdout, "127\n126\n2\n2\n1\n", "{}", ran.stderr);
    assert!(
        ran.stderr.contains("error: cannot start /nonesuch: No such file or directory\n"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("error: cannot start /etc/passwd: Permission denied\n"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("error: unsupported architecture: bogus\n"), "{}", ran.stderr);
    assert_eq!(ran.last_line(), "error: cannot enter /nonesuch: No such file or directory");
}

/// What a killed run leaves is gone after the next; what it had unpacked is kept.
#[test]
fn killed_runs_leave_nothing_in_the_cache() {
    if !may_change_user() {
        return;
    }
    let ran = Home::new().run(
        r#"for i in 1 2 3 4; do $B run --platform all true & sleep 0.$((i * 2)); kill -KILL $! || true; wait; done 2>/dev/null
           mkdir ~/.cache/binfmtctl/old; touch -d '2 months ago' ~/.cache/binfmtctl/old/qemu-arm
           mkdir ~/.cache/binfmtctl/other; touch ~/.cache/binfmtctl/other/qemu-arm
           $B run --platform all true; echo $?; cd ~/.cache/binfmtctl
           find . -name '*new-*'; ls -d old other 2>/dev/null; [ $(ls */*.verified | wc -l) -gt 1 ]; echo $?; ls other"#,
    );
    assert_eq!(ran.stdout, "0\nother\n0\nqemu-arm\n", "{}", ran.stderr);
}

#[test]
fn without_a_cache_emulators_run_from_memory() {
    if !may_change_user() {
        return;
    }
    let home = Home::new();
    let busybox = home.guest(guests(&["arm64"]).join("arm64")).join("bin/busybox");
    let ran = home.run(&format!(
        r#"env -u HOME $B run {0} uname -m; HOME=/proc $B run {0} uname -m; HOME=/dev/null $B run {0} uname -m; mkdir full noexec
           unshare -Urm sh -c 'mount -t tmpfs -o size=1m none full; HOME=$PWD/full $B run {0} uname -m; find full -type f'
           unshare -Urm sh -c 'mount -t tmpfs -o noexec none noexec; HOME=$PWD/noexec $B run {0} uname -m; find noexec -type f'"#,
        busybox.display()
    ));
    assert_eq!(ran.stdout, "aarch64\n".repeat(5), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("/full/.cache/binfmtctl/"),
        "not the place that is full: {}",
        ran.stderr
    );
    let notes = ran
        .stderr
        .lines()
        .filter(|line| line.starts_with("note: emulators are unpacked to memory"));
    assert_eq!(notes.count(), 5, "{}", ran.stderr);
}

/// Links of an image lead where they would lead inside of it.
#[test]
fn binds_follow_links_inside_the_root_and_only_what_is_needed_is_unpacked() {
    if !may_change_user() {
        return;
    }
    let home = Home::new();
    let root = home.guest(guests(&["arm64"]).join("arm64"));
    let ran = home.run(&format!(
        r#"mkdir shared; echo shared >shared/file; mkdir -p {root}/home/u {root}/dev; ln -s /home/u {root}/link; ln -s ../../../../home/u {root}/up
           rm -rf {root}/proc; ln -s / {root}/proc
           $B run --root {root} --bind $PWD/shared:/link --bind $PWD/shared/file:/up/none -- /bin/busybox cat /home/u/file
           touch {root}/home/u/file
           for to in /link /up; do $B run --root {root} --bind $PWD/shared:$to -- /bin/busybox cat /home/u/file; done
           ls ~/.cache/binfmtctl/*/ | grep -c verified"#,
        root = root.display()
    ));
    assert_eq!(ran.stdout, "shared\nshared\n1\n", "{}", ran.stderr);
}

#[test]
fn arguments_and_umask_reach_the_program_as_they_are() {
    if !may_change_user() {
        return;
    }
    let home = Home::new();
    let ran = home.run(
        r#"$B run --platform arm64 sh -c 'printf "%s|" "$@"; umask' x -mount -version --help -- $'\xe9' '' | od -An -c | tr -d ' \n'; umask 0127; $B run --platform arm64 sh -c umask"#,
    );
    assert_eq!(ran.stdout, "-mount|-version|--help|--|351||0022\\n0127\n", "{}", ran.stderr);
}

/// What root makes in its own emulation belongs to whom it should: builders give files to many.
#[test]
fn root_has_all_ids_in_its_own_emulation() {
    if !may_change_user() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = "cd $0; touch x; chown 42:43 x; stat -c %u:%g x; id -u";
    let ran = Command::new(BINARY)
        .args(["run", "--platform", "arm64", "--", "sh", "-euc", script])
        .arg(dir.path())
        .env("XDG_CACHE_HOME", dir.path())
        .output()
        .unwrap();
    assert_eq!(Ran::new(&ran).ok().stdout, "42:43\n0\n");
}
