//! What a gateway reads and writes: the TUN, the wire sockets, the bypass port, and what ends connections. Opened with
//! whatever privilege that takes, and kept open.

use std::io;

use latchway_config::Listen;
use latchway_datapath::low::tun::{Persistence, TunConfig, TunQueue};
use latchway_datapath::low::wire::{NativeSocket, Wire, WireSocket};
use latchway_datapath::worker::{Devices, MAX_WIRES};
use latchway_netns::links::Links;
use latchway_ulp_shim::{SocketDestroyer, SocketOwners, SocketsGone};

use crate::gateway::GatewayError;
use crate::gateway::app::{Inner, Spaces, run_of_system};
use crate::gateway::plan::{GSO_MAX_SIZE, Plan, TunSettings};

/// The open ports of a gateway.
pub struct Ports {
    /// What packets come from and go to.
    pub devices: Devices,
    /// Ends connections in the inner namespace.
    pub sockets: SocketDestroyer,
    /// The sockets that applications may ask about, and who says whose a flow is; or why that cannot be known.
    pub applications: Result<(Inner, SocketOwners), GatewayError>,
}

impl Ports {
    /// Opens what the plan names.
    ///
    /// # Errors
    /// [`GatewayError`], which says what could not be had.
    pub fn open(plan: &Plan) -> Result<Self, GatewayError> {
        let wires = bind(plan)?;
        let tun = open_tun(plan)?;
        let bypass = plan.bypass.as_deref().map(|name| open_bypass(plan, name)).transpose()?;
        let sockets = plan.inner.run(SocketDestroyer::open)??;
        // Applications go without where that cannot be had, and packets do not.
        Ok(Self {
            applications: open_applications(plan, tun.name()),
            devices: Devices { tun, bypass, wires },
            sockets,
        })
    }
}

/// Opens what says whose a flow is that comes by the TUN of this name, and what tells when a socket is gone.
fn open_applications(plan: &Plan, tun: &str) -> Result<(Inner, SocketOwners), GatewayError> {
    // First, for it is asked for where nothing else can be had, too.
    let run = run_of_system()?;
    let spaces = Spaces::of(&plan.inner, tun)?;
    let device = Links::of(&plan.inner)?.index(tun)?;
    let open = || -> io::Result<_> {
        let owners = || SocketOwners::open(spaces.inner(), device);
        // One is the worker's, which waits for nobody.
        Ok((SocketsGone::open()?, owners()?, owners()?))
    };
    let (ends, owners, workers) = plan.inner.run(open)??;
    Ok((Inner { spaces, ends, owners, run }, workers))
}

fn bind(plan: &Plan) -> Result<Vec<Wire>, GatewayError> {
    if plan.listen.len() > MAX_WIRES {
        return Err(GatewayError::TooManyWires(plan.listen.len()));
    }
    let open = |listen: &Listen| match *listen {
        Listen::Udp(address) => WireSocket::bind(address).map(Wire::from),
        Listen::Native(address) => NativeSocket::bind(address).map(Wire::from),
    };
    let bind = || plan.listen.iter().map(open).collect::<Result<Vec<_>, _>>();
    Ok(plan.outer.run(bind)??)
}

/// Opens the TUN, and gives it what it is to have.
fn open_tun(plan: &Plan) -> Result<TunQueue, GatewayError> {
    let wanted = &plan.tun;
    let config = TunConfig {
        backend: wanted.backend,
        persistence: if wanted.persistent { Persistence::Persistent } else { Persistence::AsFound },
        ..TunConfig::new(wanted.name.clone())
    };
    let tun = plan.inner.run(|| TunQueue::open(&config))??;
    if let Some(settings) = &wanted.settings {
        give(settings, &Links::of(&plan.inner)?, tun.name())?;
    }
    Ok(tun)
}

fn give(settings: &TunSettings, links: &Links, name: &str) -> Result<(), GatewayError> {
    links.set_gso_max_size(name, GSO_MAX_SIZE)?;
    if settings.addresses.is_empty() {
        return Ok(());
    }
    links.quiet_ipv6(name)?;
    links.set_mtu(name, u32::from(settings.mtu))?;
    links.set_up(name)?;
    for &address in &settings.addresses {
        links.add_address(name, address)?;
    }
    for &route in &settings.routes {
        links.add_route(route, None, name, 0)?;
    }
    Ok(())
}

/// Opens the port by which BYPASS traffic leaves and enters.
fn open_bypass(plan: &Plan, name: &str) -> Result<TunQueue, GatewayError> {
    let config = TunConfig { backend: plan.tun.backend, ..TunConfig::new(name) };
    Ok(plan.outer.run(|| TunQueue::open(&config))??)
}
