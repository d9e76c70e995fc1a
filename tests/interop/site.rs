//! Our gateway on the guest's street: the daemon from a configuration file, with hosts behind its TUN.

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
        let batch: String = cases.iter().map(Case::kernel).collect();
        guest.ip(&batch);
        let peers: Vec<_> = cases.iter().map(Case::peer).collect();
        Self::run(&outer, &peers)
    }

    /// A gateway with these peers on an interface that is up, and hosts that serve echoes.
    pub fn run(outer: &Namespace, peers: &[Peer]) -> Self {
        let links = Links::of(outer).unwrap();
        for family in Family::BOTH {
            let address = format!("{}/{}", family.gateway(), family.wire());
            links.add_address(WIRE, address.parse().unwrap()).unwrap();
        }
        links.wait_ready(WIRE, PATIENCE).unwrap();
        let folder = Folder::make();
        let gateway = Gateway::new(outer, folder.join("gateway"));
        let mut site = Self { inner: Namespace::create("hosts").unwrap(), gateway, _folder: folder };
        let state = site.gateway.folder().join("state");
        let enrolled = Command::new(PROGRAM).arg("enrol").arg(&state).output().unwrap();
        assert!(enrolled.status.success(), "{enrolled:?}");
        site.gateway.configure(&site.text(peers));
        for (name, key) in peers.iter().flat_map(|peer| &peer.files) {
            site.gateway.write(name, key);
        }
        site.gateway.start();
        talk::serve(&site.inner, &Family::BOTH.map(Family::host));
        site
    }

    /// The configuration.
    fn text(&self, peers: &[Peer]) -> String {
        let peers: String = peers.iter().map(|peer| &*peer.text).collect();
        let [v4, v6] = Family::BOTH;
        format!(
            "name = \"interop\"\nidentity = \"us.example\"\ninner = {{ path = \"{}\" }}\n\
             addresses = [\"{}/16\", \"{}/32\"]\nlisten = [\"{}:4500\", \"[{}]:4500\"]\ncontrol = \"control.sock\"\n\
             state = \"state\"\ncounter_mode_static = true\n\n[tun]\nname = \"{TUN}\"\n\n{peers}",
            self.inner.proc_path().display(),
            v4.host(),
            v6.host(),
            v4.gateway(),
            v6.gateway(),
        )
    }
}
