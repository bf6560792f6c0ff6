//! The facts as variables of a program.

use crate::notice::facts::Facts;

/// The largest JSON text that goes into a variable, in bytes; the kernel takes 128 KiB.
const MAX_JSON: usize = 100 << 10;
/// Where programs are found that the program calls.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// All variables; those without a value are empty, so that a script under `set -u` lives. None
/// holds a control character.
pub(super) fn of(facts: &Facts) -> Vec<(&'static str, String)> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let number = |value: Option<u32>| value.map(|n| n.to_string()).unwrap_or_default();
    let time = |value: Option<jiff::Timestamp>| value.map(|t| t.to_string()).unwrap_or_default();
    let word = |value: Option<&str>| value.unwrap_or_default().to_owned();
    let json = serde_json::to_string(facts).unwrap_or_default();
    vec![
        ("PATH", PATH.to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("LIMITER_SCHEMA", facts.schema.to_string()),
        ("LIMITER_ID", facts.id.clone()),
        ("LIMITER_SEQUENCE", facts.sequence.to_string()),
        ("LIMITER_EVENT_ID", facts.event_id.clone()),
        ("LIMITER_EVENT", facts.event.as_str().to_owned()),
        ("LIMITER_TIME", facts.time.to_string()),
        ("LIMITER_NODE", facts.node.clone()),
        ("LIMITER_TENANT", facts.tenant.clone()),
        ("LIMITER_PARENT", text(&facts.parent)),
        ("LIMITER_OBSERVED", u8::from(facts.observed).to_string()),
        ("LIMITER_POLICY", text(&facts.policy)),
        ("LIMITER_CASE", number(facts.case)),
        ("LIMITER_SANCTION", word(facts.sanction.map(|s| s.as_str()))),
        (
            "LIMITER_MEANWHILE",
            word(facts.meanwhile.map(|s| s.as_str())),
        ),
        ("LIMITER_PENDING", word(facts.pending.map(|s| s.as_str()))),
        ("LIMITER_STILL", still(facts)),
        ("LIMITER_SEVERITY", word(facts.severity.map(|s| s.as_str()))),
        ("LIMITER_OFFENCE", number(facts.offence)),
        ("LIMITER_UNTIL", time(facts.until)),
        ("LIMITER_DEADLINE", time(facts.deadline)),
        (
            "LIMITER_THEN",
            word(facts.then.map(|then| then.sanction.as_str())),
        ),
        ("LIMITER_THEN_AT", time(facts.then.map(|then| then.at))),
        ("LIMITER_HOW", how(facts)),
        ("LIMITER_COMPLAINT", text(&facts.complaint)),
        ("LIMITER_CLOCK", text(&facts.clock)),
        (
            "LIMITER_JSON",
            if json.len() <= MAX_JSON {
                json
            } else {
                String::new()
            },
        ),
    ]
}

/// What still holds, with spaces between.
fn still(facts: &Facts) -> String {
    let still: Vec<&str> = facts.still.iter().map(|still| still.as_str()).collect();
    still.join(" ")
}

fn how(facts: &Facts) -> String {
    match facts.how.map(serde_json::to_value) {
        Some(Ok(serde_json::Value::String(word))) => word,
        _ => String::new(),
    }
}
