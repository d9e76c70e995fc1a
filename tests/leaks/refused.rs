//! A second gateway where there is one: it is refused, and told what is taken.

use std::fs;

use latchway_netns::Namespace;

use crate::gateway::{Folder, Gateway};
use crate::scenario;
use crate::site::{Mode, Side, Site, Terms, enrol};

/// The TUN, the port, the control socket and the state directory are one gateway's alone; the first one goes on as if nothing
/// had happened.
#[test]
fn a_second_gateway_is_told_what_is_taken() {
    scenario("refused::a_second_gateway_is_told_what_is_taken", || {
        let folder = Folder::make();
        for side in [Side::A, Side::B] {
            enrol(&folder.join(&side.number().to_string()));
        }
        let (state, other) = (folder.join("1"), folder.join("other"));
        enrol(&other);
        let mut site = Site::start(Mode::Alone, &Terms::enrolled(folder.as_ref()));
        let elsewhere = Namespace::create("elsewhere").unwrap();
        let second = Gateway::new(&site.at(Side::A).outer, folder.join("second"));
        for name in ["11.key", "21.key"] {
            second.write(name, &fs::read_to_string(site.a.folder().join(name)).unwrap());
        }
        let same = fs::read_to_string(site.a.folder().join("gateway.toml")).unwrap();
        let inner = site.at(Side::A).inner.proc_path().display().to_string();
        let control = site.a.folder().join("control.sock").display().to_string();
        let changes = [
            (inner, elsewhere.proc_path().display().to_string()),
            ("192.0.2.1:4500".into(), "192.0.2.1:4501".into()),
            ("control.sock".into(), "second.sock".into()),
            (state.display().to_string(), other.display().to_string()),
        ];
        let taken =
            [&["TUN lw0"][..], &["192.0.2.1:4500", "use"], &[&control], &[&state.display().to_string()]];
        for (kept, says) in taken.iter().enumerate() {
            let mut text = same.clone();
            for (number, (old, new)) in changes.iter().enumerate() {
                if number != kept {
                    text = text.replace(old, new);
                } else if number == 2 {
                    text = text.replace("control.sock", &control);
                }
            }
            second.write("gateway.toml", &text);
            let complaint = second.refused();
            for part in *says {
                assert!(complaint.contains(part), "{part:?} is not in: {complaint}");
            }
        }
        assert!(site.a.runs());
        site.passes();
        site.nothing_leaked();
    });
}
