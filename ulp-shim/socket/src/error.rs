//! Why a call failed, and the one table of what that is as an errno.

use std::fmt;
use std::io;

use latchway_control::Failure;
use rustix::io::Errno;

use crate::answer::NoGateway;

/// Why a call failed: what happened, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    said: String,
}

/// Declares the kinds with their numbers.
macro_rules! kinds {
    ($($(#[$doc:meta])+ $name:ident = $errno:ident,)+) => {
        /// What kind of failure it is; each is one errno.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind {
            $($(#[$doc])+ $name,)+
            /// No gateway protects this socket, and which way that is (ENONET).
            NoGateway(NoGateway),
            /// The system refused it for reasons of its own: the number is the system's.
            System(i32),
        }

        impl ErrorKind {
            /// Every kind that is this library's alone, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The number that C programs see.
            #[must_use]
            pub const fn errno(self) -> i32 {
                match self {
                    $(Self::$name => Errno::$errno.raw_os_error(),)+
                    Self::NoGateway(_) => Errno::NONET.raw_os_error(),
                    Self::System(number) => number,
                }
            }
        }
    };
}

kinds! {
    /// The descriptor is none, or the token is freed or of another process (EBADF).
    BadDescriptor = BADF,
    /// A value that cannot be used (EINVAL).
    Invalid = INVAL,
    /// The descriptor is no socket (ENOTSOCK).
    NotASocket = NOTSOCK,
    /// The socket is of another address family than IPv4 and IPv6 (EAFNOSUPPORT).
    NotInternet = AFNOSUPPORT,
    /// A socket whose connections cannot be latched: not TCP or UDP, or not bound yet where it must be
    /// (EPROTONOSUPPORT).
    WrongSocket = PROTONOSUPPORT,
    /// The socket is not connected (ENOTCONN).
    NotConnected = NOTCONN,
    /// The connection that is there does not have what is required (EISCONN).
    Unsatisfied = ISCONN,
    /// The policy or the PAD forbids it, or the datagram's peer is not the one that is required (EACCES).
    Forbidden = ACCESS,
    /// Only a privileged caller may have this, or the token cannot be changed any more (EPERM).
    PrivilegeNeeded = PERM,
    /// The attribute can be read only (EROFS).
    ReadOnly = ROFS,
    /// There is no such attribute (ENOENT).
    NoAttribute = NOENT,
    /// It is not known, or not there (ENODATA).
    NoData = NODATA,
    /// The buffer is too short (ERANGE).
    TooShort = RANGE,
    /// There is no memory, or no room for another token (ENOMEM).
    NoMemory = NOMEM,
    /// The gateway has no room for another (ENOBUFS).
    Full = NOBUFS,
    /// The gateway serves as many callers as it can (EAGAIN).
    Busy = AGAIN,
    /// The gateway did not answer in time (ETIMEDOUT).
    TimedOut = TIMEDOUT,
    /// What answers is no gateway of this kind, or broke off in the middle (EPROTO).
    Protocol = PROTO,
    /// Another latch, or SAs that are there, stand against it (EADDRINUSE).
    Conflict = ADDRINUSE,
    /// The connection's latch is not in force: nothing passes (ENETDOWN).
    Suspended = NETDOWN,
    /// There is no such thing here (ENOTSUP).
    Unsupported = NOTSUP,
    /// The message carries no token, or its protection was not certain (ENOMSG).
    NoToken = NOMSG,
    /// The gateway could not do it (EIO).
    Failed = IO,
}

/// What happened.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failure of this kind; `said` is what happened and what to do.
    #[must_use]
    pub fn new(kind: ErrorKind, said: impl Into<String>) -> Self {
        Self { kind, said: said.into() }
    }

    /// The kind.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The number that C programs see.
    #[must_use]
    pub const fn errno(&self) -> i32 {
        self.kind.errno()
    }

    /// Which way there is no gateway, where that is what happened.
    #[must_use]
    pub const fn no_gateway(&self) -> Option<NoGateway> {
        match self.kind {
            ErrorKind::NoGateway(which) => Some(which),
            _ => None,
        }
    }

    /// What the system refused.
    pub(crate) fn system(doing: &str, errno: Errno) -> Self {
        let kind = match errno {
            Errno::BADF => ErrorKind::BadDescriptor,
            Errno::NOTSOCK => ErrorKind::NotASocket,
            Errno::NOTCONN => ErrorKind::NotConnected,
            other => ErrorKind::System(other.raw_os_error()),
        };
        Self::new(kind, format!("{doing}: {}", io::Error::from(errno)))
    }

    /// The same of the standard library's errors.
    pub(crate) fn io(doing: &str, error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(errno) => Self::system(doing, errno),
            None => Self::new(ErrorKind::Failed, format!("{doing}: {error}")),
        }
    }

    pub(crate) fn absent(which: NoGateway) -> Self {
        let said = match which {
            NoGateway::NoSocket => {
                "no gateway serves applications here: start latchway, or name its app.sock in LATCHWAY_APP"
            }
            NoGateway::OtherNamespace => {
                "no gateway that was found carries the traffic of this socket's network namespace: run the program with \
                 `latchway exec`, or start a gateway for the namespace"
            }
            NoGateway::Ending => "the gateway ends, or has just ended; ask again when it is back",
        };
        Self::new(ErrorKind::NoGateway(which), said)
    }

    pub(crate) fn timed_out() -> Self {
        let said =
            "the gateway did not answer in time; what was asked may have been done all the same: ask again";
        Self::new(ErrorKind::TimedOut, said)
    }

    pub(crate) fn protocol(what: impl fmt::Display) -> Self {
        let said = format!("what answers on app.sock is not a gateway that this library understands: {what}");
        Self::new(ErrorKind::Protocol, said)
    }

    /// What the gateway answered instead of an answer.
    pub(crate) fn refused(failure: &Failure) -> Self {
        Self::new(kind_of(&failure.error), failure.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)
    }
}

impl std::error::Error for Error {}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = Self::from_raw_os_error(error.errno()).kind();
        Self::new(kind, error)
    }
}

/// The kind of an error's full name.
fn kind_of(name: &str) -> ErrorKind {
    let Some((interface, name)) = name.rsplit_once('.') else { return ErrorKind::Protocol };
    match (interface, name) {
        ("org.latchway.App" | "org.latchway.Control", name) => {
            let row = FAILURES.iter().find(|(failure, _)| *failure == name);
            row.map_or(ErrorKind::Failed, |(_, kind)| *kind)
        }
        ("org.varlink.service", "MethodNotFound" | "MethodNotImplemented" | "InterfaceNotFound") => {
            ErrorKind::Unsupported
        }
        _ => ErrorKind::Protocol,
    }
}

/// What the gateway's errors are.
const FAILURES: [(&str, ErrorKind); 16] = [
    ("BadCall", ErrorKind::Invalid),
    ("BadTuple", ErrorKind::Invalid),
    ("NotFound", ErrorKind::NoData),
    ("Refused", ErrorKind::Unsupported),
    ("Busy", ErrorKind::Busy),
    ("Failed", ErrorKind::Failed),
    ("Conflict", ErrorKind::Conflict),
    ("Full", ErrorKind::Full),
    ("NotOwner", ErrorKind::Forbidden),
    ("PolicyForbids", ErrorKind::Forbidden),
    ("PrivilegeNeeded", ErrorKind::PrivilegeNeeded),
    ("NotHere", ErrorKind::NoGateway(NoGateway::OtherNamespace)),
    ("NotASocket", ErrorKind::NotASocket),
    ("NotInternet", ErrorKind::NotInternet),
    ("WrongSocket", ErrorKind::WrongSocket),
    ("Unsatisfied", ErrorKind::Unsatisfied),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// C-2, Q-26: every failure is one errno, and no two kinds share one.
    #[test]
    fn c2_every_kind_is_an_errno_of_its_own() {
        let none = ErrorKind::NoGateway(NoGateway::NoSocket);
        let numbers: HashSet<i32> = ErrorKind::ALL.iter().chain([&none]).map(|kind| kind.errno()).collect();
        assert_eq!(numbers.len(), ErrorKind::ALL.len() + 1);
        assert!(numbers.iter().all(|number| *number > 0));
        assert_eq!(Error::absent(NoGateway::Ending).errno(), 64, "ENONET");
        assert_eq!(ErrorKind::System(111).errno(), 111);
    }

    #[test]
    fn failures_of_the_gateway_are_kinds() {
        let of = |name: &str| {
            Error::refused(&Failure { error: name.to_owned(), parameters: Box::default() }).kind()
        };
        assert_eq!(of("org.latchway.Control.Full"), ErrorKind::Full);
        assert_eq!(of("org.latchway.App.NotHere"), ErrorKind::NoGateway(NoGateway::OtherNamespace));
        assert_eq!(of("org.latchway.App.SomethingNew"), ErrorKind::Failed);
        assert_eq!(of("org.varlink.service.MethodNotFound"), ErrorKind::Unsupported);
        assert_eq!(of("com.example.Full"), ErrorKind::Protocol);
        assert_eq!(of("Full"), ErrorKind::Protocol);
    }

    #[test]
    fn an_error_is_an_io_error_with_its_words() {
        let error: io::Error = Error::timed_out().into();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("ask again"));
    }
}
