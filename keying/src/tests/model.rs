//! Random orders of operations against a model that a child could follow: a list of pairs and a list of SPIs at rest.

use latchway_datapath::sad::Usage;
use latchway_esp::Suite;
use latchway_tagging::{ClassId, SaRef};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::testing::{at, fqdn, keying, keys, proposal};
use crate::{Keying, Keys, Offer, Op, PairId, Start, Transaction};

#[derive(Clone, Debug)]
enum Step {
    Propose {
        peer: usize,
    },
    Drop {
        offer: usize,
    },
    Install {
        offer: usize,
        spi: u32,
        start: Start,
    },
    Commit(Vec<(Change, usize)>),
    Wait {
        seconds: u64,
    },
    Poll,
    /// A worker begins a batch, or blocks.
    Worker {
        blocks: bool,
    },
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Activate,
    Retire,
    Remove,
}

#[derive(Clone, Debug)]
struct ModelPair {
    id: PairId,
    peer: usize,
    spi: u32,
    usage: Usage,
    /// What it will be, and whether the worker saw that it is pending.
    then: Usage,
    seen: bool,
}

#[derive(Debug, Default)]
struct Model {
    now: u64,
    offers: Vec<(Offer, usize, u64)>,
    pairs: Vec<ModelPair>,
    /// SPIs at rest, and since when.
    resting: Vec<(u32, u64)>,
    /// Every reference and every pair there ever was.
    refs: Vec<SaRef>,
    ids: Vec<PairId>,
    classes: Vec<(usize, ClassId)>,
    worker_blocks: bool,
}

const PEERS: [&str; 3] = ["bob", "mallory", "carol"];

fn step() -> impl Strategy<Value = Step> {
    let start = prop_oneof![Just(Start::Standby), Just(Start::Active)];
    let change = prop_oneof![Just(Change::Activate), Just(Change::Retire), Just(Change::Remove)];
    prop_oneof![
        4 => (0..PEERS.len()).prop_map(|peer| Step::Propose { peer }),
        1 => (0..4_usize).prop_map(|offer| Step::Drop { offer }),
        6 => (0..4_usize, 0x1000..0x1008_u32, start)
            .prop_map(|(offer, spi, start)| Step::Install { offer, spi, start }),
        6 => vec((change, 0..6_usize), 1..4).prop_map(Step::Commit),
        2 => (1..100_u64).prop_map(|seconds| Step::Wait { seconds }),
        5 => Just(Step::Poll),
        4 => any::<bool>().prop_map(|blocks| Step::Worker { blocks }),
    ]
}

#[test]
fn random_operations_agree_with_a_naive_model() {
    let config = Config { cases: 300, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let mut installed = 0;
    let counted = std::cell::RefCell::new(&mut installed);
    runner
        .run(&vec(step(), 1..80), |steps| {
            let mut keying = keying();
            let mut worker = keying.publisher().reader();
            let mut model = Model { worker_blocks: true, ..Model::default() };
            for step in steps {
                if matches!(step, Step::Worker { .. }) {
                    let Step::Worker { blocks } = step else { continue };
                    worker.adopt();
                    if blocks {
                        worker.quiesce();
                    }
                    model.worker_blocks = blocks;
                    model.pairs.iter_mut().for_each(|pair| pair.seen = true);
                } else {
                    model.step(&mut keying, step);
                }
                model.compare(&keying);
            }
            **counted.borrow_mut() += model.ids.len();
            Ok(())
        })
        .unwrap();
    assert!(installed > 500, "{installed}: too few for the comparison to mean much");
}

impl Model {
    fn step(&mut self, keying: &mut Keying, step: Step) {
        match step {
            Step::Propose { peer } => self.propose(keying, peer),
            Step::Drop { offer } if offer < self.offers.len() => drop(self.offers.remove(offer)),
            Step::Install { offer, spi, start } if offer < self.offers.len() => {
                self.install(keying, offer, spi, start);
            }
            Step::Commit(changes) => self.commit(keying, &changes),
            Step::Wait { seconds } => self.now += seconds,
            Step::Poll => self.poll(keying),
            _ => {}
        }
    }

    fn propose(&mut self, keying: &mut Keying, peer: usize) {
        let offer = keying.propose(proposal(PEERS[peer]), at(self.now)).unwrap();
        // One class per peer for as long as anything of it is there, and none that another peer ever had.
        let others = self.classes.iter().filter(|(of, _)| *of != peer);
        assert!(others.clone().all(|(_, class)| *class != offer.class));
        self.classes.push((peer, offer.class));
        self.offers.push((offer, peer, self.now));
    }

    fn install(&mut self, keying: &mut Keying, offer: usize, spi: u32, start: Start) {
        let (offer, peer, since) = self.offers.remove(offer);
        let free = self.pairs.iter().all(|pair| pair.spi != spi)
            && self.resting.iter().all(|(resting, _)| *resting != spi);
        let class = offer.class;
        let keys = Keys { start, ..keys(spi, Suite::Aes128Gcm) };
        match keying.install(offer.ticket, keys, at(self.now)) {
            Ok(id) => {
                assert!(free && self.now < since + 30);
                assert!(self.ids.iter().all(|earlier| *earlier < id), "ids are not used again");
                self.ids.push(id);
                let (usage, then) = (Usage::Pending, Usage::from(start));
                self.pairs.push(ModelPair { id, peer, spi, usage, then, seen: self.worker_blocks });
                let view = keying.pairs().pop().unwrap();
                assert_eq!((view.id, view.class), (id, class));
                for sa in [view.inbound.sa, view.outbound.sa] {
                    assert!(!self.refs.contains(&sa), "a reference never comes to mean another SA");
                    self.refs.push(sa);
                }
            }
            Err(error) => assert!(!free || self.now >= since + 30, "{error}"),
        }
    }

    fn commit(&mut self, keying: &mut Keying, changes: &[(Change, usize)]) {
        let ids = self.ids.clone();
        let target = |place: usize| ids.iter().rev().nth(place).copied().unwrap_or(PairId::from_raw(0));
        let ops = changes.iter().map(|(change, place)| match change {
            Change::Activate => Op::Activate(target(*place)),
            Change::Retire => Op::Retire(target(*place)),
            Change::Remove => Op::Remove(target(*place)),
        });
        let before = self.pairs.clone();
        let possible = changes.iter().all(|(change, place)| self.apply(*change, target(*place)));
        let committed = keying.commit(Transaction::new(ops.collect()), at(self.now));
        assert_eq!(committed.is_ok(), possible);
        if !possible {
            self.pairs = before;
            return;
        }
        for gone in before.iter().filter(|pair| self.pairs.iter().all(|left| left.id != pair.id)) {
            self.resting.push((gone.spi, self.now));
        }
    }

    fn apply(&mut self, change: Change, id: PairId) -> bool {
        let Some(place) = self.pairs.iter().position(|pair| pair.id == id) else { return false };
        let pair = &mut self.pairs[place];
        let pending = pair.usage == Usage::Pending;
        match change {
            Change::Remove => drop(self.pairs.remove(place)),
            Change::Activate if !pending => pair.usage = Usage::Active,
            Change::Retire if !pending => pair.usage = Usage::Retired,
            _ => return false,
        }
        true
    }

    fn poll(&mut self, keying: &mut Keying) {
        let progress = keying.poll(at(self.now));
        let mut settled = Vec::new();
        for pair in self.pairs.iter_mut().filter(|pair| pair.usage == Usage::Pending) {
            if pair.seen || self.worker_blocks {
                pair.usage = pair.then;
                settled.push(pair.id);
            }
        }
        assert_eq!(progress.settled, settled);
        assert_eq!(progress.settling, self.pairs.iter().any(|pair| pair.usage == Usage::Pending));
        self.resting.retain(|(_, since)| self.now < since + 120);
        self.offers.retain(|(_, _, since)| self.now < since + 30);
    }

    fn compare(&self, keying: &Keying) {
        let views = keying.pairs();
        assert_eq!(views.len(), self.pairs.len());
        for (view, pair) in views.iter().zip(&self.pairs) {
            assert_eq!((view.id, view.usage), (pair.id, pair.usage));
            assert_eq!((view.inbound.spi.get(), &view.peer), (pair.spi, &fqdn(PEERS[pair.peer])));
            for sa in [view.inbound, view.outbound] {
                let slot = keying.snapshot().sad.get(sa.sa).unwrap();
                assert_eq!((slot.usage, slot.entry.class, slot.entry.spi), (pair.usage, view.class, sa.spi));
            }
            assert!(keying.class(view.class).is_some(), "held by its SAs");
        }
        assert_eq!(keying.snapshot().sad.iter().count(), 2 * self.pairs.len());
        assert_eq!(keying.counts().resting_spis, self.resting.len());
    }
}
