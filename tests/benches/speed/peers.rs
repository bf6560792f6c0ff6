//! What people would use instead, as a careful administrator sets it up: only what opens a connection to a
//! mail server is looked at.

use std::{
    fmt::Write as _,
    io::Write as _,
    process::{Command, Stdio},
    time::Instant,
};

use crate::{accounts::Accounts, contender::Contender, net::Net, report::Report};

/// What begins a connection to a mail server.
const OPENS: &str = "tcp dport 25 tcp flags & (syn | ack) == syn";
/// What nobody comes to.
const LIMIT: &str = "limit rate 1000000/hour burst 100000 packets";

/// nftables: a set whose elements have a limit each.
pub fn element_set(accounts: Accounts, report: &mut Report) -> Contender {
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
    nft("nftables, element set", &rules, true, accounts, report)
}

/// nftables: a map from the account to a chain of its own.
pub fn verdict_map(accounts: Accounts, report: &mut Report) -> Contender {
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
    nft("nftables, verdict map", &rules, true, accounts, report)
}

/// nftables: a set that learns accounts as they come.
pub fn dynamic_set(accounts: Accounts, report: &mut Report) -> Contender {
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
    nft("nftables, dynamic set", &rules, false, accounts, report)
}

/// nftables, by these rules.
fn nft(
    name: &'static str,
    rules: &str,
    refuses: bool,
    accounts: Accounts,
    report: &mut Report,
) -> Contender {
    let net = Net::new();
    let start = Instant::now();
    net.enter(|| feed(Command::new("nft").args(["-f", "-"]), rules));
    report.loaded(name, accounts, start.elapsed());
    Contender::in_namespace(name, net, refuses)
}

/// iptables, one rule after the other; none where there is no iptables.
pub fn owners(accounts: Accounts, report: &mut Report) -> Option<Contender> {
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
    let name = "iptables, owner rules";
    report.loaded(name, accounts, start.elapsed());
    Some(Contender::in_namespace(name, net, true))
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
