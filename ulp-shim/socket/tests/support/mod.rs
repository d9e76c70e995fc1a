//! What tests of this crate stand on.

pub mod fake_app;
