use super::*;

use Direction::{Inbound, Outbound};
use flags::{ACK, FIN, RST, SYN};

/// A connection whose two sides are tracked as the shim tracks them.
struct Connection {
    progress: Progress,
    local: Side,
    remote: Side,
}

impl Connection {
    fn begun(direction: Direction) -> Self {
        let isn = |seq| Side::begun(&segment(seq, 0, SYN, 0));
        let (local, remote) = match direction {
            Outbound => (isn(1000), Side::default()),
            Inbound => (Side::default(), isn(9000)),
        };
        Self { progress: Progress::begun(direction), local, remote }
    }

    fn established() -> Self {
        let mut connection = Self::begun(Outbound);
        connection.see(Inbound, 9000, 1001, SYN | ACK, 0);
        connection.see(Outbound, 1001, 9001, ACK, 0);
        assert_eq!(connection.progress, Progress::Both);
        connection
    }

    fn see(&mut self, direction: Direction, seq: u32, ack: u32, flags: u8, len: u32) -> Progress {
        let (sender, receiver) = match direction {
            Outbound => (self.local, self.remote),
            Inbound => (self.remote, self.local),
        };
        let sides = Sides { sender, receiver };
        let (progress, side) = self.progress.after_segment(direction, &segment(seq, ack, flags, len), sides);
        self.progress = progress;
        match direction {
            Outbound => self.local = side,
            Inbound => self.remote = side,
        }
        progress
    }
}

fn segment(seq: u32, ack: u32, flags: u8, payload_len: u32) -> TcpSegment {
    TcpSegment { seq, ack, flags, payload_len }
}

#[test]
fn rfc_9293_figure_6_either_side_may_open() {
    let mut passive = Connection::begun(Inbound);
    assert_eq!(passive.see(Outbound, 1000, 9001, SYN | ACK, 0), Progress::RemoteOnly);
    assert_eq!(passive.see(Inbound, 9001, 1000, ACK, 0), Progress::RemoteOnly, "not what was sent");
    assert_eq!(passive.see(Inbound, 9001, 1001, ACK, 0), Progress::Both);
    Connection::established();
    let mut simultaneous = Connection::begun(Outbound);
    simultaneous.see(Inbound, 9000, 0, SYN, 0);
    simultaneous.see(Outbound, 1000, 9001, SYN | ACK, 0);
    simultaneous.see(Inbound, 9000, 1001, SYN | ACK, 0);
    assert_eq!(simultaneous.see(Inbound, 9001, 1001, ACK, 0), Progress::Both);
}

#[test]
fn rfc_9293_figure_12_both_fins_acknowledged_end_in_time_wait() {
    for (first, second) in [(Outbound, Inbound), (Inbound, Outbound)] {
        let mut connection = Connection::established();
        let seq = |direction| if direction == Outbound { (1001, 9001) } else { (9001, 1001) };
        let (one, other) = (seq(first), seq(second));
        let half = if first == Outbound { Progress::LocalDone } else { Progress::RemoteDone };
        assert_eq!(connection.see(first, one.0, one.1, FIN | ACK, 0), half);
        assert_eq!(connection.see(second, other.0, other.1 + 1, FIN | ACK, 0), Progress::BothDone);
        assert_eq!(connection.see(first, one.0 + 1, one.1 + 1, ACK, 0), Progress::TimeWait);
    }
}

#[test]
fn rfc_5961_3_2_only_a_plausible_reset_ends_the_connection() {
    for (seq, ends) in [(9001, true), (9000, false), (9002, false), (0, false)] {
        let mut connection = Connection::established();
        assert_eq!(connection.see(Inbound, seq, 1001, RST | ACK, 0) == Progress::Ended, ends, "{seq}");
    }
    let mut refused = Connection::begun(Outbound);
    assert_eq!(refused.see(Inbound, 0, 1000, RST | ACK, 0), Progress::LocalOnly, "acknowledges nothing sent");
    assert_eq!(refused.see(Inbound, 0, 1001, RST | ACK, 0), Progress::Ended);
    let mut refusing = Connection::begun(Inbound);
    assert_eq!(refusing.see(Outbound, 0, 9001, RST | ACK, 0), Progress::Ended);
    let mut aborting = Connection::established();
    aborting.see(Outbound, 1001, 9001, ACK, 500);
    assert_eq!(aborting.see(Outbound, 1400, 9001, RST | ACK, 0), Progress::Ended);
}

/// Octets before the RST were lost, so that the socket challenges it, and the next RST is where it expects one.
#[test]
fn rfc_5961_3_2_a_reset_behind_a_loss_may_be_challenged() {
    let mut connection = Connection::established();
    connection.see(Inbound, 9001, 1001, ACK, 500);
    assert_eq!(connection.see(Inbound, 9501, 1001, RST, 0), Progress::RemoteDone);
    assert_eq!(connection.see(Outbound, 1001, 9001, ACK, 0), Progress::RemoteDone, "the challenge");
    assert_eq!(connection.see(Inbound, 9001, 0, RST, 0), Progress::Ended);
}

#[test]
fn rfc_7323_2_3_a_segment_far_from_the_window_moves_nothing() {
    let mut connection = Connection::established();
    assert_eq!(connection.see(Inbound, 9001 + (1 << 31), 1001, FIN | ACK, 0), Progress::Both);
    assert_eq!(connection.see(Inbound, 9001, 1001, RST, 0), Progress::Ended, "the edge stayed where it was");
}

#[test]
fn sequence_numbers_wrap() {
    let mut connection = Connection::begun(Outbound);
    connection.see(Inbound, u32::MAX - 1, 1001, SYN | ACK, 0);
    connection.see(Outbound, 1001, u32::MAX, ACK, 0);
    connection.see(Inbound, u32::MAX, 1001, ACK, 100);
    connection.see(Outbound, 1001, 99, ACK, 0);
    assert_eq!(connection.see(Inbound, 99, 1001, FIN | ACK, 0), Progress::RemoteDone);
    connection.see(Outbound, 1001, 100, ACK, 0);
    assert_eq!(connection.see(Inbound, 100, 1001, RST, 0), Progress::Ended);
}

#[test]
fn a_datagram_each_way_is_a_conversation() {
    assert_eq!(Progress::LocalOnly.after_datagram(Outbound), Progress::LocalOnly);
    assert_eq!(Progress::LocalOnly.after_datagram(Inbound), Progress::Both);
    assert_eq!(Progress::RemoteOnly.after_datagram(Outbound), Progress::Both);
    assert_eq!(Progress::Both.after_datagram(Inbound), Progress::Both);
}
