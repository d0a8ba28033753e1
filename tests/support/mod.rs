//! What the integration tests share: the program, private kernels' views, foreign programs.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on is to fail")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, Once, RwLock};

/// The program under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_binfmtctl");

/// Root of the source tree.
pub(crate) const SOURCE: &str = env!("CARGO_MANIFEST_DIR");

/// What a command printed and how it ended.
pub(crate) struct Ran {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: i32,
}

impl Ran {
    pub(crate) fn new(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
            code: output.status.code().unwrap_or(-1),
        }
    }

    /// Asserts that all went well, and shows everything if not.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// The last line on stderr: what setup-qemu-action shows.
    pub(crate) fn last_line(&self) -> &str {
        self.stderr.lines().last().unwrap_or_default()
    }
}

/// Runs the program outside of any namespace: for what changes nothing.
pub(crate) fn binfmtctl(args: &[&str]) -> Ran {
    Ran::new(&Command::new(BINARY).args(args).output().unwrap())
}

/// Ends the whole run, once and in words, where no test of the whole program could do its work.
pub(crate) fn ready() {
    static READY: Once = Once::new();
    READY.call_once(|| {
        let why = if !cfg!(target_env = "musl") {
            "these tests need the static program, as people get it"
        } else if !binfmtctl(&["--version"]).stdout.contains("qemu-") {
            "qemu-bins/ has no emulators"
        } else {
            return;
        };
        // Not `eprintln`, which a test's harness keeps to itself.
        let advice =
            "run scripts/test, which gets what is missing; scripts/test --quick needs nothing";
        let _ = writeln!(std::io::stderr(), "error: {why}\nhint: {advice}");
        std::process::exit(1);
    });
}

/// Says that the running test cannot be tried here, which is a failure where everything is to be tried.
pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("BINFMTCTL_REQUIRE_DOCKER").is_none(), "{why}");
    let test = std::thread::current();
    let _ = writeln!(std::io::stderr(), "skipped: {}: {why}", test.name().unwrap_or_default());
}

/// Says something that a test's harness does not keep to itself.
pub(crate) fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

/// Runs a bash script as root of a user namespace with mounts and processes of its own.
///
/// Its /proc is fresh and nothing is mounted on `$M`, so the host's binfmt_misc cannot be reached:
/// what is mounted there belongs to the namespace and goes with it. `$B` is the program, `$T` an
/// empty directory in memory, `mounted` says how many mounts of binfmt_misc were added. Each call is a private kernel as far as binfmt_misc is concerned, and
/// ends without entries: anchored ones would hold their memory until the machine restarts.
#[track_caller]
pub(crate) fn in_namespace(script: &str) -> Ran {
    let _others = with_others();
    run_in_namespace(script)
}

/// Keeps tests that change the host from running at the same time.
pub(crate) fn with_others() -> impl Drop {
    RUNNING.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// As [`in_namespace`], while no other test uses one: for what looks at the whole machine.
#[track_caller]
pub(crate) fn alone_in_namespace(script: &str) -> Ran {
    let _alone = alone();
    run_in_namespace(script)
}

/// Keeps other tests out of their namespaces: for what changes the host, which they would see.
pub(crate) fn alone() -> impl Drop {
    RUNNING.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}

static RUNNING: RwLock<()> = RwLock::new(());

#[track_caller]
fn run_in_namespace(script: &str) -> Ran {
    let output = namespace(script).output().unwrap();
    let ran = Ran::new(&output);
    assert!(
        !ran.stderr.starts_with("unshare:"),
        "these tests need user namespaces: {}",
        ran.stderr
    );
    ran
}

/// The command behind [`in_namespace`].
pub(crate) fn namespace(script: &str) -> Command {
    ready();
    let mut command = Command::new("unshare");
    // The outer namespace keeps this machine's own entries out of sight: one that has once mounted a
    // binfmt_misc sees no other. The script runs in a shell of its own: it may end, and use `trap`, as it likes.
    command
        .args(["-Urm", "sh", "-euc"])
        .arg(
            r#"mount -t binfmt_misc none /sys; umount /sys
               exec unshare -Urm --pid --fork --kill-child --mount-proc bash -uc '
                   mount -t tmpfs none $T
                   count() { grep -c " binfmt_misc " /proc/self/mountinfo; }; found=$(count)
                   mounted() { echo $(($(count) - found)); }; export found; export -f count mounted
                   bash -euc "$SCRIPT"; code=$?
                   mount -t binfmt_misc none /sys && echo -1 >/sys/status; exit $code'"#,
        )
        .env("SCRIPT", script)
        .env("B", BINARY)
        .env("M", "/proc/sys/fs/binfmt_misc")
        .env("T", "/mnt");
    command
}

/// A directory with a foreign root for each Debian architecture: `bin/busybox` and `bin/sh`.
///
/// Programs are Debian's own `busybox-static`, fetched once.
pub(crate) fn guests(arches: &[&str]) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
    fetch(&[&[dir.to_str().unwrap()], arches].concat());
    dir
}

/// A whole root of Debian's with these packages, unpacked but not configured.
pub(crate) fn guest_root(arch: &str, packages: &[&str]) -> PathBuf {
    let dir =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("root-{arch}-{}", packages.join("-")));
    fetch(&[&["--root", dir.to_str().unwrap(), arch], packages].concat());
    dir
}

fn fetch(args: &[&str]) {
    ready();
    static FETCHING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = FETCHING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let fetched =
        Command::new(Path::new(SOURCE).join("scripts/guests")).args(args).output().unwrap();
    Ran::new(&fetched).ok();
}

/// Registers `$1` for arm64 by hand, with interpreter `$2` and flags `$3`.
pub(crate) const REGISTER: &str = r#"
register() { printf ':%s:M:0:\\x7fELF\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\xb7\\x00:\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff:%s:%s' "$1" "$2" "$3" > $M/register; }
"#;
