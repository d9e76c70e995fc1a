//! Placeholder of the truth tables.
