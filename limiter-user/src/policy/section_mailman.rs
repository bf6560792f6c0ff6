//! `mailman`: how many lists an account may have, and where they are.

use std::path::{Path, PathBuf};

use super::{
    findings::Findings,
    item::{Fields, Parsed, Scalar},
    mailman::Mailman,
    section_node::section,
    section_tenant::texts,
    value,
};

/// The key that is read here.
pub(super) const KEY: &str = "mailman";

/// The most lists that anybody may have.
const MOST: u32 = 1_000_000;

/// Reads it; what is left out is the default. Relative paths start at the directory of `config`.
pub(super) fn mailman(fields: &Fields<'_>, config: &Path, out: &mut Findings) -> Mailman {
    let base = config.parent().unwrap_or(Path::new("/"));
    let item = fields.get(KEY);
    let fields = section(item.as_ref(), out, &["lists", "max", "tenants"]);
    let mut mailman = Mailman::default();
    if let Some(item) = fields.set("lists") {
        let path = |scalar: Scalar<'_>| -> Parsed<PathBuf> { value::path(scalar, base) };
        let allowed = "a list of Mailman's directories, such as [/var/lib/mailman/lists]";
        mailman.lists = texts(&item, out, allowed, path);
    }
    let number = |scalar: Scalar<'_>| value::whole(scalar, 0, MOST);
    let allowed = "a whole number, such as 20";
    if let Some(item) = fields.set("max")
        && let Some(max) = item.parse(out, allowed, number)
    {
        mailman.max = max;
    }
    if let Some(item) = fields.set("tenants")
        && let Some(tenants) = item.entries(out, "a map from tenants to numbers: {alice: 40}")
    {
        for (name, _, item) in tenants.each() {
            if let Some(max) = item.parse(out, allowed, number) {
                mailman.tenants.insert(name.to_owned(), max);
            }
        }
    }
    mailman
}
