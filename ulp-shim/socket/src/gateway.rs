//! Gateways: where they are, which of them a socket belongs to, and calls to them.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use latchway_control::app::{self, MAX_APP_SOCKETS, ProtectionView};
use latchway_control::call::Method;
use rustix::net::AddressFamily;
use rustix::net::sockopt::socket_domain;
use rustix::process::geteuid;

use crate::answer::{Answer, NoGateway};
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::exchange::{Exchange, Trouble};
use crate::kept::{Kept, Turn};
use crate::line::{Line, Trust};
use crate::requirement::Requirement;

/// The gateways that this program asks, and the connection that it keeps to one of them. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Gateway {
    place: Place,
    timeout: Duration,
    kept: Arc<Kept>,
}

/// Where gateways are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// In all the places where they are by convention; which one is meant, the socket says.
    Usual,
    /// Here alone.
    At(PathBuf),
}

impl Gateway {
    /// The gateways of this host that this program may use, as the free functions of this crate ask them.
    ///
    /// # Errors
    /// There is none: the host does not support tagged sockets (K-3).
    pub fn find() -> Result<Self> {
        if usual_places().is_empty() {
            Err(Error::absent(NoGateway::NoSocket))
        } else {
            Ok(Self::of_process())
        }
    }

    /// The gateways of this host, whether or not there is one now.
    #[must_use]
    pub fn of_process() -> Self {
        static OF_PROCESS: LazyLock<Gateway> = LazyLock::new(|| Gateway::new(Place::Usual));
        OF_PROCESS.clone()
    }

    /// The gateway whose `app.sock` this is, whoever it belongs to.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self::new(Place::At(path.to_owned()))
    }

    /// The same, each call of which takes no longer than this, whatever the gateway does; two seconds otherwise.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What protects a socket, and who is on its other end (Q-46, N-18).
    ///
    /// # Errors
    /// [`Error`]; that there is no gateway is an answer, and none.
    pub fn protection(&self, socket: impl AsFd) -> Result<Answer> {
        match self.view(socket.as_fd()) {
            Ok(view) => Answer::read(&view),
            Err(error) => error.no_gateway().map(Answer::NoGateway).ok_or(error),
        }
    }

    /// Requires something for a socket, from its next packet on and as long as it lives. What was required
    /// before is replaced.
    ///
    /// # Errors
    /// [`Error`]. After [`ErrorKind::TimedOut`] it may be required all the same.
    pub fn require(&self, socket: impl AsFd, requirement: &Requirement) -> Result<()> {
        internet(&socket)?;
        self.call(requirement.call()?, &[socket.as_fd()]).map(|_| ())
    }

    /// Requires nothing any more.
    ///
    /// # Errors
    /// [`Error`]
    pub fn forget(&self, socket: impl AsFd) -> Result<()> {
        internet(&socket)?;
        self.call(&app::Forget {}, &[socket.as_fd()]).map(|_| ())
    }

    /// Whether something is required for a socket, by whomever.
    ///
    /// # Errors
    /// [`Error`]
    pub fn is_required(&self, socket: impl AsFd) -> Result<bool> {
        Ok(self.view(socket.as_fd())?.required)
    }

    /// Closes the connection that a parent had, in a child that was forked, before it gives up rights that its parent had.
    /// The child's next call makes a connection of its own, and closes the parent's where this was not called.
    pub fn after_fork(&self) {
        self.kept.let_go_of_the_parents();
    }

    fn view(&self, socket: BorrowedFd<'_>) -> Result<ProtectionView> {
        internet(socket)?;
        self.call(&app::Protection {}, &[socket])
    }

    pub(crate) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Makes a call about sockets, on the connection that is kept, within the timeout.
    pub(crate) fn call<M: Method>(&self, call: &M, sockets: &[BorrowedFd<'_>]) -> Result<M::Reply> {
        let deadline = Deadline::after(self.timeout);
        let mut turn = self.kept.turn(deadline)?;
        let asked = match ask_standing(&mut turn, call, sockets, deadline) {
            Standing::Answered(reply) => return reply,
            Standing::NotHere(asked) => Some(asked),
            Standing::None => None,
        };
        let mut none = if asked.is_some() { NoGateway::OtherNamespace } else { NoGateway::NoSocket };
        for (path, trust) in self.places().into_iter().filter(|(path, _)| Some(path) != asked.as_ref()) {
            let attempt = Line::open(&path, trust, deadline).and_then(|mut line| {
                let reply = line.call(&mut Exchange::one(call)?, sockets, deadline);
                Ok((line, reply))
            });
            match attempt {
                Ok((line, Ok(reply))) => {
                    turn.keep(line, path);
                    return Ok(reply);
                }
                Ok((_, Err(Trouble::Dead))) => none = none.rather(NoGateway::Ending),
                Ok((line, Err(Trouble::Refused(error)))) => match error.no_gateway() {
                    Some(which) => none = none.rather(which),
                    None => {
                        turn.keep(line, path);
                        return Err(error);
                    }
                },
                Ok((_, Err(Trouble::Failed(error)))) => return Err(error),
                Err(error) => match error.no_gateway() {
                    Some(which) => none = none.rather(which),
                    None => return Err(error),
                },
            }
        }
        Err(Error::absent(none))
    }

    /// Where to ask, in order.
    pub(crate) fn places(&self) -> Vec<(PathBuf, Trust)> {
        match &self.place {
            Place::At(path) => vec![(path.clone(), Trust::Anyone)],
            Place::Usual => usual_places(),
        }
    }

    fn new(place: Place) -> Self {
        Self { place, timeout: TIMEOUT, kept: Arc::default() }
    }
}

impl NoGateway {
    /// Of two places where there was none, what says more.
    pub(crate) const fn rather(self, other: Self) -> Self {
        match (self, other) {
            (Self::OtherNamespace, _) | (_, Self::OtherNamespace) => Self::OtherNamespace,
            (Self::Ending, _) | (_, Self::Ending) => Self::Ending,
            (Self::NoSocket, Self::NoSocket) => Self::NoSocket,
        }
    }
}

/// What protects a socket, and who is on its other end (Q-46, N-18).
///
/// # Errors
/// [`Error`]; that there is no gateway is an answer, and none.
pub fn protection(socket: impl AsFd) -> Result<Answer> {
    Gateway::of_process().protection(socket)
}

/// Requires something for a socket, from its next packet on and as long as it lives.
///
/// # Errors
/// [`Error`]. After [`ErrorKind::TimedOut`] it may be required all the same.
pub fn require(socket: impl AsFd, requirement: &Requirement) -> Result<()> {
    Gateway::of_process().require(socket, requirement)
}

/// Requires nothing any more for a socket.
///
/// # Errors
/// [`Error`]
pub fn forget(socket: impl AsFd) -> Result<()> {
    Gateway::of_process().forget(socket)
}

/// Whether something is required for a socket, by whomever.
///
/// # Errors
/// [`Error`]
pub fn is_required(socket: impl AsFd) -> Result<bool> {
    Gateway::of_process().is_required(socket)
}

/// What came of asking on the connection that is kept.
enum Standing<T> {
    Answered(Result<T>),
    /// The gateway there is another namespace's.
    NotHere(PathBuf),
    /// There is no connection, or it has ended.
    None,
}

fn ask_standing<M: Method>(
    turn: &mut Turn<'_>,
    call: &M,
    sockets: &[BorrowedFd<'_>],
    deadline: Deadline,
) -> Standing<M::Reply> {
    let Some(mut standing) = turn.standing.take() else { return Standing::None };
    let mut exchange = match Exchange::one(call) {
        Ok(exchange) => exchange,
        Err(error) => return Standing::Answered(Err(error)),
    };
    let answered = match standing.line.call(&mut exchange, sockets, deadline) {
        Ok(reply) => Ok(reply),
        Err(Trouble::Dead) => return Standing::None,
        Err(Trouble::Failed(error)) => return Standing::Answered(Err(error)),
        Err(Trouble::Refused(error)) => Err(error),
    };
    let path = standing.path.clone();
    turn.standing = Some(standing);
    match answered {
        Err(error) if error.kind() == ErrorKind::NoGateway(NoGateway::OtherNamespace) => {
            Standing::NotHere(path)
        }
        answered => Standing::Answered(answered),
    }
}

/// The sockets of gateways that are believed (T40), at most [`MOST_PLACES`] of them, and who may listen there.
fn usual_places() -> Vec<(PathBuf, Trust)> {
    let named = std::env::var_os(NAMED).filter(|_| !is_privileged()).map(PathBuf::from);
    let candidates = named.map_or_else(|| below(Path::new(RUN)), |named| vec![named]);
    let believed = |socket: PathBuf| believed(&socket).map(|trust| (socket, trust));
    candidates.into_iter().filter_map(believed).take(MOST_PLACES).collect()
}

/// The sockets in the folders below this one, in the order of their names.
fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(std::result::Result::ok);
    let mut sockets: Vec<_> = entries.map(|entry| entry.path().join(SOCKET)).collect();
    sockets.sort_unstable();
    sockets
}

/// Who may listen at a socket, if it is believed.
fn believed(socket: &Path) -> Option<Trust> {
    let folder = socket.parent()?;
    let above = folder.parent().and_then(|above| fs::metadata(above).ok());
    let seen = fs::symlink_metadata(socket).ok()?;
    let folder = fs::metadata(folder).ok()?;
    judge(&Seen::of(&seen), &Seen::of(&folder), above.as_ref().map(Seen::of), geteuid().as_raw())
}

/// What the system says of a file.
#[derive(Clone, Copy, Debug)]
struct Seen {
    owner: u32,
    mode: u32,
    is_socket: bool,
}

impl Seen {
    fn of(file: &fs::Metadata) -> Self {
        Self { owner: file.uid(), mode: file.mode(), is_socket: file.file_type().is_socket() }
    }

    /// Whether others than its owner can put something into it in the place of what is there.
    const fn is_open(&self) -> bool {
        self.mode & OTHERS_WRITE != 0 && self.mode & STICKY == 0
    }

    /// Whether root alone puts anything into it.
    const fn is_roots(&self) -> bool {
        self.owner == 0 && self.mode & OTHERS_WRITE == 0
    }
}

/// A socket is believed where it and its folder belong to root, to ourselves, or to the user whom root gave the folder to
/// (which a gateway becomes that does not stay root), and nobody else can put another there.
fn judge(socket: &Seen, folder: &Seen, above: Option<Seen>, own: u32) -> Option<Trust> {
    let ours = |user: u32| user == 0 || user == own;
    let given = above.is_some_and(|above| above.is_roots());
    let folder_is = !folder.is_open() && (ours(folder.owner) || given);
    let socket_is = socket.is_socket && (ours(socket.owner) || socket.owner == folder.owner);
    (folder_is && socket_is).then_some(Trust::OursAlone { owner: folder.owner })
}

/// Whether the program has more rights than whoever started it, whose environment then says nothing (AT_SECURE). It has,
/// where that cannot be read.
fn is_privileged() -> bool {
    let Ok(vector) = fs::read("/proc/self/auxv") else { return true };
    const WORD: usize = size_of::<usize>();
    let (words, _) = vector.as_chunks::<WORD>();
    let (pairs, _) = words.as_chunks::<2>();
    let secure = pairs.iter().map(|[key, value]| (usize::from_ne_bytes(*key), usize::from_ne_bytes(*value)));
    secure.into_iter().find(|(key, _)| *key == AT_SECURE).is_none_or(|(_, secure)| secure != 0)
}

/// A socket of IPv4 or IPv6: of others gateways know nothing.
pub(crate) fn internet(socket: impl AsFd) -> Result<()> {
    match socket_domain(socket) {
        Ok(AddressFamily::INET | AddressFamily::INET6) => Ok(()),
        Ok(_) => {
            let said = "a gateway protects what is sent over IPv4 and IPv6, and the socket is of another address family";
            Err(Error::new(ErrorKind::NotInternet, said))
        }
        Err(errno) => Err(Error::system("asking what the socket is", errno)),
    }
}

/// Of sockets that one call is about.
pub(crate) fn few_enough(sockets: &[BorrowedFd<'_>]) -> Result<()> {
    if (1..=MAX_APP_SOCKETS).contains(&sockets.len()) {
        return Ok(());
    }
    let said =
        format!("{} sockets cannot be watched by one call; watch 1 to {MAX_APP_SOCKETS}", sockets.len());
    Err(Error::new(ErrorKind::Invalid, said))
}

/// The variable that names a gateway's `app.sock`.
const NAMED: &str = "LATCHWAY_APP";
/// Where gateways have a folder each.
const RUN: &str = "/run/latchway";
/// What they listen on there.
const SOCKET: &str = "app.sock";
/// The bits of a mode by which its group and all others write.
const OTHERS_WRITE: u32 = 0o022;
/// The bit of a mode by which nobody removes what is another's.
const STICKY: u32 = 0o1000;
/// Of gateways that are asked.
const MOST_PLACES: usize = 16;
/// Of a call.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The key in the auxiliary vector (elf.h).
const AT_SECURE: usize = 23;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::os::unix::net::UnixListener;

    /// T40: a place that others could have put a socket at is not asked.
    #[test]
    fn t40_only_sockets_of_root_or_our_own_are_believed() {
        let run = std::env::temp_dir().join(format!("latchway-places-{}", std::process::id()));
        let folder = run.join("gw");
        fs::create_dir_all(&folder).unwrap();
        let allow = |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
        allow(0o755);
        let socket = folder.join(SOCKET);
        assert!(believed(&socket).is_none(), "there is none");
        fs::write(&socket, "").unwrap();
        assert!(believed(&socket).is_none(), "it is no socket");
        fs::remove_file(&socket).unwrap();
        let _listener = UnixListener::bind(&socket).unwrap();
        assert!(believed(&socket).is_some());
        assert_eq!(below(&run), std::slice::from_ref(&socket));
        allow(0o777);
        assert!(believed(&socket).is_none(), "anybody may put another there");
        allow(0o755);
        let link = folder.join("link.sock");
        symlink(&socket, &link).unwrap();
        assert!(believed(&link).is_none());
        if geteuid().is_root() {
            chown(&socket, Some(65_534), None).unwrap();
            assert!(believed(&socket).is_none(), "it is somebody else's");
        }
        fs::remove_dir_all(&run).unwrap();
    }

    /// T40: a gateway that does not stay root gives its folder to the user that it becomes. Root chose that one where the
    /// folder above is root's alone.
    #[test]
    fn t40_a_folder_that_root_gave_to_a_gateways_user_is_believed() {
        let (roots, users, others, own) = (0, 990, 991, 1000);
        let socket = |owner| Seen { owner, mode: 0o666, is_socket: true };
        let folder = |owner| Seen { owner, mode: 0o755, is_socket: false };
        let judged = |socket: Seen, at: Seen, above: Seen| judge(&socket, &at, Some(above), own);
        for bound in [roots, users] {
            let trust = judged(socket(bound), folder(users), folder(roots));
            assert_eq!(trust, Some(Trust::OursAlone { owner: users }), "bound by {bound}");
        }
        assert_eq!(judged(socket(others), folder(users), folder(roots)), None, "it is a third one's");
        assert_eq!(judged(socket(users), folder(users), folder(users)), None, "root did not give it");
        for mode in [0o1777, 0o775] {
            let open = Seen { mode, ..folder(roots) };
            assert_eq!(judged(socket(users), folder(users), open), None, "others make folders there");
        }
        let open = Seen { mode: 0o775, ..folder(users) };
        assert_eq!(judged(socket(users), open, folder(roots)), None, "others put sockets there");
        assert_eq!(judge(&socket(users), &folder(users), None, own), None);
        let trust = judge(&socket(own), &folder(own), Some(folder(others)), own);
        assert_eq!(trust, Some(Trust::OursAlone { owner: own }), "our own is believed wherever it is");
    }

    /// T40: a program that has no more rights than its caller listens to its environment.
    #[test]
    fn t40_the_auxiliary_vector_is_read() {
        assert!(!is_privileged());
    }
}
