//! What the key manager as a whole must hold to, row by row.

mod bundles;
mod change;
mod commit;
mod conflicts;
mod explain;
mod identity;
mod install;
mod latching;
mod model;
mod moves;
mod policy;
mod propose;
mod rekey;
mod restart;
mod resumption;
mod revise;
mod service;
mod singles;
mod thread;
