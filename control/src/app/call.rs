//! The calls that a gateway answers on app.sock.

use serde::{Deserialize, Serialize};

use crate::app::{
    APP_INTERFACES, AppEvent, Datagram, DatagramView, Forget, Pieces, ProtectionView, Require, Required,
    Watch,
};
use crate::call::{Done, calls};

calls! {
    /// What an application asks of a gateway.
    AppCall of APP_INTERFACES;
    /// Which gateway this is.
    Gateway = "org.latchway.App.Gateway": Gateway => GatewayView;
    /// What protects the socket that comes with the call, and who is on its other end.
    Protection = "org.latchway.App.Protection": Protection => ProtectionView;
    /// Requires something of what protects the socket that comes with the call, in place of what was required before: it holds
    /// for the next packet that begins a flow, and for as long as anybody has the socket. Whatever is not what is required
    /// does not pass; a connection begins with ECONNREFUSED then. A requirement checks what policy chose, and chooses
    /// nothing. One that says nothing is the same as Forget.
    Require = "org.latchway.App.Require": Require => Required;
    /// Requires nothing any more for the socket that comes with the call. What stands stays as it is.
    Forget = "org.latchway.App.Forget": Forget => Done;
    /// Has the UDP socket that comes with the call say of each datagram that it receives whether it came in pieces
    /// (IP_RECVFRAGSIZE, IPV6_RECVFRAGSIZE): of those nothing is certain.
    Pieces = "org.latchway.App.Pieces": Pieces => Done;
    /// What protected the datagrams that the socket that comes with the call receives of one flow, and from when to when. One
    /// is certain only where its stamp is in that time, where it did not come in pieces, and where its stamp is of its
    /// arrival: earlier than the call that received it.
    Datagram = "org.latchway.App.Datagram": Datagram => DatagramView;
    /// What becomes of the sockets that come with the call, as it happens. Each has another end; it is watched by the latch that
    /// it has when the call comes. Needs `more`. The first reply says that they are watched, and those behind it where each
    /// stands; then each change is told. At most 64 sockets.
    Watch = "org.latchway.App.Watch": Watch => AppEvent;
}

/// Parameters of [`AppCall::Gateway`]: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Gateway {}

/// Parameters of [`AppCall::Protection`]: none. A socket comes with the call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Protection {}

/// A gateway, as applications see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct GatewayView {
    /// What it is called.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The number of its start: random, so that what was learnt from it before another start is known as such.
    pub boot: u64,
}
