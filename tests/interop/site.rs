//! Our gateway on the guest's street: the daemon from a configuration file, with hosts behind its TUN.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use latchway_netns::{Links, Namespace};

use crate::case::{Case, Family, Peer};
use crate::gateway::{Folder, Gateway, PROGRAM};
use crate::guest::Guest;
use crate::{PATIENCE, talk};

pub const TUN: &str = "lw0";
pub const WIRE: &str = "wire";

/// A gateway that runs, and where.
pub struct Site {
    pub inner: Namespace,
    pub gateway: Gateway,
    _folder: Folder,
}

impl Site {
    /// A gateway that is the other end of all these, and the guest told to be theirs.
    pub fn start(guest: &mut Guest, cases: &[Case]) -> Self {
        let outer = Namespace::create("gateway").unwrap();
        guest.join(&outer, WIRE);
        Self::address(&outer);
        let batch: String = cases.iter().map(Case::kernel).collect();
        guest.ip(&batch);
        let peers: Vec<_> = cases.iter().map(Case::peer).collect();
        let transport = cases.iter().any(|case| !case.tunnel);
        Self::run(&outer, &peers, transport)
    }

    /// The same with a gateway that has no file, and is told by `latchway xfrm` what the guest is told by `ip xfrm`.
    pub fn by_script(guest: &mut Guest, cases: &[Case]) -> Self {
        let outer = Namespace::create("gateway").unwrap();
        guest.join(&outer, WIRE);
        Self::address(&outer);
        let batch: String = cases.iter().map(Case::kernel).collect();
        guest.ip(&batch);
        Links::of(&outer).unwrap().wait_ready(WIRE, PATIENCE).unwrap();
        let (inner, folder) = (Namespace::create("hosts").unwrap(), Folder::make());
        let path = inner.proc_path().display().to_string();
        let [v4, v6] = Family::BOTH.map(|family| family.gateway().to_string());
        let words = ["--tun", TUN, "--listen", &v4, "--listen", &v6, "--inner", &path];
        let mut gateway = Gateway::new(&outer, folder.join("gateway")).bare(&words);
        gateway.start();
        let hosts = hosts(cases.iter().any(|case| !case.tunnel));
        let links = Links::of(&inner).unwrap();
        for (address, len) in &hosts {
            links.add_address(TUN, format!("{address}/{len}").parse().unwrap()).unwrap();
        }
        links.set_up(TUN).unwrap();
        links.wait_ready(TUN, PATIENCE).unwrap();
        for case in cases {
            links.add_route(case.ends().0.into(), None, TUN, 0).unwrap();
        }
        gateway.write("script", &cases.iter().map(Case::ours).collect::<String>());
        let hosts: Vec<_> = hosts.into_iter().map(|(address, _)| address).collect();
        talk::serve(&inner, &hosts);
        let site = Self { inner, gateway, _folder: folder };
        let script = site.gateway.folder().join("script");
        site.xfrm(&["--ephemeral-keys", "-batch", &script.display().to_string()]);
        site
    }

    /// Says to the gateway what `ip xfrm` would say to a kernel.
    pub fn xfrm(&self, words: &[&str]) {
        let mut command = Command::new(PROGRAM);
        command.arg("--control").arg(self.gateway.control()).arg("xfrm").args(words);
        let said = command.output().unwrap();
        assert!(said.status.success(), "{words:?}: {said:?}");
    }

    /// Gives a namespace on the street the gateway's addresses.
    pub fn address(outer: &Namespace) {
        let links = Links::of(outer).unwrap();
        for family in Family::BOTH {
            let address = format!("{}/{}", family.gateway(), family.wire());
            links.add_address(WIRE, address.parse().unwrap()).unwrap();
        }
    }

    /// A gateway with these peers on an interface that is up and has its addresses, and hosts that serve echoes. For `transport` mode a host has the
    /// gateway's own address on the wire.
    pub fn run(outer: &Namespace, peers: &[Peer], transport: bool) -> Self {
        Links::of(outer).unwrap().wait_ready(WIRE, PATIENCE).unwrap();
        let hosts = hosts(transport);
        let folder = Folder::make();
        let gateway = Gateway::new(outer, folder.join("gateway"));
        let mut site = Self { inner: Namespace::create("hosts").unwrap(), gateway, _folder: folder };
        let state = site.gateway.folder().join("state");
        let enrolled = Command::new(PROGRAM).arg("enrol").arg(&state).output().unwrap();
        assert!(enrolled.status.success(), "{enrolled:?}");
        site.gateway.configure(&site.text(peers, &hosts));
        for (name, key) in peers.iter().flat_map(|peer| &peer.files) {
            site.gateway.write(name, key);
        }
        site.gateway.start();
        let hosts: Vec<_> = hosts.into_iter().map(|(address, _)| address).collect();
        talk::serve(&site.inner, &hosts);
        site
    }

    /// The configuration.
    fn text(&self, peers: &[Peer], hosts: &[(IpAddr, u8)]) -> String {
        let addresses: Vec<_> = hosts.iter().map(|(address, len)| format!("{address}/{len}")).collect();
        let mut listen =
            Family::BOTH.map(|family| SocketAddr::new(family.gateway(), 4500).to_string()).to_vec();
        for family in Family::BOTH {
            if peers.iter().any(|peer| peer.native && peer.address.is_ipv4() == family.gateway().is_ipv4()) {
                listen.push(format!("native:{}", family.gateway()));
            }
        }
        let peers: String = peers.iter().map(|peer| &*peer.text).collect();
        format!(
            "name = \"interop\"\nidentity = \"us.example\"\ninner = {{ path = \"{}\" }}\naddresses = {addresses:?}\n\
             listen = {listen:?}\ncontrol = \"control.sock\"\nstate = \"state\"\ncounter_mode_static = true\n\n\
             [tun]\nname = \"{TUN}\"\n\n{peers}",
            self.inner.proc_path().display(),
        )
    }
}

/// The addresses of the hosts behind our gateway, each with its network. For transport mode a host has the gateway's own
/// address on the wire.
fn hosts(transport: bool) -> Vec<(IpAddr, u8)> {
    let mut hosts = Family::BOTH.map(|family| (family.host(), family.inner())).to_vec();
    if transport {
        hosts.extend(Family::BOTH.map(|family| (family.gateway(), family.single())));
    }
    hosts
}
