//! Keys of the main file whose part of the product does not exist yet: checked like all others,
//! and reported as not enforced where they ask for something.

use super::{
    findings::{Findings, NotYet},
    item::{Fields, Item, Parsed, Scalar},
    section_tenant::texts,
    value, value_net,
};

/// The keys that are read here.
pub(super) const KEYS: [&str; 2] = ["services", "metrics"];

const SERVICES: NotYet = NotYet {
    part: "services",
    means: "leave the mail programs as they are; nothing answers on these sockets",
};
const METRICS: NotYet = NotYet {
    part: "metrics",
    means: "use `limiter status --json`; nothing listens there",
};

/// Checks all of them.
pub(super) fn check(fields: &Fields<'_>, out: &mut Findings) {
    if let Some(item) = fields.get("services") {
        services(&item, out);
    }
    if let Some(item) = fields.set("metrics") {
        let allowed = "127.0.0.1:9477, unix:/path/of/a.sock or null";
        item.parse(out, allowed, |scalar| {
            value_net::service(scalar, "", allowed)
        });
        out.not_yet(item.mark(), METRICS);
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
