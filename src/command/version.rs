//! `--version`, `--licenses`, `completion`, `man`: what this program is. Looks at no host.

use std::io::Write;

use crate::cli;
use crate::emulator::Emulators;
use crate::error::Error;
use crate::report::written;
use crate::shown::shorten;

/// The notice, our own licence, and those of the emulators.
const LICENSES: [&str; 4] = [
    include_str!("../../licenses/NOTICE"),
    include_str!("../../LICENSE"),
    include_str!("../../licenses/GPL-2.0.txt"),
    include_str!("../../licenses/LGPL-2.1.txt"),
];

/// Prints all licences.
pub(crate) fn licenses(out: &mut dyn Write) -> Result<(), Error> {
    written(LICENSES.iter().try_for_each(|text| writeln!(out, "{text}")))
}

/// Prints our version, and that of the emulators.
pub(crate) fn version(emulators: &Emulators, out: &mut dyn Write) -> Result<(), Error> {
    let mut versions: Vec<_> =
        emulators.iter().map(|e| format!("{} ({})", e.version, e.package)).collect();
    versions.dedup();
    let qemu = if versions.is_empty() { "none".to_owned() } else { versions.join(", ") };
    let names: Vec<_> = emulators.iter().map(|e| e.name.as_str()).collect();
    let names = match names.is_empty() {
        true => "none: built with an empty qemu-bins/".to_owned(),
        false => names.join(" "),
    };
    let own = env!("CARGO_PKG_VERSION");
    written(write!(out, "binfmtctl {own}\nqemu {qemu}\nemulators {names}\n"))
}

/// Prints a completion script.
pub(crate) fn completion(shell: clap_complete::Shell, out: &mut dyn Write) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::definition(), "binfmtctl", &mut script);
    written(out.write_all(&script))
}

/// Prints a man page, as man(7) has it.
///
/// # Errors
/// A command that there is not.
pub(crate) fn man(page: Option<&str>, out: &mut dyn Write) -> Result<(), Error> {
    let mut whole = cli::definition();
    whole.build();
    let command = match page {
        None | Some("binfmtctl") => &whole,
        Some(name) => {
            let name = name.strip_prefix("binfmtctl-").unwrap_or(name);
            whole.find_subcommand(name).ok_or_else(|| {
                let names: Vec<_> = whole.get_subcommands().map(clap::Command::get_name).collect();
                let name = shorten(name);
                Error::Usage(format!(
                    "no command is called '{name}': there are {}",
                    names.join(", ")
                ))
            })?
        }
    };
    let source = concat!("binfmtctl ", env!("CARGO_PKG_VERSION"));
    let mut text = Vec::new();
    written(clap_mangen::Man::new(command.clone()).source(source).render(&mut text))?;
    written(out.write_all(&text))
}
