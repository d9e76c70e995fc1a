//! Gateways: one process per host, described on its standard input, spoken to through its control socket.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::env;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use latchway_control::{
    Commit, Drops, GatewaySpec, LatchRow, Method, PairSpec, SaRow, StatusView, call, write_message,
};

use super::failure::{Failure, refused};
use super::patience::SOON;
use super::shutdown::Shutdown;
use crate::client::{CallError, Client};

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    host: &'static str,
    client: RefCell<Client>,
    complaints: Complaints,
}

/// The last lines a gateway wrote to standard error.
#[derive(Clone, Debug, Default)]
pub struct Complaints(Arc<Mutex<VecDeque<String>>>);

impl Gateway {
    /// Starts a gateway and waits until it says that everything stands.
    pub fn start(host: &'static str, spec: &GatewaySpec, shutdown: &Shutdown) -> Result<Self, Failure> {
        let binary = env::current_exe().map_err(refused("finding this program"))?;
        let mut command = Command::new(binary);
        command.args(["gateway", "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let complaints = Complaints::default();
        let ready = shutdown
            .start(&mut command, |child| set_up(child, spec, &complaints))
            .map_err(refused("starting a gateway"))?
            .map_err(|why| not_started(host, &why, &complaints))?;
        match ready.recv_timeout(SOON) {
            Ok(line) if line == READY => {}
            Ok(line) => return Err(not_started(host, &format!("it said {line:?}"), &complaints)),
            Err(_) => return Err(not_started(host, "it did not become ready", &complaints)),
        }
        let client = Client::connect(&spec.control).map_err(|source| Failure::Call { host, source })?;
        Ok(Self { host, client: RefCell::new(client), complaints })
    }

    /// Whose gateway it is.
    pub const fn host(&self) -> &'static str {
        self.host
    }

    /// What it wrote to standard error.
    pub const fn complaints(&self) -> &Complaints {
        &self.complaints
    }

    /// Installs a pair of SAs.
    pub fn add_pair(&self, pair: PairSpec) -> Result<u64, Failure> {
        self.call(&pair).map(|added| added.pair)
    }

    /// Changes pairs and policy in one step.
    pub fn commit(&self, commit: Commit) -> Result<(), Failure> {
        self.call(&commit).map(|_| ())
    }

    /// What it dropped.
    pub fn drops(&self) -> Result<Drops, Failure> {
        self.call(&call::Drops {})
    }

    /// Its latches.
    pub fn latches(&self) -> Result<Vec<LatchRow>, Failure> {
        self.call(&call::Latches::default()).map(|answer| answer.latches)
    }

    /// Its SAs.
    pub fn sas(&self) -> Result<Vec<SaRow>, Failure> {
        self.call(&call::Sas::default()).map(|answer| answer.sas)
    }

    /// How it is.
    pub fn status(&self) -> Result<StatusView, Failure> {
        self.call(&call::Status {})
    }

    fn call<M: Method>(&self, call: &M) -> Result<M::Reply, Failure> {
        let mut client = self.client.try_borrow_mut().map_err(|error| Failure::Own(error.to_string()))?;
        client.call(call).map_err(|source: CallError| Failure::Call { host: self.host, source })
    }
}

impl Complaints {
    /// The lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn add(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// Hands a new process its description, and listens to it. What it says first comes through the channel.
fn set_up(
    child: &mut Child,
    spec: &GatewaySpec,
    complaints: &Complaints,
) -> Result<mpsc::Receiver<String>, String> {
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (child.stdin.as_mut(), child.stdout.take(), child.stderr.take())
    else {
        return Err("it has no pipes".to_owned());
    };
    let (say, said) = mpsc::channel();
    // When nobody waits for what it says any more, it may say it.
    listen(stdout, "stdout", move |line| drop(say.send(line)))?;
    let complaints = complaints.clone();
    listen(stderr, "stderr", move |line| complaints.add(line))?;
    describe(stdin, spec)?;
    Ok(said)
}

fn describe(stdin: &mut ChildStdin, spec: &GatewaySpec) -> Result<(), String> {
    write_message(stdin, spec).map_err(|error| format!("handing it its description: {error}"))
}

/// Takes in the lines of a pipe until it ends, on a thread of its own.
fn listen(
    pipe: impl Read + Send + 'static,
    name: &str,
    mut hear: impl FnMut(String) + Send + 'static,
) -> Result<(), String> {
    let lines = BufReader::new(pipe).lines();
    let started = thread::Builder::new().name(name.to_owned()).spawn(move || {
        for line in lines.map_while(Result::ok) {
            hear(line);
        }
    });
    started.map(drop).map_err(|error| format!("listening to it: {error}"))
}

fn not_started(host: &'static str, why: &str, complaints: &Complaints) -> Failure {
    let said = complaints.lines().join("; ");
    let why = if said.is_empty() { why.to_owned() } else { format!("{why}: {said}") };
    Failure::NotStarted { host, why }
}

/// What a gateway prints when everything stands.
const READY: &str = "ready";

const KEPT_LINES: usize = 30;
