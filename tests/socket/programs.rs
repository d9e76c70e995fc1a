//! Programs of applications, built where they are missing and run by a user without privilege beside a gateway.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use latchway_netns::Namespace;

use crate::PATIENCE;
use crate::gateway::Gateway;

/// A user of no account.
const NOBODY: u32 = 65_534;
/// How it is said that there is none: not privileged, or not in the map of the user namespace.
const NO_USER: [ErrorKind; 2] = [ErrorKind::PermissionDenied, ErrorKind::InvalidInput];

/// Where a gateway answers applications.
pub fn app(gateway: &Gateway) -> PathBuf {
    gateway.control().with_file_name("app.sock")
}

/// Lets anybody enter the folder of a gateway, as that of a gateway is which made it itself.
pub fn open(gateway: &Gateway) {
    for folder in [gateway.folder(), gateway.folder().parent().unwrap()] {
        fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    }
}

/// A program that runs, with what it says.
pub struct Program {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Program {
    /// Runs a program of anybody's in a namespace, as a user without privilege, who asks this gateway. `None` where there is no
    /// other user.
    pub fn start(program: &Path, arguments: &[&str], at: &Namespace, gateway: &Gateway) -> Option<Self> {
        open(gateway);
        let folder = gateway.folder();
        let own = folder.join(format!("{}.run", program.file_stem().unwrap().to_str().unwrap()));
        fs::copy(program, &own).unwrap();
        fs::set_permissions(&own, Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new(&own);
        command.args(arguments).env("LATCHWAY_APP", app(gateway)).env("LD_LIBRARY_PATH", folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).current_dir("/").uid(NOBODY).gid(NOBODY);
        let mut child = loop {
            match at.run(|| command.spawn()).unwrap() {
                Ok(child) => break child,
                // Whoever forked while the copy was written has it open until it executes its own program.
                Err(busy) if busy.kind() == ErrorKind::ExecutableFileBusy => thread::yield_now(),
                Err(no_user) if NO_USER.contains(&no_user.kind()) => return None,
                Err(other) => panic!("{}: {other}", own.display()),
            }
        };
        let (tell, lines) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        thread::spawn(move || {
            for line in output.map_while(Result::ok) {
                // Nobody may want to hear any more.
                let _ = tell.send(line);
            }
        });
        Some(Self { child, lines, said: Vec::new() })
    }

    /// Waits for a line with these words in it.
    pub fn until(&mut self, words: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("it did not say {words:?}, but {:#?}", self.said));
            self.said.push(line.clone());
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Waits for its end, and returns all that it said.
    pub fn ended(mut self) -> (ExitStatus, Vec<String>) {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.said.push(line);
        }
        (self.child.wait().unwrap(), std::mem::take(&mut self.said))
    }

    /// The same of one that must succeed.
    pub fn succeeded(self) -> Vec<String> {
        let (status, said) = self.ended();
        assert!(status.success(), "{status}: {said:#?}");
        said
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program in C on the library, built for a gateway's folder, where the library then lies, too.
pub fn in_c(source: &str, gateway: &Gateway) -> PathBuf {
    linked(source, gateway, ["capi", "liblatchway.so", "liblatchway.so.0"])
}

/// The same on the library of PF_SHIM sockets.
pub fn in_c_with_shim(source: &str, gateway: &Gateway) -> PathBuf {
    linked(source, gateway, ["view", "liblatchway_shim.so", "liblatchway-shim.so.0"])
}

fn linked(source: &str, gateway: &Gateway, [package, library, name]: [&str; 3]) -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let library = deps().join(library);
    assert!(library.exists(), "{} is missing", library.display());
    let link = gateway.folder().join(name);
    fs::copy(&library, &link).unwrap();
    fs::set_permissions(&link, Permissions::from_mode(0o755)).unwrap();
    let name = Path::new(source).file_stem().unwrap().to_str().unwrap();
    let built = gateway.folder().join(format!("{name}.built"));
    let mut cc = Command::new("cc");
    cc.args(["-std=c11", "-D_GNU_SOURCE", "-O1", "-Wall", "-Wextra", "-Werror", "-I"]);
    cc.arg(here.join("ulp-shim").join(package).join("include")).arg("-o").arg(&built);
    cc.arg(here.join(source)).arg("-Wl,--no-as-needed").arg(&link);
    let output = cc.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    built
}

/// An example of this package, which a test of everything builds before.
pub fn example(name: &str) -> PathBuf {
    let built = deps().parent().unwrap().join("examples").join(name);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--package", "latchway", "--example", name]);
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = build.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    built
}

/// Where this test was built, and what it depends on.
fn deps() -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().to_owned()
}
