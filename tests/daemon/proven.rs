//! What a provider of SAs says of a peer, and what is shown of it later.

use std::fs;
use std::os::unix::net::UnixStream;

use base64ct::{Base64, Encoding};
use latchway_control::{Frames, MAX_REPLY, write_message};
use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::site::{Side, Site, Terms};
use crate::{eventually, scenario, schema};

/// Somebody on a control socket, for as long as it lives.
struct Asks(Frames<UnixStream>);

impl Asks {
    fn of(gateway: &Gateway) -> Self {
        Self(Frames::new(UnixStream::connect(gateway.control()).unwrap(), MAX_REPLY))
    }

    fn ask(&mut self, method: &str, parameters: &Value) -> Result<Value, String> {
        let call = json!({"method": format!("org.latchway.Control.{method}"), "parameters": parameters});
        write_message(self.0.connection(), &call).unwrap();
        let reply: Value = serde_json::from_slice(self.0.next_message().unwrap().unwrap()).unwrap();
        match reply.get("error") {
            Some(error) => Err(format!("{error}: {}", reply["parameters"])),
            None => Ok(reply["parameters"].clone()),
        }
    }
}

const PEERS: &str = "[[peer]]\nidentity = \"b.example\"\nmethods = [\"certificate\"]\ninner = [\"10.3.0.0/24\"]\n\
     [[peer]]\nidentity = \"any\"\ninner = [\"10.4.0.0/24\"]\n";
const ANCHOR: &str = "1e6db23c4f555114e082a323c1f5910e1b62388e614e9d1e901cf210c4bd341c";

/// L-28 to L-32, R-5: who proved itself by a certificate is shown with that, its trust anchor and what NAT is in between, for
/// as long as a connection is latched to it.
#[test]
fn l_28_to_l_32_r_5_an_inquiry_shows_what_the_peer_proved_itself_with() {
    scenario("proven::l_28_to_l_32_r_5_an_inquiry_shows_what_the_peer_proved_itself_with", || {
        let site = Site::start_a(&Terms::default().with_tail(PEERS));
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/keying/src/tests/certificates/one.der");
        let certificate = Base64::encode_string(&fs::read(path).unwrap());
        let mut provider = Asks::of(&site.a);
        let mut proposal = json!({
            "peer": "b.example", "method": "certificate",
            "selectors": [{"local": "10.1.0.0/24", "remote": "10.3.0.0/24"}],
            "inbound_suite": "aes-128-gcm", "outbound_suite": "aes-128-gcm",
            "nat": {"local": false, "remote": true, "remote_inner": "192.168.1.2:4500"},
        });
        provider.ask("Propose", &proposal).unwrap_err();
        proposal["evidence"] = json!({
            "certificate": certificate, "authenticated": 1_700_000_000_000_u64,
            "trust_anchor": {"subject": "CN=Anchor,O=Example,C=DE", "key_sha256": ANCHOR},
        });
        let ticket = provider.ask("Propose", &proposal).unwrap()["ticket"].clone();
        let sa = |spi: u32| json!({"spi": spi, "key": format!("{spi:08x}").repeat(5)});
        let keys = json!({
            "inbound": sa(0x5001), "outbound": sa(0x5002), "inbound_suite": "aes-128-gcm",
            "outbound_suite": "aes-128-gcm", "path": {"from": "192.0.2.1", "to": "192.0.2.3:4501"}, "usage": "active",
        });
        provider.ask("Install", &json!({"ticket": ticket, "keys": keys})).unwrap();

        let mut owner = Asks::of(&site.a);
        let ends = json!({"protocol": 6, "local": "10.1.0.1:40000", "remote": "10.3.0.1:80"});
        let latch = owner.ask("ConnectLatch", &ends).unwrap()["latch"].clone();
        let inquire = format!("latch inquire {}", latch.as_str().unwrap());
        eventually("the latch is in force", || site.a.shown(&inquire)["state"] == "established");
        let shown = site.a.shown(&inquire);
        schema::holds("latch", &shown);
        let peer = &shown["held"]["peer"];
        let told = ["asserted", "kind", "method", "entry"].map(|key| peer[key].as_str().unwrap());
        assert_eq!(told, ["fqdn:b.example", "fqdn", "certificate", "fqdn:b.example"]);
        assert_eq!(peer["certificate_der"], certificate, "L-30");
        assert!(peer["certificate"]["subject"].as_str().unwrap().contains("CN=b"), "{peer}");
        assert!(peer["trust_anchor"]["subject"].as_str().unwrap().contains("CN=Anchor"), "L-31: {peer}");
        assert_eq!(peer["trust_anchor"]["key_sha256"], ANCHOR);
        assert_eq!(peer["authenticated"], 1_700_000_000_000_u64, "L-29");
        let tunnel = &shown["tunnel"];
        assert_eq!(
            (&tunnel["local_nat"], &tunnel["remote_nat"], &tunnel["remote_inner"]),
            (&false.into(), &true.into(), &"192.168.1.2:4500".into()),
            "L-32"
        );
        assert_eq!(
            (&tunnel["local"], &tunnel["remote"]),
            (&"192.0.2.1:4500".into(), &"192.0.2.3:4501".into())
        );
        assert_eq!(
            (&shown["remote"], &shown["binding"]),
            (&"10.3.0.1:80".into(), &true.into()),
            "R-5, L-105"
        );
        assert!(site.a.read(&inquire).contains("Anchor"));
    });
}

/// Latching-04 2.1: what anybody may serve is latched by the strict model, also by rules that are made by hand.
#[test]
fn rfc_5386_a_rule_by_hand_that_anybody_may_serve_is_strict() {
    scenario("proven::rfc_5386_a_rule_by_hand_that_anybody_may_serve_is_strict", || {
        let site = Site::start_a(&Terms::default().with_tail(PEERS));
        let mut asks = Asks::of(&site.a);
        let rule = |remote: &str, model: &str| {
            let selector = json!({"local": format!("{}/32", Side::A.address()), "remote": remote});
            json!({"rule": {"selector": selector, "action": "protect", "terms": {"model": model}}})
        };
        let refusal = asks.ask("AddRule", &rule("10.0.0.0/8", "tag")).unwrap_err();
        assert!(
            refusal.contains("Refused") && refusal.contains("anybody") && refusal.contains("strict"),
            "{refusal}"
        );
        assert_eq!(site.a.rows("policy list").iter().filter(|row| row["origin"] == "hand").count(), 0);
        asks.ask("AddRule", &rule("10.3.0.0/24", "tag")).unwrap();
        asks.ask("AddRule", &rule("10.4.0.0/24", "strict")).unwrap();
    });
}
