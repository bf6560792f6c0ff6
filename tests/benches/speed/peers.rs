//! What people would use instead, as a careful administrator sets it up: only what opens a connection to a
//! mail server is looked at.

use std::{
    fmt::Write as _,
    io::Write as _,
    process::{Command, Stdio},
    time::Instant,
};

use crate::{accounts::Accounts, net::Net, report::Report, rounds::Contender};

/// What begins a connection to a mail server.
const OPENS: &str = "tcp dport 25 tcp flags & (syn | ack) == syn";
/// What nobody comes to.
const LIMIT: &str = "limit rate 1000000/hour burst 100000 packets";

/// nftables.
pub struct Nft {
    name: &'static str,
    net: Net,
    refuses: bool,
}

impl Nft {
    /// A set whose elements have a limit each.
    pub fn element_set(accounts: Accounts, report: &mut Report) -> Self {
        let mut elements = String::new();
        for uid in accounts.uids() {
            let _ = write!(elements, "{uid} {LIMIT}, ");
        }
        let rules = format!(
            "table ip bench {{
  set accounts {{
    typeof meta skuid
    size 2000000
    {LIMIT}
    elements = {{ {elements} }}
  }}
  chain out {{
    type filter hook output priority 0; policy accept;
    {OPENS} jump mail
  }}
  chain mail {{
    meta skuid @accounts accept
    reject with tcp reset
  }}
}}
"
        );
        Self::load("nftables, element set", &rules, true, accounts, report)
    }

    /// A map from the account to a chain of its own.
    pub fn verdict_map(accounts: Accounts, report: &mut Report) -> Self {
        let (mut chains, mut elements) = (String::new(), String::new());
        for uid in accounts.uids() {
            let _ = writeln!(
                chains,
                "  chain u{uid} {{ {LIMIT} accept; reject with tcp reset; }}"
            );
            let _ = write!(elements, "{uid} : jump u{uid}, ");
        }
        let rules = format!(
            "table ip bench {{
{chains}
  map accounts {{
    typeof meta skuid : verdict
    elements = {{ {elements} }}
  }}
  chain out {{
    type filter hook output priority 0; policy accept;
    {OPENS} jump mail
  }}
  chain mail {{
    meta skuid vmap @accounts
    reject with tcp reset
  }}
}}
"
        );
        Self::load("nftables, verdict map", &rules, true, accounts, report)
    }

    /// A set that learns accounts as they come.
    pub fn dynamic_set(accounts: Accounts, report: &mut Report) -> Self {
        let rules = format!(
            "table ip bench {{
  set accounts {{
    typeof meta skuid
    size 2000000
    flags dynamic, timeout
    timeout 1h
  }}
  chain out {{
    type filter hook output priority 0; policy accept;
    {OPENS} jump mail
  }}
  chain mail {{
    add @accounts {{ meta skuid {LIMIT} }} accept
    reject with tcp reset
  }}
}}
"
        );
        // Everybody is welcome there.
        Self::load("nftables, dynamic set", &rules, false, accounts, report)
    }

    fn load(
        name: &'static str,
        rules: &str,
        refuses: bool,
        accounts: Accounts,
        report: &mut Report,
    ) -> Self {
        let net = Net::new();
        let start = Instant::now();
        net.enter(|| feed(Command::new("nft").args(["-f", "-"]), rules));
        report.loaded(name, accounts, start.elapsed());
        Self { name, net, refuses }
    }
}

impl Contender for Nft {
    fn name(&self) -> &'static str {
        self.name
    }

    fn net(&self) -> &Net {
        &self.net
    }

    fn at_work(&self, work: &mut dyn FnMut()) {
        work();
    }

    fn refuses(&self) -> bool {
        self.refuses
    }
}

/// iptables, one rule after the other.
pub struct Owners(Net);

impl Owners {
    /// None where there is no iptables.
    pub fn load(accounts: Accounts, report: &mut Report) -> Option<Self> {
        let program = "iptables-legacy-restore";
        Command::new(program).arg("--version").output().ok()?;
        let mut rules =
            "*filter\n:mail - [0:0]\n-A OUTPUT -p tcp --dport 25 --syn -j mail\n".to_owned();
        for uid in accounts.uids() {
            let _ = writeln!(
                rules,
                "-A mail -m owner --uid-owner {uid} -m limit --limit 10000/second --limit-burst 10000 -j ACCEPT"
            );
        }
        rules += "-A mail -p tcp -j REJECT --reject-with tcp-reset\nCOMMIT\n";
        let net = Net::new();
        let start = Instant::now();
        net.enter(|| feed(&mut Command::new(program), &rules));
        report.loaded("iptables, owner rules", accounts, start.elapsed());
        Some(Self(net))
    }
}

impl Contender for Owners {
    fn name(&self) -> &'static str {
        "iptables, owner rules"
    }

    fn net(&self) -> &Net {
        &self.0
    }

    fn at_work(&self, work: &mut dyn FnMut()) {
        work();
    }

    fn refuses(&self) -> bool {
        true
    }
}

fn feed(command: &mut Command, input: &str) {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}
