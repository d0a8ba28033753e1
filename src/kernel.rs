//! Which version of Linux brought what this program stands on.

use procfs::KernelVersion;

/// Something that not every kernel has.
#[derive(Debug)]
pub(crate) struct Feature {
    /// The first version with it.
    since: (u8, u8),
    /// Stable lines that got it later, each with the first release that has it.
    also: &'static [(u8, u8, u16)],
}

/// Flag F: the interpreter is opened at registration.
pub(crate) const FLAG_F: Feature = Feature { since: (4, 8), also: &[] };
/// Flag P is told to the interpreter, by AT_FLAGS.
pub(crate) const FLAG_P_IS_TOLD: Feature = Feature { since: (5, 12), also: &[(5, 10, 225)] };
/// A user namespace may have an instance of its own.
pub(crate) const OWN_INSTANCE: Feature = Feature { since: (6, 7), also: &[] };
/// All entries go with the last mount of their instance.
pub(crate) const ENTRIES_GO_WITH_MOUNT: Feature =
    Feature { since: (6, 7), also: &[(5, 4, 283), (5, 10, 225), (6, 1, 107)] };

impl Feature {
    /// Whether this kernel has it.
    pub(crate) fn is_in(&self, v: &KernelVersion) -> bool {
        let later = |(major, minor, patch): &(u8, u8, u16)| {
            (v.major, v.minor) == (*major, *minor) && v.patch >= *patch
        };
        (v.major, v.minor) >= self.since || self.also.iter().any(later)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_lines_have_what_they_were_given() {
        for (version, told, go) in [
            ("4.19.300", false, false),
            ("5.4.282", false, false),
            ("5.4.283", false, true),
            ("5.10.224", false, false),
            ("5.10.225", true, true),
            ("5.11.400", false, false),
            ("5.12.0", true, false),
            ("6.6.99", true, false),
            ("6.7.0", true, true),
        ] {
            let v = KernelVersion::from_str(version).unwrap();
            assert_eq!(FLAG_P_IS_TOLD.is_in(&v), told, "{version}");
            assert_eq!(ENTRIES_GO_WITH_MOUNT.is_in(&v), go, "{version}");
        }
    }
}
