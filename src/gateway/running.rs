//! A gateway in motion: its threads, and how they end together.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Sender, TrySendError};
use latchway_datapath::worker::Stop;

use crate::gateway::app::{Applications, Inner, Record};
use crate::gateway::assemble::Assembled;
use crate::gateway::care::Care;
use crate::gateway::configured::beside;
use crate::gateway::daemon::tell;
use crate::gateway::disposition::Disposing;
use crate::gateway::serve::processes::Processes;
use crate::gateway::serve::{Server, Service, Serving};
use crate::gateway::state::State;
use crate::gateway::{GatewayError, audit, chronicle, folders};

/// A gateway that moves packets and answers its operator.
pub struct Running {
    /// What its operator sees.
    pub state: Arc<State>,
    stop: Stop,
    moving: JoinHandle<()>,
    server: Serving,
    applications: Option<Serving>,
    care: Care,
    disposing: Disposing,
    telling: JoinHandle<()>,
    auditing: Option<JoinHandle<()>>,
}

/// Where a gateway is spoken to.
pub struct Sockets<'a> {
    /// Its operator's socket.
    pub control: &'a Path,
    /// That of applications, where there is to be one.
    pub app: Option<&'a Path>,
    /// Whether the gateway does not start without that: somebody named it.
    pub is_app_wanted: bool,
}

/// What whoever runs a gateway is asked to do.
pub enum Asked {
    /// To end it: by a signal, by control.sock or with whoever started it.
    End,
    /// To read its configuration again.
    Reload,
    /// To see that the worker could not go on.
    Worker(io::Result<()>),
}

impl Running {
    /// Sets the parts in motion, to be spoken to at these sockets.
    ///
    /// # Errors
    /// [`GatewayError`]; nothing moves then.
    pub fn start(
        assembled: Assembled,
        sockets: &Sockets<'_>,
        asked: Sender<Asked>,
    ) -> Result<Self, GatewayError> {
        let Assembled {
            worker,
            heartbeat: _,
            stop,
            state,
            keying,
            events,
            notices,
            disposer,
            audit,
            applications: inner,
        } = assembled;
        let on_stop = asked.clone();
        let server = Server::bind(sockets.control)?.start(Service {
            gateway: Arc::clone(&state) as _,
            events: Arc::clone(state.events()),
            processes: Processes::start(Arc::clone(&state) as _)?,
            stop: Box::new(move || ask(&on_stop, Asked::End)),
        })?;
        if sockets.app.is_none() || inner.is_err() {
            let app = sockets.app.map_or_else(|| beside(sockets.control), Path::to_path_buf);
            Record::refuse(&app).map_err(|source| GatewayError::Control { path: app, source })?;
        }
        let applications =
            sockets.app.map(|app| serve_applications((app, sockets.is_app_wanted), inner, &state));
        let applications = applications.transpose()?.flatten();
        let telling = chronicle::start(notices, &state)?;
        let auditing =
            audit.map(|(records, listen)| audit::start(records, listen, Arc::clone(state.events())));
        let auditing = auditing.transpose()?;
        let disposing = disposer.start(events, &state)?;
        let care = Care::start(keying, Arc::clone(state.counters()), Arc::clone(state.events()))?;
        let work = move || ask(&asked, Asked::Worker(worker.run()));
        let moving = thread::Builder::new().name("worker".into()).spawn(work)?;
        Ok(Self { state, stop, moving, server, applications, care, disposing, telling, auditing })
    }

    /// Ends it: first the latched connections, so that no application waits for what will not come (L-40); then the
    /// worker, with what it has in hand; then everything else.
    ///
    /// # Errors
    /// Where the worker cannot be woken.
    pub fn end(self) -> io::Result<()> {
        let Self { state, stop, moving, server, applications, care, disposing, telling, auditing } = self;
        stop.turn_away();
        let end = Instant::now() + TURNS;
        while !stop.turns_away() && !moving.is_finished() && Instant::now() < end {
            thread::sleep(TURN);
        }
        disposing.end_all();
        stop.stop()?;
        let _ = moving.join();
        drop((server, applications));
        drop(care);
        drop(state);
        disposing.join();
        let _ = telling.join();
        // The worker and its auditor are gone, so that nothing more comes.
        let _ = auditing.map(JoinHandle::join);
        Ok(())
    }
}

/// Offers app.sock, where the system lets the gateway know whose sockets are whose.
fn serve_applications(
    (app, is_wanted): (&Path, bool),
    inner: Result<Inner, GatewayError>,
    state: &Arc<State>,
) -> Result<Option<Serving>, GatewayError> {
    let inner = match inner {
        Ok(inner) => inner,
        Err(error) => {
            tell(&format!("applications cannot ask about their sockets, which takes Linux 5.14: {error}"));
            return Ok(None);
        }
    };
    let applications = Applications::new(Arc::clone(state), inner, app)
        .map_err(|source| GatewayError::Control { path: app.into(), source })?;
    let server = match Server::bind_for_all(app) {
        Ok(server) => server,
        Err(error) if is_wanted => return Err(error),
        Err(error) => {
            tell(&format!(
                "applications cannot ask about their sockets: {error}; name another place with `app`"
            ));
            return Ok(None);
        }
    };
    if let Some(folder) = folders::closed_on_the_way_to(app) {
        let folder = folder.display();
        tell(&format!(
            "applications of other users cannot come to {}: nobody else may enter {folder} (chmod 755), or name another \
             place with `app`",
            app.display()
        ));
    }
    Ok(Some(server.start(applications)?))
}

/// Never waits: where there is no room, the gateway is ending.
pub fn ask(whom: &Sender<Asked>, what: Asked) {
    match whom.try_send(what) {
        Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
    }
}

/// How often a worker is looked at, and how long it has to let pass what had arrived.
const TURN: Duration = Duration::from_millis(1);
const TURNS: Duration = Duration::from_secs(1);
