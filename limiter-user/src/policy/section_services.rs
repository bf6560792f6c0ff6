//! `services`: where the mail programs ask, who may, and how they are answered.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    findings::Findings,
    item::{Fields, Item, Parsed, Scalar, refuse},
    section_node::section,
    section_tenant::texts,
    services::{
        DistinctRecipients, OnFailure, OverLimit, PaceAction, Placeholder, SenderMismatch,
        ServiceAddress, ServicePlaces, Services, Text, Texts, TooFast,
    },
    value, value_net,
};

/// The key that is read here.
pub(super) const KEY: &str = "services";

const KEYS: [&str; 12] = [
    "policy",
    "milter",
    "dovecot",
    "allowed_users",
    "filters",
    "lists",
    "on_failure",
    "sender_mismatch",
    "over_limit",
    "too_fast",
    "distinct_recipients",
    "texts",
];
const ADDRESS: &str =
    "unix:/path/of/a.sock, inet:127.0.0.1:10040, a list of at most 4 of them, or null";
/// At how many addresses one service listens at most.
const MOST_ADDRESSES: usize = 4;
/// The longest path of a UNIX socket, in bytes (unix(7)), less the final zero.
const MOST_PATH: usize = 107;

/// Reads it; what is left out is the default. Sockets that are not named are beside `control`.
pub(super) fn services(
    fields: &Fields<'_>,
    control: &Path,
    out: &mut Findings,
) -> (ServicePlaces, Services) {
    let item = fields.get(KEY);
    if item.as_ref().is_some_and(Item::is_null) {
        return (ServicePlaces::default(), Services::default());
    }
    let fields = section(item.as_ref(), out, &KEYS);
    let mut taken = Vec::new();
    let mut listen = |key: &str, default: Vec<ServiceAddress>, out: &mut Findings| {
        let Some(item) = fields.get(key) else {
            return default;
        };
        let found = addresses(&item, out);
        for address in &found {
            if taken.contains(address) {
                item.refuse(
                    out,
                    &format!("holds {address} twice, or as another service does"),
                    "an address of its own for each service",
                );
            }
            taken.push(address.clone());
        }
        found
    };
    let places = ServicePlaces {
        policy: listen(
            "policy",
            vec![ServiceAddress::beside(control, "policy")],
            out,
        ),
        milter: listen(
            "milter",
            vec![ServiceAddress::beside(control, "milter")],
            out,
        ),
        dovecot: listen("dovecot", Vec::new(), out),
    };
    (places, answers(&fields, out))
}

/// How mail programs are answered.
fn answers(fields: &Fields<'_>, out: &mut Findings) -> Services {
    let mut services = Services::default();
    if let Some(item) = fields.get("allowed_users") {
        services.allowed_users = Some(texts(&item, out, "a list of user names", value::user));
    }
    let mut named = Vec::new();
    services.filters = programs(fields, "filters", &mut named, out);
    services.lists = programs(fields, "lists", &mut named, out);
    choose(
        fields,
        out,
        "on_failure",
        &[("open", OnFailure::Open), ("closed", OnFailure::Closed)],
        &mut services.on_failure,
    );
    choose(
        fields,
        out,
        "sender_mismatch",
        &[
            ("charge", SenderMismatch::Charge),
            ("refuse", SenderMismatch::Refuse),
        ],
        &mut services.sender_mismatch,
    );
    choose(
        fields,
        out,
        "over_limit",
        &[
            ("temporary", OverLimit::Temporary),
            ("permanent", OverLimit::Permanent),
        ],
        &mut services.over_limit,
    );
    choose(
        fields,
        out,
        "distinct_recipients",
        &[
            ("alarm", DistinctRecipients::Alarm),
            ("refuse", DistinctRecipients::Refuse),
        ],
        &mut services.distinct_recipients,
    );
    services.too_fast = too_fast(fields, out);
    services.texts = said(fields, out);
    services
}

/// Users of programs that hand mail on, each once in all that is `named`, and none of them root.
fn programs(
    fields: &Fields<'_>,
    key: &str,
    named: &mut Vec<String>,
    out: &mut Findings,
) -> Vec<String> {
    const ALLOWED: &str = "a list of user names";
    let Some(item) = fields.get(key) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for item in item.list(out, ALLOWED) {
        let Some(name) = item.parse(out, ALLOWED, program) else {
            continue;
        };
        if named.contains(&name) {
            item.refuse(
                out,
                "is named twice",
                "each user once, under `filters` or under `lists`",
            );
            continue;
        }
        named.push(name.clone());
        found.push(name);
    }
    found
}

fn program(scalar: Scalar<'_>) -> Parsed<String> {
    let name = value::user(scalar)?;
    if name == "root" {
        return refuse(
            "is whatever runs on the node, and no program of its own",
            "the user that the filter or the list manager runs as",
        );
    }
    Ok(name)
}

fn addresses(item: &Item<'_>, out: &mut Findings) -> Vec<ServiceAddress> {
    if item.is_null() {
        return Vec::new();
    }
    if !item.is_list() {
        return item.parse(out, ADDRESS, address).into_iter().collect();
    }
    let found = texts(item, out, ADDRESS, address);
    if found.len() > MOST_ADDRESSES {
        item.refuse(out, "names too many addresses", ADDRESS);
    }
    found
}

fn address(scalar: Scalar<'_>) -> Parsed<ServiceAddress> {
    let text = scalar.text;
    if let Some(path) = text.strip_prefix("unix:") {
        if !path.starts_with('/') || path.contains(char::is_control) || path.ends_with('/') {
            return refuse(
                "names no socket",
                "an absolute path, such as unix:/run/a.sock",
            );
        }
        if path.len() > MOST_PATH {
            return refuse(
                "is too long for the path of a socket",
                format!("a path of at most {MOST_PATH} bytes"),
            );
        }
        return Ok(ServiceAddress::Unix(PathBuf::from(path)));
    }
    let Some(inet) = text.strip_prefix("inet:") else {
        return refuse("is not the address of a service", ADDRESS);
    };
    let socket = value_net::socket(Scalar {
        text: inet,
        plain: scalar.plain,
    })
    .or_else(|refusal| refuse(refusal.what, ADDRESS))?;
    let loopback = match socket.ip() {
        IpAddr::V4(v4) => v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_loopback(),
    };
    if !loopback {
        return refuse(
            "is no loopback address: who asks could not be known",
            "127.0.0.1 or [::1] and a port, such as inet:127.0.0.1:10040",
        );
    }
    Ok(ServiceAddress::Inet(socket))
}

/// Puts the word that stands at `key` into `place`.
fn choose<T: Copy>(
    fields: &Fields<'_>,
    out: &mut Findings,
    key: &str,
    words: &[(&'static str, T)],
    place: &mut T,
) {
    let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
    let found = fields
        .get(key)
        .and_then(|item| item.parse(out, &names.join(" | "), |s| value::word(s, words)));
    if let Some(found) = found {
        *place = found;
    }
}

fn too_fast(fields: &Fields<'_>, out: &mut Findings) -> TooFast {
    let item = fields.get("too_fast");
    let fields = section(item.as_ref(), out, &["action", "cap"]);
    let mut found = TooFast::default();
    let words = [("defer", PaceAction::Defer), ("delay", PaceAction::Delay)];
    choose(&fields, out, "action", &words, &mut found.action);
    let cap = fields.get("cap").and_then(|item| {
        item.parse(out, "a duration such as 30s", |scalar| {
            value::duration(scalar, Duration::from_secs(1), TooFast::MOST)
        })
    });
    found.cap = cap.unwrap_or(found.cap);
    found
}

fn said(fields: &Fields<'_>, out: &mut Findings) -> Texts {
    let item = fields.get("texts");
    let known = ["limit", "pace", "sanction", "mismatch", "unknown"];
    let fields = section(item.as_ref(), out, &known);
    let mut found = Texts::default();
    for (key, place) in [
        ("limit", &mut found.limit),
        ("pace", &mut found.pace),
        ("sanction", &mut found.sanction),
        ("mismatch", &mut found.mismatch),
        ("unknown", &mut found.unknown),
    ] {
        if let Some(item) = fields.get(key)
            && let Some(text) = item.parse(out, "one line of text", text)
        {
            *place = text;
        }
    }
    found
}

fn text(scalar: Scalar<'_>) -> Parsed<Text> {
    Text::new(scalar.text).or_else(|error| {
        let names = Placeholder::ALL.map(|(name, _)| format!("{{{name}}}"));
        let most = Text::MOST;
        refuse(
            error.to_string(),
            format!(
                "one line of printable ASCII, at most {most} characters, with {}",
                names.join(", ")
            ),
        )
    })
}
