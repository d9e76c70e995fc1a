//! What is printed is read back as the same, and what the kernel's tools print is read.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::{fuzz, import};

/// A dump of a Linux 6.1, of a state with extended numbers, one in UDP and one of AH.
const STATES: &str = "\
src 192.0.2.1 dst 192.0.2.2
	proto esp spi 0x00001001(4097) reqid 7(0x00000007) mode tunnel
	replay-window 0 seq 0x00000000 flag af-unspec esn (0x10100000)
	aead rfc4106(gcm(aes)) 0x000102030405060708090a0b0c0d0e0f10111213 (160 bits) 128
	lastused 2026-11-21 20:29:37
	anti-replay esn context:
	 seq-hi 0x1, seq 0x2, oseq-hi 0x3, oseq 0x4
	 replay_window 128, bitmap-length 4
	 00000000 00000000 00000000 00000007 
	sel src 10.0.0.0/24 dst 10.0.1.0/24 uid 0
	lifetime config:
	  limit: soft (INF)(bytes), hard 1000(bytes)
	  limit: soft 10(packets), hard (INF)(packets)
	  expire add: soft 0(sec), hard 3600(sec)
	  expire use: soft 60(sec), hard 0(sec)
	lifetime current:
	  84(bytes), 1(packets)
	  add 2026-11-21 20:29:37 use 2026-11-21 20:29:37
	stats:
	  replay-window 0 replay 0 failed 0
src 192.0.2.1 dst 192.0.2.2
	proto esp spi 0x00001000 reqid 7 mode tunnel
	replay-window 32 flag af-unspec
	auth-trunc hmac(sha256) 0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f 128
	enc cbc(aes) 0x000102030405060708090a0b0c0d0e0f
	encap type espinudp sport 4500 dport 4500 addr 0.0.0.0
	anti-replay context: seq 0x5, oseq 0x9, bitmap 0x0000001f
	sel src 0.0.0.0/0 dst 0.0.0.0/0 
src fd00::1 dst fd00::2
	proto ah spi 0x00000100 reqid 0 mode transport
	replay-window 0 
	auth-trunc hmac(sha1) 0x000102030405060708090a0b0c0d0e0f10111213 96
	mark 0x0/0x0 
	crypto offload parameters: dev eth0 dir out
	anti-replay context: seq 0x0, oseq 0x0, bitmap 0x00000000
";

const POLICIES: &str = "\
src 10.0.0.0/24 dst 10.0.1.0/24 proto tcp dport 80 uid 0
	dir out action allow index 1 priority 7 ptype main share any flag  (0x00000000)
	lifetime config:
	  limit: soft (INF)(bytes), hard (INF)(bytes)
	  limit: soft (INF)(packets), hard (INF)(packets)
	  expire add: soft 0(sec), hard 0(sec)
	  expire use: soft 0(sec), hard 0(sec)
	lifetime current:
	  0(bytes), 0(packets)
	  add 2026-11-21 20:29:37 use -
	tmpl src 192.0.2.1 dst 192.0.2.2
		proto esp spi 0x00000000(0) reqid 7(0x00000007) mode tunnel
		level required share any 
		enc-mask ffffffff auth-mask ffffffff comp-mask ffffffff
	tmpl src 0.0.0.0 dst 0.0.0.0
		proto ah spi 0x00000000(0) reqid 6(0x00000006) mode transport
		level use share any 
		enc-mask ffffffff auth-mask ffffffff comp-mask ffffffff
src 10.0.1.0/24 dst 10.0.0.0/24 
	dir in priority 0 ptype main 
src 0.0.0.0/0 dst 0.0.0.0/0 
	socket in priority 0 ptype main 
";

#[test]
fn a_dump_of_states_is_read_oldest_first() {
    let states = import(STATES).unwrap().states;
    assert_eq!(states.iter().map(|state| state.spi).collect::<Vec<_>>(), [0x100, 0x1000, 0x1001]);
    let [ah, in_udp, esn] = states.as_slice() else { panic!() };
    assert_eq!((ah.replay_window, ah.flags.len()), (Some(0), 0));
    assert_eq!((in_udp.replay_seq, in_udp.replay_oseq, in_udp.replay_window), (5, 9, Some(32)));
    assert!(in_udp.encap.is_some_and(|encap| encap.sport == 4500));
    assert_eq!((esn.replay_seq, esn.replay_oseq, esn.replay_window), (1 << 32 | 2, 3 << 32 | 4, Some(128)));
    assert_eq!((esn.limits.byte_hard, esn.limits.packet_soft), (Some(1000), Some(10)));
    assert_eq!(
        (esn.limits.time_hard, esn.limits.time_use_soft, esn.limits.byte_soft),
        (Some(3600), Some(60), None)
    );
    assert_eq!(esn.algorithms.first().map(|aead| aead.key.expose().len()), Some(40));
}

#[test]
fn a_dump_of_policies_is_read_oldest_first_and_those_of_sockets_are_passed_over() {
    let imported = import(POLICIES).unwrap();
    assert_eq!(imported.sockets, 1);
    let [inbound, outbound] = imported.policies.as_slice() else { panic!("{imported:?}") };
    assert!(inbound.templates.is_empty());
    assert_eq!((outbound.index, outbound.priority, outbound.templates.len()), (1, 7, 2));
    let both = format!("{STATES}{POLICIES}");
    let both = import(&both).unwrap();
    assert_eq!((both.states.len(), both.policies.len()), (3, 2));
}

#[test]
fn what_cannot_be_imported_is_named_by_its_line() {
    let hidden =
        STATES.replace("0x000102030405060708090a0b0c0d0e0f10111213 (160 bits)", "<<Keys hidden>> (160 bits)");
    let error = import(&hidden).unwrap_err().to_string();
    assert!(error.starts_with("line 1: the keys are hidden"), "{error}");
    let marked = STATES.replace("mark 0x0/0x0", "mark 0x1/0xff");
    let error = import(&marked).unwrap_err().to_string();
    assert!(error.starts_with("line 29: mark and output-mark is not served"), "{error}");
    for text in ["nothing", "src 10.0.0.0/24 dst 10.0.1.0/24", "src 1.1.1.1 dst 2.2.2.2\n\tcolour blue\n"] {
        assert!(import(text).unwrap_err().to_string().contains("neither a state nor a policy"), "{text}");
    }
    assert_eq!(import("").map(|imported| imported.states.len()), Ok(0));
}

/// Words of the grammar in any combination: what is understood comes back from what is printed (T40: keys are in the
/// print only where asked for).
#[test]
fn whatever_is_understood_is_printed_and_read_back() {
    let mut runner = TestRunner::new_with_rng(
        Config { cases: 2000, failure_persistence: None, ..Config::default() },
        TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]),
    );
    let step = prop_oneof![state_line(), policy_line()];
    runner
        .run(&step, |line| {
            prop_assert!(super::read(&line).is_ok(), "{}: {:?}", line, super::read(&line));
            fuzz::batch(line.as_bytes());
            Ok(())
        })
        .unwrap();
}

/// What the fuzzer begins with, and what it found.
#[test]
fn corpora_are_read() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    for (target, body) in [("xfrm_batch", fuzz::batch as fn(&[u8])), ("xfrm_dump", fuzz::dump)] {
        let files: Vec<_> = std::fs::read_dir(folder.join(target)).unwrap().collect();
        assert!(!files.is_empty());
        files.into_iter().for_each(|file| body(&std::fs::read(file.unwrap().path()).unwrap()));
    }
}

fn words(choices: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::subsequence(choices, 0..=choices.len()).prop_shuffle().prop_map(|some| some.join(" "))
}

fn one_of(choices: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(choices)
}

fn state_line() -> impl Strategy<Value = String> {
    let ends = one_of(&["src 192.0.2.1 dst 192.0.2.2 proto esp", "dst fd00::1 proto esp src fd00::2"]);
    let algorithms = one_of(&[
        "aead 'rfc4106(gcm(aes))' 0x000102030405060708090a0b0c0d0e0f10111213 128",
        "enc 'cbc(aes)' 0x00112233445566778899aabbccddeeff auth-trunc 'hmac(sha256)' secret 128",
        "auth 'hmac(sha1)' 0x000102030405060708090a0b0c0d0e0f10111213 enc 'ecb(cipher_null)' ''",
    ]);
    let rest = words(&[
        "mode tunnel",
        "reqid 7",
        "replay-window 64",
        "flag esn align4",
        "flag 0x3",
        "extra-flag dont-encap-dscp",
        "replay-seq 5",
        "replay-oseq 9",
        "seq 17",
        "sel src 10.0.0.0/8 dst 10.1.2.3 proto sctp sport 5 dport 6",
        "limit byte-hard 5 limit packet-soft 6",
        "limit time-use-hard 7 limit time-soft 8",
        "encap espinudp 4500 4501 192.0.2.9",
        "tfcpad 100",
        "mark 0 mask 0",
    ]);
    (ends, 256_u32.., algorithms, rest).prop_map(|(ends, spi, algorithms, rest)| {
        format!("xfrm state add {ends} spi {spi} {algorithms} {rest}")
    })
}

fn policy_line() -> impl Strategy<Value = String> {
    let selector = one_of(&[
        "",
        "src 10.0.0.0/8 dst 10.1.2.3",
        "dst fd00::/64 proto ipv6-icmp type 3 code 4",
        "src 10.1.1.1/8 proto mobility-header type 1 code 2",
        "proto gre key 1.2.3.4",
        "proto udp sport 1 dport 2 dev eth0",
        "proto 77",
    ]);
    let direction = one_of(&["dir in", "dir out", "dir fwd"]);
    let rest = words(&[
        "action block",
        "priority 12",
        "index 16",
        "flag localok",
        "flag icmp localok",
        "ptype main",
        "limit byte-soft 9",
        "limit time-hard 10",
        "tmpl src 192.0.2.1 dst 192.0.2.2 proto esp reqid 1 mode tunnel",
        "tmpl proto ah spi 0x1000 level use",
    ]);
    (selector, direction, rest)
        .prop_map(|(selector, direction, rest)| format!("xfrm policy update {selector} {direction} {rest}"))
}
