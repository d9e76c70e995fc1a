//! Blackhole routes (T13).

use latchway_guard::Blackholes;
use latchway_netns::{Links, Namespace, testing::namespaced};

use crate::support::net;

#[test]
fn t13_blackholes_are_put_up_once_found_missing_and_taken_down() {
    namespaced("blackholes::t13_blackholes_are_put_up_once_found_missing_and_taken_down", || {
        let links = Links::of(&Namespace::create("guarded").unwrap()).unwrap();
        let prefixes =
            [net("10.77.2.9/24"), net("fd77:77:2::/64"), net("0.0.0.0/0"), net("::/0"), net("10.77.2.0/24")];
        let all = Blackholes::new(prefixes);
        assert_eq!(all.missing(&links).unwrap().len(), 4, "equal prefixes are one");
        for _ in 0..2 {
            all.install(&links).unwrap();
            assert_eq!(all.missing(&links).unwrap(), []);
        }
        let others = Blackholes::with_metric(prefixes, 7);
        assert_eq!(others.missing(&links).unwrap().len(), 4, "of another metric");
        Blackholes::new([net("10.77.2.0/24")]).remove(&links).unwrap();
        assert_eq!(all.missing(&links).unwrap(), [net("10.77.2.0/24")]);
        all.remove(&links).unwrap();
        assert_eq!(all.missing(&links).unwrap().len(), 4);
    });
}
