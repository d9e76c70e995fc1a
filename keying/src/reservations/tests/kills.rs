//! T11, T12: ten thousand lives that end at any moment take no number twice, and forget nothing that was received and
//! noted.

use std::num::NonZeroU32;

use fastrand::Rng;
use latchway_esp::{
    AntiReplay, EspHeader, InboundConfig, InboundSa, NextHeader, OutboundConfig, OutboundSa, ReceivedTop,
    SeqCounter, SeqNum, SequenceKind, TakeError, WindowSize,
};
use zeroize::Zeroizing;

use super::gcm;
use super::simulated::{Lie, Simulated};
use crate::reservations::{EnrolError, Reservations};

const SENDERS: usize = 3;
const RECEIVERS: usize = 2;
const KIND: SequenceKind = SequenceKind::Extended;

/// What must hold over all lives.
#[derive(Default)]
struct Oracle {
    /// By sender, the highest number that was ever taken.
    taken: [u64; SENDERS],
    /// By receiver, what a later life must begin with at least, and the highest number there ever was.
    noted: [u64; RECEIVERS],
    received: [u64; RECEIVERS],
    numbers: u64,
    waited: u32,
    waste: u64,
    closed: u32,
}

/// One process.
struct Life<'o> {
    rng: Rng,
    store: Reservations,
    senders: [Option<SeqCounter>; SENDERS],
    receivers: [Option<(InboundSa, ReceivedTop)>; RECEIVERS],
    /// By receiver, how far it came in this life, whether its SA still exists or not.
    reached: [u64; RECEIVERS],
    oracle: &'o mut Oracle,
}

#[test]
fn ten_thousand_kills_repeat_no_number() {
    let (disk, oracle) = lives(1, 10_000, None).unwrap();
    let medium = disk.medium();
    assert!(medium.killed_in.iter().all(|&kills| kills > 1000), "{:?}", medium.killed_in);
    assert!(medium.killed_in.iter().sum::<u32>() + oracle.closed >= 10_000);
    assert!(oracle.closed > 500 && medium.refused > 1000 && oracle.waited > 1000);
    assert!(oracle.numbers > 100_000 && oracle.waste > 1000);
    assert!(oracle.received.iter().all(|&top| top > 1000));
}

/// That the test above can fail: a disk that does not keep its word is found out.
#[test]
fn a_disk_that_lies_is_found_out() {
    let torn = lives(2, 10_000, Some(Lie::Octets)).err().unwrap();
    assert!(torn.contains("damaged"), "{torn}");
    let undone = lives(3, 10_000, Some(Lie::Names)).err().unwrap();
    assert!(undone.contains("again") || undone.contains("goes to"), "{undone}");
}

/// Lives that end by a kill, without a word, or in order; with disks that refuse now and then.
fn lives(seed: u64, count: u32, lies: Option<Lie>) -> Result<(Simulated, Oracle), String> {
    let (disk, mut rng, mut oracle) = (Simulated::new(seed), Rng::with_seed(seed), Oracle::default());
    let created = Reservations::create_on(Box::new(disk.clone()), Zeroizing::new([9; 32]));
    created.and_then(Reservations::close).map_err(|error| error.to_string())?;
    disk.medium().lies = lies;
    for _ in 0..count {
        let in_order = rng.u8(0..10) == 0;
        {
            let mut medium = disk.medium();
            medium.fuse = if in_order { u32::MAX } else { rng.u32(1..40) };
            medium.refusals = [0, 0, 10, 50][rng.usize(0..4)];
        }
        let store = Reservations::open_on(Box::new(disk.clone())).map_err(|error| error.to_string())?;
        let store = store.with_block(NonZeroU32::new(rng.u32(1..=64)).unwrap());
        let life = Life {
            rng: rng.fork(),
            store,
            senders: [const { None }; SENDERS],
            receivers: [const { None }; RECEIVERS],
            reached: [0; RECEIVERS],
            oracle: &mut oracle,
        };
        life.run(&disk, in_order)?;
        let power_lost = rng.bool();
        disk.medium().restart(power_lost);
    }
    Ok((disk, oracle))
}

impl Life<'_> {
    /// Runs until the process is killed, or for a while and then ends in order.
    fn run(mut self, disk: &Simulated, in_order: bool) -> Result<(), String> {
        let steps = if in_order { 40 } else { usize::MAX };
        for _ in 0..steps {
            self.step()?;
            if disk.medium().is_killed() {
                return Ok(());
            }
        }
        self.oracle.closed += 1;
        disk.medium().refusals = 0;
        self.close(disk)
    }

    fn step(&mut self) -> Result<(), String> {
        match self.rng.u8(0..10) {
            0 => self.enrol_sender(),
            1 => self.enrol_receiver(),
            2..6 => self.send(),
            6 | 7 => {
                self.receive();
                Ok(())
            }
            8 => {
                self.extend();
                Ok(())
            }
            _ => {
                self.end_one();
                Ok(())
            }
        }
    }

    fn enrol_sender(&mut self) -> Result<(), String> {
        let n = self.rng.usize(0..SENDERS);
        let enrolled = self.store.enrol_outbound(&gcm(0x1000 + n as u32, n as u8));
        if self.senders[n].is_some() {
            return match enrolled {
                Err(EnrolError::InUse(_)) => Ok(()),
                other => Err(format!("enrolled twice: {other:?}")),
            };
        }
        let sending = match enrolled {
            Ok(sending) => sending,
            Err(EnrolError::Store(_)) => return Ok(()),
            Err(refused) => return Err(refused.to_string()),
        };
        if sending.next.0 <= self.oracle.taken[n] {
            return Err(format!("{:?} again, after {}", sending.next, self.oracle.taken[n]));
        }
        self.oracle.waste += sending.next.0 - self.oracle.taken[n] - 1;
        let counter = SeqCounter::resume_at(KIND, sending.next).unwrap();
        self.senders[n] = Some(counter.within(sending.reservation).unwrap());
        Ok(())
    }

    fn send(&mut self) -> Result<(), String> {
        let n = self.rng.usize(0..SENDERS);
        let Some(counter) = &mut self.senders[n] else { return Ok(()) };
        let mut run = match counter.take(self.rng.u32(0..20)) {
            Ok(run) => run,
            Err(TakeError::Unreserved { .. }) => {
                self.oracle.waited += 1;
                return Ok(());
            }
            Err(exhausted) => return Err(exhausted.to_string()),
        };
        while let Some(seq) = run.next_seq() {
            if seq.number().0 <= self.oracle.taken[n] {
                return Err(format!("{:?} again, after {}", seq.number(), self.oracle.taken[n]));
            }
            self.oracle.taken[n] = seq.number().0;
            self.oracle.numbers += 1;
        }
        Ok(())
    }

    fn enrol_receiver(&mut self) -> Result<(), String> {
        let n = self.rng.usize(0..RECEIVERS);
        let keys = gcm(0x2000 + n as u32, 100 + n as u8);
        let enrolled = self.store.enrol_inbound(&keys);
        if self.receivers[n].is_some() {
            return match enrolled {
                Err(EnrolError::InUse(_)) => Ok(()),
                other => Err(format!("enrolled twice: {other:?}")),
            };
        }
        let receiving = match enrolled {
            Ok(receiving) => receiving,
            Err(EnrolError::Store(_)) => return Ok(()),
            Err(refused) => return Err(refused.to_string()),
        };
        let (after, noted, received) = (receiving.after.0, self.oracle.noted[n], self.oracle.received[n]);
        if after < noted || after > received {
            return Err(format!("the top goes to {after}, noted {noted}, received {received}"));
        }
        // From now on it must not go back, even where it had not been noted.
        self.oracle.noted[n] = after;
        let config = InboundConfig {
            spi: keys.spi,
            suite: keys.material.suite(),
            keys: &keys.material,
            sequence: KIND,
            anti_replay: AntiReplay::Window(WindowSize::MIN),
            top: Some(receiving.top.clone()),
        };
        let sa = InboundSa::resume_after(config, receiving.after).unwrap();
        self.receivers[n] = Some((sa, receiving.top));
        Ok(())
    }

    fn receive(&mut self) {
        let n = self.rng.usize(0..RECEIVERS);
        let Some((sa, top)) = &mut self.receivers[n] else { return };
        let number = top.seq().0 + self.rng.u64(1..20);
        let config = OutboundConfig {
            spi: sa.spi(),
            suite: sa.suite(),
            keys: &gcm(0x2000, 100 + n as u8).material,
            sequence: KIND,
            reservation: None,
        };
        let mut peer = OutboundSa::resume_at(config, SeqNum(number)).unwrap();
        let (mut packet, seq) = ([0; 36], peer.take(1).unwrap().next_seq().unwrap());
        peer.seal(seq, NextHeader::DUMMY, &mut packet, 0).unwrap();
        let seq = sa.check(EspHeader::parse(&packet).unwrap().seq).unwrap();
        let verified = sa.open(seq, &mut packet).unwrap().1;
        sa.commit(verified).unwrap();
        self.reached[n] = number;
        self.oracle.received[n] = self.oracle.received[n].max(number);
    }

    fn extend(&mut self) {
        if self.store.extend().is_ok() {
            self.note();
        }
    }

    /// An SA is removed; its key may be enrolled again at once.
    fn end_one(&mut self) {
        let n = self.rng.usize(0..SENDERS + RECEIVERS);
        match self.senders.get_mut(n) {
            Some(sender) => *sender = None,
            None => self.receivers[n - SENDERS] = None,
        }
    }

    /// What ended is stored exactly, and what still exists may use up its block.
    fn close(mut self, disk: &Simulated) -> Result<(), String> {
        let ended = self.rng.usize(0..SENDERS);
        let taken = self.senders[ended].take().map(|counter| counter.taken().0);
        self.note();
        let store =
            std::mem::replace(&mut self.store, Reservations::open_on(Box::new(disk.clone())).unwrap());
        store.close().map_err(|error| error.to_string())?;
        for _ in 0..20 {
            self.send()?;
        }
        let mut store = Reservations::open_on(Box::new(disk.clone())).map_err(|error| error.to_string())?;
        // One that took nothing in this life leaves the block of its last one as it was.
        if taken == Some(self.oracle.taken[ended]) {
            let keys = gcm(0x1000 + ended as u32, ended as u8);
            let next = store.enrol_outbound(&keys).map_err(|error| error.to_string())?.next;
            if next.0 != self.oracle.taken[ended] + 1 {
                return Err(format!("{next:?} after {}: numbers were wasted", self.oracle.taken[ended]));
            }
        }
        store.close().map_err(|error| error.to_string())
    }

    /// Whatever was received until now is on disk.
    fn note(&mut self) {
        for (noted, reached) in self.oracle.noted.iter_mut().zip(self.reached) {
            *noted = reached.max(*noted);
        }
    }
}
