//! The key `policies` of the main file and of tenants: which policy files bind whom.

use std::path::{Path, PathBuf};

use super::{findings::Findings, item::Fields, model::Located, value};

/// The key.
pub(super) const KEY: &str = "policies";

/// The policy files that are named, in the order of the file. A relative path is relative to the
/// file that is being read.
pub(super) fn policies(fields: &Fields<'_>, out: &mut Findings) -> Vec<Located<PathBuf>> {
    let Some(item) = fields.get(KEY) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for item in item.list(out, "a list of paths of policy files") {
        let path = item.located(out, "the path of a policy file", value::line);
        found.extend(path.map(|Located { value, origin }| {
            let directory = origin.file.parent().unwrap_or(Path::new("/"));
            Located {
                value: directory.join(value),
                origin,
            }
        }));
    }
    found
}
