//! The part of the main file that says where things are. Changing it needs a restart, but for the
//! interfaces.

use std::path::{Path, PathBuf};

use super::{
    findings::Findings,
    glob::Glob,
    item::{Fields, refuse},
    model::Places,
    section_node::section,
    section_tenant::texts,
    services::ServicePlaces,
    value,
};

/// Reads it; relative paths start at the directory of `config`, the absolute path of the file.
pub(super) fn places(fields: &Fields<'_>, config: &Path, out: &mut Findings) -> Places {
    let base = config.parent().unwrap_or(Path::new("/"));
    let attach = fields.get("attach");
    let attach = section(attach.as_ref(), out, &["cgroup", "uplinks", "guests"]);
    let cgroup = attach
        .get("cgroup")
        .and_then(|item| {
            item.parse(out, "a path below the cgroup v2 mount, or /", |scalar| {
                value::cgroup(scalar, false, true)
            })
        })
        .unwrap_or_else(|| "/".to_owned());
    let uplinks = attach.get("uplinks").map(|item| {
        texts(
            &item,
            out,
            "a list of interfaces, such as [eth0]",
            value::interface,
        )
    });
    let guests = match attach.get("guests") {
        None => ["veth*", "tap*", "vnet*", "macvtap*", "vif*"]
            .map(str::to_owned)
            .to_vec(),
        Some(item) => {
            let allowed = "a list of globs of interfaces, such as [\"veth*\"]";
            texts(&item, out, allowed, value::interface)
        }
    };
    let mut path = |key: &str, default: &str| {
        fields
            .get(key)
            .and_then(|item| item.parse(out, "a path", |scalar| value::path(scalar, base)))
            .unwrap_or_else(|| PathBuf::from(default))
    };
    let (state_dir, pin_dir) = (
        path("state_dir", "/var/lib/limiter"),
        path("pin_dir", "/sys/fs/bpf/limiter"),
    );
    let control = path("control", "/run/limiter/control.sock");
    Places {
        config: config.to_owned(),
        cgroup: PathBuf::from(cgroup),
        uplinks,
        guests,
        tenants: tenants(fields, base, out),
        state_dir,
        pin_dir,
        control,
        // Read beside how they answer.
        services: ServicePlaces::default(),
    }
}

/// The glob of tenant files; empty where it is switched off.
fn tenants(fields: &Fields<'_>, base: &Path, out: &mut Findings) -> String {
    let text = match fields.get("tenants") {
        None => "tenants.d/*.yaml".to_owned(),
        Some(item) if item.is_null() => return String::new(),
        Some(item) => {
            let allowed = "a path or a glob, such as tenants.d/*.yaml";
            let glob = item.parse(out, allowed, |scalar| {
                for part in scalar.text.split('/') {
                    if part.contains("**") {
                        return refuse("holds `**`", "a `*` for each directory");
                    }
                    if let Err(error) = Glob::check(part) {
                        return refuse(error.to_string(), allowed);
                    }
                }
                value::path(scalar, Path::new("")).map(|_| scalar.text.to_owned())
            });
            match glob {
                Some(glob) => glob,
                None => return String::new(),
            }
        }
    };
    if text.starts_with('/') {
        return text;
    }
    // The directory is meant as it is, whatever characters it is made of.
    let base = Glob::escape(&base.to_string_lossy());
    format!("{}/{text}", base.trim_end_matches('/'))
}
