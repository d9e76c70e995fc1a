//! What was shown: a line per fact when it is reached, and a table or one JSON object at the end.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::Instant;
use std::{env, process};

use latchway_netns::user::Entered;
use serde::Serialize;
use serde_json::{Value, json};

use super::failure::Failure;
use super::shutdown::Shutdown;

/// The report so far.
#[derive(Debug)]
pub struct Report {
    json: bool,
    colour: bool,
    began: Instant,
    privilege: Entered,
    shutdown: Shutdown,
    facts: Vec<Fact>,
}

/// A fact failed, and was reported; nothing after it can be shown.
#[derive(Clone, Copy, Debug)]
pub struct Stop;

/// One line of the report.
#[derive(Debug, Serialize)]
struct Fact {
    name: String,
    ok: bool,
    what: String,
    measured: String,
    seconds: f64,
    #[serde(skip_serializing_if = "Value::is_null")]
    values: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<String>,
}

impl Report {
    /// An empty report.
    pub fn new(json: bool, began: Instant, privilege: Entered, shutdown: Shutdown) -> Self {
        let terminal = if json { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
        let colour = terminal && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { json, colour, began, privilege, shutdown, facts: Vec::new() }
    }

    /// How the process came by its privileges.
    pub const fn privilege(&self) -> Entered {
        self.privilege
    }

    /// Shows a fact: runs what measures it, and prints what came of it.
    pub fn show<T: Serialize + Display>(
        &mut self,
        name: &str,
        what: &str,
        measure: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Stop> {
        let began = Instant::now();
        let result = measure();
        let seconds = began.elapsed().as_secs_f64();
        let (name, what) = (name.to_owned(), what.to_owned());
        match result {
            Ok(measured) => {
                let values = serde_json::to_value(&measured).unwrap_or(Value::Null);
                let text = measured.to_string();
                self.add(Fact { name, ok: true, what, measured: text, seconds, values, expected: None });
                Ok(measured)
            }
            Err(failure) => {
                let expected = failure.expected().map(str::to_owned);
                let measured = failure.seen();
                self.add(Fact { name, ok: false, what, measured, seconds, values: Value::Null, expected });
                Err(Stop)
            }
        }
    }

    /// Does what is needed between facts; if that fails, it is reported like a fact.
    pub fn prepare<T>(&mut self, what: &str, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Stop> {
        work().map_err(|failure| {
            let expected = failure.expected().map(str::to_owned);
            self.add(Fact {
                name: "preparation".to_owned(),
                ok: false,
                what: what.to_owned(),
                measured: failure.seen(),
                seconds: 0.0,
                values: Value::Null,
                expected,
            });
            Stop
        })
    }

    /// A line for people.
    pub fn say(&self, line: &str) {
        // Whoever closed the pipe does not want to know.
        let _ = if self.json { writeln!(io::stderr(), "{line}") } else { writeln!(io::stdout(), "{line}") };
    }

    /// Prints the end of the report, and says whether every fact was shown.
    pub fn finish(&self) -> bool {
        let ok = !self.facts.is_empty() && self.facts.iter().all(|fact| fact.ok);
        let seconds = self.began.elapsed().as_secs_f64();
        if self.json {
            self.print_json(ok, seconds);
        } else {
            self.print_table();
        }
        let failed: Vec<_> =
            self.facts.iter().filter(|fact| !fact.ok).map(|fact| fact.name.as_str()).collect();
        if failed.is_empty() {
            self.say(&format!("{} facts in {seconds:.1} s", self.facts.len()));
        } else {
            eprintln!("latchway demo: failed: {}", failed.join(", "));
        }
        ok
    }

    fn add(&mut self, fact: Fact) {
        if !fact.ok {
            // What fails because a signal ends everything is no failed fact.
            self.shutdown.wait_if_begun();
        }
        let (word, colour) = if fact.ok { ("ok", "32") } else { ("FAILED", "31") };
        let Fact { name, what, measured, .. } = &fact;
        let measured = match &fact.expected {
            Some(expected) => format!("expected {expected}; seen: {measured}"),
            None => measured.clone(),
        };
        let label = if fact.ok { what.clone() } else { format!("{name}: {what}") };
        self.say(&format!("{}  {label}  {measured}", self.coloured(word, colour)));
        self.facts.push(fact);
    }

    fn coloured(&self, word: &str, colour: &str) -> String {
        if self.colour { format!("\x1b[{colour}m{word}\x1b[0m") } else { word.to_owned() }
    }

    fn print_table(&self) {
        let width = |of: fn(&Fact) -> &str| {
            self.facts.iter().map(|fact| of(fact).chars().count()).max().unwrap_or_default()
        };
        let (names, whats) = (width(|fact| &fact.name).max(4), width(|fact| &fact.what).max(4));
        self.say("");
        self.say(&format!("{:names$}  {:6}  {:whats$}  {:>6}  measured", "fact", "", "what", "s"));
        for Fact { name, ok, what, measured, seconds, .. } in &self.facts {
            // Padded before it is coloured: escape sequences have no width.
            let word = if *ok { "ok    " } else { "FAILED" };
            let word = self.coloured(word, if *ok { "32" } else { "31" });
            self.say(&format!("{name:names$}  {word}  {what:whats$}  {seconds:6.2}  {measured}"));
        }
        self.say("");
    }

    fn print_json(&self, ok: bool, seconds: f64) {
        let failed = self.facts.iter().find(|fact| !fact.ok).map(|fact| &fact.name);
        let privilege = match self.privilege {
            Entered::AlreadyPrivileged => "own",
            Entered::UserNamespace => "user namespace",
        };
        let report = json!({
            "format": 1,
            "version": env!("CARGO_PKG_VERSION"),
            "pid": process::id(),
            "privilege": privilege,
            "ok": ok,
            "failed": failed,
            "seconds": seconds,
            "facts": self.facts,
        });
        // Whoever closed the pipe does not want to know.
        let _ = writeln!(io::stdout(), "{report:#}");
    }
}
