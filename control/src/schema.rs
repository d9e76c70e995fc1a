//! The interface's description and the answers' schemas, made from the types, and compared with what is committed.
//!
//! To make them again: `REGENERATE=1 cargo test -p latchway-control schema`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::Value;

use crate::failure::{APP_ERRORS, ERRORS};
use crate::interface::INTERFACES;
use crate::{app, call};

/// A method.
pub struct Described {
    /// Its full name.
    pub name: &'static str,
    /// What it does.
    pub text: &'static str,
    /// Its parameters.
    pub parameters: Schema,
    /// Its answer.
    pub reply: Schema,
}

/// An interface that is described.
struct Subject {
    name: &'static str,
    head: &'static str,
    methods: fn(&SchemaGenerator) -> Vec<Described>,
    errors: &'static [(&'static str, &'static str)],
}

const CONTROL: Subject = Subject {
    name: "org.latchway.Control",
    head: "What an operator or a provider of SAs may ask of a Latchway gateway on its control.sock.\n\
        A field of which the type begins with `?` may be left out of a call. No answer holds a key but that to XfrmStates\n\
        where it was asked for.",
    methods: call::described,
    errors: &ERRORS,
};

const APP: Subject = Subject {
    name: "org.latchway.App",
    head: "What an application may ask of a Latchway gateway on its app.sock, of sockets that it has.\n\
        A field of which the type begins with `?` may be left out of a call. A socket is passed as a descriptor, with the\n\
        first octet of the call that it belongs to (SCM_RIGHTS). No answer holds a key.",
    methods: app::described,
    errors: &APP_ERRORS,
};

/// Files of docs/schema and the methods whose answers they describe.
const FILES: [(&str, &str); 17] = [
    ("status", "Status"),
    ("sas", "Sas"),
    ("policies", "Policies"),
    ("peers", "Peers"),
    ("latches", "Latches"),
    ("latch", "InquireLatch"),
    ("alert", "WatchLatches"),
    ("whois", "Whois"),
    ("flows", "Flows"),
    ("drops", "Drops"),
    ("explanation", "Explain"),
    ("mtu", "Mtu"),
    ("event", "Events"),
    ("reload", "Reload"),
    ("xfrm-states", "XfrmStates"),
    ("xfrm-policies", "XfrmPolicies"),
    ("xfrm-event", "XfrmMonitor"),
];

/// Files of docs/schema and the methods of org.latchway.App whose answers they describe.
const APP_FILES: [(&str, &str); 3] =
    [("app-gateway", "Gateway"), ("app-protection", "Protection"), ("app-event", "Watch")];

fn methods(subject: &Subject) -> Vec<(Described, Described)> {
    let reads = SchemaGenerator::new(SchemaSettings::draft2020_12().for_deserialize());
    let writes = SchemaGenerator::new(SchemaSettings::draft2020_12().for_serialize());
    (subject.methods)(&reads).into_iter().zip((subject.methods)(&writes)).collect()
}

/// The description in Varlink's own language.
fn varlink(subject: &Subject) -> String {
    let (mut types, mut body) = (BTreeMap::new(), String::new());
    for (read, write) in methods(subject) {
        let (parameters, reply) = (read.parameters.as_value(), write.reply.as_value());
        for schema in [parameters, reply] {
            for (name, found) in schema.get("$defs").and_then(Value::as_object).into_iter().flatten() {
                let known = types.entry(name.clone()).or_insert_with(|| found.clone());
                // What may be left out when it is asked for is there when it is answered.
                let whole = |schema: &Value| {
                    let mut schema = schema.clone();
                    schema.as_object_mut().map(|schema| schema.remove("required"));
                    schema
                };
                assert_eq!(whole(known), whole(found), "two types of one name: {name}");
            }
        }
        let name = read.name.rsplit_once('.').unwrap().1;
        let (parameters, reply) = (fields(parameters), fields(reply));
        write!(body, "\n{}method {name}{parameters} -> {reply}\n", comment(read.text, "")).unwrap();
    }
    let mut text = comment(subject.head, "") + "interface " + subject.name + "\n";
    for (name, schema) in &types {
        write!(text, "\n{}type {name} {}\n", comment(description(schema), ""), definition(schema)).unwrap();
    }
    text.push_str(&body);
    for (name, meaning) in subject.errors {
        write!(text, "\n{}error {name} (message: string, hint: ?string)\n", comment(meaning, "")).unwrap();
    }
    text
}

fn definition(schema: &Value) -> String {
    let alternatives = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    let alternatives: Vec<_> =
        alternatives.filter_map(|one| one.get("properties").and_then(Value::as_object)).flatten().collect();
    if !alternatives.is_empty() {
        return one_of(&alternatives);
    }
    let words: Vec<_> = match (schema.get("enum"), schema.get("oneOf")) {
        (Some(words), _) => words.as_array().unwrap().iter().map(|word| (word, "")).collect(),
        (_, Some(words)) => {
            words.as_array().unwrap().iter().map(|word| (&word["const"], description(word))).collect()
        }
        _ => return fields(schema),
    };
    let words = words.iter().map(|(word, text)| comment(text, "  ") + "  " + word.as_str().unwrap());
    format!("(\n{}\n)", words.collect::<Vec<_>>().join(",\n"))
}

/// Of several fields one: Varlink has no other word for it than that each may be left out.
fn one_of(alternatives: &[(&String, &Value)]) -> String {
    let field = |(name, field): &(&String, &Value)| {
        format!("{}  {name}: ?{}", comment(description(field), "  "), kind(field).0)
    };
    format!("(\n{}\n)", alternatives.iter().map(field).collect::<Vec<_>>().join(",\n"))
}

fn fields(schema: &Value) -> String {
    let Some(fields) = schema.get("properties").and_then(Value::as_object).filter(|all| !all.is_empty())
    else {
        return "()".into();
    };
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().collect();
    let fields = fields.iter().map(|(name, field)| {
        let (mut kind, nullable) = kind(field);
        if nullable || !required.iter().any(|one| *one == name) {
            kind.insert(0, '?');
        }
        format!("{}  {name}: {kind}", comment(description(field), "  "))
    });
    format!("(\n{}\n)", fields.collect::<Vec<_>>().join(",\n"))
}

/// The type of a field, and whether null is one of its values.
fn kind(schema: &Value) -> (String, bool) {
    if let Some(name) = schema.get("$ref") {
        return (name.as_str().unwrap().rsplit_once('/').unwrap().1.into(), false);
    }
    if let Some(any) = schema.get("anyOf") {
        let nullable = |one: &Value| one["type"] == "null";
        let (null, other): (Vec<_>, Vec<_>) = any.as_array().unwrap().iter().partition(|one| nullable(one));
        // Varlink has no word for a value of several kinds but that for one of any.
        let name = if let [only] = other[..] { kind(only).0 } else { "object".into() };
        return (name, !null.is_empty());
    }
    let (name, nullable) = match &schema["type"] {
        Value::String(name) => (name.as_str(), false),
        Value::Array(names) => (names[0].as_str().unwrap(), names[1] == "null"),
        _ => panic!("{schema}"),
    };
    let name = match name {
        "string" => "string".into(),
        "integer" => "int".into(),
        "boolean" => "bool".into(),
        "object" => fields(schema).replace('\n', " "),
        "array" => {
            let item = schema.get("prefixItems").map_or(&schema["items"], |items| &items[0]);
            format!("[]{}", kind(item).0)
        }
        _ => panic!("{schema}"),
    };
    (name, nullable)
}

fn description(schema: &Value) -> &str {
    schema.get("description").and_then(Value::as_str).unwrap_or_default()
}

fn comment(text: &str, indent: &str) -> String {
    text.trim().lines().map(|line| format!("{indent}# {}\n", line.trim())).collect()
}

/// Compares, or writes where that is asked for.
fn compare(path: &Path, made: &str) {
    if std::env::var_os("REGENERATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, made).unwrap();
    }
    let committed = fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == made,
        "{} is not what the types say; make it again with `REGENERATE=1 cargo test -p latchway-control schema`",
        path.display()
    );
}

#[test]
fn the_interfaces_are_described_as_the_types_are() {
    for subject in [CONTROL, APP] {
        let file = format!("{}.varlink", subject.name);
        compare(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file), &varlink(&subject));
    }
}

#[test]
fn the_schemas_of_answers_are_those_of_the_types() {
    for (subject, files) in [(CONTROL, &FILES[..]), (APP, &APP_FILES[..])] {
        let methods = methods(&subject);
        for (file, method) in files {
            let name = format!("{}.{method}", subject.name);
            let (_, described) = methods.iter().find(|(described, _)| described.name == name).unwrap();
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/schema/{file}.json"));
            compare(&path, &(serde_json::to_string_pretty(&described.reply).unwrap() + "\n"));
        }
    }
}

/// T40: no answer has a field that could hold a key, but where states are shown: those are empty unless keys were asked
/// for, which is logged.
#[test]
fn t40_no_answer_holds_a_key() {
    let shows_states =
        |name: &str| ["XfrmStates", "XfrmMonitor", "ShowKeys"].iter().any(|method| name.ends_with(method));
    let all = [CONTROL, APP].into_iter().flat_map(|subject| methods(&subject));
    for (_, described) in all.filter(|(_, described)| !shows_states(described.name)) {
        let text = described.reply.as_value().to_string();
        assert!(!text.contains("\"key\"") && !text.contains("Secret"), "{}", described.name);
    }
}

/// What is served is what is made.
#[test]
fn every_method_is_described() {
    for (names, interfaces) in [(call::Call::NAMES, &INTERFACES), (app::AppCall::NAMES, &app::APP_INTERFACES)]
    {
        for name in names {
            let (interface, method) = name.rsplit_once('.').unwrap();
            let found = interfaces.iter().find(|found| found.name == interface).unwrap();
            assert!(found.description.contains(&format!("method {method}(")), "{name}");
        }
    }
}
