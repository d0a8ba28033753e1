//! What a terminal wants of output: colours, lines that end at words, a line that tells how far it is.
//!
//! Where output is no terminal nothing of it changes a byte, but for colours that somebody asks for.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::termios::tcgetwinsize;

use crate::level::Level;

/// Where text for people goes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terminal {
    /// Whether it is a terminal.
    pub is_terminal: bool,
    /// Its width in characters; `None` where lines may have any length.
    pub width: Option<usize>,
    /// Whether colours are wanted.
    pub colour: bool,
}

/// Red, as errors are.
const RED: u8 = 31;
/// Yellow, as what deserves a look.
const YELLOW: u8 = 33;
/// Cyan, as advice.
const CYAN: u8 = 36;

impl Terminal {
    /// A stream, as it is now.
    pub(crate) fn of(stream: &(impl IsTerminal + AsFd)) -> Self {
        let is_terminal = stream.is_terminal();
        let columns = tcgetwinsize(stream).map(|size| usize::from(size.ws_col)).ok();
        // A terminal that does not know its width says 0; in less than 20 columns no line is of use.
        let width = columns.filter(|width| is_terminal && *width > 0).map(|width| width.max(20));
        Self { is_terminal, width, colour: colours(is_terminal, |name| std::env::var_os(name)) }
    }

    /// `text` in green, yellow or red, by how good the news is.
    pub fn paint(self, level: Level, text: &str) -> String {
        self.coloured(
            match level {
                Level::Ok => 32,
                Level::Unknown => CYAN,
                Level::Warning => YELLOW,
                Level::Failure => RED,
            },
            text,
        )
    }

    fn coloured(self, colour: u8, text: &str) -> String {
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A line of the log, with a colour on the word that says what it is.
    pub fn line(self, line: &str) -> String {
        let words = [("error:", RED), ("note:", YELLOW), ("hint:", CYAN)];
        words
            .iter()
            .find_map(|(word, colour)| Some((*word, *colour, line.strip_prefix(word)?)))
            .map_or_else(
                || line.to_owned(),
                |(word, colour, rest)| format!("{}{rest}", self.coloured(colour, word)),
            )
    }

    /// `text` in lines that end at words; all but the first begin with `indent` blanks.
    pub fn wrap(self, text: &str, indent: usize) -> String {
        let Some(width) = self.width else { return text.to_owned() };
        let indent = " ".repeat(indent);
        // A path or a command that is longer than a line is still to be copied whole.
        let options = textwrap::Options::new(width)
            .subsequent_indent(&indent)
            .break_words(false)
            .word_splitter(textwrap::WordSplitter::NoHyphenation);
        textwrap::fill(text, options)
    }
}

/// Whether colours are wanted: `NO_COLOR` forbids them, `CLICOLOR_FORCE` and `FORCE_COLOR` want them
/// everywhere; else a terminal gets them, unless it is a dumb one or `CLICOLOR` is 0.
fn colours(is_terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> bool {
    let set = |name| variable(name).filter(|value| !value.is_empty());
    let on = |name| set(name).is_some_and(|value| value != "0" && value != "false");
    if set("NO_COLOR").is_some() {
        return false;
    }
    let dumb = variable("TERM").is_some_and(|term| term == "dumb");
    let off = variable("CLICOLOR").is_some_and(|value| value == "0");
    on("CLICOLOR_FORCE") || on("FORCE_COLOR") || (is_terminal && !dumb && !off)
}

/// One line on standard error that tells somebody who waits how far it is; nothing where that is no
/// terminal. It is written over again and again, and is gone before the next line of the log.
#[derive(Debug, Clone, Default)]
pub struct Progress(Option<Arc<Line>>);

#[derive(Debug)]
struct Line {
    /// A dumb terminal cannot take a line back: it gets one after another.
    rewrites: bool,
    width: usize,
    shown: Mutex<bool>,
}

impl Progress {
    /// For standard error, as `terminal` describes it.
    pub fn new(terminal: Terminal) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let width = terminal.width.unwrap_or(80);
        let line = Line { rewrites: !dumb, width, shown: Mutex::new(false) };
        Self(terminal.is_terminal.then(|| Arc::new(line)))
    }

    /// Shows `text` in place of what was shown before.
    pub fn show(&self, text: &str) {
        let Some(line) = &self.0 else { return };
        let mut shown = line.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let text: String = text.chars().take(line.width - 1).collect();
        let text = if line.rewrites { format!("\r\x1b[K{text}") } else { format!("{text}\n") };
        // In one piece: a line that is taken away and written again in two flickers.
        let _ = io::stderr().write_all(text.as_bytes());
        *shown = line.rewrites;
    }

    /// Takes away what is shown.
    pub fn clear(&self) {
        let Some(line) = &self.0 else { return };
        let mut shown = line.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut *shown) {
            let _ = io::stderr().write_all(b"\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_follow_the_environment() {
        for (is_terminal, set, expected) in [
            (true, "", true),
            (false, "", false),
            (true, "NO_COLOR=1", false),
            (true, "NO_COLOR=", true),
            (true, "TERM=dumb", false),
            (true, "CLICOLOR=0", false),
            (false, "CLICOLOR_FORCE=1", true),
            (false, "CLICOLOR_FORCE=0", false),
            (false, "FORCE_COLOR=1", true),
            (false, "FORCE_COLOR=0", false),
            (false, "FORCE_COLOR=", false),
            (true, "TERM=dumb FORCE_COLOR=1", true),
            (true, "NO_COLOR=1 FORCE_COLOR=1", false),
        ] {
            let variable = |name: &str| {
                let mut pairs = set.split(' ').filter_map(|pair| pair.split_once('='));
                pairs.find(|(set, _)| *set == name).map(|(_, value)| value.into())
            };
            assert_eq!(colours(is_terminal, variable), expected, "{set}");
        }
    }

    #[test]
    fn lines_end_at_words_and_long_words_stay_whole() {
        let terminal = Terminal { width: Some(12), ..Terminal::default() };
        assert_eq!(
            terminal.wrap("one linux/riscv64 two-three four", 2),
            "one\n  linux/riscv64\n  two-three\n  four"
        );
        assert_eq!(Terminal::default().wrap("one two three four five", 2).lines().count(), 1);
    }

    #[test]
    fn only_the_word_that_says_what_a_line_is_is_coloured() {
        let terminal = Terminal { colour: true, ..Terminal::default() };
        assert_eq!(terminal.line("error: no"), "\x1b[31merror:\x1b[0m no");
        assert_eq!(terminal.line("an error: no"), "an error: no");
        assert_eq!(Terminal::default().line("hint: do"), "hint: do");
    }
}
