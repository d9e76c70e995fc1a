//! Numbers as people read them. JSON has the exact ones.

/// Octets, as "1.50 MB".
pub fn octets(number: u64) -> String {
    scaled(number, "B")
}

/// A number with its digits in groups, as "1 234 567".
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

fn scaled(number: u64, unit: &str) -> String {
    if number < 1000 {
        return format!("{number} {unit}");
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits of it are shown")]
    scaled_float(number as f64, unit)
}

/// Three digits and a decimal prefix.
fn scaled_float(number: f64, unit: &str) -> String {
    let mut rest = number;
    let mut prefix = "";
    for next in ["k", "M", "G", "T", "P", "E"] {
        if rest < 999.5 {
            break;
        }
        rest /= 1000.0;
        prefix = next;
    }
    let decimals = if rest >= 99.95 || (prefix.is_empty() && rest >= 9.95) {
        0
    } else if rest >= 9.995 || prefix.is_empty() {
        usize::from(rest != 0.0)
    } else {
        2
    };
    format!("{rest:.decimals$} {prefix}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_have_three_digits_and_a_prefix() {
        for (number, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (1500, "1.50 kB"),
            (99_949, "99.9 kB"),
            (999_499, "999 kB"),
            (999_500, "1.00 MB"),
            (123_456_789, "123 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(octets(number), text);
        }
    }

    #[test]
    fn counts_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1 000"), (1_234_567, "1 234 567")] {
            assert_eq!(count(number), text);
        }
    }
}
