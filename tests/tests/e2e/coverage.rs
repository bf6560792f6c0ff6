//! Interfaces without their program are named where no agent runs too, and those that look like a
//! guest's and match no glob.

use limiter_tests::{Agent, Config, Node, process};
use serde_json::Value;

fn ip(node: &Node, line: &str) {
    let mut command = node.root().command("ip");
    let _ = process::run(command.args(line.split_whitespace()), "").success(line);
}

fn agent(node: &Node) -> Agent<'_> {
    let config = Config::new("mode: enforce", "").attached_also("guests: [\"veth*\"]");
    Agent::start(node, &config)
}

/// What doctor says of interfaces.
fn interfaces(agent: &Agent) -> Vec<Value> {
    let out = agent.cli(&["doctor", "--json"]).stdout;
    let report: Value = serde_json::from_str(&out).expect("JSON");
    let findings = report["findings"].as_array().expect("a list");
    let of_interfaces = findings.iter().filter(|one| one["area"] == "interfaces");
    of_interfaces.cloned().collect()
}

#[test]
fn what_came_while_nobody_was_there_is_named() {
    let node = Node::new();
    ip(&node, "link add vethq1 type veth peer name faq1");
    let agent = agent(&node);
    let [well] = &interfaces(&agent)[..] else {
        panic!("{:#?}", interfaces(&agent))
    };
    assert_eq!(well["level"], "ok", "{well:#}");

    agent.kill_9();
    assert!(!agent.status().to_string().contains("not attached"));
    ip(&node, "link add vethq2 type veth peer name faq2");
    let status = agent.status();
    assert_eq!(status["healthy"], false, "{status:#}");
    let layers = status["layers"].as_array().expect("a list");
    let at = |name: &str| layers.iter().find(|layer| layer["target"] == name);
    assert_eq!(at("vethq1").expect("a layer")["attached"], true);
    assert_eq!(at("vethq2").expect("a layer")["attached"], false);
    let errors: Vec<&Value> = status["problems"]
        .as_array()
        .expect("a list")
        .iter()
        // That no agent runs is said beside it.
        .filter(|problem| problem.to_string().contains("not attached"))
        .collect();
    let [error] = &errors[..] else {
        panic!("{status:#}")
    };
    assert_eq!(error["severity"], "error", "{error:#}");
    assert!(error.to_string().contains("vethq2"), "{error:#}");
    assert!(!error.to_string().contains("vethq1"), "{error:#}");
    let text = agent.cli(&["status"]);
    assert_eq!(text.code, 1, "{}", text.stdout);
    assert!(text.stdout.contains("guest    NO"), "{}", text.stdout);

    let [bare] = &interfaces(&agent)[..] else {
        panic!("{:#?}", interfaces(&agent))
    };
    assert_eq!(bare["level"], "warning", "{bare:#}");
    let what = bare["what"].as_str().expect("words");
    assert!(what.starts_with("without coverage: vethq2: "), "{what}");

    agent.run();
    assert_eq!(agent.status()["healthy"], true, "{:#}", agent.status());
}

#[test]
fn a_stranger_is_named_by_doctor() {
    let node = Node::new();
    let agent = agent(&node);
    ip(&node, "tuntap add dev strange0 mode tap");
    let found = interfaces(&agent);
    let odd = found.iter().find(|one| one["level"] == "warning");
    let odd = odd.unwrap_or_else(|| panic!("{found:#?}"));
    let what = odd["what"].as_str().expect("words");
    assert!(
        what.contains("strange0 looks like a guest's interface"),
        "{what}"
    );
}
