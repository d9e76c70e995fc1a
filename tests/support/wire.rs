//! The wire between gateways: what it loses, doubles, delays and damages follows from its seed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use latchway_datapath::time::Time;

/// A protected packet under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// The gateway that sends it.
    pub from: SocketAddr,
    /// The gateway it is sent to.
    pub to: SocketAddr,
    /// The UDP payload.
    pub octets: Vec<u8>,
}

/// How bad a wire is: chances in percent, and the most that a datagram is late.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Of being lost.
    pub lose: u8,
    /// Of arriving twice.
    pub double: u8,
    /// Of one bit being flipped.
    pub damage: u8,
    /// How much later than another one a datagram may come that was sent before it.
    pub delay: Duration,
}

/// A wire, with what is on it.
#[derive(Debug)]
pub struct Wire {
    faults: Faults,
    random: fastrand::Rng,
    under_way: BTreeMap<(Time, u64), Datagram>,
    carried: u64,
    /// Datagrams that it lost.
    pub lost: u64,
    /// Datagrams that it made a second one of.
    pub doubled: u64,
    /// Datagrams in which it flipped a bit.
    pub damaged: u64,
}

impl Wire {
    /// A wire of which the faults follow from `seed`.
    pub fn new(seed: u64, faults: Faults) -> Self {
        let (random, under_way) = (fastrand::Rng::with_seed(seed), BTreeMap::new());
        Self { faults, random, under_way, carried: 0, lost: 0, doubled: 0, damaged: 0 }
    }

    /// Takes a datagram.
    pub fn carry(&mut self, datagram: Datagram, now: Time) {
        if self.happens(self.faults.lose) {
            self.lost += 1;
            return;
        }
        if self.happens(self.faults.double) {
            self.doubled += 1;
            self.launch(datagram.clone(), now);
        }
        self.launch(datagram, now);
    }

    /// What has arrived by `now`, in the order of arrival.
    pub fn arrivals(&mut self, now: Time) -> Vec<Datagram> {
        let late = self.under_way.split_off(&(now, u64::MAX));
        std::mem::replace(&mut self.under_way, late).into_values().collect()
    }

    fn launch(&mut self, mut datagram: Datagram, now: Time) {
        if self.happens(self.faults.damage) {
            self.damaged += 1;
            let bit = self.random.usize(..datagram.octets.len() * 8);
            datagram.octets[bit / 8] ^= 1 << (bit % 8);
        }
        let delay = self.random.u64(0..=self.faults.delay.as_nanos() as u64);
        self.carried += 1;
        self.under_way.insert((now + Duration::from_nanos(delay), self.carried), datagram);
    }

    fn happens(&mut self, percent: u8) -> bool {
        self.random.u8(..100) < percent
    }
}
