//! What flags promise to emulated programs: the name they were called by, and their owner's rights.

use crate::run_needs_root::{may_change_user, with_subordinate_ids};
use crate::support::{guests, in_namespace};

/// QEMU learns of flag P from the kernel (`AT_FLAGS`). Were the two of different minds, it would take the
/// name for the path, or an argument for the name.
#[test]
fn programs_see_the_name_they_were_called_by() {
    let dir = guests(&["arm64", "s390x"]);
    let ran = in_namespace(&format!(
        r#"called() {{ for arch in arm64 s390x; do
             (exec -a busybox-as-called {dir}/$arch/bin/busybox cat /proc/self/cmdline) | tr '\0' ' '; echo
           done; }}
           $B --install arm64,s390x >/dev/null 2>&1; called
           $B --install arm64,s390x --flags OCF --replace >/dev/null 2>&1; called
           $B --uninstall all >/dev/null 2>&1"#,
        dir = dir.display()
    ))
    .ok();
    let lines = |name: &str| format!("{name} cat /proc/self/cmdline \n");
    let path = |arch: &str| lines(&format!("{}/{arch}/bin/busybox", dir.display()));
    assert_eq!(
        ran.stdout,
        [lines("busybox-as-called").repeat(2), path("arm64"), path("s390x")].concat()
    );
}

/// busybox's su itself looks whether it is root. It lies in memory of the namespace's own, as this
/// machine's temporary directories may be nosuid.
#[test]
fn needs_root_setuid_programs_have_their_owners_rights_with_flag_c_alone() {
    if !may_change_user() {
        return;
    }
    let busybox = guests(&["arm64"]).join("arm64/bin/busybox");
    let ran = with_subordinate_ids(
        "arm64",
        &format!("cp {} .", busybox.display()),
        r#"$B run --map-root --platform arm64 -- bash -euc '
             mkdir memory; mount -t tmpfs none memory
             cp ../busybox memory/; chmod 4755 memory/busybox
             su() { setpriv --reuid 1000 --regid 1000 --clear-groups memory/busybox su nonesuch 2>&1 || true; }
             su; $B --install arm64 --no-credentials --replace >/dev/null 2>&1
             su; $B --uninstall all >/dev/null 2>&1'"#,
    );
    assert_eq!(
        ran.stdout, "su: unknown user nonesuch\nsu: must be suid to work properly\n",
        "{}",
        ran.stderr
    );
}
