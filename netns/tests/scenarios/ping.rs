//! Echo requests in both families.

use std::{net::IpAddr, time::Duration};

use crate::support::{SOON, net4, net6, pair};
use latchway_netns::{
    Error,
    ping::{self, Echo},
    testing::namespaced,
};

#[test]
fn every_request_is_answered_in_both_families() {
    namespaced("ping::every_request_is_answered_in_both_families", || {
        let joined = pair().unwrap();
        for (source, destination) in [(net4(1), net4(2)), (net6(1), net6(2))] {
            let source = Some(source.addr());
            let interval = Duration::from_millis(2);
            let echo = Echo {
                source,
                destination: destination.addr(),
                count: 20,
                interval,
                length: 1400,
                timeout: SOON,
                ..Echo::default()
            };
            let report = ping::echo(&joined.a, &echo).unwrap();
            assert_eq!((report.sent, report.received, report.rtts.len()), (20, 20, 20), "{report:?}");
            assert_eq!((report.refused, report.duplicates, report.corrupted), (0, 0, 0));
        }
    });
}

#[test]
fn silence_is_a_report_and_ends_in_time() {
    namespaced("ping::silence_is_a_report_and_ends_in_time", || {
        let joined = pair().unwrap();
        let timeout = Duration::from_millis(100);
        let silent = Echo { destination: net4(99).addr(), timeout, ..Echo::default() };
        let report = ping::echo(&joined.a, &silent).unwrap();
        assert_eq!((report.sent, report.received), (1, 0));
        let unroutable = Echo { destination: IpAddr::from([203, 0, 113, 1]), timeout, ..Echo::default() };
        let report = ping::echo(&joined.a, &unroutable).unwrap();
        assert_eq!((report.sent, report.refused), (0, 1));
    });
}

#[test]
fn what_cannot_be_tried_is_an_error() {
    namespaced("ping::what_cannot_be_tried_is_an_error", || {
        let joined = pair().unwrap();
        let foreign = Echo { source: Some(net4(77).addr()), destination: net4(2).addr(), ..Echo::default() };
        let refused = ping::echo(&joined.a, &foreign).unwrap_err();
        assert!(refused.to_string().contains("pinging 10.9.0.2 from 10.9.0.77"), "{refused}");
        let empty = Echo { pattern: b"", ..Echo::default() };
        assert!(matches!(ping::echo(&joined.a, &empty), Err(Error::Malformed(_))));
    });
}
