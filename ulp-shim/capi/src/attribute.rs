//! The attributes of tokens: one table of their numbers, and what may be done with each (Q-11, Q-12, Q-31, C-11).

use latchway_socket::{Method as Known, Strength};

use crate::failure::Failure;
use crate::names::{
    ipsec_attribute_value as value, ipsec_iToken_attribute as identity, ipsec_iToken_auth_meth as method,
    ipsec_latchway_attribute as extension, ipsec_pToken_attribute as protection,
};
use crate::token::{Handle, Kind};

/// An attribute, whatever its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// In words, for a log: of both kinds.
    Audit,
    /// How the peer proved itself.
    AuthenticationMethod,
    /// Who vouches for it.
    CertificateAuthority,
    /// The subject of its certificate.
    CertificateSubject,
    /// Its public key.
    PublicKey,
    /// What the application may bind itself to (RFC 5056).
    ChannelBinding,
    /// The kind of the identity, as RFC 2367 numbers them (N-14).
    IdentityType,
    /// Whether it may prove itself so, and did.
    Method(Method),
    /// Whether others can read the data.
    Privacy,
    /// Whether others can change the data.
    Integrity,
    /// Whether the data is compressed.
    Compression,
    /// The policy.
    PolicyName,
    /// The remote system (C-5).
    PeerIdentity,
    /// Ourselves (C-5).
    LocalIdentity,
    /// Tunnel or transport mode.
    TunnelMode,
    /// Whether options and extension headers are protected.
    OptionsProtected,
    /// In words, for a user.
    Information,
    /// The names of the suites that will do.
    Suites,
    /// The least length of the key that hides.
    KeyBits,
    /// Whether replays are refused.
    ReplayChecked,
    /// Which latch it is, in the gateway's lists.
    Latch,
}

/// The methods of authentication of figure 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    None,
    Btns,
    LeapOfFaith,
    PreSharedKey,
    GroupKey,
    Xauth,
    Eap,
    PkixTrusted,
    PkixInline,
    PkixOffline,
}

impl Method {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::None,
        Self::Btns,
        Self::LeapOfFaith,
        Self::PreSharedKey,
        Self::GroupKey,
        Self::Xauth,
        Self::Eap,
        Self::PkixTrusted,
        Self::PkixInline,
        Self::PkixOffline,
    ];

    /// What the gateway calls it; there are some that it does not know.
    pub const fn known(self) -> Option<Known> {
        match self {
            Self::None => Some(Known::Manual),
            Self::Btns => Some(Known::Btns),
            Self::LeapOfFaith => Some(Known::LeapOfFaith),
            Self::PreSharedKey => Some(Known::PreSharedKey),
            Self::PkixTrusted => Some(Known::Certificate),
            Self::PkixOffline => Some(Known::PublicKey),
            Self::GroupKey | Self::Xauth | Self::Eap | Self::PkixInline => None,
        }
    }

    /// The method by which the gateway knows a peer.
    pub fn of(known: Known) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.known() == Some(known))
    }

    /// Its number.
    pub fn number(self) -> u16 {
        (method::IPSEC_API_ATTR_authMeth_NONE as u16).saturating_add(self as u16)
    }
}

/// What an attribute's value looks like in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Two octets, in the order of the host, one of these values.
    Choice(&'static [Choice]),
    /// Two octets that count.
    Count,
    /// Characters and a NUL, which counts in the length.
    Text,
    /// Octets.
    Octets,
    /// An iToken's handle.
    Identity,
}

/// A value of two octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// Should not be, or was not.
    Disable,
    /// Should be, or was.
    Enable,
    /// As the system has it.
    #[default]
    Any,
    /// At least so strong.
    Low,
    /// At least so strong.
    Medium,
    /// At least so strong.
    High,
}

impl Choice {
    const ALL: [Self; 6] = [Self::Disable, Self::Enable, Self::Any, Self::Low, Self::Medium, Self::High];

    /// Its number.
    pub const fn number(self) -> u16 {
        match self {
            Self::Disable => value::IPSEC_API_ATTR_DISABLE as u16,
            Self::Enable => value::IPSEC_API_ATTR_ENABLE as u16,
            Self::Any => value::IPSEC_API_ATTR_ANY as u16,
            Self::Low => value::IPSEC_API_ATTR_LEVEL_LOW as u16,
            Self::Medium => value::IPSEC_API_ATTR_LEVEL_MEDIUM as u16,
            Self::High => value::IPSEC_API_ATTR_LEVEL_HIGH as u16,
        }
    }

    /// A level that is there.
    pub const fn level(strength: Strength) -> Self {
        match strength {
            Strength::None => Self::Disable,
            Strength::Low => Self::Low,
            Strength::Medium => Self::Medium,
            Strength::High => Self::High,
        }
    }

    /// The level that is demanded; none where none is. Enabled is the lowest.
    pub const fn demanded(self) -> Strength {
        match self {
            Self::Disable | Self::Any => Strength::None,
            Self::Enable | Self::Low => Strength::Low,
            Self::Medium => Strength::Medium,
            Self::High => Strength::High,
        }
    }

    /// Yes or no.
    pub const fn of(yes: bool) -> Self {
        if yes { Self::Enable } else { Self::Disable }
    }
}

/// What is read or written.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// One of the values of two octets.
    Choice(Choice),
    /// Another number of two octets.
    Count(u16),
    /// Text, without its NUL.
    Text(String),
    /// Octets.
    Octets(Vec<u8>),
    /// A token within a token.
    Identity(std::sync::Arc<crate::identity::IdentityToken>),
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its number, part of the ABI.
    pub number: u32,
    /// What it is.
    pub attribute: Attribute,
    /// What its value looks like.
    pub form: Form,
    /// Whether templates may be written.
    pub writable: bool,
    of: &'static [Kind],
}

/// The attribute of this number, in tokens of that kind; ENOENT where there is none.
pub fn find(number: u32, kind: Kind) -> Result<&'static Row, Failure> {
    TABLE.iter().find(|row| row.number == number && row.of.contains(&kind)).ok_or(NO_ATTRIBUTE)
}

impl Row {
    /// Reads a value that C wrote (P-10): its length must be that of its type, its content one of those that there are.
    pub fn value(&self, octets: &[u8]) -> Result<Value, Failure> {
        match self.form {
            Form::Choice(choices) => {
                let number = number(octets)?;
                let choice = choices.iter().find(|choice| choice.number() == number);
                choice.map(|choice| Value::Choice(*choice)).ok_or(NO_VALUE)
            }
            Form::Count => Ok(Value::Count(number(octets)?)),
            Form::Text => match octets.split_last() {
                Some((0, text)) if !text.contains(&0) => {
                    let text = std::str::from_utf8(text).map_err(|_| NO_TEXT)?;
                    Ok(Value::Text(text.to_owned()))
                }
                _ => Err(NO_TEXT),
            },
            Form::Octets => Ok(Value::Octets(octets.to_vec())),
            Form::Identity => {
                let handle = octets.try_into().map_err(|_| WRONG_LENGTH)?;
                crate::token::identity(Handle::from_octets(handle)).map(Value::Identity)
            }
        }
    }
}

fn number(octets: &[u8]) -> Result<u16, Failure> {
    octets.try_into().map(u16::from_ne_bytes).map_err(|_| WRONG_LENGTH)
}

const fn identity_row(number: identity, attribute: Attribute, form: Form) -> Row {
    Row { number: number as u32, attribute, form, writable: false, of: &[Kind::Identity] }
}

const fn method_row(number: method, method: Method) -> Row {
    let form = Form::Choice(&[Choice::Disable, Choice::Enable, Choice::Any]);
    Row {
        number: number as u32,
        attribute: Attribute::Method(method),
        form,
        writable: true,
        of: &[Kind::Identity],
    }
}

const fn protection_row(number: protection, attribute: Attribute, form: Form) -> Row {
    let writable = !matches!(attribute, Attribute::Information);
    Row { number: number as u32, attribute, form, writable, of: &[Kind::Protection] }
}

const fn extension_row(number: extension, attribute: Attribute, form: Form) -> Row {
    let of: &[Kind] =
        if matches!(attribute, Attribute::IdentityType) { &[Kind::Identity] } else { &[Kind::Protection] };
    let writable = !matches!(attribute, Attribute::IdentityType | Attribute::Latch);
    Row { number: number as u32, attribute, form, writable, of }
}

const LEVELS: Form = Form::Choice(&Choice::ALL);
const SWITCH: Form = Form::Choice(&[Choice::Disable, Choice::Enable, Choice::Any]);

/// Every attribute that there is.
pub const TABLE: [Row; 30] = [
    Row {
        number: identity::IPSEC_API_ATTR_auditString as u32,
        attribute: Attribute::Audit,
        form: Form::Text,
        writable: false,
        of: &[Kind::Identity, Kind::Protection],
    },
    identity_row(identity::IPSEC_API_ATTR_authenticationMethod, Attribute::AuthenticationMethod, Form::Count),
    identity_row(
        identity::IPSEC_API_ATTR_certificateAuthorityDN,
        Attribute::CertificateAuthority,
        Form::Text,
    ),
    identity_row(identity::IPSEC_API_ATTR_certificateDN, Attribute::CertificateSubject, Form::Text),
    identity_row(identity::IPSEC_API_ATTR_pubKeyID, Attribute::PublicKey, Form::Octets),
    identity_row(identity::IPSEC_API_ATTR_channelBinding, Attribute::ChannelBinding, Form::Text),
    method_row(method::IPSEC_API_ATTR_authMeth_NONE, Method::None),
    method_row(method::IPSEC_API_ATTR_authMeth_BTNS, Method::Btns),
    method_row(method::IPSEC_API_ATTR_authMeth_LEAPOFFFAITH, Method::LeapOfFaith),
    method_row(method::IPSEC_API_ATTR_authMeth_PRESHAREDKEY, Method::PreSharedKey),
    method_row(method::IPSEC_API_ATTR_authMeth_GROUPKEY, Method::GroupKey),
    method_row(method::IPSEC_API_ATTR_authMeth_XAUTH, Method::Xauth),
    method_row(method::IPSEC_API_ATTR_authMeth_EAP, Method::Eap),
    method_row(method::IPSEC_API_ATTR_authMeth_PKIX_TRUSTED, Method::PkixTrusted),
    method_row(method::IPSEC_API_ATTR_authMeth_PKIX_INLINE, Method::PkixInline),
    method_row(method::IPSEC_API_ATTR_authMeth_PKIX_OFFLINE, Method::PkixOffline),
    protection_row(protection::IPSEC_API_ATTR_privacyProtected, Attribute::Privacy, LEVELS),
    protection_row(protection::IPSEC_API_ATTR_integrityProtected, Attribute::Integrity, LEVELS),
    protection_row(protection::IPSEC_API_ATTR_compressionAvailable, Attribute::Compression, LEVELS),
    protection_row(protection::IPSEC_API_ATTR_policyName, Attribute::PolicyName, Form::Text),
    protection_row(protection::IPSEC_API_ATTR_iToken, Attribute::PeerIdentity, Form::Identity),
    protection_row(protection::IPSEC_API_ATTR_remote_iToken, Attribute::LocalIdentity, Form::Identity),
    protection_row(protection::IPSEC_API_ATTR_tunnelMode, Attribute::TunnelMode, SWITCH),
    protection_row(protection::IPSEC_API_ATTR_ipoptionsProtected, Attribute::OptionsProtected, SWITCH),
    protection_row(protection::IPSEC_API_ATTR_informationString, Attribute::Information, Form::Text),
    extension_row(extension::IPSEC_LATCHWAY_ATTR_suites, Attribute::Suites, Form::Text),
    extension_row(extension::IPSEC_LATCHWAY_ATTR_keyBits, Attribute::KeyBits, Form::Count),
    extension_row(extension::IPSEC_LATCHWAY_ATTR_replayChecked, Attribute::ReplayChecked, SWITCH),
    extension_row(extension::IPSEC_LATCHWAY_ATTR_identityType, Attribute::IdentityType, Form::Count),
    extension_row(extension::IPSEC_LATCHWAY_ATTR_latch, Attribute::Latch, Form::Text),
];

const NO_ATTRIBUTE: Failure =
    Failure::new(libc::ENOENT, "tokens of this kind have no such attribute; see ipsec_get_token_attr(3)");
const WRONG_LENGTH: Failure = Failure::new(
    libc::EINVAL,
    "the length is not that of the attribute's type: 2 for numbers, sizeof(ipsec_iToken_t) for tokens",
);
const NO_VALUE: Failure = Failure::new(
    libc::EINVAL,
    "the attribute has no such value; see ipsec_get_token_attr(3) for those it has",
);
const NO_TEXT: Failure =
    Failure::new(libc::EINVAL, "text is UTF-8 with one NUL, at its end, which counts in its length");

#[cfg(test)]
mod tests {
    use super::*;

    /// C-11: one space of numbers, in which the shared accessor cannot be misled; Q-55: and they stay what they are.
    #[test]
    fn c_11_q_55_every_attribute_has_a_number_of_its_own_and_keeps_it() {
        let mut numbers: Vec<u32> = TABLE.iter().map(|row| row.number).collect();
        numbers.sort_unstable();
        let spans = [0x100..0x106, 0x200..0x20a, 0x300..0x308, 0x309..0x30a, 0x4000..0x4005];
        assert_eq!(numbers, spans.into_iter().flatten().collect::<Vec<u32>>());
        assert_eq!(Choice::ALL.map(Choice::number), [0, 1, 2, 0x10, 0x20, 0x30]);
    }

    #[test]
    fn q_14_the_method_is_the_number_of_its_enumerator() {
        for method in Method::ALL {
            let row = find(u32::from(method.number()), Kind::Identity).unwrap();
            assert_eq!(row.attribute, Attribute::Method(method));
        }
        for known in Known::ALL.iter().copied() {
            assert_eq!(
                Method::of(known).and_then(Method::known),
                Some(known),
                "every method has its enumerator"
            );
        }
    }

    /// Q-26, C-11: unknown ones, and those of the other kind; auditString is of both.
    #[test]
    fn q_26_an_attribute_of_the_other_kind_is_none() {
        for row in &TABLE {
            let kinds = [Kind::Identity, Kind::Protection];
            for kind in kinds {
                assert_eq!(find(row.number, kind).is_ok(), row.of.contains(&kind), "{row:?}");
            }
            assert_eq!(row.of.len() == 2, row.attribute == Attribute::Audit);
        }
        for number in [0, 1, 0xff, 0x106, 0x20a, 0x308, 0x30a, u32::MAX] {
            assert_eq!(find(number, Kind::Identity).unwrap_err().errno(), libc::ENOENT);
            assert_eq!(find(number, Kind::Protection).unwrap_err().errno(), libc::ENOENT);
        }
    }

    /// Q-25, P-10, P-42: lengths and values.
    #[test]
    fn p_10_p_42_what_is_written_must_be_of_the_type() {
        let privacy = find(0x300, Kind::Protection).unwrap();
        assert_eq!(privacy.value(&0x20_u16.to_ne_bytes()), Ok(Value::Choice(Choice::Medium)));
        for wrong in [&[][..], &[1], &[1, 0, 0], &[1, 0, 0, 0], &7_u16.to_ne_bytes()] {
            assert_eq!(privacy.value(wrong).unwrap_err().errno(), libc::EINVAL);
        }
        let btns = find(0x201, Kind::Identity).unwrap();
        assert_eq!(btns.value(&2_u16.to_ne_bytes()), Ok(Value::Choice(Choice::Any)));
        assert_eq!(
            btns.value(&0x10_u16.to_ne_bytes()).unwrap_err().errno(),
            libc::EINVAL,
            "methods have no level"
        );
        let name = find(0x303, Kind::Protection).unwrap();
        assert_eq!(name.value(b"rule 1\0"), Ok(Value::Text("rule 1".to_owned())));
        for wrong in [&b""[..], b"rule 1", b"ru\0le\0", b"\xff\0"] {
            assert_eq!(name.value(wrong).unwrap_err().errno(), libc::EINVAL);
        }
        let peer = find(0x304, Kind::Protection).unwrap();
        assert_eq!(peer.value(&[1; 4]).unwrap_err().errno(), libc::EINVAL, "half a handle");
        assert_eq!(peer.value(&[0; 8]).unwrap_err().errno(), libc::EINVAL, "NULL");
        assert_eq!(peer.value(&[1; 8]).unwrap_err().errno(), libc::EBADF, "no token");
    }
}
