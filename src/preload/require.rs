//! What `--require` says: words with commas between them, as `peer=b.example,protection=confidential`.

use latchway_control::{MethodSpec, ModeSpec, ProtectionSpec};
use latchway_esp::Suite;
use latchway_socket::{Identity, OnConflict, PeerIdentity, Protected, Requirement};

/// Reads what is required, which is at least one thing.
pub fn requirement(text: &str) -> Result<Requirement, String> {
    let words = words(text)?;
    let (mut required, mut suites, mut methods) = (Requirement::new(), Vec::new(), Vec::new());
    for (index, (word, value)) in words.iter().enumerate() {
        if words.iter().take(index).any(|(earlier, _)| earlier == word && !REPEATED.contains(word)) {
            return Err(format!("`{word}` is said twice; say it once"));
        }
        required = match *word {
            "peer" => {
                let peer = PeerIdentity::asserting(&identity(value)?);
                required.peer(&peer.ok_or_else(|| format!("`{value}` is no identity"))?)
            }
            "identity" => required.local(&identity(value)?),
            "protection" => required.protection(protected(value)?),
            "mode" => required.mode(one_of(value, ModeSpec::ALL, ModeSpec::name)?),
            "suite" => {
                suites.push(value.parse::<Suite>().map_err(|error| format!("`{value}`: {error}"))?.name());
                required
            }
            "key-bits" => required.key_bits(key_bits(value)?),
            "method" => {
                methods.push(one_of(value, MethodSpec::ALL, MethodSpec::name)?);
                required
            }
            "on-conflict" => required.on_conflict(one_of(value, OnConflict::ALL, OnConflict::name)?),
            "replay-checked" => required.replay_checked(),
            _ => required.options_protected(),
        };
    }
    // Last, for a peer brings methods of its own along, which are none here.
    Ok(required.suites(suites).methods(methods))
}

/// The words and their values. In a distinguished name there are commas, too: no word of ours comes after them.
fn words(text: &str) -> Result<Vec<(&'static str, String)>, String> {
    let mut found: Vec<(&'static str, String)> = Vec::new();
    for piece in text.split(',') {
        let (name, value) = piece.split_once('=').map_or((piece, None), |(name, value)| (name, Some(value)));
        match (VALUED.iter().chain(BARE).find(|word| **word == name), value) {
            (Some(word), Some(value)) if VALUED.contains(word) && !value.is_empty() => {
                found.push((word, value.to_owned()));
            }
            (Some(word), None) if BARE.contains(word) => found.push((word, String::new())),
            (Some(word), _) if VALUED.contains(word) => {
                return Err(format!("`{word}` says nothing; write {word}=..."));
            }
            (Some(word), _) => return Err(format!("`{word}` takes no value; write it alone")),
            (None, _) => match found.last_mut() {
                Some((_, name)) if name.starts_with("dn:") => *name = format!("{name},{piece}"),
                _ => return Err(format!("`{piece}` is nothing that can be required; {}", known())),
            },
        }
    }
    Ok(found)
}

fn identity(value: &str) -> Result<Identity, String> {
    value.parse().map_err(|error| format!("`{value}` {error}"))
}

fn protected(value: &str) -> Result<Protected, String> {
    // What passes in the clear has nothing required of it.
    match one_of(value, &[ProtectionSpec::Confidential, ProtectionSpec::Authenticated], ProtectionSpec::name)?
    {
        ProtectionSpec::Confidential => Ok(Protected::Confidential),
        _ => Ok(Protected::Authenticated),
    }
}

fn key_bits(value: &str) -> Result<u16, String> {
    let bits = value.parse().ok().filter(|bits| *bits > 0);
    bits.ok_or_else(|| format!("`{value}` is no length of a key in bits, as 128 is"))
}

fn one_of<T: Copy>(value: &str, all: &[T], name: fn(T) -> &'static str) -> Result<T, String> {
    let found = all.iter().copied().find(|&word| name(word) == value);
    found.ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|&word| name(word)).collect();
        format!("`{value}` is none of {}", names.join(", "))
    })
}

fn known() -> String {
    let valued = VALUED.iter().map(|word| format!("{word}=..."));
    let words: Vec<_> = valued.chain(BARE.iter().map(|word| (*word).to_owned())).collect();
    format!("the words are {}", words.join(", "))
}

/// Words that say something, and those of them that may be said again.
const VALUED: &[&str] =
    &["peer", "identity", "protection", "mode", "suite", "key-bits", "method", "on-conflict"];
const REPEATED: &[&str] = &["suite", "method"];

/// Words that stand alone.
const BARE: &[&str] = &["replay-checked", "options-protected"];

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str) -> PeerIdentity {
        PeerIdentity::asserting(&name.parse().unwrap()).unwrap()
    }

    /// L-6 to L-11: every word is the constraint of its name.
    #[test]
    fn l6_to_l11_every_word_is_a_constraint() {
        let all = "peer=b.example,identity=a.example,protection=confidential,mode=tunnel,suite=aes-256-gcm,\
                   suite=aes-128-gcm,key-bits=128,method=certificate,method=pre-shared-key,on-conflict=wait,\
                   replay-checked,options-protected";
        let expected = Requirement::new()
            .peer(&peer("b.example"))
            .local(&"a.example".parse().unwrap())
            .protection(Protected::Confidential)
            .mode(ModeSpec::Tunnel)
            .suites(["aes-256-gcm", "aes-128-gcm"])
            .key_bits(128)
            .methods([MethodSpec::Certificate, MethodSpec::PreSharedKey])
            .on_conflict(OnConflict::Wait)
            .replay_checked()
            .options_protected();
        assert_eq!(requirement(all), Ok(expected));
        let turned = requirement("method=certificate,peer=b.example");
        assert_eq!(turned, requirement("peer=b.example,method=certificate"), "in any order");
    }

    #[test]
    fn a_distinguished_name_has_commas_of_its_own() {
        let named = requirement("peer=dn:CN=b,O=Example,protection=authenticated").unwrap();
        let expected = Requirement::new().peer(&peer("dn:CN=b,O=Example"));
        assert_eq!(named, expected.protection(Protected::Authenticated));
    }

    /// What is not understood is not left out: it would weaken the requirement.
    #[test]
    fn what_is_not_understood_is_refused() {
        for (text, said) in [
            ("", "is nothing that can be required"),
            ("peer=b.example,", "is nothing that can be required"),
            ("peer=b.example,protecton=confidential", "`protecton=confidential` is nothing"),
            ("peer=", "says nothing"),
            ("peer", "says nothing"),
            ("peer=b.example.", "is no identity"),
            ("peer=b.example,peer=c.example", "said twice"),
            ("protection=bypass", "none of confidential, authenticated"),
            ("replay-checked=yes", "takes no value"),
            ("suite=rot13", "rot13"),
            ("key-bits=0", "no length"),
            ("method=hearsay", "none of"),
            ("Peer=b.example", "is nothing"),
        ] {
            let refused = requirement(text).unwrap_err();
            assert!(refused.contains(said), "{text}: {refused}");
        }
    }
}
