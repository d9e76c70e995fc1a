//! The audit log: auditable drops, in the log and to whoever listens (RFC 4301 section 5.2; RFC 4302 and RFC 4303 section 4).

use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam::channel::Receiver;
use latchway_control::{EventKind, EventView};
use latchway_datapath::audit::Record;

use crate::gateway::daemon::tell;
use crate::gateway::events::EventHub;
use crate::gateway::rows::direction_word;

/// Tells of records until the worker that makes them is gone. `listen` are the addresses of its wires, by number.
pub fn start(
    records: Receiver<Record>,
    listen: Vec<SocketAddr>,
    events: Arc<EventHub>,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("audit".into()).spawn(move || {
        for record in records {
            let text = line(&record, &listen);
            // Both bear the time: the log by whoever keeps it, the event by itself.
            tell(&format!("audit: {text}"));
            events.publish(EventView {
                direction: Some(direction_word(record.direction)),
                reason: Some(record.reason.info().name.into()),
                spi: record.outer.and_then(|outer| outer.spi).map(|spi| spi.get()),
                flow: record.flow.map(|flow| flow.to_string()),
                count: Some(record.unrecorded).filter(|&count| count > 0),
                ..EventView::new(EventKind::Audit, text)
            });
        }
    })
}

/// What happened, to what packet.
fn line(record: &Record, listen: &[SocketAddr]) -> String {
    let info = record.reason.info();
    let mut text = format!("{} {}", direction_word(record.direction), info.name);
    if let Some(outer) = record.outer {
        let _ = write!(text, " from {}", outer.from);
        if let Some(to) = listen.get(outer.wire) {
            let _ = write!(text, " to {to}");
        }
        if let (Some(spi), Some(seq)) = (outer.spi, outer.seq) {
            let _ = write!(text, " spi {spi} seq {}", seq.0);
        }
        if let Some(label) = outer.flow_label {
            let _ = write!(text, " flow label 0x{label:05x}");
        }
    }
    if let Some(flow) = record.flow {
        let _ = write!(text, " {flow}");
    }
    if record.unrecorded > 0 {
        let _ = write!(text, " ({} before it are counted alone)", record.unrecorded);
    }
    let _ = write!(text, ": {}", info.text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use latchway_datapath::audit::Outer;
    use latchway_datapath::drop::{Direction, DropReason};
    use latchway_datapath::time::Time;
    use latchway_esp::{SeqLow, Spi};

    /// RFC 4303 section 3.4.2: SPI, addresses, sequence number and flow label, where a packet has them.
    #[test]
    fn rfc_4303_3_4_2_a_line_says_what_an_audit_wants_to_know() {
        let from = "[2001:db8::2]:0".parse().unwrap();
        let (spi, seq) = (Spi::new(0x1234), Some(SeqLow(7)));
        let outer = Outer { from, wire: 0, spi, seq, flow_label: Some(0xabc) };
        let record = Record {
            at: Time::default(),
            direction: Direction::Inbound,
            reason: DropReason::NoSa,
            outer: Some(outer),
            flow: None,
            unrecorded: 3,
        };
        assert_eq!(
            line(&record, &["[2001:db8::1]:4500".parse().unwrap()]),
            "inbound no_sa from [2001:db8::2]:0 to [2001:db8::1]:4500 spi 0x00001234 seq 7 flow label 0x00abc \
             (3 before it are counted alone): No SA has this SPI."
        );
    }
}
