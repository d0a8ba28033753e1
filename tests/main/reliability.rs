//! Random sequences of commands, with faults in between, never cost what worked before.

use crate::support::{guests, in_namespace};

/// 200 sequences, of which each ends with a look at everything that must have survived.
///
/// The seed is in the failure's message; `BINFMTCTL_SEED` repeats a run, as far as timing does.
#[test]
fn whatever_happens_nothing_of_others_is_lost_and_what_ran_runs() {
    let guests = guests(&["arm64", "armhf", "riscv64", "s390x"]);
    let script = include_str!("../system/hostile/sequences");
    let given = format!("SEQUENCES=200 GUESTS={}", guests.display());
    let ran = in_namespace(&format!("{given}\n{script}")).ok();
    let mut lines = ran.stdout.lines();
    assert!(lines.next().is_some_and(|line| line.starts_with("seed ")), "{}", ran.stdout);
    assert_eq!(
        lines.collect::<Vec<_>>(),
        ["200 sequences with faults: 0 entries of others lost, 0 hosts broken"],
        "{}\n{}",
        ran.stdout,
        ran.stderr
    );
}
