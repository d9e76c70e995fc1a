//! The command line: one definition, from which help, completions and man pages come.

mod ask;
mod capture;
mod change;
mod check;
mod events;
mod failure;
mod keys;
mod latch;
mod manual;
mod packet;
mod prove;
mod screen;
mod secret;
mod table;
mod talk;
mod top;
mod units;
mod view;
mod whois;
mod xfrm;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory, Parser, Subcommand, ValueHint};
use clap_complete::Shell;
use latchway_keying::reservations::Reservations;

use crate::cli::failure::Failure;
use crate::cli::talk::Talk;
use crate::{demo, describe, exec, gateway, keygen, preload};

/// An IPsec gateway in userspace whose connections keep the peer and the protection they began with, or break.
#[derive(Debug, Parser)]
#[command(name = "latchway", version, max_term_width = 100, after_long_help = EXIT_CODES)]
struct Cli {
    /// When to use colours.
    #[arg(long, value_name = "WHEN", default_value = "auto", global = true, help_heading = EVERYWHERE)]
    color: ColorChoice,
    /// The control socket of the gateway; not needed where only one runs in /run/latchway.
    #[arg(
        long,
        value_name = "PATH",
        env = "LATCHWAY_CONTROL",
        hide_env_values = true,
        global = true,
        help_heading = EVERYWHERE,
        value_hint = ValueHint::FilePath
    )]
    control: Option<OsString>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make three hosts out of namespaces, join them by ESP, and show what latching does.
    Demo(demo::Options),
    /// Run a gateway in the foreground, from its configuration file, until SIGTERM.
    ///
    /// It prints `ready` when it stands. SIGHUP, like `latchway reload`, reads the file again and applies what differs.
    ///
    /// With --tun instead of a file it begins with nothing, and is told by `latchway xfrm` what to do, as a kernel is by
    /// `ip xfrm`.
    Run {
        /// The configuration file.
        #[arg(
            long,
            value_name = "FILE",
            value_hint = ValueHint::FilePath,
            required_unless_present = "tun",
            conflicts_with = "tun"
        )]
        config: Option<PathBuf>,
        #[command(flatten)]
        bare: Box<gateway::Bare>,
    },
    /// Run a program in a namespace of its own, whose only way out is a running gateway: what it sends is protected or dropped.
    Exec(exec::Options),
    /// Run a program that knows nothing of requirements, and hold every socket that it makes to one: what does not meet it does
    /// not leave, and does not come in.
    ///
    /// It takes no privilege. Sockets are made by latchway and given to the program when the gateway holds them, in the
    /// program and in all that it starts; it is over when the last of these has ended. Only TCP and UDP can be held: other
    /// sockets are refused, as are io_uring and ptrace(2), and descriptors of the Internet that the program would inherit.
    /// Set-user-ID programs run without their privilege. Names are asked of the name server by sockets like others, so that
    /// it, too, must be behind what is required, or names be known without it. What processes of the same user do for the
    /// program is not held, nor is what stays on this host.
    ///
    /// The gateway is found as by programs that know of requirements: by LATCHWAY_APP, or in /run/latchway. Exit codes:
    /// those of the program, or 125 where it was not started, 126 where it cannot be, 127 where there is none.
    Preload(preload::Options),
    /// Make, as root, what a gateway with less privilege needs: namespaces, guards, and a TUN that its user may open.
    Setup {
        /// The configuration file.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        config: PathBuf,
        /// The user who may open the TUN; that of the configuration where it is missing.
        #[arg(long, value_name = "USER", value_hint = ValueHint::Username)]
        owner: Option<String>,
    },
    /// Take away what outlives a gateway that is given up: its TUN, routes, blackholes and packet filters.
    Clear {
        /// The configuration file.
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        config: PathBuf,
    },
    /// Make the record of sequence numbers in a state directory, once, before any of its keys is used.
    ///
    /// A gateway with `state` in its configuration opens it, and never makes one by itself: under a key that was used before,
    /// a new record would begin at 1 again.
    Enrol {
        /// The state directory.
        #[arg(value_hint = ValueHint::DirPath)]
        folder: PathBuf,
    },
    /// Run one gateway from a description with fresh keys, as the demo and the benchmarks do.
    ///
    /// The description is JSON, and it holds keys for one run: a file is deleted as soon as it is read. `-` reads
    /// standard input up to its end or a NUL octet.
    Gateway {
        /// The description.
        #[arg(value_hint = ValueHint::FilePath)]
        spec: PathBuf,
    },
    /// Write the descriptions of two gateways with fresh keys, for one run of a trial or a benchmark.
    Describe(describe::Options),
    /// Make fresh keys, in files that a configuration can name.
    Keygen(keygen::Options),
    /// Say all that is wrong with a configuration, without touching the system.
    Check(check::Options),
    #[command(flatten)]
    Talk(Talk),
    /// Write the completions of a shell to standard output.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the man pages.
    Man(manual::ManOptions),
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    screen::choose_colours(cli.color);
    // A variable that is empty says nothing.
    let control = cli.control.as_deref().filter(|path| !path.is_empty()).map(Path::new);
    match cli.verb {
        Verb::Demo(options) => demo::run(&options),
        Verb::Run { config, bare } => match (bare.tun(), config) {
            (Some(tun), _) => finish(gateway::run_bare(tun, &bare, control)),
            // Clap wants one of them.
            (None, config) => finish(gateway::run_configured(&config.unwrap_or_default())),
        },
        Verb::Exec(options) => finish(exec::run(control, &options)),
        Verb::Preload(options) => preload::run(&options),
        Verb::Setup { config, owner } => finish(gateway::setup(&config, owner.as_deref())),
        Verb::Clear { config } => finish(gateway::clear(&config)),
        Verb::Enrol { folder } => finish(Reservations::create(&folder).and_then(Reservations::close)),
        Verb::Gateway { spec } => finish(gateway::run(&spec)),
        Verb::Describe(options) => finish(describe::run(&options)),
        Verb::Keygen(options) => finish(keygen::run(&options)),
        Verb::Completions { shell } => end(manual::completions(Cli::command(), shell)),
        Verb::Man(options) => end(manual::man(Cli::command(), &options)),
        Verb::Check(options) => end(check::run(&options)),
        Verb::Talk(verb) => end(verb.run(control)),
    }
}

/// Errors go to standard error, with everything that led to them.
fn finish<E: std::error::Error>(result: Result<(), E>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    anstream::eprintln!("latchway: {error}");
    ExitCode::FAILURE
}

fn end(result: Result<ExitCode, Failure>) -> ExitCode {
    result.unwrap_or_else(|failure| failure.tell())
}

/// Where help lists what every verb understands.
const EVERYWHERE: &str = "For every verb";

/// What the exit codes mean.
const EXIT_CODES: &str = "Exit codes: 0 done, 1 refused or failed, 2 the command line is not right, \
     3 the latch that a verb held was closed.";

#[cfg(test)]
mod tests {
    use clap::Command;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    /// Every verb, as the words that call it.
    fn verbs(command: &Command, words: &[String], found: &mut Vec<(Vec<String>, Command)>) {
        for verb in command.get_subcommands() {
            let mut words = words.to_vec();
            words.push(verb.get_name().to_owned());
            found.push((words.clone(), verb.clone()));
            verbs(verb, &words, found);
        }
    }

    fn all_verbs() -> Vec<(Vec<String>, Command)> {
        let mut found = Vec::new();
        verbs(&Cli::command(), &[], &mut found);
        assert!(found.len() > 10, "the tree has verbs");
        found
    }

    #[test]
    fn every_verb_and_every_argument_has_help() {
        for (words, verb) in all_verbs() {
            assert!(verb.get_about().is_some(), "{words:?} has no help");
            for argument in verb.get_arguments().filter(|argument| argument.get_id() != "help") {
                assert!(argument.get_help().is_some(), "{words:?} {} has no help", argument.get_id());
            }
        }
    }

    #[test]
    fn every_verb_has_a_man_page() {
        let folder = std::env::temp_dir().join(format!("latchway-man-{}", std::process::id()));
        let options = ["latchway", "man", "--out", folder.to_str().unwrap()];
        let Verb::Man(options) = Cli::parse_from(options).verb else { panic!("man is a verb") };
        assert!(manual::man(Cli::command(), &options).is_ok());
        for (words, verb) in all_verbs() {
            let page =
                std::fs::read_to_string(folder.join(format!("latchway-{}.1", words.join("-")))).unwrap();
            let about = verb.get_about().unwrap().to_string();
            let first = about.split([' ', '-']).next().unwrap();
            assert!(page.contains(first), "{words:?}: {page}");
        }
        let page = std::fs::read_to_string(folder.join("latchway.1")).unwrap();
        assert!(page.contains("Exit codes"), "{page}");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn every_verb_and_every_flag_is_completed_in_bash_zsh_and_fish() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "latchway", &mut script);
            let script = String::from_utf8(script).unwrap();
            for (words, verb) in all_verbs() {
                let last = words.last().unwrap();
                assert!(script.contains(last.as_str()), "{shell}: {words:?}");
                for flag in verb.get_arguments().filter_map(clap::Arg::get_long) {
                    assert!(script.contains(flag), "{shell}: {words:?} --{flag}");
                }
            }
        }
    }
}
