//! Whatever the files contain: no panic, no hang, no fault without a place.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::policy::yaml::Documents;

const MAIN: &str = include_str!("../fixtures/limiter.yaml");
const ALICE: &str = include_str!("../fixtures/alice.yaml");

/// Loads both and checks what holds for every outcome.
fn survive(main: &[u8], tenants: &[u8]) {
    let config = Config::new("")
        .write("limiter.yaml", main)
        .write("tenants.d/t.yaml", tenants);
    let start = Instant::now();
    let loaded = config.load();
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "took {:?}",
        start.elapsed()
    );
    let error = loaded.faults.iter().any(|f| f.severity == Severity::Error);
    assert_eq!(loaded.policy.is_none(), error);
    for fault in &loaded.faults {
        assert!(fault.origin.file.is_absolute() && !fault.problem.is_empty());
        assert!(!fault.allowed.is_empty() && !fault.to_string().contains(char::is_control));
    }
    if let Some(policy) = loaded.policy {
        let json = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<Policy>(&json).unwrap(), policy);
        assert!(!crate::policy::describe::summary(&policy).is_empty());
    }
}

#[test]
fn a_bomb_of_aliases_is_defused() {
    let mut bomb = "tenant: a\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..20 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        bomb += &format!("a{level}: &a{level} [{below}]\n");
    }
    let config = Config::tenants(&bomb);
    let start = Instant::now();
    let faults = config.faults();
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(
        faults
            .iter()
            .any(|f| f.contains("expand to more than 1000000 values")),
        "{faults:?}"
    );
}

#[test]
fn deep_nesting_is_refused() {
    for (open, close) in [("[", "]"), ("{a: ", "}")] {
        for depth in [33, 300, 100_000] {
            let text = format!(
                "tenant: a\ncontact: {}{}\n",
                open.repeat(depth),
                close.repeat(depth)
            );
            let start = Instant::now();
            let faults = Config::tenants(&text).faults();
            assert!(start.elapsed() < Duration::from_secs(5), "{depth}");
            // The parser's own bound is seen first where all stands on one line.
            assert!(
                faults[0].contains("nested deeper than 32 levels")
                    || (depth > 33 && faults[0].contains("not YAML: recursion limit exceeded")),
                "{faults:?}"
            );
        }
    }
    let text = format!("tenant: a\ncontact:\n  {}x\n", "- ".repeat(100_000));
    assert!(Config::tenants(&text).faults()[0].contains("nested deeper than 32 levels"));
    // Each level deepens by alias what is near the bound already.
    let text = format!(
        "a: &a {}x{}\nb: {}*a{}\n",
        "[".repeat(20),
        "]".repeat(20),
        "[".repeat(20),
        "]".repeat(20)
    );
    assert!(Config::tenants(&text).faults()[0].contains("nested deeper than 32 levels"));
}

#[test]
fn big_odd_texts_take_no_time() {
    for text in [
        "[\n".repeat(300_000),
        "---\n[\n".repeat(100_000),
        "--- ]\n".repeat(100_000),
        "? ".repeat(300_000),
        "a: ".repeat(300_000),
        "'".repeat(1_000_001),
        "\"\\".repeat(300_000),
        "a\n".repeat(300_000),
        "# x\n".repeat(300_000),
        "&a ".repeat(300_000),
        "!a ".repeat(300_000),
        "- |\n".repeat(100_000),
        "-\n".repeat(300_000),
        "%YAML 1.2\n".repeat(100_000),
        format!("x: {}", "y".repeat(5_000_000)),
        format!("tenant: a\ncontact: [{}]\n", "a, ".repeat(300_000)),
        format!("{{{}}}", "\"a\": 1, ".repeat(100_000)),
    ] {
        let start = Instant::now();
        survive(b"", text.as_bytes());
        let shown: String = text.chars().take(12).collect();
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "{shown:?}: {:?}",
            start.elapsed()
        );
    }
}

/// Pieces that mean something to YAML or to the configuration.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(vec![
            "[",
            "]",
            "{",
            "}",
            ":",
            ": ",
            ",",
            "- ",
            "? ",
            "---\n",
            "...\n",
            "\n",
            "\n  ",
            "&a ",
            "*a",
            "<<: ",
            "!!str ",
            "!x ",
            "'",
            "\"",
            "|\n",
            ">-\n",
            "# ",
            "%TAG ",
            "\t",
            "\r\n",
            "null",
            "~",
            "-1",
            "0",
            "1h",
            "tenant",
            "plan",
            "limits",
            "unit",
            "connections",
            "max",
            "window",
            "match",
            "uids",
            "users",
            "parent",
            "domains",
            "name",
            "\u{2028}",
            "\u{feff}",
            "ü",
            "9999999999999999999999",
            "10.0.0.0/8",
            "::/0",
            "\\",
            "\\x",
        ])
        .prop_map(str::to_owned),
        "[a-z]{0,4}",
        "\\PC{0,3}",
    ]
}

fn mutated(text: &'static str) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec((0..text.len(), 0_usize..6, piece()), 1..6).prop_map(move |edits| {
        let mut bytes = text.as_bytes().to_vec();
        for (at, remove, insert) in edits {
            let at = at.min(bytes.len());
            let end = (at + remove).min(bytes.len());
            bytes.splice(at..end, insert.bytes());
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_bytes(main in proptest::collection::vec(any::<u8>(), 0..300),
                 tenants in proptest::collection::vec(any::<u8>(), 0..300)) {
        survive(&main, &tenants);
    }

    #[test]
    fn any_text(pieces in proptest::collection::vec(piece(), 0..60)) {
        let text = pieces.concat();
        survive(text.as_bytes(), text.as_bytes());
    }

    #[test]
    fn any_mutation(main in mutated(MAIN), tenants in mutated(ALICE)) {
        survive(&main, &tenants);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_yaml_reader_ends(pieces in proptest::collection::vec(piece(), 0..80)) {
        let text = pieces.concat();
        let mut documents = Documents::new(&text);
        let mut count = 0;
        while documents.next_document().is_some() {
            count += 1;
            prop_assert!(count <= text.len() + 1);
        }
        for fault in documents.take_faults() {
            prop_assert!(fault.mark.line >= 1 && fault.mark.column >= 1);
        }
    }
}
