//! The whole story behind each id, for `--list` and `--explain`.

use std::io::{self, Write};

use super::program;
use crate::check;

/// What is to be told of one id.
#[derive(Debug, Clone, Copy)]
pub struct Story {
    /// Stable id.
    pub id: &'static str,
    /// What it looks at, in one line.
    pub about: &'static str,
    /// The whole story.
    pub story: &'static str,
}

/// Those of the checks, then those of a single program.
pub fn stories() -> impl Iterator<Item = Story> {
    let of_check =
        |check: &check::Check| Story { id: check.id, about: check.about, story: check.story };
    check::checks().map(of_check).chain(program::stories())
}

impl Story {
    /// A line of `--list`.
    pub(super) fn list(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{:<22} {}", self.id, self.about)
    }

    /// What `--explain` prints.
    pub(super) fn explain(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}: {}\n\n{}", self.id, self.about, wrap(self.story))
    }
}

/// A paragraph in lines of at most 100 characters.
fn wrap(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
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
