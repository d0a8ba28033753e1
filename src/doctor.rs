//! `doctor`: runs every check and tells the worst first; or tells why one program does not run.
//!
//! Changes nothing, and mounts only where [`crate::host::look`] does.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, access};
use serde::Serialize;

use crate::Session;
use crate::arch;
use crate::check::{self, Finding, Level};
use crate::cli::{DoctorArgs, Format};
use crate::elf::{self, Elf, Loader};
use crate::emulator::own;
use crate::entry::{Entry, Rule};
use crate::error::{Error, Op};
use crate::host::{Server, State};
use crate::plan::dead;
use crate::report::{Terminal, json, written};
use crate::surroundings::Surroundings;

/// What `doctor --format json` prints.
#[derive(Debug, Serialize)]
pub struct Diagnosis {
    /// Version of this format.
    pub schema_version: u32,
    /// Worst first.
    pub findings: Vec<Finding>,
}

/// How many interpreters of scripts are followed; the kernel gives up after five as well.
const MAX_SCRIPTS: usize = 5;

impl Session<'_> {
    /// Runs the command.
    ///
    /// # Errors
    /// [`Error::Unhealthy`] where something needs repair; an id that is none.
    pub(crate) fn doctor(&mut self, args: &DoctorArgs) -> Result<(), Error> {
        if args.list {
            return check::checks().try_for_each(|check| {
                written(writeln!(self.out, "{:<22} {}", check.id, check.about))
            });
        }
        if let Some(id) = &args.explain {
            let check = check::checks().find(|check| check.id == *id).ok_or_else(|| {
                Error::Usage(format!(
                    "no check is called '{}': `doctor --list` lists them",
                    Error::shorten(id)
                ))
            })?;
            return written(writeln!(
                self.out,
                "{}: {}\n\n{}",
                check.id,
                check.about,
                wrap(check.story)
            ));
        }

        let mut state = self.observe_all()?;
        let mut findings = match args.program.split_first() {
            Some((program, arguments)) => {
                let path = find(&args.root, Path::new(program));
                let mut findings = diagnose(&args.root, &path, &state, MAX_SCRIPTS);
                if args.run {
                    findings.push(run(&args.root, &path, arguments)?);
                }
                findings
            }
            None => {
                state.surroundings = Some(Surroundings::observe(self.root, &state.instance));
                check::check(&state)
            }
        };
        // A file's findings tell a story in order; a host's are best read from the worst.
        if args.program.is_empty() {
            findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
        }
        let wrong = findings.iter().filter(|finding| finding.level == Level::Failure).count();
        let diagnosis = Diagnosis { schema_version: 1, findings };
        written(match args.format {
            Format::Json => json(&diagnosis, self.out),
            Format::Table => {
                self.out.write_all(text(&diagnosis, self.request.verbose, self.terminal).as_bytes())
            }
        })?;
        match wrong {
            0 => Ok(()),
            _ if args.program.is_empty() => Err(Error::Unhealthy(wrong)),
            _ => Err(Error::Failed(format!("findings that need repair: {wrong}"))),
        }
    }
}

/// A paragraph in lines of at most 100 characters.
fn wrap(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut();
        match line {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + word.chars().count() < 100 => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

/// For people: what needs attention in full, then what is well in a line each.
fn text(diagnosis: &Diagnosis, verbose: bool, terminal: Terminal) -> String {
    let mut text = String::new();
    let mut well = 0;
    for finding in &diagnosis.findings {
        let level = terminal.paint(finding.level, &format!("{:<8}", finding.level.as_str()));
        if finding.level == Level::Ok
            && finding.breaks.is_empty()
            && !verbose
            && !finding.id.starts_with("file")
        {
            well += 1;
            continue;
        }
        text.push_str(&format!("{level} {}: {}\n", finding.id, finding.what));
        if !finding.breaks.is_empty() {
            text.push_str(&format!("         breaks: {}\n", finding.breaks));
        }
        if !finding.repair.is_empty() {
            text.push_str(&format!("         repair: {}\n", finding.repair));
        }
    }
    if well > 0 {
        text.push_str(&format!(
            "ok       {well} other checks found nothing wrong; -v shows them\n"
        ));
    }
    text
}

/// A program as a shell would find it, as the root calls it.
fn find(root: &Path, program: &Path) -> PathBuf {
    if program.components().count() > 1 || program.is_absolute() {
        return program.into();
    }
    let dirs = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let found = dirs
        .iter()
        .map(|dir| Path::new(dir).join(program))
        .find(|path| inside(root, path).exists());
    found.unwrap_or_else(|| program.into())
}

/// Where a path of the root's is here. Relative paths are the user's own.
fn inside(root: &Path, path: &Path) -> PathBuf {
    match path.strip_prefix("/") {
        Ok(below) if root != Path::new("/") => root.join(below),
        _ => path.into(),
    }
}

fn finding(id: &'static str, level: Level, what: String, breaks: &str, repair: &str) -> Finding {
    Finding { id, level, what, breaks: breaks.to_owned(), repair: repair.to_owned() }
}

/// Why a program does, or does not, run.
fn diagnose(root: &Path, path: &Path, state: &State, scripts: usize) -> Vec<Finding> {
    let here = inside(root, path);
    let shown = path.display();
    let failure = |id, what: String, breaks: &str, repair: &str| {
        finding(id, Level::Failure, what, breaks, repair)
    };
    let mut start = Vec::new();
    let read =
        File::open(&here).and_then(|file| file.take(elf::ENOUGH as u64).read_to_end(&mut start));
    if let Err(error) = read {
        return vec![failure(
            "file",
            format!("{shown} cannot be read: {error}"),
            "No such file or directory, or Permission denied",
            "check the path; --root DIR if it is a container's",
        )];
    }
    let mut findings = Vec::new();
    if statvfs(&here).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_NOEXEC)) {
        findings.push(failure(
            "file-noexec",
            format!("{shown} is on a file system mounted noexec"),
            "Permission denied",
            "mount -o remount,exec there, or copy it elsewhere",
        ));
    } else if access(&here, AccessFlags::X_OK).is_err() {
        findings.push(failure(
            "file-permission",
            format!("{shown} is not executable"),
            "Permission denied",
            &format!("chmod +x {}", here.display()),
        ));
    }
    match elf::File::parse(&start) {
        elf::File::Empty => findings.push(failure(
            "file",
            format!("{shown} is empty"),
            "Exec format error",
            "fetch it again: a copy or an image layer was cut short",
        )),
        elf::File::Damaged(wrong) => findings.push(failure(
            "file",
            format!("{shown} is a damaged program: {wrong}"),
            "Exec format error",
            "fetch it again: a copy or an image layer was cut short",
        )),
        elf::File::Windows => findings.push(failure(
            "file",
            format!("{shown} is a Windows program"),
            "Exec format error",
            "use a Linux build of it",
        )),
        elf::File::Other => findings.push(failure(
            "file",
            format!("{shown} is neither a program nor a script that begins with #!"),
            "Exec format error, except from a shell",
            "put #!/bin/sh on its first line",
        )),
        elf::File::Script(line) => findings.extend(script(root, path, line, state, scripts)),
        elf::File::Elf(elf) => findings.extend(program(root, path, &elf, &start, state)),
    }
    findings
}

fn script(root: &Path, path: &Path, line: &str, state: &State, scripts: usize) -> Vec<Finding> {
    let shown = path.display();
    if line.ends_with('\r') {
        return vec![finding(
            "file-script",
            Level::Failure,
            format!(
                "the first line of {shown} ends in a carriage return, which becomes part of the interpreter's name"
            ),
            "No such file or directory",
            "sed -i 's/\\r$//' on it: it was saved with Windows line ends",
        )];
    }
    let interpreter = line.split([' ', '\t']).next().unwrap_or_default();
    let mut findings = vec![finding(
        "file-script",
        Level::Ok,
        format!("{shown} is a script for {interpreter}"),
        "",
        "",
    )];
    if !inside(root, Path::new(interpreter)).exists() {
        findings.push(finding(
            "file-script",
            Level::Failure,
            format!("its interpreter {interpreter} is not there"),
            "No such file or directory, though the script exists",
            "install the interpreter, or correct the first line",
        ));
    } else if scripts > 0 {
        findings.extend(diagnose(root, Path::new(interpreter), state, scripts - 1));
    }
    findings
}

fn program(root: &Path, path: &Path, elf: &Elf<'_>, start: &[u8], state: &State) -> Vec<Finding> {
    let shown = path.display();
    let arch = arch::Arch::of_header(start).or_else(|| elf.arch());
    let bits = if elf.class == arch::Class::Elf64 { 64 } else { 32 };
    let order = if elf.data == arch::Data::Little { "little" } else { "big" };
    let name =
        arch.map_or_else(|| "an architecture nobody here knows".to_owned(), ToString::to_string);
    let linked = match elf.loader {
        Loader::None => "statically linked".to_owned(),
        Loader::Path(loader) => format!("dynamically linked, by {loader}"),
        Loader::Beyond => "dynamically linked".to_owned(),
    };
    let what = format!(
        "{shown} is a program for {name}: {bits} bits, {order}-endian, machine {}, {linked}",
        elf.machine
    );
    let mut findings = vec![finding("file", Level::Ok, what, "", "")];
    findings.push(server(elf, arch, start, state));
    if let Loader::Path(loader) = elf.loader
        && !inside(root, Path::new(loader)).exists()
    {
        findings.push(finding(
            "file-loader",
            Level::Failure,
            format!("its dynamic loader {loader} is not in {}", root.display()),
            "No such file or directory, though the program exists; or: Could not open",
            "use an image of the program's own architecture (--platform), or install its libraries there; --root DIR if the program belongs to another root",
        ));
    }
    findings
}

/// Which handler would take it, and whether that works.
fn server(
    elf: &Elf<'_>,
    arch: Option<&'static arch::Arch>,
    start: &[u8],
    state: &State,
) -> Finding {
    const ID: &str = "file-handler";
    let failure =
        |what: String, repair: &str| finding(ID, Level::Failure, what, "Exec format error", repair);
    let taker = state.instance.as_ref().ok().and_then(|instance| instance.taker(start));
    let native =
        arch.is_some_and(|arch| arch == own() || state.server(arch) == Some(Server::Native));
    match (taker, arch) {
        (Some(entry), Some(arch))
            if state.probes.get(arch).is_some_and(crate::probe::Probe::ran) =>
        {
            let version = state.probes.get(arch).and_then(|probe| probe.qemu.clone());
            let version = version.map_or(String::new(), |version| format!(", QEMU {version}"));
            finding(ID, Level::Ok, format!("{} takes it and works{version}", entry.name), "", "")
        }
        (Some(entry), Some(arch)) => failure(
            format!("{} takes it, but: {}", entry.name, dead(entry, state)),
            &format!("binfmtctl --install {arch} --replace"),
        ),
        (Some(entry), None) => {
            finding(ID, Level::Unknown, format!("{} takes it", entry.name), "", "")
        }
        (None, _) if native => {
            finding(ID, Level::Ok, "this machine runs it by itself".to_owned(), "", "")
        }
        (None, Some(arch))
            if state.probes.get(arch).is_some_and(crate::probe::Probe::ran)
                && state.instance.is_err() =>
        {
            finding(
                ID,
                Level::Ok,
                format!("programs for {arch} run here, by an entry that cannot be seen"),
                "",
                "",
            )
        }
        (None, arch) => {
            let near = state
                .instance
                .iter()
                .flat_map(|instance| &instance.entries)
                .find_map(|entry| nearly(entry, start));
            let appimage = if elf.is_appimage() {
                "; it is an AppImage, whose format puts these bytes there: extract it with --appimage-extract on a machine of its architecture"
            } else {
                ""
            };
            match (near, arch) {
                (Some((near, repair)), _) => {
                    failure(format!("no entry takes it: {near}{appimage}"), &repair)
                }
                (None, Some(arch))
                    if state.instance.as_ref().is_ok_and(|instance| !instance.enabled) =>
                {
                    failure(
                        format!(
                            "binfmt_misc is disabled as a whole, so no entry takes it ({arch})"
                        ),
                        "echo 1 > /proc/sys/fs/binfmt_misc/status",
                    )
                }
                (None, Some(arch)) => failure(
                    format!("no entry takes programs for {arch}"),
                    &format!("binfmtctl --install {arch}"),
                ),
                (None, None) => failure(
                    "no entry takes it".to_owned(),
                    "there is no emulator for this machine number",
                ),
            }
        }
    }
}

/// Why an entry does not take a file that it all but matches: it is off, or one or two bytes differ.
///
/// With that, what to do about it.
fn nearly(entry: &Entry, start: &[u8]) -> Option<(String, String)> {
    let Rule::Magic { offset, magic, mask } = &entry.rule else { return None };
    let bytes = start.get(*offset..)?.get(..magic.len())?;
    let counts = |i: usize| mask.as_ref().and_then(|mask| mask.get(i)).unwrap_or(&0xff);
    let differing: Vec<_> =
        (0..magic.len()).filter(|i| (bytes[*i] ^ magic[*i]) & counts(*i) != 0).collect();
    match differing.as_slice() {
        [] if !entry.enabled => Some((
            format!("{} would, but it is disabled", entry.name),
            format!("echo 1 > /proc/sys/fs/binfmt_misc/{}", entry.name),
        )),
        [] => None,
        // The machine's number is two bytes: an entry for another architecture is not nearly the same.
        some if some.len() <= 3 && some.iter().all(|i| offset + i < 18 && offset + i >= 7) => {
            let byte = |i: &usize| {
                format!("byte {} is {:02x} and must be {:02x}", offset + i, bytes[*i], magic[*i])
            };
            let bytes: Vec<_> = some.iter().map(byte).collect();
            let repair = "binfmtctl --status --format json shows the entries".to_owned();
            Some((format!("{} nearly does: {}", entry.name, bytes.join("; ")), repair))
        }
        _ => None,
    }
}

/// Runs it and tells how that ended.
fn run(root: &Path, path: &Path, arguments: &[String]) -> Result<Finding, Error> {
    let here = if root == Path::new("/") { path.into() } else { inside(root, path) };
    let mut command = Command::new(&here);
    command.args(arguments).stdin(Stdio::null());
    let (level, what) = match command.status() {
        Ok(status) if status.success() => (Level::Ok, "it ran".to_owned()),
        Ok(status) => (Level::Warning, format!("it ran, and ended with {status}")),
        Err(error) => (
            Level::Failure,
            format!("it did not start: {}", Error::system(Op::Probe, &here, error)),
        ),
    };
    Ok(finding("file-run", level, what, "", ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Flags;

    #[test]
    fn an_appimage_nearly_matches_and_the_bytes_are_named() {
        let arch = arch::Arch::by_target("aarch64").unwrap();
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
        program[8..11].copy_from_slice(b"AI\x02");
        let (near, _) = nearly(&entry, &program).unwrap();
        assert!(
            near.starts_with("qemu-aarch64 nearly does: byte 8 is 41 and must be 00"),
            "{near}"
        );
        let other = arch::Arch::by_target("riscv64").unwrap().probe();
        assert_eq!(nearly(&entry, &other), None);
    }
}
