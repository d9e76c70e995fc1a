//! How each answer of a gateway reads as text.

mod alert;
mod drops;
mod event;
mod explain;
mod flow;
mod inquiry;
mod latch;
mod mtu;
mod peer;
mod policy;
mod reload;
mod sa;
mod status;
mod whois;

use std::io;
use std::time::{Duration, UNIX_EPOCH};

use latchway_control::{
    DirectionSpec, Drops, Explanation, Flows, LatchDetail, LatchNamed, LatchState, Latches, Peers, Policies,
    Reloaded, SaUsed, Sas, WhoisAnswer,
};

use crate::cli::screen::Screen;
use crate::cli::table::{Cell, Table, Tone, cell, toned};
use crate::cli::units::span;

pub use alert::alert_line;
pub use drops::tone as severity;
pub use event::event_line;
#[cfg(test)]
pub use {sa::tests::sample as sa_sample, status::tests::sample as status_sample};

/// An answer that people can read.
pub trait Readable {
    /// Writes it for people.
    ///
    /// # Errors
    /// Those of standard output.
    fn read_out(&self, screen: &mut Screen) -> io::Result<()>;
}

/// Writes a list, or that it has no rows.
fn list(screen: &mut Screen, table: &Table, nothing: &str) -> io::Result<()> {
    if table.is_empty() { screen.line(nothing) } else { screen.table(table) }
}

macro_rules! lists {
    ($($view:ty: $table:path, $rows:ident, $nothing:literal;)+) => {
        $(impl Readable for $view {
            fn read_out(&self, screen: &mut Screen) -> io::Result<()> {
                list(screen, &$table(&self.$rows), $nothing)
            }
        })+
    };
}

lists! {
    Drops: drops::table, drops, "nothing was dropped";
    Flows: flow::table, flows, "no flows";
    Latches: latch::table, latches, "no latches";
    Peers: peer::table, peers, "no peers";
    Policies: policy::table, policies, "no policy: every packet is dropped";
    Sas: sa::table, sas, "no SAs";
}

impl Readable for latchway_control::StatusView {
    fn read_out(&self, screen: &mut Screen) -> io::Result<()> {
        let now = UNIX_EPOCH.elapsed().unwrap_or_default();
        screen.table(&status::table(self, now))
    }
}

impl Readable for LatchNamed {
    fn read_out(&self, screen: &mut Screen) -> io::Result<()> {
        screen.table(&inquiry::named(self))
    }
}

impl Readable for LatchDetail {
    fn read_out(&self, screen: &mut Screen) -> io::Result<()> {
        screen.table(&inquiry::table(self))
    }
}

impl Readable for WhoisAnswer {
    fn read_out(&self, screen: &mut Screen) -> io::Result<()> {
        whois::read_out(self, screen)
    }
}

impl Readable for Explanation {
    fn read_out(&self, screen: &mut Screen) -> io::Result<()> {
        screen.table(&explain::table(self))
    }
}

impl Readable for Reloaded {
    fn read_out(&self, screen: &mut Screen) -> io::Result<()> {
        screen.table(&reload::table(self))
    }
}

/// The state of a latch.
fn latch_state(state: LatchState) -> Cell {
    let tone = match state {
        LatchState::Established => Tone::Good,
        LatchState::Broken => Tone::Bad,
        LatchState::Larval | LatchState::Listener => Tone::Plain,
        LatchState::Closed => Tone::Faint,
    };
    toned(state, tone)
}

/// A direction in one short word.
pub const fn direction(direction: DirectionSpec) -> &'static str {
    match direction {
        DirectionSpec::Inbound => "in",
        DirectionSpec::Outbound => "out",
    }
}

/// Whether something is for one direction or for both.
fn directions(found: Option<DirectionSpec>) -> Cell {
    cell(found.map_or("both", direction))
}

/// An SPI as specifications and captures write it.
pub fn spi(number: u32) -> String {
    format!("0x{number:08x}")
}

/// A pair and the SPI that a flow uses.
fn sa_used(sa: &SaUsed) -> String {
    sa.pair.map_or_else(|| format!("xfrm ({})", spi(sa.spi)), |pair| format!("{pair} ({})", spi(sa.spi)))
}

/// An SA that is used, as a line of its own names it.
fn sa_named(sa: &SaUsed) -> String {
    let owner = sa.pair.map_or_else(|| "xfrm".into(), |pair| format!("pair {pair}"));
    format!("{owner}, SPI {}, {}", spi(sa.spi), sa.suite)
}

/// A span of time given in milliseconds, or a dash.
fn milliseconds(time: Option<u64>) -> Cell {
    time.map_or_else(|| toned("-", Tone::Faint), |time| cell(span(Duration::from_millis(time))))
}

/// A moment, given in milliseconds since 1970.
fn moment(time: u64) -> String {
    UNIX_EPOCH
        .checked_add(Duration::from_millis(time))
        .filter(|_| time < END_OF_9999)
        .map_or_else(|| format!("{time} ms"), |time| humantime::format_rfc3339_millis(time).to_string())
}

/// The first moment with a year of five digits.
const END_OF_9999: u64 = 253_402_300_800_000;

/// A table as a terminal of this width shows it, without colours.
#[cfg(test)]
fn shown(table: &Table, width: Option<usize>) -> String {
    let mut out = anstream::StripStream::new(Vec::new());
    table.write(&mut out, width).unwrap();
    String::from_utf8(out.into_inner()).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_rfc_3339_and_never_a_panic() {
        assert_eq!(moment(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(moment(END_OF_9999 - 1), "9999-12-31T23:59:59.999Z");
        assert_eq!(moment(END_OF_9999), "253402300800000 ms");
        assert_eq!(moment(u64::MAX), "18446744073709551615 ms");
    }
}
