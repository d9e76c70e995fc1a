//! A worker: one thread that moves batches between the TUN and the wire for as long as the gateway runs.
//!
//! The only loop of the gateway, and with [`low`](crate::low) the only place that touches the system. One system call
//! moves a batch; none waits while there is something to do.

mod ports;
mod stop;
mod turns;

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::capture::{Tap, Taps};
use crate::coalesce::Coalescer;
use crate::drop::{Direction, DropReason};
use crate::gateway::Datapath;
use crate::injection::{Injection, Injections};
use crate::low::tun::{READ_BUFFER_LEN, TunQueue};
use crate::low::wire::{ReceiveBuffer, Wire};
use crate::outbound::Outbound;
use crate::send_batch::SendBatch;
use crate::time::Time;
use crate::ulp::Ulp;

use self::ports::{deliver, forward, read, write};
pub use self::stop::{Heartbeat, Stop};
pub use self::turns::Turns;

/// What a worker reads and writes.
#[derive(Debug)]
pub struct Devices {
    /// Towards the inner hosts.
    pub tun: TunQueue,
    /// The port by which BYPASS traffic leaves and enters, where there is one.
    pub bypass: Option<TunQueue>,
    /// Towards the peers; [`Path::wire`](crate::sad::Path::wire) counts them.
    pub wires: Vec<Wire>,
}

/// One worker with its devices and buffers.
pub struct Worker<U> {
    datapath: Datapath<U>,
    devices: Devices,
    started: Instant,
    stop: Stop,
    heartbeat: Heartbeat,
    turns: Turns,
    injections: Option<Injections>,
    tap: Tap,
    /// When a worker that was told to turn away begins to, however much more comes.
    last: Option<Time>,
    from_tun: Box<[u8]>,
    from_wire: ReceiveBuffer,
    one: Box<[u8]>,
    batch: SendBatch,
    units: Coalescer,
}

/// Wires that one worker can have.
pub const MAX_WIRES: usize = 16;

/// Super-packets or trains taken from one device before the others have their turn.
const BUDGET: usize = 32;

/// Octets that a batch gathers before it is sent, if there is more to read.
const FULL_ENOUGH: usize = 48 * 1024;

/// Room that the largest super-packet may need when it is segmented and sealed.
const WORST_SUPER_PACKET: (usize, usize) = (128, 1024);

/// How long a worker sleeps at most: SAs that expire by time are noticed this often when nothing moves.
pub const NAP: Duration = Duration::from_millis(50);

/// How long a worker that was told to stop, or to turn away, goes on while packets keep coming.
const DRAIN: Duration = Duration::from_millis(200);

impl<U: Ulp> Worker<U> {
    /// A worker with its devices. `started` is the zero of the gateway's [`Time`].
    #[must_use]
    pub fn new(datapath: Datapath<U>, devices: Devices, started: Instant, stop: Stop) -> Self {
        let units = Coalescer::new(devices.tun.offloads());
        Self {
            datapath,
            devices,
            started,
            stop,
            heartbeat: Heartbeat::default(),
            turns: Turns::default(),
            injections: None,
            tap: Taps::default().tap(Vec::new()),
            last: None,
            from_tun: vec![0; READ_BUFFER_LEN].into_boxed_slice(),
            from_wire: ReceiveBuffer::new(),
            one: vec![0; READ_BUFFER_LEN].into_boxed_slice(),
            batch: SendBatch::new(),
            units,
        }
    }

    /// The same worker, which also sends what is injected.
    #[must_use]
    pub fn injecting(self, injections: Injections) -> Self {
        Self { injections: Some(injections), ..self }
    }

    /// The same worker, whose packets can be looked at.
    #[must_use]
    pub fn tapped(self, taps: Taps) -> Self {
        let wires = self.devices.wires.iter().map(|wire| (wire.local_addr(), wire.carrier())).collect();
        Self { tap: taps.tap(wires), ..self }
    }

    /// The same worker, whose turns are on this record.
    #[must_use]
    pub fn recorded(self, turns: Turns) -> Self {
        Self { turns, ..self }
    }

    /// Its sign of life.
    #[must_use]
    pub const fn heartbeat(&self) -> &Heartbeat {
        &self.heartbeat
    }

    /// Moves packets until told to stop, and then what had arrived by then. A TUN that is set down ends nothing: what is
    /// for it is dropped until it is up again.
    ///
    /// # Errors
    /// Where a device is gone for good, such as a TUN that was deleted.
    pub fn run(mut self) -> io::Result<()> {
        while !self.stop.is_stopped() {
            if !self.turn()? {
                self.datapath.quiesce();
                self.wait()?;
            }
        }
        // New packets keep coming for as long as others send: the end must not wait for them.
        let last = self.now() + DRAIN;
        while self.turn()? && self.now() < last {}
        Ok(())
    }

    /// Gives each device its turn. Returns whether anything came.
    fn turn(&mut self) -> io::Result<bool> {
        self.heartbeat.beat();
        let now = self.now();
        self.turns.begin(now);
        self.datapath.begin(now);
        let injected = self.inject()?;
        if self.stop.turns_away() {
            return Ok(self.take_from_inside(|datapath, octets, _| datapath.turn_away(octets))? || injected);
        }
        let inbound = self.inbound()?;
        let (datapath, batch) = (&mut self.datapath, &mut self.batch);
        if datapath.reply(batch) | datapath.probe(batch) | datapath.tend(batch) {
            self.send();
        }
        let outbound = if self.tap.is_on() {
            let tap = self.tap.clone();
            self.take_from_inside(|datapath, octets, batch| tap.outbound(datapath, octets, batch))?
        } else {
            self.take_from_inside(Datapath::outbound)?
        };
        let bypass = self.bypass()?;
        self.release()?;
        self.datapath.end();
        let any = inbound || outbound || bypass || injected;
        if self.stop.is_to_turn_away() {
            let now = self.now();
            let last = *self.last.get_or_insert(now + DRAIN);
            if !any || now >= last {
                self.stop.turned_away();
            }
        }
        Ok(any)
    }

    fn now(&self) -> Time {
        Time::from_nanos(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// From the wires to the TUN. Returns whether anything came.
    fn inbound(&mut self) -> io::Result<bool> {
        let mut any = false;
        for (number, wire) in self.devices.wires.iter_mut().enumerate() {
            let mut taken = 0;
            while taken < BUDGET {
                let trains = wire.receive(&mut self.from_wire)?;
                if trains == 0 {
                    break;
                }
                (any, taken) = (true, taken + trains);
                for place in 0..trains {
                    let Some((train, received)) = self.from_wire.train(place) else { break };
                    let arrival = received.arrival(number);
                    if self.tap.is_on() && !train.is_empty() {
                        // One by one, so that each can be shown with what became of it.
                        for one in train.chunks_mut(arrival.segment_size) {
                            self.tap.inbound(&mut self.datapath, one, &arrival, &mut self.units);
                            deliver(&mut self.units, one, &mut self.devices.tun, &self.datapath)?;
                        }
                        continue;
                    }
                    self.datapath.inbound(train, &arrival, &mut self.units);
                    deliver(&mut self.units, train, &mut self.devices.tun, &self.datapath)?;
                }
            }
            while let Some(hint) = wire.next_hint() {
                self.datapath.hint_mtu(hint);
            }
            let truncated = wire.take_truncated();
            self.datapath.counters().street(Direction::Inbound).drop(DropReason::Truncated, truncated);
        }
        Ok(any)
    }

    /// From the TUN, each super-packet through one of the [`Datapath`]'s streets. Returns whether anything came.
    fn take_from_inside(
        &mut self,
        street: impl Fn(&mut Datapath<U>, &mut [u8], &mut SendBatch) -> Outbound,
    ) -> io::Result<bool> {
        let mut any = false;
        for _ in 0..BUDGET {
            let len = match self.datapath.release_outbound(&mut self.from_tun) {
                Some(len) => Some(len),
                None => read(&mut self.devices.tun, &mut self.from_tun, &self.datapath, Direction::Outbound)?,
            };
            let Some(len) = len else { break };
            any = true;
            let Some(octets) = self.from_tun.get_mut(..len) else { break };
            match street(&mut self.datapath, octets, &mut self.batch) {
                Outbound::Sealed | Outbound::Dropped | Outbound::Kept => {}
                Outbound::Bypass => {
                    let street = self.datapath.counters().street(Direction::Outbound);
                    let written = forward(octets, self.devices.bypass.as_mut(), &mut self.one, street);
                    street.packets.add(written.packets);
                    street.octets.add(written.octets);
                }
                Outbound::Answered => write(self.datapath.answer(), &mut self.devices.tun, &self.datapath)?,
            }
            let (datagrams, len) = WORST_SUPER_PACKET;
            if self.batch.len() >= FULL_ENOUGH || !self.batch.has_room_for(datagrams, len) {
                self.send();
            }
        }
        self.send();
        Ok(any)
    }

    /// Sends packets of the gateway's own. Returns whether there were any.
    fn inject(&mut self) -> io::Result<bool> {
        let Some(injections) = &self.injections else { return Ok(false) };
        let mut any = false;
        for _ in 0..BUDGET {
            let Some(injection) = injections.next() else { break };
            any = true;
            match injection {
                Injection::ToInner { packet } => write(&packet, &mut self.devices.tun, &self.datapath)?,
                // What cannot be sealed is counted there.
                Injection::ToPeer { packet, class } => {
                    self.datapath.send_under(class, &packet, &mut self.batch);
                }
            }
        }
        self.send();
        Ok(any)
    }

    /// One send for the whole batch, and what the sockets would not take is counted.
    fn send(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let street = self.datapath.counters().street(Direction::Outbound);
        for (number, wire) in self.devices.wires.iter_mut().enumerate() {
            let report = wire.send(&self.batch, number);
            street.drop(DropReason::IoFull, report.dropped_full as u64);
            street.drop(DropReason::IoError, report.errors as u64);
        }
        self.batch.clear();
    }

    /// From the bypass port to the TUN. Returns whether anything came.
    fn bypass(&mut self) -> io::Result<bool> {
        let Some(bypass) = &mut self.devices.bypass else { return Ok(false) };
        let mut any = false;
        for _ in 0..BUDGET {
            let Some(len) = read(bypass, &mut self.from_tun, &self.datapath, Direction::Inbound)? else {
                break;
            };
            any = true;
            let Some(octets) = self.from_tun.get_mut(..len) else { break };
            let passed = match &self.tap {
                tap if tap.is_on() => tap.unprotected(&mut self.datapath, octets),
                _ => self.datapath.unprotected(octets),
            };
            if passed {
                let street = self.datapath.counters().street(Direction::Inbound);
                forward(octets, Some(&mut self.devices.tun), &mut self.one, street);
            }
        }
        Ok(any)
    }

    /// Writes to the TUN the fragments that waited for their first.
    fn release(&mut self) -> io::Result<()> {
        while let Some(len) = self.datapath.release_inbound(&mut self.one) {
            let packet = self.one.get(..len).unwrap_or_default();
            write(packet, &mut self.devices.tun, &self.datapath)?;
        }
        Ok(())
    }

    /// Sleeps until a device has something, the worker is told to stop, or a nap is over.
    fn wait(&mut self) -> io::Result<()> {
        let stop = self.stop.as_fd();
        let injections = self.injections.as_ref().map_or(stop, AsFd::as_fd);
        let bypass = self.devices.bypass.as_ref().map_or(stop, AsFd::as_fd);
        let wires = &self.devices.wires;
        let wire = |place: usize| wires.get(place / 2).and_then(|wire| wire.fds().get(place % 2).copied());
        let mut fds: [_; 4 + 2 * MAX_WIRES] = std::array::from_fn(|place| {
            let fd = match place {
                0 => stop,
                1 => self.devices.tun.as_fd(),
                2 => bypass,
                3 => injections,
                _ => wire(place - 4).unwrap_or(stop),
            };
            PollFd::from_borrowed_fd(fd, PollFlags::IN)
        });
        let used = fds.get_mut(..4 + 2 * wires.len()).unwrap_or_default();
        let tend = self.datapath.next_tend().map_or(NAP, |moment| moment.since(self.now()));
        let nap = Timespec { tv_sec: 0, tv_nsec: tend.min(NAP).subsec_nanos().into() };
        match poll(used, Some(&nap)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        if let Some(injections) = &self.injections
            && used.get(3).is_some_and(|fd| fd.revents().contains(PollFlags::IN))
        {
            injections.woken();
        }
        let erring: [bool; MAX_WIRES] = std::array::from_fn(|number| {
            let fds = used.iter().skip(4 + 2 * number).take(2);
            fds.clone().any(|fd| fd.revents().contains(PollFlags::ERR))
        });
        for (wire, _) in self.devices.wires.iter_mut().zip(erring).filter(|(_, erring)| *erring) {
            wire.note_reports();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::low::tun::TunConfig;
    use crate::low::wire::WireSocket;
    use crate::testing::{Host, Open};
    use latchway_netns::skip::{Need, require};
    use latchway_netns::testing::namespaced;
    use latchway_netns::{Links, Namespace};
    use std::net::UdpSocket;
    use std::sync::Arc;

    /// A worker on a TUN and a wire of a namespace of its own.
    fn worker(namespace: &Namespace) -> Worker<Open> {
        Links::of(namespace).unwrap().set_up("lo").unwrap();
        let open = || {
            let tun = TunQueue::open(&TunConfig::new("lw0")).unwrap();
            let wire = WireSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
            Devices { tun, bypass: None, wires: vec![wire.into()] }
        };
        let devices = namespace.run(open).unwrap();
        Worker::new(Host::new(1, 2, Open).datapath, devices, Instant::now(), Stop::new().unwrap())
    }

    /// T04: what a receive buffer cuts is a drop with a name, and what comes after it is received.
    #[test]
    fn t04_a_datagram_that_was_cut_is_counted_and_dropped() {
        let test = "worker::tests::t04_a_datagram_that_was_cut_is_counted_and_dropped";
        namespaced(test, || {
            if !require(test, &[Need::Tun]) {
                return;
            }
            let namespace = Namespace::create("cut").unwrap();
            let mut worker = worker(&namespace);
            worker.from_wire = ReceiveBuffer::with_slots(1000);
            let to = worker.devices.wires[0].local_addr();
            let sender = namespace.run(|| UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
            for len in [1400, 1400, 1] {
                sender.send_to(&vec![0xff; len], to).unwrap();
            }
            let counters = Arc::clone(worker.datapath.counters());
            let street = counters.street(Direction::Inbound);
            let end = Instant::now() + Duration::from_secs(10);
            while street.dropped(DropReason::Keepalive) == 0 {
                assert!(Instant::now() < end, "the last did not arrive");
                worker.turn().unwrap();
            }
            assert_eq!(street.dropped(DropReason::Truncated), 2);
            let all = DropReason::ALL.iter().map(|&reason| street.dropped(reason)).sum::<u64>();
            assert_eq!(all, 3, "and nothing else");
            let counters = worker.devices.wires[0].counters();
            assert_eq!((counters.received_datagrams.get(), counters.received_octets.get()), (1, 1));
        });
    }
}
