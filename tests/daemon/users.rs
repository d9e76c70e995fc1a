//! How much of app.sock one user without privilege may have, so that there is enough for the others (T40).

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use latchway_netns::skip::{Need, report, require};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::apps::{NOBODY, app, open};
use crate::required::{requirements, said};
use crate::site::{Side, Site, Terms};
use crate::{eventually, scenario};

/// A program that takes all it can get: different requirements, and connections; and says what it got. It ends with its input.
const TAKES: &str = r#"
import json, socket, sys
app = sys.argv[1]

def connect():
    gateway = socket.socket(socket.AF_UNIX)
    gateway.settimeout(20)
    gateway.connect(app)
    return gateway

def ask(gateway, method, fds=[], **parameters):
    call = json.dumps({"method": "org.latchway.App." + method, "parameters": parameters}).encode() + b"\0"
    try:
        socket.send_fds(gateway, [call], fds) if fds else gateway.sendall(call)
        answer = b""
        while not answer.endswith(b"\0"):
            octets = gateway.recv(65536)
            if not octets:
                return "gone"
            answer += octets
    except (BrokenPipeError, ConnectionResetError):
        return "gone"
    return json.loads(answer[:-1]).get("error", "done").rsplit(".")[-1]

def required(bits):
    stream = socket.socket()
    kept.append(stream)
    return ask(gateway, "Require", [stream.fileno()], requirement={"peer": "2.example", "key_bits": bits})

kept, gateway = [], connect()
different = [required(bits) for bits in range(1, 11)]
again = required(1)
gateways = [connect() for _ in range(100)]
first = [ask(gateway, "Gateway") for gateway in gateways]
later = [ask(gateway, "Gateway") for gateway in gateways]
print(json.dumps({"different": different, "again": again, "first": first, "later": later}), flush=True)
sys.stdin.read()
"#;

/// T40: of one user's connections those go that have been silent for longest, and of what it requires no more than a few things may
/// be different; root is served all the while, and nothing is left behind.
#[test]
fn t40_a_user_has_its_share_of_app_sock_and_no_more() {
    const TEST: &str = "users::t40_a_user_has_its_share_of_app_sock_and_no_more";
    scenario(TEST, || {
        if !require(TEST, &[Need::Program("python3")]) {
            return;
        }
        let site = Site::start(&Terms::default());
        open(&site.a);
        let mut program = Command::new("python3");
        program.args(["-c", TAKES]).arg(app(&site.a)).stdin(Stdio::piped()).stdout(Stdio::piped());
        let ran = site.at(Side::A).inner.run(|| program.uid(NOBODY).gid(NOBODY).spawn()).unwrap();
        let Ok(mut child) = ran else { return report(TEST, "no other user can be had here") };
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let took: Value = serde_json::from_str(&line).unwrap();
        let count = |what: &str, answer: &str| {
            took[what].as_array().unwrap().iter().filter(|said| *said == answer).count()
        };
        assert_eq!((count("different", "done"), count("different", "Full")), (8, 2), "{took}");
        assert_eq!(took["again"], "done", "as another of its sockets");
        let served = count("later", "done");
        assert!((1..=64).contains(&served), "{served}: {took}");
        assert_eq!(requirements(&site.a), 9);

        // Others are none the worse for it.
        let socket = site.at(Side::A).inner.run(|| Socket::new(Domain::IPV4, Type::STREAM, None));
        let socket = socket.unwrap().unwrap();
        let spec = json!({"requirement": {"peer": "2.example", "key_bits": 100}});
        let answer = said(&site.a, "Require", &spec, std::os::fd::AsFd::as_fd(&socket));
        assert!(answer.get("error").is_none(), "{answer}");
        drop(socket);
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
        eventually("nothing is left", || requirements(&site.a) == 0);
    });
}
