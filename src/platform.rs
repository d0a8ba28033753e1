//! OCI platforms as people type them: parsing and normalising. Touches nothing.

use std::fmt;

use crate::arch::{ARCHES, Arch};

/// A platform: an architecture and, where one was given, its variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// The row of the architecture.
    pub arch: &'static Arch,
    /// `v7` of `linux/arm/v7`.
    pub variant: Option<String>,
}

impl Platform {
    /// Reads any name of an architecture that the field uses, in any case.
    ///
    /// OCI platform (`linux/arm64/v8`), Go architecture (`arm64`), `uname -m` (`aarch64`), Debian
    /// (`ppc64el`), QEMU target (`loongarch64`) or entry (`qemu-aarch64`). `None` where it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let name = text.trim().to_ascii_lowercase();
        let name = name.strip_prefix("linux/").unwrap_or(&name);
        let (name, variant) = match name.split_once('/') {
            Some((name, variant)) => (name, Some(variant)),
            None => (name, None),
        };
        let name = name.strip_prefix("qemu-").unwrap_or(name);
        // Go's order of preference: a name of the OCI first, as `mips64` and the like are both.
        let arch = ARCHES
            .iter()
            .find(|arch| arch.oci == name)
            .or_else(|| ARCHES.iter().find(|arch| arch.target == name))
            .or_else(|| ARCHES.iter().find(|arch| arch.aliases.contains(&name)))?;
        match variant {
            Some(variant) if !is_variant(arch, variant) => None,
            _ => Some(Self { arch, variant: variant.map(str::to_owned) }),
        }
    }

    /// The names under which `supported` would list it: `linux/arm` stands for v7 and v6 alike.
    pub fn listed_as(&self) -> Vec<String> {
        match (self.arch.oci, self.variant.as_deref()) {
            ("amd64", Some(level)) if level != "v1" => vec![format!("linux/amd64/{level}")],
            ("arm", Some("v5")) => vec!["linux/arm/v6".to_owned()],
            ("arm", Some(variant @ ("v6" | "v7"))) => vec![format!("linux/arm/{variant}")],
            _ => self.arch.platforms(),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "linux/{}", self.arch.oci)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))
    }
}

/// Variants: `v` and a number, `v8.2`; architectures without variants take none.
fn is_variant(arch: &Arch, variant: &str) -> bool {
    let known: &[&str] = match arch.oci {
        "amd64" => &["v1", "v2", "v3", "v4"],
        "arm" => &["v5", "v6", "v7", "v8"],
        "arm64" => &["v8", "v9"],
        _ => &[],
    };
    let major = variant.split_once('.').map_or(variant, |(major, _)| major);
    known.contains(&major)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_field_is_understood() {
        for (name, oci) in [
            ("linux/arm64", "arm64"),
            (" linux/arm64/v8 ", "arm64"),
            ("ARM64", "arm64"),
            ("aarch64", "arm64"),
            ("qemu-aarch64", "arm64"),
            ("linux/aarch64", "arm64"),
            ("arm64/v8", "arm64"),
            ("linux/arm/v7", "arm"),
            ("linux/arm/v5", "arm"),
            ("linux/arm", "arm"),
            ("armhf", "arm"),
            ("armv7l", "arm"),
            ("armel", "arm"),
            ("x86_64", "amd64"),
            ("linux/amd64/v3", "amd64"),
            ("386", "386"),
            ("i686", "386"),
            ("linux/386", "386"),
            ("ppc64el", "ppc64le"),
            ("mips64el", "mips64le"),
            ("mips64le", "mips64le"),
            ("loong64", "loong64"),
            ("loongarch64", "loong64"),
            ("qemu-mipsn32", "mips64p32"),
            ("riscv32", "riscv"),
        ] {
            assert_eq!(Platform::parse(name).map(|p| p.arch.oci), Some(oci), "{name}");
        }
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for name in [
            "",
            " ",
            "linux/",
            "linux",
            "/",
            "linux//",
            "arm64/",
            "windows/amd64",
            "linux/arm64/v7",
            "linux/riscv64/v1",
            "linux/arm/v7/x",
            "qemu-",
            "sparc128",
            "x86-64-v3",
            "a\0b",
        ] {
            assert_eq!(Platform::parse(name), None, "{name:?}");
        }
    }

    #[test]
    fn every_row_is_found_under_each_of_its_names() {
        for arch in ARCHES {
            for name in [arch.oci, arch.target].iter().chain(arch.aliases) {
                assert_eq!(Platform::parse(name).unwrap().arch, arch, "{name}");
            }
        }
    }
}
