//! send_batch
