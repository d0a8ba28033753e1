//! The doctor on the real kernel: what it finds, and that its JSON is as documented.

use std::fs;
use std::path::Path;

use crate::support::{REGISTER, SOURCE, guest_root, guests, in_namespace};

#[test]
fn json_is_as_documented() {
    let valid = |schema: &str, text: &str| {
        let schema = fs::read_to_string(Path::new(SOURCE).join("docs").join(schema)).unwrap();
        let schema = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
        let json = serde_json::from_str(text).unwrap();
        let errors: Vec<_> = schema.iter_errors(&json).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
    };
    let ran = in_namespace(
        "$B --install arm64,arm >/dev/null 2>&1; echo 0 >$M/qemu-arm; $B --status --format json; printf '\\0'
         $B doctor --format json 2>/dev/null || true; printf '\\0'; $B doctor --format json /etc/passwd 2>/dev/null || true
         printf '\\0'; $B doctor --format json --run echo mixed in 2>/dev/null",
    )
    .ok();
    let texts: Vec<_> = ran.stdout.split('\0').collect();
    valid("status.schema.json", texts[0]);
    valid("doctor.schema.json", texts[1]);
    valid("doctor.schema.json", texts[2]);
    valid("doctor.schema.json", texts[3]);
    // And the schema can fail.
    let schema = fs::read_to_string(Path::new(SOURCE).join("docs/doctor.schema.json")).unwrap();
    assert!(!jsonschema::is_valid(
        &serde_json::from_str(&schema).unwrap(),
        &serde_json::json!({ "findings": [{}] })
    ));
}

#[test]
fn required_platforms_are_named_if_they_are_missing() {
    let ran = in_namespace(
        "$B --install arm64,arm >/dev/null 2>&1
         $B --status --require linux/arm64,linux/arm/v7,amd64 >/dev/null && echo all
         $B --status --require linux/arm64/v8,riscv64,s390x >/dev/null || echo $?
         $B --status --require bogus >/dev/null || echo $?",
    )
    .ok();
    assert_eq!(ran.stdout, "all\n1\n2\n");
    assert!(ran.stderr.starts_with(
        "hint: binfmtctl --install linux/riscv64,linux/s390x\nerror: not available: linux/riscv64, linux/s390x\n"
    ));
}

/// Ids of the findings with this level or worse, on the real kernel; `$B doctor` is the last command.
fn real(script: &str, level: &str) -> Vec<String> {
    let levels: &[&str] = if level == "warning" { &["warning", "failure"] } else { &["failure"] };
    let ran = in_namespace(&format!(
        "{REGISTER}\nmount -t binfmt_misc none $M\n{script}\n$B doctor --format json || true"
    ))
    .ok();
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let findings = json["findings"].as_array().unwrap().iter();
    let wrong = findings.filter(|finding| levels.contains(&finding["level"].as_str().unwrap()));
    let ids: Vec<_> = wrong.map(|finding| finding["id"].as_str().unwrap().to_owned()).collect();
    ids.into_iter()
        .filter(|id| !["lasting", "systemd-binfmt", "security-module"].contains(&id.as_str()))
        .collect()
}

#[test]
fn the_real_kernels_troubles_are_found() {
    let install = "$B --install arm64 >/dev/null 2>&1;";
    assert_eq!(real(install, "warning"), [""; 0]);
    assert_eq!(real("", "warning"), ["private-instance"]);
    assert_eq!(real(&format!("{install} echo 0 >$M/qemu-aarch64"), "failure"), ["entry-disabled"]);
    assert_eq!(real(&format!("{install} echo 0 >$M/status"), "failure"), ["enabled"]);
    assert_eq!(real(&format!("{install} mount -o remount,bind,ro $M"), "failure"), ["writable"]);
    assert_eq!(
        real("register qemu-aarch64 /nonesuch ''", "failure"),
        ["flag-f", "interpreter-missing"]
    );
    assert_eq!(
        real("register qemu-aarch64 /bin/ls POCF", "failure"),
        ["interpreter-dynamic", "emulator-runs"]
    );
    // A static program that is no emulator, and one that has gone since.
    assert_eq!(real("register qemu-aarch64 $B POCF", "failure"), ["emulator-runs"]);
    assert_eq!(
        real("cp $B $T/x; register qemu-aarch64 $T/x POCF; rm $T/x", "failure"),
        ["emulator-runs"]
    );
    assert_eq!(
        real("cp $B $T/x; mount -o remount,noexec $T; register qemu-aarch64 $T/x POC", "failure"),
        ["flag-f", "interpreter-noexec"]
    );
    assert_eq!(
        real(&format!("register qemu-aarch64-old $B F; {install}"), "warning"),
        ["entry-shadowed"]
    );
    assert_eq!(real(&format!("{install} register FEX-arm $B F"), "warning"), ["emulator-runs"]);
    assert_eq!(real("register qemu-aarch64 $B POF", "warning"), ["emulator-runs", "flag-c"]);
    // A rootless engine, below this namespace, that mounted binfmt_misc once.
    let rootless = "unshare -Urm --pid --fork --kill-child --mount-proc bash -c \
        'mount -t binfmt_misc none /proc/sys/fs/binfmt_misc; echo >$T/ready; sleep 100' &
        until [ -e $T/ready ]; do sleep 0.01; done; trap \"kill $!\" EXIT";
    assert_eq!(real(&format!("{install} {rootless}"), "warning"), ["cut-off"]);
    // A handler for what the CPU runs: of 386, as one for its own architecture stops every program.
    let i386 = r#"printf ':qemu-i386:M:0:\x7fELF\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x03\x00::%s:POCF' $B >$M/register"#;
    assert!(real(i386, "warning").contains(&"entry-native".to_owned()));
}

#[test]
fn a_program_that_does_not_run_is_told_why() {
    let (guests, root) = (guests(&["arm64"]), guest_root("arm64", &["dash", "coreutils"]));
    let ran = in_namespace(&format!(
        r#"{REGISTER}
           G={}; R={}
           say() {{ echo "== $1"; shift; $B doctor "$@" 2>&1 | sed "s,$G,G,g; s,$R,R,g; s,$T,T,g; s,$B,B,g; s/, QEMU .*/, QEMU …/; s/has [0-9]* bytes of at least [0-9]*/has N bytes of at least M/; s/its [0-9]* shared libraries are/its N shared libraries are/" || true; }}
           say 'no entry' $G/arm64/bin/busybox
           $B --install arm64 >/dev/null 2>&1
           say runs --run $G/arm64/bin/busybox true
           say dynamic /usr/bin/true --root $R
           mkdir -p $T/amd64/lib64; cp $B $T/amd64/lib64/ld-linux-x86-64.so.2; cp $R/usr/bin/true $T/amd64/true
           say 'no loader' --root $T/amd64 /true
           cp $G/arm64/bin/busybox $T/app; printf 'AI\x02' | dd of=$T/app bs=1 seek=8 conv=notrunc status=none
           say appimage $T/app
           head -c 30 $G/arm64/bin/busybox >$T/cut; chmod +x $T/cut; say cut $T/cut
           printf '#!/bin/sh\r\n' >$T/dos; chmod +x $T/dos; say dos $T/dos
           printf '#!/nonesuch\n' >$T/script; chmod +x $T/script; say script $T/script
           say missing $T/nonesuch
           printf '\xef\xbb\xbf#!/bin/sh\n' >$T/bom; chmod +x $T/bom; say 'byte order mark' $T/bom
           printf '#!/usr/bin/env nonesuch\n' >$T/env; chmod +x $T/env; say env $T/env
           printf '#!/usr/bin/env sh -e\n' >$T/env; say 'two words for env' $T/env
           printf '#!/usr/bin/env -S sh -e\n' >$T/env; say 'env taking words apart' $T/env
           printf 'MZ' >$T/x.exe; chmod +x $T/x.exe; say 'for Windows' $T/x.exe
           echo ':wine:E::exe::/usr/bin/wine:' >$M/register; say 'taken by extension' $T/x.exe
           mkfifo -m 755 $T/pipe; say pipe $T/pipe; say directory $T; ln -s nonesuch $T/link; say 'dangling link' $T/link
           head -c 100000 $G/arm64/bin/busybox >$T/half; chmod +x $T/half; say half $T/half
           cp $G/arm64/bin/busybox $T/object; printf '\x01' | dd of=$T/object bs=1 seek=16 conv=notrunc status=none; say object $T/object
           cp $G/arm64/bin/busybox $T/abi; printf '\x02' | dd of=$T/abi bs=1 seek=8 conv=notrunc status=none; say 'ABI version' $T/abi
           cp $G/arm64/bin/busybox $T/vax; printf '\x4b' | dd of=$T/vax bs=1 seek=18 conv=notrunc status=none; say 'no such machine' $T/vax
           say 'in its root' --root $R /usr/bin/true; say 'run in its root' --root $R --run true; say 'ending badly' --root $R --run false
           mkdir -p $T/root/bin $T/root/lib; cp $R/usr/bin/true $T/root/bin/real; ln -s /bin/real $T/root/bin/true
           say 'absolute link in a root' --root $T/root /bin/true
           cp $B $T/root/lib/ld-linux-aarch64.so.1; say 'loader of another architecture' --root $T/root /bin/true
           say 'no such root' --root $T/nonesuch /bin/true
           cp $G/arm64/bin/busybox $T/sudo; chmod 4755 $T/sudo; mount -o remount,nosuid $T; say nosuid $T/sudo; mount -o remount,suid $T
           : >$T/empty; chmod +x $T/empty; say empty $T/empty
           mount -o remount,noexec $T; say noexec $T/script; mount -o remount,exec $T
           echo 0 >$M/qemu-aarch64; say disabled $G/arm64/bin/busybox
           register without-f $B OC; say 'without F, interpreter there' $G/arm64/bin/busybox
           say 'without F, interpreter not there' --root $R /usr/bin/true
           echo 0 >$M/status; say 'all disabled' $G/arm64/bin/busybox"#,
        guests.display(),
        root.display()
    ))
    .ok();
    // Not left to the snapshot: what must be a failure however it is worded.
    for case in
        ["no entry", "no loader", "appimage", "half", "object", "loader of another architecture"]
    {
        let (_, told) = ran.stdout.split_once(&format!("== {case}\n")).unwrap();
        let told = told.split("\n== ").next().unwrap();
        assert!(told.contains("\nfailure ") || told.starts_with("failure "), "{case}:\n{told}");
    }
    let path = Path::new(SOURCE).join("tests/main/programs");
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(&path, &ran.stdout).unwrap();
    }
    assert_eq!(fs::read_to_string(path).unwrap_or_default(), ran.stdout);
}
