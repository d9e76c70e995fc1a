//! `latchway top`: a gateway as it moves.

mod draw;
mod sample;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use crossbeam::channel::{Receiver, Sender, bounded};
use ratatui::DefaultTerminal;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::Rect;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::cli::top::draw::{Choice, Panel, draw, full_height};
use crate::cli::top::sample::{Board, Sample, Sort};
use crate::client::{self, CallError};

/// What `latchway top` is told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Seconds between two looks at the gateway.
    #[arg(long, short, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    interval: Duration,
    /// Print one picture, with all rows, and end: for scripts.
    #[arg(long)]
    once: bool,
}

/// Shows the gateway until the user has seen enough.
///
/// # Errors
/// Where the gateway does not answer, or there is no terminal.
pub fn run(control: Option<&Path>, options: &Options) -> Result<ExitCode, Failure> {
    let control = client::find(control)?;
    let began = Instant::now();
    let look = move || Sample::take(&control, began.elapsed());
    let first = look()?;
    if options.once {
        return once(&first, look, options.interval);
    }
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&ended)).map_err(no_terminal)?;
    }
    let (tell, told) = bounded(1);
    let interval = options.interval;
    thread::spawn(move || watch(look, interval, &tell));
    // The terminal is as it was before on every way out: a panic, too, for a hook is set that restores it.
    let mut terminal = ratatui::try_init().map_err(no_terminal)?;
    let seen = Screenplay::new(first).play(&mut terminal, &told, &ended);
    ratatui::try_restore().map_err(no_terminal)?;
    seen.map_err(no_terminal)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints one picture in full.
fn once(
    first: &Sample,
    look: impl Fn() -> Result<Sample, CallError>,
    interval: Duration,
) -> Result<ExitCode, Failure> {
    thread::sleep(interval);
    let mut screen = Screen::take();
    let mut board = Board::between(first, look()?);
    board.sort(Sort::Rate);
    let columns = screen.width().and_then(|width| u16::try_from(width).ok()).unwrap_or(WIDE);
    write!(screen, "{}", picture(&board, &Choice::still(), columns, full_height(&board)))?;
    Ok(ExitCode::SUCCESS)
}

/// The picture as lines of text.
fn picture(board: &Board, choice: &Choice, columns: u16, lines: u16) -> String {
    let mut buffer = Buffer::empty(Rect::new(0, 0, columns, lines));
    draw(board, choice, UNIX_EPOCH.elapsed().unwrap_or_default(), buffer.area, &mut buffer);
    let line = |cells: &[ratatui::buffer::Cell]| {
        let text: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        format!("{}\n", text.trim_end())
    };
    buffer.content().chunks(usize::from(columns.max(1))).map(line).collect()
}

/// Looks at the gateway again and again, until nobody wants to know.
fn watch(
    look: impl Fn() -> Result<Sample, CallError>,
    interval: Duration,
    tell: &Sender<Result<Box<Sample>, String>>,
) {
    loop {
        thread::sleep(interval);
        let seen = look().map(Box::new).map_err(|error| error.to_string());
        if tell.send(seen).is_err() {
            return;
        }
    }
}

/// What is shown, and by which keys it changes.
struct Screenplay {
    /// The newest sample.
    last: Sample,
    board: Board,
    choice: Choice,
}

impl Screenplay {
    fn new(first: Sample) -> Self {
        let mut board = Board::between(&first, first.clone());
        let choice = Choice::default();
        board.sort(choice.sort);
        Self { last: first, board, choice }
    }

    /// Draws until the user or a signal ends it.
    fn play(
        mut self,
        terminal: &mut DefaultTerminal,
        told: &Receiver<Result<Box<Sample>, String>>,
        ended: &AtomicBool,
    ) -> io::Result<()> {
        while !ended.load(Ordering::Relaxed) {
            terminal.draw(|frame| {
                let now = UNIX_EPOCH.elapsed().unwrap_or_default();
                draw(&self.board, &self.choice, now, frame.area(), frame.buffer_mut());
            })?;
            if let Ok(seen) = told.try_recv() {
                self.take(seen);
            }
            if event::poll(TICK)?
                && let Event::Key(key) = event::read()?
                && self.press(key)
            {
                break;
            }
        }
        Ok(())
    }

    /// A new sample, or why there is none.
    fn take(&mut self, seen: Result<Box<Sample>, String>) {
        match seen {
            Err(trouble) => self.choice.trouble = Some(trouble),
            Ok(sample) => {
                self.choice.trouble = None;
                if !self.choice.paused {
                    self.board = Board::between(&self.last, (*sample).clone());
                    self.board.sort(self.choice.sort);
                }
                self.last = *sample;
            }
        }
    }

    /// Does what a key says. Returns whether that is to end.
    fn press(&mut self, key: KeyEvent) -> bool {
        if key.kind == KeyEventKind::Release {
            return false;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
            KeyCode::Char('p' | ' ') => self.choice.paused = !self.choice.paused,
            KeyCode::Char('s') => self.sort(self.choice.sort.next()),
            KeyCode::Char('r') => self.sort(Sort::Rate),
            KeyCode::Char('t') => self.sort(Sort::Total),
            KeyCode::Char('n') => self.sort(Sort::Name),
            KeyCode::Tab => self.show(self.choice.panel.next()),
            KeyCode::Char('0') => self.show(Panel::All),
            KeyCode::Char('1') => self.show(Panel::Peers),
            KeyCode::Char('2') => self.show(Panel::Sas),
            KeyCode::Char('3') => self.show(Panel::Flows),
            KeyCode::Char('4') => self.show(Panel::Drops),
            KeyCode::Down | KeyCode::Char('j') => self.choice.skip(1),
            KeyCode::Up | KeyCode::Char('k') => self.choice.skip(-1),
            KeyCode::PageDown => self.choice.skip(PAGE),
            KeyCode::PageUp => self.choice.skip(-PAGE),
            KeyCode::Home => self.choice.skipped = 0,
            _ => {}
        }
        false
    }

    fn sort(&mut self, sort: Sort) {
        self.choice.sort = sort;
        self.board.sort(sort);
    }

    fn show(&mut self, panel: Panel) {
        self.choice.panel = panel;
        self.choice.skipped = 0;
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "a number of seconds from 0.1 to 3600".into())
}

fn no_terminal(error: io::Error) -> Failure {
    Failure::new(
        format!("cannot draw on this terminal: {error}"),
        "use `latchway top --once` where there is none",
    )
}

/// How soon a key or a signal is heeded.
const TICK: Duration = Duration::from_millis(100);

/// Rows that a page key moves by.
const PAGE: isize = 10;

/// Columns of a picture that goes to no terminal.
const WIDE: u16 = 120;

#[cfg(test)]
mod tests;
