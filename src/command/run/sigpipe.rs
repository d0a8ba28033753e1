//! Whether this process was started with SIGPIPE ignored: programs that `run` starts are to get it so, too.
//!
//! Rust's runtime ignores SIGPIPE before `main`, so it is asked before that. Nothing of Rust's runtime
//! is used there, as nothing is promised of it then: rustix makes the system calls itself.

#![expect(unsafe_code, reason = "there is no other way to run before `main`")]

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::read;

use crate::root::OWN_STAT;

static IGNORED: AtomicBool = AtomicBool::new(false);

// SAFETY: the C library calls what stands in this section before `main`, as a function that needs no
// arguments and returns nothing, and `look` is one. It needs nothing that `main` would first have to set up.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    // A line of some fifty numbers.
    let mut line = [0; 2048];
    let Ok(stat) = open(OWN_STAT, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) else { return };
    let Ok(len) = read(&stat, &mut line) else { return };
    IGNORED.store(is_ignored(&line[..len]), Ordering::Relaxed);
}

/// Whether our caller ignored SIGPIPE. Where /proc was not mounted it is taken not to have.
pub(super) fn was_ignored() -> bool {
    IGNORED.load(Ordering::Relaxed)
}

/// As the line of `/proc/PID/stat` has it.
fn is_ignored(stat: &[u8]) -> bool {
    /// Of the fields behind the program's name, which may have blanks and brackets in it.
    const SIGIGNORE: usize = 30;
    let fields = stat.rsplit(|byte| *byte == b')').next().unwrap_or_default().trim_ascii();
    let field = fields.split(|byte| *byte == b' ').nth(SIGIGNORE).unwrap_or_default();
    let set = std::str::from_utf8(field).ok().and_then(|field| field.parse::<u64>().ok());
    set.is_some_and(|set| set >> (Signal::SIGPIPE as u32 - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::is_ignored;

    #[test]
    fn the_field_is_found_whatever_the_program_is_called() {
        let line = |ignored| format!("7 (a) b (c 1 2) S {}{ignored} 0 0\n", "3 ".repeat(29));
        assert!(is_ignored(line(4096).as_bytes()));
        assert!(is_ignored(line(u64::from(u32::MAX)).as_bytes()));
        assert!(!is_ignored(line(2048 + 8192).as_bytes()));
        assert!(!is_ignored(b"7 (a) S 4096"));
        assert!(!is_ignored(b""));
    }
}
