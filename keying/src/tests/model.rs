//! Random orders of operations against a model that a child could follow: a list of pairs and a list of SPIs at rest.

use latchway_datapath::drop::Direction;
use latchway_datapath::flow::{FlowKey, protocol};
use latchway_datapath::sad::Usage;
use latchway_datapath::traffic::Traffic;
use latchway_esp::Suite;
use latchway_tagging::{ClassId, SaRef, SnapshotId};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::testing::{at, entry, fqdn, keying, keys, proposal};
use crate::{Change, Keying, Keys, NewPair, Offer, Op, Pad, PairId, Question, Start, Transaction, Verdict};

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
    Commit(Vec<(Wish, usize)>),
    /// A reload: pairs to add, wishes of pairs that are there, and which peers the PAD knows from then on.
    Change {
        add: Vec<(usize, u32, Start)>,
        wishes: Vec<(Wish, usize)>,
        peers: Option<[bool; 3]>,
    },
    /// The key manager ends and is rebuilt.
    Recover,
    Wait {
        seconds: u64,
    },
    Poll,
    /// A worker begins a batch, or blocks.
    Worker {
        blocks: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Wish {
    Activate,
    Retire,
    Drain,
    Remove,
}

#[derive(Clone, Debug)]
struct ModelPair {
    id: PairId,
    peer: usize,
    spi: u32,
    usage: Usage,
    /// What it will be, and the snapshot that the worker must have seen first.
    then: Usage,
    published: SnapshotId,
    /// Whether it waits for a change that added it.
    staged: bool,
    drained_at: Option<u64>,
}

#[derive(Debug)]
struct Staged {
    wishes: Vec<(Wish, PairId)>,
    published: SnapshotId,
}

#[derive(Debug)]
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
    staged: Option<Staged>,
    /// The snapshot from which on nobody is latched any more whom the PAD does not know.
    parting: Option<SnapshotId>,
    /// The peers that the PAD knows.
    known: [bool; 3],
    worker_blocks: bool,
    adopted: SnapshotId,
    /// Changes that came into force with pairs of theirs, and pairs that drained.
    done: [usize; 2],
}

const PEERS: [&str; 3] = ["bob", "mallory", "carol"];

fn step() -> impl Strategy<Value = Step> {
    let start = prop_oneof![Just(Start::Standby), Just(Start::Active)];
    let wish =
        || prop_oneof![Just(Wish::Activate), Just(Wish::Retire), Just(Wish::Drain), Just(Wish::Remove)];
    let peers =
        prop_oneof![4 => Just(None), 1 => any::<[bool; 3]>().prop_map(Some), 2 => Just(Some([true; 3]))];
    let add = (0..PEERS.len(), 0x1000..0x1010_u32, start.clone());
    prop_oneof![
        4 => (0..PEERS.len()).prop_map(|peer| Step::Propose { peer }),
        1 => (0..4_usize).prop_map(|offer| Step::Drop { offer }),
        6 => (0..4_usize, 0x1000..0x1010_u32, start)
            .prop_map(|(offer, spi, start)| Step::Install { offer, spi, start }),
        6 => vec((wish(), 0..6_usize), 1..4).prop_map(Step::Commit),
        6 => (vec(add, 0..3), vec((wish(), 0..6_usize), 0..3), peers)
            .prop_map(|(add, wishes, peers)| Step::Change { add, wishes, peers }),
        1 => Just(Step::Recover),
        3 => prop_oneof![3 => 1..15_u64, 1 => 15..130_u64].prop_map(|seconds| Step::Wait { seconds }),
        5 => Just(Step::Poll),
        4 => any::<bool>().prop_map(|blocks| Step::Worker { blocks }),
    ]
}

#[test]
fn random_operations_agree_with_a_naive_model() {
    let config = Config { cases: 300, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let counted = std::cell::RefCell::new([0; 3]);
    runner
        .run(&vec(step(), 1..120), |steps| {
            let mut keying = keying();
            let mut worker = keying.publisher().reader();
            let mut model = Model::new();
            for step in steps {
                if matches!(step, Step::Worker { .. }) {
                    let Step::Worker { blocks } = step else { continue };
                    worker.adopt();
                    if blocks {
                        worker.quiesce();
                    }
                    (model.worker_blocks, model.adopted) = (blocks, keying.snapshot().id);
                } else {
                    model.step(&mut keying, step);
                }
                model.compare(&keying);
            }
            let mut counted = counted.borrow_mut();
            let of_these = [model.ids.len(), model.done[0], model.done[1]];
            counted.iter_mut().zip(of_these).for_each(|(count, more)| *count += more);
            Ok(())
        })
        .unwrap();
    let [installed, changed, drained] = counted.into_inner();
    assert!(
        installed > 500 && changed > 200 && drained > 50,
        "{installed}, {changed}, {drained}: too few for the comparison to mean much"
    );
}

impl Model {
    fn new() -> Self {
        Self {
            now: 0,
            offers: Vec::new(),
            pairs: Vec::new(),
            resting: Vec::new(),
            refs: Vec::new(),
            ids: Vec::new(),
            classes: Vec::new(),
            staged: None,
            parting: None,
            known: [true; 3],
            worker_blocks: true,
            adopted: SnapshotId::default(),
            done: [0; 2],
        }
    }

    /// Whether no worker uses anything older.
    fn settled(&self, published: SnapshotId) -> bool {
        self.worker_blocks || self.adopted >= published
    }

    fn step(&mut self, keying: &mut Keying, step: Step) {
        match step {
            Step::Propose { peer } => self.propose(keying, peer),
            Step::Drop { offer } if offer < self.offers.len() => drop(self.offers.remove(offer)),
            Step::Install { offer, spi, start } if offer < self.offers.len() => {
                self.install(keying, offer, spi, start);
            }
            Step::Commit(wishes) => self.commit(keying, &wishes),
            Step::Change { add, wishes, peers } => self.change(keying, &add, &wishes, peers),
            Step::Recover => self.recover(keying),
            Step::Wait { seconds } => self.now += seconds,
            Step::Poll => self.poll(keying),
            _ => {}
        }
    }

    fn propose(&mut self, keying: &mut Keying, peer: usize) {
        let offer = keying.propose(proposal(PEERS[peer]), at(self.now));
        assert_eq!(offer.is_ok(), self.known[peer]);
        let Ok(offer) = offer else { return };
        // One class per peer for as long as anything of it is there, and none that another peer ever had.
        let others = self.classes.iter().filter(|(of, _)| *of != peer);
        assert!(others.clone().all(|(_, class)| *class != offer.class));
        self.classes.push((peer, offer.class));
        self.offers.push((offer, peer, self.now));
    }

    fn install(&mut self, keying: &mut Keying, offer: usize, spi: u32, start: Start) {
        let (offer, peer, since) = self.offers.remove(offer);
        let free = self.is_free(spi);
        let class = offer.class;
        let keys = Keys { start, ..keys(spi, Suite::AES_128_GCM) };
        match keying.install(offer.ticket, keys, at(self.now)) {
            Ok(id) => {
                assert!(free && self.now < since + 30);
                self.enter(keying, (id, peer, spi), start, false);
                assert_eq!(keying.pairs().pop().unwrap().class, class);
            }
            Err(error) => assert!(!free || self.now >= since + 30, "{error}"),
        }
    }

    fn is_free(&self, spi: u32) -> bool {
        self.pairs.iter().all(|pair| pair.spi != spi)
            && self.resting.iter().all(|(resting, _)| *resting != spi)
    }

    /// A pair was published as pending.
    fn enter(&mut self, keying: &Keying, new: (PairId, usize, u32), start: Start, staged: bool) {
        let (id, peer, spi) = new;
        assert!(self.ids.iter().all(|earlier| *earlier < id), "ids are not used again");
        self.ids.push(id);
        let (usage, then, published) = (Usage::Pending, Usage::from(start), keying.snapshot().id);
        self.pairs.push(ModelPair { id, peer, spi, usage, then, published, staged, drained_at: None });
        let view = keying.pairs().into_iter().find(|view| view.id == id).unwrap();
        for sa in [view.inbound.sa, view.outbound.sa] {
            assert!(!self.refs.contains(&sa), "a reference never comes to mean another SA");
            self.refs.push(sa);
        }
    }

    /// The pair that a place means, the newest first, or one that never was.
    fn target(&self, place: usize) -> PairId {
        self.ids.iter().rev().nth(place).copied().unwrap_or(PairId::from_raw(0))
    }

    fn commit(&mut self, keying: &mut Keying, wishes: &[(Wish, usize)]) {
        let wishes: Vec<_> = wishes.iter().map(|(wish, place)| (*wish, self.target(*place))).collect();
        let ops = wishes.iter().map(|(wish, id)| match wish {
            Wish::Activate => Op::Activate(*id),
            Wish::Retire => Op::Retire(*id),
            Wish::Drain => Op::Drain(*id),
            Wish::Remove => Op::Remove(*id),
        });
        let before = self.pairs.clone();
        let possible = wishes.iter().all(|(wish, id)| self.apply(*wish, *id));
        let committed = keying.commit(Transaction::new(ops.collect()), at(self.now));
        assert_eq!(committed.is_ok(), possible);
        if !possible {
            self.pairs = before;
            return;
        }
        for gone in before.iter().filter(|pair| self.pairs.iter().all(|left| left.id != pair.id)) {
            self.resting.push((gone.spi, self.now));
        }
        // Nobody stays longer for being sent away again.
        for pair in self.pairs.iter_mut().filter(|pair| pair.drained_at.is_some()) {
            let earlier = before.iter().find(|before| before.id == pair.id).and_then(|pair| pair.drained_at);
            pair.drained_at = earlier.or(pair.drained_at);
        }
    }

    fn apply(&mut self, wish: Wish, id: PairId) -> bool {
        let Some(place) = self.pairs.iter().position(|pair| pair.id == id) else { return false };
        let pair = &mut self.pairs[place];
        let pending = pair.usage == Usage::Pending;
        match wish {
            Wish::Remove => drop(self.pairs.remove(place)),
            Wish::Activate if !pending => (pair.usage, pair.drained_at) = (Usage::Active, None),
            Wish::Retire if !pending => (pair.usage, pair.drained_at) = (Usage::Retired, None),
            Wish::Drain if !pending => {
                let drained_at = pair.drained_at.unwrap_or(self.now + 10);
                (pair.usage, pair.drained_at) = (Usage::Retired, Some(drained_at));
            }
            _ => return false,
        }
        true
    }

    fn change(
        &mut self,
        keying: &mut Keying,
        add: &[(usize, u32, Start)],
        wishes: &[(Wish, usize)],
        peers: Option<[bool; 3]>,
    ) {
        let wishes: Vec<_> = wishes.iter().map(|(wish, place)| (*wish, self.target(*place))).collect();
        let of = |wanted: Wish| -> Vec<PairId> {
            wishes.iter().filter(|(wish, _)| *wish == wanted).map(|(_, id)| *id).collect()
        };
        let new = |(peer, spi, start): &(usize, u32, Start)| NewPair {
            proposal: proposal(PEERS[*peer]),
            keys: Keys { start: *start, ..keys(*spi, Suite::AES_128_GCM) },
        };
        let change = Change {
            pad: peers.map(pad),
            rules: None,
            add: add.iter().map(new).collect(),
            revise: Vec::new(),
            activate: of(Wish::Activate),
            retire: of(Wish::Retire),
            remove: of(Wish::Drain),
            cut: of(Wish::Remove),
        };
        let possible = self.is_possible(add, &wishes, peers);
        assert_eq!(keying.check_change(&change).is_ok(), possible);
        self.compare(keying);
        assert_eq!(keying.begin_change(change, at(self.now)).is_ok(), possible);
        if !possible {
            return;
        }
        self.known = peers.unwrap_or(self.known);
        let known = self.known;
        self.offers.retain(|(_, peer, _)| known[*peer]);
        let views = keying.pairs();
        let added = views.iter().rev().take(add.len()).rev();
        for (view, (peer, spi, start)) in added.zip(add) {
            self.enter(keying, (view.id, *peer, *spi), *start, true);
        }
        self.staged = Some(Staged { wishes, published: keying.snapshot().id });
    }

    fn is_possible(
        &self,
        add: &[(usize, u32, Start)],
        wishes: &[(Wish, PairId)],
        peers: Option<[bool; 3]>,
    ) -> bool {
        let known = peers.unwrap_or(self.known);
        let twins = |place: usize| add[..place].iter().any(|(_, spi, _)| *spi == add[place].1);
        let added = add
            .iter()
            .enumerate()
            .all(|(place, (peer, spi, _))| known[*peer] && self.is_free(*spi) && !twins(place));
        let wished = wishes.iter().enumerate().all(|(place, (wish, id))| {
            let pair = self.pairs.iter().find(|pair| pair.id == *id);
            let leaves = matches!(wish, Wish::Drain | Wish::Remove);
            let once = wishes[..place].iter().all(|(_, other)| other != id);
            once && pair.is_some_and(|pair| leaves || pair.usage != Usage::Pending)
        });
        let leaves = |id: PairId| {
            wishes.iter().any(|(wish, of)| *of == id && matches!(wish, Wish::Drain | Wish::Remove))
        };
        let stays = |pair: &&ModelPair| pair.drained_at.is_none() && !leaves(pair.id);
        let allowed = self.pairs.iter().filter(stays).all(|pair| known[pair.peer]);
        self.staged.is_none() && added && wished && (peers.is_none() || allowed)
    }

    fn recover(&mut self, keying: &mut Keying) {
        let current = keying.snapshot().id;
        keying.recover(at(self.now));
        assert_eq!(keying.snapshot().id, current, "there was nothing to mend");
        for pair in self.pairs.iter_mut().filter(|pair| pair.usage == Usage::Pending) {
            pair.published = current;
        }
        self.staged.iter_mut().for_each(|staged| staged.published = current);
    }

    fn poll(&mut self, keying: &mut Keying) {
        let progress = keying.poll(at(self.now));
        let gone = |pair: &ModelPair| pair.drained_at.is_some_and(|moment| moment <= self.now);
        let mut drained: Vec<_> = self.pairs.iter().filter(|pair| gone(pair)).collect();
        drained.sort_by_key(|pair| (pair.drained_at, pair.id));
        let drained: Vec<_> = drained.into_iter().map(|pair| pair.id).collect();
        drained.iter().for_each(|id| self.leave(*id));
        assert_eq!(progress.drained, drained);
        self.done[1] += drained.len();
        let due = self.staged.take_if(|staged| self.worker_blocks || self.adopted >= staged.published);
        let pending: Vec<_> =
            self.pairs.iter().filter(|pair| pair.usage == Usage::Pending).map(|pair| pair.id).collect();
        let mut settled = Vec::new();
        for place in 0..self.pairs.len() {
            let pair = &self.pairs[place];
            let comes = if pair.staged { due.is_some() } else { self.settled(pair.published) };
            if pair.usage == Usage::Pending && comes {
                if !pair.staged {
                    settled.push(pair.id);
                }
                self.pairs[place].usage = pair.then;
            }
        }
        assert_eq!(progress.settled, settled);
        assert_eq!(progress.changed.is_some(), due.is_some());
        self.parting.take_if(|published| self.worker_blocks || self.adopted >= *published);
        if progress.changed.as_ref().is_some_and(|changed| changed.outline.pad.is_some()) {
            self.parting = Some(keying.snapshot().id);
        }
        self.done[0] += usize::from(progress.changed.is_some_and(|changed| !changed.added.is_empty()));
        due.into_iter().for_each(|staged| self.carry_out(&staged, &pending));
        let waits = |pair: &ModelPair| pair.usage == Usage::Pending && !pair.staged;
        let settling = self.staged.is_some() || self.pairs.iter().any(waits) || self.parting.is_some();
        assert_eq!(progress.settling, settling);
        self.resting.retain(|(_, since)| self.now < since + 120);
        self.offers.retain(|(_, _, since)| self.now < since + 30);
    }

    fn carry_out(&mut self, staged: &Staged, pending: &[PairId]) {
        for (wish, id) in &staged.wishes {
            let Some(pair) = self.pairs.iter().find(|pair| pair.id == *id) else { continue };
            let leaves = *wish == Wish::Drain && (pending.contains(id) || !self.known[pair.peer]);
            if leaves || *wish == Wish::Remove {
                self.leave(*id);
            } else {
                assert!(self.apply(*wish, *id));
            }
        }
        let unwelcome = |pair: &&ModelPair| pair.drained_at.is_some() && !self.known[pair.peer];
        let unwelcome: Vec<_> = self.pairs.iter().filter(unwelcome).map(|pair| pair.id).collect();
        unwelcome.into_iter().for_each(|id| self.leave(id));
    }

    fn leave(&mut self, id: PairId) {
        let gone = self.pairs.extract_if(.., |pair| pair.id == id);
        self.resting.extend(gone.map(|pair| (pair.spi, self.now)));
    }

    fn compare(&self, keying: &Keying) {
        let views = keying.pairs();
        assert_eq!(views.len(), self.pairs.len());
        for (view, pair) in views.iter().zip(&self.pairs) {
            assert_eq!((view.id, view.usage), (pair.id, pair.usage));
            assert_eq!(view.drained_at, pair.drained_at.map(at));
            assert_eq!((view.inbound.spi.get(), &view.peer), (pair.spi, &fqdn(PEERS[pair.peer])));
            for sa in [view.inbound, view.outbound] {
                let slot = keying.snapshot().sad.get(sa.sa).unwrap();
                assert_eq!((slot.usage, slot.entry.class, slot.entry.spi), (pair.usage, view.class, sa.spi));
            }
            assert!(keying.class(view.class).is_some(), "held by its SAs");
            // What is explained is what the packet path would choose.
            let flow = if pair.peer == 2 { "10.3.0.1:80" } else { "10.1.0.1:80" };
            let flow = FlowKey::new(protocol::TCP, "10.0.0.1:5".parse().unwrap(), flow.parse().unwrap());
            let question = Question { flow, direction: Direction::Outbound, required: Some(view.class) };
            let chosen = keying.snapshot().sad.select(&Traffic::of(&flow), Some(view.class), None);
            let explained = match keying.explain(&question).verdict {
                Verdict::Protected(carrier) => Some(carrier.sa),
                Verdict::Bypassed | Verdict::Dropped(_) => None,
            };
            assert_eq!(explained, chosen.map(|slot| slot.entry.sa));
        }
        assert_eq!(keying.snapshot().sad.iter().count(), 2 * self.pairs.len());
        let (counts, draining) =
            (keying.counts(), self.pairs.iter().filter(|pair| pair.drained_at.is_some()));
        assert_eq!((counts.resting_spis, counts.draining), (self.resting.len(), draining.count()));
        let pending = self.pairs.iter().filter(|pair| pair.usage == Usage::Pending);
        assert_eq!((counts.settling, keying.is_changing()), (pending.count(), self.staged.is_some()));
    }
}

/// The PAD of the tests, without those whom it does not know.
fn pad(known: [bool; 3]) -> Pad {
    let entries = [
        entry(1, "bob", "10.1.0.0", "10.1.0.255"),
        entry(2, "mallory", "10.1.0.0", "10.1.0.255"),
        entry(3, "carol", "10.3.0.0", "10.3.0.255"),
    ];
    Pad::new(entries.into_iter().zip(known).filter(|(_, known)| *known).map(|(entry, _)| entry).collect())
        .unwrap()
}
