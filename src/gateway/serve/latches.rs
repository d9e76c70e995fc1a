//! Latches of callers: who owns them, what their owners are told, and who may give them up.

use latchway_control::{
    Call, Done, Failure, FrameError, LatchDetail, LatchNamed, OwnerKind, OwnerSpec, WatchLatches,
};
use latchway_keying::{Alerts, Holder};
use nix::sys::socket::{getsockopt, sockopt};

use crate::gateway::alerts;
use crate::gateway::operator::{Answer, Gateway};
use crate::gateway::serve::Service;
use crate::gateway::serve::conversation::{Back, GLANCE, has_hung_up};

/// What a connection holds. Dropped with the connection, all of it is released (L-21).
#[derive(Debug, Default)]
pub struct Own(Option<Alerts>);

impl Own {
    /// Releases what it holds now that the connection is over, and not only when the key manager looks.
    pub fn end(self, gateway: &dyn Gateway) {
        if let Some(holder) = self.holder() {
            gateway.let_go(holder);
        }
    }

    fn holder(&self) -> Option<Holder> {
        self.0.as_ref().map(Alerts::holder)
    }
}

impl Back<'_> {
    /// Answers a call about latches.
    pub fn answer_of_latches(&mut self, call: &Call, service: &Service) -> Result<(), FrameError> {
        let gateway = &*service.gateway;
        match call {
            Call::ListenLatch(asked) => {
                let made = self.make(asked.owner, service, |holder| gateway.listen_latch(asked, holder));
                self.give(made)
            }
            Call::ConnectLatch(asked) => {
                let made = self.make(asked.owner, service, |holder| gateway.connect_latch(asked, holder));
                self.give(made)
            }
            Call::ReleaseLatch(which) => {
                let released = self.release(&which.latch, service);
                self.give(released)
            }
            Call::InquireLatch(which) => {
                let inquired = self.inquire(&which.latch, service);
                self.give(inquired)
            }
            Call::FindLatch(flow) => self.give(gateway.find_latch(flow)),
            Call::CloseLatch(which) => self.give(gateway.close_latch(&which.latch).map(|()| Done {})),
            Call::WatchLatches(_) if !self.more => self.fail(&Failure::expected_more()),
            Call::WatchLatches(watch) => self.watch(**watch, service),
            other => self.fail(&Failure::method_not_implemented(other.name())),
        }
    }

    fn make(
        &mut self,
        owner: Option<OwnerSpec>,
        service: &Service,
        make: impl FnOnce(Holder) -> Answer<LatchNamed>,
    ) -> Answer<LatchNamed> {
        match owner {
            Some(OwnerSpec { pid }) => make(service.processes.holder(pid, || service.gateway.hold())?),
            None => make(self.holder(service)?),
        }
    }

    /// Whom the connection's latches are held by.
    fn holder(&mut self, service: &Service) -> Answer<Holder> {
        if let Some(holder) = self.own.holder() {
            return Ok(holder);
        }
        if !self.caller.hold() {
            let hint = "close one of them, or let a process own the latch";
            return Err(Failure::full("as many connections hold latches as may", hint));
        }
        let alerts = service.gateway.hold()?;
        let holder = alerts.holder();
        self.own.0 = Some(alerts);
        Ok(holder)
    }

    fn release(&self, latch: &str, service: &Service) -> Answer<Done> {
        let (_, holder) = service.gateway.inquire_latch(latch)?;
        let is_ours = |holder: &Holder| {
            self.own.holder() == Some(*holder) || service.processes.process(*holder).is_some()
        };
        let Some(holder) = holder.filter(is_ours) else {
            let hint = "its owner releases it; `latchway latch close` closes it, whoever owns it";
            return Err(Failure::not_owner(format!("latch {latch} is somebody else's"), hint));
        };
        service.gateway.release_latch(latch, holder).map(|()| Done {})
    }

    fn inquire(&self, latch: &str, service: &Service) -> Answer<LatchDetail> {
        let (mut detail, holder) = service.gateway.inquire_latch(latch)?;
        let Some(holder) = holder else { return Ok(detail) };
        (detail.owner.kind, detail.owner.pid) = match service.processes.process(holder) {
            Some(pid) => (OwnerKind::Process, Some(pid)),
            None if self.own.holder() == Some(holder) => (OwnerKind::Control, self.pid()),
            None => (OwnerKind::Control, None),
        };
        Ok(detail)
    }

    /// The process that connected.
    fn pid(&self) -> Option<u32> {
        let peer = getsockopt(&self.stream, sockopt::PeerCredentials).ok()?;
        u32::try_from(peer.pid()).ok().filter(|pid| *pid > 0)
    }

    /// Tells what becomes of the connection's own latches, or of all.
    fn watch(&mut self, watch: WatchLatches, service: &Service) -> Result<(), FrameError> {
        let place = if watch.all { self.caller.listen().map(Some) } else { Some(None) };
        let Some(_place) = place else {
            let hint = "end one of them, or list the latches now and then";
            return self.fail(&Failure::busy("as many listen to events as may", hint));
        };
        let own = match (self.own.0.take(), watch.all) {
            (Some(own), _) => Ok(own),
            (None, true) => service.gateway.hold(),
            (None, false) => {
                let hint = "make one on this connection first, or watch all";
                Err(Failure::refused("this connection holds no latch", hint))
            }
        };
        let own =
            match own.and_then(|own| service.gateway.watch_latches(own.holder(), watch.all).map(|()| own)) {
                Ok(own) => own,
                Err(failure) => return self.fail(&failure),
            };
        let told = self.tell_alerts(&own, service);
        // Nothing follows on this connection where telling failed; else the gateway ends.
        self.own.0 = Some(own);
        told
    }

    /// Tells a holder what there is to tell, as it comes. What it does not read waits, in the end the oldest is lost, and
    /// nobody else is held up.
    fn tell_alerts(&mut self, own: &Alerts, service: &Service) -> Result<(), FrameError> {
        // Who does not read for a while keeps its latches all the same.
        self.stream.set_write_timeout(None)?;
        self.continued(&alerts::watching())?;
        loop {
            // Whether it rang or was quiet: what there is, is taken.
            let _ = own.bell().recv_timeout(GLANCE);
            let delivery = own.take();
            if delivery.lost > 0 {
                self.continued(&alerts::lost(delivery.lost))?;
            }
            delivery.alerts.iter().try_for_each(|alert| self.continued(&alerts::of(alert)))?;
            if service.events.has_ended() {
                return self.last(&alerts::ending());
            }
            if has_hung_up(self.stream) {
                return Err(FrameError::CutShort);
            }
        }
    }
}
