//! The emulators of the field: how each one's entries are called, and how it tells its version.

use std::path::Path;

/// One family of emulators.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// What people call it.
    pub name: &'static str,
    /// How names of its entries and of its files begin, in lower case.
    prefix: &'static str,
    /// A variable that makes it print its version and end.
    pub version_variable: Option<&'static str>,
}

/// QEMU's user emulators: the family that this program carries.
pub(crate) const QEMU: Family =
    Family { name: "QEMU", prefix: "qemu-", version_variable: Some("QEMU_VERSION") };

/// All that are told by name. The others are Rosetta for Linux, FEX and box64.
pub(crate) const FAMILIES: &[Family] = &[
    QEMU,
    Family { name: "Rosetta", prefix: "rosetta", version_variable: None },
    Family { name: "FEX", prefix: "fex", version_variable: None },
    Family { name: "box64", prefix: "box64", version_variable: None },
    Family { name: "box32", prefix: "box32", version_variable: None },
    Family { name: "box86", prefix: "box86", version_variable: None },
];

impl Family {
    /// The family of an emulator's file.
    pub fn of_file(path: &Path) -> Option<&'static Self> {
        let file = path.file_name()?.to_string_lossy().to_ascii_lowercase();
        // A prefix of somebody's own may stand before QEMU's.
        let has = |family: &&Family| {
            file.starts_with(family.prefix) || (**family == QEMU && file.contains(family.prefix))
        };
        FAMILIES.iter().find(has)
    }

    /// The family of an entry, by its name.
    pub fn of_name(name: &str) -> Option<&'static Self> {
        let name = name.to_ascii_lowercase();
        FAMILIES.iter().find(|family| name.starts_with(family.prefix))
    }

    /// A name without this family's prefix: `aarch64` of `qemu-aarch64`.
    pub fn strip<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_prefix(self.prefix)
    }

    /// The version in what the emulator printed for [`Family::version_variable`].
    pub fn version(&self, text: &str) -> Option<String> {
        let (name, version) = text.lines().next()?.split_once(" version ")?;
        name.starts_with(self.prefix).then(|| version.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_told_by_files_and_names() {
        let name = |path: &str| Family::of_file(Path::new(path)).map(|family| family.name);
        assert_eq!(name("/usr/bin/qemu-aarch64-static"), Some("QEMU"));
        assert_eq!(name("/opt/x-qemu-arm"), Some("QEMU"));
        assert_eq!(name("/usr/bin/FEXInterpreter"), Some("FEX"));
        assert_eq!(name("/run/rosetta/rosetta"), Some("Rosetta"));
        assert_eq!(name("/usr/bin/python3"), None);
        assert_eq!(Family::of_name("FEX-x86_64").map(|family| family.name), Some("FEX"));
        assert_eq!(QEMU.strip("qemu-arm"), Some("arm"));
    }

    #[test]
    fn a_version_is_read_from_its_line() {
        let text = "qemu-aarch64 version 11.1.3 (Debian 1:11.1.3+ds-1)\nCopyright\n";
        assert_eq!(QEMU.version(text).as_deref(), Some("11.1.3 (Debian 1:11.1.3+ds-1)"));
        assert_eq!(QEMU.version("hello version 1"), None);
    }
}
