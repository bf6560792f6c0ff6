//! What people would use instead, as a careful administrator sets it up: only what opens a connection to a
//! mail server is looked at, by IPv4 and IPv6.

use std::{
    fmt::Write as _,
    io::Write as _,
    process::{Command, Stdio},
};

use crate::{accounts::Accounts, contender::Contender, net::Net};

/// What begins a connection to a mail server.
const OPENS: &str = "tcp dport 25 tcp flags & (syn | ack) == syn";
/// What nobody comes to.
const LIMIT: &str = "limit rate 1000000/hour burst 100000 packets";
/// Neither to this.
const OTHER_LIMIT: &str = "limit rate 999999/hour burst 100000 packets";
/// For IPv4 and IPv6.
const RESTORE: [&str; 2] = ["iptables-legacy-restore", "ip6tables-legacy-restore"];

/// What people would use instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// nftables: a set whose elements have a limit each.
    ElementSet,
    /// nftables: a map from the account to a chain of its own.
    VerdictMap,
    /// nftables: a set that learns accounts as they come.
    DynamicSet,
    /// iptables: one rule after the other.
    Owners,
}

impl Peer {
    /// All that are installed.
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::ElementSet, Self::VerdictMap, Self::DynamicSet];
        if RESTORE
            .iter()
            .all(|it| Command::new(it).arg("--version").output().is_ok())
        {
            all.push(Self::Owners);
        }
        all
    }

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ElementSet => "nftables, element set",
            Self::VerdictMap => "nftables, verdict map",
            Self::DynamicSet => "nftables, dynamic set",
            Self::Owners => "iptables, owner rules",
        }
    }

    /// From how many accounts on loading it takes minutes, or a connection milliseconds.
    pub const fn most(self) -> usize {
        match self {
            Self::ElementSet | Self::VerdictMap | Self::DynamicSet => 100_000,
            Self::Owners => 1_000,
        }
    }

    /// Whether it refuses whoever it does not know.
    const fn refuses(self) -> bool {
        !matches!(self, Self::DynamicSet)
    }

    /// Everything, for its program.
    pub fn rules(self, accounts: Accounts) -> String {
        match self {
            Self::ElementSet => element_set(accounts),
            Self::VerdictMap => verdict_map(accounts),
            Self::DynamicSet => dynamic_set(accounts),
            Self::Owners => owners(accounts),
        }
    }

    /// Loads rules, in the namespace that the calling thread is in.
    pub fn load(self, rules: &str) {
        match self {
            Self::ElementSet | Self::VerdictMap | Self::DynamicSet => nft(rules),
            Self::Owners => {
                for program in RESTORE {
                    feed(&mut Command::new(program), rules);
                }
            }
        }
    }

    /// In a namespace of its own, loaded.
    pub fn contender(self, accounts: Accounts) -> Contender {
        let net = Net::new();
        let rules = self.rules(accounts);
        net.enter(|| self.load(&rules));
        Contender::in_namespace(self.name(), net, self.refuses())
    }
}

/// Loads nftables' rules, in the namespace that the calling thread is in.
pub fn nft(rules: &str) {
    feed(Command::new("nft").args(["-f", "-"]), rules);
}

/// Room for twice as many, as limiter has.
const fn room(accounts: Accounts) -> usize {
    accounts.count * 2
}

fn element_set(accounts: Accounts) -> String {
    let (elements, room) = (elements(accounts, LIMIT), room(accounts));
    format!(
        "table inet bench {{
  set accounts {{
    typeof meta skuid
    size {room}
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
    )
}

/// Another limit for one account of [`Peer::ElementSet`], or the first again.
pub fn other_limit(uid: u32, other: bool) -> String {
    let limit = if other { OTHER_LIMIT } else { LIMIT };
    format!(
        "delete element inet bench accounts {{ {uid} }}
add element inet bench accounts {{ {uid} {limit} }}
"
    )
}

/// Another limit for everybody in [`Peer::ElementSet`], or the first again.
pub fn other_limits(accounts: Accounts, other: bool) -> String {
    let elements = elements(accounts, if other { OTHER_LIMIT } else { LIMIT });
    format!(
        "flush set inet bench accounts
add element inet bench accounts {{ {elements} }}
"
    )
}

fn elements(accounts: Accounts, limit: &str) -> String {
    let mut elements = String::new();
    for uid in accounts.uids() {
        let _ = write!(elements, "{uid} {limit}, ");
    }
    elements
}

fn verdict_map(accounts: Accounts) -> String {
    let (mut chains, mut elements) = (String::new(), String::new());
    for uid in accounts.uids() {
        let _ = writeln!(
            chains,
            "  chain u{uid} {{ {LIMIT} accept; reject with tcp reset; }}"
        );
        let _ = write!(elements, "{uid} : jump u{uid}, ");
    }
    format!(
        "table inet bench {{
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
    )
}

/// Everybody is welcome there.
fn dynamic_set(accounts: Accounts) -> String {
    let room = room(accounts);
    format!(
        "table inet bench {{
  set accounts {{
    typeof meta skuid
    size {room}
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
    )
}

fn owners(accounts: Accounts) -> String {
    let mut rules =
        "*filter\n:mail - [0:0]\n-A OUTPUT -p tcp --dport 25 --syn -j mail\n".to_owned();
    for uid in accounts.uids() {
        let _ = writeln!(
            rules,
            "-A mail -m owner --uid-owner {uid} -m limit --limit 10000/second --limit-burst 10000 -j ACCEPT"
        );
    }
    rules + "-A mail -p tcp -j REJECT --reject-with tcp-reset\nCOMMIT\n"
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
