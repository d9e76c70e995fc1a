//! Waiting for a condition, never for luck: every wait has a deadline and says what it waited for.

use std::thread;
use std::time::{Duration, Instant};

use super::failure::Failure;

/// How long anything that should happen at once may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(10);

/// Looks again and again until `probe` finds what is awaited.
pub fn wait_for<T>(
    awaited: &str,
    mut probe: impl FnMut() -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = probe()? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(Failure::unmet(awaited, format!("nothing of that within {SOON:?}")));
        }
        thread::sleep(INTERVAL);
    }
}

const INTERVAL: Duration = Duration::from_millis(3);
