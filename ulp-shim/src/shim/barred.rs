//! Whether a latch may be born: not beside SAs that would conflict with it, nor before a policy that would break it
//! (latching-04 section 2.1; L-71, L-74).
//!
//! What is pending is in the snapshot, and no latch is looked for before every worker is on that snapshot; so a latch is
//! refused here, or found there.

use latchway_datapath::drop::DropReason;
use latchway_datapath::flow::FlowKey;
use latchway_datapath::latching::LatchTerms;
use latchway_datapath::ulp::Context;
use latchway_tagging::ClassId;

/// Refuses a latch of `class` that the snapshot stands against.
///
/// # Errors
/// [`DropReason::LatchBarred`]
pub(super) fn check(
    flow: &FlowKey,
    class: ClassId,
    terms: LatchTerms,
    context: &Context<'_>,
) -> Result<(), DropReason> {
    if context.snapshot.bars(flow, class, terms.model) { Err(DropReason::LatchBarred) } else { Ok(()) }
}
