//! What a capture remembers: the latest frames within bounds, and counts and pattern hits of all of them.

use std::collections::VecDeque;

use bytes::Bytes;
use memchr::memmem::Finder;

use super::Frame;
use crate::{Error, Result};

/// What a capture searches for and keeps.
#[derive(Clone, Debug)]
pub struct Options {
    /// Byte strings to look for in every frame, whole, whether kept or not.
    pub patterns: Vec<Vec<u8>>,
    /// How many bytes of each frame to keep.
    pub snap: usize,
    /// How many frames to keep; the oldest go first.
    pub frames: usize,
    /// How many bytes the kernel may hold when the capture falls behind; what is more is dropped, and counted.
    /// Beyond `net.core.rmem_max` (208 KiB unless raised) the kernel gives it only to root of the machine, not to root
    /// of a user namespace: there, a bulk transfer may well outrun a capture.
    pub receive_buffer: usize,
}

/// A position in a capture, between two frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

/// What a capture saw, from its start to its end.
#[derive(Clone, Debug)]
pub struct Captured {
    /// The frames kept: the latest.
    pub frames: Vec<Frame>,
    /// How many frames were seen, kept or not.
    pub total: u64,
    /// How many bytes they had.
    pub bytes: u64,
    /// How many the kernel dropped unseen.
    pub dropped: u64,
    /// How many were too long to be searched whole.
    pub truncated: u64,
    /// In how many frames each of [`Options::patterns`] occurred, in that order.
    pub pattern_hits: Vec<u64>,
}

/// A capture's record.
#[derive(Debug)]
pub(super) struct Record {
    options: Options,
    finders: Vec<Finder<'static>>,
    kept: VecDeque<Frame>,
    total: u64,
    bytes: u64,
    dropped: u64,
    truncated: u64,
    pattern_hits: Vec<u64>,
    failure: Option<String>,
}

impl Options {
    /// The default, and a search for these patterns.
    pub fn searching(patterns: &[&[u8]]) -> Self {
        Self { patterns: patterns.iter().map(|pattern| pattern.to_vec()).collect(), ..Self::default() }
    }
}

impl Default for Options {
    /// No pattern; 2 KiB of each of the latest 16384 frames; 64 MiB in the kernel, as far as it allows.
    fn default() -> Self {
        Self { patterns: Vec::new(), snap: 2048, frames: 16384, receive_buffer: 64 << 20 }
    }
}

impl Captured {
    /// The frames, all of them: an error if some were dropped, or not kept.
    pub fn complete(&self) -> Result<&[Frame]> {
        let kept = u64::try_from(self.frames.len()).unwrap_or(u64::MAX);
        if self.dropped == 0 && self.truncated == 0 && kept == self.total {
            return Ok(&self.frames);
        }
        let Self { total, dropped, truncated, .. } = self;
        Err(Error::Incomplete(format!("{total} seen, {kept} kept, {dropped} dropped, {truncated} cut off")))
    }
}

impl Record {
    pub(super) fn new(options: Options) -> Self {
        let finders: Vec<_> =
            options.patterns.iter().map(|pattern| Finder::new(pattern).into_owned()).collect();
        Self {
            pattern_hits: vec![0; finders.len()],
            finders,
            options,
            kept: VecDeque::new(),
            total: 0,
            bytes: 0,
            dropped: 0,
            truncated: 0,
            failure: None,
        }
    }

    pub(super) fn add(&mut self, mut frame: Frame, bytes: &[u8], truncated: bool) {
        for (finder, hits) in self.finders.iter().zip(&mut self.pattern_hits) {
            *hits += u64::from(finder.find(bytes).is_some());
        }
        self.total += 1;
        self.bytes += u64::try_from(frame.length).unwrap_or_default();
        self.truncated += u64::from(truncated);
        while self.kept.len() >= self.options.frames.max(1) {
            self.kept.pop_front();
        }
        frame.bytes = Bytes::copy_from_slice(bytes.get(..self.options.snap).unwrap_or(bytes));
        self.kept.push_back(frame);
    }

    pub(super) fn add_dropped(&mut self, frames: u32) {
        self.dropped += u64::from(frames);
    }

    pub(super) fn fail(&mut self, reason: String) {
        self.failure = Some(reason);
    }

    pub(super) fn failure(&self) -> Result<()> {
        self.failure.clone().map_or(Ok(()), |reason| Err(Error::Incomplete(reason)))
    }

    pub(super) fn mark(&self) -> Mark {
        Mark(self.total)
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The frames since a mark, if all of them are still kept.
    pub(super) fn since(&self, mark: Mark) -> Result<impl Iterator<Item = &Frame>> {
        let wanted = usize::try_from(self.total.saturating_sub(mark.0)).unwrap_or(usize::MAX);
        let skipped = self.kept.len().checked_sub(wanted);
        let skipped = skipped.ok_or_else(|| {
            Error::Incomplete(format!("{wanted} frames since the mark, the latest {} kept", self.kept.len()))
        })?;
        Ok(self.kept.iter().skip(skipped))
    }

    /// An error if a frame was missed, wholly or in part.
    pub(super) fn complete(&self) -> Result<()> {
        if self.dropped == 0 && self.truncated == 0 {
            return Ok(());
        }
        Err(Error::Incomplete(format!("{} frames dropped, {} cut off", self.dropped, self.truncated)))
    }

    pub(super) fn contains(&self, pattern: &[u8]) -> Result<bool> {
        let registered = self.options.patterns.iter().position(|known| known == pattern);
        let found = match registered.and_then(|position| self.pattern_hits.get(position)) {
            Some(hits) => *hits > 0,
            None => self.kept_contain(pattern)?,
        };
        if !found {
            self.complete()?;
        }
        Ok(found)
    }

    /// Whether a pattern occurs in the kept bytes; an error if it does not, but could in what was not kept.
    fn kept_contain(&self, pattern: &[u8]) -> Result<bool> {
        let finder = Finder::new(pattern);
        let found = self.kept.iter().any(|frame| finder.find(&frame.bytes).is_some());
        let kept_all = u64::try_from(self.kept.len()).is_ok_and(|kept| kept == self.total);
        let kept_whole = self.kept.iter().all(|frame| frame.bytes.len() == frame.length);
        if found || kept_all && kept_whole {
            return Ok(found);
        }
        Err(Error::Incomplete(
            "not every frame was kept whole; name the pattern when the capture starts".to_owned(),
        ))
    }

    pub(super) fn captured(&self) -> Captured {
        Captured {
            frames: self.kept.iter().cloned().collect(),
            total: self.total,
            bytes: self.bytes,
            dropped: self.dropped,
            truncated: self.truncated,
            pattern_hits: self.pattern_hits.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Direction, frame::Linktype},
        *,
    };

    #[test]
    fn absence_is_not_claimed_after_a_loss() {
        let mut record = Record::new(Options::searching(&[b"here", b"absent"]));
        add(&mut record, b"it is here");
        assert!(matches!(record.contains(b"absent"), Ok(false)));
        record.add_dropped(1);
        assert!(matches!(record.contains(b"here"), Ok(true)));
        assert!(matches!(record.contains(b"absent"), Err(Error::Incomplete(_))));
        assert!(record.captured().complete().is_err());
    }

    #[test]
    fn memory_is_bounded_and_what_was_forgotten_is_said() {
        let mut record = Record::new(Options { snap: 2, frames: 3, ..Options::default() });
        let start = record.mark();
        for byte in 0..5 {
            add(&mut record, &[byte; 4]);
        }
        assert!(record.since(start).is_err());
        assert_eq!(record.since(Mark(2)).map(Iterator::count).ok(), Some(3));
        assert_eq!(record.since(record.mark()).map(Iterator::count).ok(), Some(0));
        let captured = record.captured();
        assert_eq!((captured.total, captured.bytes, captured.frames.len()), (5, 20, 3));
        assert!(captured.frames.iter().all(|frame| frame.bytes.len() == 2 && frame.length == 4));
    }

    fn add(record: &mut Record, bytes: &[u8]) {
        let frame = Frame::parse(bytes, bytes.len(), Linktype::Ip, Direction::Inbound);
        record.add(frame, bytes, false);
    }
}
