//! Texts of others, as they may be shown: names of entries and files, and what users type.

/// Text that may hold anything, with what would command a terminal escaped.
pub(crate) fn plain(text: &str) -> String {
    let escape =
        |c: char| if c.is_control() { c.escape_unicode().collect() } else { c.to_string() };
    text.chars().map(escape).collect()
}

/// User input as it may be repeated in a message: one line, at most 60 characters.
pub(crate) fn shorten(text: &str) -> String {
    let mut line: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_input_is_repeated_in_one_short_line() {
        assert_eq!(shorten(&"x\n".repeat(5000)).chars().count(), 91);
    }

    #[test]
    fn nothing_commands_a_terminal() {
        assert_eq!(plain("a\x1b[2J\nb"), "a\\u{1b}[2J\\u{a}b");
    }
}
