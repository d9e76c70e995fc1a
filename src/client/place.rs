//! Which gateway is meant, where nobody said so.

use std::fs;
use std::path::{Path, PathBuf};

/// Where gateways offer their control sockets, each in a folder of its own name.
pub const RUN: &str = "/run/latchway";

/// Why it is not clear which gateway is meant.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// There is none.
    #[error(
        "no gateway was found: there is no control socket in {0}/*/; start one, or name its control socket by \
         `--control PATH` or LATCHWAY_CONTROL"
    )]
    None(PathBuf),
    /// There are several.
    #[error(
        "several gateways run here: name one of {} by `--control PATH` or LATCHWAY_CONTROL",
        listed(.0)
    )]
    Several(Vec<PathBuf>),
}

/// The control socket that was named, or the only one in [`RUN`].
///
/// # Errors
/// [`NoPlace`]
pub fn find(named: Option<&Path>) -> Result<PathBuf, NoPlace> {
    named.map_or_else(|| the_only_one_in(Path::new(RUN)), |named| Ok(named.into()))
}

fn the_only_one_in(run: &Path) -> Result<PathBuf, NoPlace> {
    let folders = fs::read_dir(run).into_iter().flatten().flatten();
    let sockets = folders.map(|folder| folder.path().join("control.sock"));
    let mut found: Vec<_> = sockets.filter(|socket| fs::symlink_metadata(socket).is_ok()).collect();
    found.sort();
    match found.as_slice() {
        [] => Err(NoPlace::None(run.into())),
        [only] => Ok(only.clone()),
        _ => Err(NoPlace::Several(found)),
    }
}

fn listed(sockets: &[PathBuf]) -> String {
    let sockets: Vec<_> = sockets.iter().map(|socket| socket.display().to_string()).collect();
    sockets.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_gateway_needs_no_name_and_several_are_named() {
        let run = std::env::temp_dir().join(format!("latchway-place-{}", std::process::id()));
        assert_eq!(the_only_one_in(&run), Err(NoPlace::None(run.clone())));
        for name in ["a", "b", "empty"] {
            fs::create_dir_all(run.join(name)).unwrap();
        }
        fs::write(run.join("b/control.sock"), "").unwrap();
        assert_eq!(the_only_one_in(&run), Ok(run.join("b/control.sock")));
        fs::write(run.join("a/control.sock"), "").unwrap();
        let several = the_only_one_in(&run).unwrap_err().to_string();
        assert!(several.contains("a/control.sock, ") && several.contains("b/control.sock"), "{several}");
        fs::remove_dir_all(&run).unwrap();
        assert_eq!(find(Some(Path::new("x"))), Ok("x".into()));
    }
}
