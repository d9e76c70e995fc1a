//! Lists, told page by page: neither the gateway nor its caller holds more than a page of a million rows.

use std::mem;
use std::ops::ControlFlow;

use latchway_control::{FrameError, Page};
use serde::Serialize;

use crate::gateway::operator::{Answer, Rows};
use crate::gateway::serve::conversation::Back;

/// Rows of one reply.
pub const PAGE: usize = 500;

/// What was taken and not told yet.
struct Telling<'a, 'b, P: Page> {
    back: &'a mut Back<'b>,
    page: Vec<P::Row>,
    /// Rows that may still be taken.
    left: u64,
    truncated: bool,
    failed: Option<FrameError>,
}

/// Tells the rows that `walk` gives: all of them where there may be more replies, else a page.
pub fn pages<P: Page + From<Vec<P::Row>> + Serialize>(
    back: &mut Back<'_>,
    limit: Option<u64>,
    walk: impl FnOnce(Rows<'_, P::Row>) -> Answer<()>,
) -> Result<(), FrameError> {
    let most = if back.more { u64::MAX } else { PAGE as u64 };
    let left = limit.unwrap_or(u64::MAX).min(most);
    let mut telling = Telling::<P> { back, page: Vec::new(), left, truncated: false, failed: None };
    let walked = walk(&mut |row| telling.take(row));
    let Telling { back, page, truncated, failed, .. } = telling;
    match (failed, walked) {
        (Some(error), _) => Err(error),
        (None, Err(failure)) => back.fail(&failure),
        (None, Ok(())) => {
            let mut last = P::from(page);
            last.set_truncated(truncated);
            back.last(&last)
        }
    }
}

impl<P: Page + From<Vec<P::Row>> + Serialize> Telling<'_, '_, P> {
    fn take(&mut self, row: P::Row) -> ControlFlow<()> {
        if self.left == 0 {
            self.truncated = true;
            return ControlFlow::Break(());
        }
        self.left -= 1;
        if self.page.len() >= PAGE
            && let Err(error) = self.back.continued(&P::from(mem::take(&mut self.page)))
        {
            self.failed = Some(error);
            return ControlFlow::Break(());
        }
        self.page.push(row);
        ControlFlow::Continue(())
    }
}
