//! Rules on mail ports in the output of `nft -j list ruleset` (libnftables-json(5)).

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

use super::{MAIL_PORTS, list};
use crate::kernel::doctor::report::several;

/// A chain with rules on mail ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// `inet`, `ip`, `ip6`…
    pub family: String,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Where it is hooked; none for a chain that others jump to.
    pub hook: Option<String>,
    /// How many of its rules match a mail port as destination.
    pub rules: usize,
    /// The mail ports they match.
    pub ports: Vec<u16>,
    /// What they do: drop, reject, limit…
    pub actions: Vec<String>,
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} on port {} in chain {} {} {}",
            several(self.rules, "rule"),
            list(&self.ports),
            self.family,
            self.table,
            self.name
        )?;
        if let Some(hook) = &self.hook {
            write!(f, " (hook {hook})")?;
        }
        write!(f, ": {}", self.actions.join(", "))
    }
}

type Key = (String, String, String);

/// The chains with rules on mail ports.
///
/// # Errors
///
/// It is not what nft prints.
pub fn mail_rules(text: &str) -> Result<Vec<Chain>, String> {
    let root: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let objects = root
        .get("nftables")
        .and_then(Value::as_array)
        .ok_or("no list of objects")?;
    let mut hooks: BTreeMap<Key, String> = BTreeMap::new();
    let mut sets: BTreeMap<Key, &Value> = BTreeMap::new();
    for object in objects {
        if let Some(chain) = object.get("chain")
            && let Some(hook) = chain.get("hook").and_then(Value::as_str)
        {
            hooks.insert(key(chain, "name"), hook.to_owned());
        }
        for kind in ["set", "map"] {
            if let Some(set) = object.get(kind)
                && let Some(elements) = set.get("elem")
            {
                sets.insert(key(set, "name"), elements);
            }
        }
    }
    let mut chains: BTreeMap<Key, Chain> = BTreeMap::new();
    for rule in objects.iter().filter_map(|object| object.get("rule")) {
        let Some(statements) = rule.get("expr").and_then(Value::as_array) else {
            continue;
        };
        let at = key(rule, "chain");
        let named = |name: &str| {
            sets.get(&(at.0.clone(), at.1.clone(), name.to_owned()))
                .copied()
        };
        let ports: Vec<u16> = MAIL_PORTS
            .into_iter()
            .filter(|port| statements.iter().any(|one| concerns(one, *port, &named)))
            .collect();
        if ports.is_empty() {
            continue;
        }
        let chain = chains.entry(at.clone()).or_insert_with(|| Chain {
            hook: hooks.get(&at).cloned(),
            family: at.0,
            table: at.1,
            name: at.2,
            rules: 0,
            ports: Vec::new(),
            actions: Vec::new(),
        });
        chain.rules += 1;
        chain.ports.extend(ports);
        chain.ports.sort_unstable();
        chain.ports.dedup();
        for action in statements.iter().filter_map(action) {
            if !chain.actions.contains(&action) {
                chain.actions.push(action);
            }
        }
    }
    Ok(chains.into_values().collect())
}

/// Family, table and name of an object, the name standing under `name`.
fn key(object: &Value, name: &str) -> Key {
    let field = |name: &str| {
        let value = object.get(name).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    (field("family"), field("table"), field(name))
}

/// Whether a statement matches, or looks up, `port` as destination.
fn concerns<'a>(
    statement: &'a Value,
    port: u16,
    named: &impl Fn(&str) -> Option<&'a Value>,
) -> bool {
    if let Some(test) = statement.get("match") {
        let (Some(left), Some(right)) = (test.get("left"), test.get("right")) else {
            return false;
        };
        if test.get("op").and_then(Value::as_str) == Some("!=") {
            return false;
        }
        return holds(left, right, port, named);
    }
    // tcp dport vmap { 25 : drop }
    statement
        .get("vmap")
        .and_then(|map| Some(holds(map.get("key")?, map.get("data")?, port, named)))
        .unwrap_or(false)
}

/// Whether `right`, a value or a set of them, holds `port` where `left` has the destination port.
fn holds<'a>(
    left: &'a Value,
    right: &'a Value,
    port: u16,
    named: &impl Fn(&str) -> Option<&'a Value>,
) -> bool {
    let right = match right.as_str().and_then(|text| text.strip_prefix('@')) {
        Some(name) => match named(name) {
            Some(elements) => elements,
            None => return false,
        },
        None => right,
    };
    if is_dport(left) {
        return matches(right, None, port);
    }
    // Destination port as a part of a concatenation.
    let place = left
        .get("concat")
        .and_then(Value::as_array)
        .and_then(|parts| parts.iter().position(is_dport));
    place.is_some_and(|place| matches(right, Some(place), port))
}

fn is_dport(left: &Value) -> bool {
    left.get("payload").is_some_and(|payload| {
        let field = |name: &str| payload.get(name).and_then(Value::as_str);
        field("field") == Some("dport") && matches!(field("protocol"), Some("tcp" | "th"))
    })
}

/// Whether a value is or holds `port`; in concatenations, at `place`.
fn matches(value: &Value, place: Option<usize>, port: u16) -> bool {
    if let (Some(place), Some(parts)) = (place, value.get("concat").and_then(Value::as_array)) {
        return parts
            .get(place)
            .is_some_and(|part| matches(part, None, port));
    }
    if let Some(number) = value.as_u64() {
        return place.is_none() && number == u64::from(port);
    }
    if let Some(text) = value.as_str() {
        let number = match text {
            "smtp" => 25,
            "submissions" | "urd" | "smtps" => 465,
            "submission" => 587,
            _ => return false,
        };
        return number == port;
    }
    if let Some(ends) = value.get("range").and_then(Value::as_array) {
        let ends: Vec<u64> = ends.iter().filter_map(Value::as_u64).collect();
        return matches!(ends[..], [first, last] if (first..=last).contains(&u64::from(port)));
    }
    if let Some(element) = value.get("elem") {
        return matches(element.get("val").unwrap_or(element), place, port);
    }
    if let Some(set) = value.get("set") {
        return matches(set, place, port);
    }
    match value.as_array() {
        // In a map elements are pairs of key and value.
        Some(items) => items.iter().any(|item| match item.as_array() {
            Some(pair) => pair.first().is_some_and(|key| matches(key, place, port)),
            None => matches(item, place, port),
        }),
        None => false,
    }
}

/// What a statement does, if it does something.
fn action(statement: &Value) -> Option<String> {
    let (name, value) = statement.as_object()?.iter().next()?;
    match name.as_str() {
        "match" | "counter" | "comment" => None,
        "jump" | "goto" => {
            let target = value.get("target").and_then(Value::as_str).unwrap_or("?");
            Some(format!("{name} {target}"))
        }
        "vmap" => Some("verdict map".to_owned()),
        other => Some(other.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULESET: &str = include_str!("../fixtures/nft.json");

    #[test]
    fn rules_on_mail_ports_are_found_however_they_are_written() {
        let chains = mail_rules(RULESET).unwrap();
        let text: Vec<String> = chains.iter().map(Chain::to_string).collect();
        assert_eq!(
            text,
            [
                "2 rules on port 25, 465, 587 in chain inet filter output (hook output): \
                 accept, reject",
                "1 rule on port 465 in chain inet filter shared: limit, drop",
                "2 rules on port 25, 587 in chain ip guard forward (hook forward): jump mail, \
                 verdict map",
            ]
        );
    }

    #[test]
    fn what_is_no_ruleset_is_said() {
        assert!(mail_rules("").is_err());
        assert!(mail_rules("{}").is_err());
        assert_eq!(mail_rules("{\"nftables\": []}").unwrap(), []);
        assert_eq!(
            mail_rules("{\"nftables\": [1, {\"rule\": {\"expr\": [3]}}]}").unwrap(),
            []
        );
    }
}
