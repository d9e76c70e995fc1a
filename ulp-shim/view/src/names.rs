//! The names that the header has.

use std::ffi::{c_char, c_int};

/// The protocol and address family of the sockets (K-1). No family of a kernel's has the number.
pub const PF_SHIM: c_int = 0x53;
/// The level of their options (K-5).
pub const SOL_SHIM: c_int = 0x5348;
/// The flag by which the resolver gives handles (K-7).
pub const AI_SHIM: c_int = 0x0080_0000;
/// The flag by which notifications are told from data (K-12): that of SCTP.
pub const MSG_SHIM_NOTIFICATION: c_int = 0x8000;

/// The peer of a latched socket; text.
pub const SHIM_PEER_IDENTITY: c_int = 1;
/// Who we are towards it; text.
pub const SHIM_LOCAL_IDENTITY: c_int = 2;
/// The peer as text that can be kept and required again.
pub const SHIM_PEER_EXPORT: c_int = 3;
/// One line for a log; text.
pub const SHIM_AUDIT: c_int = 4;
/// What protects it: `struct shim_protection`.
pub const SHIM_PROTECTION: c_int = 5;
/// What must protect it: `struct shim_requirement`; only set.
pub const SHIM_REQUIRE: c_int = 6;
/// Whether something is required of it, by whomever: int.
pub const SHIM_REQUIRED: c_int = 7;
/// Which events are told: `uint32_t`, of `SHIM_EVENT_`.
pub const SHIM_EVENTS: c_int = 8;
/// What can be read from when there may be an event: int.
pub const SHIM_EVENTS_DESCRIPTOR: c_int = 9;
/// What made the thread's last call fail, in words; of any descriptor.
pub const SHIM_ERROR: c_int = 10;

/// It is this peer and no other, protected so, as long as the connection lives.
pub const SHIM_LATCHED: u32 = 1;
/// Policy alone protects it.
pub const SHIM_UNLATCHED: u32 = 2;
/// Its latch is not in force: nothing passes.
pub const SHIM_SUSPENDED: u32 = 3;
/// Nothing protects it.
pub const SHIM_CLEAR: u32 = 4;
/// Nothing passes.
pub const SHIM_DROPPED: u32 = 5;
/// It has no other end.
pub const SHIM_UNCONNECTED: u32 = 6;
/// No gateway carries what it sends.
pub const SHIM_NO_GATEWAY: u32 = 7;

/// Modes of an SA.
pub const SHIM_TUNNEL: u32 = 1;
/// The other.
pub const SHIM_TRANSPORT: u32 = 2;
/// Others can change nothing.
pub const SHIM_AUTHENTICATED: u32 = 1;
/// And read nothing.
pub const SHIM_CONFIDENTIAL: u32 = 2;
/// Replays are refused.
pub const SHIM_REPLAY_CHECKED: u32 = 1;
/// Options and extension headers of IP are protected, too.
pub const SHIM_OPTIONS_PROTECTED: u32 = 2;

/// Its latch is in force.
pub const SHIM_EVENT_ESTABLISHED: u32 = 0x01;
/// Its latch broke.
pub const SHIM_EVENT_BROKEN: u32 = 0x02;
/// Its latch was closed.
pub const SHIM_EVENT_CLOSED: u32 = 0x04;
/// It has new keys.
pub const SHIM_EVENT_REKEYED: u32 = 0x08;
/// Its peer's outer address is another (K-9).
pub const SHIM_EVENT_ADDRESS_CHANGED: u32 = 0x10;
/// Some were not told. Always told.
pub const SHIM_EVENT_LOST: u32 = 0x20;
/// Nothing follows. Always told.
pub const SHIM_EVENT_ENDING: u32 = 0x40;
/// All of them.
pub const SHIM_EVENT_ALL: u32 = 0x7f;

/// `struct shim_requirement`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ShimRequirement {
    /// 0, `SHIM_AUTHENTICATED` or `SHIM_CONFIDENTIAL`.
    pub protection: u32,
    /// The shortest keys that will do; 0 for any.
    pub key_bits: u32,
    /// 0, `SHIM_TUNNEL` or `SHIM_TRANSPORT`.
    pub mode: u32,
    /// `SHIM_REPLAY_CHECKED`, `SHIM_OPTIONS_PROTECTED`.
    pub flags: u32,
    /// The peer: an identity, or what `SHIM_PEER_EXPORT` gave; or NULL.
    pub peer: *const c_char,
    /// Who we must be; or NULL.
    pub local: *const c_char,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header says the same, and nothing that is not here.
    #[test]
    fn k_1_k_5_k_7_k_12_the_header_has_the_same_numbers() {
        let header = include_str!("../include/latchway/shim.h");
        assert!(header.is_ascii() && !header.contains("//"), "comments that C89 has");
        let defines = header.lines().filter_map(|line| line.strip_prefix("#define ")?.split_once(' '));
        let number = |text: &str| {
            let text = text.trim();
            let (digits, radix) = text.strip_prefix("0x").map_or((text, 10), |hex| (hex, 16));
            i64::from_str_radix(digits, radix).ok()
        };
        let said: Vec<_> =
            defines.filter_map(|(name, value)| number(value).map(|value| (name.to_owned(), value))).collect();
        macro_rules! are {
            ($($name:ident)*) => { vec![$((stringify!($name).to_owned(), i64::from($name)),)*] };
        }
        let are = are![PF_SHIM SOL_SHIM AI_SHIM MSG_SHIM_NOTIFICATION
            SHIM_PEER_IDENTITY SHIM_LOCAL_IDENTITY SHIM_PEER_EXPORT SHIM_AUDIT SHIM_PROTECTION SHIM_REQUIRE SHIM_REQUIRED
            SHIM_EVENTS SHIM_EVENTS_DESCRIPTOR SHIM_ERROR
            SHIM_LATCHED SHIM_UNLATCHED SHIM_SUSPENDED SHIM_CLEAR SHIM_DROPPED SHIM_UNCONNECTED SHIM_NO_GATEWAY
            SHIM_TUNNEL SHIM_TRANSPORT SHIM_AUTHENTICATED SHIM_CONFIDENTIAL SHIM_REPLAY_CHECKED SHIM_OPTIONS_PROTECTED
            SHIM_EVENT_ESTABLISHED SHIM_EVENT_BROKEN SHIM_EVENT_CLOSED SHIM_EVENT_REKEYED SHIM_EVENT_ADDRESS_CHANGED
            SHIM_EVENT_LOST SHIM_EVENT_ENDING SHIM_EVENT_ALL];
        assert_eq!(said, are);
    }
}
