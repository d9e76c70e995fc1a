//! `latchway check`: all that is wrong with a configuration.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use clap::ValueHint;
use latchway_config::{Parsed, Problem, Report, Severity, parse_named, read_keys};
use serde::Serialize;

use crate::cli::ask::Form;
use crate::cli::failure::Failure;
use crate::cli::screen::Screen;
use crate::cli::table::printable;

/// What `latchway check` is told.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// The configuration.
    #[arg(value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// Do not look into the key files, which may be elsewhere.
    #[arg(long)]
    without_keys: bool,
    #[command(flatten)]
    form: Form,
}

/// What was found, as `--json` prints it.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Checked {
    /// The file, as it was named.
    file: String,
    /// Whether a gateway would start with it.
    usable: bool,
    /// Whether the key files were looked into: not before everything else is right.
    keys_read: bool,
    /// What is wrong or questionable, in the order of the file.
    problems: Vec<ProblemRow>,
}

/// One problem.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct ProblemRow {
    /// Its line, from 1.
    line: u64,
    /// Its column, from 1.
    column: u64,
    /// "error", which keeps a gateway from starting, or "warning".
    severity: &'static str,
    /// The key that it is about, with the keys above it; empty where it is about none.
    key: String,
    /// What is wrong.
    message: String,
    /// What to do; empty where that is plain.
    hint: String,
}

/// Checks a configuration. Exit code 1 says that no gateway would start with it.
///
/// # Errors
/// Where the file or standard output fails.
pub fn run(options: &Options) -> Result<ExitCode, Failure> {
    let checked = check(&options.file, !options.without_keys)?;
    let mut screen = Screen::take();
    if options.form.json {
        screen.json(&checked)?
    } else {
        read_out(&checked, &mut screen)?
    }
    Ok(if checked.usable { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check(path: &Path, keys: bool) -> Result<Checked, Failure> {
    let text = read(path).map_err(|error| {
        Failure::new(
            format!("cannot read {}: {error}", path.display()),
            "name a configuration that you may read",
        )
    })?;
    let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let mut checked =
        Checked { file: path.display().to_string(), usable: false, keys_read: false, problems: vec![] };
    match parse_named(&text, name) {
        Err(report) => checked.add(&report),
        Ok(Parsed { config, warnings }) => {
            checked.add(&warnings);
            checked.usable = true;
            if keys {
                checked.keys_read = true;
                let folder = path.parent().unwrap_or(Path::new(""));
                if let Err(report) = read_keys(&config, folder) {
                    checked.add(&report);
                    checked.usable = false;
                }
            }
        }
    }
    checked.problems.sort_by_key(|problem| (problem.line, problem.column));
    Ok(checked)
}

/// The text; of one that is too large, as much as shows that.
fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LARGEST).read_to_string(&mut text)?;
    Ok(text)
}

impl Checked {
    fn add(&mut self, report: &Report) {
        self.problems.extend(report.problems.iter().map(row));
    }

    fn count(&self, severity: Severity) -> usize {
        let name = word(severity);
        self.problems.iter().filter(|problem| problem.severity == name).count()
    }
}

fn row(problem: &Problem) -> ProblemRow {
    ProblemRow {
        line: problem.at.line as u64,
        column: problem.at.column as u64,
        severity: word(problem.severity),
        key: problem.key.clone(),
        message: problem.message.clone(),
        hint: problem.hint.clone(),
    }
}

const fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

/// Each problem in a form that editors jump to, then the sum.
fn read_out(checked: &Checked, out: &mut impl Write) -> io::Result<()> {
    let file = printable(&checked.file);
    for problem in &checked.problems {
        let ProblemRow { line, column, severity, key, message, hint } = problem;
        let colour = if *severity == word(Severity::Error) { AnsiColor::Red } else { AnsiColor::Yellow };
        let (strong, style) = (Style::new().bold(), colour.on_default().bold());
        let key = if key.is_empty() { String::new() } else { format!("{}: ", printable(key)) };
        writeln!(
            out,
            "{strong}{file}:{line}:{column}:{strong:#} {style}{severity}:{style:#} {key}{}",
            printable(message)
        )?;
        if !hint.is_empty() {
            writeln!(out, "    hint: {}", printable(hint))?;
        }
    }
    let of = |number: usize, what: &str| match number {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    };
    let sum = format!(
        "{file}: {}, {}",
        of(checked.count(Severity::Error), "error"),
        of(checked.count(Severity::Warning), "warning")
    );
    let keys = match (checked.usable, checked.keys_read) {
        (false, false) => "; the key files are looked into once all else is right",
        (true, false) => "; the key files were not looked into",
        (_, true) => "",
    };
    writeln!(out, "{sum}{keys}")
}

/// One octet more than a configuration may have.
const LARGEST: u64 = (1 << 20) + 1;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A folder of this test alone.
    struct Folder(PathBuf);

    impl Folder {
        fn make(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("latchway-check-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn shown(checked: &Checked) -> String {
        let mut out = anstream::StripStream::new(Vec::new());
        read_out(checked, &mut out).unwrap();
        String::from_utf8(out.into_inner()).unwrap()
    }

    const TUNNEL: &str = include_str!("../../examples/tunnel.toml");

    #[test]
    fn a_right_configuration_is_told_so_and_keys_are_looked_into() {
        let folder = Folder::make("right");
        let path = folder.write("branch.toml", TUNNEL);
        let checked = check(&path, false).unwrap();
        assert!(checked.usable, "{}", shown(&checked));
        assert!(shown(&checked).ends_with("no errors, no warnings; the key files were not looked into\n"));
        let checked = check(&path, true).unwrap();
        assert!(
            !checked.usable && checked.count(Severity::Error) == 2,
            "both key files are missing: {checked:?}"
        );
    }

    #[test]
    fn every_problem_is_shown_with_its_place_and_a_hint() {
        let folder = Folder::make("wrong");
        let path = folder
            .write("branch.toml", &TUNNEL.replace("identity =", "idntity =").replace("10.1.0", "10.999.0"));
        let checked = check(&path, true).unwrap();
        let text = shown(&checked);
        assert!(!checked.usable && checked.problems.len() >= 2, "{text}");
        assert!(text.contains("branch.toml:") && text.contains("error:") && text.contains("hint:"), "{text}");
        assert!(text.contains("once all else is right"), "{text}");
        let places: Vec<_> = checked.problems.iter().map(|problem| (problem.line, problem.column)).collect();
        assert!(places.is_sorted(), "{text}");
    }

    #[test]
    fn files_that_cannot_be_read_are_a_failure() {
        let folder = Folder::make("unreadable");
        assert!(format!("{:?}", check(&folder.0, true).unwrap_err()).contains("cannot read"));
        assert!(check(&folder.0.join("missing"), true).is_err());
        fs::write(folder.0.join("binary"), b"\xff\xfe").unwrap();
        assert!(check(&folder.0.join("binary"), true).is_err());
    }

    /// T40: what is wrong with a key is told without the key.
    #[test]
    fn t40_a_key_in_a_wrong_place_is_not_shown() {
        let folder = Folder::make("keys");
        let key = "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00";
        let text = TUNNEL.replace("in.key", key);
        assert!(text.contains(key));
        let path = folder.write("branch.toml", &text);
        let checked = check(&path, true).unwrap();
        let json = serde_json::to_string(&checked).unwrap();
        assert!(!checked.usable && !json.contains("c0ffee") && !shown(&checked).contains("c0ffee"), "{json}");
    }

    /// docs/schema/check.json is what `--json` prints. To make it again: `REGENERATE=1 cargo test -p latchway schema`.
    #[test]
    fn the_committed_schema_is_that_of_the_type() {
        let schema = schemars::generate::SchemaSettings::draft2020_12().for_serialize().into_generator();
        let text = serde_json::to_string_pretty(&schema.into_root_schema_for::<Checked>()).unwrap() + "\n";
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema/check.json");
        if std::env::var_os("REGENERATE").is_some() {
            fs::write(&path, &text).unwrap();
        }
        assert_eq!(
            fs::read_to_string(&path).unwrap_or_default(),
            text,
            "run `REGENERATE=1 cargo test -p latchway schema`"
        );
    }
}
