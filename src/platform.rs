//! OCI platforms as people type them: parsing and normalising. Touches nothing.

use std::fmt;

use crate::arch::{ARCHES, Arch};
use crate::shown::shorten;

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
        // As distributions call static builds of emulators.
        let name = name.strip_suffix("-static").unwrap_or(name);
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

    /// What to tell of a name that is right, but often means another architecture.
    pub fn note(&self, typed: &str) -> Option<String> {
        let wide = match self.arch.oci {
            "riscv" => "riscv64",
            "ppc" => "ppc64le",
            "mips" => "mips64le",
            "sparc" => "sparc64",
            _ => return None,
        };
        typed.trim().eq_ignore_ascii_case(self.arch.oci).then(|| {
            format!("{} is the 32-bit architecture; most people mean {wide}", self.arch.oci)
        })
    }
}

/// A name that means no platform, as it may be repeated in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    shown: String,
    advice: String,
}

/// Operating systems that people put before an architecture.
const OTHER_SYSTEMS: [&str; 9] =
    ["darwin", "macos", "windows", "freebsd", "netbsd", "openbsd", "android", "wasi", "js"];

impl Unknown {
    /// Looks for what was meant.
    pub fn new(name: &str) -> Self {
        let lower = name.trim().to_ascii_lowercase();
        let (first, rest) = lower.split_once('/').unwrap_or((&lower, ""));
        let words: Vec<_> = lower.split_whitespace().collect();
        let advice = if OTHER_SYSTEMS.contains(&first) {
            let meant = Platform::parse(rest).map_or("linux/arm64".to_owned(), |it| it.to_string());
            format!("{first} is an operating system; emulators run programs for Linux: {meant}")
        } else if words.len() > 1 && words.iter().all(|word| Platform::parse(word).is_some()) {
            format!("separate names by commas: {}", words.join(","))
        } else if lower.contains(['*', '?']) {
            "say `all`: only an uninstall takes patterns".to_owned()
        } else if let Some(near) = nearest(lower.strip_prefix("linux/").unwrap_or(&lower)) {
            format!("did you mean linux/{}?", near.oci)
        } else {
            "names are those of Docker, Debian, uname -m or QEMU: linux/arm64, armhf, riscv64, all"
                .to_owned()
        };
        Self { shown: shorten(name), advice }
    }

    /// The name, shortened for display.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// What to say instead.
    pub fn advice(&self) -> &str {
        &self.advice
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unsupported architecture: {}", self.shown)
    }
}

/// The row that has the name most like this one, if it is like it at all.
fn nearest(name: &str) -> Option<&'static Arch> {
    let likeness = |arch: &'static Arch| {
        let names = [arch.oci, arch.target].into_iter().chain(arch.aliases.iter().copied());
        let best = names.map(|known| strsim::jaro_winkler(known, name)).fold(0.0, f64::max);
        (best, arch)
    };
    // What many use is more likely to be meant.
    let best_of = |common: bool| {
        let rows = ARCHES.iter().filter(|arch| arch.common == common);
        let best = rows.map(likeness).max_by(|a, b| a.0.total_cmp(&b.0))?;
        (best.0 >= 0.85).then_some(best.1)
    };
    best_of(true).or_else(|| best_of(false))
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
            ("x86-64", "amd64"),
            ("x64", "amd64"),
            ("arm64v8", "arm64"),
            ("qemu-aarch64-static", "arm64"),
            ("arm32v7", "arm"),
            ("armv7", "arm"),
            ("aarch32", "arm"),
            ("aarch64be", "arm64be"),
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
    fn what_was_meant_is_told() {
        for (name, advice) in [
            ("arm65", "did you mean linux/arm64?"),
            ("linux/amr64", "did you mean linux/arm64?"),
            ("s390", "did you mean linux/s390x?"),
            ("loong", "did you mean linux/loong64?"),
            ("risc", "did you mean linux/riscv64?"),
            (
                "darwin/arm64",
                "darwin is an operating system; emulators run programs for Linux: linux/arm64",
            ),
            ("arm64 riscv64", "separate names by commas: arm64,riscv64"),
            ("qemu-*", "say `all`: only an uninstall takes patterns"),
            (
                "nonsense",
                "names are those of Docker, Debian, uname -m or QEMU: linux/arm64, armhf, riscv64, all",
            ),
        ] {
            assert_eq!(Unknown::new(name).advice(), advice, "{name}");
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
