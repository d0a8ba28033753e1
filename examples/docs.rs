//! Writes man pages and shell completions to the directory given: `scripts/docs` runs it.

use std::io::{Error, Result};
use std::path::PathBuf;

use binfmtctl::cli::definition;
use clap_complete::{Shell, generate_to};

fn main() -> Result<()> {
    let dir =
        std::env::args_os().nth(1).map(PathBuf::from).ok_or(Error::other("usage: docs DIR"))?;
    let (man, completions) = (dir.join("man"), dir.join("completions"));
    #[expect(clippy::disallowed_methods, reason = "writes the files it is told to write")]
    [&man, &completions].into_iter().try_for_each(std::fs::create_dir_all)?;
    clap_mangen::generate_to(definition(), &man)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut definition(), "binfmtctl", &completions)?;
    }
    Ok(())
}
