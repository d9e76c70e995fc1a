//! The upper-layer side inside the gateway: flows, the Latch Database, enforcement.
