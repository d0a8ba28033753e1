//! The way to Debian's archive, against archives that are out of step or signed by somebody else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::support::{Ran, SOURCE};

const SUITES: [&str; 4] = ["trixie", "forky", "sid", "bookworm"];

/// A small archive with keys of its own: each suite has `thing`, and `user` that depends on it, for s390x alone.
struct Archive(TempDir);

impl Archive {
    fn new() -> Self {
        let archive = Self(tempfile::tempdir().unwrap());
        // apt reads as a user of its own.
        ok(Command::new("chmod").arg("755").arg(archive.0.path()));
        for name in ["archive", "somebody"] {
            let home = archive.path(&format!("keys-{name}"));
            fs::create_dir(&home).unwrap();
            ok(Command::new("chmod").arg("700").arg(&home));
            ok(gpg(&home).args(["--quick-gen-key", name, "ed25519", "sign", "never"]));
            ok(gpg(&home).args(["--export", "--output"]).arg(archive.path(&format!("{name}.gpg"))));
        }
        for suite in SUITES {
            archive.publish(suite);
            archive.sign(suite, "archive");
        }
        archive
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.0.path().join(inside)
    }

    fn index(&self, suite: &str) -> PathBuf {
        self.path(&format!("dists/{suite}/main/binary-s390x/Packages"))
    }

    fn package(&self, suite: &str) -> PathBuf {
        self.path(&format!("pool/{suite}.deb"))
    }

    /// Writes the suite's package, the index that names it, and the unsigned Release that names the index.
    fn publish(&self, suite: &str) {
        let control = format!(
            "Package: thing\nVersion: 1~{suite}\nArchitecture: s390x\nMaintainer: x <x@y>\nDescription: of {suite}\n"
        );
        let tree = self.path(&format!("tree-{suite}"));
        fs::create_dir_all(tree.join("DEBIAN")).unwrap();
        fs::write(tree.join("DEBIAN/control"), &control).unwrap();
        fs::create_dir_all(self.path("pool")).unwrap();
        ok(Command::new("dpkg-deb")
            .args(["--build", "--root-owner-group"])
            .arg(&tree)
            .arg(self.package(suite)));
        let (size, sum) = weigh(&self.package(suite));
        // Nobody unpacks it, so any file will do.
        fs::copy(self.package(suite), self.path(&format!("pool/{suite}-user.deb"))).unwrap();
        let stanza = |control: &str, name: &str| {
            format!("{control}Filename: pool/{name}.deb\nSize: {size}\nSHA256: {sum}\n")
        };
        let user = control.replace("Package: thing\n", "Package: user\nDepends: thing\n");
        let index = [stanza(&control, suite), stanza(&user, &format!("{suite}-user"))].join("\n");
        fs::create_dir_all(self.index(suite).parent().unwrap()).unwrap();
        fs::write(self.index(suite), index).unwrap();
        let (size, sum) = weigh(&self.index(suite));
        fs::write(
            self.path(&format!("dists/{suite}/Release")),
            format!(
                "Suite: {suite}\nCodename: {suite}\nArchitectures: s390x\nComponents: main\n\
                 Date: Sat, 01 Nov 2025 00:00:00 UTC\nSHA256:\n {sum} {size} main/binary-s390x/Packages\n"
            ),
        )
        .unwrap();
    }

    fn sign(&self, suite: &str, who: &str) {
        let dir = self.path(&format!("dists/{suite}"));
        ok(gpg(&self.path(&format!("keys-{who}")))
            .args(["--yes", "--clearsign", "--output"])
            .args([dir.join("InRelease"), dir.join("Release")]));
    }

    /// Runs scripts/debian, which knows no other archive and no other key.
    fn debian(&self, args: &[&str]) -> Ran {
        let output = Command::new(Path::new(SOURCE).join("scripts/debian"))
            .args(args)
            .env("DEBIAN_MIRROR", format!("file:{}", self.0.path().display()))
            .env("DEBIAN_KEYRING", self.path("archive.gpg"))
            .env("LC_ALL", "C.UTF-8")
            .output();
        Ran::new(&output.unwrap())
    }

    /// Downloads `thing` and says what came: versions, and how the script ended.
    fn download(&self) -> (String, Ran) {
        let dir = tempfile::tempdir().unwrap();
        let ran = self.debian(&["packages", dir.path().to_str().unwrap(), "s390x", "thing"]);
        let names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        (names.join(" "), ran)
    }

    /// Downloads `thing`, which has to come from forky; returns what is said of trixie.
    fn passes_trixie_over(&self) -> String {
        let (names, ran) = self.download();
        assert_eq!((names.as_str(), ran.code), ("thing_1~forky_s390x.deb", 0), "{}", ran.stderr);
        let why = ran.stderr.strip_prefix("debian: took forky for s390x thing; trixie: ");
        why.unwrap_or_else(|| panic!("{}", ran.stderr)).to_owned()
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        for name in ["archive", "somebody"] {
            let home = self.path(&format!("keys-{name}"));
            let _ =
                Command::new("gpgconf").arg("--homedir").arg(home).args(["--kill", "all"]).status();
        }
    }
}

fn gpg(home: &Path) -> Command {
    let mut command = Command::new("gpg");
    command.arg("--homedir").arg(home).args(["--quiet", "--batch", "--passphrase", ""]);
    command
}

#[track_caller]
fn ok(command: &mut Command) {
    Ran::new(&command.output().unwrap()).ok();
}

fn weigh(file: &Path) -> (usize, String) {
    let bytes = fs::read(file).unwrap();
    let sum = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    (bytes.len(), sum)
}

fn append(file: &Path, text: &str) {
    let mut bytes = fs::read(file).unwrap();
    bytes.extend_from_slice(text.as_bytes());
    fs::write(file, bytes).unwrap();
}

#[test]
fn the_first_suite_is_taken() {
    let archive = Archive::new();
    let (names, ran) = archive.download();
    assert_eq!(names, "thing_1~trixie_s390x.deb", "{}", ran.stderr);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, "debian: took trixie for s390x thing\n"));
    let ran = archive.debian(&["suite", "--from", "sid,trixie", "s390x"]).ok();
    assert_eq!(
        (ran.stdout.as_str(), ran.stderr.as_str()),
        ("sid\n", "debian: took sid for s390x\n")
    );
}

#[test]
fn a_wrong_index_is_passed_over_with_one_line() {
    let archive = Archive::new();
    append(&archive.index("trixie"), "\nPackage: newer\n");
    let why = archive.passes_trixie_over();
    assert!(why.starts_with("main/binary-s390x/Packages: ") && why.lines().count() == 1, "{why}");
    // Of the same size, too.
    let index = fs::read_to_string(archive.index("forky")).unwrap();
    fs::write(archive.index("forky"), index.replace("forky", "other")).unwrap();
    let ran = archive.debian(&["suite", "s390x"]).ok();
    assert_eq!(ran.stdout, "sid\n", "{}", ran.stderr);
}

#[test]
fn a_wrong_package_is_passed_over() {
    let archive = Archive::new();
    append(&archive.package("trixie"), "changed");
    archive.passes_trixie_over();
}

/// An index may verify and name what has not come yet, or is gone.
#[test]
fn a_suite_that_lacks_what_a_package_needs_is_passed_over() {
    let archive = Archive::new();
    fs::remove_file(archive.package("trixie")).unwrap();
    let ran = archive.debian(&["suite", "s390x", "user"]).ok();
    assert_eq!(ran.stdout, "forky\n", "{}", ran.stderr);
    let why = ran.stderr.strip_prefix("debian: took forky for s390x user; trixie: trixie.deb: ");
    assert!(why.is_some_and(|why| why.lines().count() == 1), "{}", ran.stderr);
    // What the index names is no question where nothing of it is wanted, and patterns are understood.
    let ran = archive.debian(&["suite", "s390x"]).ok();
    assert_eq!(ran.stdout, "trixie\n", "{}", ran.stderr);
    let ran = archive.debian(&["suite", "s390x", "?name(^user$)"]).ok();
    assert_eq!(ran.stdout, "forky\n", "{}", ran.stderr);
    let ran = archive.debian(&["suite", "s390x", "nonesuch"]);
    assert_eq!((ran.stdout.as_str(), ran.code), ("", 3), "{}", ran.stderr);
}

#[test]
fn what_somebody_else_signed_is_never_taken() {
    let archive = Archive::new();
    archive.sign("trixie", "somebody");
    archive.passes_trixie_over();

    // Not signed at all, changed after it was signed, and what the key of somebody else vouches for.
    fs::remove_file(archive.path("dists/forky/InRelease")).unwrap();
    let signed = archive.path("dists/sid/InRelease");
    let text = fs::read_to_string(&signed).unwrap();
    fs::write(&signed, text.replace("Suite: sid", "Suite: sad")).unwrap();
    archive.sign("bookworm", "somebody");
    let (names, ran) = archive.download();
    assert_eq!((names.as_str(), ran.code), ("", 1), "{}", ran.stderr);
    assert!(
        ran.stderr.starts_with(
            "error: no suite of Debian's archive serves this now: s390x thing\n  trixie: "
        ),
        "{}",
        ran.stderr
    );
    assert!(ran.last_line().starts_with("hint: "), "{}", ran.stderr);
    for suite in SUITES {
        let ran = archive.debian(&["suite", "--from", suite, "s390x"]);
        assert_eq!((ran.stdout.as_str(), ran.code), ("", 1), "{suite}: {}", ran.stderr);
    }
}

#[test]
fn what_no_suite_has_is_told_from_what_cannot_be_read() {
    let archive = Archive::new();
    let ran = archive.debian(&["suite", "arm64"]);
    assert_eq!(
        (ran.stderr.as_str(), ran.code),
        (
            "error: no suite of Debian's archive serves this now: arm64\n  trixie: no arm64\n  forky: no arm64\n  \
          sid: no arm64\n  bookworm: no arm64\n",
            3
        )
    );
    let ran = archive.debian(&["packages", "--from", "trixie,sid", "/", "s390x", "thing=2"]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    append(&archive.index("sid"), "\n");
    let ran = archive.debian(&["packages", "--from", "trixie,sid", "/", "s390x", "thing=2"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
}
