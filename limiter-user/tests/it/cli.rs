//! The binary: what it prints, and its exit codes.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Command, Output, Stdio},
    sync::Arc,
    time::Duration,
};

use limiter_user::report::{
    problem::Problem,
    store::{Store, StoreOptions},
};
use tempfile::TempDir;

use crate::node::{Agent, Setup, event, fault, start};

/// The binary, with every path below `directory`.
fn limiter(directory: &Path) -> Command {
    let config = directory.join("limiter.yaml");
    if !config.exists() {
        fs::write(
            &config,
            "version: 1\nstate_dir: .\npin_dir: pins\ncontrol: control.sock\n",
        )
        .unwrap();
        fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_limiter"));
    command
        .arg("--config")
        .arg(config)
        .env_remove("RUST_LOG")
        .env("TZ", "UTC")
        .stdin(Stdio::null());
    command
}

/// What a run of the binary printed, and its exit code.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn run(directory: &Path, args: &[&str]) -> Ran {
    ran(limiter(directory).args(args).output().unwrap())
}

/// Runs the binary against the agent in this process, whose threads must go on meanwhile.
async fn ask(agent: &Agent, args: &[&str]) -> Ran {
    let directory = agent.state_dir().to_owned();
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    tokio::task::spawn_blocking(move || {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        run(&directory, &args)
    })
    .await
    .unwrap()
}

#[test]
fn wrong_usage_is_2() {
    let directory = tempfile::tempdir().unwrap();
    for args in [
        &[][..],
        &["nonsense"],
        &["status", "a", "b"],
        &["explain", "--to", "203.0.113.5:25"],
        &[
            "explain",
            "--uid",
            "1",
            "--pid",
            "2",
            "--to",
            "203.0.113.5:25",
        ],
        &["explain", "--uid", "1"],
        &["explain", "--uid", "1", "--to", "203.0.113.5"],
        &["explain", "--uid", "-1", "--to", "203.0.113.5:25"],
        &["explain", "--cgroup", "a", "--to", "203.0.113.5:25"],
        &["observe"],
        &["observe", "--for", "30"],
        &["observe", "--for", "32d"],
        &["observe", "--for", "1h", "--end"],
        &["events", "--since", "yesterday"],
    ] {
        let ran = run(directory.path(), args);
        assert_eq!(ran.code, Some(2), "{args:?}: {}", ran.err);
        assert!(ran.out.is_empty() && !ran.err.is_empty(), "{args:?}");
    }
    assert_eq!(run(directory.path(), &["--help"]).code, Some(0));
    assert_eq!(run(directory.path(), &["--version"]).code, Some(0));
}

#[test]
fn a_bad_configuration_is_2() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("limiter.yaml"), "control: [\n").unwrap();
    for command in ["check", "status", "detach", "doctor"] {
        let ran = run(directory.path(), &[command]);
        assert_eq!(ran.code, Some(2), "{command}: {} {}", ran.out, ran.err);
        let said = format!("{}{}", ran.out, ran.err);
        assert!(said.contains("limiter.yaml"), "{command}: {said}");
    }
    let json = run(directory.path(), &["check", "--json"]);
    assert_eq!(json.code, Some(2));
    let checked: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(checked["loadable"], false);
    assert!(checked["summary"].is_null());
    assert_eq!(checked["faults"][0]["severity"], "error");
}

#[test]
fn what_needs_an_agent_says_how_to_start_it() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    for args in [
        &["reload"][..],
        &["observe", "--for", "30m"],
        &["events", "--follow"],
    ] {
        let ran = run(directory.path(), args);
        assert_eq!(ran.code, Some(1), "{args:?}: {}", ran.err);
        for part in [
            socket.to_str().unwrap(),
            "systemctl start limiter",
            "go on enforcing",
        ] {
            let one_line = ran.err.replace('\n', " ");
            assert!(one_line.contains(part), "{args:?}: {part}: {}", ran.err);
        }
    }
    let other = ["--control", "/nonexistent/other.sock", "reload", "--json"];
    let ran = run(directory.path(), &other);
    let error: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
    let said = error["error"].as_str().unwrap();
    assert!(said.contains("/nonexistent/other.sock"), "{said}");
    assert!(error["remedy"].as_str().unwrap().contains("systemctl"));
}

/// A state directory with recorded events and no agent.
fn recorded() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions::new(Duration::from_secs(86_400));
    let store = Store::open(directory.path(), options).unwrap();
    for n in 1..=5 {
        store.record(Arc::new(event("alice", n)));
    }
    store.record(Arc::new(event("bob", 1)));
    directory
}

#[test]
fn events_are_read_without_an_agent() {
    let directory = recorded();
    let joined = run(directory.path(), &["events"]);
    assert_eq!(joined.code, Some(0), "{}", joined.err);
    let lines: Vec<&str> = joined.out.lines().collect();
    assert_eq!(lines.len(), 2, "{}", joined.out);
    let alice = "alice denied direct_smtp → 203.0.113.5:25 uid 2001 php(4711) ×15 (5 told)";
    assert!(lines[0].ends_with(alice), "{}", joined.out);
    let each = run(directory.path(), &["events", "--each", "--tenant", "alice"]);
    assert_eq!(each.out.lines().count(), 5);
    let json = run(directory.path(), &["events", "--json", "--since", "1h"]);
    for line in json.out.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["reason"], "direct_smtp");
    }
    assert_eq!(json.out.lines().count(), 6);
    let none = run(directory.path(), &["events", "--tenant", "carol"]);
    assert_eq!(
        (none.code, &*none.out),
        (Some(0), "nothing in the last 1h\n")
    );
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let directory = tempfile::tempdir().unwrap();
    let options = StoreOptions::new(Duration::from_secs(86_400));
    let store = Store::open(directory.path(), options).unwrap();
    for n in 1..=20_000 {
        store.record(Arc::new(event("alice", n)));
    }
    drop(store);
    let mut child = limiter(directory.path())
        .args(["events", "--each"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    reader.read_line(&mut line).unwrap();
    drop(reader);
    let status = child.wait().unwrap();
    let mut err = String::new();
    child.stderr.unwrap().read_to_string(&mut err).unwrap();
    assert!(status.success() && err.is_empty(), "{status}: {err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_is_0_when_healthy_and_1_when_not() {
    let agent = start(Setup::default());
    let healthy = ask(&agent, &["status"]).await;
    assert_eq!(healthy.code, Some(0), "{}", healthy.err);
    assert!(healthy.out.starts_with("web-17: enforce, healthy\n"));
    assert!(healthy.out.contains("\nt2 "), "{}", healthy.out);
    let one = ask(&agent, &["status", "t1"]).await;
    assert!(one.out.starts_with("t1: enforce"), "{}", one.out);
    let nobody = ask(&agent, &["status", "carol"]).await;
    assert_eq!(nobody.code, Some(1));
    assert!(nobody.err.contains("there is no tenant \"carol\""));

    *agent.node.problem.lock().unwrap() = Some(Problem::error("bad files", "limiter check"));
    let ill = ask(&agent, &["status"]).await;
    assert_eq!(ill.code, Some(1));
    assert!(ill.out.starts_with("!! bad files\n   do: limiter check\n"));
    let json = ask(&agent, &["status", "--json"]).await;
    assert_eq!(json.code, Some(1));
    let status: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(status["healthy"], false);
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_is_2_when_the_files_are_bad() {
    let agent = start(Setup::default());
    let good = ask(&agent, &["reload", "--reason", "new customer"]).await;
    assert_eq!(
        (good.code, &*good.out),
        (Some(0), "loaded: 2 tenants added\n")
    );
    assert_eq!(agent.audit()[0]["reason"], "new customer");
    agent.node.faults.lock().unwrap().push_back(fault());
    let bad = ask(&agent, &["reload"]).await;
    assert_eq!(bad.code, Some(2));
    assert_eq!(
        bad.out,
        "/etc/limiter/limiter.yaml:3:7: error: limits[0].max: -5 is not a count; a whole number\n\
         NOT loaded (1 error): the policy before stays in force\n"
    );
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn observe_and_explain_are_told_in_words() {
    let agent = start(Setup::default());
    let open = ask(&agent, &["observe", "t1", "--for", "30m"]).await;
    assert_eq!(open.code, Some(0), "{}", open.err);
    assert!(open.out.starts_with("t1: nothing is refused until "));
    assert!(open.out.contains("Z (in 29m "), "{}", open.out);
    for end in [&["observe", "--end"][..], &["observe", "--for", "0"]] {
        let end = ask(&agent, end).await;
        assert_eq!(end.out, "the whole node: the configured mode holds again\n");
    }
    let explain = ask(
        &agent,
        &["explain", "--uid", "2001", "--to", "203.0.113.5:25"],
    )
    .await;
    assert_eq!(explain.code, Some(0));
    assert_eq!(
        explain.out,
        "uid 2001 → 203.0.113.5:25: would_deny\n  \
         whose    tenant alice, by uid 2001 (user alice)\n  \
         below    reseller-7\n  \
         because  direct_smtp: block\n  \
         reason   direct_smtp, seen at the layer connect\n  \
         do       look at the process that `limiter events` names: a mailer of the customer's \
         belongs behind the MTA, anything unknown is likely malware; to let one destination \
         through, `exempt`\n  \
         mode     observe: nothing is refused\n           \
         under enforce it would be denied\n"
    );
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn detach_waits_for_the_agent_to_stop() {
    let agent = start(Setup::default());
    let detach = ask(&agent, &["detach"]).await;
    assert_eq!(detach.code, Some(1));
    let pid = std::process::id().to_string();
    assert!(detach.err.contains(&pid), "{}", detach.err);
    assert!(detach.err.contains("systemctl stop limiter"));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_users_uid_is_recorded_and_outsiders_are_kept_out() {
    const NOBODY: u32 = 65_534;
    // SAFETY: geteuid cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        eprintln!("skipped: acting as another user needs root");
        return;
    }
    let agent = start(Setup::default());
    // The binary where everybody can reach it.
    let binary = agent.state_dir().join("limiter");
    fs::copy(env!("CARGO_BIN_EXE_limiter"), &binary).unwrap();
    let as_nobody = || {
        let (binary, socket) = (binary.clone(), agent.socket.clone());
        tokio::task::spawn_blocking(move || {
            let mut command = Command::new(binary);
            command.args(["--config", "/dev/null", "reload", "--control"]);
            ran(command
                .arg(socket)
                .uid(NOBODY)
                .gid(NOBODY)
                .output()
                .unwrap())
        })
    };
    let outside = as_nobody().await.unwrap();
    assert_eq!(outside.code, Some(1));
    assert!(outside.err.contains("group `limiter`"), "{}", outside.err);
    assert!(agent.node.changes.lock().unwrap().is_empty());

    // As if it were in the group.
    fs::set_permissions(&agent.socket, fs::Permissions::from_mode(0o666)).unwrap();
    let inside = as_nobody().await.unwrap();
    assert_eq!(inside.code, Some(0), "{}", inside.err);
    assert_eq!(agent.node.changes.lock().unwrap()[0].1.uid, NOBODY);
    let audit = agent.audit();
    assert_eq!(audit[0]["by"]["uid"], NOBODY);
    assert_eq!(audit[0]["by"]["user"], "nobody");
    agent.stop().await;
}
