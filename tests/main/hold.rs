//! `hold` keeps what it installed.

use crate::support::in_namespace;

const START: &str = r#"
    log=$(mktemp); ready=$(mktemp -u)
    start() { $B hold "$@" --ready-file $ready 2>$log & pid=$!; for i in $(seq 100); do [ -e $ready ] && return; sleep 0.1; done; cat $log; false; }
    until_true() { for i in $(seq 100); do if "$@"; then return; fi; sleep 0.1; done; cat $log; false; }
    # The log without times, versions, and what the install said.
    told() { sed 's/^[^ ]* //; s/ (.*//; /^installing:/d' $log; }
    trap 'rm -f $log $ready' EXIT
"#;

#[test]
fn what_vanishes_or_loses_its_flag_is_put_back() {
    let ran = in_namespace(&format!(
        r#"{START}
           start --install arm64,riscv64
           echo -1 >$M/qemu-aarch64
           until_true test -e $M/qemu-aarch64
           echo 0 >$M/qemu-riscv64
           until_true grep -q enabled $M/qemu-riscv64
           echo -1 >$M/status
           until_true test -e $M/qemu-riscv64; until_true test -e $M/qemu-aarch64
           grep flags $M/qemu-*; kill -TERM $pid; wait $pid; echo ended $?
           ls $M; test ! -e $ready
           grep -vE '^20[0-9]{{2}}-[0-9-]{{5}}T[0-9:]{{8}}Z ' $log && echo no time; told"#
    ))
    .ok();
    assert_eq!(
        ran.stdout,
        "/proc/sys/fs/binfmt_misc/qemu-aarch64:flags: POCF\n\
         /proc/sys/fs/binfmt_misc/qemu-riscv64:flags: POCF\n\
         ended 0\nqemu-aarch64\nqemu-riscv64\nregister\nstatus\n\
         holding arm64, riscv64\n\
         lost: arm64: its entry qemu-aarch64 was removed\nrepaired: arm64 OK\n\
         lost: riscv64: its entry qemu-riscv64 was disabled\nrepaired: riscv64 OK\n\
         lost: arm64: its entry qemu-aarch64 was removed\nlost: riscv64: its entry qemu-riscv64 was removed\n\
         repaired: arm64 OK\nrepaired: riscv64 OK\nending: a signal came\n"
    );
}

/// What it cannot see it takes for lost, and mounts where it looks.
#[test]
fn an_unmount_does_not_blind_it() {
    let ran = in_namespace(&format!(
        r#"{START}
           start --install arm64
           umount $M
           until_true test -e $M/qemu-aarch64
           echo -1 >$M/qemu-aarch64
           until_true test -e $M/qemu-aarch64
           kill -TERM $pid; wait $pid; echo ended $?
           told; grep -c ' binfmt_misc ' /proc/self/mounts"#
    ))
    .ok();
    let lost = "its entry cannot be seen: cannot read /proc/sys/fs/binfmt_misc/status: No such file or directory";
    assert_eq!(
        ran.stdout,
        format!(
            "ended 0\nholding arm64\nlost: arm64: {lost}\nrepaired: arm64 OK\n\
             lost: arm64: its entry qemu-aarch64 was removed\nrepaired: arm64 OK\nending: a signal came\n1\n"
        )
    );
}

/// It waits for two seconds at a time, so an end within one, told as soon as it has begun to wait, is an end at once. The
/// best of five counts, and waking up seldom is what is asked for: other programs of the machine may take all its time.
#[test]
fn it_ends_at_once_removes_on_request_and_idles_for_nothing() {
    let ran = in_namespace(&format!(
        r#"{START}
           start --install arm64 --remove-on-exit
           woken() {{ awk '/ctxt_switches/ {{ all += $2 }} END {{ print all }}' /proc/$pid/status; }}
           ticks() {{ set -- $(cut -d')' -f2- /proc/$pid/stat); echo $((${{12}} + ${{13}})); }}
           before=$(woken) cpu=$(ticks); sleep 5; echo $(($(woken) - before < 100)) $(($(ticks) - cpu < 50))
           kill -TERM $pid; wait $pid; ls $M
           best=10000
           for i in 1 2 3 4 5; do
               start --install arm64 --remove-on-exit
               sent=$(date +%s%3N); kill -TERM $pid; wait $pid; took=$(($(date +%s%3N) - sent))
               [ $took -ge $best ] || best=$took
           done
           echo $((best < 1000))"#
    ))
    .ok();
    assert_eq!(ran.stdout, "1 1\nregister\nstatus\n1\n");
}

#[test]
fn it_stays_only_if_the_install_worked() {
    let ran = in_namespace("$B hold --install bogus || echo $?").ok();
    assert_eq!(ran.stdout, "1\n");
    assert_eq!(ran.last_line(), "error: cannot install bogus: unsupported architecture: bogus");
}

/// systemd hears that it is ready, what it does and that it lives; its journal has the time already.
#[test]
fn systemd_and_prometheus_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("notify");
    let listener = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    listener.set_nonblocking(true).unwrap();
    let ran = in_namespace(&format!(
        r#"{START}
           export NOTIFY_SOCKET={} WATCHDOG_USEC=1000000 JOURNAL_STREAM=1:1
           start --install arm64 --metrics-file $T/metrics
           grep -v '^#' $T/metrics | sed 's/seconds [0-9]*/seconds N/'
           echo -1 >$M/qemu-aarch64
           until_true grep -q 'repairs_total{{arch="arm64"}} 1' $T/metrics
           until_true test -e $M/qemu-aarch64; sleep 1
           kill -TERM $pid; wait $pid; test ! -e $T/metrics; grep -v installing $log | sed 's/ (.*//'"#,
        socket.display()
    ))
    .ok();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        ran.stdout,
        format!(
            "binfmtctl_entry_intact{{arch=\"arm64\",entry=\"qemu-aarch64\"}} 1\n\
             binfmtctl_repairs_total{{arch=\"arm64\"}} 0\nbinfmtctl_last_check_timestamp_seconds N\n\
             binfmtctl_build_info{{version=\"{version}\"}} 1\n\
             holding arm64\nlost: arm64: its entry qemu-aarch64 was removed\nrepaired: arm64 OK\nending: a signal came\n"
        )
    );
    let mut heard = Vec::new();
    let mut buffer = [0; 200];
    while let Ok(len) = listener.recv(&mut buffer) {
        let word = String::from_utf8_lossy(&buffer[..len]).into_owned();
        if heard.last() != Some(&word) {
            heard.push(word);
        }
    }
    let words: Vec<_> = heard.iter().map(String::as_str).filter(|it| *it != "WATCHDOG=1").collect();
    assert_eq!(
        words,
        [
            "STATUS=holding arm64",
            "READY=1",
            "STATUS=holding arm64; put back 1 entry so far",
            "STOPPING=1"
        ]
    );
    assert!(heard.iter().any(|word| word == "WATCHDOG=1"), "{heard:?}");
}
