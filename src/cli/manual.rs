//! Shell completions and man pages, from the definition that parses the command line.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Command, ValueHint};
use clap_complete::Shell;

use crate::cli::failure::Failure;
use crate::cli::screen::Screen;

/// What `latchway man` is told.
#[derive(Debug, clap::Args)]
pub struct ManOptions {
    /// The folder to write one page for each verb to, made where it is missing. Without it, the page of the program
    /// itself goes to standard output.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out: Option<PathBuf>,
}

/// Writes what the shell must source to complete the command line.
///
/// # Errors
/// Where standard output fails.
pub fn completions(mut command: Command, shell: Shell) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "latchway", &mut script);
    Screen::take().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the man pages.
///
/// # Errors
/// Where standard output or the folder fails.
pub fn man(command: Command, options: &ManOptions) -> Result<ExitCode, Failure> {
    let Some(folder) = &options.out else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        Screen::take().write_all(&page)?;
        return Ok(ExitCode::SUCCESS);
    };
    pages(command, folder).map_err(|error| {
        let what = format!("cannot write man pages to {}: {error}", folder.display());
        Failure::new(what, "name a folder that you may write to")
    })?;
    Ok(ExitCode::SUCCESS)
}

fn pages(command: Command, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    clap_mangen::generate_to(command, folder)
}
