//! The order of events.

use latchway_control::LifetimeSpec;
use latchway_esp::Suite;
use latchway_netns::user::Entered;

use super::Options;
use super::cast::Cast;
use super::connection::Connection;
use super::facts::{clear, expiry, latch, ping, rekey, takeover, transfer, unlatched, wire};
use super::network::{Family, Host, Network, TO_BOB, TO_MALLORY};
use super::report::{Report, Stop};
use super::shutdown::Shutdown;
use super::sizes::Sizes;

/// Makes the network, starts the gateways and shows fact after fact. What it returns keeps everything running.
pub fn play(options: &Options, shutdown: &Shutdown, report: &mut Report) -> Result<Cast, Stop> {
    let network = report.prepare("making namespaces, links and addresses", Network::build)?;
    invite(&network, report);
    let cast = report.prepare("starting the gateways", || Cast::start(network, shutdown))?;
    introduce(&cast, report)?;
    let result = show(&cast, &options.suites, Sizes::new(options.quick), report);
    if result.is_err() {
        explain(&cast, report);
    }
    result.map(|()| cast)
}

fn show(cast: &Cast, suites: &[Suite], sizes: Sizes, report: &mut Report) -> Result<(), Stop> {
    let mut suites = suites.iter().copied();
    let first = suites.next().unwrap_or(Suite::AES_128_GCM);
    for outer in [Family::V6, Family::V4] {
        report.prepare("new SAs", || cast.switch(first, outer, LifetimeSpec::default()))?;
        pings(cast, outer, sizes, report)?;
    }
    suite(cast, first, sizes, report)?;
    report.show("rekey", "a rekey in mid-transfer loses nothing", || rekey::show(cast, sizes))?;
    for further in suites {
        report.prepare("new SAs", || cast.switch(further, Family::V4, LifetimeSpec::default()))?;
        suite(cast, further, sizes, report)?;
    }
    report.show("clear", "clear packets on the wire are dropped, unanswered", || clear::show(cast))?;
    takeovers(cast, first, report)?;
    report.show("expiry", "an expired SA closes the wire", || expiry::show(cast, first, sizes))?;
    Ok(())
}

fn pings(cast: &Cast, outer: Family, sizes: Sizes, report: &mut Report) -> Result<(), Stop> {
    for inner in Family::BOTH {
        let name = format!("ping_{}_over_{}", inner.short(), outer.short());
        let what = format!("ping {} inside, over {}", inner.name(), outer.name());
        report.show(&name, &what, || ping::show(cast, inner, sizes))?;
    }
    Ok(())
}

/// What is shown of every suite, on one connection.
fn suite(cast: &Cast, suite: Suite, sizes: Sizes, report: &mut Report) -> Result<(), Stop> {
    let connection = report.prepare("a TCP connection", || Connection::open(cast, Family::V4))?;
    let name = |fact: &str| format!("{fact}_{}", suite.name().replace('-', "_"));
    report.show(&name("wire"), &format!("only ESP on the wire, {suite}"), || {
        wire::show(cast, &connection, sizes)
    })?;
    report
        .show(&name("transfer"), &format!("TCP each way, {suite}"), || transfer::show(&connection, sizes))?;
    report.show(&name("latch"), &format!("the connection is latched, {suite}"), || {
        latch::show(cast, &connection)
    })?;
    report.prepare("ending a TCP connection", || connection.abort())
}

fn takeovers(cast: &Cast, suite: Suite, report: &mut Report) -> Result<(), Stop> {
    let spi = report.prepare("SAs for mallory", || cast.admit_mallory(suite))?;
    report.show("takeover_data", "takeover by data: the connection breaks", || {
        takeover::show(cast, takeover::Kind::Data, spi)
    })?;
    report.show("takeover_syn", "takeover by SYN: the connection breaks", || {
        takeover::show(cast, takeover::Kind::Syn, spi)
    })?;
    report.show("takeover_unlatched", "unlatched, the same bytes get in", || unlatched::show(cast, spi))?;
    Ok(())
}

/// Where to watch from outside.
fn invite(network: &Network, report: &Report) {
    let user = match report.privilege() {
        Entered::AlreadyPrivileged => String::new(),
        Entered::UserNamespace => {
            format!("--preserve-credentials --user=/proc/{}/ns/user ", std::process::id())
        }
    };
    report.say("watch the wire from another terminal while this runs (--hold keeps it running):");
    let watch = |host: &Host, interface: &str| {
        let space = host.outer.proc_path();
        report.say(&format!("  nsenter {user}--net={} tcpdump -ni {interface}", space.display()));
    };
    watch(&network.alice, TO_BOB.at_alice);
    watch(&network.alice, TO_MALLORY.at_alice);
}

/// The gateways as they say they are.
fn introduce(cast: &Cast, report: &mut Report) -> Result<(), Stop> {
    for gateway in cast.gateways() {
        let status = report.prepare("asking a gateway how it is", || gateway.status())?;
        report.say(&format!(
            "{}: process {}, {} by {}",
            status.name, status.pid, status.tun.name, status.tun.backend
        ));
    }
    Ok(())
}

/// What the gateways have to say about a fact that failed.
fn explain(cast: &Cast, report: &Report) {
    for gateway in cast.gateways() {
        if let Err(failure) = gateway.status() {
            report.say(&failure.to_string());
        }
        for line in gateway.complaints().lines() {
            report.say(&format!("{} said: {line}", gateway.host()));
        }
    }
}
