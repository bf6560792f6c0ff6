//! `limiter mta check`: says that the mail server asks where it does, and why not where it does not; and
//! costs nobody anything.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use limiter_tests::{
    Agent, Config,
    post::{Steps, people},
    process::run,
};
use serde_json::Value;

use super::{ALICE, CONFIG, MailServer, TENANTS, dovecot, exim, postfix, used};

/// What it says, and whether it is content.
fn check(agent: &Agent<'_>, words: &[&str], input: &str) -> (bool, Value) {
    let mut command = agent.command();
    command.args(["mta", "check", "--json"]).args(words);
    let out = run(&mut command, input);
    let said: Value = serde_json::from_str(&out.stdout)
        .unwrap_or_else(|error| panic!("{error}: {} {}", out.stdout, out.stderr));
    assert_eq!(said["asks"], out.code == 0, "{said:#}");
    (out.code == 0, said)
}

#[track_caller]
fn is_content(agent: &Agent<'_>, words: &[&str], input: &str, services: &[&str]) {
    let (content, said) = check(agent, words, input);
    assert!(content, "{said:#}");
    let asked = said["asked"].as_array().expect("a list");
    let mut by: Vec<&str> = asked
        .iter()
        .filter_map(|asked| asked["service"].as_str())
        .collect();
    by.sort_unstable();
    assert_eq!(by, services, "{said:#}");
}

#[track_caller]
fn complains(agent: &Agent<'_>, words: &[&str], why: &str) {
    let (content, said) = check(agent, words, "");
    assert!(!content, "{said:#}");
    let problems = said["problems"].as_array().expect("a list");
    assert!(
        problems
            .iter()
            .any(|it| it["problem"].as_str().is_some_and(|it| it.contains(why))),
        "{why}: {said:#}"
    );
}

#[track_caller]
fn warns(agent: &Agent<'_>, words: &[&str], why: &str, remedy: &str) {
    let (content, said) = check(agent, words, "");
    assert!(content, "{said:#}");
    let problem = &said["problems"][0];
    assert_eq!(problem["severity"], "warning", "{said:#}");
    for (key, text) in [("problem", why), ("remedy", remedy)] {
        assert!(
            problem[key].as_str().is_some_and(|it| it.contains(text)),
            "{said:#}"
        );
    }
}

fn close(directory: &Path, mode: u32) {
    fs::set_permissions(directory, fs::Permissions::from_mode(mode)).expect("it is root's");
}

#[test]
fn postfix_asks_or_it_is_said_why_not() {
    let town = postfix::town();
    let agent = Agent::start(&town.node, &Config::new(CONFIG, TENANTS));
    let chrooted = ["postfix", "--listens", "127.0.0.1:2525"];
    complains(&agent, &["postfix"], "not told to ask the policy service");
    complains(&agent, &["postfix"], "not told to ask the milter");
    complains(
        &agent,
        &["postfix", "--listens", "127.0.0.1:7"],
        "broke off",
    );
    // Where the socket is by itself, which is nowhere in a chroot.
    let socket = agent.home().join("policy.sock");
    let setting = format!(
        "smtpd_recipient_restrictions = check_policy_service unix:{}, permit_mynetworks, reject",
        socket.display()
    );
    let mut postconf = town.node.root().command("postconf");
    let _ = run(postconf.args(["-e", &setting]), "").success("postconf");
    let mut reload = town.node.root().command("postfix");
    let _ = run(reload.arg("reload"), "").success("postfix");
    complains(&agent, &chrooted, "outside its queue directory");
    let before = "smtpd_recipient_restrictions = permit_mynetworks, reject_unauth_destination";
    let mut postconf = town.node.root().command("postconf");
    let _ = run(postconf.args(["-e", before]), "").success("postconf");
    town.lock().start(&town.node, &agent);
    for words in [&["postfix"][..], &chrooted] {
        is_content(&agent, words, "", &["policy"]);
    }
    // Something that may refuse what was counted.
    let mut postconf = town.node.root().command("postconf");
    let checks = "header_checks = static:DUNNO";
    let _ = run(postconf.args(["-e", checks]), "").success("postconf");
    complains(&agent, &["postfix"], "refuses stays counted");
    let steps = Steps::of(&agent, "postfix", &[]);
    for word in ["postconf", "postfix"] {
        steps.run(&town.node, word);
    }
    let directory = town.lock().queue().join("limiter");
    close(&directory, 0o700);
    complains(&agent, &["postfix"], "may not enter");
    close(&directory, 0o755);
    is_content(&agent, &["postfix"], "", &["milter", "policy"]);
    // Nobody paid for any of it, and nothing went out.
    let default = agent.tenant("(default)");
    assert_eq!(
        (&default["allowed"], &default["denied"]),
        (&0.into(), &0.into())
    );
    // What it expands after it asked: a warning, and it asks all the same.
    let (_, said) = check(&agent, &["postfix"], "");
    assert_eq!(said["problems"], serde_json::json!([]), "{said:#}");
    let mut postconf = town.node.root().command("postconf");
    let local = "mydestination = local.example";
    let _ = run(postconf.args(["-e", local]), "").success("postconf");
    warns(
        &agent,
        &["postfix"],
        "users' own .forward files",
        "'forward_path ='",
    );
    let mut postconf = town.node.root().command("postconf");
    let _ = run(postconf.args(["-e", "forward_path ="]), "").success("postconf");
    let (_, said) = check(&agent, &["postfix"], "");
    assert_eq!(said["problems"], serde_json::json!([]), "{said:#}");
    let said = town.smtp(&town.node.user(ALICE), "x@shop.example", &people("a", 1));
    assert_eq!(said.taken(), 1, "{said:?}");
    assert_eq!(used(&agent, "alice"), 1);
    town.wait_for_arrival(1);
}

#[test]
fn exim_asks_or_it_is_said_why_not() {
    let town = exim::town();
    let agent = Agent::start(&town.node, &Config::new(CONFIG, TENANTS));
    let program = town.lock().sendmail().display().to_string();
    let words = ["exim", "--program", &program];
    complains(&agent, &words, "not told to ask in acl_smtp_rcpt");
    complains(&agent, &words, "broke off");
    // The same for people.
    let text = agent.cli(&["mta", "check", "exim", "--program", &program]);
    assert!(
        text.stdout
            .starts_with("Exim: DOES NOT ASK\n  the session with Exim broke off"),
        "{text:?}"
    );
    town.lock().start(&town.node, &agent);
    is_content(&agent, &words, "", &["policy"]);
    close(agent.home(), 0o700);
    complains(&agent, &words, "may not enter");
    close(agent.home(), 0o755);
    is_content(&agent, &words, "", &["policy"]);
    let file = town.node.directory().join("etc/exim4/exim4.conf");
    let text = fs::read_to_string(&file).expect("it is there");
    let router = "begin routers
userforward:
  driver = redirect
  check_local_user
  file = $home/.forward
";
    town.node
        .etc()
        .write("exim4/exim4.conf", &text.replace("begin routers\n", router));
    warns(
        &agent,
        &words,
        "router userforward",
        "`condition = false` in the router userforward",
    );
    let default = agent.tenant("(default)");
    assert_eq!(
        (&default["allowed"], &default["denied"]),
        (&0.into(), &0.into())
    );
}

#[test]
fn dovecot_asks_or_it_is_said_why_not() {
    let house = dovecot::House::new();
    let at = house.configuration().display().to_string();
    let words = ["dovecot", "--at", &at];
    let login = ["dovecot", "--at", &at, "--login", dovecot::ALICE];
    {
        let agent = Agent::start(&house.node, &Config::new(dovecot::CONFIG, ""));
        complains(&agent, &words, "not told to ask");
        complains(&agent, &login, "not told to ask");
    }
    let agent = house.agent();
    is_content(&agent, &words, "", &[]);
    is_content(&agent, &login, "right\n", &["dovecot"]);
    complains(&agent, &login, "did not ask");
    // It was not counted.
    house.thirty_fit();
}
