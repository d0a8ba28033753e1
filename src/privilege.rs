//! Gives up rights: what has been done with them needs them no more, and what comes next reads what others wrote.

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs,
};

/// To read what others may not read.
pub(crate) const READ_ALL: CapabilitySet = CapabilitySet::DAC_READ_SEARCH;

/// What it takes to install: to mount, to enter a root, and to write, for somebody who may be refused as root.
pub(crate) const INSTALL: CapabilitySet = CapabilitySet::SYS_ADMIN
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER);

/// Gives up all capabilities but these, for good: nothing that this process starts gets them back, by setuid
/// neither. Threads that run already keep theirs, so there must be none.
///
/// That it is not possible is no fault: somebody else has taken the right to do so away, and with it others.
pub(crate) fn keep(kept: CapabilitySet) {
    let _ = set_no_new_privs(true);
    if let Ok(CapabilitySets { effective, permitted, .. }) = capabilities(None) {
        let (effective, permitted) = (effective & kept, permitted & kept);
        let inheritable = CapabilitySet::empty();
        let _ = set_capabilities(None, CapabilitySets { effective, permitted, inheritable });
    }
}
