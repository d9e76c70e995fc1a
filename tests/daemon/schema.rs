//! The committed schemas of what verbs print, of which every word is understood or refused.

use serde_json::Value;

/// Panics unless the value is what the schema of this name says.
pub fn holds(name: &str, value: &Value) {
    let path = format!("{}/docs/schema/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let schema: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    if let Err(fault) = check(&schema, &schema, value) {
        panic!("{name}: {fault}\n{value}");
    }
}

fn check(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    for (word, said) in schema.as_object().unwrap() {
        let holds = match word.as_str() {
            "$schema" | "$defs" | "title" | "description" | "format" | "default" => true,
            "$ref" => {
                let path = said.as_str().unwrap().strip_prefix('#').unwrap();
                check(root, root.pointer(path).unwrap(), value)?;
                true
            }
            "type" if said.is_array() => said.as_array().unwrap().iter().any(|one| is_of(value, one)),
            "type" => is_of(value, said),
            "const" => value == said,
            "minimum" => value.as_f64().is_none_or(|value| value >= said.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|value| value <= said.as_f64().unwrap()),
            "minItems" => value.as_array().is_none_or(|all| all.len() as u64 >= said.as_u64().unwrap()),
            "maxItems" => value.as_array().is_none_or(|all| all.len() as u64 <= said.as_u64().unwrap()),
            "anyOf" => fitting(root, said, value) > 0,
            "oneOf" => fitting(root, said, value) == 1,
            "required" => {
                let has = |name: &Value| value.get(name.as_str().unwrap()).is_some();
                !value.is_object() || said.as_array().unwrap().iter().all(has)
            }
            // `properties` lets none pass that it does not name.
            "additionalProperties" => *said == Value::Bool(false),
            "properties" => {
                for (name, field) in value.as_object().into_iter().flatten() {
                    let schema = said.get(name).ok_or_else(|| format!("{name} is not in the schema"))?;
                    check(root, schema, field).map_err(|fault| format!("{name}: {fault}"))?;
                }
                true
            }
            "items" => {
                value.as_array().into_iter().flatten().try_for_each(|one| check(root, said, one))?;
                true
            }
            "prefixItems" => {
                let both = said.as_array().unwrap().iter().zip(value.as_array().into_iter().flatten());
                both.into_iter().try_for_each(|(schema, one)| check(root, schema, one))?;
                true
            }
            other => return Err(format!("the schema has a word that is not understood here: {other}")),
        };
        if !holds {
            return Err(format!("{value} is not {word} {said}"));
        }
    }
    Ok(())
}

fn fitting(root: &Value, schemas: &Value, value: &Value) -> usize {
    schemas.as_array().unwrap().iter().filter(|schema| check(root, schema, value).is_ok()).count()
}

fn is_of(value: &Value, kind: &Value) -> bool {
    match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        other => panic!("no such type: {other}"),
    }
}
