//! What is required of sockets, on record: it must hold for a socket's next packet after the gateway was started anew, before
//! any application notices that it was.
//!
//! Lines of JSON, appended to before a call is answered. They need to outlive the process alone: with the system all sockets
//! end, and their numbers mean others after that, so the record of another run of the system says nothing. No key is in it.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use latchway_control::app::Require;
use latchway_ulp_shim::Cookie;
use serde::{Deserialize, Serialize};

/// The record of one gateway.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    run: String,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    file: File,
    /// The lines that hold.
    live: HashMap<Number, Recorded>,
    /// How many lines the file has.
    lines: usize,
}

/// What is required of one socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// Which socket it is.
    pub socket: Number,
    /// Whose requirement it is.
    pub user: u32,
    /// The number of the socket's upper-layer protocol.
    pub protocol: u8,
    /// Its own port, where it had one.
    pub port: Option<u16>,
    /// Whether it may share that.
    pub shares: bool,
    /// What is required.
    pub call: Require,
}

/// The number of this run of the system, read once: before the gateway gives up the files that it needs no more.
///
/// # Errors
/// The system does not say.
pub fn run_of_system() -> io::Result<String> {
    static RUN: OnceLock<String> = OnceLock::new();
    if let Some(run) = RUN.get() {
        return Ok(run.clone());
    }
    let read = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(RUN.get_or_init(|| read.trim().to_owned()).clone())
}

/// The numbers of a socket and of its network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Number {
    space: u64,
    socket: u64,
}

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    /// The first: of which run of the system it is.
    Run(String),
    Require(Recorded),
    Forget(Number),
}

impl Record {
    /// The record beside a socket of this path, and what is on it of these namespaces and of this run of the system; a new
    /// one where there is none.
    ///
    /// # Errors
    /// It cannot be read, or is not as this writes it. Whoever forgot what is required would let pass what must not.
    pub fn open(
        socket: &Path,
        run: String,
        spaces: impl Fn(u64) -> bool,
    ) -> io::Result<(Self, Vec<Recorded>)> {
        let path = socket.with_extension("requirements");
        let file = opening().open(&path)?;
        check(&file, &path)?;
        let live: HashMap<_, _> =
            read(&file, &run)?.into_iter().filter(|(number, _)| spaces(number.space)).collect();
        let all = live.values().cloned().collect();
        Ok((Self { path, run, kept: Mutex::new(Kept { file, live, lines: UNKNOWN }) }, all))
    }

    /// Sees that nothing is on record beside a socket of this path, of this run of the system: for a gateway that serves no
    /// applications, and so holds nobody to anything.
    ///
    /// # Errors
    /// Something is, or it cannot be read.
    pub fn refuse(socket: &Path) -> io::Result<()> {
        let path = socket.with_extension("requirements");
        let file = match OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        match read(&file, &run_of_system()?)?.len() {
            0 => Ok(()),
            count => Err(bad(format!(
                "something is required of {count} sockets, and nothing of it would be held without applications being served; \
                 delete {} while no program depends on it",
                path.display()
            ))),
        }
    }

    /// Puts on record what is required of a socket, in place of what was, which is returned.
    ///
    /// # Errors
    /// It is not on record then.
    pub fn note(&self, recorded: &Recorded) -> io::Result<Option<Recorded>> {
        let mut kept = self.lock();
        let before = kept.live.insert(recorded.socket, recorded.clone());
        let Err(error) = self.write(&mut kept, &Line::Require(recorded.clone())) else { return Ok(before) };
        match before {
            Some(before) => kept.live.insert(before.socket, before),
            None => kept.live.remove(&recorded.socket),
        };
        Err(error)
    }

    /// Takes a socket off the record.
    ///
    /// # Errors
    /// It may be on record yet, which holds nobody to anything once the socket is gone.
    pub fn forget(&self, socket: Number) -> io::Result<()> {
        let mut kept = self.lock();
        if kept.live.remove(&socket).is_none() {
            return Ok(());
        }
        self.write(&mut kept, &Line::Forget(socket))
    }

    /// Appends a line, or writes all that holds anew where most lines hold no more.
    fn write(&self, kept: &mut Kept, line: &Line) -> io::Result<()> {
        if kept.lines > kept.live.len() * 2 + STALE {
            // The change is among it.
            return self.write_anew(kept);
        }
        // In one call, so that there is a whole line or none that ends.
        let written = kept.file.write_all(&text(line)?);
        // What was written of a line that has no end would spoil the next.
        kept.lines = if written.is_ok() { kept.lines + 1 } else { UNKNOWN };
        written
    }

    fn write_anew(&self, kept: &mut Kept) -> io::Result<()> {
        let beside = self.path.with_extension("requirements.new");
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = opening().create_new(true).open(&beside)?;
        let mut octets = text(&Line::Run(self.run.clone()))?;
        for recorded in kept.live.values() {
            octets.extend(text(&Line::Require(recorded.clone()))?);
        }
        file.write_all(&octets)?;
        fs::rename(&beside, &self.path)?;
        (kept.file, kept.lines) = (file, kept.live.len() + 1);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Cookie> for Number {
    fn from(Cookie { space, socket }: Cookie) -> Self {
        Self { space, socket }
    }
}

impl From<Number> for Cookie {
    fn from(Number { space, socket }: Number) -> Self {
        Self { space, socket }
    }
}

fn opening() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
    options
}

/// Nobody but root, the gateway and whom its folder belongs to may have written it.
fn check(file: &File, path: &Path) -> io::Result<()> {
    let found = file.metadata()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let own = [0, nix::unistd::geteuid().as_raw(), fs::metadata(folder)?.uid()];
    if found.is_file() && own.contains(&found.uid()) && found.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(bad(format!("others can write it; delete {} while no application runs", path.display())))
}

/// What the lines come to.
fn read(file: &File, run: &str) -> io::Result<HashMap<Number, Recorded>> {
    let (mut live, mut lines, mut is_of_run) = (HashMap::new(), 0_usize, false);
    let mut reader = BufReader::new(file);
    let mut octets = Vec::new();
    loop {
        octets.clear();
        reader.read_until(b'\n', &mut octets)?;
        // The last line of a process that ended while it wrote: nobody was answered.
        let Some(line) = octets.strip_suffix(b"\n") else { return Ok(live) };
        lines += 1;
        let line = serde_json::from_slice(line).map_err(|error| bad(format!("line {lines}: {error}")))?;
        match line {
            Line::Run(of) => is_of_run = of == run,
            // Of another run of the system, in which there were other sockets.
            _ if !is_of_run => {}
            Line::Require(recorded) => {
                live.insert(recorded.socket, recorded);
            }
            Line::Forget(number) => {
                live.remove(&number);
            }
        }
    }
}

fn text(line: &Line) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    Ok(text)
}

fn bad(what: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// As many lines as make all be written anew: with the first change, and not before, for another gateway may turn out to
/// have the record.
const UNKNOWN: usize = usize::MAX;

/// Lines that may hold no more before all is written anew.
const STALE: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(socket: u64, peer: &str) -> Recorded {
        let mut call = Require::default();
        call.requirement.peer = Some(peer.into());
        let socket = Number { space: 1, socket };
        Recorded { socket, user: 1000, protocol: 6, port: None, shares: false, call }
    }

    /// A folder of a test, which goes with it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("latchway-record-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self) -> PathBuf {
            self.0.join("app.requirements")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn open(folder: &Folder, run: &str) -> io::Result<(Record, Vec<Recorded>)> {
        let (record, mut all) = Record::open(&folder.0.join("app.sock"), run.into(), |space| space == 1)?;
        all.sort_by_key(|recorded| recorded.socket.socket);
        Ok((record, all))
    }

    /// What is required is on record until it is forgotten, whatever becomes of the process.
    #[test]
    fn l_33_what_is_required_outlives_the_process() {
        let folder = Folder::new("outlives");
        let (record, none) = open(&folder, "one").unwrap();
        assert_eq!(none, []);
        for socket in [1, 2, 3] {
            record.note(&recorded(socket, "a.example")).unwrap();
        }
        record.note(&recorded(2, "b.example")).unwrap();
        record.forget(recorded(3, "").socket).unwrap();
        record.forget(recorded(9, "").socket).unwrap();
        let expected = [recorded(1, "a.example"), recorded(2, "b.example")];
        // Killed here: nothing was closed or written out.
        let (again, all) = open(&folder, "one").unwrap();
        assert_eq!(all, expected);
        again.forget(recorded(1, "").socket).unwrap();
        assert_eq!(open(&folder, "one").unwrap().1, expected[1..]);
        assert_eq!(open(&folder, "two").unwrap().1, [], "other sockets have these numbers");
        drop(record);
    }

    /// L-33: a gateway that serves no applications does not go on without what is on record.
    #[test]
    fn l_33_what_is_on_record_is_not_gone_without() {
        let (folder, run) = (Folder::new("refused"), run_of_system().unwrap());
        let refuse = || Record::refuse(&folder.0.join("app.sock"));
        refuse().unwrap();
        let (record, _) = open(&folder, &run).unwrap();
        refuse().unwrap();
        record.note(&recorded(1, "a.example")).unwrap();
        assert!(refuse().unwrap_err().to_string().contains("required of 1 sockets"));
        record.forget(recorded(1, "").socket).unwrap();
        refuse().unwrap();
        let (other, _) = open(&folder, "another run").unwrap();
        other.note(&recorded(2, "a.example")).unwrap();
        refuse().unwrap();
        fs::write(folder.file(), "nonsense\n").unwrap();
        assert!(refuse().is_err());
    }

    /// What a write broke off does not spoil what is written next.
    #[test]
    fn a_line_without_end_is_not_gone_on_with() {
        let folder = Folder::new("short");
        let (record, _) = open(&folder, "one").unwrap();
        record.note(&recorded(1, "a.example")).unwrap();
        let path = folder.file();
        {
            // As on a full disk: some octets of a line are there, and no more can be written.
            let mut kept = record.lock();
            kept.file.write_all(b"{\"requ").unwrap();
            kept.file = File::open(&path).unwrap();
        }
        assert!(record.note(&recorded(2, "a.example")).is_err());
        record.note(&recorded(3, "a.example")).unwrap();
        assert_eq!(open(&folder, "one").unwrap().1, [recorded(1, "a.example"), recorded(3, "a.example")]);
    }

    #[test]
    fn the_record_stays_as_long_as_what_is_on_it() {
        let folder = Folder::new("stays");
        let (record, _) = open(&folder, "one").unwrap();
        record.note(&recorded(1, "a.example")).unwrap();
        for socket in 2..10_000 {
            record.note(&recorded(socket, "a.example")).unwrap();
            record.forget(recorded(socket, "").socket).unwrap();
        }
        let path = folder.file();
        assert!(fs::read_to_string(&path).unwrap().lines().count() < 2 * STALE);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(open(&folder, "one").unwrap().1, [recorded(1, "a.example")]);
    }

    /// T40: one that cannot be understood is not taken for an empty one; one that ends in the middle of a line is as it was before.
    #[test]
    fn t40_a_damaged_record_is_refused() {
        let folder = Folder::new("damaged");
        let path = folder.file();
        open(&folder, "one").unwrap().0.note(&recorded(1, "a.example")).unwrap();
        let whole = fs::read_to_string(&path).unwrap();
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            let all = open(&folder, "one").unwrap().1;
            assert_eq!(all, [], "{len}");
        }
        fs::write(&path, format!("{whole}nonsense\n")).unwrap();
        assert!(open(&folder, "one").unwrap_err().to_string().contains("line 3"));
        fs::write(&path, &whole).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        assert!(open(&folder, "one").unwrap_err().to_string().contains("others can write"));
    }
}
