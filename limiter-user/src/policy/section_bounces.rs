//! `bounces`: where it is read what mail comes back.

use std::path::{Path, PathBuf};

use super::{
    bounces::Bounces,
    findings::Findings,
    item::{Fields, Parsed, Scalar, refuse},
    section_node::section,
    section_tenant::texts,
    value,
};

/// The key that is read here.
pub(super) const KEY: &str = "bounces";

/// How many logs are followed at most.
const MOST_LOGS: usize = 16;
/// Where syslog usually writes what the mail server says.
const SYSLOGS: [&str; 4] = [
    "/var/log/mail.log",
    "/var/log/maillog",
    "/var/log/syslog",
    "/var/log/messages",
];

/// Reads it; what is left out is the default. Relative paths start at the directory of `config`.
pub(super) fn bounces(fields: &Fields<'_>, config: &Path, out: &mut Findings) -> Bounces {
    let base = config.parent().unwrap_or(Path::new("/"));
    let item = fields.get(KEY);
    let fields = section(item.as_ref(), out, &["logs", "journal"]);
    let mut bounces = Bounces::default();
    if let Some(item) = fields.get("logs") {
        let path = |scalar: Scalar<'_>| -> Parsed<PathBuf> { value::path(scalar, base) };
        bounces.logs = texts(&item, out, "a list of paths", path);
        if bounces.logs.len() > MOST_LOGS {
            item.refuse(
                out,
                &format!("names {} logs", bounces.logs.len()),
                format!("at most {MOST_LOGS}"),
            );
        }
        let is_syslogs = |path: &&PathBuf| SYSLOGS.iter().any(|it| path.as_path() == Path::new(it));
        let forgeable = bounces.logs.iter().find(is_syslogs);
        if let Some(path) = forgeable {
            out.warning(
                item.mark(),
                format!("bounces.logs: {} is usually written by syslog", path.display()),
                "any user can write into that, and so have another suspended: `journal: true` reads \
                 the same and knows who wrote it; right is a file that the mail server writes itself \
                 (Postfix: maillog_file, Exim: its main log)",
            );
        }
    }
    if let Some(item) = fields.set("journal")
        && let Some(journal) = item.parse(out, "true or false", truth)
    {
        bounces.journal = journal;
    }
    bounces
}

fn truth(scalar: Scalar<'_>) -> Parsed<bool> {
    match scalar.text {
        "true" if scalar.plain => Ok(true),
        "false" if scalar.plain => Ok(false),
        _ => refuse("is neither true nor false", "true or false"),
    }
}
