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
        let name = typed.trim().to_ascii_lowercase();
        let name = name.strip_prefix("linux/").unwrap_or(&name);
        // A name such as riscv32 tells the width.
        (name == self.arch.oci || name == "powerpc")
            .then(|| format!("{name} is the 32-bit architecture; most people mean {wide}"))
    }
}

/// A name that means no platform, as it may be repeated in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    shown: String,
    advice: String,
}

/// Operating systems that people put before an architecture.
const OTHER_SYSTEMS: [&str; 16] = [
    "darwin",
    "macos",
    "osx",
    "ios",
    "windows",
    "win",
    "freebsd",
    "netbsd",
    "openbsd",
    "dragonfly",
    "solaris",
    "illumos",
    "android",
    "wasi",
    "wasip1",
    "js",
];

impl Unknown {
    /// Looks for what was meant.
    pub fn new(name: &str) -> Self {
        let general =
            "names are those of Docker, Debian, uname -m or QEMU: linux/arm64, armhf, riscv64, all";
        Self { shown: shorten(name), advice: meant(name).unwrap_or_else(|| general.to_owned()) }
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

/// In what is longer nobody looks for a name.
const LONGEST: usize = 100;

/// What a name that means no platform was meant for, where that can be told.
pub(crate) fn meant(name: &str) -> Option<String> {
    let lower = name.trim().to_ascii_lowercase();
    if lower.len() > LONGEST {
        return None;
    }
    let (system, rest) = lower.split_once(['/', '-', '_']).unwrap_or((&lower, ""));
    if OTHER_SYSTEMS.contains(&system) {
        let meant = Platform::parse(rest).map_or("linux/arm64".to_owned(), |it| it.to_string());
        return Some(format!(
            "{system} is an operating system; emulators run programs for Linux: {meant}"
        ));
    }
    let between = |c: char| c.is_whitespace() || ";:+&|".contains(c);
    for words in [words(&lower, between), words(&lower, |c| c == '/')] {
        if words.len() > 1 && words.iter().all(|word| Platform::parse(word).is_some()) {
            return Some(format!("separate names by commas: {}", words.join(",")));
        }
    }
    if lower.contains(['*', '?']) {
        return Some("use `all`: patterns work only with uninstall".to_owned());
    }
    let name = lower.strip_prefix("linux/").unwrap_or(&lower);
    let near = joined(name).or_else(|| part(name)).or_else(|| nearest(name))?;
    Some(format!("did you mean linux/{}?", near.oci))
}

fn words(text: &str, between: impl Fn(char) -> bool) -> Vec<&str> {
    text.split(between).filter(|word| !word.is_empty()).collect()
}

/// The row of a name that is written in parts: `arm64-v8`, `ppc64_le`.
fn joined(name: &str) -> Option<&'static Arch> {
    Some(Platform::parse(&name.replace(['-', '_', '.', ' '], ""))?.arch)
}

/// The row of the longest part that is a name: of `aarch64` in `aarch64-linux-gnu`.
fn part(name: &str) -> Option<&'static Arch> {
    let cuts = || name.match_indices(|c: char| !c.is_alphanumeric());
    let starts = std::iter::once(0).chain(cuts().map(|(at, cut)| at + cut.len()));
    let ends = || cuts().map(|(at, _)| at).chain([name.len()]);
    let parts = starts.flat_map(|start| ends().filter_map(move |end| name.get(start..end)));
    let known = parts.filter_map(|part| Some((part.len(), Platform::parse(part)?.arch)));
    known.max_by_key(|(len, _)| *len).map(|(_, arch)| arch)
}

/// The row that has the name most like this one, if it is like it at all.
fn nearest(name: &str) -> Option<&'static Arch> {
    // Which arm is 64 bits wide, a likeness of letters does not tell.
    if ["armv8", "armv9"].iter().any(|wide| name.starts_with(wide)) {
        return ARCHES.iter().find(|arch| arch.oci == "arm64");
    }
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
            ("armv7hl", "arm"),
            ("riscv64gc", "riscv64"),
            ("mips32el", "mipsle"),
            ("sparcv9", "sparc64"),
            ("ia32", "386"),
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
            ("arm64;riscv64", "separate names by commas: arm64,riscv64"),
            ("arm64/riscv64", "separate names by commas: arm64,riscv64"),
            (
                "Windows-AMD64",
                "windows is an operating system; emulators run programs for Linux: linux/amd64",
            ),
            ("linux-arm64", "did you mean linux/arm64?"),
            ("aarch64-linux-gnu", "did you mean linux/arm64?"),
            ("arm-linux-gnueabihf", "did you mean linux/arm?"),
            ("x86_64-pc-linux-gnu", "did you mean linux/amd64?"),
            ("x86-64-v3", "did you mean linux/amd64?"),
            ("/usr/bin/qemu-s390x-static", "did you mean linux/s390x?"),
            ("ppc64_le", "did you mean linux/ppc64le?"),
            ("risc-v", "did you mean linux/riscv?"),
            ("armv8-a", "did you mean linux/arm64?"),
            ("mips64-", "did you mean linux/mips64?"),
            ("qemu-*", "use `all`: patterns work only with uninstall"),
            (
                "nonsense",
                "names are those of Docker, Debian, uname -m or QEMU: linux/arm64, armhf, riscv64, all",
            ),
        ] {
            assert_eq!(Unknown::new(name).advice(), advice, "{name}");
        }
    }

    #[test]
    fn the_width_that_is_meant_is_told_of_however_it_is_typed() {
        for typed in ["riscv", " PPC", "linux/mips", "sparc", "powerpc", "linux/riscv"] {
            assert!(Platform::parse(typed).unwrap().note(typed).is_some(), "{typed}");
        }
        for typed in ["riscv32", "riscv64", "mipsle", "arm", "qemu-ppc"] {
            assert_eq!(Platform::parse(typed).unwrap().note(typed), None, "{typed}");
        }
    }

    /// Names of entries that others make are no misspelt platforms.
    #[test]
    fn not_everything_is_taken_for_a_name_that_is_misspelt() {
        let long = "arm64 ".repeat(100_000);
        for name in
            ["nonesuch", "python3.11", "jar", "cli", "WSLInterop", "appimage", "DOSWin", &long]
        {
            assert_eq!(meant(name), None, "{name:.20}");
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
