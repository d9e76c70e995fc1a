//! Files that are right.

use std::fs;
use std::path::Path;

use super::*;

/// Every example can be used, and nobody is warned of anything.
#[test]
fn examples_parse_without_a_warning() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let names: Vec<_> = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["bypass.toml", "container.toml", "gateway.toml", "host.toml", "tunnel.toml"]);
    for (file, name) in files.iter().zip(names) {
        let parsed =
            parse(&fs::read_to_string(file).unwrap()).unwrap_or_else(|r| panic!("{}", r.render(name)));
        assert!(parsed.warnings.is_empty(), "{}", parsed.warnings.render(name));
    }
}
