//! What is required of sockets (latching-04 section 2, Q-44, L-33): whether it could be, and the number under which workers
//! compare it.

use latchway_datapath::flow::FlowKey;
use latchway_ulp_shim::{ConstraintId, RequirementId};

use crate::keying::Keying;
use crate::keying::holding::spelt;
use crate::latching::{Constraints, LatchError, Plea, Privilege};

impl Keying {
    /// Takes up what is required of the flows of a socket, and says by which number workers compare it: every class of SAs is
    /// measured by it then. `flow` has the ends that the socket has; those that it has not are unspecified. Without one it is not
    /// judged whether it could be: it was, and must hold though the PAD is another by now.
    ///
    /// # Errors
    /// [`LatchError`], which says what to do; nothing changed then.
    pub fn require(
        &mut self,
        id: RequirementId,
        constraints: &Constraints,
        flow: Option<&FlowKey>,
    ) -> Result<ConstraintId, LatchError> {
        let constraints = spelt(constraints)?;
        let plea = Plea { constraints: &constraints, privilege: Privilege::Application };
        flow.map_or(Ok(()), |flow| plea.judge_requirement(flow, &self.pad))?;
        let nothing = LatchError::Contradiction("nothing is asked that SAs could be measured by");
        let number = self.asking.acquire(&constraints)?.ok_or(nothing)?;
        if let Some(before) = self.required.insert(id, constraints) {
            self.asking.release(&before);
        }
        // Before a worker knows of it.
        self.accept_all();
        Ok(number)
    }

    /// Nobody requires this any more. Returns whether anybody did. Latches that stand stay as they are (L-37).
    pub fn unrequire(&mut self, id: RequirementId) -> bool {
        let Some(constraints) = self.required.remove(&id) else { return false };
        self.asking.release(&constraints);
        true
    }
}
