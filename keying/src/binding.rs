//! What a channel of a higher layer can be bound to: an end-point channel binding (RFC 5056 section 2.1) of both ends' public
//! keys (C-15, Q-16).
//!
//! Neither end begins: the keys stand in the order of their octets, so that both make the same text of them.

use sha2::{Digest, Sha256};

use crate::evidence::{Fingerprint, PublicKey};

/// What two keys are known by together: the same whichever is ours, and another for any other two.
pub(crate) fn end_points(one: &PublicKey, other: &PublicKey) -> [u8; 32] {
    let mut keys = [one.der(), other.der()];
    keys.sort_unstable();
    let mut hash = Sha256::new();
    for key in keys {
        // Where one ends and the other begins cannot be mistaken.
        hash.update(u32::try_from(key.len()).unwrap_or(u32::MAX).to_be_bytes());
        hash.update(key);
    }
    hash.finalize().into()
}

/// The same as text (RFC 5056 section 2.1).
pub(crate) fn binding(end_points: [u8; 32]) -> String {
    format!("{PREFIX}:{}", Fingerprint(end_points))
}

/// The name of the binding's type (RFC 5056 section 2.1). It is not registered with IANA.
const PREFIX: &str = "latchway-ipsec-end-point";

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn end_point_binding(one: &PublicKey, other: &PublicKey) -> String {
        binding(end_points(one, other))
    }

    /// SubjectPublicKeyInfo of an algorithm that nobody knows, so that its key may have any length.
    fn key(octets: &[u8]) -> PublicKey {
        let bits = u8::try_from(octets.len() + 1).unwrap();
        let mut der = vec![0x30, 7 + 2 + bits, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, bits, 0x00];
        der.extend(octets);
        PublicKey::from_der(&der).unwrap()
    }

    fn keys() -> impl Strategy<Value = PublicKey> {
        prop::collection::vec(0_u8..3, 0..5).prop_map(|octets| key(&octets))
    }

    proptest! {
        /// C-15, Q-16, P-30: two ends that know the same two keys have the same text, and nobody else has: as long as any other,
        /// so that memcmp() compares.
        #[test]
        fn c_15_q_16_p_30_a_binding_is_equal_at_both_ends_and_another_for_any_other_pair(
            a in keys(), b in keys(), c in keys(), d in keys(),
        ) {
            let (here, there) = (end_point_binding(&a, &b), end_point_binding(&b, &a));
            prop_assert_eq!(&here, &there);
            prop_assert_eq!(here.len(), PREFIX.len() + 1 + 64);
            prop_assert!(here.bytes().all(|octet| octet.is_ascii_graphic() && !octet.is_ascii_uppercase()));
            let same = (a == c && b == d) || (a == d && b == c);
            prop_assert_eq!(end_point_binding(&c, &d) == here, same);
        }
    }

    /// C-15: what a binding is made of is not changed by accident: the other end may be of another version.
    #[test]
    fn c_15_a_binding_is_what_it_was() {
        let text =
            "latchway-ipsec-end-point:aeedc2e4de1eb5f1dd9732d6613401332aa2abf338ce5d3eef331eeb0d56d9b3";
        assert_eq!(end_point_binding(&key(&[1; 32]), &key(&[2; 32])), text);
    }
}
