//! Wireshark opens what `latchway capture` writes, and decrypts it with what `latchway keys export` prints.

use std::fs;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use latchway_netns::ping::{self, Echo};
use latchway_netns::{Links, Namespace, links, skip};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::case::{Family, Peer};
use crate::site::{Site, WIRE};
use crate::tshark::Tshark;
use crate::{PATIENCE, eventually, scenario};

const TEST: &str = "captured::wireshark_decrypts_our_own_capture_with_exported_keys";

/// RFC 4303: a capture of our traffic decrypts, and its ICVs are right; each packet says what became of it.
#[test]
fn wireshark_decrypts_our_own_capture_with_exported_keys() {
    scenario(TEST, || {
        let Some(tshark) = Tshark::find() else {
            skip::report(TEST, "no tshark: run `tests/interop/fetch tshark`");
            return;
        };
        let [outer, away] = ["outer", "away"].map(|name| Namespace::create(name).unwrap());
        links::veth(&outer, WIRE, &away, "away").unwrap();
        Links::of(&outer).unwrap().set_up(WIRE).unwrap();
        Links::of(&away).unwrap().set_up("away").unwrap();
        Links::of(&outer).unwrap().wait_ready(WIRE, PATIENCE).unwrap();
        Site::address(&outer);
        let site = Site::run(&outer, &[peer()], false);

        let file = site.gateway.folder().join("capture.pcapng");
        let mut capture = site.gateway.verb(&["capture"]);
        let capture = capture.arg("-w").arg(&file).stderr(Stdio::piped()).spawn().unwrap();
        eventually("the capture stands", || file.metadata().is_ok_and(|file| file.len() > 100));
        let destination: IpAddr = "10.2.0.1".parse().unwrap();
        let timeout = Duration::from_millis(100);
        let echo = Echo { source: Some(Family::V4.host()), destination, timeout, ..Echo::default() };
        // Nobody is there to answer: what leaves is all there is to see, on both sides of the transform.
        let _ = ping::echo(&site.inner, &echo);
        eventually("both sides of the transform are in the file", || {
            let octets = fs::read(&file).unwrap();
            octets.windows(PASSED.len()).filter(|octets| *octets == PASSED).count() >= 2
        });
        kill(Pid::from_raw(capture.id().try_into().unwrap()), Signal::SIGINT).unwrap();
        assert!(capture.wait_with_output().unwrap().status.success());

        let exported = site.gateway.verb(&["keys", "export", "--wireshark"]).output().unwrap();
        assert!(exported.status.success(), "{exported:?}");
        assert!(site.gateway.log().contains("keys of all SAs were shown"), "{}", site.gateway.log());
        let rows = String::from_utf8(exported.stdout).unwrap();
        let mut command: Command = tshark.command();
        command.arg("-n").arg("-r").arg(&file).args(["-Y", "esp && icmp.type == 8"]);
        for option in ["enable_encryption_decode:TRUE", "enable_authentication_check:TRUE"] {
            command.args(["-o", &format!("esp.{option}")]);
        }
        for row in rows.lines().filter(|row| row.starts_with('"')) {
            command.args(["-o", &format!("uat:esp_sa:{row}")]);
        }
        command.args(["-T", "fields", "-E", "occurrence=l", "-E", "separator=|"]);
        for field in ["esp.icv_good", "frame.comment", "frame.interface_name"] {
            command.args(["-e", field]);
        }
        let output = command.output().unwrap();
        let seen = String::from_utf8(output.stdout).unwrap();
        let line = seen.lines().next().unwrap_or_else(|| panic!("nothing was decrypted: {rows}"));
        let fields: Vec<_> = line.split('|').collect();
        assert!(matches!(fields[0], "1" | "True"), "{line}");
        assert!(fields[1].starts_with("latchway: outbound passed, SPI 0x00001001, tag class "), "{line}");
        assert_eq!(fields[2], "wire", "{line}");
    });
}

/// What is said of a packet that left.
const PASSED: &[u8] = b"latchway: outbound passed";

/// A peer that is not there.
fn peer() -> Peer {
    let key =
        |first: u8| (0..64_u8).map(|n| format!("{:02x}", n.wrapping_mul(7) ^ first)).collect::<String>();
    let place = ("10.9.1.1".parse().unwrap(), "10.2.0.0/16");
    let sas = [(0x1002, key(1)), (0x1001, key(2))];
    Peer::new("away.example", place, ("aes-256-cbc-hmac-sha-256", sas), true, "esn = false")
}
