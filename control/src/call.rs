//! Calls and replies.

use serde::{Deserialize, Serialize};

use crate::spec::{PairSpec, RuleSpec};

/// What an operator or a provider of SAs asks of a gateway.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "method", content = "parameters", deny_unknown_fields)]
pub enum Call {
    /// How the gateway is and what it moved; answered by [`StatusView`](crate::StatusView).
    #[serde(rename = "org.latchway.Control.Status")]
    Status {},
    /// What was dropped and why; answered by [`Drops`](crate::Drops).
    #[serde(rename = "org.latchway.Control.Drops")]
    Drops {},
    /// Every latch; answered by [`Latches`](crate::Latches).
    #[serde(rename = "org.latchway.Control.Latches")]
    Latches {},
    /// Every SA; answered by [`Sas`](crate::Sas).
    #[serde(rename = "org.latchway.Control.Sas")]
    Sas {},
    /// Proposes and installs a pair of SAs; answered by [`PairAdded`].
    #[serde(rename = "org.latchway.Control.AddPair")]
    AddPair(Box<PairSpec>),
    /// Changes which pairs are used, and the policy, in one step; answered by an empty object.
    #[serde(rename = "org.latchway.Control.Commit")]
    Commit(Commit),
    /// Ends the gateway; answered by an empty object.
    #[serde(rename = "org.latchway.Control.Stop")]
    Stop {},
}

/// A transaction: all of it becomes visible at once, or none.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commit {
    /// Pairs that shall send.
    #[serde(default)]
    pub activate: Vec<u64>,
    /// Pairs that shall only receive what is still under way.
    #[serde(default)]
    pub retire: Vec<u64>,
    /// Pairs that shall go.
    #[serde(default)]
    pub remove: Vec<u64>,
    /// The whole new policy.
    #[serde(default)]
    pub policy: Option<Vec<RuleSpec>>,
}

/// The answer to [`Call::AddPair`].
#[derive(Debug, Serialize, Deserialize)]
pub struct PairAdded {
    /// The number by which [`Commit`] names the pair.
    pub pair: u64,
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reply<T> {
    /// What was asked was not done.
    Failed {
        /// The error's name.
        error: String,
        /// What happened and what to do.
        parameters: Failure,
    },
    /// What was asked was done.
    Done {
        /// The answer.
        parameters: T,
    },
}

/// What happened, and what to do about it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Failure {
    /// One or two sentences.
    pub message: String,
}

impl<T> Reply<T> {
    /// An error with a name of the interface, such as `Refused`.
    #[must_use]
    pub fn failed(name: &str, message: String) -> Self {
        Self::Failed { error: format!("org.latchway.Control.{name}"), parameters: Failure { message } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_varlink_calls() {
        let call = serde_json::to_value(Call::Status {}).unwrap();
        assert_eq!(call, serde_json::json!({"method": "org.latchway.Control.Status", "parameters": {}}));
        let reply: Reply<PairAdded> = serde_json::from_str(r#"{"parameters":{"pair":3}}"#).unwrap();
        assert!(matches!(reply, Reply::Done { parameters: PairAdded { pair: 3 } }));
        let failed = serde_json::to_string(&Reply::<()>::failed("Refused", "no".into())).unwrap();
        let reply: Reply<PairAdded> = serde_json::from_str(&failed).unwrap();
        assert!(matches!(reply, Reply::Failed { error, .. } if error == "org.latchway.Control.Refused"));
    }
}
