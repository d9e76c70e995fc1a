//! What `ip xfrm state` and `ip xfrm policy` print, read again.

use latchway_control::{XfrmPolicy, XfrmState};

use crate::error::GrammarError;
use crate::options::Family;
use crate::policy::policy;
use crate::state::state;
use crate::words::Words;

/// States and policies, oldest first: the kernel prints the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// The states.
    pub states: Vec<XfrmState>,
    /// The policies.
    pub policies: Vec<XfrmPolicy>,
    /// The lines at which they begin: those of the states, then those of the policies.
    pub lines: Vec<usize>,
    /// How many policies of single sockets were passed over, which are of programs and not of the host.
    pub sockets: usize,
}

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ImportError {
    /// The line at which the record begins.
    pub line: usize,
    /// What is wrong.
    pub problem: ImportProblem,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportProblem {
    /// The record does not say what is needed, or says what is not served.
    #[error(transparent)]
    Grammar(#[from] GrammarError),
    /// The keys were not printed.
    #[error("the keys are hidden; dump again as root and without `nokeys`, or with --show-keys")]
    KeysHidden,
    /// Not what `ip xfrm` prints.
    #[error("this is neither a state nor a policy as `ip xfrm state` and `ip xfrm policy` print them")]
    NoRecord,
}

/// Reads a dump of states, of policies, or of both behind one another.
///
/// # Errors
/// [`ImportError`], naming the record.
pub fn import(text: &str) -> Result<Imported, ImportError> {
    let (mut imported, mut of_states, mut of_policies) = (Imported::default(), Vec::new(), Vec::new());
    for (line, record) in records(text) {
        let before = (imported.states.len(), imported.policies.len());
        imported.record(&record).map_err(|problem| ImportError { line, problem })?;
        of_states.extend((imported.states.len() > before.0).then_some(line));
        of_policies.extend((imported.policies.len() > before.1).then_some(line));
    }
    imported.states.reverse();
    imported.policies.reverse();
    imported.lines = of_states.into_iter().rev().chain(of_policies.into_iter().rev()).collect();
    Ok(imported)
}

/// The lines of each record, with the number of its first.
fn records(text: &str) -> Vec<(usize, Vec<&str>)> {
    let mut records: Vec<(usize, Vec<&str>)> = Vec::new();
    for (place, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match records.last_mut() {
            Some((_, record)) if line.starts_with(['\t', ' ']) => record.push(line),
            _ => records.push((place + 1, vec![line])),
        }
    }
    records
}

impl Imported {
    fn record(&mut self, lines: &[&str]) -> Result<(), ImportProblem> {
        let [ends, what, ..] = lines else { return Err(ImportProblem::NoRecord) };
        let kind = what.split_whitespace().next();
        match kind {
            Some("proto") => {
                let words = state_words(lines)?;
                self.states.push(state(&mut Words::new(&words), Family::Any)?);
            }
            Some("dir") => {
                let words = policy_words(ends, lines);
                self.policies.push(policy(&mut Words::new(&words), Family::Any)?);
            }
            Some("socket") => self.sockets += 1,
            _ => return Err(ImportProblem::NoRecord),
        }
        Ok(())
    }
}

/// A state as somebody would have said it.
fn state_words(lines: &[&str]) -> Result<Vec<String>, ImportProblem> {
    let mut words: Vec<String> = Vec::new();
    let mut window = None;
    for line in lines {
        if line.contains("<<Keys hidden>>") {
            return Err(ImportProblem::KeysHidden);
        }
        // What is deeper belongs to a heading.
        let deep = line.starts_with("\t ");
        let tokens = plain(line);
        let tokens: Vec<_> = tokens.iter().map(String::as_str).collect();
        match tokens.as_slice() {
            _ if deep => nested(&tokens, &mut words, &mut window),
            ["replay-window", size, rest @ ..] => {
                window.get_or_insert_with(|| (*size).to_owned());
                words.extend(of_window(rest));
            }
            ["sel", rest @ ..] => {
                words.extend(std::iter::once("sel").chain(of_selector(rest)).map(str::to_owned))
            }
            ["encap", "type", kind, "sport", sport, "dport", dport, "addr", address] => {
                words.extend(["encap", kind, sport, dport, address].map(str::to_owned));
            }
            ["mark" | "output-mark", ..] => words.extend(of_mark(&tokens)),
            ["security", ..] => words.extend(["ctx".to_owned()]),
            ["anti-replay", "context:", rest @ ..] => numbers(rest, &mut words),
            ["lastused" | "lifetime" | "stats:" | "crypto" | "anti-replay" | "dir", ..] => {}
            // An algorithm whose key is empty prints nothing where it would be.
            ["enc", name] => words.extend(["enc", name, ""].map(str::to_owned)),
            _ => words.extend(tokens.iter().map(|token| (*token).to_owned())),
        }
    }
    words.extend(window.into_iter().flat_map(|window| ["replay-window".to_owned(), window]));
    Ok(words)
}

/// What stands under a heading.
fn nested(tokens: &[&str], words: &mut Vec<String>, window: &mut Option<String>) {
    match tokens {
        ["replay_window", size, ..] => *window = Some(size.trim_end_matches(',').to_owned()),
        ["seq-hi", ..] => numbers(tokens, words),
        ["limit:" | "expire", ..] => words.extend(limits(tokens)),
        _ => {}
    }
}

/// A policy as somebody would have said it.
fn policy_words(ends: &str, lines: &[&str]) -> Vec<String> {
    let own = |words: Vec<&str>| words.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let first = plain(ends);
    let first: Vec<_> = first.iter().map(String::as_str).collect();
    let mut words = own(of_selector(&first).collect());
    for line in lines.get(1..).unwrap_or_default() {
        let tokens = plain(line);
        let tokens: Vec<_> = tokens.iter().map(String::as_str).collect();
        match tokens.as_slice() {
            ["lifetime" | "crypto", ..] | ["enc-mask", ..] => {}
            ["limit:" | "expire", ..] => words.extend(limits(&tokens)),
            ["mark", ..] => words.extend(of_mark(&tokens)),
            ["security", ..] => words.extend(["ctx".to_owned()]),
            [.., "(bytes)," | "(packets)"] | ["add", ..] => {}
            _ if tokens
                .first()
                .is_some_and(|token| token.ends_with("(bytes),") || token.ends_with("(bytes)")) => {}
            _ => words.extend(own(without_share(&tokens))),
        }
    }
    words
}

/// Words of a line without what stands in brackets, which says the same again. Of quantities they are the unit.
fn plain(line: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut inside = false;
    for token in line.split_whitespace() {
        let unit = ["(bytes)", "(packets)", "(sec)", "(INF)"].iter().any(|unit| token.contains(unit));
        if inside || token.starts_with('(') && !unit {
            inside = !token.ends_with(')');
            continue;
        }
        let bare = match token.split_once('(') {
            // 0x1000(4096), not rfc4106(gcm(aes)).
            Some((number, _)) if !unit && number.starts_with(|first: char| first.is_ascii_digit()) => number,
            _ => token,
        };
        tokens.push(bare.to_owned());
    }
    tokens
}

/// Behind the size of a window: number, flags.
fn of_window(rest: &[&str]) -> Vec<String> {
    let spelt =
        |word: &&str| if *word == "extra_flag" { "extra-flag".to_owned() } else { (*word).to_owned() };
    let mut words: Vec<_> = rest.iter().map(spelt).collect();
    // With no flag behind it the word says nothing.
    if words.last().is_some_and(|word| word == "flag" || word == "extra-flag") {
        words.pop();
    }
    words
}

fn of_selector<'t>(tokens: &'t [&'t str]) -> impl Iterator<Item = &'t str> {
    let end = tokens.iter().position(|token| *token == "uid").unwrap_or(tokens.len());
    tokens.iter().take(end).copied()
}

fn of_mark(tokens: &[&str]) -> Vec<String> {
    let (Some(keyword), Some(value)) = (tokens.first(), tokens.get(1)) else { return Vec::new() };
    let (value, mask) = value.split_once('/').unwrap_or((value, "0xffffffff"));
    [*keyword, value, "mask", mask].map(str::to_owned).to_vec()
}

/// `seq 0x1, oseq 0x2`, of which commas are no part.
fn numbers(tokens: &[&str], words: &mut Vec<String>) {
    for pair in tokens.chunks_exact(2) {
        let [name, value] = pair else { continue };
        if ["seq", "oseq", "seq-hi", "oseq-hi"].contains(name) {
            words.extend([format!("replay-{name}"), value.trim_end_matches(',').to_owned()]);
        }
    }
}

/// `limit: soft (INF)(bytes), hard 100(bytes)` and `expire add: soft 0(sec), hard 3600(sec)`.
fn limits(tokens: &[&str]) -> Vec<String> {
    let of_use = tokens.get(1) == Some(&"use:");
    let mut words = Vec::new();
    for pair in tokens.windows(2) {
        let [bound @ ("soft" | "hard"), quantity] = pair else { continue };
        let Some((value, unit)) = quantity.trim_end_matches(',').trim_end_matches(')').rsplit_once('(')
        else {
            continue;
        };
        let kind = match (unit, of_use) {
            ("bytes", _) => "byte",
            ("packets", _) => "packet",
            (_, false) => "time",
            (_, true) => "time-use",
        };
        if value != "(INF)" {
            words.extend(["limit".to_owned(), format!("{kind}-{bound}"), value.to_owned()]);
        }
    }
    words
}

/// Without what a template or policy never differs in.
fn without_share<'t>(tokens: &[&'t str]) -> Vec<&'t str> {
    let mut words = Vec::new();
    let mut tokens = tokens.iter().copied().peekable();
    while let Some(token) = tokens.next() {
        match token {
            "share" => drop(tokens.next()),
            "flag" if tokens.peek().is_none() => {}
            _ => words.push(token),
        }
    }
    words
}
