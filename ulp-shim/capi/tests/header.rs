//! The header is what the exported functions are: written anew with cbindgen, made to fit C89, compared (rows,
//! C-11 to C-13). `LATCHWAY_BLESS=1` writes it.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::path::{Path, PathBuf};

use cbindgen::{Builder, Config, DocumentationStyle, Language, Style};

#[test]
fn the_header_is_that_of_the_functions() {
    let generated = header();
    let path = here().join("include/latchway/ipsec.h");
    if std::env::var_os("LATCHWAY_BLESS").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == generated, "{} is another: run this test with LATCHWAY_BLESS=1", path.display());
}

/// The figures of draft-ietf-btns-c-api-04, with the decisions C-11 to C-13 in them.
#[test]
fn q_6_to_q_53_every_prototype_and_name_of_the_draft_is_there() {
    let header = words(&header());
    for prototype in PROTOTYPES {
        assert!(header.contains(&words(prototype)), "{prototype}");
    }
    for name in NAMES {
        assert!(header.contains(&format!(" {name} = ")), "{name}");
    }
    for alias in ALIASES {
        assert!(header.contains(&format!("#define {alias} ")), "{alias}");
    }
    assert!(!header.contains("//") && !header.contains("…"), "comments that C89 has, in ASCII");
    assert!(header.is_ascii());
}

const PROTOTYPES: [&str; 13] = [
    "typedef struct ipsec_iToken *ipsec_iToken_t;",
    "typedef struct ipsec_pToken *ipsec_pToken_t;",
    "ipsec_iToken_t ipsec_create_iToken(void);",
    "int ipsec_free_iToken(ipsec_iToken_t p);",
    "int ipsec_get_token_attr(const void *token, uint32_t attr_type, uint32_t *attr_len, void *attr_val);",
    "int ipsec_set_token_attr(const void *token, uint32_t attr_type, uint32_t attr_len, const void *attr_val);",
    "ipsec_pToken_t ipsec_create_pToken(void);",
    "int ipsec_free_pToken(ipsec_pToken_t p);",
    "int ipsec_set_socket_pToken(int fd, const ipsec_pToken_t pToken);",
    "int ipsec_get_socket_pToken(int fd, ipsec_pToken_t pToken);",
    "int ipsec_get_msg_pToken(const struct msghdr *msg, ipsec_pToken_t pToken);",
    "int ipsec_cmp_pToken(ipsec_pToken_t p1, ipsec_pToken_t p2);",
    "int ipsec_dup_pToken(const ipsec_pToken_t p, ipsec_pToken_t *p_dup);",
];

const NAMES: [&str; 31] = [
    "IPSEC_API_ATTR_auditString",
    "IPSEC_API_ATTR_authenticationMethod",
    "IPSEC_API_ATTR_certificateAuthorityDN",
    "IPSEC_API_ATTR_certificateDN",
    "IPSEC_API_ATTR_pubKeyID",
    "IPSEC_API_ATTR_channelBinding",
    "IPSEC_API_ATTR_authMeth_NONE",
    "IPSEC_API_ATTR_authMeth_BTNS",
    "IPSEC_API_ATTR_authMeth_LEAPOFFFAITH",
    "IPSEC_API_ATTR_authMeth_PRESHAREDKEY",
    "IPSEC_API_ATTR_authMeth_GROUPKEY",
    "IPSEC_API_ATTR_authMeth_XAUTH",
    "IPSEC_API_ATTR_authMeth_EAP",
    "IPSEC_API_ATTR_authMeth_PKIX_TRUSTED",
    "IPSEC_API_ATTR_authMeth_PKIX_INLINE",
    "IPSEC_API_ATTR_authMeth_PKIX_OFFLINE",
    "IPSEC_API_ATTR_privacyProtected",
    "IPSEC_API_ATTR_integrityProtected",
    "IPSEC_API_ATTR_compressionAvailable",
    "IPSEC_API_ATTR_policyName",
    "IPSEC_API_ATTR_iToken",
    "IPSEC_API_ATTR_remote_iToken",
    "IPSEC_API_ATTR_tunnelMode",
    "IPSEC_API_ATTR_ipoptionsProtected",
    "IPSEC_API_ATTR_informationString",
    "IPSEC_API_ATTR_DISABLE",
    "IPSEC_API_ATTR_ENABLE",
    "IPSEC_API_ATTR_ANY",
    "IPSEC_API_ATTR_LEVEL_LOW",
    "IPSEC_API_ATTR_LEVEL_MEDIUM",
    "IPSEC_API_ATTR_LEVEL_HIGH",
];

/// C-3, C-4: other spellings of the drafts, and the right one.
const ALIASES: [&str; 5] = [
    "IPSEC_API_ATTR_authMeth_LEAPOFFAITH",
    "IPSEC_API_ATTR_authMeth_LEAFOFFAITH",
    "IPSEC_API_ATTR_privacyProtection",
    "IPSEC_API_ATTR_integrityProtection",
    "IPSEC_API_ATTR_compression",
];

fn header() -> String {
    let mut config = Config {
        language: Language::C,
        style: Style::Tag,
        cpp_compat: true,
        no_includes: true,
        sys_includes: ["stdint.h", "sys/types.h", "sys/socket.h"].map(String::from).to_vec(),
        include_guard: Some("LATCHWAY_IPSEC_H".to_owned()),
        documentation_style: DocumentationStyle::Doxy,
        line_length: 100,
        header: Some(HEAD.to_owned()),
        after_includes: Some(ALIAS_LINES.to_owned()),
        ..Config::default()
    };
    config.export.include = TYPES.map(String::from).to_vec();
    config.export.rename = [("msghdr".to_owned(), "struct msghdr".to_owned())].into();
    let source = |file: &str| here().join("src").join(file);
    let include = |builder: Builder, file: &str| builder.with_src(source(file));
    let builder = ["names.rs", "export.rs", "export_events.rs", "export_messages.rs"]
        .into_iter()
        .fold(Builder::new().with_config(config), include);
    let mut octets = Vec::new();
    builder.generate().unwrap().write(&mut octets);
    for_c89(&String::from_utf8(octets).unwrap())
}

/// C89 has no comma behind the last enumerator, and the top-level `const` that the draft writes is nothing that Rust knows.
/// What is for callers in Rust is not for those in C.
fn for_c89(text: &str) -> String {
    let mut text = text.replace(",\n};", "\n};").replace("}  // extern", "} // extern");
    text = text
        .lines()
        .map(|line| line.split_once(" // ").map_or(line, |(code, _)| code))
        .fold(String::new(), |text, line| text + line.trim_end() + "\n");
    while let Some(from) = text.find(" *\n * # Safety\n") {
        let to = text[from..].find(" */").unwrap();
        text.replace_range(from..from + to, "");
    }
    for function in CONST_TOKEN {
        let from = text.find(&format!("int {function}(")).unwrap();
        let at = from
            + text[from..]
                .find("ipsec_")
                .and_then(|name| text[from + name + 1..].find("ipsec_").map(|at| name + 1 + at))
                .unwrap();
        text.insert_str(at, "const ");
    }
    text
}

/// Functions that take a `const` token, by the figures of the draft or as they do.
const CONST_TOKEN: [&str; 3] = ["ipsec_set_socket_pToken", "ipsec_dup_pToken", "ipsec_iToken_export"];

/// Types that no prototype mentions.
const TYPES: [&str; 14] = [
    "ipsec_attribute_value",
    "ipsec_attribute_value_t",
    "ipsec_iToken_attribute",
    "ipsec_iToken_attribute_t",
    "ipsec_iToken_auth_meth",
    "ipsec_iToken_auth_meth_t",
    "ipsec_latchway_attribute",
    "ipsec_latchway_attribute_t",
    "ipsec_latchway_event_kind",
    "ipsec_latchway_event_kind_t",
    "ipsec_latchway_state",
    "ipsec_latchway_state_t",
    "ipsec_pToken_attribute",
    "ipsec_pToken_attribute_t",
];

const HEAD: &str = "\
/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Tokens that say who is on the other end of a socket and what protects it, and that demand who it must be and what must
 * protect it: draft-ietf-btns-c-api-04. See ipsec_create_pToken(3). Written from the library's source; do not edit.
 */
";

const ALIAS_LINES: &str = "
/* Room in msg_control for a token and what the system says of a datagram beside, in octets. */
#define IPSEC_LATCHWAY_CONTROL_SPACE 256

/* What the drafts spell otherwise. */
#define IPSEC_API_ATTR_authMeth_LEAPOFFAITH IPSEC_API_ATTR_authMeth_LEAPOFFFAITH
#define IPSEC_API_ATTR_authMeth_LEAFOFFAITH IPSEC_API_ATTR_authMeth_LEAPOFFFAITH
#define IPSEC_API_ATTR_privacyProtection IPSEC_API_ATTR_privacyProtected
#define IPSEC_API_ATTR_integrityProtection IPSEC_API_ATTR_integrityProtected
#define IPSEC_API_ATTR_compression IPSEC_API_ATTR_compressionAvailable
";

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<&str>>().join(" ").replace("( ", "(")
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}
