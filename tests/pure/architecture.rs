//! The house stays as docs/architecture.md describes it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => files.extend(sources(&entry.path())),
            false => files.push(entry.path()),
        }
    }
    files
}

/// Code without comments and tests.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Which rooms each room imports. Commands are one room: they may call each other.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let mut imports: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for path in sources(&src()) {
        let inside = path.strip_prefix(src()).unwrap().with_extension("");
        let room = inside.iter().next().unwrap().to_string_lossy().into_owned();
        if ["main", "lib"].contains(&room.as_str()) {
            continue;
        }
        let code = code(&path);
        let used = code.split("crate::").skip(1).map(|rest| {
            rest.split(|c: char| !c.is_ascii_lowercase() && c != '_').next().unwrap_or_default()
        });
        let used = used.filter(|name| *name != room).map(str::to_owned);
        imports.entry(room.clone()).or_default().extend(used);
    }
    let rooms: BTreeSet<_> = imports.keys().cloned().collect();
    for used in imports.values_mut() {
        used.retain(|name| rooms.contains(name));
    }
    imports
}

#[test]
fn no_room_imports_itself_by_way_of_others() {
    let mut left = imports();
    assert!(left.len() > 20, "{:?}", left.keys());
    // What imports nothing that is left goes, until nothing is left, or only a circle.
    loop {
        let done: Vec<_> =
            left.iter().filter(|(_, used)| used.is_empty()).map(|(room, _)| room.clone()).collect();
        if done.is_empty() {
            break;
        }
        left.retain(|room, _| !done.contains(room));
        for used in left.values_mut() {
            used.retain(|name| !done.contains(name));
        }
    }
    assert!(left.is_empty(), "these import each other: {left:#?}");
}

#[test]
fn rooms_are_declared_in_the_order_in_which_they_import_each_other() {
    let lib = fs::read_to_string(src().join("lib.rs")).unwrap();
    let order: Vec<_> =
        lib.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')).collect();
    let place = |room: &str| order.iter().position(|other| *other == room);
    let declared =
        imports().into_iter().filter_map(|(room, used)| Some((place(&room)?, room, used)));
    for (at, room, used) in declared {
        let later: Vec<_> = used.iter().filter(|other| place(other) > Some(at)).collect();
        assert!(later.iter().all(|other| *other == "error"), "{room} imports {later:?}");
    }
}

#[test]
fn start_parses_and_dispatches_and_no_more() {
    let lines = |name: &str| fs::read_to_string(src().join(name)).unwrap().lines().count();
    assert!(lines("start.rs") < 100, "{} lines", lines("start.rs"));
    assert!(lines("lib.rs") + lines("main.rs") < 100);
}

/// What is public is not missed by the compiler when nobody uses it.
#[test]
fn modules_are_private() {
    let lib = fs::read_to_string(src().join("lib.rs")).unwrap();
    let public: Vec<_> = lib.lines().filter(|line| line.starts_with("pub ")).collect();
    assert_eq!(public, ["pub mod fuzzing;", "pub mod testing;", "pub use start::main;"]);
}

/// Each module's first line says what it does.
#[test]
fn every_module_says_what_it_is() {
    for path in sources(&src()) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//! "), "{}", path.display());
    }
}
