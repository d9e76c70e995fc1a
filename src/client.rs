//! The calling side of the control socket.

use std::io::{self, BufReader};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use latchway_control::{Call, FrameError, Reply, read_reply, write_message};
use serde::de::DeserializeOwned;

/// A connection to one gateway.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
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
    /// The gateway refused.
    #[error("{message} ({name})")]
    Refused {
        /// The error's name.
        name: String,
        /// What happened and what to do.
        message: String,
    },
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
        Ok(Self { path: path.into(), stream: BufReader::new(stream) })
    }

    /// Makes one call and waits for its answer.
    ///
    /// # Errors
    /// [`CallError`]
    pub fn call<T: DeserializeOwned>(&mut self, call: &Call) -> Result<T, CallError> {
        let broken = |source| CallError::Broken { path: self.path.clone(), source };
        write_message(self.stream.get_mut(), call).map_err(broken)?;
        match read_reply(&mut self.stream).map_err(broken)? {
            Some(Reply::Done { parameters }) => Ok(parameters),
            Some(Reply::Failed { error, parameters }) => {
                Err(CallError::Refused { name: error, message: parameters.message })
            }
            None => Err(CallError::Closed { path: self.path.clone() }),
        }
    }
}
