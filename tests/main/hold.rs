//! `hold` keeps what it installed.

use crate::support::in_namespace;

const START: &str = r#"
    log=$(mktemp); ready=$(mktemp -u)
    start() { $B hold "$@" --ready-file $ready 2>$log & pid=$!; for i in $(seq 100); do [ -e $ready ] && return; sleep 0.1; done; cat $log; false; }
    until_true() { for i in $(seq 100); do if "$@"; then return; fi; sleep 0.1; done; cat $log; false; }
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
           ls $M; test ! -e $ready; grep -v installing: $log | sed 's/ (.*//'"#
    ))
    .ok();
    assert_eq!(
        ran.stdout,
        "/proc/sys/fs/binfmt_misc/qemu-aarch64:flags: POCF\n\
         /proc/sys/fs/binfmt_misc/qemu-riscv64:flags: POCF\n\
         ended 0\nqemu-aarch64\nqemu-riscv64\nregister\nstatus\n\
         holding arm64, riscv64\nrepaired: arm64 OK\nrepaired: riscv64 OK\nrepaired: arm64 OK\nrepaired: riscv64 OK\n"
    );
}

#[test]
fn it_ends_at_once_removes_on_request_and_idles_for_nothing() {
    let ran = in_namespace(&format!(
        r#"{START}
           start --install arm64 --remove-on-exit
           ticks() {{ set -- $(cut -d')' -f2- /proc/$pid/stat); echo $((${{12}} + ${{13}})); }}
           before=$(ticks); sleep 5; after=$(ticks); test $((after - before)) -le 1
           kill -TERM $pid; start_ns=$(date +%s%N); wait $pid; test $(( $(date +%s%N) - start_ns )) -lt 500000000
           ls $M"#
    ))
    .ok();
    assert_eq!(ran.stdout, "register\nstatus\n");
}

#[test]
fn it_stays_only_if_the_install_worked() {
    let ran = in_namespace("$B hold --install bogus || echo $?").ok();
    assert_eq!(ran.stdout, "1\n");
    assert_eq!(ran.last_line(), "error: cannot install bogus: unsupported architecture: bogus");
}
