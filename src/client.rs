//! The calling side of the control socket.

mod place;

use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, fs};

use latchway_control::{
    Asking, Failure, FrameError, Frames, MAX_REPLY, Method, Page, Reply, call, write_message,
};

pub use place::{NoPlace, find};

/// A connection to one gateway.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    frames: Frames<UnixStream>,
}

/// The answers to one call, as they come. Ends when the gateway says that no more follow.
#[derive(Debug)]
pub struct Answers<'a, M: Method> {
    client: &'a mut Client,
    over: bool,
    of: std::marker::PhantomData<fn() -> M>,
}

/// Why a call got no answer, or a refusal.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody can be asked there.
    #[error("no gateway answers at {path}: {reason}")]
    NoGateway {
        /// The control socket.
        path: PathBuf,
        /// What stands in the way, and what to do.
        reason: Unreachable,
    },
    /// The connection failed, or the answer made no sense.
    #[error("the gateway at {path} gave no proper answer: {source}")]
    Broken {
        /// The control socket.
        path: PathBuf,
        /// What was wrong.
        source: FrameError,
    },
    /// The gateway closed the connection instead of answering.
    #[error(
        "the gateway at {path} closed the connection; it may be ending, or not serve this user: try again, or as root"
    )]
    Closed {
        /// The control socket.
        path: PathBuf,
    },
    /// The gateway did not do what was asked.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Why nobody can be asked at a control socket, and what to do.
#[derive(Debug)]
pub enum Unreachable {
    /// There is no such file.
    Missing,
    /// There is a file, but no socket.
    NoSocket,
    /// The socket is there, but nobody listens: the gateway is gone.
    Stale,
    /// The socket, or a folder above it, is not for this user.
    NotPermitted,
    /// The path is longer than the address of a socket can be.
    TooLong,
    /// Something else.
    Other(io::Error),
}

/// How long an answer may take. A gateway that changes SAs waits for its workers to have seen the change.
const PATIENCE: Duration = Duration::from_secs(30);

impl Client {
    /// Connects to the gateway whose control socket is at `path`.
    ///
    /// # Errors
    /// [`CallError::NoGateway`]
    pub fn connect(path: &Path) -> Result<Self, CallError> {
        let connect = || {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(stream)
        };
        let stream = connect().map_err(|error| CallError::NoGateway {
            path: path.into(),
            reason: Unreachable::at(path, error),
        })?;
        Ok(Self { path: path.into(), frames: Frames::new(stream, MAX_REPLY) })
    }

    /// Makes one call and waits for its answer. Of a list, these are the first rows.
    ///
    /// # Errors
    /// [`CallError`]
    pub fn call<M: Method>(&mut self, call: &M) -> Result<M::Reply, CallError> {
        self.say(&Asking::one(call))?;
        Ok(self.answer()?.0)
    }

    /// Makes one call and gives its answers as they come, waiting for each only so long as an answer may take.
    ///
    /// # Errors
    /// [`CallError`]
    pub fn stream<M: Method>(&mut self, call: &M) -> Result<Answers<'_, M>, CallError> {
        self.say(&Asking::more(call))?;
        Ok(Answers { client: self, over: false, of: std::marker::PhantomData })
    }

    /// All rows of a list.
    ///
    /// # Errors
    /// [`CallError`]
    pub fn list<M: Method<Reply: Page>>(&mut self, call: &M) -> Result<M::Reply, CallError> {
        let mut pages = self.stream(call)?;
        let first = pages.next().unwrap_or_else(|| Err(pages.client.closed()))?;
        pages.try_fold(first, |mut all, page| {
            all.append(page?);
            Ok(all)
        })
    }

    /// What happens in the gateway, as it happens, until it ends or closes the connection. The first event says that
    /// the subscription stands.
    ///
    /// # Errors
    /// [`CallError`]
    pub fn events(&mut self) -> Result<Answers<'_, call::Events>, CallError> {
        self.follow(&call::Events {})
    }

    /// The answers to a call that tells what happens, as it happens.
    ///
    /// # Errors
    /// [`CallError`]
    pub fn follow<M: Method>(&mut self, call: &M) -> Result<Answers<'_, M>, CallError> {
        // Nothing may happen for days.
        self.frames.connection().set_read_timeout(None).map_err(|error| self.broken(error.into()))?;
        self.stream(call)
    }

    fn say<M: Method>(&mut self, asking: &Asking<'_, M>) -> Result<(), CallError> {
        write_message(self.frames.connection(), asking).or_else(|error| match error {
            // Whoever is refused is told why before the connection is closed.
            FrameError::Io(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            error => Err(self.broken(error)),
        })
    }

    /// The next answer, and whether others follow.
    fn answer<T: serde::de::DeserializeOwned>(&mut self) -> Result<(T, bool), CallError> {
        let answer = match self.frames.next_message() {
            Ok(Some(message)) => Reply::read(message)
                .and_then(|reply| Ok((reply.answer()?, reply.continues)))
                .map_err(FrameError::from),
            Ok(None) => return Err(self.closed()),
            Err(error) => Err(error),
        };
        let (answer, continues) = answer.map_err(|error| self.broken(error))?;
        Ok((answer?, continues))
    }

    fn broken(&self, source: FrameError) -> CallError {
        CallError::Broken { path: self.path.clone(), source }
    }

    fn closed(&self) -> CallError {
        CallError::Closed { path: self.path.clone() }
    }
}

impl<M: Method> Iterator for Answers<'_, M> {
    type Item = Result<M::Reply, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let answer = self.client.answer();
        self.over = !matches!(&answer, Ok((_, true)));
        Some(answer.map(|(answer, _)| answer))
    }
}

impl Unreachable {
    fn at(path: &Path, error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound => Self::Missing,
            ErrorKind::PermissionDenied => Self::NotPermitted,
            ErrorKind::InvalidInput => Self::TooLong,
            ErrorKind::ConnectionRefused => match fs::metadata(path) {
                Ok(found) if !found.file_type().is_socket() => Self::NoSocket,
                _ => Self::Stale,
            },
            _ => Self::Other(error),
        }
    }
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str(
                "there is no such file; is a gateway running, and is this its control socket? `--control PATH` or \
                 LATCHWAY_CONTROL name another",
            ),
            Self::NoSocket => f.write_str(
                "what is there is no socket; `--control PATH` or LATCHWAY_CONTROL name the control socket",
            ),
            Self::Stale => f.write_str(
                "the socket is there, but nobody listens: the gateway ended without clearing it away; start it again",
            ),
            Self::NotPermitted => f.write_str(
                "this user may not open it; a control socket serves the user that the gateway runs as, and root",
            ),
            Self::TooLong => f.write_str(
                "the path is too long for a socket, which takes 107 octets; give a shorter one",
            ),
            Self::Other(error) => write!(f, "{error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn refusal(path: &Path) -> String {
        Client::connect(path).unwrap_err().to_string()
    }

    #[test]
    fn who_is_not_there_is_told_apart_and_what_to_do_is_said() {
        let folder = std::env::temp_dir().join(format!("latchway-client-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("control.sock");
        assert!(refusal(&path).contains("no such file"));
        fs::write(&path, "").unwrap();
        assert!(refusal(&path).contains("no socket"));
        fs::remove_file(&path).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        assert!(refusal(&path).contains("start it again"));
        assert!(refusal(&folder.join("x".repeat(120))).contains("107 octets"));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn answers_come_page_by_page_and_an_error_ends_them() {
        let (own, theirs) = UnixStream::pair().unwrap();
        let mut client = Client { path: "pair".into(), frames: Frames::new(own, MAX_REPLY) };
        let said = [
            r#"{"parameters":{"sas":[],"truncated":false},"continues":true}"#,
            r#"{"parameters":{"sas":[],"truncated":true}}"#,
            r#"{"error":"org.latchway.Control.Refused","parameters":{"message":"no","hint":"wait"}}"#,
        ];
        for said in said {
            io::Write::write_all(&mut &theirs, &[said.as_bytes(), &[0]].concat()).unwrap();
        }
        let all = client.list(&call::Sas::default()).unwrap();
        assert!(all.is_truncated() && all.rows() == 0);
        let refused: Vec<_> = client.stream(&call::Sas::default()).unwrap().collect();
        assert!(
            matches!(refused.as_slice(), [Err(CallError::Failed(failure))] if failure.to_string() == "no; wait")
        );
        drop(theirs);
        assert!(matches!(
            client.call(&call::Status {}),
            Err(CallError::Closed { .. } | CallError::Broken { .. })
        ));
    }
}
