//! `cargo xtask guard` as it is typed, on figures of before: what it lets pass, and what it says.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

/// The baseline of this checkout.
fn committed() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/guard/baseline.json");
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// A measurement that found exactly what a baseline says, on its first kernel.
fn figures_of(baseline: &Value) -> Value {
    let (kernel, on_kernel) = baseline["kernels"]
        .as_object()
        .unwrap()
        .iter()
        .next()
        .unwrap();
    json!({
        "kernel": kernel,
        "compiler": baseline["compiler"],
        "object": baseline["object"],
        "programs": on_kernel["programs"],
        "ratios": on_kernel["ratios"],
    })
}

/// All numbers of a baseline but its margins, made half as large.
fn halve(value: &mut Value) {
    match value {
        Value::Object(fields) => fields
            .iter_mut()
            .filter(|(name, _)| *name != "margins")
            .for_each(|(_, field)| halve(field)),
        Value::Number(number) => {
            *value = match number.as_u64() {
                Some(count) => json!(count / 2),
                None => json!(number.as_f64().unwrap() / 2.0),
            }
        }
        _ => {}
    }
}

struct Desk {
    directory: TempDir,
}

impl Desk {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn put(&self, name: &str, value: &Value) {
        fs::write(self.file(name), value.to_string()).unwrap();
    }

    /// Compares `figures` with `baseline`, or makes a baseline of them.
    fn guard(&self, more: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_xtask"))
            .arg("guard")
            .arg("--figures")
            .arg(self.file("figures"))
            .arg("--baseline")
            .arg(self.file("baseline"))
            .args(more)
            .output()
            .unwrap()
    }
}

/// Exit code, and all that was said.
fn said(output: &Output) -> (Option<i32>, String) {
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    (output.status.code(), format!("{out}{err}"))
}

#[test]
fn what_is_as_it_was_passes() {
    let desk = Desk::new();
    let baseline = committed();
    desk.put("baseline", &baseline);
    desk.put("figures", &figures_of(&baseline));
    let (code, text) = said(&desk.guard(&[]));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("all within their margins"), "{text}");
}

#[test]
fn what_grew_fails_and_is_named_with_all_that_one_has_to_know() {
    let desk = Desk::new();
    let found = figures_of(&committed());
    let mut smaller = committed();
    halve(&mut smaller);
    desk.put("baseline", &smaller);
    desk.put("figures", &found);
    let (code, text) = said(&desk.guard(&[]));
    assert_eq!(code, Some(1), "{text}");
    for (section, name, margin) in [
        ("object", "limiter_connect4", "counts_percent"),
        ("ratios", "connect4: mail, allowed", "ratios_percent"),
    ] {
        let line = text.lines().find(|line| line.contains(name)).unwrap();
        let margin = format!("+{} %", smaller["margins"][margin]);
        assert!(
            line.contains(&margin) && line.ends_with("TOO MUCH"),
            "{line}"
        );
        let figure = &found[section][name];
        let figure = figure.as_u64().map_or_else(
            || format!("{:.3}", figure.as_f64().unwrap()),
            |count| count.to_string(),
        );
        assert!(line.contains(&format!(" {figure} ")), "{line}: {figure}");
    }
    assert!(text.contains("limiter_uplink: verified"), "{text}");
    assert!(text.contains("cargo xtask guard --bless"), "{text}");
}

#[test]
fn blessing_makes_it_pass_and_says_the_same_each_time() {
    let desk = Desk::new();
    let mut smaller = committed();
    halve(&mut smaller);
    desk.put("baseline", &smaller);
    desk.put("figures", &figures_of(&committed()));
    let (code, text) = said(&desk.guard(&["--bless"]));
    assert_eq!(code, Some(0), "{text}");
    let first = fs::read_to_string(desk.file("baseline")).unwrap();
    assert_eq!(said(&desk.guard(&[])).0, Some(0));
    desk.guard(&["--bless"]);
    assert_eq!(fs::read_to_string(desk.file("baseline")).unwrap(), first);
}

#[test]
fn on_another_kernel_it_says_what_it_left_out() {
    let desk = Desk::new();
    let baseline = committed();
    let mut figures = figures_of(&baseline);
    figures["kernel"] = json!("4.4 mips");
    desk.put("baseline", &baseline);
    desk.put("figures", &figures);
    let (code, text) = said(&desk.guard(&[]));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("nothing of Linux 4.4 mips"), "{text}");
    assert!(
        text.contains("only the instructions of the object"),
        "{text}"
    );
}

#[test]
fn without_a_baseline_it_says_how_to_make_one() {
    let desk = Desk::new();
    desk.put("figures", &figures_of(&committed()));
    let (code, text) = said(&desk.guard(&[]));
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("no baseline") && text.contains("--bless"),
        "{text}"
    );
}
