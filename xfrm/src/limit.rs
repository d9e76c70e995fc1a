//! LIMIT: lifetimes of states and policies.

use latchway_control::XfrmLimits;

use crate::error::{GrammarError, Quoted};
use crate::number::number;
use crate::words::Words;

/// One LIMIT, behind its keyword.
pub(crate) fn limit(limits: &mut XfrmLimits, words: &mut Words<'_>) -> Result<(), GrammarError> {
    let word = words.need(KINDS)?;
    let (place, none) = match word {
        "time-soft" => (&mut limits.time_soft, 0),
        "time-hard" => (&mut limits.time_hard, 0),
        "time-use-soft" => (&mut limits.time_use_soft, 0),
        "time-use-hard" => (&mut limits.time_use_hard, 0),
        "byte-soft" => (&mut limits.byte_soft, u64::MAX),
        "byte-hard" => (&mut limits.byte_hard, u64::MAX),
        "packet-soft" => (&mut limits.packet_soft, u64::MAX),
        "packet-hard" => (&mut limits.packet_hard, u64::MAX),
        _ => return Err(GrammarError::Wrong { word: Quoted::new(word), wanted: KINDS }),
    };
    // What the kernel takes for no limit is none.
    let value = words.value("a number", number::<u64>)?;
    *place = (value != none).then_some(value);
    Ok(())
}

const KINDS: &str =
    "time-soft, time-hard, time-use-soft, time-use-hard, byte-soft, byte-hard, packet-soft or packet-hard";
