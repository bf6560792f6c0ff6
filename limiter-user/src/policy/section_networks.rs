//! Keys of the main file about other networks: what stays reachable, what is refused, and how
//! often one client may log in.

use std::{path::PathBuf, time::Duration};

use ipnet::IpNet;
use limiter_common::blocked::MAX_PREFIXES;

use super::{
    fault::Fault,
    findings::Findings,
    item::Fields,
    model::{Blocked, Located, LoginLimit, Origin},
    parallel, prefix_file,
    prefix_set::PrefixSet,
    section_node::section,
    section_tenant::texts,
    value,
    value_net::{self, PrefixOrFile},
};

/// The keys that are read here.
pub(super) const KEYS: [&str; 3] = ["management", "blocked", "mailbox"];

/// The longest window or lock of mailbox logins, and the shortest.
const LONGEST: Duration = Duration::from_secs(31 * 86_400);
const SHORTEST: Duration = Duration::from_secs(1);

/// `blocked` as it is written: the files are not read yet.
#[derive(Debug, Default)]
pub(super) struct RawBlocked {
    /// Where the key is written.
    origin: Origin,
    prefixes: Vec<IpNet>,
    /// Absolute.
    files: Vec<Located<PathBuf>>,
}

/// Prefixes that stay reachable under a suspension.
pub(super) fn management(fields: &Fields<'_>, out: &mut Findings) -> Vec<IpNet> {
    let Some(item) = fields.get("management") else {
        return Vec::new();
    };
    let allowed = "a list of addresses and prefixes";
    let mut found = texts(&item, out, allowed, |scalar| {
        value_net::prefix(scalar).and_then(value_net::not_everything)
    });
    found.sort_unstable();
    found.dedup();
    found
}

/// Prefixes that are refused, and the files that hold more of them; relative paths start at
/// `base`, the directory of the main file.
pub(super) fn blocked(
    fields: &Fields<'_>,
    base: &std::path::Path,
    out: &mut Findings,
) -> RawBlocked {
    let Some(item) = fields.get("blocked") else {
        return RawBlocked::default();
    };
    let allowed = "a list of prefixes, or paths of files of prefixes";
    let mut raw = RawBlocked {
        origin: out.origin(item.mark()),
        ..RawBlocked::default()
    };
    for item in item.list(out, allowed) {
        let read = item.located(out, allowed, |scalar| {
            match value_net::prefix_or_file(scalar)? {
                PrefixOrFile::Prefix(net) => {
                    value_net::not_everything(net).map(PrefixOrFile::Prefix)
                }
                PrefixOrFile::File(_) => value::path(scalar, base).map(PrefixOrFile::File),
            }
        });
        match read {
            None => {}
            Some(Located {
                value: PrefixOrFile::Prefix(net),
                ..
            }) => raw.prefixes.push(net),
            Some(Located {
                value: PrefixOrFile::File(path),
                origin,
            }) => raw.files.push(Located {
                value: path,
                origin,
            }),
        }
    }
    raw
}

impl RawBlocked {
    /// The files, in the order of the list.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.iter().map(|file| &file.value)
    }

    /// Reads the files, and puts all prefixes together: what is there twice or inside another
    /// counts once.
    pub fn read(self, out: &mut Findings) -> Blocked {
        let Self {
            origin,
            mut prefixes,
            files,
        } = self;
        for (mut found, findings) in parallel::map(&files, prefix_file::read) {
            prefixes.append(&mut found);
            out.absorb(findings);
        }
        let prefixes = PrefixSet::merged(prefixes);
        if prefixes.len() > MAX_PREFIXES {
            out.add(Fault::error(
                &origin,
                format!(
                    "blocked: {} different prefixes are too many",
                    prefixes.len()
                ),
                format!("at most {MAX_PREFIXES}; what is inside another does not count"),
            ));
        }
        for (whole, family) in value_net::WORLD.iter().zip(["IPv4", "IPv6"]) {
            if prefixes.holds_all_of(*whole) {
                out.add(Fault::error(
                    &origin,
                    format!("blocked: the prefixes together hold all of {family}"),
                    "prefixes that leave something to talk to; this would cut the node off",
                ));
            }
        }
        Blocked { prefixes, origin }
    }
}

/// Limits of mailbox logins.
#[derive(Clone, Debug, Default)]
pub(super) struct Mailbox {
    /// By client: connections.
    pub per_client: Option<LoginLimit>,
    /// By account: logins that the mail server lets in.
    pub per_account: Option<LoginLimit>,
    /// Clients that are not locked out for an account's sake.
    pub account_exempt: Vec<IpNet>,
}

/// Limits of mailbox logins, by client and by account.
pub(super) fn mailbox(fields: &Fields<'_>, out: &mut Findings) -> Mailbox {
    let item = fields.get("mailbox");
    let fields = section(item.as_ref(), out, &["per_client", "per_account"]);
    let per_client = fields.set("per_client");
    let per_client = per_client.and_then(|item| login_limit(&item.fields(out, &LIMIT)?, out));
    let account = fields.set("per_account");
    let account = account.as_ref();
    let account = account.and_then(|item| item.fields(out, &ACCOUNT_LIMIT));
    let account_exempt = account
        .as_ref()
        .and_then(|fields| fields.get(EXEMPT))
        .map(|item| {
            let what = "a list of addresses and prefixes, such as [192.0.2.10, 2001:db8::/64]";
            texts(&item, out, what, value_net::prefix)
        });
    Mailbox {
        per_client,
        per_account: account.and_then(|fields| login_limit(&fields, out)),
        account_exempt: account_exempt.unwrap_or_default(),
    }
}

const EXEMPT: &str = "exempt";
const LIMIT: [&str; 3] = ["max", "window", "lock"];
const ACCOUNT_LIMIT: [&str; 4] = ["max", "window", "lock", EXEMPT];

fn login_limit(fields: &Fields<'_>, out: &mut Findings) -> Option<LoginLimit> {
    let example = "{max: 30, window: 1h, lock: 1h} or null";
    let max = fields.require(out, "max", example).and_then(|item| {
        item.parse(out, "a whole number", |scalar| {
            // Not 0: it would lock everybody out who logs in once. Null switches it off.
            value::whole(scalar, 1, u32::MAX)
        })
    });
    let mut span = |key: &str| {
        let item = fields.require(out, key, example)?;
        item.parse(out, "a duration such as 1h", |scalar| {
            value::duration(scalar, SHORTEST, LONGEST)
        })
    };
    let (window, lock) = (span("window"), span("lock"));
    Some(LoginLimit {
        max: max?,
        window: window?,
        lock: lock?,
    })
}
