//! Moves batches of packets through the IPsec boundary.
