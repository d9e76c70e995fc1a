//! Distinguished names as text (RFC 4514), in one spelling each, so that equal names are equal strings.

use std::fmt::Write;

/// The one spelling of a distinguished name: types in capitals or dotted decimal, nothing escaped that need not be but
/// `=`, no spaces around separators, the types of an element in their order. The octets of values count as they are.
/// `None` where it is none, or holds control characters, which no honest name does.
pub(crate) fn canonical(text: &str) -> Option<String> {
    if text.len() > LONGEST {
        return None;
    }
    let mut reader = Reader { rest: text };
    let mut name = String::with_capacity(text.len());
    loop {
        let mut element = vec![reader.attribute()?];
        while reader.skip('+') {
            element.push(reader.attribute()?);
        }
        element.sort_unstable();
        name.push_str(&element.join("+"));
        if reader.rest.is_empty() {
            return Some(name);
        }
        reader.skip(',').then(|| name.push(','))?;
    }
}

/// The names that a canonical name lies below, nearest first.
pub(crate) fn parents(name: &str) -> impl Iterator<Item = &str> {
    // A `=` within a value is escaped, so that what begins a type follows a separator; a comma within one is escaped, too.
    let separates = |(at, _): &(usize, &str)| !escaped(name, *at);
    name.match_indices(',').filter(separates).filter_map(|(at, _)| name.get(at + 1..))
}

/// Whether a backslash stands for the character at `at`. Canonical text has a backslash before every one that is meant.
fn escaped(name: &str, at: usize) -> bool {
    let before = name.get(..at).unwrap_or_default();
    (before.len() - before.trim_end_matches('\\').len()) % 2 == 1
}

struct Reader<'t> {
    rest: &'t str,
}

impl Reader<'_> {
    /// A type and its value.
    fn attribute(&mut self) -> Option<String> {
        let (kind, rest) = self.rest.split_once('=')?;
        self.rest = rest.trim_start_matches(' ');
        let kind = kind_of(kind.trim_matches(' '))?;
        let value = if self.rest.starts_with('#') { self.octets()? } else { self.string()? };
        Some(format!("{kind}={value}"))
    }

    /// A value in BER, written in hexadecimal.
    fn octets(&mut self) -> Option<String> {
        let end = self.rest.find([',', '+']).unwrap_or(self.rest.len());
        let (value, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        let digits = value.trim_end_matches(' ').strip_prefix('#')?;
        let fits = !digits.is_empty() && digits.len() % 2 == 0;
        let fits = fits && digits.chars().all(|digit| digit.is_ascii_hexdigit());
        fits.then(|| format!("#{}", digits.to_ascii_lowercase()))
    }

    /// A value that is a string, spelt anew.
    fn string(&mut self) -> Option<String> {
        let mut octets = Vec::new();
        // Spaces at the end that nothing escapes do not count.
        let mut meant = 0;
        while let Some(character) = self.rest.chars().next() {
            if matches!(character, ',' | '+') {
                break;
            }
            self.rest = self.rest.get(character.len_utf8()..)?;
            match character {
                '\\' => {
                    octets.extend(self.escape()?);
                    meant = octets.len();
                }
                ' ' => octets.push(b' '),
                '"' | ';' | '<' | '>' => return None,
                _ => {
                    octets.extend(character.encode_utf8(&mut [0; 4]).bytes());
                    meant = octets.len();
                }
            }
        }
        octets.truncate(meant);
        let value = String::from_utf8(octets).ok()?;
        let fits = !value.is_empty() && !value.chars().any(char::is_control);
        fits.then(|| spelt(&value))
    }

    /// What stands behind a backslash: a character that has a meaning, or an octet in hexadecimal.
    fn escape(&mut self) -> Option<Vec<u8>> {
        if let Some(octet) = self.rest.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            self.rest = self.rest.get(2..)?;
            return Some(vec![octet]);
        }
        let special = self.rest.chars().next().filter(|&c| SPECIAL.contains(c) || c == ' ' || c == '#')?;
        self.rest = self.rest.get(1..)?;
        Some(vec![u8::try_from(special).ok()?])
    }

    fn skip(&mut self, separator: char) -> bool {
        match self.rest.strip_prefix(separator) {
            Some(rest) => {
                self.rest = rest.trim_start_matches(' ');
                true
            }
            None => false,
        }
    }
}

/// The spelling of a type: the short name where RFC 4514 section 3 or RFC 5280 have one.
fn kind_of(text: &str) -> Option<String> {
    let known = |(short, long, oid): &&(&str, &str, &str)| {
        [short, long].iter().any(|name| name.eq_ignore_ascii_case(text)) || *oid == text
    };
    if let Some((short, ..)) = KINDS.iter().find(known) {
        return Some((*short).to_owned());
    }
    let number = |arc: &str| !arc.is_empty() && arc.chars().all(|digit| digit.is_ascii_digit());
    let dotted = text.contains('.') && text.split('.').all(number);
    let name = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let name = name && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    (dotted || name).then(|| text.to_ascii_uppercase())
}

fn spelt(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (place, character) in value.chars().enumerate() {
        let at_end = character == ' ' && (place == 0 || place == last);
        if SPECIAL.contains(character) || at_end || (character == '#' && place == 0) {
            text.push('\\');
        }
        let _ = text.write_char(character);
    }
    text
}

/// What has a meaning within a name wherever it stands.
const SPECIAL: &str = "\"+,;<=>\\";
/// Of a name, in octets. Nobody's is that long.
const LONGEST: usize = 4096;
/// Short name, long name and number of a type.
const KINDS: [(&str, &str, &str); 13] = [
    ("CN", "commonName", "2.5.4.3"),
    ("SN", "surname", "2.5.4.4"),
    ("SERIALNUMBER", "serialNumber", "2.5.4.5"),
    ("C", "countryName", "2.5.4.6"),
    ("L", "localityName", "2.5.4.7"),
    ("ST", "stateOrProvinceName", "2.5.4.8"),
    ("STREET", "streetAddress", "2.5.4.9"),
    ("O", "organizationName", "2.5.4.10"),
    ("OU", "organizationalUnitName", "2.5.4.11"),
    ("GN", "givenName", "2.5.4.42"),
    ("UID", "userId", "0.9.2342.19200300.100.1.1"),
    ("DC", "domainComponent", "0.9.2342.19200300.100.1.25"),
    ("EMAILADDRESS", "emailAddress", "1.2.840.113549.1.9.1"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_4514_one_name_has_one_spelling() {
        for (spellings, name) in [
            (&["CN=a,O=b", "cn=a, o = b", "2.5.4.3=a,organizationName=b", "CN=\\61,O=b "][..], "CN=a,O=b"),
            (&["OU=x+CN=y", "CN=y + OU=x"], "CN=y+OU=x"),
            (&["CN=a\\,b", "CN=a\\2cb", "CN=a\\2Cb"], "CN=a\\,b"),
            (&["CN=\\ a\\ ", "CN=\\20a\\20"], "CN=\\ a\\ "),
            (&["CN=x\\=y", "CN=x=y"], "CN=x\\=y"),
            (&["1.3.6.1.4=#04024869", "1.3.6.1.4=#04024869 "], "1.3.6.1.4=#04024869"),
            (&["CN=\u{e4}", "CN=\\c3\\a4"], "CN=\u{e4}"),
            (&["CN=\\#x"], "CN=\\#x"),
        ] {
            for spelling in spellings {
                assert_eq!(canonical(spelling).as_deref(), Some(name), "{spelling}");
            }
            assert_eq!(canonical(name).as_deref(), Some(name));
        }
    }

    #[test]
    fn rfc_4514_what_is_no_name_is_none() {
        let long = format!("CN={}", "a".repeat(LONGEST));
        let wrong = [
            "",
            "CN",
            "=a",
            "CN=",
            "CN=a,",
            "CN=a,,O=b",
            ",CN=a",
            "CN=a+",
            "CN=a;O=b",
            "CN=\"a\"",
            "C N=a",
            "CN=a\\",
            "CN=a\\g",
            "CN=a\\00b",
            "CN=a\0b",
            "CN=\\ff",
            "CN=#",
            "CN=#0",
            "CN=#zz",
            "1..2=a",
            "-=a",
            &long,
        ];
        for text in wrong {
            assert_eq!(canonical(text), None, "{text}");
        }
    }

    #[test]
    fn a_name_lies_below_what_follows_its_separators() {
        let name = canonical("CN=a\\,O=evil,OU=x\\\\,O=b,C=de").unwrap();
        assert_eq!(name, "CN=a\\,O\\=evil,OU=x\\\\,O=b,C=de");
        assert_eq!(parents(&name).collect::<Vec<_>>(), ["OU=x\\\\,O=b,C=de", "O=b,C=de", "C=de"]);
    }
}
