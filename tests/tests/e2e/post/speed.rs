//! What being asked costs the mail server, in rounds of one run; and how long an answer takes. For numbers that
//! count: `LIMITER_BIN=target/release/limiter LIMITER_SPEED_ROUNDS=15`, and nothing else on the machine.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use limiter_tests::{
    Agent, Config, Node, OUTSIDE_MX, Place, Postfix, SmtpSink, mx, post::Steps, process::run,
};

use super::{ALICE, CONFIG};

const TENANTS: &str = "
tenant: alice
match: {users: [alice]}
limits: [{unit: recipients, max: 100000000, window: 1h}, {unit: messages, max: 100000000, window: 1h}]
domains:
  - {name: shop.example, limits: [{unit: recipients, max: 100000000, window: 1h}]}
";

/// Rounds of runs, unless `LIMITER_SPEED_ROUNDS` says otherwise; of so many messages each, in so many sessions at
/// once.
const ROUNDS: usize = 3;
const MESSAGES: usize = 800;
const SESSIONS: usize = 10;

/// Connections that ask at once, and how often each does.
const CONNECTIONS: usize = 100;
const QUESTIONS: usize = 150;
const EVERY: Duration = Duration::from_millis(50);

/// What becomes of what Postfix takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It is thrown away: all that it costs is taking it.
    Discarded,
    /// It goes to a server outside, as mail does.
    Delivered,
}

/// What it costs to have Postfix at this port be done with all messages, each in a session of its own.
fn take(place: &Place, queue: &Path, port: u16) -> Cost {
    let mut command = place.command("smtp-source");
    let (sessions, messages) = (SESSIONS.to_string(), MESSAGES.to_string());
    command.args(["-s", &sessions, "-m", &messages, "-l", "4000"]);
    command.args(["-f", "x@shop.example", "-t", "somebody@outside.example"]);
    command.arg(format!("inet:127.0.0.1:{port}"));
    let (start, worked) = (Instant::now(), machine_ticks());
    let _ = run(&mut command, "").success("smtp-source");
    let is_empty = |name| {
        let entries = fs::read_dir(queue.join(name)).expect("it is Postfix's");
        entries.flatten().next().is_none()
    };
    while !(is_empty("incoming") && is_empty("active")) {
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

/// What Postfix is like at a port of its own, beside 25, where it is as limiter has it set up.
struct Arm {
    name: &'static str,
    port: u16,
    settings: &'static [&'static str],
}

const NOT_ASKING: &str = "smtpd_recipient_restrictions=permit_mynetworks,reject";
const NOT_ASKING_AT_THE_END: &str = "smtpd_end_of_data_restrictions=";

/// The server as it was, with the milter beside or alone, and with services that look at nothing.
const ARMS: [Arm; 5] = [
    Arm {
        name: "alone",
        port: 26,
        settings: &[NOT_ASKING, NOT_ASKING_AT_THE_END],
    },
    Arm {
        name: "limiter, and its milter",
        port: 27,
        settings: &["smtpd_milters=unix:limiter/milter.sock"],
    },
    Arm {
        name: "its milter alone",
        port: 28,
        settings: &[
            NOT_ASKING,
            NOT_ASKING_AT_THE_END,
            "smtpd_milters=unix:limiter/milter.sock",
        ],
    },
    Arm {
        name: "a policy service that looks at nothing",
        port: 29,
        settings: &[
            "smtpd_recipient_restrictions=check_policy_service,unix:@/policy,permit_mynetworks,reject",
            "smtpd_end_of_data_restrictions=check_policy_service,unix:@/policy",
        ],
    },
    Arm {
        name: "a milter that looks at nothing",
        port: 30,
        settings: &[
            NOT_ASKING,
            NOT_ASKING_AT_THE_END,
            "smtpd_milters=unix:@/milter",
        ],
    },
];

#[test]
fn being_asked_costs_postfix_little() {
    compare(Then::Delivered);
}

#[test]
fn being_asked_costs_postfix_little_where_it_does_nothing_else() {
    compare(Then::Discarded);
}

fn compare(then: Then) {
    let node = Node::new();
    let easy = Easy::start(&node.directory().join("easy"));
    let _sink = SmtpSink::start(&node.elsewhere(), mx(false), node.directory());
    let transport = match then {
        Then::Discarded => "discard".to_owned(),
        Then::Delivered => format!("smtp:[{OUTSIDE_MX}]:25"),
    };
    let main = format!(
        "default_transport = {transport}
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
in_flow_delay = 0
initial_destination_concurrency = 20
smtp_connection_cache_on_demand = no
"
    );
    let postfix = Postfix::start(
        &node.root(),
        node.cgroup().child("mta"),
        node.directory(),
        "node.example",
        &["127.0.0.1".parse().expect("it is one")],
        (&main, "discard unix - - n - - discard\n"),
    );
    node.etc().link("postfix", &postfix.configuration());
    let agent = Agent::configured(&node, &Config::new(CONFIG, TENANTS));
    let ours = Steps::of(&agent, "postfix", &[]).for_limiter(&agent);
    agent.write_main(&format!("{CONFIG}{ours}"));
    agent.run();
    let steps = Steps::of(&agent, "postfix", &[]);
    steps.run(&node, "postconf");
    let mut arms = String::new();
    for Arm { port, settings, .. } in ARMS {
        arms += &format!("127.0.0.1:{port} inet n - n - - smtpd\n");
        for setting in settings {
            let setting = setting.replace('@', &easy.directory.display().to_string());
            arms += &format!("  -o {setting}\n");
        }
    }
    let master = postfix.configuration().join("master.cf");
    let mut master = OpenOptions::new()
        .append(true)
        .open(master)
        .expect("it is there");
    master.write_all(arms.as_bytes()).expect("there is room");
    steps.run(&node, "postfix");
    let alice = node.user(ALICE);
    let limiter = ("limiter", 25);
    let arms: Vec<(&str, u16)> = ARMS.iter().map(|arm| (arm.name, arm.port)).collect();
    let arms = [vec![limiter], arms].concat();
    let queue = postfix.queue();
    for (_, port) in &arms {
        let _ = take(&alice, &queue, *port);
    }
    let rounds = std::env::var("LIMITER_SPEED_ROUNDS");
    let rounds = rounds.map_or(ROUNDS, |it| it.parse().expect("a number"));
    let before = agent.used("alice", 0);
    let ticks_before = ticks(agent.pid());
    let mut took = vec![Vec::new(); arms.len()];
    for round in 0..rounds {
        for turn in 0..arms.len() {
            let at = (round + turn) % arms.len();
            took[at].push(take(&alice, &queue, arms[at].1));
        }
    }
    // It was asked, for each.
    let counted = agent.used("alice", 0) - before;
    assert_eq!(
        counted,
        u64::try_from(3 * rounds * MESSAGES).expect("it is small")
    );
    eprintln!(
        "{then:?}: the agent takes {} us of processor time for a message",
        (ticks(agent.pid()) - ticks_before) * 10_000 / counted
    );
    let alone = &took[1];
    let of_alone = |took: &[Cost], what: fn(&Cost) -> f64| {
        let both = alone.iter().zip(took);
        median(both.map(|(alone, it)| what(alone) / what(it)).collect())
    };
    for ((name, _), took) in arms.iter().zip(&took).rev() {
        let rate = MESSAGES as f64 / median(took.iter().map(|it| it.time).collect());
        let work = median(took.iter().map(|it| it.work).collect()) * 1e6 / MESSAGES as f64;
        eprintln!(
            "{then:?}: {name}: {rate:.0} messages/s, {:.3} of the server alone; {work:.0} us of processor time \
             a message, {:.3}",
            of_alone(took, |it| it.time),
            of_alone(took, |it| it.work)
        );
    }
    let ratio = of_alone(&took[0], |it| it.work);
    assert!(ratio > 0.7, "{took:?}");
}

/// Services that look at nothing: what being asked costs a mail server at least.
struct Easy {
    directory: PathBuf,
}

impl Easy {
    fn start(directory: &Path) -> Self {
        fs::create_dir(directory).expect("the node is new");
        let open = |name, answer: fn(UnixStream) -> io::Result<()>| {
            let path = directory.join(name);
            let listener = UnixListener::bind(&path).expect("the directory is new");
            fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("it is ours");
            // They end with the tests.
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    thread::spawn(move || answer(stream));
                }
            });
        };
        fs::set_permissions(directory, Permissions::from_mode(0o755)).expect("it is ours");
        open("policy", Self::policy);
        open("milter", Self::milter);
        Self {
            directory: directory.to_owned(),
        }
    }

    fn policy(mut stream: UnixStream) -> io::Result<()> {
        let mut question = [0; 8192];
        let mut read = 0;
        loop {
            read += match stream.read(&mut question[read..])? {
                0 => return Ok(()),
                more => more,
            };
            if question[..read].ends_with(b"\n\n") {
                stream.write_all(b"action=DUNNO\n\n")?;
                read = 0;
            }
        }
    }

    /// Asks for what limiter's milter asks for.
    fn milter(stream: UnixStream) -> io::Result<()> {
        let mut writer = stream.try_clone()?;
        let mut reader = BufReader::new(stream);
        let mut data = Vec::new();
        loop {
            let mut length = [0; 4];
            if reader.read_exact(&mut length).is_err() {
                return Ok(());
            }
            data.resize(u32::from_be_bytes(length) as usize, 0);
            reader.read_exact(&mut data)?;
            match data[0] {
                b'O' => {
                    let mut answer = vec![0, 0, 0, 13, b'O', 0, 0, 0, 6, 0, 0, 0, 0];
                    answer.extend(0x000e_f1f2_u32.to_be_bytes());
                    writer.write_all(&answer)?;
                }
                b'T' | b'E' => writer.write_all(&[0, 0, 0, 1, b'c'])?,
                b'Q' => return Ok(()),
                _ => {}
            }
        }
    }
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
