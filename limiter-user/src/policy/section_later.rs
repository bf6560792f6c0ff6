//! Keys of the main file whose part of the product does not exist yet: checked like all others,
//! and reported as not enforced where they ask for something.

use super::{
    findings::{Findings, NotYet},
    item::{Fields, Item, Parsed, Scalar, refuse},
    section_tenant::{policies, texts},
    value, value_net,
};

/// The keys that are read here.
pub(super) const KEYS: [&str; 4] = ["policies", "services", "notices", "metrics"];

const SERVICES: NotYet = NotYet {
    part: "services",
    means: "leave the mail programs as they are; nothing answers on these sockets",
};
const NOTICES: NotYet = NotYet {
    part: "notices",
    means: "read `limiter events`; nobody is told",
};
const METRICS: NotYet = NotYet {
    part: "metrics",
    means: "use `limiter status --json`; nothing listens there",
};

/// Checks all of them.
pub(super) fn check(fields: &Fields<'_>, out: &mut Findings) {
    if let Some(item) = fields.get("policies") {
        policies(&item, out);
    }
    if let Some(item) = fields.get("services") {
        services(&item, out);
    }
    if let Some(item) = fields.get("notices") {
        notices(&item, out);
    }
    if let Some(item) = fields.set("metrics") {
        let allowed = "127.0.0.1:9477, unix:/path/of/a.sock or null";
        item.parse(out, allowed, |scalar| {
            value_net::service(scalar, "", allowed)
        });
        out.not_yet(item.mark(), METRICS);
    }
}

fn note(item: &Item<'_>, out: &mut Findings, part: NotYet) {
    if !item.is_empty() {
        out.not_yet(item.mark(), part);
    }
}

/// Reads the value of `key` where there is one and it is not null; whether that was so.
fn optional<T>(
    fields: &Fields<'_>,
    out: &mut Findings,
    key: &str,
    allowed: &str,
    parse: impl FnOnce(Scalar<'_>) -> Parsed<T>,
) -> bool {
    match fields.set(key) {
        Some(item) => {
            item.parse(out, allowed, parse);
            true
        }
        None => false,
    }
}

fn services(item: &Item<'_>, out: &mut Findings) {
    let known = ["policy", "milter", "dovecot", "allowed_users", "on_failure"];
    let Some(fields) = item.fields(out, &known) else {
        return;
    };
    let mut any = false;
    for key in ["policy", "milter", "dovecot"] {
        let allowed = "unix:/path/of/a.sock, inet:127.0.0.1:10040 or null";
        any |= optional(&fields, out, key, allowed, |scalar| {
            value_net::service(scalar, "inet:", allowed)
        });
    }
    if let Some(item) = fields.get("allowed_users") {
        texts(&item, out, "a list of user names", value::user);
    }
    let words = [("open", ()), ("closed", ())];
    optional(&fields, out, "on_failure", "open | closed", |scalar| {
        value::word(scalar, &words)
    });
    if any {
        out.not_yet(item.mark(), SERVICES);
    }
}

fn notices(item: &Item<'_>, out: &mut Findings) {
    let Some(fields) = item.fields(out, &["from", "templates", "webhook", "exec"]) else {
        return;
    };
    optional(&fields, out, "from", "a mail address", |scalar| {
        if scalar.text.contains('@') {
            value::line(scalar)
        } else {
            refuse(
                "is not a mail address",
                "an address such as abuse@example.org",
            )
        }
    });
    optional(&fields, out, "templates", "a directory", value::line);
    optional(&fields, out, "webhook", "a URL or null", |scalar| {
        let after = ["https://", "http://"]
            .iter()
            .find_map(|scheme| scalar.text.strip_prefix(scheme));
        match after {
            Some(rest) if !rest.is_empty() && !rest.contains(char::is_whitespace) => Ok(()),
            _ => refuse("is not a URL", "https://… or http://…, or null"),
        }
    });
    optional(
        &fields,
        out,
        "exec",
        "the path of a program or null",
        value::line,
    );
    note(item, out, NOTICES);
}
