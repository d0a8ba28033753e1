//! What reads text and bytes that others wrote, each as one function to be fed anything: for `fuzz/` and for
//! `tests/pure/fuzz.rs`. None of them may panic, hang, or break what it promises. Pure.

use std::path::Path;

use crate::command::{persist, run};
use crate::elf;
use crate::entry::{Entry, Registration};
use crate::host;
use crate::mountinfo::Mounts;
use crate::root::MOUNT_POINT;
use crate::shown::plain;
use crate::surroundings;

/// A reader: its name, which is that of its seeds' directory, and the function.
pub type Reader = (&'static str, fn(&[u8]));

/// All of them.
pub const READERS: &[Reader] = &[
    ("entry", entry),
    ("registration", registration),
    ("mountinfo", mountinfo),
    ("program", program),
    ("uid_map", |bytes| with_text(bytes, uid_map)),
    ("subuid", |bytes| with_text(bytes, subuid)),
    ("manifest", |bytes| with_text(bytes, manifest)),
    ("binfmt_d", |bytes| with_text(bytes, binfmt_d)),
    ("dpkg_status", |bytes| with_text(bytes, dpkg_status)),
    ("shown", |bytes| with_text(bytes, shown)),
];

/// The reader of that name.
pub fn reader(name: &str) -> Option<fn(&[u8])> {
    READERS.iter().find(|(other, _)| *other == name).map(|(_, reader)| *reader)
}

/// These are read with `read_to_string`, which refuses what is no text.
fn with_text(bytes: &[u8], reader: fn(&str)) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        reader(text);
    }
}

fn entry(bytes: &[u8]) {
    let Ok(entry) = Entry::parse("name", bytes) else { return };
    entry.arches().for_each(drop);
    // An interpreter with line ends is shown, but not to be read again.
    let text = entry.to_string();
    if !entry.interpreter.as_os_str().as_encoded_bytes().contains(&b'\n') {
        let _ = Entry::parse("name", &text);
    }
}

fn registration(bytes: &[u8]) {
    with_text(bytes, |text| {
        if let Some((name, _)) = Registration::name_and_interpreter(text) {
            assert!(text.contains(name));
        }
    });
}

fn mountinfo(bytes: &[u8]) {
    let mounts = Mounts::on_the_way_to(Path::new(MOUNT_POINT), bytes);
    if let Some(mounted) = mounts.visible() {
        assert_eq!(mounted.at, Path::new(MOUNT_POINT));
    }
    assert!(mounts.at_path().count() <= bytes.split(|byte| *byte == b'\n').count());
}

fn program(bytes: &[u8]) {
    if let elf::File::Elf(elf) = elf::File::parse(bytes) {
        elf.arch();
    }
}

fn uid_map(text: &str) {
    assert!(!host::maps_all(text) || host::maps_outer_root(text) || text.lines().count() > 1);
}

fn subuid(text: &str) {
    let _ = run::subordinate_to(&["root", "1000"], text);
}

fn manifest(text: &str) {
    assert!(persist::readers_are_inverses(text), "{text:?}");
}

fn binfmt_d(text: &str) {
    assert!(surroundings::registered_by(text).len() <= text.lines().count());
}

fn dpkg_status(text: &str) {
    surroundings::installed_binfmt_support(text);
}

fn shown(text: &str) {
    assert!(!plain(text).contains(|c: char| c.is_control()), "{text:?}");
}
