//! Which entry takes a file, and whether it can run it. Pure but for looking up interpreters in the
//! program's root.

use std::path::Path;

use super::finding;
use super::place::Place;
use crate::arch::Arch;
use crate::check::{Finding, Level, Way, advice, repair};
use crate::elf::Elf;
use crate::emulator::own;
use crate::entry::{Entry, Rule};
use crate::plan::dead;
use crate::state::{Outcome, Probe};
use crate::state::{Server, State};

const ID: &str = "file-handler";

/// The entry that takes a file: by its first bytes, or by its name's extension.
pub(super) fn taker<'a>(state: &'a State, path: &Path, start: &[u8]) -> Option<&'a Entry> {
    let instance = state.instance.as_ref().ok().filter(|instance| instance.enabled)?;
    let extension = path.extension().and_then(|extension| extension.to_str());
    instance.entries.iter().filter(|entry| entry.enabled).find(|entry| match &entry.rule {
        Rule::Extension(wanted) => Some(wanted.as_str()) == extension,
        _ => entry.takes(start),
    })
}

/// Which handler would take a program, and whether that works.
pub(super) fn handler(
    place: &Place,
    elf: &Elf<'_>,
    arch: Option<&'static Arch>,
    taker: Option<&Entry>,
    start: &[u8],
    state: &State,
) -> Finding {
    let probe = arch.and_then(|arch| state.probes.get(arch));
    let ran = probe.is_some_and(Probe::ran);
    let native =
        arch.is_some_and(|arch| arch == own() || state.server(arch) == Some(Server::Native));
    match (taker, arch) {
        (Some(entry), _) if ran => {
            let version = probe.and_then(|probe| probe.qemu.as_ref());
            let version = version.map_or(String::new(), |version| format!(", QEMU {version}"));
            well(format!("{} takes it and works{version}", entry.name))
        }
        (Some(entry), arch) if !entry.flags.has('F') => without_f(place, entry, arch),
        (Some(entry), Some(arch)) => {
            let effect = match probe.map(|probe| &probe.outcome) {
                Some(Outcome::Refused(errno)) => nix::errno::Errno::from_raw(*errno).desc(),
                Some(Outcome::Crashed(_)) => "it ends at once",
                Some(Outcome::TimedOut) => "it hangs",
                _ => "not known",
            };
            let what = format!("{} takes it, but: {}", entry.name, dead(entry, state));
            finding(ID, Level::Failure, what, effect, replace(arch))
        }
        (Some(entry), None) => finding(
            ID,
            Level::Unknown,
            format!("{} takes it; whether that works is not known", entry.name),
            "",
            Way::default(),
        ),
        (None, _) if native => well("this machine runs it by itself".to_owned()),
        // Only where entries cannot be seen: else this very file is one that they do not take.
        (None, Some(arch)) if ran && state.instance.is_err() => {
            well(format!("programs for {arch} run here, by an entry that cannot be seen"))
        }
        (None, arch) => nobody(elf, arch, start, state),
    }
}

fn well(what: String) -> Finding {
    finding(ID, Level::Ok, what, "", Way::default())
}

fn replace(arch: &Arch) -> Way {
    repair(format!("binfmtctl --install {arch} --replace"))
}

/// An entry without F finds its interpreter in the root of the program, if at all.
fn without_f(place: &Place, entry: &Entry, arch: Option<&Arch>) -> Finding {
    let (name, interpreter) = (&entry.name, entry.interpreter.display());
    let way = arch.map_or_else(|| advice(format!("register {name} again, with flag F")), replace);
    if place.has(&entry.interpreter) {
        let what = format!(
            "{name} takes it and lacks flag F; its interpreter {interpreter} is in this root, so it may run here"
        );
        let effect = "the same program in containers: No such file or directory";
        return finding(ID, Level::Warning, what, effect, way);
    }
    let what = format!(
        "{name} takes it, but lacks flag F, and its interpreter {interpreter} is not in {}",
        place.root().display()
    );
    finding(ID, Level::Failure, what, "No such file or directory, though the program exists", way)
}

/// Why no entry takes it.
fn nobody(elf: &Elf<'_>, arch: Option<&'static Arch>, start: &[u8], state: &State) -> Finding {
    let failure =
        |what: String, way: Way| finding(ID, Level::Failure, what, "Exec format error", way);
    let instance = match &state.instance {
        Ok(instance) => instance,
        Err(why) => {
            return match arch {
                Some(arch) => failure(
                    format!("nothing runs programs for {arch} here; entries cannot be seen: {why}"),
                    repair(format!("binfmtctl --install {arch}")),
                ),
                None => failure(
                    format!("nothing is known to run it; entries cannot be seen: {why}"),
                    repair("binfmtctl doctor"),
                ),
            };
        }
    };
    if !instance.enabled {
        let what = "binfmt_misc is disabled as a whole, so no entry takes it".to_owned();
        return failure(what, repair("echo 1 > /proc/sys/fs/binfmt_misc/status"));
    }
    let disabled = |entry: &&Entry| !entry.enabled && entry.takes(start);
    if let Some(entry) = instance.entries.iter().find(disabled) {
        return failure(
            format!("no entry takes it: {} would, but it is disabled", entry.name),
            repair(format!("echo 1 > /proc/sys/fs/binfmt_misc/{}", entry.name)),
        );
    }
    if let Some(near) = instance.entries.iter().find_map(|entry| nearly(entry, start)) {
        return if elf.is_appimage() {
            failure(
                format!("no entry takes it, as it is an AppImage: {near}"),
                advice(
                    "clear these bytes in a copy: dd if=/dev/zero of=COPY bs=1 seek=8 count=3 conv=notrunc",
                ),
            )
        } else {
            failure(
                format!("no entry takes it: {near}"),
                advice("it is unusual: build it again, or ask where it comes from"),
            )
        };
    }
    match arch {
        Some(arch) => failure(
            format!("no entry takes programs for {arch}"),
            repair(format!("binfmtctl --install {arch}")),
        ),
        None => failure(
            "no entry takes it".to_owned(),
            advice(
                "there is no emulator for this machine number: use a build for another architecture",
            ),
        ),
    }
}

/// Why an entry does not take a file that it all but matches: up to three bytes differ.
fn nearly(entry: &Entry, start: &[u8]) -> Option<String> {
    let Rule::Magic { offset, magic, mask } = &entry.rule else { return None };
    let bytes = start.get(*offset..)?.get(..magic.len())?;
    let mask = |i: usize| *mask.as_ref().and_then(|mask| mask.get(i)).unwrap_or(&0xff);
    let differing: Vec<_> =
        (0..magic.len()).filter(|i| (bytes[*i] ^ magic[*i]) & mask(*i) != 0).collect();
    // Bytes 0 to 6 and the two of the machine's number are what an architecture is: an entry for
    // another one is not nearly the same.
    let telling = |i: &usize| (7..18).contains(&(offset + i)) || offset + i >= 20;
    if differing.is_empty() || differing.len() > 3 || !differing.iter().all(telling) {
        return None;
    }
    let byte = |i: &usize| {
        let (at, is, must) = (offset + i, bytes[*i], magic[*i]);
        match mask(*i) {
            0xff => format!("byte {at} is {is:02x} and must be {must:02x}"),
            mask => format!("byte {at} is {is:02x} and must be {must:02x} under mask {mask:02x}"),
        }
    };
    let bytes: Vec<_> = differing.iter().map(byte).collect();
    Some(format!("{} nearly does, but {}", entry.name, bytes.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Flags;

    #[test]
    fn an_appimage_nearly_matches_and_the_bytes_are_named() {
        let arch = Arch::by_target("aarch64").unwrap();
        let entry = Entry {
            name: "qemu-aarch64".to_owned(),
            enabled: true,
            interpreter: "/usr/bin/qemu-aarch64".into(),
            flags: Flags::parse("F").unwrap(),
            rule: Rule::Magic { offset: 0, magic: arch.magic(), mask: Some(arch.mask()) },
            unknown: Vec::new(),
        };
        let mut program = arch.probe();
        assert_eq!(nearly(&entry, &program), None);
        program[16] = 1;
        assert_eq!(
            nearly(&entry, &program).unwrap(),
            "qemu-aarch64 nearly does, but byte 16 is 01 and must be 02 under mask fe"
        );
        program[16] = 2;
        program[8..11].copy_from_slice(b"AI\x02");
        assert_eq!(
            nearly(&entry, &program).unwrap(),
            "qemu-aarch64 nearly does, but byte 8 is 41 and must be 00, byte 9 is 49 and must be 00, byte 10 is 02 and must be 00"
        );
        program[5] = 2;
        assert_eq!(nearly(&entry, &program), None);
        let other = Arch::by_target("riscv64").unwrap().probe();
        assert_eq!(nearly(&entry, &other), None);
    }
}
