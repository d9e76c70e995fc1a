//! The control protocol's types.
