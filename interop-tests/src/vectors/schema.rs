//! Checks vector files against `spec/vectors/schema.json`. Knows the words of JSON Schema
//! that the schema uses and refuses a schema that uses others, so that none is skipped.

use serde_json::Value;

/// Words that only people read.
const NOTES: [&str; 5] = ["$schema", "$id", "title", "description", "$defs"];

/// What is wrong with `value`, each with its place.
pub fn check(schema: &Value, value: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    walk(schema, schema, value, "", &mut wrong);
    wrong
}

fn walk(root: &Value, schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
    let Some(words) = schema.as_object() else {
        wrong.push(format!("{at}: the schema is no object"));
        return;
    };
    for (word, rule) in words {
        match word.as_str() {
            word if NOTES.contains(&word) => {}
            "$ref" => {
                let target = rule.as_str().and_then(|path| path.strip_prefix('#'));
                match target.and_then(|path| root.pointer(path)) {
                    Some(target) => walk(root, target, value, at, wrong),
                    None => wrong.push(format!("{at}: the schema refers to nothing: {rule}")),
                }
            }
            "type" => {
                let fits = match rule.as_str() {
                    Some("object") => value.is_object(),
                    Some("array") => value.is_array(),
                    Some("string") => value.is_string(),
                    _ => false,
                };
                if !fits {
                    wrong.push(format!("{at}: is no {rule}"));
                }
            }
            "enum" => {
                if !rule.as_array().is_some_and(|all| all.contains(value)) {
                    wrong.push(format!("{at}: {value} is none of {rule}"));
                }
            }
            "minLength" => {
                let least = rule.as_u64().unwrap_or(u64::MAX);
                if value
                    .as_str()
                    .is_none_or(|text| (text.len() as u64) < least)
                {
                    wrong.push(format!("{at}: too short"));
                }
            }
            "required" => {
                for name in rule.as_array().into_iter().flatten() {
                    let name = name.as_str().unwrap_or_default();
                    if value.get(name).is_none() {
                        wrong.push(format!("{at}: lacks {name}"));
                    }
                }
            }
            "properties" => {
                for (name, rule) in rule.as_object().into_iter().flatten() {
                    if let Some(value) = value.get(name) {
                        walk(root, rule, value, &format!("{at}/{name}"), wrong);
                    }
                }
            }
            "additionalProperties" => {
                let known = words.get("properties").and_then(Value::as_object);
                for (name, value) in value.as_object().into_iter().flatten() {
                    if known.is_some_and(|known| known.contains_key(name)) {
                        continue;
                    }
                    if *rule == Value::Bool(false) {
                        wrong.push(format!("{at}: {name} is not known"));
                    } else if rule.is_object() {
                        walk(root, rule, value, &format!("{at}/{name}"), wrong);
                    }
                }
            }
            "items" => {
                for (index, value) in value.as_array().into_iter().flatten().enumerate() {
                    walk(root, rule, value, &format!("{at}/{index}"), wrong);
                }
            }
            other => wrong.push(format!(
                "{at}: the schema uses {other}, which is not checked"
            )),
        }
    }
}
