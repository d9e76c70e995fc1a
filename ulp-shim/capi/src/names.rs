//! The names that C sees: token types, attributes and their values (draft-ietf-btns-c-api-04 figures 2, 4, 6 and 8).
//!
//! The draft's enumerations do not compile as printed (C-11): they get tags, one number space, and numbers that are part of
//! the ABI and never change. The header is written from this file and from `export.rs`.

#![expect(non_camel_case_types, reason = "names of C, as the draft has them")]

use std::ffi::c_char;

/// What an iToken handle points to: nothing that could be looked into.
pub struct ipsec_iToken;

/// What a pToken handle points to: nothing that could be looked into.
pub struct ipsec_pToken;

/// An identity token: a handle, never an address.
pub type ipsec_iToken_t = *mut ipsec_iToken;

/// A protection token: a handle, never an address.
pub type ipsec_pToken_t = *mut ipsec_pToken;

/// Values of the attributes that are numbers of two octets (uint16_t).
#[repr(C)]
pub enum ipsec_attribute_value {
    /// Should not be used; was not used.
    IPSEC_API_ATTR_DISABLE = 0,
    /// Should be used; was used.
    IPSEC_API_ATTR_ENABLE = 1,
    /// As the system has it.
    IPSEC_API_ATTR_ANY = 2,
    /// Keys of 128 bits at least; an integrity check of any length.
    IPSEC_API_ATTR_LEVEL_LOW = 0x10,
    /// Keys of 192 bits at least; an integrity check of 128 bits at least.
    IPSEC_API_ATTR_LEVEL_MEDIUM = 0x20,
    /// Keys of 256 bits; an integrity check of 192 bits at least.
    IPSEC_API_ATTR_LEVEL_HIGH = 0x30,
}

/// What an identity token tells. All read-only.
#[repr(C)]
pub enum ipsec_iToken_attribute {
    /// Text, in words for a log. Of pTokens as well.
    IPSEC_API_ATTR_auditString = 0x0100,
    /// uint16_t: the number of the enumerator of ipsec_iToken_auth_meth.
    IPSEC_API_ATTR_authenticationMethod = 0x0101,
    /// Text: who vouches for the peer.
    IPSEC_API_ATTR_certificateAuthorityDN = 0x0102,
    /// Text: the subject of its certificate.
    IPSEC_API_ATTR_certificateDN = 0x0103,
    /// Octets: its public key, a SubjectPublicKeyInfo in DER.
    IPSEC_API_ATTR_pubKeyID = 0x0104,
    /// Text of constant length, to be compared with memcmp().
    IPSEC_API_ATTR_channelBinding = 0x0105,
}

/// How a peer may prove itself, and did: uint16_t, ENABLE, DISABLE or ANY.
#[repr(C)]
pub enum ipsec_iToken_auth_meth {
    /// No authentication: keys placed by hand.
    IPSEC_API_ATTR_authMeth_NONE = 0x0200,
    /// Any key, of an unknown peer (RFC 5386).
    IPSEC_API_ATTR_authMeth_BTNS = 0x0201,
    /// A key first seen inline and kept since.
    IPSEC_API_ATTR_authMeth_LEAPOFFFAITH = 0x0202,
    /// A key shared with this peer alone.
    IPSEC_API_ATTR_authMeth_PRESHAREDKEY = 0x0203,
    /// A key shared with a group.
    IPSEC_API_ATTR_authMeth_GROUPKEY = 0x0204,
    /// XAUTH.
    IPSEC_API_ATTR_authMeth_XAUTH = 0x0205,
    /// EAP.
    IPSEC_API_ATTR_authMeth_EAP = 0x0206,
    /// A certificate validated to a trust anchor.
    IPSEC_API_ATTR_authMeth_PKIX_TRUSTED = 0x0207,
    /// A certificate that came inline.
    IPSEC_API_ATTR_authMeth_PKIX_INLINE = 0x0208,
    /// A public key that was configured.
    IPSEC_API_ATTR_authMeth_PKIX_OFFLINE = 0x0209,
}

/// What a protection token demands, or tells. IPSEC_API_ATTR_auditString is of both kinds.
#[repr(C)]
pub enum ipsec_pToken_attribute {
    /// uint16_t: whether others can read the data.
    IPSEC_API_ATTR_privacyProtected = 0x0300,
    /// uint16_t: whether others can change the data unnoticed.
    IPSEC_API_ATTR_integrityProtected = 0x0301,
    /// uint16_t: whether the data may be shorter on the wire. There is no IPComp here: it is not.
    IPSEC_API_ATTR_compressionAvailable = 0x0302,
    /// Text: the policy that was used, or must be.
    IPSEC_API_ATTR_policyName = 0x0303,
    /// ipsec_iToken_t: the identity of the remote system. What get gives, the caller frees; set copies.
    IPSEC_API_ATTR_iToken = 0x0304,
    /// ipsec_iToken_t: our own identity, as the remote system sees it.
    IPSEC_API_ATTR_remote_iToken = 0x0305,
    /// uint16_t: ENABLE for tunnel mode, DISABLE for transport mode.
    IPSEC_API_ATTR_tunnelMode = 0x0306,
    /// uint16_t: whether IP options and IPv6 extension headers are protected.
    IPSEC_API_ATTR_ipoptionsProtected = 0x0307,
    /// Text for a user. Read-only, and only of what is there.
    IPSEC_API_ATTR_informationString = 0x0309,
}

/// A type of attribute, of identity tokens.
pub type ipsec_iToken_attribute_t = ipsec_iToken_attribute;
/// A type of attribute, of identity tokens: a method.
pub type ipsec_iToken_auth_meth_t = ipsec_iToken_auth_meth;
/// A type of attribute, of protection tokens.
pub type ipsec_pToken_attribute_t = ipsec_pToken_attribute;
/// A value of two octets.
pub type ipsec_attribute_value_t = ipsec_attribute_value;

/// Attributes that the draft does not have: extensions.
#[repr(C)]
pub enum ipsec_latchway_attribute {
    /// Of pTokens. Text: the names of the suites that will do, with commas between; of what is there, the inbound one and,
    /// where it is another, the outbound one.
    IPSEC_LATCHWAY_ATTR_suites = 0x4000,
    /// Of pTokens. uint16_t: the least length of the key that hides, in bits.
    IPSEC_LATCHWAY_ATTR_keyBits = 0x4001,
    /// Of pTokens. uint16_t: whether replays are refused.
    IPSEC_LATCHWAY_ATTR_replayChecked = 0x4002,
    /// Of iTokens. uint16_t, read-only: SADB_IDENTTYPE_PREFIX for an address, _FQDN or _USERFQDN, as RFC 2367 has them;
    /// ENODATA for identities of another kind.
    IPSEC_LATCHWAY_ATTR_identityType = 0x4003,
    /// Of pTokens. Text, read-only: the latch, as the gateway's lists name it.
    IPSEC_LATCHWAY_ATTR_latch = 0x4004,
}

/// A type of attribute: an extension.
pub type ipsec_latchway_attribute_t = ipsec_latchway_attribute;

/// What ipsec_latchway_state() tells of a socket.
#[repr(C)]
pub enum ipsec_latchway_state {
    /// It is this peer and no other, protected so and not otherwise, for as long as the connection lives.
    IPSEC_LATCHWAY_LATCHED = 1,
    /// It is protected by policy alone, and may be with another peer later.
    IPSEC_LATCHWAY_UNLATCHED = 2,
    /// Its latch is not in force: nothing passes.
    IPSEC_LATCHWAY_SUSPENDED = 3,
    /// Nothing protects it, and anybody may be there.
    IPSEC_LATCHWAY_CLEAR = 4,
    /// Nothing passes.
    IPSEC_LATCHWAY_DROPPED = 5,
    /// It has no other end.
    IPSEC_LATCHWAY_UNCONNECTED = 6,
    /// No gateway carries what it sends.
    IPSEC_LATCHWAY_NO_GATEWAY = 7,
}

/// What can be said of a socket.
pub type ipsec_latchway_state_t = ipsec_latchway_state;

/// What became of a socket that is watched.
#[repr(C)]
pub enum ipsec_latchway_event_kind {
    /// Its latch is in force.
    IPSEC_LATCHWAY_EVENT_ESTABLISHED = 1,
    /// Its latch broke: nothing passes.
    IPSEC_LATCHWAY_EVENT_BROKEN = 2,
    /// Its latch was closed, or it was itself.
    IPSEC_LATCHWAY_EVENT_CLOSED = 3,
    /// It has new keys; nothing else changed.
    IPSEC_LATCHWAY_EVENT_REKEYED = 4,
    /// Its peer's outer address is another; nothing else changed.
    IPSEC_LATCHWAY_EVENT_ADDRESS_CHANGED = 5,
    /// Some events were not told, as the program was too slow; the last state of each socket is told all the same.
    IPSEC_LATCHWAY_EVENT_LOST = 6,
    /// The gateway ends; nothing follows.
    IPSEC_LATCHWAY_EVENT_ENDING = 7,
}

/// What became of a socket that is watched.
pub type ipsec_latchway_event_kind_t = ipsec_latchway_event_kind;

/// An event, as ipsec_latchway_next_event() writes it. Texts end with a NUL, and are cut where they are longer.
#[repr(C)]
pub struct ipsec_latchway_event {
    /// One of ipsec_latchway_event_kind.
    pub kind: u32,
    /// Which socket, by its place in what ipsec_latchway_watch() was given; -1 where it is said of none of them.
    pub socket: i32,
    /// When: milliseconds since 1970-01-01T00:00Z.
    pub time: u64,
    /// Of IPSEC_LATCHWAY_EVENT_LOST: how many.
    pub lost: u64,
    /// One of ipsec_latchway_state: what can be said of the socket from here on; 0 where nothing is said.
    pub state: u32,
    /// 0.
    pub reserved: u32,
    /// Of IPSEC_LATCHWAY_EVENT_ADDRESS_CHANGED: where the peer was.
    pub from: [c_char; 64],
    /// Of the same: where it is.
    pub to: [c_char; 64],
    /// One sentence for people.
    pub text: [c_char; 256],
}
