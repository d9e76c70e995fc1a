//! What a channel can be bound to (RFC 5056): the same text at both ends of a connection, and no other two.

use std::fs;
use std::net::TcpStream;

use base64ct::{Base64, Encoding};
use latchway_netns::skip::report;
use latchway_socket::{
    Answer, ChannelBinding, Gateway, Listener, Protected, Protection, Requirement, Unbindable,
};
use serde_json::{Value, json};

use crate::programs::{Program, app, in_c};
use crate::provider::Provider;
use crate::site::{End, Site, Terms};
use crate::{PATIENCE, scenario};

const ANCHOR: &str = "1e6db23c4f555114e082a323c1f5910e1b62388e614e9d1e901cf210c4bd341c";

/// Evidence: an Ed25519 key (RFC 8410 section 4), of which only the number matters.
pub fn key(number: u8) -> Value {
    let der = [&hex::decode("302a300506032b6570032100").unwrap()[..], &[number; 32]].concat();
    json!({"public_key": Base64::encode_string(&der)})
}

fn certificate() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/keying/src/tests/certificates/one.der");
    Base64::encode_string(&fs::read(path).unwrap())
}

/// A centre with a key, and around it: b with a certificate, c with a key, and d of which the centre is not told its own.
fn site() -> Site {
    let by_key = "methods = [\"certificate\", \"public-key\"]\n".to_owned();
    let terms = Terms { peer: by_key.clone(), centre: by_key, ..Terms::default() };
    let site = Site::start(&[("b.example", 2), ("c.example", 3), ("d.example", 4)], &terms);
    let anchored = json!({
        "certificate": certificate(),
        "trust_anchor": {"subject": "CN=Anchor,O=Example,C=DE", "key_sha256": ANCHOR},
    });
    let by_key = |evidence, own| json!({"method": "public-key", "evidence": evidence, "local_evidence": own});
    let ends = [
        [
            json!({"method": "certificate", "evidence": anchored, "local_evidence": key(1)}),
            by_key(key(1), json!({"certificate": certificate()})),
        ],
        [by_key(key(3), key(1)), by_key(key(1), key(3))],
        [by_key(key(4), Value::Null), by_key(key(1), key(4))],
    ];
    for (number, proofs) in ends.into_iter().enumerate() {
        let mut provider = Provider::between(&site, number);
        provider.proofs = proofs;
        provider.join();
    }
    site
}

fn gateway(end: &End) -> Gateway {
    Gateway::at(&app(&end.gateway)).with_timeout(PATIENCE)
}

fn required() -> Requirement {
    Requirement::new().protection(Protected::Authenticated)
}

/// Listens at an end, where nothing comes that is not protected.
fn listening(end: &End) -> Listener {
    end.inner.run(|| gateway(end).listen(end.at(80), &required())).unwrap().unwrap()
}

fn accepted(listener: &Listener) -> (TcpStream, Protection) {
    match listener.accept().unwrap() {
        (stream, _, Answer::Latched(protection)) => (stream, protection),
        (.., other) => panic!("{other}"),
    }
}

/// What both ends of a connection from the centre can bind to.
fn bound(site: &Site, listener: &Listener, end: &End) -> [Result<ChannelBinding, Unbindable>; 2] {
    let connect = || gateway(&site.centre).connect(end.at(80), &required());
    let (_stream, here) = site.centre.inner.run(connect).unwrap().unwrap();
    let (_accepted, there) = accepted(listener);
    [here, there].map(|end| end.channel_binding().cloned())
}

/// C-15, Q-16, P-30, L-43, L-105, L-121: both ends of a connection, in Rust and in C, read the same text, which stays the same with
/// new keys of SAs and is another with another peer; there is none where nothing was required, or where a key is not known.
#[test]
fn c_15_q_16_l_43_both_ends_and_no_others_are_bound_to_the_same() {
    const TEST: &str = "binding::c_15_q_16_l_43_both_ends_and_no_others_are_bound_to_the_same";
    scenario(TEST, || {
        let site = site();
        let [b, c, d] = &site.around[..] else { panic!() };
        let [at_b, at_c, at_d] = [b, c, d].map(listening);
        let [here, there] = bound(&site, &at_b, b);
        let with_b = here.unwrap();
        assert_eq!(there.as_ref(), Ok(&with_b));
        assert!(with_b.as_str().starts_with("latchway-ipsec-end-point:"));
        let [here, there] = bound(&site, &at_c, c);
        assert_eq!(here, there);
        assert_ne!(here.unwrap(), with_b, "another peer's");
        assert_eq!(bound(&site, &at_b, b), [Ok(with_b.clone()), Ok(with_b.clone())], "of the keys, whenever");

        let [here, there] = bound(&site, &at_d, d);
        assert_eq!(here, Err(Unbindable::NoLocalKey));
        assert!(there.is_ok(), "each end knows for itself");

        // Nobody required anything at this end, and somebody at the other.
        let plain = site.centre.inner.run(|| TcpStream::connect(b.at(80))).unwrap().unwrap();
        let Answer::Latched(inferred) = gateway(&site.centre).protection(&plain).unwrap() else { panic!() };
        assert_eq!(inferred.channel_binding(), Err(Unbindable::Inferred), "L-43");
        assert_eq!(accepted(&at_b).1.channel_binding(), Ok(&with_b), "L-105");

        let (host, port) = (b.host().to_string(), "80");
        let binds = in_c("tests/socket/c/binds.c", &site.centre.gateway);
        let program = Program::start(&binds, &[&host, port], &site.centre.inner, &site.centre.gateway);
        let Some(program) = program else { return report(TEST, "no other user can be had here") };
        assert_eq!(program.succeeded(), [format!("binding: {with_b}")]);
    });
}
