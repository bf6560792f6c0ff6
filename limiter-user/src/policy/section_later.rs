//! Keys of the main file whose part of the product does not exist yet: checked like all others,
//! and reported as not enforced where they ask for something.

use super::{
    findings::{Findings, NotYet},
    item::Fields,
    value_net,
};

/// The key that is read here.
pub(super) const KEY: &str = "metrics";

const METRICS: NotYet = NotYet {
    part: "metrics",
    means: "use `limiter status --json`; nothing listens there",
};

/// Checks it.
pub(super) fn check(fields: &Fields<'_>, out: &mut Findings) {
    if let Some(item) = fields.set(KEY) {
        let allowed = "127.0.0.1:9477, unix:/path/of/a.sock or null";
        item.parse(out, allowed, |scalar| value_net::metrics(scalar, allowed));
        out.not_yet(item.mark(), METRICS);
    }
}
