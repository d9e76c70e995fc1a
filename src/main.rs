//! Latchway: an IPsec gateway in userspace. The daemon and its command line.

fn main() {}
