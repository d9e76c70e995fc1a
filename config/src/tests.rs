//! The crate as its users have it: texts in, configurations and reports out.

mod accepted;
mod changes;
mod keys;
mod refused;

use crate::*;
