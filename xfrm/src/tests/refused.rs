//! What is not taken, and what is said of it.

use super::read;
use crate::GrammarError;

const ENDS: &str = "src 192.0.2.1 dst 192.0.2.2";
const AH: &str = "auth-trunc 'hmac(sha256)' 0x000102030405060708090a0b0c0d0e0f 128";
const CBC: &str = "enc 'cbc(aes)' 0x000102030405060708090a0b0c0d0e0f";

fn error(line: &str) -> String {
    read(line).map(|command| format!("taken: {command:?}")).unwrap_or_else(|error| error.to_string())
}

/// What the kernel would take and this gateway does not is named, with a reason.
#[test]
fn what_is_not_served_is_refused_by_name() {
    let id = format!("{ENDS} proto esp spi 256");
    for (line, name) in [
        (format!("state add {ENDS} proto comp spi 256 comp deflate"), "compression"),
        (format!("state add {id} comp deflate {CBC}"), "compression"),
        (format!("state add {ENDS} proto route2 mode ro coa ::1"), "route2"),
        (format!("state add {ENDS} proto hao"), "hao"),
        (format!("state add {id} mode beet {CBC}"), "beet"),
        (format!("state add {id} mode ro {CBC}"), "mode ro"),
        (format!("state add {id} {CBC} extra-flag oseq-may-wrap"), "oseq-may-wrap"),
        (format!("state add {id} {CBC} extra-flag 0x2"), "oseq-may-wrap"),
        (format!("state add {id} {CBC} encap espinudp-nonike 1 2 0.0.0.0"), "espinudp-nonike"),
        (format!("state add {id} {CBC} encap espintcp 1 2 0.0.0.0"), "espintcp"),
        (format!("state add {id} {CBC} flag wildrecv"), "wildrecv"),
        (format!("state add {id} {CBC} flag 0x08"), "wildrecv"),
        (format!("state add {id} {CBC} mark 1"), "mark"),
        (format!("state add {id} {CBC} mark 1 mask 0xff"), "mark"),
        (format!("state add {id} {CBC} output-mark 1"), "output-mark"),
        (format!("state add {id} {CBC} if_id 1"), "if_id"),
        (format!("state add {id} {CBC} coa ::1"), "coa"),
        (format!("state add {id} {CBC} ctx x"), "ctx"),
        (format!("state allocspi {ENDS} proto esp"), "allocspi"),
        ("policy add dir in ptype sub".into(), "ptype sub"),
        ("policy add dir in if_id 3".into(), "if_id"),
        ("policy setdefault in allow".into(), "setdefault"),
        ("policy add dir in tmpl proto comp".into(), "compression"),
        ("monitor all-nsid".into(), "all-nsid"),
    ] {
        let error = read(&line).unwrap_err();
        assert!(matches!(error, GrammarError::Refused { .. }), "{line}: {error}");
        assert!(error.to_string().contains(name), "{line}: {error}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    let id = format!("{ENDS} proto esp spi 256");
    for (line, said) in [
        ("".into(), "wants state, policy"),
        ("xfrm states".into(), "not state, policy"),
        ("state push".into(), "not add, update"),
        ("policy push".into(), "not add, update"),
        ("state add".into(), "receiver's address is missing"),
        (format!("state add dst 192.0.2.2 proto esp spi 256 {CBC} {AH}"), "sender's address is missing"),
        (format!("state add {ENDS} spi 256 {CBC} {AH}"), "protocol is missing"),
        (format!("state add {ENDS} proto esp {CBC} {AH}"), "SPI is missing"),
        (format!("state add {ENDS} proto esp spi 0 {CBC} {AH}"), "SPI is missing"),
        (format!("state add {id}"), "encryption of an ESP state is missing"),
        (format!("state add {id} {AH}"), "encryption of an ESP state is missing"),
        (format!("state add {ENDS} proto ah spi 256"), "integrity algorithm of an AH state is missing"),
        (format!("state add {ENDS} proto ah spi 256 {CBC}"), "neither enc nor aead"),
        (
            format!("state add {ENDS} proto ah spi 256 {AH} encap espinudp 1 2 0.0.0.0"),
            "encap is of proto esp",
        ),
        (format!("state add {id} {CBC} {CBC}"), "one enc"),
        (format!("state add {id} {CBC} {AH} {AH}"), "one enc"),
        (format!("state add {id} {CBC} aead x 0x00 128"), "one aead alone"),
        (format!("state add {id} enc"), "wants an ALGO-NAME"),
        (format!("state add {id} enc 'cbc(aes)'"), "wants an ALGO-KEYMAT"),
        (format!("state add {id} enc 'cbc(aes)' 0xgg"), "ALGO-KEYMAT"),
        (format!("state add {id} aead 'rfc4106(gcm(aes))' 0x00"), "wants an ALGO-ICV-LEN"),
        (format!("state add {id} aead 'rfc4106(gcm(aes))' 0x00 many"), "ALGO-ICV-LEN"),
        (format!("state add {id} auth-trunc x 0x00"), "wants an ALGO-TRUNC-LEN"),
        (format!("state add {id} {CBC} mode bridge"), "\"bridge\" is not transport or tunnel"),
        (format!("state add {id} {CBC} replay-window -1"), "\"-1\" is not a number of packets"),
        (format!("state add {id} {CBC} reqid x"), "\"x\" is not a number"),
        (format!("state add {id} {CBC} limit byte-most 1"), "\"byte-most\" is not time-soft"),
        (format!("state add {id} {CBC} limit"), "wants time-soft"),
        (format!("state add {id} {CBC} limit byte-hard x"), "\"x\" is not a number"),
        (format!("state add {id} {CBC} encap espinudp 4500"), "wants a destination port"),
        (
            format!("state add {id} {CBC} encap espinudp 4500 70000 0.0.0.0"),
            "\"70000\" is not a destination port",
        ),
        (format!("state add {id} {CBC} encap gue 1 2 0.0.0.0"), "\"gue\" is not espinudp"),
        (format!("state add {id} {CBC} flag quick"), "\"quick\" is not known"),
        (format!("state add {id} {CBC} {ENDS}"), "\"src\" is not known here, or comes twice"),
        (format!("state add {id} {CBC} pcpu-num 1"), "\"pcpu-num\" is not known"),
        ("state add src 192.0.2.1 dst ::1 proto esp spi 256".into(), "one address family"),
        ("state add src 192.0.2.256".into(), "\"192.0.2.256\" is not an address"),
        ("state get dst 192.0.2.2 proto esp".into(), "SPI is missing"),
        ("state flush proto tcp".into(), "\"tcp\" is not esp or ah"),
        ("policy add src 10/8 dst 10/8".into(), "direction is missing"),
        ("policy add dir in dir out".into(), "dir is there twice"),
        ("policy add dir sideways".into(), "\"sideways\" is not in, out or fwd"),
        ("policy add dir in action pass".into(), "\"pass\" is not allow or block"),
        ("policy add dir in priority high".into(), "\"high\" is not a PRIORITY"),
        ("policy add dir in tmpl".into(), "wants TMPL"),
        ("policy add dir in tmpl mode tunnel".into(), "protocol of a template is missing"),
        ("policy add dir in tmpl proto esp level most".into(), "\"most\" is not required or use"),
        ("policy add src 10/8 dir in src 11/8".into(), "\"src\" is not known here, or comes twice"),
        ("policy add src 10/8 proto gre sport 1 dir in".into(), "sport and dport are of proto"),
        ("policy add src 10/8 proto tcp type 1 dir in".into(), "type and code are of proto"),
        ("policy add src 10/8 proto tcp key 1 dir in".into(), "key is of proto gre"),
        ("policy add src 10/8 proto icmp type 256 dir in".into(), "\"256\" is not a type"),
        ("policy add src any dir in".into(), "\"any\" is not an address"),
        ("policy delete dir in".into(), "selector or index is missing"),
        ("policy delete index 3".into(), "direction is missing"),
        ("policy get src 10/8 index 3 dir in".into(), "not by both"),
        (format!("policy add dir in {}", "tmpl proto esp ".repeat(7)), "at most six"),
        ("policy set hthresh4 33 1".into(), "\"33\" is not LBITS"),
        ("monitor everything".into(), "\"everything\" is not all, acquire"),
        ("state list tempo".into(), "\"tempo\" is not known"),
        ("policy list dir in tmpl proto esp".into(), "\"tmpl\" is not known"),
    ] {
        let error = error(&line);
        assert!(error.contains(said), "{line}: {error}");
    }
}

/// T40: a key that came to stand in the wrong place is not repeated.
#[test]
fn t40_no_error_quotes_a_key() {
    let key = "0x00112233445566778899aabbccddeeff";
    for line in [
        format!("state add {key}"),
        format!("state add {ENDS} proto esp spi {key}"),
        format!("state add {ENDS} proto {key}"),
        format!("state add {ENDS} proto esp spi 256 {CBC} {key}"),
        format!("state add {ENDS} proto esp spi 256 enc 'cbc(aes)' {key}zz"),
        format!("state add {ENDS} proto esp spi 256 mode {key}"),
        format!("state {key}"),
        key.to_owned(),
        format!("policy add dir {key}"),
    ] {
        let error = error(&line);
        assert!(!error.contains("aabbcc") && !error.starts_with("taken"), "{line}: {error}");
    }
}
