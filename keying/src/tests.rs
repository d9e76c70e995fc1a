//! What the key manager as a whole must hold to, row by row.

mod commit;
mod install;
mod model;
mod propose;
mod rekey;
mod thread;
