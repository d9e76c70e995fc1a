//! What the demo needs of the machine, tried before anything is made, and what to do where it is missing.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind};

use latchway_netns::Namespace;
use latchway_netns::user::{self, Entered};

/// Something is missing.
#[derive(Debug, thiserror::Error)]
pub enum Unmet {
    /// No user namespace.
    #[error(
        "needs the right to make network namespaces, and has neither root's nor that of a user namespace of its own: \
         {0}"
    )]
    UserNamespace(latchway_netns::Error),
    /// No network namespace.
    #[error("making a network namespace failed: {source}. {advice}")]
    NetworkNamespace {
        /// What the system said.
        source: latchway_netns::Error,
        /// What to do.
        advice: String,
    },
    /// No TUN.
    #[error("opening /dev/net/tun failed: {source}. {advice}")]
    Tun {
        /// What the system said.
        source: io::Error,
        /// What to do.
        advice: &'static str,
    },
}

/// Takes what privilege there is to be had, and tries what the demo will do. To be called before any thread exists.
pub fn check() -> Result<Entered, Unmet> {
    let privilege = user::enter_user_namespace_if_needed().map_err(Unmet::UserNamespace)?;
    Namespace::create("trial")
        .map_err(|source| Unmet::NetworkNamespace { source, advice: user::advice() })?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .map_err(|source| Unmet::Tun { advice: tun_advice(source.kind()), source })?;
    Ok(privilege)
}

const fn tun_advice(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => {
            "Load the module (modprobe tun), or hand the device to the container (--device /dev/net/tun)."
        }
        ErrorKind::PermissionDenied => {
            "Let users open it (chmod 0666 /dev/net/tun, the usual mode: what a TUN may do is checked elsewhere), or \
             allow the device in the container's device rules."
        }
        _ => "Is the kernel built with CONFIG_TUN, and is the module loaded (modprobe tun)?",
    }
}
