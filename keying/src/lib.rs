//! The key manager: SPD, PAD, SAD metadata, and where SAs come from.
