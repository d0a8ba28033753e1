//! Whatever is typed: one clear line, a hint where there is one, a non-zero exit, nothing changed.

use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use crate::support::{BINARY, Ran, in_namespace};

/// Runs the program in a namespace, expects failure, and that no entry was made.
#[track_caller]
fn refused(arguments: &str, code: i32, last_line: &str) {
    let ran = in_namespace(&format!(
        "code=0; $B {arguments} >/dev/null || code=$?; echo $code; mount -t binfmt_misc none $M 2>/dev/null || true; ls $M"
    ))
    .ok();
    assert_eq!(ran.stdout, format!("{code}\nregister\nstatus\n"), "{arguments}: {}", ran.stderr);
    assert_eq!(ran.last_line(), last_line, "{arguments}");
}

#[test]
fn names_that_mean_nothing() {
    for name in
        ["bogus", "linux/", "windows/amd64", "linux/arm64/v7", "qemu-", "../status", "arm64;ls"]
    {
        let line = format!("error: cannot install {name}: unsupported architecture: {name}");
        refused(&format!("--install '{name}'"), 1, &line);
    }
    let long = "x".repeat(10_000);
    let shown = format!("{}…", "x".repeat(60));
    refused(
        &format!("--install {long}"),
        1,
        &format!("error: cannot install {shown}: unsupported architecture: {shown}"),
    );
}

#[test]
fn lists_with_nothing_in_them() {
    for list in ["", ",", ",arm64", "arm64,,riscv64"] {
        refused(
            &format!("--install '{list}'"),
            2,
            &format!("error: empty name in the list '{list}'"),
        );
        refused(
            &format!("--uninstall '{list}'"),
            2,
            &format!("error: empty name in the list '{list}'"),
        );
    }
}

#[test]
fn flags_that_cannot_work() {
    refused("--install arm64 --flags POC", 2, "error: bad flags: F is missing");
    refused("--install arm64 --flags FX", 2, "error: bad flags: 'X' is not one");
}

#[test]
fn mount_points_that_are_none() {
    refused(
        "--install arm64 --mount /etc/passwd",
        1,
        "error: cannot mount binfmt_misc on /etc/passwd: Not a directory",
    );
    refused(
        "--install arm64 --mount /nonesuch",
        1,
        "error: cannot mount binfmt_misc on /nonesuch: No such file or directory",
    );
    let missing = "error: cannot mount binfmt_misc on /nonesuch: No such file or directory";
    refused("--install arm64 --mount /nonesuch --dry-run", 1, missing);
    refused("--status --mount /nonesuch", 1, missing);
}

/// By a relative path or a link it is the same mount.
#[test]
fn a_mount_point_may_be_called_in_any_way() {
    let ran = in_namespace(
        r#"mkdir $T/m; cd $T; ln -s m link; $B --mount m --install arm64 >/dev/null; ls m
           for m in m link ./link/../m; do $B --mount $m --uninstall arm64 2>&1 >/dev/null; $B --mount $m --install arm64 | grep -c '"qemu-aarch64'; done"#,
    )
    .ok();
    let each = "uninstalling: aarch64 OK\n1\n";
    assert_eq!(ran.stdout, format!("qemu-aarch64\nregister\nstatus\n{}", each.repeat(3)));
}

/// What is typed, the exit code, and the line before the error.
const HINTS: &[(&str, i32, &str)] = &[
    // What works already is no reason to say OK.
    ("--install amd64 --mount /etc/passwd", 1, "hint: --mount takes a directory"),
    ("--status --mount /etc/passwd", 1, "hint: --mount takes a directory"),
    (
        "--install arm64 --qemu-binary-path /nonesuch",
        1,
        "hint: check the path that --qemu-binary-path or QEMU_BINARY_PATH names: nothing is there",
    ),
    ("persist --root /mnt/nonesuch", 1, "hint: it does not exist: check the path"),
    ("--status --require arm65", 2, "hint: did you mean linux/arm64?"),
    ("run --platform arm65 true", 2, "hint: did you mean linux/arm64?"),
    (
        "--status --require all",
        2,
        "hint: name those that you need: --require linux/arm64,linux/riscv64",
    ),
    ("hold arm64", 2, "hint: `binfmtctl hold --install arm64`"),
    ("persist arm64", 2, "hint: `binfmtctl persist --install arm64`"),
    ("status arm64", 2, "hint: `binfmtctl status --require arm64` fails unless that works"),
    ("licenses", 2, "hint: --licenses"),
    ("--instal all", 2, "hint: a similar argument exists: '--install'"),
    ("install", 2, "hint: for more information, try '--help'"),
    ("—install all", 2, "hint: type two hyphens: --install"),
    ("--doctor", 2, "hint: it is a command: `binfmtctl doctor`"),
    ("--explain lasting", 2, "hint: it is an option of `doctor`: `binfmtctl COMMAND --explain`"),
    (
        "--lib-dir=/opt --install all",
        2,
        "hint: it is an option of `persist`: `binfmtctl COMMAND --lib-dir`",
    ),
    (
        "doctor --image alpine:3",
        2,
        "hint: it takes a file, as `docker save -o FILE IMAGE` writes it, or an OCI layout",
    ),
    ("hold --install arm64 --ready-file /etc", 1, "hint: that is a directory: name a file in it"),
    (
        "hold --install arm64 --metrics-file /nonesuch/x.prom",
        1,
        "hint: that directory does not exist: make it, or name another",
    ),
    (
        "hold --install arm64 --metrics-file /etc/passwd/x",
        1,
        "hint: a part of that path is a file, not a directory: check the path",
    ),
    (
        "--install arm64 --qemu-binary-path /etc",
        1,
        "hint: its files must be called qemu-aarch64 and so on; without --qemu-binary-path and QEMU_BINARY_PATH, those in this binary are used",
    ),
    ("run --platform amd64 --root /nonesuch true", 1, "hint: it does not exist: check the path"),
    ("run --platform amd64 --workdir /nonesuch true", 1, "hint: it does not exist: check the path"),
    (
        "run --platform amd64 --bind /nonesuch:/mnt true",
        1,
        "hint: both sides of --bind SRC:DST must be there: make what is missing",
    ),
    (
        "run --platform amd64 --bind /etc:/nonesuch true",
        1,
        "hint: both sides of --bind SRC:DST must be there: make what is missing",
    ),
    (
        "run --platform amd64 --bind /etc/passwd:/mnt true",
        1,
        "hint: --bind takes two files, or two directories",
    ),
];

/// The line before the error sends nobody the wrong way.
#[test]
fn hints_are_about_what_was_typed() {
    for (arguments, code, hint) in HINTS {
        let ran = in_namespace(&format!("$B {arguments} >/dev/null || echo $?")).ok();
        assert_eq!(ran.stdout, format!("{code}\n"), "{arguments}: {}", ran.stderr);
        let lines: Vec<_> = ran.stderr.lines().rev().take(2).collect();
        assert_eq!(lines[1], *hint, "{arguments}");
        assert!(lines[0].starts_with("error: "), "{arguments}: {lines:?}");
    }
    let ran = in_namespace("$B --help >/dev/full || echo $?").ok();
    assert_eq!(ran.stdout, "1\n", "{}", ran.stderr);
    let ran = in_namespace("$B --install arm64 >/dev/full || echo $?").ok();
    assert!(ran.stderr.contains("hint: there is no room left there"), "{}", ran.stderr);
}

/// What has no hint says by itself what is wrong, in one line.
#[test]
fn values_that_make_no_sense() {
    for (arguments, line) in [
        ("doctor --timeout -1 --run /bin/true", "--timeout takes a number of seconds, not '-1'"),
        ("doctor --timeout 1s --run /bin/true", "--timeout takes a number of seconds, not '1s'"),
        ("doctor ''", "the name of the program is empty"),
        ("run ''", "the name of the program is empty"),
        ("run --bind :/mnt true", "--bind takes SRC or SRC:DST, and SRC is empty"),
    ] {
        let ran = in_namespace(&format!("$B {arguments} >/dev/null || echo $?")).ok();
        assert_eq!((ran.stdout.as_str(), ran.stderr), ("2\n", format!("error: {line}\n")));
    }
}

#[test]
fn directories_of_emulators_that_hold_none() {
    refused(
        "--install arm64 --qemu-binary-path /nonesuch",
        1,
        "error: cannot read /nonesuch: No such file or directory",
    );
    refused("--install all --qemu-binary-path /etc", 1, "error: there are no emulators in /etc");
    let dangling = "cannot read /mnt/e/qemu-aarch64: No such file or directory";
    let ran = in_namespace(
        "mkdir $T/e; ln -s /nonesuch $T/e/qemu-aarch64; $B --install arm64 --qemu-binary-path $T/e >/dev/null || echo $?",
    )
    .ok();
    assert_eq!(ran.last_line(), format!("error: cannot install arm64: {dangling}"));
    let ran = in_namespace(
        "mkdir $T/e; cp /bin/ls $T/e/qemu-aarch64; QEMU_BINARY_PATH=$T/e $B --install arm64 >/dev/null || echo $?",
    )
    .ok();
    assert_eq!(ran.stdout, "1\n");
    assert_eq!(
        ran.last_line(),
        "error: cannot install arm64: /mnt/e/qemu-aarch64 cannot be registered: it is dynamically linked and would not find its libraries in containers"
    );
}

#[test]
fn another_mount_point_works() {
    let ran = in_namespace("mkdir $T/m; $B --mount $T/m --install arm64 >/dev/null; ls $T/m").ok();
    assert_eq!(ran.stdout, "qemu-aarch64\nregister\nstatus\n");
}

#[test]
fn arguments_that_are_not_text() {
    let ran = Command::new(BINARY)
        .arg("--install")
        .arg(std::ffi::OsStr::from_bytes(b"\xff\xfe"))
        .output()
        .unwrap();
    let ran = Ran::new(&ran);
    assert_eq!(ran.code, 2);
    assert!(ran.last_line().starts_with("error: invalid UTF-8"), "{}", ran.stderr);
}

/// Output that nobody takes is an error, not a panic; what was installed stays.
#[test]
fn closed_standard_output() {
    let ran = in_namespace("$B --install arm64 >/dev/full || echo $? >&2; ls $M").ok();
    assert_eq!(ran.stdout, "qemu-aarch64\nregister\nstatus\n");
    assert!(
        ran.stderr.ends_with("error: cannot write standard output: No space left on device\n1\n"),
        "{}",
        ran.stderr
    );
    let mut child = Command::new(BINARY)
        .arg("--status")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    // Who closes a pipe has seen enough: `head` is no error.
    let ended = Ran::new(&child.wait_with_output().unwrap());
    assert_eq!((ended.stderr.as_str(), ended.code), ("", 141));
}

#[test]
fn without_privileges_nothing_changes_and_the_reason_is_said() {
    let ran = in_namespace(
        "drop='setpriv --bounding-set -all --inh-caps -all'
         $drop $B --install arm64 >/dev/null || echo $?; mounted
         $drop $B --status >/dev/null; $drop $B | sed -n 1,2p",
    )
    .ok();
    assert_eq!(ran.stdout, "1\n0\n{\n  \"supported\": [\n");
    assert_eq!(
        ran.last_line(),
        "error: binfmt_misc is not mounted here, and mounting it needs CAP_SYS_ADMIN"
    );
}

/// The emulators do not fit: what does fit stays, what does not is named, the tree is given back.
#[test]
fn too_little_memory() {
    let ran = in_namespace(
        r#"ulimit -f 100 # KiB a file; tmpfs honours it as it would its own size
           trap '' XFSZ
           $B --install arm64 >/dev/null || echo $?; ls $M; grep -c ' - tmpfs binfmtctl ' /proc/self/mountinfo || true"#,
    )
    .ok();
    assert_eq!(ran.stdout, "1\nregister\nstatus\n0\n");
    assert_eq!(
        ran.last_line(),
        "error: cannot install arm64: cannot write /usr/bin/qemu-aarch64: File too large"
    );
}

#[test]
fn a_damaged_directory_of_entries_is_no_reason_to_stop() {
    let ran = in_namespace(
        r#"mount -t binfmt_misc none $M; printf ':nul\x01\xff:M::abc::/bin/true:' >$M/register
           $B --install arm64 >/dev/null 2>&1; $B | grep -c qemu-aarch64"#,
    )
    .ok();
    assert_eq!(ran.stdout, "1\n");
}
