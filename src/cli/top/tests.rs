//! Pictures from recorded answers.

use latchway_control::{DirectionSpec, SaRow, StatusView, StreetView};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::{Value, json};

use super::*;
use crate::cli::top::sample::Speed;
use crate::cli::view::{sa_sample, status_sample};

/// One peer, two pairs, flows and drops, as a gateway answers. `moved` is what has passed.
fn sample(at: u64, moved: u64) -> Sample {
    let street = |octets: u64| StreetView {
        packets: octets / 1000,
        octets,
        dropped: octets / 10_000,
        ..StreetView::default()
    };
    let status = StatusView { started: 0, inbound: street(moved), outbound: street(0), ..status_sample() };
    let peer = |name: &str, octets: u64| {
        json!({
            "name": name, "identity": name, "methods": ["manual"], "standing": "manual", "ranges": ["10.2.0.0/24"],
            "endpoint": "192.0.2.2:4500", "pairs": [1], "inbound": {"packets": 1, "octets": octets},
            "outbound": {"packets": 1, "octets": 2 * octets}, "last_heard": 20
        })
    };
    let sa = |pair: u64, direction, octets: u64| SaRow {
        pair: Some(pair),
        direction,
        spi: 4096 + u32::try_from(pair).unwrap(),
        expired: pair == 2,
        octets,
        idle: Some(1500),
        ..sa_sample()
    };
    let flow = |port: u16, latch: &str, idle: u64| {
        json!({
            "flow": format!("tcp 10.1.0.1:{port} 10.2.0.1:80"), "protocol": 6, "local": format!("10.1.0.1:{port}"),
            "remote": "10.2.0.1:80", "progress": "open", "latch": latch, "peer": "b.example", "sa": null, "idle": idle
        })
    };
    let drop = json!({
        "direction": "inbound", "reason": "replayed", "packets": moved / 10_000, "severity": "audit",
        "section": "RFC 4303 3.4.3", "linux": "XfrmInStateSeqError", "text": "The number was seen before."
    });
    Sample {
        at: Duration::from_secs(at),
        status,
        peers: vec![read(peer("b.example", moved)), read(peer("c.example", 9_000_000_000))],
        sas: vec![
            sa(1, DirectionSpec::Inbound, moved),
            sa(1, DirectionSpec::Outbound, 2 * moved),
            sa(2, DirectionSpec::Inbound, 9),
        ],
        flows: vec![read(flow(40_001, "established", 1500)), read(flow(40_000, "broken", 20))],
        drops: vec![read(drop)],
    }
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn board() -> Board {
    let mut board = Board::between(&sample(10, 1_000_000), sample(12, 251_000_000));
    board.sort(Sort::Rate);
    board
}

/// The screen of a terminal of this size.
fn screen(board: &Board, choice: &Choice, columns: u16, lines: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(columns, lines)).unwrap();
    terminal
        .draw(|frame| draw(board, choice, Duration::from_secs(3600), frame.area(), frame.buffer_mut()))
        .unwrap();
    terminal.backend().to_string()
}

fn lines(screen: &str) -> String {
    let line = |line: &str| format!("{}\n", line.trim_matches('"').trim_end());
    screen.lines().map(line).collect()
}

#[test]
fn everything_has_its_place_at_eighty_by_twenty_four() {
    let expected = "\
branch  a.example  split  up 1 h  tun latchway0
in   1.00 Gbit/s    125 k/s   12.5 k/s dropped
out      0 bit/s       0 /s       0 /s dropped
latches 12 established, 1 broken, 13 in all   sa pairs 2
PEER               ENDPOINT                   IN         OUT      SUM      HEARD
b.example          192.0.2.2:4500    1.00 Gbit/s 2.00 Gbit/s   753 MB      20 ms
c.example          192.0.2.2:4500        0 bit/s     0 bit/s  27.0 GB      20 ms
  PAIR DIR SPI        PEER              USAGE           RATE      SUM       IDLE
     1 out 0x00001001 b.example         active   2.00 Gbit/s   502 MB        1 s
     1 in  0x00001001 b.example         active   1.00 Gbit/s   251 MB        1 s
     2 in  0x00001002 b.example         expired      0 bit/s      9 B        1 s
FLOW                                       LATCH       PEER                 IDLE
tcp 10.1.0.1:40000 10.2.0.1:80             broken      b.example           20 ms
tcp 10.1.0.1:40001 10.2.0.1:80             established b.example             1 s
DROPPED              DIR         PACKETS       RATE MEANING
replayed             in           25 100   12.5 k/s The number was seen before.







q quit  p pause  s sort (by rate)  tab next list  up/down scroll
";
    assert_eq!(lines(&screen(&board(), &Choice::default(), 80, 24)), expected);
}

#[test]
fn a_low_screen_is_shared_and_a_lone_list_scrolls() {
    let low = lines(&screen(&board(), &Choice::default(), 80, 13));
    for head in ["PEER", "PAIR", "FLOW", "DROPPED", "b.example", "tcp 10.1.0.1:40000", "replayed"] {
        assert!(low.contains(head), "{head}: {low}");
    }
    assert!(!low.contains("c.example"), "there is no room for the second row of any list: {low}");
    let mut choice = Choice { panel: Panel::Sas, ..Choice::default() };
    choice.skip(1);
    let alone = lines(&screen(&board(), &choice, 80, 13));
    assert!(!alone.contains("FLOW") && !alone.contains(" out 0x"), "{alone}");
    assert!(alone.contains("1 in  0x00001001") && alone.contains("expired"), "{alone}");
}

#[test]
fn no_screen_is_too_small_or_too_large() {
    for (columns, lines) in [(1, 1), (1, 24), (80, 1), (10, 5), (300, 100)] {
        screen(&board(), &Choice::default(), columns, lines);
    }
}

#[test]
fn rows_go_by_rate_by_sum_or_by_name() {
    let mut board = board();
    let peers = |board: &Board| board.peers.iter().map(|peer| peer.row.name.clone()).collect::<String>();
    assert_eq!(peers(&board), "b.examplec.example");
    board.sort(Sort::Total);
    assert_eq!(peers(&board), "c.exampleb.example");
    assert!(board.flows[0].flow.contains("40000"), "the one that spoke last");
    board.flows[0].idle = 9999;
    board.sort(Sort::Name);
    assert_eq!(peers(&board), "b.examplec.example");
    assert!(board.flows[0].flow.contains("40000"));
}

/// A counter that was begun anew, as that of an SA whose number came back, moves nothing rather than everything.
#[test]
fn a_counter_that_went_back_has_no_rate() {
    let board = Board::between(&sample(10, 5_000_000), sample(12, 1_000_000));
    assert!(board.inbound == Speed::default() && board.peers[0].inbound == Speed::default());
    let same_moment = Board::between(&sample(10, 0), sample(10, 5_000_000));
    assert_eq!(same_moment.inbound, Speed::default());
}

#[test]
fn a_paused_picture_stands_still_and_goes_on_without_a_jump() {
    let mut play = Screenplay::new(sample(10, 0));
    let press = |play: &mut Screenplay, code| play.press(KeyEvent::new(code, KeyModifiers::NONE));
    assert!(!press(&mut play, KeyCode::Char('p')));
    play.take(Ok(Box::new(sample(11, 1_000_000_000))));
    assert_eq!(play.board.status.inbound.octets, 0);
    assert!(lines(&screen(&play.board, &play.choice, 80, 24)).contains("PAUSED"));
    press(&mut play, KeyCode::Char('p'));
    play.take(Ok(Box::new(sample(12, 1_000_000_000))));
    assert_eq!((play.board.status.inbound.octets, play.board.inbound.octets), (1_000_000_000, 0.0));
}

#[test]
fn keys_do_what_the_last_line_says() {
    let mut play = Screenplay::new(sample(10, 0));
    let mut press = |code, modifiers| {
        let ends = play.press(KeyEvent::new(code, modifiers));
        (ends, play.choice.clone())
    };
    assert!(press(KeyCode::Char('q'), KeyModifiers::NONE).0);
    assert!(press(KeyCode::Esc, KeyModifiers::NONE).0);
    assert!(press(KeyCode::Char('c'), KeyModifiers::CONTROL).0);
    assert!(!press(KeyCode::Char('c'), KeyModifiers::NONE).0);
    assert_eq!(press(KeyCode::Char('s'), KeyModifiers::NONE).1.sort, Sort::Total);
    assert_eq!(press(KeyCode::Char('n'), KeyModifiers::NONE).1.sort, Sort::Name);
    assert_eq!(press(KeyCode::Tab, KeyModifiers::NONE).1.panel, Panel::Peers);
    assert_eq!(press(KeyCode::Down, KeyModifiers::NONE).1.skipped, 1);
    assert_eq!(press(KeyCode::PageUp, KeyModifiers::NONE).1.skipped, 0);
    assert_eq!(press(KeyCode::Char('4'), KeyModifiers::NONE).1.panel, Panel::Drops);
}

#[test]
fn a_gateway_that_is_gone_is_told_and_the_picture_stays() {
    let mut play = Screenplay::new(sample(10, 0));
    play.take(Err("no gateway answers".into()));
    let text = lines(&screen(&play.board, &play.choice, 80, 24));
    assert!(text.contains("no gateway answers") && text.contains("b.example"), "{text}");
    play.take(Ok(Box::new(sample(11, 0))));
    assert!(!lines(&screen(&play.board, &play.choice, 80, 24)).contains("no gateway answers"));
}

/// What a peer calls itself steers no terminal.
#[test]
fn names_are_shown_without_control_characters() {
    let mut sample = sample(10, 0);
    sample.peers[0].identity = "b\u{1b}[2J\u{202e}".into();
    let board = Board::between(&sample.clone(), sample);
    let text = screen(&board, &Choice::default(), 120, 24);
    assert!(text.contains("b\\u{1b}[2J\\u{202e}") && !text.contains('\u{202e}'), "{text}");
}

#[test]
fn one_picture_for_scripts_has_every_row_and_no_keys() {
    let board = board();
    let text = picture(&board, &Choice::still(), WIDE, full_height(&board));
    assert_eq!(text.lines().count(), 16, "{text}");
    assert!(!text.contains("quit") && text.contains("replayed"), "{text}");
}
