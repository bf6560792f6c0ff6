//! What being asked costs the mail server, in pairs of one run; and how long an answer takes. For numbers that
//! count: `LIMITER_BIN=target/release/limiter`, and nothing else on the machine.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use limiter_tests::{Agent, Config, Node, Place, Postfix, post::Steps, process::run};

use super::{ALICE, CONFIG};

const TENANTS: &str = "
tenant: alice
match: {users: [alice]}
limits: [{unit: recipients, max: 100000000, window: 1h}, {unit: messages, max: 100000000, window: 1h}]
domains:
  - {name: shop.example, limits: [{unit: recipients, max: 100000000, window: 1h}]}
";

/// Pairs of runs, of so many messages each, in so many sessions at once.
const PAIRS: usize = 9;
const MESSAGES: usize = 400;
const SESSIONS: usize = 10;

/// Connections that ask at once, and how often each does.
const CONNECTIONS: usize = 100;
const QUESTIONS: usize = 150;
const EVERY: Duration = Duration::from_millis(50);

/// How long it takes Postfix at this port to take the messages. Each comes in a session of its own, unless
/// `LIMITER_SPEED_SESSIONS=kept`.
fn take(place: &Place, port: u16) -> Duration {
    let mut command = place.command("smtp-source");
    let (sessions, messages) = (SESSIONS.to_string(), MESSAGES.to_string());
    command.args(["-s", &sessions, "-m", &messages, "-l", "4000"]);
    command.args(["-f", "x@shop.example", "-t", "somebody@outside.example"]);
    if std::env::var_os("LIMITER_SPEED_SESSIONS").is_some_and(|it| it == "kept") {
        command.arg("-d");
    }
    command.arg(format!("inet:127.0.0.1:{port}"));
    let start = Instant::now();
    let _ = run(&mut command, "").success("smtp-source");
    start.elapsed()
}

/// How much processor time a process has had, in hundredths of a second.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, rest) = stat.rsplit_once(')').expect("its name is in parentheses");
    let numbers = rest.split_whitespace().skip(11).take(2);
    numbers.filter_map(|it| it.parse::<u64>().ok()).sum()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
fn being_asked_costs_postfix_little() {
    let node = Node::new();
    // The same server as limiter has it set up, as it was, and with either service alone; nothing is
    // delivered.
    let main = "default_transport = discard
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
";
    let alone = "discard unix - - n - - discard
127.0.0.1:26 inet n - n - - smtpd
  -o smtpd_recipient_restrictions=permit_mynetworks,reject
  -o smtpd_data_restrictions=
  -o smtpd_milters=
127.0.0.1:27 inet n - n - - smtpd
  -o smtpd_milters=
127.0.0.1:28 inet n - n - - smtpd
  -o smtpd_recipient_restrictions=permit_mynetworks,reject
  -o smtpd_data_restrictions=
";
    let postfix = Postfix::start(
        &node.root(),
        node.cgroup().child("mta"),
        node.directory(),
        "node.example",
        &["127.0.0.1".parse().expect("it is one")],
        (main, alone),
    );
    node.etc().link("postfix", &postfix.configuration());
    let agent = Agent::configured(&node, &Config::new(CONFIG, TENANTS));
    let ours = Steps::of(&agent, "postfix", &[]).for_limiter(&agent);
    agent.write_main(&format!("{CONFIG}{ours}"));
    agent.run();
    let steps = Steps::of(&agent, "postfix", &[]);
    let on_25 = steps.steps.iter().flat_map(|step| &step.lines);
    // Not what master.cf says: that is the server alone.
    for line in on_25.filter(|line| line.contains(" -e ") || line.starts_with("postfix ")) {
        let mut shell = node.root().command("/bin/sh");
        let _ = run(shell.args(["-c", line]), "").success(line);
    }
    let alice = node.user(ALICE);
    for port in [25, 26, 27, 28] {
        let _ = take(&alice, port);
    }
    let before = agent.used("alice", 0);
    let ticks_before = ticks(agent.pid());
    let mut ratios = Vec::new();
    let mut parts = [Vec::new(), Vec::new()];
    for pair in 0..PAIRS {
        let ports = if pair % 2 == 0 { [25, 26] } else { [26, 25] };
        let mut took = ports.map(|port| (port, take(&alice, port)));
        took.sort_by_key(|(port, _)| *port);
        let [(_, asking), (_, alone)] = took;
        ratios.push(alone.as_secs_f64() / asking.as_secs_f64());
        for (part, port) in parts.iter_mut().zip([27, 28]) {
            part.push(alone.as_secs_f64() / take(&alice, port).as_secs_f64());
        }
        eprintln!(
            "{:.0} messages/s asking, {:.0} alone",
            MESSAGES as f64 / asking.as_secs_f64(),
            MESSAGES as f64 / alone.as_secs_f64()
        );
    }
    // It was asked, for each.
    assert_eq!(
        agent.used("alice", 0) - before,
        u64::try_from(3 * PAIRS * MESSAGES).expect("it is small")
    );
    let counted = agent.used("alice", 0) - before;
    eprintln!(
        "the agent takes {} us of processor time for a message",
        (ticks(agent.pid()) - ticks_before) * 10_000 / counted
    );
    let [policy, milter] = parts.map(median);
    eprintln!("with the policy service alone {policy:.3}, with the milter alone {milter:.3}");
    let ratio = median(ratios.clone());
    eprintln!("throughput while asking, of the server alone: {ratio:.3} (median of {ratios:.3?})");
    assert!(ratio > 0.5, "{ratios:?}");
}

/// One connection of Postfix's: how long each answer took.
fn ask(
    socket: &std::path::Path,
    client: SocketAddr,
    number: usize,
    all: &Barrier,
) -> Vec<Duration> {
    let stream = UnixStream::connect(socket).expect("the agent listens");
    let mut reader = BufReader::new(stream.try_clone().expect("it is a socket"));
    let mut writer = stream;
    all.wait();
    thread::sleep(EVERY * u32::try_from(number).expect("it is small") / 100);
    let mut took = Vec::new();
    let mut line = String::new();
    for question in 0..QUESTIONS {
        let text = format!(
            "request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\n\
             client_address={}\nclient_port={}\nserver_address=127.0.0.1\nserver_port=25\n\
             sender=x@shop.example\nrecipient=r{question}@outside.example\n\
             instance=1.{number}.{question}\nsasl_username=\n\n",
            client.ip(),
            client.port()
        );
        let start = Instant::now();
        writer.write_all(text.as_bytes()).expect("it is connected");
        line.clear();
        let _ = reader.read_line(&mut line).expect("an answer");
        took.push(start.elapsed());
        assert!(line.starts_with("action=DUNNO"), "{line}");
        line.clear();
        let _ = reader.read_line(&mut line).expect("the end of it");
        thread::sleep(EVERY.saturating_sub(start.elapsed()));
    }
    took
}

#[test]
fn a_hundred_connections_are_answered_at_once() {
    let node = Node::new();
    let agent = Agent::start(&node, &Config::new(CONFIG, TENANTS));
    let socket = agent.home().join("policy.sock");
    // Whose sockets these are is found out anew for each message.
    let (_server, clients) = node.inside().enter(|| {
        let server = TcpListener::bind("127.0.0.1:25").expect("the node is new");
        let clients: Vec<TcpStream> = (0..CONNECTIONS)
            .map(|_| TcpStream::connect("127.0.0.1:25").expect("somebody listens"))
            .collect();
        (server, clients)
    });
    let all = Barrier::new(CONNECTIONS);
    let mut took: Vec<Duration> = thread::scope(|scope| {
        let asking: Vec<_> = clients
            .iter()
            .enumerate()
            .map(|(number, client)| {
                let client = client.local_addr().expect("it is connected");
                let (socket, all) = (&socket, &all);
                scope.spawn(move || ask(socket, client, number, all))
            })
            .collect();
        let joined = asking
            .into_iter()
            .map(|it| it.join().expect("it only asks"));
        joined.flatten().collect()
    });
    took.sort_unstable();
    let at = |part: usize| took[(took.len() - 1) * part / 1_000];
    eprintln!(
        "{} questions, each a message of its own, over {CONNECTIONS} connections, 2,000/s: \
         p50 {:?}, p99 {:?}, p99.9 {:?}",
        took.len(),
        at(500),
        at(990),
        at(999)
    );
    assert!(at(990) < Duration::from_millis(250), "{:?}", at(990));
}
