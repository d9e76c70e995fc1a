//! How strong a suite is, in the three levels of the API (P-54, Q-32): one table, both ways.

/// A level of protection. The order is that of strength.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Strength {
    /// None at all.
    #[default]
    None,
    /// Confidential with keys of 128 bits and more; authentic with any integrity check value.
    Low,
    /// Confidential with keys of 192 bits and more; authentic with an integrity check value of 128 bits and more.
    Medium,
    /// Confidential with keys of 256 bits; authentic with an integrity check value of 192 bits and more.
    High,
}

impl Strength {
    /// How well keys of so many bits hide.
    #[must_use]
    pub const fn of_key_bits(bits: u16) -> Self {
        Self::among(bits, KEY_BITS)
    }

    /// How well an integrity check value of so many bits protects from change.
    #[must_use]
    pub const fn of_icv_bits(bits: u16) -> Self {
        Self::among(bits, ICV_BITS)
    }

    /// The shortest keys that are this confidential, in bits; 0 for none.
    #[must_use]
    pub const fn key_bits(self) -> u16 {
        let [low, medium, high] = KEY_BITS;
        match self {
            Self::None => 0,
            Self::Low => low,
            Self::Medium => medium,
            Self::High => high,
        }
    }

    /// The names of all suites, of ESP and of AH, whose integrity check values are of this level or a better one: so integrity
    /// of a level is required. None where any will do.
    #[must_use]
    pub fn suites_of_integrity(self) -> Vec<String> {
        let levels = ICVS.iter().filter(|(_, bits)| self > Self::Low && Self::of_icv_bits(*bits) >= self);
        levels
            .flat_map(|(end, _)| beginnings(end).into_iter().map(move |begin| format!("{begin}{end}")))
            .collect()
    }

    const fn among(bits: u16, [low, medium, high]: [u16; 3]) -> Self {
        if bits >= high {
            Self::High
        } else if bits >= medium {
            Self::Medium
        } else if bits >= low {
            Self::Low
        } else {
            Self::None
        }
    }
}

/// What the names that end so begin with.
fn beginnings(end: &str) -> Vec<String> {
    const KEYS: [&str; 3] = ["aes-128", "aes-192", "aes-256"];
    let each = |rest: &str| KEYS.map(|key| format!("{key}{rest}"));
    match end {
        "chacha20-poly1305" | "chacha20-poly1305-iiv" => vec![String::new()],
        "-gmac" => [each(""), KEYS.map(|key| format!("ah-{key}"))].concat(),
        end if end.starts_with("-hmac") || end == "-aes-cmac" => {
            [vec!["null".into(), "ah".into()], each("-ctr").into(), each("-cbc").into()].concat()
        }
        _ => each("").into(),
    }
}

/// Keys of levels low, medium and high.
const KEY_BITS: [u16; 3] = [128, 192, 256];
/// Integrity check values of levels low, medium and high; a value is one of 64 bits at least.
const ICV_BITS: [u16; 3] = [64, 128, 192];

/// Ends of the names of suites, and how long their integrity check values are.
const ICVS: [(&str, u16); 17] = [
    ("-gcm-8", 64),
    ("-gcm-12", 96),
    ("-gcm", 128),
    ("-gcm-iiv", 128),
    ("-ccm-8", 64),
    ("-ccm-8-iiv", 64),
    ("-ccm-12", 96),
    ("-ccm", 128),
    ("-gmac", 128),
    ("chacha20-poly1305", 128),
    ("chacha20-poly1305-iiv", 128),
    ("-hmac-sha-1", 96),
    ("-hmac-sha-256-96", 96),
    ("-hmac-sha-256", 128),
    ("-hmac-sha-384", 192),
    ("-hmac-sha-512", 256),
    ("-aes-cmac", 96),
];

#[cfg(test)]
mod tests {
    use super::*;
    use latchway_esp::Suite;

    /// every suite of the gateway, and nothing else, is of some level of integrity.
    #[test]
    fn q34_q35_levels_of_integrity_are_the_suites_that_have_them() {
        for level in [Strength::Medium, Strength::High] {
            let has =
                |suite: &Suite| Strength::of_icv_bits((suite.icv_len() * 8).try_into().unwrap()) >= level;
            let mut want: Vec<_> = Suite::all().filter(has).map(|suite| suite.name().to_owned()).collect();
            let mut got = level.suites_of_integrity();
            want.sort();
            got.sort();
            assert_eq!(got, want);
        }
        assert!(Strength::Low.suites_of_integrity().is_empty());
    }

    #[test]
    fn p54_levels_are_what_they_say() {
        let keys =
            [(0, Strength::None), (128, Strength::Low), (192, Strength::Medium), (256, Strength::High)];
        for (bits, level) in keys {
            assert_eq!((Strength::of_key_bits(bits), level.key_bits()), (level, bits));
        }
        for (bits, level) in [(0, Strength::None), (64, Strength::Low), (96, Strength::Low)] {
            assert_eq!(Strength::of_icv_bits(bits), level);
        }
        assert_eq!(Strength::of_icv_bits(128), Strength::Medium);
        assert_eq!(Strength::of_icv_bits(256), Strength::High);
    }
}
