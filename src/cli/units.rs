//! Numbers as people read them. JSON has the exact ones.

use std::time::Duration;

/// Octets, as "1.50 MB".
pub fn octets(number: u64) -> String {
    scaled(number, "B")
}

/// A rate in bits per second, as "812 Mbit/s".
pub fn bit_rate(octets_per_second: f64) -> String {
    scaled_float(octets_per_second * 8.0, "bit/s")
}

/// A rate of packets, as "12.3 k/s".
pub fn packet_rate(packets_per_second: f64) -> String {
    scaled_float(packets_per_second, "/s")
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

/// A span of time by its two greatest parts, as "3 d 4 h".
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds == 0 {
        return format!("{} ms", time.as_millis());
    }
    let parts = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut shown = String::new();
    let mut rest = seconds;
    let mut left = 2;
    for (size, unit) in parts {
        let number = rest / size;
        rest %= size;
        if left == 2 && number == 0 {
            continue;
        }
        left -= 1;
        if number > 0 {
            let gap = if shown.is_empty() { "" } else { " " };
            shown.push_str(&format!("{gap}{number} {unit}"));
        }
        if left == 0 {
            break;
        }
    }
    shown
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
    fn rates_are_of_bits_and_of_packets() {
        assert_eq!(bit_rate(0.0), "0 bit/s");
        assert_eq!(bit_rate(125_000_000.0), "1.00 Gbit/s");
        assert_eq!(packet_rate(0.5), "0.5 /s");
        assert_eq!(packet_rate(42.0), "42 /s");
        assert_eq!(packet_rate(12_345.0), "12.3 k/s");
    }

    #[test]
    fn counts_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1 000"), (1_234_567, "1 234 567")] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn spans_have_two_parts_at_most() {
        for (milliseconds, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (59_999, "59 s"),
            (60_000, "1 min"),
            (3_661_000, "1 h 1 min"),
            (3_605_000, "1 h"),
            (273_600_000, "3 d 4 h"),
        ] {
            assert_eq!(span(Duration::from_millis(milliseconds)), text);
        }
    }
}
