//! The files that `hold` writes for others: readiness with labels, and metrics. Each is there whole or
//! not at all.

#![expect(clippy::disallowed_methods, reason = "makes and removes the files it is told to")]

use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;

use crate::arch::Arch;
use crate::error::{Error, Op};

/// Writes beside the file, and renames: who reads it never sees a part.
pub(super) fn write_whole(path: &Path, text: &str) -> Result<(), Error> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let written = fs::File::create(&beside)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written.map_err(|error| Error::system(Op::WriteFile, path, error))
}

/// Refuses what cannot be written, before anything is done.
pub(super) fn check(path: &Path) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::system(Op::WriteFile, path, error);
    let beside = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = beside.unwrap_or(Path::new("."));
    match (path.is_dir(), dir.metadata()) {
        (true, _) => Err(failed(Errno::EISDIR.into())),
        (_, Err(error)) => Err(failed(error)),
        (_, Ok(dir)) if !dir.is_dir() => Err(failed(Errno::ENOTDIR.into())),
        _ => Ok(()),
    }
}

/// Removes a file that may not be there.
pub(super) fn remove(path: Option<&Path>) {
    if let Some(path) = path {
        let _ = fs::remove_file(path);
    }
}

/// `binfmt.linux-arm64=true`, a line a platform, as Node Feature Discovery reads labels of nodes: a
/// label's name has no slash.
pub(super) fn labels<'a>(arches: impl Iterator<Item = &'a Arch>) -> String {
    arches
        .flat_map(Arch::platforms)
        .map(|platform| format!("binfmt.{}=true\n", platform.replace('/', "-")))
        .collect()
}

/// One architecture's part of the metrics.
pub(super) struct Metric<'a> {
    pub(super) arch: &'a str,
    pub(super) entry: &'a str,
    pub(super) intact: bool,
    pub(super) repairs: u64,
}

/// Prometheus' text format, as node_exporter's textfile collector reads it.
pub(super) fn metrics<'a>(
    all: impl Iterator<Item = Metric<'a>> + Clone,
    checked: SystemTime,
) -> String {
    let mut text = String::new();
    let head = |text: &mut String, name: &str, kind: &str, help: &str| {
        let _ = write!(text, "# HELP binfmtctl_{name} {help}\n# TYPE binfmtctl_{name} {kind}\n");
    };
    head(&mut text, "entry_intact", "gauge", "1 while the entry is as it was when it last worked.");
    for Metric { arch, entry, intact, .. } in all.clone() {
        let (entry, intact) = (label(entry), u8::from(intact));
        let _ =
            writeln!(text, "binfmtctl_entry_intact{{arch=\"{arch}\",entry=\"{entry}\"}} {intact}");
    }
    head(&mut text, "repairs_total", "counter", "How often the entry was put back.");
    for Metric { arch, repairs, .. } in all {
        let _ = writeln!(text, "binfmtctl_repairs_total{{arch=\"{arch}\"}} {repairs}");
    }
    let help = "When the entries were last looked at.";
    head(&mut text, "last_check_timestamp_seconds", "gauge", help);
    let seconds = checked.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let _ = writeln!(text, "binfmtctl_last_check_timestamp_seconds {seconds}");
    head(&mut text, "build_info", "gauge", "The version that runs.");
    let version = env!("CARGO_PKG_VERSION");
    let _ = writeln!(text, "binfmtctl_build_info{{version=\"{version}\"}} 1");
    text
}

/// A label's value: names of entries may hold anything.
fn label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn labels_have_no_slash() {
        let arches = ["aarch64", "arm"].map(|target| Arch::by_target(target).unwrap());
        assert_eq!(
            labels(arches.into_iter()),
            "binfmt.linux-arm64=true\nbinfmt.linux-arm-v7=true\nbinfmt.linux-arm-v6=true\n"
        );
    }

    #[test]
    fn metrics_are_in_prometheus_text_format() {
        let all = [
            Metric { arch: "arm64", entry: "qemu-aarch64", intact: true, repairs: 2 },
            Metric { arch: "riscv64", entry: "a\"b\\c", intact: false, repairs: 0 },
        ];
        let text =
            metrics(all.iter().map(|it| Metric { ..*it }), UNIX_EPOCH + Duration::from_secs(9));
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("# HELP ")).collect();
        assert_eq!(
            lines,
            [
                "# TYPE binfmtctl_entry_intact gauge",
                "binfmtctl_entry_intact{arch=\"arm64\",entry=\"qemu-aarch64\"} 1",
                "binfmtctl_entry_intact{arch=\"riscv64\",entry=\"a\\\"b\\\\c\"} 0",
                "# TYPE binfmtctl_repairs_total counter",
                "binfmtctl_repairs_total{arch=\"arm64\"} 2",
                "binfmtctl_repairs_total{arch=\"riscv64\"} 0",
                "# TYPE binfmtctl_last_check_timestamp_seconds gauge",
                "binfmtctl_last_check_timestamp_seconds 9",
                "# TYPE binfmtctl_build_info gauge",
                concat!("binfmtctl_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            ]
        );
    }
}
