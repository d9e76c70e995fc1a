//! A rekey in mid-transfer: new SAs, new SPIs, the same class. Nothing is dropped and the latch is untouched.

use std::fmt;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use latchway_control::LifetimeSpec;
use serde::Serialize;

use crate::demo::cast::{Association, Cast};
use crate::demo::connection::{Connection, Transferred, block, transfer};
use crate::demo::counters::{Counters, Moved};
use crate::demo::failure::{Failure, expect};
use crate::demo::network::Family;
use crate::demo::patience::wait_for;
use crate::demo::sizes::Sizes;
use crate::demo::text;

/// What the rekey left behind.
#[derive(Debug, Serialize)]
pub struct Rekeyed {
    old_spis: [u32; 2],
    new_spis: [u32; 2],
    packets_under_old: u64,
    packets_under_new: u64,
    octets_to_bob: u64,
    octets_to_alice: u64,
    dropped: u64,
    latch: String,
    class: u32,
}

/// Rekeys while data flows both ways.
pub fn show(cast: &Cast, sizes: Sizes) -> Result<Rekeyed, Failure> {
    let old = cast.association()?;
    let connection = Connection::open(cast, Family::V4)?;
    let block = block(b"")?;
    cast.settle()?;
    let before = counters(cast)?;
    let latch_before = connection.expect_latch(&cast.alice)?;
    let over = AtomicBool::new(false);
    let enough = |_| over.load(Ordering::Relaxed);
    let (out, back, changed) = thread::scope(|scope| {
        let Connection { alice, bob, .. } = &connection;
        let flow = |from: &TcpStream, to: &TcpStream| transfer(from, to, &block, enough);
        let out = scope.spawn(move || flow(alice, bob));
        let back = scope.spawn(move || flow(bob, alice));
        let changed = change(cast, old, sizes);
        over.store(true, Ordering::Relaxed);
        (out.join(), back.join(), changed)
    });
    let (new, packets_under_old) = changed?;
    let (out, back) = (joined(out)?, joined(back)?);
    cast.settle()?;
    let after = counters(cast)?;
    let moved: Vec<_> = after.iter().zip(&before).map(|(after, before)| after.since(before)).collect();
    let still = moved.iter().all(|moved| moved.is_nothing());
    expect(still, "no drop counter to move at either gateway", || {
        moved.iter().map(|moved| moved.text()).collect::<Vec<_>>().join("; ")
    })?;
    let latch = connection.expect_latch(&cast.alice)?;
    let untouched = latch.state == latch_before.state
        && latch.class == latch_before.class
        && latch.peer == latch_before.peer
        && latch.reason == latch_before.reason;
    expect(untouched, &format!("the latch as before: {latch_before:?}"), || format!("{latch:?}"))?;
    connection.abort()?;
    let [out_spi, back_spi] = new.spis;
    let packets_under_new =
        Cast::sa(&cast.alice, out_spi)?.packets + Cast::sa(&cast.alice, back_spi)?.packets;
    Ok(Rekeyed {
        old_spis: old.spis,
        new_spis: new.spis,
        packets_under_old,
        packets_under_new,
        octets_to_bob: out.octets,
        octets_to_alice: back.octets,
        dropped: moved.iter().map(Moved::total).sum(),
        latch: latch.state.to_string(),
        class: latch.class,
    })
}

/// Both gateways' counters.
fn counters(cast: &Cast) -> Result<[Counters; 2], Failure> {
    Ok([Counters::of(&cast.alice)?, Counters::of(&cast.bob)?])
}

/// The rekey itself: both ends receive under the new SAs before either sends under them, and the old ones go once what
/// was sent under them has arrived. Returns the new pair, and what the old one carried at alice.
fn change(cast: &Cast, old: Association, sizes: Sizes) -> Result<(Association, u64), Failure> {
    let received = |spis: [u32; 2]| {
        Ok::<_, Failure>([Cast::sa(&cast.bob, spis[0])?.octets, Cast::sa(&cast.alice, spis[1])?.octets])
    };
    let in_flow = |spis: [u32; 2]| {
        let base = received(spis)?;
        wait_for("data both ways under the SAs", || {
            let further = received(spis)?.iter().zip(base).all(|(now, then)| now - then >= sizes.after_rekey);
            Ok(further.then_some(()))
        })
    };
    in_flow(old.spis)?;
    let new = cast.prepare(old.suite, old.family, LifetimeSpec::default())?;
    cast.activate(new)?;
    // Worker, TUN and wire keep the order: once data arrives under the new SAs, none is under way under the old ones.
    in_flow(new.spis)?;
    let [out, back] = old.spis;
    let carried = Cast::sa(&cast.alice, out)?.packets + Cast::sa(&cast.alice, back)?.packets;
    cast.remove(old)?;
    in_flow(new.spis)?;
    Ok((new, carried))
}

fn joined(transfer: thread::Result<Result<Transferred, Failure>>) -> Result<Transferred, Failure> {
    transfer.map_err(|_| Failure::Own("a transferring thread panicked".to_owned()))?
}

impl fmt::Display for Rekeyed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { old_spis, new_spis, packets_under_old, packets_under_new, .. } = self;
        write!(f, "SPIs {} to {}, ", text::spis(old_spis), text::spis(new_spis))?;
        write!(f, "{packets_under_old} packets before and {packets_under_new} after, ")?;
        let (out, back) = (text::size(self.octets_to_bob), text::size(self.octets_to_alice));
        write!(f, "{out} out and {back} back, {} dropped, latch {}", self.dropped, self.latch)
    }
}
