//! The manual's chapter on the configuration, and the commented example: both are made from the reference alone, so that
//! neither says what is not so.

use std::fmt::Write;

use crate::reference::{
    Change, Key, TABLES, Table, ah, direction, flows, icmp, latches, lifetime, namespace, peer, policy,
    probe, root, sa, selector, tun,
};

/// Every key, as Markdown: `docs/configuration.md`.
#[must_use]
pub fn manual() -> String {
    let mut text = INTRODUCTION.to_owned();
    for table in TABLES {
        let heading = if table.path.is_empty() && !table.heading.contains('=') {
            table.heading.to_owned()
        } else {
            format!("`{}`", table.heading)
        };
        let _ = write!(text, "\n## {heading}\n\n{}\n", table.meaning);
        for key in table.keys {
            let default = match key.default {
                None => "It must be there.".to_owned(),
                Some(default) => format!("Default: {}.", in_code(default)),
            };
            let change = if key.change == Change::Restart { " A change takes a restart." } else { "" };
            let _ = write!(text, "\n**`{}`** takes {}. {default}{change}\n", key.name, key.shape);
            let _ = writeln!(text, "{}", key.meaning);
            if !key.example.is_empty() {
                let _ = write!(text, "\n    {} = {}\n", key.name, key.example);
            }
        }
    }
    text.push_str(CONCLUSION);
    text
}

/// Every key with what it means, in a file that can be used: `examples/gateway.toml`.
#[must_use]
pub fn example() -> String {
    let mut text = EXAMPLE_HEAD.to_owned();
    table(
        &mut text,
        &root::TABLE,
        &[&root::IDENTITY, &root::INNER, &root::ADDRESSES, &root::LISTEN, &root::STATE],
    );
    heading(&mut text, &tun::TABLE);
    table(&mut text, &tun::TABLE, &[]);
    heading(&mut text, &latches::TABLE);
    table(&mut text, &latches::TABLE, &[]);
    heading(&mut text, &peer::TABLE);
    table(&mut text, &peer::TABLE, &[&peer::IDENTITY, &peer::ENDPOINT, &peer::INNER]);
    heading(&mut text, &sa::TABLE);
    table(&mut text, &sa::TABLE, &[&sa::SUITE, &sa::INBOUND, &sa::OUTBOUND]);
    heading(&mut text, &policy::TABLE);
    table(&mut text, &policy::TABLE, &[&policy::ACTION, &policy::PEER]);
    text
}

fn heading(text: &mut String, table: &Table) {
    text.push('\n');
    comment(text, table.meaning);
    let _ = writeln!(text, "{}", table.heading);
}

/// The keys of a table, those of `used` as they are, the others behind a comment sign.
fn table(text: &mut String, table: &Table, used: &[&Key]) {
    for key in table.keys.iter().filter(|key| !key.example.is_empty()) {
        text.push('\n');
        comment(text, key.meaning);
        if let Some(inner) = table_within(table, key) {
            for key in inner.keys {
                comment(text, &format!("{}: {}", key.name, key.meaning));
            }
        }
        match key.default {
            None => comment(text, "Must be there."),
            Some(default) => comment(text, &format!("Default: {}.", default)),
        }
        let sign = if used.iter().any(|used| std::ptr::eq(*used, *key)) { "" } else { "#" };
        let _ = writeln!(text, "{sign}{} = {}", key.name, key.example);
    }
}

/// The table that the example writes within a line, where it is first met.
fn table_within(table: &Table, key: &Key) -> Option<&'static Table> {
    let is = |of: &Table, wanted: &Key| std::ptr::eq(table, of) && std::ptr::eq(key, wanted);
    if is(&root::TABLE, &root::INNER) {
        Some(&namespace::TABLE)
    } else if is(&sa::TABLE, &sa::INBOUND) {
        Some(&direction::TABLE)
    } else if is(&sa::TABLE, &sa::AH) {
        Some(&ah::TABLE)
    } else if is(&sa::TABLE, &sa::PROBE) {
        Some(&probe::TABLE)
    } else if is(&policy::TABLE, &flows::ICMP) {
        Some(&icmp::TABLE)
    } else if is(&sa::TABLE, &sa::SELECTORS) {
        Some(&selector::TABLE)
    } else if is(&sa::TABLE, &sa::SOFT) {
        Some(&lifetime::TABLE)
    } else {
        None
    }
}

/// Text as comment lines that fit a screen.
fn comment(text: &mut String, words: &str) {
    let mut column = 0;
    for word in words.split(' ') {
        if column > 0 && column + word.chars().count() >= WIDTH {
            text.push('\n');
            column = 0;
        }
        let lead = if column == 0 { "# " } else { " " };
        text.push_str(lead);
        text.push_str(word);
        column += lead.len() + word.chars().count();
    }
    text.push('\n');
}

/// A default as Markdown: what is a value of TOML is code.
fn in_code(default: &str) -> String {
    let is_value = default.starts_with('"') || matches!(default, "true" | "false");
    if is_value || default.parse::<u32>().is_ok() { format!("`{default}`") } else { default.to_owned() }
}

const WIDTH: usize = 100;

const EXAMPLE_HEAD: &str = "\
# A gateway's configuration, with every key there is. What is behind a `#` without a space is not needed; it shows what
# could be there. Check it with `latchway check FILE`, which changes nothing.
";

const INTRODUCTION: &str = "\
<!-- Made from the reference in config/src/reference.rs: LATCHWAY_REGENERATE=1 cargo test -p latchway-config -->

# The configuration file

`latchway run --config FILE` runs a gateway; `latchway check FILE` says everything that is wrong with a file, with line, column and
what to do, and touches nothing. The file is [TOML](https://toml.io). A tunnel takes ten lines:

```toml
identity = \"a.example\"
inner = \"branch\"
addresses = [\"10.1.0.1/24\"]
listen = [\"192.0.2.1:4500\"]
state = \"/var/lib/latchway/branch\"

[[peer]]
identity = \"b.example\"
endpoint = \"192.0.2.2:4500\"
inner = [\"10.2.0.0/24\"]
sa = { inbound = { spi = 0x1001, key_file = \"in.key\" }, outbound = { spi = 0x1002, key_file = \"out.key\" } }
```

More of them are in [examples](../examples): [every key with what it means](../examples/gateway.toml), [a
tunnel](../examples/tunnel.toml), [one namespace](../examples/host.toml), [a container](../examples/container.toml), [traffic in the
clear](../examples/bypass.toml).

Paths are relative to the folder of the file. Keys are never in it: `key_file` names a file that holds one in hexadecimal. For
the default suite, whose two keys have 32 octets each, it is made by

    umask 077; openssl rand -hex 64 > in.key

and is `out.key` of the other end. It must be a regular file, owned by the gateway's user or by root, that nobody else may read. A
key serves one direction of one SA; one that is used twice is refused.

| Suite | Octets of key material |
|---|---|
| `aes-128-cbc-hmac-sha-256` | 48: 16 for AES, then 32 for HMAC |
| `aes-256-cbc-hmac-sha-256` | 64: 32 for AES, then 32 for HMAC |
| `aes-128-gcm` | 20: 16 of key, then 4 of salt |
| `aes-256-gcm` | 36: 32 of key, then 4 of salt |
| `chacha20-poly1305` | 36: 32 of key, then 4 of salt |
";

const CONCLUSION: &str = "
## What is refused

A file is used as a whole or not at all, and what it says holds together once it is taken: no SPI is reserved or another's, no inner
address is two peers' (unless both are shared) or a peer's and our own, no peer is spoken of by two entries, no key serves twice, every endpoint can be reached from a `listen` address, every
policy decides something, every SA has a policy that protects its flows. Keys that do not exist are refused, with the name that was
perhaps meant. Warnings keep nothing from being used: a peer that no policy protects, a policy that protects what no peer may claim,
SAs without `state`.

A file has 1 MiB at most, a peer 64 pairs of SAs, a selector 256 combinations of its ranges.
";

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use latchway_esp::Suite;

    use super::*;

    /// The file in the repository, made anew where that is asked for.
    fn committed(name: &str, made: &str) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
        if std::env::var_os("LATCHWAY_REGENERATE").is_some() {
            fs::write(&file, made).unwrap();
        }
        let held = fs::read_to_string(&file).unwrap_or_default();
        assert!(
            held == made,
            "{name} is not what the reference makes: LATCHWAY_REGENERATE=1 cargo test -p latchway-config"
        );
    }

    #[test]
    fn the_manual_is_made_from_the_reference() {
        committed("docs/configuration.md", &manual());
    }

    #[test]
    fn the_example_is_made_from_the_reference() {
        committed("examples/gateway.toml", &example());
    }

    /// The manual's table of key lengths, which no type makes.
    #[test]
    fn the_manual_knows_how_long_keys_are() {
        for suite in Suite::RECOMMENDED {
            let row = format!("| `{suite}` | {}: ", suite.key_len() + suite.salt_len());
            assert!(manual().contains(&row), "{row}");
        }
    }

    /// Each key has a line of its own in the example, or is named in a comment on the table that it is in.
    #[test]
    fn the_example_has_every_key() {
        let text = example();
        for key in TABLES.iter().flat_map(|table| table.keys) {
            let ways =
                [format!("\n{} = ", key.name), format!("\n#{} = ", key.name), format!("\n# {}: ", key.name)];
            let tables = [format!("[{}]", key.name), format!(".{}]", key.name)];
            assert!(ways.iter().chain(&tables).any(|way| text.contains(way)), "{}", key.name);
        }
    }
}
