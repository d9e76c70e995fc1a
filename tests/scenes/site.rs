//! A gateway in the centre and others around it, each with its hosts, each on a wire of its own to the centre.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;

use latchway_netns::{Links, Namespace, links};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::PATIENCE;
use crate::gateway::{Folder, Gateway};

pub const TUN: &str = "lw0";

/// A gateway, its hosts and its way to the centre.
pub struct End {
    /// Who it is.
    pub identity: &'static str,
    /// The third octet of its hosts' addresses, 10.0.x.0/24.
    pub network: u8,
    /// Where its hosts are.
    pub inner: Namespace,
    pub outer: Namespace,
    pub gateway: Gateway,
}

/// All of it.
pub struct Site {
    pub centre: End,
    pub around: Vec<End>,
    _folder: Folder,
}

/// The lines that make one site's configurations differ from another's.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Before the first table of the centre's file.
    pub head: String,
    /// In each `[[peer]]` of the centre's file.
    pub peer: String,
    /// In the `[[peer]]` of each other file.
    pub centre: String,
    /// Tables at the end of the centre's file.
    pub tail: String,
    /// Whether each gateway stays on a CPU. Virtual wires keep the order of what one CPU sends, and may swap what a thread sends
    /// before and after it changes its CPU.
    pub pinned: bool,
}

impl End {
    /// The address of its hosts.
    pub fn host(&self) -> IpAddr {
        Ipv4Addr::new(10, 0, self.network, 1).into()
    }

    /// A port of its hosts' address.
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.host(), port)
    }

    /// The network of its hosts.
    pub fn prefix(&self) -> String {
        format!("10.0.{}.0/24", self.network)
    }
}

impl Site {
    /// Gateways that stand and have no SAs: around the centre, one of each identity, with hosts in these networks.
    pub fn start(around: &[(&'static str, u8)], terms: &Terms) -> Self {
        let folder = Folder::make();
        let end = |identity: &'static str, network| {
            let (inner, outer) = (Namespace::create("hosts").unwrap(), Namespace::create(identity).unwrap());
            let gateway = Gateway::new(&outer, folder.join(identity));
            End { identity, network, inner, outer, gateway }
        };
        let centre = end("centre.example", 1);
        let around = around.iter().map(|&(identity, network)| end(identity, network)).collect();
        let mut site = Self { centre, around, _folder: folder };
        for (number, end) in site.around.iter().enumerate() {
            wire(&site.centre.outer, &end.outer, number);
        }
        site.configure(terms);
        for (number, end) in site.around.iter_mut().chain([&mut site.centre]).enumerate() {
            // A program begins where the thread is that starts it.
            thread::scope(|scope| {
                scope.spawn(|| {
                    if terms.pinned {
                        stay_on(number);
                    }
                    end.gateway.start();
                });
            });
        }
        site
    }

    /// Writes every configuration.
    pub fn configure(&self, terms: &Terms) {
        let listen: Vec<_> =
            (0..self.around.len()).map(|number| format!("\"{}\"", wires(number)[0])).collect();
        let mut text = head(&self.centre, &listen.join(", "), &terms.head);
        for end in &self.around {
            writeln!(text, "{}{}\n", peer(end), terms.peer).unwrap();
        }
        self.centre.gateway.configure(&(text + &terms.tail));
        for (number, end) in self.around.iter().enumerate() {
            let own = format!("\"{}\"", wires(number)[1]);
            end.gateway.configure(&(head(end, &own, "") + &peer(&self.centre) + &terms.centre));
        }
    }
}

/// Both ends of the wire to the gateway of this number, the centre's first.
pub fn wires(number: usize) -> [Ipv4Addr; 2] {
    let last = 4 * u8::try_from(number).unwrap();
    [Ipv4Addr::new(192, 0, 2, last + 1), Ipv4Addr::new(192, 0, 2, last + 2)]
}

/// Keeps the calling thread, and what it starts, on one of its CPUs.
fn stay_on(number: usize) {
    let this = Pid::from_raw(0);
    let all = sched_getaffinity(this).unwrap();
    let own: Vec<_> = (0..CpuSet::count()).filter(|cpu| all.is_set(*cpu).unwrap()).collect();
    let mut one = CpuSet::new();
    one.set(own[number % own.len()]).unwrap();
    sched_setaffinity(this, &one).unwrap();
}

fn wire(centre: &Namespace, end: &Namespace, number: usize) {
    let name = format!("wire{number}");
    links::veth(centre, &name, end, &name).unwrap();
    for (namespace, own) in [centre, end].into_iter().zip(wires(number)) {
        let links = Links::of(namespace).unwrap();
        links.set_up(&name).unwrap();
        links.add_address(&name, format!("{own}/30").parse().unwrap()).unwrap();
    }
    for namespace in [centre, end] {
        Links::of(namespace).unwrap().wait_ready(&name, PATIENCE).unwrap();
    }
}

fn head(end: &End, listen: &str, lines: &str) -> String {
    let name = end.identity.split('.').next().unwrap();
    format!(
        "name = \"{name}\"\nidentity = \"{}\"\ninner = {{ path = \"{}\" }}\naddresses = [\"{}/24\"]\n\
         listen = [{listen}]\ncontrol = \"control.sock\"\n{lines}\n\n[tun]\nname = \"{TUN}\"\n\n",
        end.identity,
        end.inner.proc_path().display(),
        end.host(),
    )
}

fn peer(end: &End) -> String {
    format!("[[peer]]\nidentity = \"{}\"\ninner = [\"{}\"]\n", end.identity, end.prefix())
}
