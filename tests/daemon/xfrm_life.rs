//! What becomes of states of `latchway xfrm` in time: lifetimes, updates, restarts; and of scripts that are wrong.

use nix::sys::signal::Signal;

use crate::site::Side;
use crate::xfrm::{Bare, Monitor, complains, done, said, shown};
use crate::{eventually, scenario};

/// The state by which `src` sends to `dst`, with these words.
fn state(verb: &str, src: u8, dst: u8, words: &str) -> String {
    let key = format!("{src}{dst}").repeat(32);
    format!(
        "state {verb} src 192.0.2.{src} dst 192.0.2.{dst} proto esp spi 0x10{src}{dst} reqid 7 mode tunnel replay-window 64 \
         enc 'cbc(aes)' 0x{} auth-trunc 'hmac(sha256)' 0x{} 128 {words}",
        &key[..32],
        &key
    )
}

/// Both states.
fn states(words: &str) -> String {
    format!("{}\n{}", state("add", 1, 2, words), state("add", 2, 1, words))
}

/// RFC 4301 4.4.2.1, 5.1: whoever watches hears of lifetimes that are over and of packets that need a state; and a state
/// that is over goes.
#[test]
fn rfc_4301_4_4_2_1_who_watches_hears_expire_and_acquire() {
    scenario("xfrm_life::rfc_4301_4_4_2_1_who_watches_hears_expire_and_acquire", || {
        let bare = Bare::start();
        let [a, b] = &bare.gateways;
        bare.script(&states(""));
        eventually("an echo returns", || bare.passes());
        let monitor = Monitor::of(a, &["expire", "acquire"]);
        // The numbers go on, and what was carried counts.
        let limited = state("update", 1, 2, "limit packet-soft 3 limit packet-hard 5");
        done(&said(a, &["-batch", "-"], &limited));
        assert!(shown(a, "-s state list").contains("soft 3(packets), hard 5(packets)"));
        eventually("the state is over", || {
            bare.passes();
            !shown(a, "state list").contains("dst 192.0.2.2")
        });
        let heard = monitor.until("\thard 0");
        assert!(heard.iter().any(|line| line == "Expired src 192.0.2.1 dst 192.0.2.2"), "{heard:?}");
        monitor.until("\thard 1");
        assert!(!bare.passes(), "without its state nothing leaves");
        let heard = monitor.until("  policy src 10.1.0.0/24 dst 10.2.0.0/24");
        assert!(heard.iter().any(|line| line.starts_with("acquire proto esp")), "{heard:?}");
        assert!(heard.iter().any(|line| line.contains("sel src 10.1.0.1/32 dst 10.2.0.1/32")), "{heard:?}");
        assert_eq!(shown(a, "state count"), "\t SAD count 1\n");
        assert_eq!(b.drops("inbound", "replayed"), 0);
    });
}

/// An update of a live state says something else of it, and its numbers go on: encapsulation (RFC 3948), selector and limits.
#[test]
fn rfc_3948_a_live_state_is_updated_and_its_numbers_go_on() {
    scenario("xfrm_life::rfc_3948_a_live_state_is_updated_and_its_numbers_go_on", || {
        let bare = Bare::start();
        let [a, b] = &bare.gateways;
        bare.script(&states(""));
        eventually("an echo returns", || bare.passes());
        let update = |words: &str| {
            let text = format!("{}\n{}\n", state("update", 1, 2, words), state("update", 2, 1, words));
            bare.gateways.iter().for_each(|gateway| drop(done(&said(gateway, &["-batch", "-"], &text))));
        };
        update("encap espinudp 4500 4500 0.0.0.0");
        eventually("an echo returns in UDP", || bare.passes());
        assert!(shown(a, "state list").contains("encap type espinudp sport 4500 dport 4500"));
        update("sel src 0.0.0.0/0 dst 0.0.0.0/0 proto udp");
        assert!(!bare.passes(), "an echo is not UDP");
        eventually("it is dropped", || a.drops("outbound", "no_outbound_sa") > 0);
        update("flag noecn mark 0 mask 0");
        eventually("an echo returns again", || bare.passes());
        for gateway in [a, b] {
            let drops = ["replayed", "too_old"].map(|reason| gateway.drops("inbound", reason));
            assert_eq!(drops, [0, 0], "numbers went on");
        }
        let refused = state("update", 1, 2, "flag esn").replace('\'', "");
        let refused = complains(a, &refused.split(' ').collect::<Vec<_>>());
        assert!(refused.contains("delete the state and add it anew"), "{refused}");
        eventually("an echo returns still", || bare.passes());
    });
}

/// T12: keys of counter mode on record are placed again after a restart, also one by SIGKILL, and no number comes twice.
#[test]
fn t12_states_on_record_go_on_after_a_restart() {
    scenario("xfrm_life::t12_states_on_record_go_on_after_a_restart", || {
        let mut bare = Bare::start_recorded();
        let aead = |src: u8, dst: u8| {
            let key = format!("{src}{dst}").repeat(20);
            format!(
                "xfrm state add src 192.0.2.{src} dst 192.0.2.{dst} proto esp spi 0x20{src}{dst} reqid 7 mode tunnel flag esn \
                 aead 'rfc4106(gcm(aes))' 0x{key} 128"
            )
        };
        let both = format!("{}\n{}", aead(1, 2), aead(2, 1));
        bare.script(&both);
        eventually("an echo returns", || bare.passes());
        let policies = shown(&bare.gateways[0], "policy list");
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            bare.gateways[0].end_by(signal);
            bare.bring_up(Side::A);
            let [a, b] = &bare.gateways;
            assert_eq!(shown(a, "state count"), "\t SAD count 0\n");
            done(&said(a, &["import", "-"], &policies));
            done(&said(a, &["-batch", "-"], &both));
            eventually("an echo returns after the restart", || bare.passes());
            for gateway in [a, b] {
                assert_eq!(gateway.drops("inbound", "replayed") + gateway.drops("inbound", "too_old"), 0);
            }
        }
        // What the record knows is not fresh, whatever is asserted.
        let [a, _] = &bare.gateways;
        done(&said(a, &["state", "flush"], ""));
        let asserted = said(a, &["--ephemeral-keys", "-batch", "-"], &both);
        let text = String::from_utf8_lossy(&asserted.stderr).into_owned();
        assert!(!asserted.status.success() && text.contains("not fresh"), "{text}");
        assert!(!text.contains("12121212"), "T40: {text}");
    });
}

/// A batch says at which line it stopped, and what it had done by then; an import says the line of its file, and does nothing.
#[test]
fn t40_a_script_that_is_wrong_says_its_line_and_what_was_done() {
    scenario("xfrm_life::t40_a_script_that_is_wrong_says_its_line_and_what_was_done", || {
        let bare = Bare::start();
        let [a, _] = &bare.gateways;
        let wrong = state("add", 2, 1, "").replace("cbc(aes)", "cbc(serpent)");
        let text = format!("# begins\n{}\n{wrong}\n{}\n", state("add", 1, 2, ""), state("add", 2, 1, ""));
        let output = said(a, &["-batch", "-"], &text);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{told}");
        for word in
            ["cbc(serpent)", "Command failed -:3", "1 commands before it are done, and none behind it"]
        {
            assert!(told.contains(word), "{word}: {told}");
        }
        assert!(!told.contains("21212121"), "{told}");
        assert_eq!(shown(a, "state count"), "\t SAD count 1\n");
        let output = said(a, &["-force", "-batch", "-"], &text);
        assert!(!output.status.success());
        assert_eq!(shown(a, "state count"), "\t SAD count 2\n", "the last line was done");
        // The second record cannot be done here, which only the gateway knows.
        let listed = shown(a, "--show-keys state list");
        done(&said(a, &["state", "flush"], ""));
        let elsewhere = listed.replacen("src 192.0.2.2 dst 192.0.2.1", "src 203.0.113.1 dst 203.0.113.2", 1);
        let line = elsewhere.lines().position(|line| line.starts_with("src 203.0.113.1")).unwrap() + 1;
        let output = said(a, &["import", "-"], &elsewhere);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(&format!("line {line}, ")), "{told}");
        assert!(told.contains("nothing of it was done"), "{told}");
        assert_eq!(shown(a, "state count"), "\t SAD count 0\n");
    });
}
