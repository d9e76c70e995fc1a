//! The crate as its users have it: texts in, configurations and reports out.

mod accepted;
mod refused;

use crate::*;
