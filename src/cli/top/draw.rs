//! The picture: a head, four lists, and what keys there are.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row, Table, Widget};

use crate::cli::table::{Tone, printable};
use crate::cli::top::sample::{Board, Sort, Speed};
use crate::cli::units::{bit_rate, count, octets, packet_rate, span};

/// What the user chose to see.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// The order of the rows.
    pub sort: Sort,
    /// One list alone, or all.
    pub panel: Panel,
    /// Whether the picture stands still.
    pub paused: bool,
    /// Rows of a lone list that are scrolled past.
    pub skipped: usize,
    /// Why there is nothing newer.
    pub trouble: Option<String>,
    /// Whether no key can change it.
    pub still: bool,
}

/// Which lists are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Panel {
    /// All of them.
    #[default]
    All,
    /// Peers.
    Peers,
    /// SAs.
    Sas,
    /// Flows.
    Flows,
    /// Drops.
    Drops,
}

impl Choice {
    /// For a picture that no key can change.
    pub fn still() -> Self {
        Self { still: true, ..Self::default() }
    }

    /// Scrolls by some rows.
    pub const fn skip(&mut self, rows: isize) {
        self.skipped = self.skipped.saturating_add_signed(rows);
    }
}

impl Panel {
    /// The one after it.
    pub const fn next(self) -> Self {
        match self {
            Self::All => Self::Peers,
            Self::Peers => Self::Sas,
            Self::Sas => Self::Flows,
            Self::Flows => Self::Drops,
            Self::Drops => Self::All,
        }
    }
}

/// Draws the board. `now` is the time since 1970.
pub fn draw(board: &Board, choice: &Choice, now: Duration, area: Rect, buffer: &mut Buffer) {
    let parts = [Constraint::Length(HEAD), Constraint::Fill(1), Constraint::Length(u16::from(!choice.still))];
    let [head, body, foot] = Layout::vertical(parts).areas(area);
    Paragraph::new(head_lines(board, now)).render(head, buffer);
    let panels: &[Panel] = match choice.panel {
        Panel::All => &ALL,
        Panel::Peers => &[Panel::Peers],
        Panel::Sas => &[Panel::Sas],
        Panel::Flows => &[Panel::Flows],
        Panel::Drops => &[Panel::Drops],
    };
    let places = Layout::vertical(heights(board, panels, body.height)).split(body);
    for (&panel, &place) in panels.iter().zip(places.iter()) {
        list(board, panel, choice.skipped).render(place, buffer);
    }
    foot_line(choice).render(foot, buffer);
}

/// How many lines it takes to show every row.
pub fn full_height(board: &Board) -> u16 {
    let rows: usize = ALL.iter().map(|&panel| rows(board, panel) + 1).sum();
    u16::try_from(rows).unwrap_or(u16::MAX).saturating_add(HEAD)
}

/// Each list gets what it needs, or else an even share and what others leave.
fn heights(board: &Board, panels: &[Panel], height: u16) -> Vec<u16> {
    let need = |panel: &Panel| u16::try_from(rows(board, *panel) + 1).unwrap_or(u16::MAX);
    let needs: Vec<u16> = panels.iter().map(need).collect();
    let mut given = vec![0; needs.len()];
    let mut left = height;
    while left > 0 && given.iter().zip(&needs).any(|(given, need)| given < need) {
        for (given, need) in given.iter_mut().zip(&needs) {
            if *given < *need && left > 0 {
                *given += 1;
                left -= 1;
            }
        }
    }
    given
}

fn rows(board: &Board, panel: Panel) -> usize {
    match panel {
        Panel::All => 0,
        Panel::Peers => board.peers.len(),
        Panel::Sas => board.sas.len(),
        Panel::Flows => board.flows.len(),
        Panel::Drops => board.drops.len(),
    }
}

fn head_lines(board: &Board, now: Duration) -> Vec<Line<'static>> {
    let status = &board.status;
    let up = span(now.saturating_sub(Duration::from_millis(status.started)));
    let tun = if status.tun.up == Some(false) { " down".red() } else { "".into() };
    let broken = format!("{} broken", count(status.latches.broken));
    vec![
        Line::from(vec![
            printable(&status.name).bold(),
            format!(
                "  {}  {}  up {up}  tun {}",
                printable(&status.identity),
                status.mode,
                printable(&status.tun.name)
            )
            .into(),
            tun,
        ]),
        Line::from(format!("in  {}", street(&board.inbound))),
        Line::from(format!("out {}", street(&board.outbound))),
        Line::from(vec![
            format!("latches {} established, ", count(status.latches.established)).into(),
            if status.latches.broken > 0 { broken.yellow() } else { broken.into() },
            format!(", {} in all   sa pairs {}", count(status.latches.total()), count(status.pairs)).into(),
        ]),
    ]
}

fn street(speed: &Speed) -> String {
    let (bits, packets) = (bit_rate(speed.octets), packet_rate(speed.packets));
    format!("{bits:>12}  {packets:>9}  {:>9} dropped", packet_rate(speed.dropped))
}

fn foot_line(choice: &Choice) -> Line<'static> {
    if let Some(trouble) = &choice.trouble {
        return Line::from(printable(trouble)).red();
    }
    let sort = match choice.sort {
        Sort::Rate => "rate",
        Sort::Total => "total",
        Sort::Name => "name",
    };
    let paused = if choice.paused { "PAUSED  " } else { "" };
    Line::from(vec![
        paused.yellow(),
        format!("q quit  p pause  s sort (by {sort})  tab next list  up/down scroll").dim(),
    ])
}

fn list(board: &Board, panel: Panel, skipped: usize) -> Table<'static> {
    match panel {
        Panel::All => Table::default(),
        Panel::Peers => peers(board, skipped),
        Panel::Sas => sas(board, skipped),
        Panel::Flows => flows(board, skipped),
        Panel::Drops => drops(board, skipped),
    }
}

fn peers(board: &Board, skipped: usize) -> Table<'static> {
    let head = [left("PEER"), left("ENDPOINT"), right("IN"), right("OUT"), right("SUM"), right("HEARD")];
    let row = board.peers.iter().skip(skipped).map(|peer| {
        let sum = peer.row.inbound.octets.saturating_add(peer.row.outbound.octets);
        Row::new([
            left(&peer.row.identity),
            left(&peer.row.endpoint.map_or_else(|| "-".into(), |endpoint| endpoint.to_string())),
            right(bit_rate(peer.inbound.octets)),
            right(bit_rate(peer.outbound.octets)),
            right(octets(sum)),
            right(ago(peer.row.last_heard)),
        ])
    });
    let widths = [fill(2), fill(2), length(11), length(11), length(8), length(10)];
    Table::new(row, widths).header(header(head))
}

fn sas(board: &Board, skipped: usize) -> Table<'static> {
    let head = [
        right("PAIR"),
        left("DIR"),
        left("SPI"),
        left("PEER"),
        left("USAGE"),
        right("RATE"),
        right("SUM"),
        right("IDLE"),
    ];
    let row = board.sas.iter().skip(skipped).map(|sa| {
        let (usage, tone) = match sa.row.expired {
            true => ("expired", Tone::Bad),
            false if sa.row.soft_expired => (sa.row.usage.name(), Tone::Warn),
            false => (sa.row.usage.name(), Tone::Plain),
        };
        Row::new([
            right(sa.row.pair.map_or_else(|| "-".to_owned(), |pair| pair.to_string())),
            left(crate::cli::view::direction(sa.row.direction)),
            left(&crate::cli::view::spi(sa.row.spi)),
            left(&sa.row.peer),
            left(usage).style(style(tone)),
            right(bit_rate(sa.inbound.octets)),
            right(octets(sa.row.octets)),
            right(ago(sa.row.idle)),
        ])
    });
    let widths = [length(6), length(3), length(10), fill(1), length(8), length(11), length(8), length(10)];
    Table::new(row, widths).header(header(head))
}

fn flows(board: &Board, skipped: usize) -> Table<'static> {
    let head = [left("FLOW"), left("LATCH"), left("PEER"), right("IDLE")];
    let row = board.flows.iter().skip(skipped).map(|flow| {
        let tone = match flow.latch {
            Some(latchway_control::LatchState::Broken) => Tone::Bad,
            _ => Tone::Plain,
        };
        Row::new([
            left(&flow.flow),
            left(flow.latch.map_or("-", latchway_control::LatchState::name)).style(style(tone)),
            left(flow.peer.as_deref().unwrap_or("-")),
            right(ago(Some(flow.idle))),
        ])
    });
    Table::new(row, [fill(3), length(11), fill(1), length(10)]).header(header(head))
}

fn drops(board: &Board, skipped: usize) -> Table<'static> {
    let head = [left("DROPPED"), left("DIR"), right("PACKETS"), right("RATE"), left("MEANING")];
    let row = board.drops.iter().skip(skipped).map(|drop| {
        let tone = if drop.inbound.dropped > 0.0 {
            crate::cli::view::severity(drop.row.severity)
        } else {
            Tone::Plain
        };
        Row::new([
            left(&drop.row.reason).style(style(tone)),
            left(crate::cli::view::direction(drop.row.direction)),
            right(count(drop.row.packets)),
            right(packet_rate(drop.inbound.dropped)),
            left(&drop.row.text),
        ])
    });
    Table::new(row, [length(20), length(7), length(11), length(10), fill(1)]).header(header(head))
}

fn header<const N: usize>(cells: [Cell<'static>; N]) -> Row<'static> {
    Row::new(cells).style(Style::new().bold().reversed())
}

fn left(text: &str) -> Cell<'static> {
    Cell::from(printable(text))
}

fn right(text: impl Into<String>) -> Cell<'static> {
    Cell::from(Line::from(text.into()).right_aligned())
}

fn ago(milliseconds: Option<u64>) -> String {
    milliseconds.map_or_else(|| "-".into(), |time| span(Duration::from_millis(time)))
}

const fn style(tone: Tone) -> Style {
    match tone {
        Tone::Plain => Style::new(),
        Tone::Good => Style::new().fg(Color::Green),
        Tone::Warn => Style::new().fg(Color::Yellow),
        Tone::Bad => Style::new().fg(Color::Red),
        Tone::Faint => Style::new().fg(Color::DarkGray),
    }
}

const fn fill(share: u16) -> Constraint {
    Constraint::Fill(share)
}

const fn length(columns: u16) -> Constraint {
    Constraint::Length(columns)
}

/// Lines above the lists.
const HEAD: u16 = 4;

/// The lists, from top to bottom.
const ALL: [Panel; 4] = [Panel::Peers, Panel::Sas, Panel::Flows, Panel::Drops];
