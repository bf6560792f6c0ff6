//! What being asked costs the mail server, in rounds of one run; and how long an answer takes. For numbers that
//! count: `LIMITER_BIN=target/release/limiter LIMITER_SPEED_ROUNDS=15`, and nothing else on the machine.

mod easy;
mod exim;
mod postfix;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use limiter_tests::{Agent, Config, Node, Place, process::run};

use super::{ALICE, CONFIG};

const TENANTS: &str = "
tenant: alice
match: {users: [alice]}
limits: [{unit: recipients, max: 100000000, window: 1h}, {unit: messages, max: 100000000, window: 1h}]
domains:
  - {name: shop.example, limits: [{unit: recipients, max: 100000000, window: 1h}]}
";

/// Rounds of runs, unless `LIMITER_SPEED_ROUNDS` says otherwise.
const ROUNDS: usize = 3;

/// How much a mail server is given in a run.
#[derive(Clone, Copy, Debug)]
struct Load {
    messages: usize,
    /// At once; each message comes in one of its own.
    sessions: usize,
}

/// What is compared.
struct Compared<'a> {
    /// In words.
    what: &'a str,
    load: Load,
    /// Empty when all mail is gone.
    queues: &'a [PathBuf],
    /// Names and ports. The second is the server alone, and the first what it is compared with.
    arms: &'a [(&'a str, u16)],
    /// How many of them have limiter count.
    counting: usize,
}

/// Connections that ask at once, and how often each does.
const CONNECTIONS: usize = 100;
const QUESTIONS: usize = 150;
const EVERY: Duration = Duration::from_millis(50);

/// What becomes of what a mail server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It is thrown away: all that it costs is taking it.
    Discarded,
    /// It goes to a server outside, as mail does.
    Delivered,
}

/// What it costs to have the mail server at this port be done with all messages.
fn take(place: &Place, compared: &Compared<'_>, port: u16) -> Cost {
    let mut command = place.command("smtp-source");
    let Load { messages, sessions } = compared.load;
    let (sessions, messages) = (sessions.to_string(), messages.to_string());
    command.args(["-s", &sessions, "-m", &messages, "-l", "4000"]);
    command.args(["-f", "x@shop.example", "-t", "somebody@outside.example"]);
    command.arg(format!("inet:127.0.0.1:{port}"));
    let (start, worked) = (Instant::now(), machine_ticks());
    let _ = run(&mut command, "").success("smtp-source");
    let is_empty = |queue: &PathBuf| {
        let entries = fs::read_dir(queue).expect("it is the mail server's");
        entries.flatten().next().is_none()
    };
    while !compared.queues.iter().all(is_empty) {
        assert!(start.elapsed() < Duration::from_secs(60), "mail is stuck");
        thread::sleep(Duration::from_millis(2));
    }
    Cost {
        time: start.elapsed().as_secs_f64(),
        work: (machine_ticks() - worked) as f64 / 100.0,
    }
}

/// In seconds: that passed, and that processors worked, whoever for.
#[derive(Clone, Copy, Debug)]
struct Cost {
    time: f64,
    work: f64,
}

/// How much all processors have worked, in hundredths of a second.
fn machine_ticks() -> u64 {
    let stat = fs::read_to_string("/proc/stat").expect("it is there");
    let line = stat.lines().next().expect("it begins with all processors");
    let numbers = line.split_whitespace().skip(1);
    let numbers: Vec<u64> = numbers.filter_map(|it| it.parse().ok()).collect();
    // User, nice, system, and behind idle and iowait: irq, softirq.
    [0, 1, 2, 5, 6]
        .iter()
        .filter_map(|at| numbers.get(*at))
        .sum()
}

/// How much processor time a process has had, in hundredths of a second.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, rest) = stat.rsplit_once(')').expect("its name is in parentheses");
    let numbers = rest.split_whitespace().skip(11).take(2);
    numbers.filter_map(|it| it.parse::<u64>().ok()).sum()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Compares mail servers as they ask with one that asks nobody.
fn compare(place: &Place, agent: &Agent<'_>, compared: &Compared<'_>) {
    let Compared { what, arms, .. } = compared;
    for (_, port) in *arms {
        let _ = take(place, compared, *port);
    }
    let rounds = std::env::var("LIMITER_SPEED_ROUNDS");
    let rounds = rounds.map_or(ROUNDS, |it| it.parse().expect("a number"));
    let before = agent.used("alice", 0);
    let ticks_before = ticks(agent.pid());
    let mut took = vec![Vec::new(); arms.len()];
    for round in 0..rounds {
        for turn in 0..arms.len() {
            let at = (round + turn) % arms.len();
            took[at].push(take(place, compared, arms[at].1));
        }
    }
    // It was asked, for each.
    let counted = agent.used("alice", 0) - before;
    let messages = compared.load.messages;
    let expected = u64::try_from(compared.counting * rounds * messages).expect("it is small");
    assert_eq!(counted, expected);
    eprintln!(
        "{what}: the agent takes {} us of processor time for a message",
        (ticks(agent.pid()) - ticks_before) * 10_000 / counted
    );
    let alone = &took[1];
    let of_alone = |took: &[Cost], what: fn(&Cost) -> f64| {
        let both = alone.iter().zip(took);
        median(both.map(|(alone, it)| what(alone) / what(it)).collect())
    };
    for ((name, _), took) in arms.iter().zip(&took).rev() {
        let rate = messages as f64 / median(took.iter().map(|it| it.time).collect());
        let work = median(took.iter().map(|it| it.work).collect()) * 1e6 / messages as f64;
        eprintln!(
            "{what}: {name}: {rate:.0} messages/s, {:.3} of the server alone; {work:.0} us of processor time a \
             message, {:.3}",
            of_alone(took, |it| it.time),
            of_alone(took, |it| it.work)
        );
    }
    // Either is noise where others work too.
    let ratio = of_alone(&took[0], |it| it.work).max(of_alone(&took[0], |it| it.time));
    assert!(ratio > 0.7, "{took:?}");
}

/// One connection of Postfix's: how long each answer took.
fn ask(socket: &Path, client: SocketAddr, number: usize, all: &Barrier) -> Vec<Duration> {
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
