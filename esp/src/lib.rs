//! Bytes to protected bytes: ESP, suites, replay windows, extended sequence numbers.
