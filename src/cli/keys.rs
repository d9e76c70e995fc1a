//! `latchway keys`: keys of SAs, for who dissects captures. The one verb that prints keys, and only when it is told for whom.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use latchway_control::{KeyedSa, ShowKeys};
use latchway_esp::{Protocol, Suite};

use crate::cli::ask::connect;
use crate::cli::failure::Failure;
use crate::cli::screen::Screen;

#[derive(Debug, Subcommand)]
pub enum KeysVerb {
    /// Print the keys of all SAs of a running gateway, in the form that a dissector reads. The gateway logs that somebody asked.
    Export(ExportOptions),
}

/// What `latchway keys export` is told.
#[derive(Debug, Args)]
pub struct ExportOptions {
    /// As the table `esp_sa` of Wireshark and tshark: save it as `esp_sa` in the folder of their configuration.
    #[arg(long, required = true)]
    wireshark: bool,
}

/// Prints the keys.
///
/// # Errors
/// [`Failure`]
pub fn run(control: Option<&Path>, verb: &KeysVerb) -> Result<ExitCode, Failure> {
    let KeysVerb::Export(ExportOptions { wireshark: _ }) = verb;
    let shown = connect(control)?.call(&ShowKeys {})?;
    let mut screen = Screen::take();
    for sa in &shown.sas {
        screen.line(&row(sa))?;
    }
    screen.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// A row of `esp_sa`, behind a comment where there is something to know of it.
fn row(sa: &KeyedSa) -> String {
    let KeyedSa { source, destination, spi, suite, esn, encryption, integrity, .. } = sa;
    let names = suite.parse().ok().and_then(names);
    let Some((cipher, authentication)) = names else {
        return format!("# {source} > {destination} SPI 0x{spi:08x}: Wireshark has no {suite}");
    };
    let family = if source.is_ipv4() { "IPv4" } else { "IPv6" };
    let key = |hexadecimal: &str| {
        if hexadecimal.is_empty() { String::new() } else { format!("0x{hexadecimal}") }
    };
    let (encryption, integrity) = (key(encryption.expose()), key(integrity.expose()));
    let row = format!(
        "\"{family}\",\"{source}\",\"{destination}\",\"0x{spi:08x}\",\"{cipher}\",\"{encryption}\",\"{authentication}\",\"{integrity}\""
    );
    if *esn {
        return format!("# The next has extended sequence numbers: its ICV cannot be checked so.\n{row}");
    }
    row
}

/// The names of a suite's algorithms in Wireshark, by their numbers in IANA's registry.
fn names(suite: Suite) -> Option<(&'static str, &'static str)> {
    if suite.protocol() != Protocol::Esp {
        return None;
    }
    let cipher = match suite.encryption_transform()?.0 {
        11 => "NULL",
        12 => "AES-CBC [RFC3602]",
        13 => "AES-CTR [RFC3686]",
        18 => "AES-GCM with 8 octet ICV [RFC4106]",
        19 => "AES-GCM with 12 octet ICV [RFC4106]",
        20 => "AES-GCM with 16 octet ICV [RFC4106]",
        28 => "ChaCha20 with Poly1305 [RFC7634]",
        _ => return None,
    };
    let authentication = match suite.integrity_transform() {
        None => "NULL",
        Some((2, _)) => "HMAC-SHA-1-96 [RFC2404]",
        Some((8, _)) => "ANY 96 bit authentication [no checking]",
        Some((12, _)) => "HMAC-SHA-256-128 [RFC4868]",
        Some((13, _)) => "HMAC-SHA-384-192 [RFC4868]",
        Some((14, _)) => "HMAC-SHA-512-256 [RFC4868]",
        Some((1027, _)) => "HMAC-SHA-256-96 [draft-ietf-ipsec-ciph-sha-256-00]",
        Some(_) => return None,
    };
    Some((cipher, authentication))
}

#[cfg(test)]
mod tests {
    use latchway_control::Secret;

    use super::*;

    fn sa(suite: &str, encryption: &str, integrity: &str) -> KeyedSa {
        KeyedSa {
            protocol: "esp".into(),
            source: "192.0.2.1".parse().unwrap(),
            destination: "192.0.2.2".parse().unwrap(),
            spi: 0x1001,
            suite: suite.into(),
            esn: false,
            encryption: Secret::new(encryption.into()),
            integrity: Secret::new(integrity.into()),
        }
    }

    #[test]
    fn a_row_is_what_wireshark_reads() {
        assert_eq!(
            row(&sa("aes-128-gcm", "00112233", "")),
            "\"IPv4\",\"192.0.2.1\",\"192.0.2.2\",\"0x00001001\",\"AES-GCM with 16 octet ICV [RFC4106]\",\"0x00112233\",\"NULL\",\"\""
        );
        let separate = row(&sa("aes-256-cbc-hmac-sha-256", "aa", "bb"));
        assert!(
            separate.ends_with("\"AES-CBC [RFC3602]\",\"0xaa\",\"HMAC-SHA-256-128 [RFC4868]\",\"0xbb\""),
            "{separate}"
        );
        assert!(row(&sa("ah-hmac-sha-256", "", "bb")).starts_with("# "));
        let extended = row(&KeyedSa { esn: true, ..sa("aes-128-gcm", "00", "") });
        assert!(extended.starts_with("# ") && extended.lines().count() == 2, "{extended}");
    }

    /// Every suite has a row or says that it has none; none shows a key in a comment.
    #[test]
    fn t40_suites_without_a_row_show_no_key() {
        for suite in Suite::all() {
            let row = row(&sa(suite.name(), "c0ffee", "c0ffee"));
            assert!(row.starts_with('"') || !row.contains("c0ffee"), "{row}");
        }
    }
}
