//! The demo: a hosting node with five kinds of customers, in half a minute, on this machine and
//! without a packet leaving it. Run as root: `cargo xtask demo`.

#![expect(
    clippy::expect_used,
    reason = "whatever fails here ends the demo with a trace, and everything is cleaned up"
)]

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use limiter_tests::{
    Agent, Cgroup, Config, Guest, Letter, Mailer, Node, OUTSIDE_MX, OUTSIDE_MX6, Output, Place,
    Postfix, Wiring, mx,
    packets::{Ended, PacketReport},
    wait,
};
use nix::errno::Errno;

const NODE: &str = "mode: enforce";

fn tenants(shop: &Guest<'_>) -> String {
    format!(
        "\
tenant: alice                 # a shared-hosting account: no direct SMTP
match: {{users: [alice]}}
---
tenant: bob                   # whatever it sends goes through the local Postfix
direct_smtp: redirect
match: {{users: [bob]}}
---
tenant: carol                 # may send by itself, five connections a minute
direct_smtp: allow
limits: [{{unit: connections, max: 5, window: 1m}}]
match: {{users: [carol]}}
---
tenant: shop                  # a container with a network of its own, whoever is inside
match: {{cgroups: ['{}'], interfaces: [{}]}}
---
tenant: dave                  # only watched so far
mode: observe
match: {{users: [dave]}}
",
        shop.cgroup().path(),
        shop.interface()
    )
}

fn main() -> ExitCode {
    let start = Instant::now();
    let mut tale = Tale::default();
    let (directory, cgroup) = play(&mut tale);

    heading("Cleaned up");
    tale.check("the node's files are gone", !directory.exists());
    tale.check("the node's cgroups are gone", !cgroup.exists());
    let seconds = start.elapsed().as_secs();
    if tale.wrong == 0 {
        println!("\nEverything happened as it should, in {seconds} s.");
        ExitCode::SUCCESS
    } else {
        println!("\n{} things did not happen as they should.", tale.wrong);
        ExitCode::FAILURE
    }
}

/// Plays it all. Returns the directory and the cgroup that have to be gone afterwards.
fn play(tale: &mut Tale) -> (PathBuf, PathBuf) {
    heading("A hosting node, and the world outside, in network namespaces of their own");
    let node = Node::new();
    let shop = Guest::unprivileged(&node, Wiring::Veth, "veth-shop", 1);
    let outside = Postfix::start(
        &node.elsewhere(),
        Cgroup::at_top(),
        node.directory(),
        "outside.example",
        &[OUTSIDE_MX.into(), OUTSIDE_MX6.into()],
        ("", ""),
    );
    let _local = Postfix::start(
        &node.root(),
        node.cgroup().child("mta"),
        node.directory(),
        "node.example",
        &["127.0.0.1", "::1"].map(|address| address.parse().expect("it is an address")),
        (&format!("relayhost = [{OUTSIDE_MX}]:25\n"), ""),
    );
    println!("  outside.example: a Postfix on {OUTSIDE_MX} and {OUTSIDE_MX6}");
    println!("  node.example:    a Postfix on 127.0.0.1 and ::1, and these customers:\n");
    let tenants = tenants(&shop);
    for line in tenants.lines() {
        println!("    {line}");
    }
    let agent = Agent::start(&node, &Config::new(NODE, &tenants));
    println!("\n  limiter runs, process {}.", agent.pid());

    let scene = Scene {
        node: &node,
        outside: &outside,
        agent: &agent,
    };
    scene.customers(tale, &shop);
    scene.suspended(tale);
    scene.without_agent(tale);
    scene.report(&shop);
    scene.detach(tale);
    (
        node.directory().to_path_buf(),
        node.cgroup().directory().to_path_buf(),
    )
}

struct Scene<'d> {
    node: &'d Node,
    outside: &'d Postfix,
    agent: &'d Agent<'d>,
}

impl Scene<'_> {
    fn customers(&self, tale: &mut Tale, shop: &Guest<'_>) {
        heading("Who tries what, and what comes of it");
        let alice = self.node.user(2001);
        let refused = [
            (
                "alice's hacked WordPress, with PHPMailer",
                Mailer::PhpMailer,
                false,
            ),
            (
                "alice's hacked WordPress, over IPv6",
                Mailer::PhpSocket,
                true,
            ),
            ("alice's Perl script (swaks)", Mailer::Swaks, false),
        ];
        for (who, mailer, v6) in refused {
            self.refused(tale, who, &alice, mailer, v6);
        }
        let who = "root inside the container shop";
        self.refused(tale, who, &shop.root(), Mailer::Python, false);
        by_hand(tale, "the same root, with packets made by hand", shop);

        let bob = self.node.user(2002);
        let subject = self.sends(
            tale,
            "bob's shop, with PHPMailer",
            &bob,
            Mailer::PhpMailer,
            1,
        );
        self.arrives(tale, &subject, true);

        let carol = self.node.user(2003);
        for number in 1..=5 {
            let who = format!("carol's newsletter, number {number}");
            let subject = self.sends(tale, &who, &carol, Mailer::Python, number);
            self.arrives(tale, &subject, false);
        }
        let who = "carol's newsletter, number 6";
        self.refused(tale, who, &carol, Mailer::Python, false);

        let dave = self.node.user(2004);
        let subject = self.sends(
            tale,
            "dave, who is only watched, with curl",
            &dave,
            Mailer::Curl,
            1,
        );
        self.arrives(tale, &subject, false);

        let local: SocketAddr = "127.0.0.1:25".parse().expect("it is an address");
        let letter = Letter::outside("through the front door");
        let start = Instant::now();
        let sent = Mailer::Python.send(&alice, local, &letter);
        let who = "alice's order confirmation, to the local Postfix";
        tell(who, &sent, start.elapsed());
        tale.check("taken by the local Postfix", sent.code == 0);
        self.arrives(tale, &letter.subject, true);
    }

    /// A session that is under way when its customer is suspended.
    fn suspended(&self, tale: &mut Tale) {
        heading("limiter suspend");
        let dave = self.node.sender(2004).attempt(mx(false));
        let session = dave.say("newsletter.dave.example").hold().start();
        let session = session.go_and_hold();
        println!("  dave is in a session with the world's mail server: it has greeted him.");
        let arguments = ["suspend", "dave", "--for", "24h", "--reason", "phishing"];
        println!("  $ limiter suspend dave --for 24h --reason phishing");
        indent(&self.agent.must(&arguments));
        let report = session.go().finish();
        println!("  dave goes on with his session");
        let error = report.errno().map(Errno::from_raw);
        if let Some(error) = error {
            println!("          {error}");
        }
        tale.check("his session is cut", error.is_some());
        let again = self.node.user(2004);
        self.refused(tale, "dave connects again", &again, Mailer::Python, false);
    }

    /// What customers do not notice: that nobody runs.
    fn without_agent(&self, tale: &mut Tale) {
        heading("kill -9 of the agent");
        self.agent.kill_9();
        let alice = self.node.user(2001);
        self.refused(tale, "alice again, at once", &alice, Mailer::Python, false);
        self.agent.run();
        println!("  limiter runs again, process {}.", self.agent.pid());
        let carol = self.node.user(2003);
        self.refused(
            tale,
            "carol: her count goes on",
            &carol,
            Mailer::Python,
            false,
        );
    }

    fn report(&self, shop: &Guest<'_>) {
        heading("limiter explain");
        let to = mx(false).to_string();
        let cgroup = shop.cgroup().path();
        for (what, who) in [
            ("--uid", "2001"),
            ("--uid", "2002"),
            ("--uid", "2003"),
            ("--uid", "2004"),
            ("--cgroup", &cgroup),
            ("--interface", shop.interface()),
        ] {
            println!("  $ limiter explain {what} {who} --to {to}");
            indent(&self.agent.must(&["explain", what, who, "--to", &to]));
        }
        // The rest of a run of refusals is told within a second.
        std::thread::sleep(Duration::from_millis(1_500));
        heading("limiter status");
        indent(&self.agent.must(&["status"]));
        heading("limiter events");
        indent(&self.agent.must(&["events"]));
        heading("What the world outside received");
        for message in self.outside.mailbox().messages() {
            let subject = message
                .lines()
                .find_map(|line| line.strip_prefix("Subject: "));
            println!("  {}", subject.unwrap_or("(no subject)"));
        }
    }

    fn detach(&self, tale: &mut Tale) {
        heading("limiter detach");
        self.agent.term();
        indent(&self.agent.must(&["detach"]));
        tale.check("nothing is pinned any more", self.agent.pins().is_empty());
        let alice = self.node.user(2001);
        let subject = self.sends(
            tale,
            "alice, once the gate is open",
            &alice,
            Mailer::Python,
            1,
        );
        self.arrives(tale, &subject, false);
    }

    /// Sends a letter straight to the outside, which is to be refused at once.
    fn refused(&self, tale: &mut Tale, who: &str, place: &Place, mailer: Mailer, v6: bool) {
        let letter = Letter::outside(&format!("spam from {who}"));
        let start = Instant::now();
        let sent = mailer.send(place, mx(v6), &letter);
        tell(who, &sent, start.elapsed());
        tale.check("refused", sent.code != 0);
        let arrived = self.outside.mailbox().count(&letter.subject);
        tale.check("nothing arrived outside", arrived == 0);
    }

    /// Sends a letter straight to the outside, which has to be taken. Returns its subject.
    fn sends(
        &self,
        tale: &mut Tale,
        who: &str,
        place: &Place,
        mailer: Mailer,
        number: u32,
    ) -> String {
        let letter = Letter::outside(&format!("{who} ({number})"));
        let start = Instant::now();
        let sent = mailer.send(place, mx(false), &letter);
        tell(who, &sent, start.elapsed());
        tale.check("sent", sent.code == 0);
        letter.subject
    }

    /// Waits for a letter outside, and sees whether it came by way of the local Postfix.
    fn arrives(&self, tale: &mut Tale, subject: &str, by_mta: bool) {
        let mailbox = self.outside.mailbox();
        let start = Instant::now();
        let message = loop {
            let messages = mailbox.messages();
            let found = messages.into_iter().find(|text| text.contains(subject));
            if found.is_some() || start.elapsed() > wait::SOON {
                break found;
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let by = |message: &String| message.contains("by node.example");
        let what = if by_mta {
            "arrived outside, by way of the local Postfix"
        } else {
            "arrived outside, straight"
        };
        tale.check(
            what,
            message
                .as_ref()
                .is_some_and(|message| by(message) == by_mta),
        );
    }
}

/// Somebody in a container passes by all system calls and writes frames to the wire.
fn by_hand(tale: &mut Tale, who: &str, container: &Guest<'_>) {
    let PacketReport {
        ended, taken_ns, ..
    } = container.packets(false).make();
    let taken = Duration::from_nanos(taken_ns);
    println!("  {who}  [{taken:.0?}]");
    println!("          {ended:?}");
    tale.check("refused with a reset", ended == Ended::Refused);
}

/// What happened, and how much of it should not have.
#[derive(Default)]
struct Tale {
    wrong: u32,
}

impl Tale {
    fn check(&mut self, what: &str, is_so: bool) {
        if is_so {
            println!("      ok  {what}");
        } else {
            println!("   WRONG  not so: {what}");
            self.wrong += 1;
        }
    }
}

fn heading(text: &str) {
    println!("\n== {text}\n");
}

fn indent(text: &str) {
    for line in text.lines() {
        println!("    {line}");
    }
    println!();
}

/// Who tried, how long it took (the program's start included), and what the program said of it.
fn tell(who: &str, sent: &Output, taken: Duration) {
    println!("  {who}  [{} ms]", taken.as_millis());
    let said = format!("{}\n{}", sent.stdout, sent.stderr);
    let mut said = said.lines().map(str::trim);
    let error = said.rfind(|line| line.contains("permitted"));
    if let Some(line) = error {
        println!("          {line}");
    }
}
