//! Numbers as ip(8) takes them: decimal, hexadecimal after `0x`, octal after `0`.

/// A number that fits.
pub(crate) fn number<T: TryFrom<u64>>(word: &str) -> Option<T> {
    let (digits, radix) = match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if word.len() > 1 && word.starts_with('0') => (word, 8),
        None => (word, 10),
    };
    // A sign is not a digit, whatever from_str_radix says.
    if !digits.starts_with(|first: char| first.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_those_of_c() {
        for (word, value) in
            [("0", 0), ("10", 10), ("0x10", 16), ("010", 8), ("00", 0), ("4294967295", u32::MAX)]
        {
            assert_eq!(number(word), Some(value), "{word}");
        }
        for word in ["", "-1", "+1", "0x", "08", "1 ", "4294967296", "one", "0x-1", "99999999999999999999"] {
            assert_eq!(number::<u32>(word), None, "{word}");
        }
    }
}
