//! Filters as data, and how nf_tables says them.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::{
    NetfilterProtoFamily,
    nftables::{
        Bitwise, Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute, Meta,
        MetaKey, Operator, Payload, Register, RuleAttribute, Verdict, VerdictAttribute,
    },
};

/// A base chain: rules that every packet passes at a hook, and that let through what none of them discards.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) name: &'static str,
    pub(super) hook: Hook,
    pub(super) rules: Vec<Rule>,
}

/// Where packets meet a chain: the hook's number in its family, and the place among all chains there, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hook {
    pub(super) number: u32,
    pub(super) priority: i32,
}

/// One condition, and what becomes of what meets it. The comment tells rules of a chain apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    condition: Condition,
    discards: bool,
    pub(super) comment: String,
}

/// What a rule asks of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// It came or goes by an interface.
    Interface(Side, String),
    /// It comes from a prefix.
    Source(IpNet),
    /// It goes to a prefix.
    Destination(IpNet),
    /// It asks for, or answers, an address (RFC 826, target protocol address).
    ArpTarget(Ipv4Net),
    /// It is asked or answered by an address (RFC 826, sender protocol address).
    ArpSender(Ipv4Net),
    /// Its socket was marked.
    Mark(u32),
}

/// Which of a packet's interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Arriving,
    Leaving,
}

impl Rule {
    /// Discards silently, and counts.
    pub(super) fn discard(condition: Condition, what: &str, prefix: IpNet) -> Self {
        Self { condition, discards: true, comment: format!("{what} {prefix}") }
    }

    /// Ends the chain: the packet passes.
    pub(super) fn pass(condition: Condition, comment: String) -> Self {
        Self { condition, discards: false, comment }
    }

    /// The rule's part of a message.
    pub(super) fn attributes(&self) -> Vec<RuleAttribute> {
        let mut expressions = self.condition.expressions();
        if self.discards {
            expressions.push(Expressions::Other {
                expression_type: COUNTER.to_owned(),
                attributes: Vec::<DefaultNla>::new(),
            });
        }
        expressions.push(verdict(if self.discards { NF_DROP } else { Verdict::Return }));
        let expressions = expressions.into_iter().map(ListAttribute::from).collect();
        vec![RuleAttribute::Expressions(expressions), RuleAttribute::UserData(user_data(&self.comment))]
    }
}

impl Condition {
    fn expressions(&self) -> Vec<Expressions> {
        match self {
            Self::Interface(side, name) => {
                let key = match side {
                    Side::Arriving => MetaKey::Iifname,
                    Side::Leaving => MetaKey::Oifname,
                };
                let mut padded = name.clone().into_bytes();
                padded.resize(IFNAMSIZ, 0);
                vec![meta(key), equals(padded)]
            }
            Self::Source(prefix @ IpNet::V4(_)) => of_family(NFPROTO_IPV4, within(12, *prefix)),
            Self::Source(prefix @ IpNet::V6(_)) => of_family(NFPROTO_IPV6, within(8, *prefix)),
            Self::Destination(prefix @ IpNet::V4(_)) => of_family(NFPROTO_IPV4, within(16, *prefix)),
            Self::Destination(prefix @ IpNet::V6(_)) => of_family(NFPROTO_IPV6, within(24, *prefix)),
            Self::ArpSender(prefix) => within(14, (*prefix).into()),
            Self::ArpTarget(prefix) => within(24, (*prefix).into()),
            Self::Mark(mark) => vec![meta(MetaKey::Mark), equals(mark.to_ne_bytes().to_vec())],
        }
    }
}

/// The comment of a rule that the kernel lists, if it has one.
pub(super) fn comment_of(attributes: &[RuleAttribute]) -> Option<String> {
    let data = attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::UserData(data) => Some(data.as_slice()),
        _ => None,
    })?;
    let [COMMENT, _length, text @ ..] = data else { return None };
    String::from_utf8(text.strip_suffix(&[0])?.to_vec()).ok()
}

/// How many packets a rule that the kernel lists has counted, if it counts.
pub(super) fn packets_of(attributes: &[RuleAttribute]) -> Option<u64> {
    let expressions = attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Expressions(list) => Some(list),
        _ => None,
    })?;
    let elements = expressions.iter().filter_map(|element| match element {
        ListAttribute::Element(parts) => Some(parts),
        _ => None,
    });
    elements.flatten().find_map(|part| match part {
        ExpressionAttribute::Data(Expressions::Other { expression_type, attributes })
            if expression_type == COUNTER =>
        {
            attributes.iter().find_map(counted)
        }
        _ => None,
    })
}

fn counted(attribute: &DefaultNla) -> Option<u64> {
    use netlink_packet_core::Nla;
    let mut value = vec![0; attribute.value_len()];
    attribute.emit_value(&mut value);
    let packets = value.first_chunk::<8>().map(|octets| u64::from_be_bytes(*octets));
    packets.filter(|_| attribute.kind() == COUNTER_PACKETS)
}

/// A rule's comment as nft(8) shows it: type, length, text, terminator.
fn user_data(comment: &str) -> Vec<u8> {
    let text = comment.as_bytes();
    let length = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
    [&[COMMENT, length], text, &[0]].concat()
}

fn of_family(family: u8, mut rest: Vec<Expressions>) -> Vec<Expressions> {
    let mut expressions = vec![meta(MetaKey::Nfproto), equals(vec![family])];
    expressions.append(&mut rest);
    expressions
}

/// Whether the address at an offset of the network header lies in a prefix.
fn within(offset: u32, prefix: IpNet) -> Vec<Expressions> {
    if prefix.prefix_len() == 0 {
        return Vec::new();
    }
    let (address, mask) = (octets(prefix.network()), octets(prefix.netmask()));
    let length = u32::try_from(address.len()).unwrap_or(0);
    vec![
        Expressions::Payload(vec![
            Payload::DestinationRegister(Register::Reg1),
            Payload::Base(NETWORK_HEADER),
            Payload::Offset(offset),
            Payload::Len(length),
        ]),
        Expressions::Bitwise(vec![
            Bitwise::SourceRegister(Register::Reg1),
            Bitwise::DestinationRegister(Register::Reg1),
            Bitwise::Length(length),
            Bitwise::Mask(DataAttribute::Value(mask)),
            Bitwise::Xor(DataAttribute::Value(vec![0; address.len()])),
        ]),
        equals(address),
    ]
}

fn meta(key: MetaKey) -> Expressions {
    Expressions::Meta(vec![Meta::DestinationRegister(Register::Reg1), Meta::Key(key)])
}

fn equals(value: Vec<u8>) -> Expressions {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(Register::Reg1),
        Cmp::Op(Operator::Equal),
        Cmp::Data(DataAttribute::Value(value)),
    ])
}

fn verdict(verdict: Verdict) -> Expressions {
    Expressions::Immediate(vec![
        Immediate::DestinationRegister(Register::Verdict),
        Immediate::Data(DataAttribute::Verdict(vec![VerdictAttribute::Code(verdict)])),
    ])
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Both IP versions in one table.
pub(super) const INET: NetfilterProtoFamily = NetfilterProtoFamily::Inet;
/// ARP.
pub(super) const ARP: NetfilterProtoFamily = NetfilterProtoFamily::ARP;

/// Before routing, before connection tracking sees the packet.
pub(super) const PREROUTING: Hook = Hook { number: 0, priority: RAW };
/// Before delivery to a socket.
pub(super) const INPUT: Hook = Hook { number: 1, priority: RAW };
/// After routing, before the source may be translated.
pub(super) const POSTROUTING: Hook = Hook { number: 4, priority: RAW };
/// ARP that arrives.
pub(super) const ARP_INPUT: Hook = Hook { number: 0, priority: 0 };
/// ARP that leaves.
pub(super) const ARP_OUTPUT: Hook = Hook { number: 1, priority: 0 };

/// Where nft(8) puts `raw`.
const RAW: i32 = -300;
/// nf_tables.h: NFT_PAYLOAD_NETWORK_HEADER.
const NETWORK_HEADER: u32 = 1;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const NF_DROP: Verdict = Verdict::Other(0);
const COUNTER: &str = "counter";
/// nf_tables.h: NFTA_COUNTER_PACKETS.
const COUNTER_PACKETS: u16 = 2;
const IFNAMSIZ: usize = 16;
/// The type of a comment in a rule's user data, as nft(8) writes it.
const COMMENT: u8 = 0;
