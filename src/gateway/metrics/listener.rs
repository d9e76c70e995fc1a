//! The listener: HTTP enough for a scrape, and bounded whatever is sent to it.
//!
//! One thread serves a few connections at a time, each for one request of limited size in limited time; the oldest gives
//! way to a newcomer. New ones are accepted at a limited rate, and the answer is made anew at a limited rate, so that
//! nobody can keep the key manager or a processor busy from here.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::Snapshot;
use super::exposition::render;

/// Where metrics are offered, to nobody yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
}

/// Metrics in service. Dropped, they are served no more.
#[derive(Debug)]
pub struct Serving {
    end: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

/// Connections at a time.
const MAX_CONNECTIONS: usize = 8;

/// The largest request, in octets: what Prometheus sends has some two hundred.
const MAX_REQUEST: usize = 4096;

/// Headers of a request.
const MAX_HEADERS: usize = 32;

/// How long a connection may take from its first octet to its last.
const PATIENCE: Duration = Duration::from_secs(5);

/// The pause between two connections.
const BREATH: Duration = Duration::from_millis(20);

/// How long an answer is given again.
const FRESH: Duration = Duration::from_millis(500);

impl Listener {
    /// Binds the address, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    #[cfg(test)]
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until dropped. `source` is asked on the listener's own thread.
    ///
    /// # Errors
    /// The system has no thread or descriptor left.
    pub fn serve(self, source: impl FnMut() -> Snapshot + Send + 'static) -> io::Result<Serving> {
        let end = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let told = Arc::clone(&end);
        let serve = move || Service::new(self.socket, source).run(&told);
        let thread = thread::Builder::new().name("metrics".into()).spawn(serve)?;
        Ok(Serving { end, thread: Some(thread) })
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let told = self.end.write(1).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| told) {
            let _ = thread.join();
        }
    }
}

struct Service<F> {
    socket: TcpListener,
    source: F,
    /// The oldest first.
    connections: VecDeque<Connection>,
    accept_again: Instant,
    rendered: Option<(Instant, Arc<str>)>,
}

impl<F: FnMut() -> Snapshot> Service<F> {
    fn new(socket: TcpListener, source: F) -> Self {
        Self { socket, source, connections: VecDeque::new(), accept_again: Instant::now(), rendered: None }
    }

    fn run(mut self, end: &EventFd) {
        while self.wait(end) {
            self.turn(Instant::now());
        }
    }

    /// Everybody goes on, or is given up; and one more may come in.
    fn turn(&mut self, now: Instant) {
        for mut connection in mem::take(&mut self.connections) {
            if connection.deadline > now && self.move_on(&mut connection, now) {
                self.connections.push_back(connection);
            }
        }
        if now >= self.accept_again {
            self.accept(now);
        }
    }

    /// Waits until there may be something to do. Returns whether to go on.
    fn wait(&mut self, end: &EventFd) -> bool {
        let now = Instant::now();
        let mut watched = vec![PollFd::new(end.as_fd(), PollFlags::POLLIN)];
        watched.extend(self.connections.iter().map(Connection::watched));
        let mut wake = self.connections.iter().map(|connection| connection.deadline).min();
        if now < self.accept_again {
            wake = Some(wake.map_or(self.accept_again, |wake| wake.min(self.accept_again)));
        } else {
            watched.push(PollFd::new(self.socket.as_fd(), PollFlags::POLLIN));
        }
        let polled = poll(&mut watched, timeout(wake, now));
        let ended = watched.first().and_then(PollFd::any).unwrap_or(false);
        if !matches!(polled, Ok(_) | Err(Errno::EINTR)) {
            // Memory is short. Whoever is served asks again.
            self.connections.clear();
            thread::sleep(BREATH);
        }
        polled.is_err() || !ended
    }

    /// Lets one more in; where all places are taken, for the oldest.
    fn accept(&mut self, now: Instant) {
        let stream = match self.socket.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(_) => {
                // Out of descriptors, mostly.
                self.accept_again = now + PATIENCE / 10;
                return;
            }
        };
        self.accept_again = now + BREATH;
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        if self.connections.len() >= MAX_CONNECTIONS {
            self.connections.pop_front();
        }
        let deadline = now + PATIENCE;
        self.connections.push_back(Connection { stream, request: Vec::new(), answer: None, deadline });
    }

    /// The connection goes on as far as it can. Returns whether there is more to come.
    fn move_on(&mut self, connection: &mut Connection, now: Instant) -> bool {
        if connection.answer.is_none() {
            match connection.receive() {
                Ok(Some(request)) => connection.answer = Some(self.answer(request, now)),
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
        connection.send().unwrap_or(false)
    }

    fn answer(&mut self, request: Request, now: Instant) -> Answer {
        match request {
            Request::Refused { status, text } => Answer::new(status, "text/plain", text.into(), false),
            Request::Metrics { head } => match self.metrics(now) {
                Some(text) => Answer::new("200 OK", OPENMETRICS, text, head),
                None => Answer::new("500 Internal Server Error", "text/plain", "".into(), head),
            },
        }
    }

    fn metrics(&mut self, now: Instant) -> Option<Arc<str>> {
        self.rendered = self.rendered.take().filter(|(at, _)| now.duration_since(*at) < FRESH);
        if self.rendered.is_none() {
            self.rendered = Some((now, render((self.source)()).ok()?.into()));
        }
        self.rendered.as_ref().map(|(_, text)| Arc::clone(text))
    }
}

struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Option<Answer>,
    deadline: Instant,
}

impl Connection {
    fn watched(&self) -> PollFd<'_> {
        let sends = self.answer.is_some();
        PollFd::new(self.stream.as_fd(), if sends { PollFlags::POLLOUT } else { PollFlags::POLLIN })
    }

    /// The request, once all of it is here.
    fn receive(&mut self) -> io::Result<Option<Request>> {
        let mut octets = [0; 1024];
        loop {
            match self.stream.read(&mut octets) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.request.extend(octets.iter().take(read)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            if let Some(request) = Request::read(&self.request) {
                return Ok(Some(request));
            }
        }
    }

    /// Sends what the other side takes. Returns whether there is more.
    fn send(&mut self) -> io::Result<bool> {
        let Some(answer) = &mut self.answer else { return Ok(true) };
        while let Some(rest) = answer.octets.get(answer.sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(sent) => answer.sent += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.stream.shutdown(Shutdown::Write)?;
        Ok(false)
    }
}

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    /// The metrics, or only what would be said of them.
    Metrics { head: bool },
    /// Something else.
    Refused { status: &'static str, text: &'static str },
}

impl Request {
    /// The request that these octets are; `None` where more must come.
    fn read(octets: &[u8]) -> Option<Self> {
        let refused = |status, text| Some(Self::Refused { status, text });
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(octets) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) if octets.len() < MAX_REQUEST => return None,
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return refused("431 Request Header Fields Too Large", "the request is too long\n");
            }
            Err(_) => return refused("400 Bad Request", "this is not HTTP\n"),
        }
        let head = match request.method {
            Some("GET") => false,
            Some("HEAD") => true,
            _ => return refused("405 Method Not Allowed", "metrics are read by GET or HEAD\n"),
        };
        match request.path.and_then(|path| path.split('?').next()) {
            Some("/metrics") => Some(Self::Metrics { head }),
            _ => refused("404 Not Found", "the metrics are at /metrics\n"),
        }
    }
}

/// What is answered, and how much of it is sent.
struct Answer {
    octets: Vec<u8>,
    sent: usize,
}

impl Answer {
    fn new(status: &str, kind: &str, body: Arc<str>, head: bool) -> Self {
        let length = body.len();
        let mut text = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\
             Allow: GET, HEAD\r\nCache-Control: no-store\r\n\r\n"
        );
        if !head {
            text.push_str(&body);
        }
        Self { octets: text.into_bytes(), sent: 0 }
    }
}

/// Until then, rounded up, so that nobody wakes too early and turns in circles.
fn timeout(until: Option<Instant>, now: Instant) -> PollTimeout {
    let Some(until) = until else { return PollTimeout::NONE };
    let millis = until.saturating_duration_since(now).as_millis().saturating_add(1);
    PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
}

/// The type of the format.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::gateway::metrics::exposition::tests::snapshot;

    const GET: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: gateway\r\n\r\n";

    /// A listener, and how often its source was asked.
    fn serving() -> (Serving, SocketAddr, Arc<AtomicUsize>) {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&asked);
        let source = move || {
            count.fetch_add(1, Ordering::Relaxed);
            snapshot()
        };
        (listener.serve(source).unwrap(), address, asked)
    }

    fn connect(address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// All that is answered. An answer may come before all was asked, and then the connection is reset.
    fn ask(address: SocketAddr, octets: &[u8]) -> String {
        let (mut stream, mut answer) = (connect(address), Vec::new());
        let _ = stream.write_all(octets);
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }

    #[test]
    fn a_scrape_is_answered_and_its_head_alone_where_that_is_asked() {
        let (_serving, address, _) = serving();
        let answer = ask(address, GET);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        assert!(body.ends_with("# EOF\n"), "{body}");
        let answer = ask(address, b"HEAD /metrics?x=y HTTP/1.0\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    }

    #[test]
    fn what_is_no_scrape_is_refused() {
        let (serving, address, asked) = serving();
        let long = [b"GET /metrics HTTP/1.1\r\nX: ".as_slice(), &[b'x'; MAX_REQUEST]].concat();
        let many = [b"GET /metrics HTTP/1.1\r\n".as_slice(), &b"X: y\r\n".repeat(MAX_HEADERS + 1)].concat();
        for (octets, status) in [
            (b"GET / HTTP/1.1\r\n\r\n".as_slice(), "404"),
            (b"GET /metrics/../metrics HTTP/1.1\r\n\r\n", "404"),
            (b"POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "405"),
            (b"\0\xff\xfe\r\n\r\n", "400"),
            (b"GET /metrics\r\n\r\n", "400"),
            (&long, "431"),
            (&many, "431"),
        ] {
            let answer = ask(address, octets);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        }
        assert!(ask(address, GET).starts_with("HTTP/1.1 200"), "others are served still");
        drop(serving);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        // What another test has just forked holds all descriptors for a moment.
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_ok() {
            assert!(Instant::now() < end, "somebody listens");
            thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn a_request_cut_at_any_octet_is_waited_for_and_never_answered() {
        for cut in 0..GET.len() {
            assert_eq!(Request::read(GET.get(..cut).unwrap()), None, "{cut}");
        }
        assert_eq!(Request::read(GET), Some(Request::Metrics { head: false }));
    }

    /// Those who say nothing, or never read, keep nobody out.
    #[test]
    fn the_oldest_gives_way_where_all_places_are_taken() {
        let (_serving, address, _) = serving();
        let silent: Vec<_> = (0..MAX_CONNECTIONS * 2)
            .map(|number| {
                let mut stream = connect(address);
                stream.write_all(GET.get(..number).unwrap()).unwrap();
                stream
            })
            .collect();
        assert!(ask(address, GET).starts_with("HTTP/1.1 200"));
        for mut stream in silent.into_iter().take(MAX_CONNECTIONS) {
            assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)), "it gave way");
        }
    }

    #[test]
    fn who_takes_too_long_is_given_up() {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut stream = connect(listener.local_addr().unwrap());
        let mut service = Service::new(listener.socket, snapshot);
        let began = service.accept_again;
        service.turn(began);
        assert_eq!(service.connections.len(), 1);
        service.turn(began + PATIENCE - Duration::from_millis(1));
        assert_eq!(service.connections.len(), 1);
        service.turn(began + PATIENCE);
        assert_eq!(service.connections.len(), 0);
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    }

    /// However often it is asked, the gateway is asked at most twice a second.
    #[test]
    fn an_answer_is_given_again_while_it_is_fresh() {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let asked = AtomicUsize::new(0);
        let mut service = Service::new(listener.socket, || {
            asked.fetch_add(1, Ordering::Relaxed);
            snapshot()
        });
        let began = Instant::now();
        for _ in 0..100 {
            assert!(service.metrics(began).is_some());
        }
        assert!(service.metrics(began + FRESH - Duration::from_millis(1)).is_some());
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert!(service.metrics(began + FRESH).is_some());
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn waits_are_rounded_up_and_may_be_endless() {
        let now = Instant::now();
        assert_eq!(timeout(None, now), PollTimeout::NONE);
        assert_eq!(timeout(Some(now), now).as_millis(), Some(1));
        assert_eq!(timeout(Some(now + Duration::from_micros(1500)), now).as_millis(), Some(2));
        assert_eq!(timeout(Some(now + Duration::from_secs(1 << 40)), now), PollTimeout::MAX);
    }
}
