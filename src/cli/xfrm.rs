//! `latchway xfrm`: what ip-xfrm(8) says to a kernel, said to a gateway.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use latchway_control::call::{self, XfrmApply};
use latchway_control::{XfrmEvent, XfrmEventKind, XfrmPolicyRow, XfrmStateRow, XfrmStep};
use latchway_xfrm::{
    Command, GrammarError, Invocation, Objects, Options as Said, Shown, Source, event, import, lines, policy,
    policy_count, state, state_count,
};
use zeroize::Zeroizing;

use crate::cli::ask::connect;
use crate::cli::events::end_on_signals;
use crate::cli::failure::Failure;
use crate::client::{CallError, Client};

/// What `latchway xfrm` is told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Options, then: state|policy add|update|delete|get|deleteall|list|flush|count ..., monitor ..., or import with a file or none.
    ///
    /// Options are those of ip(8): -s, -4, -6, -o, -t, -batch FILE, -force. Ours are --show-keys, which is logged, and
    /// --ephemeral-keys, which asserts that keys of counter-mode suites are fresh.
    #[arg(value_name = "WORD", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// One gateway, and how it is spoken to.
struct Talking {
    client: Client,
    said: Said,
    /// Whether it was told what a missing replay window means.
    told_window: bool,
}

/// Does what the words say.
///
/// # Errors
/// [`Failure`]
pub fn run(control: Option<&Path>, options: &Options) -> Result<ExitCode, Failure> {
    let Invocation { options: said, words } =
        Invocation::read(options.words.iter().cloned()).map_err(unread)?;
    let batch = said.batch.clone();
    let words = match words.split_first() {
        // `ip xfrm` with its object said twice is a habit, too.
        Some((first, rest)) if first == "xfrm" => rest.to_vec(),
        _ => words,
    };
    if batch.is_none() && words.first().is_some_and(|word| word == "import") {
        let mut talking = Talking { client: connect(control)?, said, told_window: true };
        return talking.import(words.get(1..).unwrap_or_default());
    }
    if let Some(source) = batch {
        let text = read(&source)?;
        return Talking { client: connect(control)?, said, told_window: false }.batch(&source, &text);
    }
    let command = Command::read(&words, said.family).map_err(unread)?;
    if command == Command::Help {
        return help();
    }
    Talking { client: connect(control)?, said, told_window: false }.obey(command).map(|()| ExitCode::SUCCESS)
}

impl Talking {
    fn obey(&mut self, command: Command) -> Result<(), Failure> {
        match command {
            Command::Apply(step) => self.apply(vec![step]),
            Command::GetState(id) => {
                let states = self.states()?;
                let row = states.iter().find(|row| id.names(&row.state)).ok_or_else(|| absent("state"))?;
                print(&state(row, self.shown()))
            }
            Command::ListStates(filter) => {
                let keys = self.said.show_keys && !filter.nokeys();
                let shown = Shown { keys, ..self.shown() };
                let states = if keys { self.states()? } else { self.states_without_keys()? };
                let meant = states.iter().filter(|row| filter.admits(&row.state));
                print(&meant.map(|row| state(row, shown)).collect::<Zeroed>().0)
            }
            Command::DeleteStates(filter) => {
                let states = self.states_without_keys()?;
                let meant = states.iter().filter(|row| filter.admits(&row.state));
                self.apply_in_parts(meant.map(|row| XfrmStep::DeleteState(row.state.id())))
            }
            Command::CountStates => {
                let count = self.states_without_keys()?.len();
                print(&state_count(count, self.shown()))
            }
            Command::GetPolicy(id) => {
                let policies = self.policies()?;
                let row =
                    policies.iter().find(|row| id.names(&row.policy)).ok_or_else(|| absent("policy"))?;
                print(&policy(row, self.shown()))
            }
            Command::ListPolicies(filter) => {
                let policies = self.policies()?;
                let meant = policies.iter().filter(|row| filter.admits(&row.policy));
                print(&meant.map(|row| policy(row, self.shown())).collect::<String>())
            }
            Command::DeletePolicies(filter) => {
                let policies = self.policies()?;
                let meant = policies.iter().filter(|row| filter.admits(&row.policy));
                let id = |row: &XfrmPolicyRow| XfrmStep::DeletePolicy(Box::new(row.policy.id()));
                self.apply_in_parts(meant.map(id))
            }
            Command::CountPolicies => {
                let policies = self.policies()?;
                print(&policy_count(&policies, self.shown()))
            }
            Command::DefaultPolicy => print("Default policies:\n in:  block\n fwd: block\n out: block\n"),
            Command::Nothing => Ok(()),
            Command::Monitor(objects) => self.monitor(objects),
            Command::Help => help().map(drop),
        }
    }

    fn apply(&mut self, steps: Vec<XfrmStep>) -> Result<(), Failure> {
        self.apply_lines(steps, Vec::new())
    }

    /// The same of so many that they are more than a call may hold, as `deleteall` means them.
    fn apply_in_parts(&mut self, steps: impl Iterator<Item = XfrmStep>) -> Result<(), Failure> {
        let mut steps = steps.peekable();
        while steps.peek().is_some() {
            self.apply(steps.by_ref().take(PART).collect())?;
        }
        Ok(())
    }

    /// The same of a file's lines, of which the gateway names the one that cannot be done.
    fn apply_lines(&mut self, steps: Vec<XfrmStep>, lines: Vec<u64>) -> Result<(), Failure> {
        if steps.is_empty() {
            return Ok(());
        }
        self.tell_window(&steps);
        let ephemeral_keys = self.said.ephemeral_keys;
        self.client.call(&XfrmApply { steps, ephemeral_keys, lines })?;
        Ok(())
    }

    /// The kernel checks no replays where nothing is said, and this gateway does.
    fn tell_window(&mut self, steps: &[XfrmStep]) {
        let silent =
            |step: &XfrmStep| matches!(step, XfrmStep::AddState(state) if state.replay_window.is_none());
        if !self.told_window && steps.iter().any(silent) {
            self.told_window = true;
            anstream::eprintln!(
                "latchway: no replay-window was said, so it is 4096 packets; only `replay-window 0` turns the check off"
            );
        }
    }

    fn states(&mut self) -> Result<Vec<XfrmStateRow>, Failure> {
        let keys = self.said.show_keys;
        Ok(self.client.list(&call::XfrmStates { limit: None, keys })?.states)
    }

    fn states_without_keys(&mut self) -> Result<Vec<XfrmStateRow>, Failure> {
        Ok(self.client.list(&call::XfrmStates::default())?.states)
    }

    fn policies(&mut self) -> Result<Vec<XfrmPolicyRow>, Failure> {
        Ok(self.client.list(&call::XfrmPolicies::default())?.policies)
    }

    /// Prints what happens until the gateway ends or a signal comes.
    fn monitor(&mut self, objects: Objects) -> Result<(), Failure> {
        end_on_signals()?;
        let shown = self.shown();
        for told in self.client.follow(&call::XfrmMonitor {})? {
            match told {
                Ok(XfrmEvent { kind: XfrmEventKind::Begun, .. }) => {}
                Ok(told) if objects.admits(told.kind) => print(&event(&told, shown))?,
                Ok(_) => {}
                // The gateway ended, and with it what there was to tell.
                Err(CallError::Closed { .. }) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// A command a line, until one fails.
    fn batch(&mut self, source: &Source, text: &str) -> Result<ExitCode, Failure> {
        let name = match source {
            Source::Input => "-",
            Source::File(name) => name,
        };
        let (mut failed, mut done) = (false, 0_usize);
        let family = self.said.family;
        for (line, words) in lines(text) {
            let command = words.and_then(|words| {
                let Invocation { options, words } = Invocation::read(words)?;
                if (Said { family: Said::default().family, ..options.clone() }) != Said::default() {
                    return Err(GrammarError::Conflict(
                        "a line of a batch has no options but -4 and -6; say the others before -batch",
                    ));
                }
                Command::read(&words, if options == Said::default() { family } else { options.family })
            });
            if let Err(failure) = command.map_err(unread).and_then(|command| self.obey(command)) {
                failure.tell();
                anstream::eprintln!("Command failed {name}:{line}");
                failed = true;
                if !self.said.force {
                    anstream::eprintln!("{done} commands before it are done, and none behind it");
                    return Ok(ExitCode::FAILURE);
                }
            } else {
                done += 1;
            }
        }
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    /// Takes over what a kernel has, all of it or nothing.
    fn import(&mut self, words: &[String]) -> Result<ExitCode, Failure> {
        let source = match words {
            [] => Source::Input,
            [file] if file == "-" => Source::Input,
            [file] => Source::File(file.clone()),
            _ => return Err(Failure::new("import takes one file", "say `latchway xfrm import FILE`")),
        };
        let text = read(&source)?;
        let imported =
            import(&text).map_err(|error| Failure::new(error, "nothing was imported; mend the dump"))?;
        let states = imported.states.into_iter().map(|state| XfrmStep::AddState(Box::new(state)));
        let policies = imported.policies.into_iter().map(|policy| XfrmStep::AddPolicy(Box::new(policy)));
        let (count, sockets) = ((states.len(), policies.len()), imported.sockets);
        let (lines, steps) = (imported.lines.iter().map(|line| *line as u64), states.chain(policies));
        let (lines, steps) = (lines.collect(), steps.collect());
        self.apply_lines(steps, lines)?;
        anstream::eprintln!("{} states and {} policies imported", count.0, count.1);
        if sockets > 0 {
            anstream::eprintln!("{sockets} policies of single sockets passed over: they are of programs");
        }
        Ok(ExitCode::SUCCESS)
    }

    const fn shown(&self) -> Shown {
        let Said { statistics, oneline, timestamp, show_keys, .. } = self.said;
        Shown { statistics, oneline, timestamp, keys: show_keys }
    }
}

/// Steps that a message has room for, without keys.
const PART: usize = 1000;

/// Text that may hold keys.
struct Zeroed(Zeroizing<String>);

impl FromIterator<String> for Zeroed {
    fn from_iter<I: IntoIterator<Item = String>>(texts: I) -> Self {
        let texts: Vec<_> = texts.into_iter().map(Zeroizing::new).collect();
        let mut whole = Zeroizing::new(String::with_capacity(texts.iter().map(|text| text.len()).sum()));
        texts.iter().for_each(|text| whole.push_str(text));
        Self(whole)
    }
}

fn read(source: &Source) -> Result<Zeroizing<String>, Failure> {
    let (name, outcome) = match source {
        Source::Input => ("standard input", wiped(&mut io::stdin().lock())),
        Source::File(name) => (name.as_str(), File::open(name).and_then(|mut file| wiped(&mut file))),
    };
    outcome.map_err(|error| {
        Failure::new(format!("cannot read {name}: {error}"), "name a file of text that can be read")
    })
}

/// All of it, with no copy of a key left behind where it grows.
fn wiped(from: &mut impl Read) -> io::Result<Zeroizing<String>> {
    let mut octets = Zeroizing::new(Vec::with_capacity(1 << 16));
    loop {
        let room = octets.capacity() - octets.len();
        if from.by_ref().take(room as u64).read_to_end(&mut octets)? < room {
            break;
        }
        let mut larger = Zeroizing::new(Vec::with_capacity(octets.capacity().saturating_mul(2)));
        larger.extend_from_slice(&octets);
        octets = larger;
    }
    let text =
        str::from_utf8(&octets).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no text"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// There at once for whoever reads it.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

fn unread(error: GrammarError) -> Failure {
    Failure::new(error, "`man ip-xfrm` has the grammar, and docs/xfrm.md what is served of it")
}

fn absent(what: &str) -> Failure {
    Failure::new(
        format!("there is no such {what}"),
        format!("`latchway xfrm {what} list` shows those that are there"),
    )
}

fn help() -> Result<ExitCode, Failure> {
    print(
        "latchway xfrm takes the words of ip-xfrm(8):\n\
         \n  state { add | update } ID [ ALGO-LIST ] [ mode MODE ] [ reqid REQID ] [ replay-window SIZE ] ...\
         \n  state { delete | get } ID\
         \n  state { list | deleteall } [ ID ] [ mode MODE ] [ reqid REQID ] [ flag FLAG-LIST ]\
         \n  state flush [ proto { esp | ah } ]\
         \n  state count\
         \n  policy { add | update } SELECTOR dir DIR [ action ACTION ] [ priority PRIORITY ] [ tmpl TMPL ] ...\
         \n  policy { delete | get } { SELECTOR | index INDEX } dir DIR\
         \n  policy { list | deleteall } [ SELECTOR ] [ dir DIR ] ...\
         \n  policy { flush | count | getdefault }\
         \n  monitor [ all | acquire | expire | SA | policy ] ...\
         \n  import [ FILE ]\
         \n\nman ip-xfrm has the grammar, and docs/xfrm.md what is served of it.\n",
    )?;
    Ok(ExitCode::SUCCESS)
}
