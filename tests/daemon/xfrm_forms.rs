//! What states of `latchway xfrm` carry: AH, transport mode, bundles of both, and what has one direction alone.

use std::time::Duration;

use latchway_netns::Links;
use latchway_netns::ping::{self, Echo};
use latchway_netns::watch::Sniffer;

use crate::site::{Side, TUN, WIRE};
use crate::xfrm::{Bare, complains, done, said, shown};
use crate::{PATIENCE, eventually, scenario};

/// The states of one protocol and mode, in both directions.
struct States<'t> {
    protocol: &'t str,
    reqid: u8,
    mode: &'t str,
}

const ESP: u8 = 50;
const AH: u8 = 51;

impl States<'_> {
    /// The lines that add them.
    fn lines(&self) -> String {
        let Self { protocol, reqid, mode } = *self;
        [(1, 2), (2, 1)].map(|(src, dst)| {
            let key = |octets: usize| format!("{reqid}{src}{dst}{octets}").repeat(32)[..2 * octets].to_owned();
            let integrity = format!("auth-trunc 'hmac(sha256)' 0x{} 128", key(32));
            let algorithms = match protocol {
                "ah" => integrity,
                _ => format!("enc 'cbc(aes)' 0x{} {integrity}", key(16)),
            };
            format!(
                "state add src 192.0.2.{src} dst 192.0.2.{dst} proto {protocol} spi 0x{reqid}0{src}{dst} reqid {reqid} mode {mode} \
                 replay-window 64 {algorithms}\n"
            )
        })
        .concat()
    }

    /// Their template, in a direction.
    fn template(&self, src: u8, dst: u8) -> String {
        let Self { protocol, reqid, mode } = *self;
        format!(" tmpl src 192.0.2.{src} dst 192.0.2.{dst} proto {protocol} reqid {reqid} mode {mode}")
    }
}

/// Gives a gateway these states, and policies between `own` and `far` that want them.
fn tell(bare: &Bare, side: Side, states: &[States<'_>], [own, far]: [&str; 2]) {
    let (here, there) = (side.number(), side.other().number());
    let templates = |src, dst| states.iter().map(|states| states.template(src, dst)).collect::<String>();
    let (leaving, coming) = (templates(here, there), templates(there, here));
    let text = format!(
        "state flush\npolicy flush\n{}policy add src {own} dst {far} dir out{leaving}\n\
         policy add src {far} dst {own} dir in{coming}\npolicy add src {far} dst {own} dir fwd{coming}\n",
        states.iter().map(States::lines).collect::<String>()
    );
    done(&said(&bare.gateways[usize::from(here) - 1], &["-batch", "-"], &text));
}

/// Has hosts talk under these states, and looks at the wire.
fn holds(bare: &Bare, states: &[States<'_>], ends: [&str; 2], protocol: u8) {
    let [a, b] = ends;
    tell(bare, Side::A, states, [a, b]);
    tell(bare, Side::B, states, [b, a]);
    let sniffer = Sniffer::start(&bare.places[1].outer, WIRE).unwrap();
    let address = |prefix: &str| prefix.split('/').next().unwrap().parse().unwrap();
    let [source, destination] = ends.map(|end| if end.ends_with("/24") { host(end) } else { address(end) });
    eventually(&format!("an echo returns in protocol {protocol}"), || {
        bare.passes_between(source, destination)
    });
    let captured = sniffer.stop().unwrap();
    let frames = captured.complete().unwrap();
    assert!(frames.iter().any(|frame| frame.protocol == Some(protocol)), "{frames:?}");
    let others = frames.iter().filter(|frame| matches!(frame.protocol, Some(1 | ESP | AH)));
    assert!(others.filter(|frame| frame.protocol != Some(protocol)).count() == 0, "{frames:?}");
}

/// The gateway's own address in its hosts' network.
fn host(network: &str) -> std::net::IpAddr {
    network.replace(".0/24", ".1").parse().unwrap()
}

const NETWORKS: [&str; 2] = ["10.1.0.0/24", "10.2.0.0/24"];

/// RFC 4302, RFC 4303, RFC 4301 4.1: AH in a tunnel, and either protocol between the gateways' own addresses.
#[test]
fn rfc_4302_ah_and_transport_states_carry_packets() {
    scenario("xfrm_forms::rfc_4302_ah_and_transport_states_carry_packets", || {
        let bare = Bare::start();
        holds(&bare, &[States { protocol: "ah", reqid: 3, mode: "tunnel" }], NETWORKS, AH);
        let sas = bare.gateways[0].rows("sa list");
        let is_shown = |row: &serde_json::Value| {
            row["pair"].is_null()
                && row["origin"] == "xfrm"
                && row["suite"] == "ah-hmac-sha-256"
                && row["packets"].as_u64() > Some(0)
        };
        assert!(sas.len() == 2 && sas.iter().all(is_shown), "{sas:?}");
        for (place, (own, far)) in bare.places.iter().zip([(1, 2), (2, 1)]) {
            let links = Links::of(&place.inner).unwrap();
            links.add_address(TUN, format!("192.0.2.{own}/32").parse().unwrap()).unwrap();
            links.add_route(format!("192.0.2.{far}/32").parse().unwrap(), None, TUN, 0).unwrap();
            links.wait_ready(TUN, PATIENCE).unwrap();
        }
        let own = ["192.0.2.1", "192.0.2.2"];
        holds(&bare, &[States { protocol: "esp", reqid: 4, mode: "transport" }], own, ESP);
        holds(&bare, &[States { protocol: "ah", reqid: 5, mode: "transport" }], own, AH);
        let bundle = [
            States { protocol: "esp", reqid: 6, mode: "transport" },
            States { protocol: "ah", reqid: 6, mode: "transport" },
        ];
        holds(&bare, &bundle, own, AH);
    });
}

/// RFC 4301 4.3: two templates are a bundle in either direction; nothing passes with half of it, and `level use` is refused.
#[test]
fn rfc_4301_4_3_two_templates_make_bundles_of_states() {
    scenario("xfrm_forms::rfc_4301_4_3_two_templates_make_bundles_of_states", || {
        let bare = Bare::start();
        let [a, b] = &bare.gateways;
        let esp = || States { protocol: "esp", reqid: 7, mode: "tunnel" };
        let ah = || States { protocol: "ah", reqid: 8, mode: "transport" };
        holds(&bare, &[esp(), ah()], NETWORKS, AH);
        let latches = a.rows("latch list");
        let bundled = |row: &serde_json::Value| {
            row["protection"].as_str().is_some_and(|text| text.starts_with("ah+esp tunnel"))
        };
        assert!(latches.iter().any(bundled), "{latches:?}");
        let sas = a.rows("sa list");
        assert!(
            sas.len() == 2 && sas.iter().all(|row| row["header"]["suite"] == "ah-hmac-sha-256"),
            "{sas:?}"
        );
        let explained = a.read("mtu explain address:192.0.2.2");
        assert!(
            explained.contains("authentication header") && explained.contains("of `latchway xfrm`"),
            "{explained}"
        );
        // What is listed is understood again.
        let policies = shown(a, "policy list");
        assert_eq!(policies.matches("proto ah").count(), 3, "{policies}");
        // Bare ESP where AH is to be around it, and the other way round.
        let before = b.drops("inbound", "bundle_mismatch");
        let alone =
            format!("policy update src 10.1.0.0/24 dst 10.2.0.0/24 dir out{}\n", esp().template(1, 2));
        done(&said(a, &["-batch", "-"], &alone));
        eventually("bare ESP is dropped", || {
            !bare.passes() && b.drops("inbound", "bundle_mismatch") > before
        });
        let whole = format!(
            "policy update src 10.1.0.0/24 dst 10.2.0.0/24 dir out{}{}\n",
            esp().template(1, 2),
            ah().template(1, 2)
        );
        done(&said(a, &["-batch", "-"], &whole));
        eventually("the bundle is whole again", || bare.passes());
        let before = a.drops("outbound", "no_outbound_sa");
        shown(a, "state delete dst 192.0.2.2 proto ah spi 0x8012");
        assert!(!bare.passes(), "nothing leaves bare");
        eventually("it is dropped", || a.drops("outbound", "no_outbound_sa") > before);
        let optional = format!(
            "policy update src 10.1.0.0/24 dst 10.2.0.0/24 dir out{} level use",
            esp().template(1, 2)
        );
        let refused = complains(a, &optional.split(' ').collect::<Vec<_>>());
        assert!(refused.contains("level use is not served") && refused.contains("in the clear"), "{refused}");
        assert!(!bare.passes());
    });
}

/// RFC 4301 4.1: a state is of one direction. One that is alone carries what it may, and no latch is born of it.
#[test]
fn rfc_4301_4_1_a_state_that_is_alone_carries_packets() {
    scenario("xfrm_forms::rfc_4301_4_1_a_state_that_is_alone_carries_packets", || {
        let bare = Bare::start();
        let states = States { protocol: "esp", reqid: 7, mode: "tunnel" };
        let leaving = states.lines().lines().next().unwrap().to_owned();
        let template = states.template(1, 2);
        for (gateway, direction) in bare.gateways.iter().zip(["out", "in"]) {
            let text =
                format!("{leaving}\npolicy add src 10.1.0.0/24 dst 10.2.0.0/24 dir {direction}{template}\n");
            done(&said(gateway, &["-batch", "-"], &text));
        }
        let [a, b] = &bare.gateways;
        let carried = |gateway: &crate::gateway::Gateway| {
            let rows = gateway.rows("sa list");
            assert!(rows.len() == 1 && rows[0]["pair"].is_null() && rows[0]["class"].is_null(), "{rows:?}");
            rows[0]["packets"].as_u64().unwrap()
        };
        let echo = Echo {
            source: Some(Side::A.address()),
            destination: Side::B.address(),
            timeout: Duration::from_millis(100),
            ..Echo::default()
        };
        eventually("what is sent arrives", || {
            let _ = ping::echo(&bare.places[0].inner, &echo);
            carried(b) > 0
        });
        let there = carried(b);
        eventually("all of it is counted", || carried(a) >= there);
        eventually("there is no way back", || b.drops("outbound", "no_policy") > 0);
        assert!(a.rows("latch list").is_empty() && b.rows("latch list").is_empty());
        assert!(shown(a, "-s state list").contains("lifetime current:"));
    });
}
