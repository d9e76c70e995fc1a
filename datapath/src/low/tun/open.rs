//! Opening the TUN: which crate, which offloads, and what the kernel's refusals mean.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};

use super::ioctl::{self, CHECKSUM, TSO, USO};
use super::{Backend, BackendChoice, Persistence, TunConfig, TunError};

/// A descriptor that is attached to its interface.
pub(super) struct Opened {
    pub(super) device: OwnedFd,
    pub(super) name: String,
    pub(super) backend: Backend,
}

/// Opens what `config` asks for, with the mask set, non-blocking.
pub(super) fn open(config: &TunConfig) -> Result<Opened, TunError> {
    check_name(&config.name)?;
    check_node(NODE)?;
    let opened = match config.backend {
        BackendChoice::Offload => open_offload(config),
        BackendChoice::Plain => open_plain(config),
        BackendChoice::Auto => open_offload(config).or_else(|error| match error {
            TunError::System { .. } => open_plain(config),
            final_word => Err(final_word),
        }),
    }?;
    let device = opened.device.as_fd();
    let system = |what, source| TunError::System { name: config.name.clone(), what, source };
    if let Some(owner) = config.owner {
        ioctl::set_owner(device, owner).map_err(|error| system("give it to its owner", error))?;
    }
    let persist = match config.persistence {
        Persistence::AsFound => Ok(()),
        Persistence::Persistent => ioctl::set_persist(device, true),
        Persistence::Transient => ioctl::set_persist(device, false),
    };
    persist.map_err(|error| system("set whether it persists", error))?;
    rustix::io::ioctl_fionbio(device, true).map_err(|errno| system("make it non-blocking", errno.into()))?;
    Ok(opened)
}

fn open_offload(config: &TunConfig) -> Result<Opened, TunError> {
    // Whether the interface is up, and its addresses, are not ours to change.
    let builder = tun_rs::DeviceBuilder::new().inherit_enable_state().name(&config.name).offload(true);
    let device = builder
        .build_sync()
        .map_err(|error| TunError::attach(config, "attach with a virtio header", error))?;
    let name = device.name().map_err(|source| TunError::System {
        name: config.name.clone(),
        what: "read back the name",
        source,
    })?;
    let backend = negotiate(device.as_fd());
    Ok(Opened { device: owned(device), name, backend })
}

/// The most the kernel grants. A mask that is refused leaves the one before, so the last resort is set explicitly too.
fn negotiate(device: BorrowedFd<'_>) -> Backend {
    let grants = [
        (CHECKSUM | TSO | USO, Backend::Offload { checksum: true, tso: true, uso: true }),
        (CHECKSUM | TSO, Backend::Offload { checksum: true, tso: true, uso: false }),
        (CHECKSUM, Backend::Offload { checksum: true, tso: false, uso: false }),
    ];
    let granted = grants.into_iter().find(|(mask, _)| ioctl::set_offload(device, *mask).is_ok());
    granted.map_or_else(
        || {
            // A kernel without any of these has none to clear.
            let _ = ioctl::set_offload(device, 0);
            Backend::Offload { checksum: false, tso: false, uso: false }
        },
        |(_, backend)| backend,
    )
}

fn open_plain(config: &TunConfig) -> Result<Opened, TunError> {
    let device = tun_tap::Iface::without_packet_info(&config.name, tun_tap::Mode::Tun)
        .map_err(|error| TunError::attach(config, "attach", error))?;
    let name = device.name().to_owned();
    let device = owned(device);
    // T28: a mask left by another process would make the kernel hand out super-packets without their header.
    ioctl::set_offload(device.as_fd(), 0).map_err(|source| TunError::System {
        name: config.name.clone(),
        what: "clear the offloads it may have from before",
        source,
    })?;
    Ok(Opened { device, name, backend: Backend::Plain })
}

#[expect(unsafe_code, reason = "neither crate gives its descriptor away as an OwnedFd")]
fn owned(device: impl IntoRawFd) -> OwnedFd {
    // SAFETY: `into_raw_fd` gives up the descriptor, which is open and from here on nobody else's.
    unsafe { OwnedFd::from_raw_fd(device.into_raw_fd()) }
}

fn check_name(name: &str) -> Result<(), TunError> {
    let fits = (1..=MAX_NAME_LEN).contains(&name.len());
    if fits
        && !name.bytes().any(|byte| byte == b'/' || byte == b':' || byte <= b' ')
        && name != "."
        && name != ".."
    {
        Ok(())
    } else {
        Err(TunError::Name { name: name.to_owned() })
    }
}

/// Opened once by itself, to tell the device node's refusals from the interface's.
fn check_node(node: &str) -> Result<(), TunError> {
    match OpenOptions::new().read(true).write(true).open(node) {
        Ok(_) => Ok(()),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::PermissionDenied => TunError::NodePermission,
            _ => TunError::NoNode { source: error },
        }),
    }
}

const NODE: &str = "/dev/net/tun";
/// IFNAMSIZ without its terminating zero.
const MAX_NAME_LEN: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
    use std::os::unix::fs::PermissionsExt;
    use std::{env, fs, process, thread};

    #[test]
    fn a_device_node_that_is_not_there_or_not_for_us_is_told_from_other_refusals() {
        let missing = check_node("/nowhere/net/tun").unwrap_err();
        assert!(matches!(missing, TunError::NoNode { .. }), "{missing:?}");
        assert!(missing.to_string().contains("modprobe tun"), "{missing}");

        let node = env::temp_dir().join(format!("latchway-node-{}", process::id()));
        fs::write(&node, []).unwrap();
        fs::set_permissions(&node, fs::Permissions::from_mode(0o000)).unwrap();
        let path = node.to_str().unwrap().to_owned();
        // Capabilities are a thread's own.
        let forbidden = thread::spawn(move || {
            let sets = capabilities(None).unwrap();
            let effective = sets.effective - CapabilitySet::DAC_OVERRIDE;
            set_capabilities(None, CapabilitySets { effective, ..sets }).unwrap();
            check_node(&path).unwrap_err()
        });
        let forbidden = forbidden.join();
        fs::remove_file(&node).unwrap();
        let forbidden = forbidden.unwrap();
        assert!(matches!(forbidden, TunError::NodePermission), "{forbidden:?}");
        assert!(forbidden.to_string().contains("0666"), "{forbidden}");
    }
}
