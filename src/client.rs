//! The calling side of the control socket.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use latchway_control::{Asking, Failure, FrameError, Frames, MAX_REPLY, Method, Reply, write_message};

/// A connection to one gateway.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    frames: Frames<UnixStream>,
}

/// Why a call got no answer, or a refusal.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody listens there.
    #[error("no gateway answers at {path}: {source}; is it running, and is this its control socket?")]
    NoGateway {
        /// The control socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
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
    #[error("the gateway at {path} closed the connection; it may be ending")]
    Closed {
        /// The control socket.
        path: PathBuf,
    },
    /// The gateway did not do what was asked.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

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
        let stream = connect().map_err(|source| CallError::NoGateway { path: path.into(), source })?;
        Ok(Self { path: path.into(), frames: Frames::new(stream, MAX_REPLY) })
    }

    /// Makes one call and waits for its answer.
    ///
    /// # Errors
    /// [`CallError`]
    pub fn call<M: Method>(&mut self, call: &M) -> Result<M::Reply, CallError> {
        let broken = |source| CallError::Broken { path: self.path.clone(), source };
        write_message(self.frames.connection(), &Asking::one(call)).map_err(broken)?;
        let Some(message) = self.frames.next_message().map_err(broken)? else {
            return Err(CallError::Closed { path: self.path.clone() });
        };
        let answer = Reply::read(message).and_then(|reply| reply.answer());
        Ok(answer.map_err(|error| broken(error.into()))??)
    }
}
