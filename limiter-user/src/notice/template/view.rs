//! The facts as templates see them: the keys of the JSON form, with times as people read them and
//! a few words more.

use serde_json::{Map, Value};

use crate::{
    notice::{facts::Facts, time, words},
    offence::Sanction,
};

/// What a template may speak of.
pub(super) fn of(facts: &Facts) -> Value {
    // Facts hold nothing that JSON has no form for.
    let mut view = match serde_json::to_value(facts) {
        Ok(Value::Object(view)) => view,
        _ => Map::new(),
    };
    let mut set = |key: &str, value: Option<String>| {
        view.insert(key.to_owned(), value.map_or(Value::Null, Value::String));
    };
    let name = |sanction: Option<Sanction>| sanction.map(|s| words::name(s).to_owned());
    set("time", Some(time::human(facts.time)));
    set("until", facts.until.map(time::human));
    set("opened_until", facts.opened_until.map(time::human));
    set("deadline", facts.deadline.map(time::human));
    set("sanction_name", name(facts.sanction));
    set("meanwhile_name", name(facts.meanwhile));
    set("pending_name", name(facts.pending));
    let still: Vec<&str> = facts
        .still
        .iter()
        .map(|still| words::name(*still))
        .collect();
    set("still_names", (!still.is_empty()).then(|| still.join(", ")));
    set("how_words", facts.how.map(|how| words::how(how).to_owned()));
    set("reference", Some(reference(facts)));
    if let (Some(then), Some(Value::Object(map))) = (facts.then, view.get_mut("then")) {
        map.insert("at".into(), Value::String(time::human(then.at)));
        map.insert(
            "name".into(),
            Value::String(words::name(then.sanction).into()),
        );
    }
    if let Some(Value::Array(lines)) = view.get_mut("evidence") {
        for (line, shown) in facts.evidence.iter().zip(lines) {
            if let Value::Object(map) = shown {
                for (key, at) in [("first", line.first), ("last", line.last)] {
                    let text = at.map_or(Value::Null, |at| Value::String(time::human(at)));
                    map.insert(key.to_owned(), text);
                }
            }
        }
    }
    Value::Object(view)
}

/// What to quote when one writes back: `hostup/3`, or the notice's id.
fn reference(facts: &Facts) -> String {
    match (&facts.policy, facts.case) {
        (Some(policy), Some(case)) => format!("{} {policy}/{case}", facts.tenant),
        _ => facts.id.clone(),
    }
}
