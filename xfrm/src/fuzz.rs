//! The bodies of the fuzz targets: what a script, or a dump, can say.
//!
//! Each takes any bytes, checks what must hold whatever they are, and panics where it does not.

use latchway_control::{XfrmPolicyRow, XfrmStateRow, XfrmStep, XfrmUsed};

use crate::{Command, Invocation, Shown, import, lines, policy, state, suite};

/// A batch: what is understood is printed as something that means the same, and nothing panics.
pub fn batch(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    for (_, words) in lines(text) {
        let Ok(Invocation { options, words }) = words.and_then(Invocation::read) else { continue };
        if let Ok(Command::Apply(step)) = Command::read(&words, options.family) {
            printed(step);
        }
    }
}

/// A dump.
pub fn dump(octets: &[u8]) {
    let Ok(text) = std::str::from_utf8(octets) else { return };
    let Ok(imported) = import(text) else { return };
    for state in imported.states {
        printed(XfrmStep::AddState(Box::new(state)));
    }
    for policy in imported.policies {
        printed(XfrmStep::AddPolicy(Box::new(policy)));
    }
}

/// What was read, printed and read again is the same.
fn printed(step: XfrmStep) {
    for statistics in [0, 1] {
        let shown = Shown { statistics, keys: true, ..Shown::default() };
        match &step {
            XfrmStep::AddState(said) | XfrmStep::UpdateState(said) => {
                let _ = suite(said);
                let row = XfrmStateRow { state: (**said).clone(), used: XfrmUsed::default(), paired: false };
                let again = import(&state(&row, shown)).ok().and_then(|mut again| again.states.pop());
                let mut expected = row.state.clone();
                // What is printed is what holds.
                expected.replay_window = Some(expected.window());
                expected.seq = if statistics == 0 { 0 } else { expected.seq };
                if statistics == 0 {
                    expected.limits = Default::default();
                }
                if !expected.has(latchway_control::XfrmStateFlag::Esn) {
                    expected.replay_seq &= u64::from(u32::MAX);
                    expected.replay_oseq &= u64::from(u32::MAX);
                }
                expected
                    .algorithms
                    .sort_by_key(|algorithm| algorithm.kind == latchway_control::XfrmAlgorithmKind::Enc);
                assert_eq!(again, Some(expected), "{}", state(&row, Shown { keys: false, ..shown }));
            }
            XfrmStep::AddPolicy(said) | XfrmStep::UpdatePolicy(said) => {
                let row = XfrmPolicyRow { policy: (**said).clone(), added: 0 };
                let again = import(&policy(&row, shown)).ok().and_then(|mut again| again.policies.pop());
                let mut expected = row.policy.clone();
                if statistics == 0 {
                    expected.index = 0;
                    expected.limits = Default::default();
                }
                assert_eq!(again, Some(expected), "{}", policy(&row, shown));
            }
            _ => {}
        }
    }
}
