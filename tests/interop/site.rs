//! Our gateway on the guest's street: the daemon from a configuration file, with hosts behind its TUN.

use std::process::Command;

use latchway_netns::{Links, Namespace};

use crate::case::{Case, Family};
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
        let site = Self::on_the_street(guest);
        let batch: String = cases.iter().map(Case::kernel).collect();
        guest.ip(&batch);
        site.run(cases)
    }

    /// A gateway on the street that is not started, with its wire.
    fn on_the_street(guest: &mut Guest) -> Self {
        let outer = Namespace::create("gateway").unwrap();
        guest.join(&outer, WIRE);
        let links = Links::of(&outer).unwrap();
        for family in Family::BOTH {
            let address = format!("{}/{}", family.gateway(), family.wire());
            links.add_address(WIRE, address.parse().unwrap()).unwrap();
        }
        links.wait_ready(WIRE, PATIENCE).unwrap();
        Self::at(outer)
    }

    /// A gateway that is not started.
    pub fn at(outer: Namespace) -> Self {
        let folder = Folder::make();
        let gateway = Gateway::new(&outer, folder.join("gateway"));
        Self { inner: Namespace::create("hosts").unwrap(), gateway, _folder: folder }
    }

    /// The same, running and serving echoes.
    pub fn run(mut self, cases: &[Case]) -> Self {
        let state = self.gateway.folder().join("state");
        let enrolled = Command::new(PROGRAM).arg("enrol").arg(&state).output().unwrap();
        assert!(enrolled.status.success(), "{enrolled:?}");
        self.gateway.configure(&self.text(cases));
        for (name, key) in cases.iter().flat_map(Case::files) {
            self.gateway.write(&name, &key);
        }
        self.gateway.start();
        talk::serve(&self.inner);
        self
    }

    /// The configuration.
    fn text(&self, cases: &[Case]) -> String {
        let peers: String = cases.iter().map(Case::ours).collect();
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
