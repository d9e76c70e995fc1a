//! Messages: a call, and an answer to it, as Varlink has them.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::app::AppCall;
use crate::call::{Call, Method};
use crate::failure::{Failure, FailureParameters};

/// A call as it was said, its parameters not read yet.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request<'a> {
    /// The method's full name.
    #[serde(borrow)]
    pub method: Cow<'a, str>,
    /// Its parameters.
    #[serde(borrow, default)]
    parameters: Option<&'a RawValue>,
    /// Whether there may be more than one reply.
    #[serde(default)]
    pub more: bool,
    /// Whether there shall be no reply at all.
    #[serde(default)]
    pub oneway: bool,
    /// Whether the connection shall be used for something else afterwards, which no method here does.
    #[serde(default)]
    pub upgrade: bool,
}

/// An answer as it was said, its parameters not read yet.
#[derive(Debug, Deserialize)]
pub struct Reply<'a> {
    /// The error's full name, where what was asked was not done.
    #[serde(borrow, default)]
    error: Option<Cow<'a, str>>,
    /// The answer, or what the error says.
    #[serde(borrow, default)]
    parameters: Option<&'a RawValue>,
    /// Whether more replies follow.
    #[serde(default)]
    pub continues: bool,
}

/// A call to be said.
#[derive(Debug, Serialize)]
pub struct Asking<'a, M> {
    method: &'static str,
    parameters: &'a M,
    #[serde(skip_serializing_if = "is_false")]
    more: bool,
}

/// An answer to be said.
#[derive(Debug, Serialize)]
pub struct Answering<'a, T> {
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    parameters: &'a T,
    #[serde(skip_serializing_if = "is_false")]
    continues: bool,
}

impl<'a> Request<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// A [`Failure`] that says what is wrong with it.
    pub fn read(message: &'a [u8]) -> Result<Self, Failure> {
        serde_json::from_slice(message).map_err(|error| {
            Failure::bad_call(
                format!("not a call: {error}"),
                "a call is {\"method\": ..., \"parameters\": {...}} and a NUL octet (https://varlink.org)",
            )
        })
    }

    /// Reads what is asked on control.sock.
    ///
    /// # Errors
    /// As [`Call::read`].
    pub fn call(&self) -> Result<Call, Failure> {
        Call::read(&self.method, self.parameters)
    }

    /// Reads what is asked on app.sock.
    ///
    /// # Errors
    /// As [`AppCall::read`].
    pub fn app_call(&self) -> Result<AppCall, Failure> {
        AppCall::read(&self.method, self.parameters)
    }
}

impl<'a> Reply<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// It is not an answer.
    pub fn read(message: &'a [u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(message)
    }

    /// The answer, or the error that stands in its place.
    ///
    /// # Errors
    /// It is not this answer.
    pub fn answer<T: DeserializeOwned>(&self) -> serde_json::Result<Result<T, Failure>> {
        let parameters = self.parameters.map_or("{}", RawValue::get);
        let Some(error) = &self.error else { return serde_json::from_str(parameters).map(Ok) };
        // Errors of other makers may say other things.
        let parameters = serde_json::from_str::<Box<FailureParameters>>(parameters).unwrap_or_default();
        Ok(Err(Failure { error: error.clone().into_owned(), parameters }))
    }
}

impl<'a, M: Method> Asking<'a, M> {
    /// A call that one reply answers.
    #[must_use]
    pub const fn one(parameters: &'a M) -> Self {
        Self { method: M::NAME, parameters, more: false }
    }

    /// A call that any number of replies answers.
    #[must_use]
    pub const fn more(parameters: &'a M) -> Self {
        Self { method: M::NAME, parameters, more: true }
    }
}

impl<'a, T: Serialize> Answering<'a, T> {
    /// The last or only answer.
    #[must_use]
    pub const fn last(parameters: &'a T) -> Self {
        Self { error: None, parameters, continues: false }
    }

    /// An answer that others follow.
    #[must_use]
    pub const fn continued(parameters: &'a T) -> Self {
        Self { error: None, parameters, continues: true }
    }
}

impl<'a> Answering<'a, FailureParameters> {
    /// An error.
    #[must_use]
    pub fn failure(failure: &'a Failure) -> Self {
        let parameters: &FailureParameters = &failure.parameters;
        Self { error: Some(failure.error.as_str()), parameters, continues: false }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Events, PairAdded, Status};

    #[test]
    fn calls_are_varlink_calls() {
        let call = serde_json::to_value(Asking::one(&Status {})).unwrap();
        assert_eq!(call, serde_json::json!({"method": "org.latchway.Control.Status", "parameters": {}}));
        let call = serde_json::to_vec(&Asking::more(&Events {})).unwrap();
        let request = Request::read(&call).unwrap();
        assert!(request.more && !request.oneway && matches!(request.call(), Ok(Call::Events(_))));
    }

    #[test]
    fn answers_are_varlink_replies() {
        let reply = serde_json::to_string(&Answering::continued(&PairAdded { pair: 3 })).unwrap();
        assert_eq!(reply, r#"{"parameters":{"pair":3},"continues":true}"#);
        let reply = Reply::read(reply.as_bytes()).unwrap();
        assert!(reply.continues);
        assert_eq!(reply.answer::<PairAdded>().unwrap().unwrap().pair, 3);
        let failure = Failure::refused("no", "ask later");
        let said = serde_json::to_string(&Answering::failure(&failure)).unwrap();
        assert_eq!(
            said,
            r#"{"error":"org.latchway.Control.Refused","parameters":{"message":"no","hint":"ask later"}}"#
        );
        let reply = Reply::read(said.as_bytes()).unwrap();
        assert_eq!(reply.answer::<PairAdded>().unwrap().unwrap_err(), failure);
    }

    #[test]
    fn an_error_of_another_maker_is_one_all_the_same() {
        let reply = Reply::read(br#"{"error":"com.example.Bad","parameters":{"message":[1]}}"#).unwrap();
        assert_eq!(reply.answer::<PairAdded>().unwrap().unwrap_err().to_string(), "com.example.Bad");
    }
}
