//! What being asked costs the mail server, in rounds of one run; and how long an answer takes. For numbers that
//! count: `LIMITER_BIN=target/release/limiter`, and nothing else on the machine.

use std::{
    fs::{self, Permissions},
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

use limiter_tests::{Agent, Config, Node, Place, Postfix, post::Steps, process::run};

use super::{ALICE, CONFIG};

const TENANTS: &str = "
tenant: alice
match: {users: [alice]}
limits: [{unit: recipients, max: 100000000, window: 1h}, {unit: messages, max: 100000000, window: 1h}]
domains:
  - {name: shop.example, limits: [{unit: recipients, max: 100000000, window: 1h}]}
";

/// Rounds of runs, of so many messages each, in so many sessions at once.
const ROUNDS: usize = 9;
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

/// The server as it was, with either service alone, and with services that look at nothing.
const ARMS: [Arm; 4] = [
    Arm {
        name: "alone",
        port: 26,
        settings: &[
            "smtpd_recipient_restrictions=permit_mynetworks,reject",
            "smtpd_end_of_data_restrictions=",
            "smtpd_milters=",
        ],
    },
    Arm {
        name: "the policy service",
        port: 27,
        settings: &["smtpd_milters="],
    },
    Arm {
        name: "the milter",
        port: 28,
        settings: &[
            "smtpd_recipient_restrictions=permit_mynetworks,reject",
            "smtpd_end_of_data_restrictions=",
        ],
    },
    Arm {
        name: "services that look at nothing",
        port: 29,
        settings: &[
            "smtpd_recipient_restrictions=check_policy_service,unix:@/policy,permit_mynetworks,reject",
            "smtpd_end_of_data_restrictions=check_policy_service,unix:@/policy",
            "smtpd_milters=unix:@/milter",
        ],
    },
];

#[test]
fn being_asked_costs_postfix_little() {
    let node = Node::new();
    let easy = Easy::start(&node.directory().join("easy"));
    // Nothing is delivered.
    let main = "default_transport = discard
smtpd_peername_lookup = no
smtpd_client_connection_count_limit = 0
";
    let mut master = "discard unix - - n - - discard\n".to_owned();
    for Arm { port, settings, .. } in ARMS {
        master += &format!("127.0.0.1:{port} inet n - n - - smtpd\n");
        for setting in settings {
            let setting = setting.replace('@', &easy.directory.display().to_string());
            master += &format!("  -o {setting}\n");
        }
    }
    let postfix = Postfix::start(
        &node.root(),
        node.cgroup().child("mta"),
        node.directory(),
        "node.example",
        &["127.0.0.1".parse().expect("it is one")],
        (main, &master),
    );
    node.etc().link("postfix", &postfix.configuration());
    let agent = Agent::configured(&node, &Config::new(CONFIG, TENANTS));
    let ours = Steps::of(&agent, "postfix", &[]).for_limiter(&agent);
    agent.write_main(&format!("{CONFIG}{ours}"));
    agent.run();
    let steps = Steps::of(&agent, "postfix", &[]);
    let on_25 = steps.steps.iter().flat_map(|step| &step.lines);
    // Not what master.cf says: that is the other arms.
    for line in on_25.filter(|line| line.contains(" -e ") || line.starts_with("postfix ")) {
        let mut shell = node.root().command("/bin/sh");
        let _ = run(shell.args(["-c", line]), "").success(line);
    }
    let alice = node.user(ALICE);
    let limiter = ("limiter", 25);
    let arms: Vec<(&str, u16)> = ARMS.iter().map(|arm| (arm.name, arm.port)).collect();
    let arms = [vec![limiter], arms].concat();
    for (_, port) in &arms {
        let _ = take(&alice, *port);
    }
    let before = agent.used("alice", 0);
    let ticks_before = ticks(agent.pid());
    let mut took = vec![Vec::new(); arms.len()];
    for round in 0..ROUNDS {
        for turn in 0..arms.len() {
            let at = (round + turn) % arms.len();
            took[at].push(take(&alice, arms[at].1).as_secs_f64());
        }
    }
    // It was asked, for each.
    let counted = agent.used("alice", 0) - before;
    assert_eq!(
        counted,
        u64::try_from(3 * ROUNDS * MESSAGES).expect("it is small")
    );
    eprintln!(
        "the agent takes {} us of processor time for a message",
        (ticks(agent.pid()) - ticks_before) * 10_000 / counted
    );
    let alone = &took[1];
    let mut ratio = 0.0;
    for ((name, _), took) in arms.iter().zip(&took).rev() {
        let ratios: Vec<f64> = alone.iter().zip(took).map(|(a, b)| a / b).collect();
        ratio = median(ratios);
        let rate = MESSAGES as f64 / median(took.clone());
        eprintln!("{name}: {rate:.0} messages/s, {ratio:.3} of the server alone");
    }
    assert!(ratio > 0.5, "{took:?}");
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
