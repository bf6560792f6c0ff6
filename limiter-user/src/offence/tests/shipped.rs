//! The policies that come with the product: they load, and state the rules they are made from.

use std::collections::BTreeMap;

use super::*;

const NAMES: [&str; 5] = ["mvmcloud", "ix-cm", "hostup", "crux", "strict"];
/// The rules of the requirements that a policy file must state.
const RULES: [u32; 16] = [7, 8, 10, 13, 14, 20, 21, 22, 23, 24, 25, 30, 31, 32, 33, 34];

#[test]
fn each_loads_without_an_error_and_is_named_like_its_file() {
    for name in NAMES {
        assert_eq!(shipped(name).name, name);
    }
}

#[test]
fn each_rule_is_named_beside_a_line_that_states_something() {
    let mut stated: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for name in NAMES {
        let text = std::fs::read_to_string(shipped_path(name)).unwrap();
        for line in text.lines() {
            let Some((before, comment)) = line.split_once('#') else {
                continue;
            };
            // A whole line of comment belongs to what stands below it; R13 is the file itself.
            if before.trim().is_empty() && !comment.contains("R13") {
                continue;
            }
            for word in comment.split(|c: char| !c.is_ascii_alphanumeric()) {
                let number = word.strip_prefix('R').and_then(|rest| rest.parse().ok());
                if let Some(number) = number {
                    stated
                        .entry(number)
                        .or_default()
                        .push(format!("{name}: {line}"));
                }
            }
        }
    }
    let missing: Vec<u32> = RULES
        .into_iter()
        .filter(|rule| !stated.contains_key(rule))
        .collect();
    assert!(missing.is_empty(), "nowhere stated: {missing:?}");
    let unknown: Vec<_> = stated
        .keys()
        .filter(|rule| **rule > 34 || **rule == 0)
        .collect();
    assert!(unknown.is_empty(), "no such rules: {unknown:?}");
}

#[test]
fn they_survive_being_written_and_read() {
    for name in NAMES {
        let ladder = shipped(name);
        let text = serde_json::to_string(&ladder).unwrap();
        assert_eq!(serde_json::from_str::<Ladder>(&text).unwrap(), ladder);
    }
}
