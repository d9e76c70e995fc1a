//! The control socket: who may speak, and what is answered.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use latchway_control::{
    Answering, Call, Failure, FrameError, Frames, MAX_MESSAGE, PairAdded, Request, ServiceInfo, write_message,
};
use nix::sys::socket::{getsockopt, sockopt};
use serde_json::{Value, json};

use crate::gateway::GatewayError;
use crate::gateway::state::State;

/// A control socket that nobody is served on yet.
pub struct Server {
    path: PathBuf,
    listener: UnixListener,
}

/// A control socket in service. Dropped, it serves nobody new and its file is gone.
pub struct Serving {
    path: PathBuf,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Connections served at a time; one more is closed.
const MAX_CONNECTIONS: usize = 32;

/// How long a caller may take over one message.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long no connection is accepted after one could not be.
const BREATH: Duration = Duration::from_millis(100);

impl Server {
    /// Offers the socket at `path`, to its owner alone. What a killed gateway left there is cleared away; a gateway
    /// that lives is not.
    pub fn bind(path: &Path) -> Result<Self, GatewayError> {
        let bind = || {
            if UnixStream::connect(path).is_ok() {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "a gateway answers there already"));
            }
            match fs::symlink_metadata(path) {
                Ok(left) if left.file_type().is_socket() => fs::remove_file(path)?,
                Ok(_) => {
                    return Err(io::Error::new(io::ErrorKind::AlreadyExists, "what is there is no socket"));
                }
                Err(_) => {}
            }
            let listener = UnixListener::bind(path)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
            Ok(listener)
        };
        let listener = bind().map_err(|source| GatewayError::Control { path: path.into(), source })?;
        Ok(Self { path: path.into(), listener })
    }

    /// Serves callers until dropped. `stop` is called when one asks the gateway to end.
    pub fn start(self, state: Arc<State>, stop: impl Fn() + Send + Sync + 'static) -> io::Result<Serving> {
        let (Self { path, listener }, ending) = (self, Arc::new(AtomicBool::new(false)));
        let (stop, done, served) = (Arc::new(stop), Arc::clone(&ending), Arc::new(AtomicUsize::new(0)));
        let accept = move || {
            for stream in listener.incoming() {
                if done.load(Ordering::Acquire) {
                    return;
                }
                let Ok(stream) = stream else {
                    // Out of descriptors, mostly: asking again at once would only burn the processor.
                    thread::sleep(BREATH);
                    continue;
                };
                if !is_ours(&stream) || served.load(Ordering::Acquire) >= MAX_CONNECTIONS {
                    continue;
                }
                let (state, stop, count) = (Arc::clone(&state), Arc::clone(&stop), Arc::clone(&served));
                count.fetch_add(1, Ordering::AcqRel);
                let converse = move || {
                    let _ = converse(stream, &state, &*stop);
                    count.fetch_sub(1, Ordering::AcqRel);
                };
                if thread::Builder::new().name("control".into()).spawn(converse).is_err() {
                    served.fetch_sub(1, Ordering::AcqRel);
                }
            }
        };
        let thread = thread::Builder::new().name("control".into()).spawn(accept)?;
        Ok(Serving { path, ending, thread: Some(thread) })
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Release);
        // A last connection wakes the thread from its wait for one.
        let woken = UnixStream::connect(&self.path).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            let _ = thread.join();
        }
        let _ = fs::remove_file(&self.path);
    }
}

/// Only the gateway's own user and root may speak, whatever the file's mode became.
fn is_ours(stream: &UnixStream) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    getsockopt(stream, sockopt::PeerCredentials).is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

fn converse(stream: UnixStream, state: &State, stop: &(dyn Fn() + Send + Sync)) -> Result<(), FrameError> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut frames = Frames::new(stream, MAX_MESSAGE);
    while let Some(message) = frames.next_message()? {
        let answer = Request::read(message)
            .and_then(|request| request.call())
            .and_then(|call| answer(&call, state, stop));
        match answer {
            Ok(parameters) => write_message(frames.connection(), &Answering::last(&parameters))?,
            Err(failure) => write_message(frames.connection(), &Answering::failure(&failure))?,
        }
    }
    Ok(())
}

fn answer(call: &Call, state: &State, stop: &(dyn Fn() + Send + Sync)) -> Result<Value, Failure> {
    match call {
        Call::GetInfo(_) => value(Ok::<_, String>(ServiceInfo::own())),
        Call::GetInterfaceDescription(which) => which.answer().and_then(|text| value(Ok::<_, String>(text))),
        Call::Status(_) => value(state.status()),
        Call::Drops(_) => value(Ok::<_, String>(state.drops())),
        Call::Latches(_) => value(state.latches()),
        Call::Sas(_) => value(state.sas()),
        Call::AddPair(pair) => value(state.add_pair(pair).map(|pair| PairAdded { pair })),
        Call::Commit(commit) => value(state.commit(commit).map(|()| json!({}))),
        Call::Reload(reload) => value(state.reload(reload.dry_run)),
        Call::Stop(_) => {
            stop();
            Ok(json!({}))
        }
        other => Err(Failure::method_not_implemented(other.name())),
    }
}

fn value<T: serde::Serialize, E: std::fmt::Display>(answer: Result<T, E>) -> Result<Value, Failure> {
    let answer = answer.map_err(|error| Failure::refused(error.to_string(), ""))?;
    serde_json::to_value(answer).map_err(|error| Failure::failed(error.to_string(), ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that goes with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("latchway-serve-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn t40_the_socket_is_its_owners_and_replaces_a_dead_socket_but_no_living_one_and_no_other_file() {
        let folder = Folder::new("bind");
        let path = folder.0.join("control.sock");
        let living = Server::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(Server::bind(&path).is_err(), "a gateway lives there");
        drop(living);
        drop(Server::bind(&path).unwrap());

        let precious = folder.0.join("precious");
        fs::write(&precious, "not a socket").unwrap();
        let error = Server::bind(&precious).err().unwrap().to_string();
        assert!(error.contains("no socket"), "{error}");
        let link = folder.0.join("link");
        std::os::unix::fs::symlink(&precious, &link).unwrap();
        assert!(Server::bind(&link).is_err());
        assert_eq!(fs::read_to_string(&precious).unwrap(), "not a socket");
        assert!(fs::symlink_metadata(&link).is_ok());
    }
}
