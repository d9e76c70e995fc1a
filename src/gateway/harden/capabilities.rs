//! Capabilities: all are given up but those that a running gateway uses.

use caps::errors::CapsError;
use caps::{CapSet, Capability, CapsHashSet};

/// Takes from whatever program may be started later every capability that this one has or could have.
pub(super) fn bound() -> Result<(), CapsError> {
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        for capability in caps::runtime::thread_all_supported() {
            caps::drop(None, CapSet::Bounding, capability)?;
        }
    }
    if caps::runtime::ambient_set_supported().is_ok() {
        caps::clear(None, CapSet::Ambient)?;
    }
    caps::clear(None, CapSet::Inheritable)
}

/// Gives up what the gateway does not use, of what it has. `reads` keeps the right to read any file. Returns what is left.
pub(super) fn keep_only(reads: bool) -> Result<Vec<String>, CapsError> {
    let kept = [(Capability::CAP_NET_ADMIN, true), (Capability::CAP_DAC_READ_SEARCH, reads)];
    let kept: CapsHashSet =
        kept.into_iter().filter_map(|(capability, keep)| keep.then_some(capability)).collect();
    let has = caps::read(None, CapSet::Permitted)?;
    let left: CapsHashSet = has.intersection(&kept).copied().collect();
    // What is effective must be permitted, so it shrinks first; a change of users has cleared it, so it is set anew.
    caps::clear(None, CapSet::Effective)?;
    caps::set(None, CapSet::Permitted, &left)?;
    caps::set(None, CapSet::Effective, &left)?;
    let mut names: Vec<_> = left.iter().map(ToString::to_string).collect();
    names.sort_unstable();
    Ok(names)
}
