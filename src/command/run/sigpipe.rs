//! Whether this process was started with SIGPIPE ignored: programs that `run` starts are to get it so, too.
//!
//! Rust's runtime ignores SIGPIPE before `main`, so it is asked before that. Nothing of Rust's runtime
//! is used there, as nothing is promised of it then.

#![expect(unsafe_code, reason = "there is no other way to run before `main`")]

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;

static IGNORED: AtomicBool = AtomicBool::new(false);

// SAFETY: the C library calls what stands in this section before `main`, as a function that needs no
// arguments and returns nothing, and `look` is one. It needs nothing that `main` would first have to set up.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    let mut found = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asked what is done about a signal, without a word on what is to be done, the C library changes nothing but
    // `found`, which is valid also where it does not.
    let found = unsafe {
        libc::sigaction(libc::SIGPIPE, std::ptr::null(), found.as_mut_ptr());
        found.assume_init()
    };
    IGNORED.store(found.sa_sigaction == libc::SIG_IGN, Ordering::Relaxed);
}

/// Whether our caller ignored SIGPIPE.
pub(super) fn was_ignored() -> bool {
    IGNORED.load(Ordering::Relaxed)
}
