//! What fits, and why: a sum for each SA.

use std::io;

use latchway_control::{DiscoverySpec, FragmentSpec, MtuRow, MtuView, PartKind};

use crate::cli::screen::Screen;
use crate::cli::table::{Table, Tone, cell, right, text, toned};
use crate::cli::view::{Readable, spi};

impl Readable for MtuView {
    fn read_out(&self, screen: &mut Screen) -> io::Result<()> {
        for (place, sa) in self.sas.iter().enumerate() {
            if place > 0 {
                screen.line("")?;
            }
            screen.table(&about(sa))?;
            screen.table(&sum(sa))?;
        }
        Ok(())
    }
}

/// The SA, its path, and what follows from the sum.
fn about(sa: &MtuRow) -> Table {
    let mut table = Table::pairs();
    let mut row = |name: &str, value| table.row([cell(name), value]);
    let mode = if sa.transport { "transport" } else { "tunnel" };
    let pair = sa.pair.map_or_else(|| "of `latchway xfrm`".to_owned(), |pair| format!("pair {pair}"));
    row("sa", cell(format!("{pair}, SPI {}, {} {mode}, with {}", spi(sa.spi), sa.suite, sa.peer)));
    let path = &sa.path;
    row("path", cell(format!("{} to {}: {} octets configured", path.from, path.to, path.mtu)));
    row(
        "in force",
        if path.suspected {
            let unproven = "said to be too much, and unproven: nobody behind the peer answers";
            toned(format!("{} octets, {unproven}", path.in_force), Tone::Warn)
        } else if path.in_force < path.mtu {
            toned(format!("{} octets, as was found", path.in_force), Tone::Warn)
        } else {
            cell(format!("{} octets", path.in_force))
        },
    );
    row(
        "learns",
        cell(match sa.discovery {
            DiscoverySpec::Fixed => "nothing".to_owned(),
            DiscoverySpec::Learn => format!("when told, and proven: never less than {}", sa.floor),
            DiscoverySpec::Probe => format!("by itself: never less than {}", sa.floor),
        }),
    );
    let fragments = match sa.fragment {
        FragmentSpec::Before => "cut before it is sealed, or refused if it may not be cut",
        FragmentSpec::After => "sealed whole and cut then, or refused if it may not be cut",
    };
    row("inner", cell(format!("{} octets; what is longer is {fragments}", sa.inner)));
    let clamped = if sa.clamped { ", which connections are kept to" } else { "" };
    let mss = [("IPv4", sa.mss_v4), ("IPv6", sa.mss_v6)];
    let mss = mss.iter().filter_map(|(family, mss)| Some(format!("{} over {family}", (*mss)?)));
    row("mss", cell(format!("{}{clamped}", mss.collect::<Vec<_>>().join(", "))));
    table
}

/// The octets, from the outside in.
fn sum(sa: &MtuRow) -> Table {
    let mut table = Table::new([right("OCTETS"), text("OF A PACKET THAT JUST FITS")]);
    for part in &sa.parts {
        table.row([cell(part.octets), cell(name(part.part, sa))]);
    }
    table.row([cell(sa.outer), toned("the outer packet", Tone::Good)]);
    table
}

fn name(part: PartKind, sa: &MtuRow) -> &'static str {
    match part {
        PartKind::OuterHeader if sa.path.to.is_ipv6() => "outer IPv6 header",
        PartKind::OuterHeader => "outer IPv4 header",
        PartKind::Udp => "UDP header",
        PartKind::Ah => "authentication header, with its check value",
        PartKind::EspHeader => "ESP header: SPI and sequence number",
        PartKind::Iv => "initialisation vector",
        PartKind::Inner if sa.transport => "the packet, with its own header in front of all others",
        PartKind::Inner => "inner packet",
        PartKind::Tfc => "padding that hides its length",
        PartKind::Padding => "padding to the cipher's blocks",
        PartKind::Trailer => "pad length and next header",
        PartKind::Icv => "integrity check value",
    }
}

#[cfg(test)]
mod tests {
    use latchway_control::{MtuPart, PathView, SaUsage};

    use super::*;
    use crate::cli::view::shown;

    fn sample() -> MtuRow {
        let part = |part, octets| MtuPart { part, octets };
        MtuRow {
            pair: Some(7),
            peer: "b.example".into(),
            spi: 0x1001,
            suite: "aes-128-gcm".into(),
            usage: SaUsage::Active,
            transport: false,
            path: PathView {
                from: "192.0.2.1".parse().unwrap(),
                to: "192.0.2.2:4500".parse().unwrap(),
                mtu: 1500,
                in_force: 1400,
                suspected: false,
            },
            floor: 1344,
            discovery: DiscoverySpec::Learn,
            inner: 1338,
            parts: vec![
                part(PartKind::OuterHeader, 20),
                part(PartKind::Udp, 8),
                part(PartKind::EspHeader, 8),
                part(PartKind::Iv, 8),
                part(PartKind::Inner, 1338),
                part(PartKind::Trailer, 2),
                part(PartKind::Icv, 16),
            ],
            outer: 1400,
            mss_v4: Some(1298),
            mss_v6: Some(1278),
            clamped: true,
            fragment: FragmentSpec::Before,
        }
    }

    #[test]
    fn the_sum_is_shown_octet_by_octet() {
        assert_eq!(
            shown(&about(&sample()), None),
            "\
sa        pair 7, SPI 0x00001001, aes-128-gcm tunnel, with b.example
path      192.0.2.1 to 192.0.2.2:4500: 1500 octets configured
in force  1400 octets, as was found
learns    when told, and proven: never less than 1344
inner     1338 octets; what is longer is cut before it is sealed, or refused if it may not be cut
mss       1298 over IPv4, 1278 over IPv6, which connections are kept to
"
        );
        assert_eq!(
            shown(&sum(&sample()), None),
            "\
OCTETS  OF A PACKET THAT JUST FITS
    20  outer IPv4 header
     8  UDP header
     8  ESP header: SPI and sequence number
     8  initialisation vector
  1338  inner packet
     2  pad length and next header
    16  integrity check value
  1400  the outer packet
"
        );
    }

    #[test]
    fn a_doubt_is_shown_as_one() {
        let mut sa = sample();
        (sa.path.in_force, sa.path.suspected) = (1500, true);
        assert!(
            shown(&about(&sa), None).contains("in force  1500 octets, said to be too much, and unproven")
        );
    }
}
