//! Files of prefixes: one a line, comments behind `#` or `;`. The lists that the field publishes
//! (Spamhaus DROP and its like) are such files.

use std::path::PathBuf;

use ipnet::IpNet;

use super::{
    fault::Fault,
    findings::Findings,
    item::{Scalar, shown},
    model::{Located, Origin},
    read::{self, ReadError},
    value_net,
};

/// How many bad lines of one file are told one by one: a page of HTML under the name of a list is
/// one mistake, not a thousand.
const TOLD: usize = 20;

/// The prefixes in the file that `named` names, and what is wrong with it.
pub(super) fn read(named: &Located<PathBuf>) -> (Vec<IpNet>, Findings) {
    let mut out = Findings::default();
    let path = &named.value;
    let text = match read::text(path) {
        Ok(text) => text,
        Err(error) => {
            let remedy = match &error {
                ReadError::Missing => "create it; it may be empty".to_owned(),
                ReadError::TooLarge { .. } | ReadError::Binary { .. } => {
                    "a text with one prefix a line, of at most 64 MiB".to_owned()
                }
                other => other.remedy(),
            };
            let problem = format!("blocked: {}: {error}", path.display());
            out.add(Fault::error(&named.origin, problem, remedy));
            return (Vec::new(), out);
        }
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    (prefixes(text, path, &mut out), out)
}

fn prefixes(text: &str, path: &std::path::Path, out: &mut Findings) -> Vec<IpNet> {
    let mut found = Vec::with_capacity(text.len() / 16);
    let mut bad = 0_usize;
    for (index, line) in text.lines().enumerate() {
        let before = line.split(['#', ';']).next().unwrap_or(line);
        let value = before.trim();
        if value.is_empty() {
            continue;
        }
        let scalar = Scalar {
            text: value,
            plain: true,
        };
        let refusal = match value_net::prefix(scalar).and_then(value_net::not_everything) {
            Ok(net) => {
                found.push(net);
                continue;
            }
            Err(refusal) => refusal,
        };
        bad += 1;
        if bad <= TOLD {
            let blanks = before.chars().take_while(|c| c.is_whitespace()).count();
            let origin = Origin {
                file: path.into(),
                line: index + 1,
                column: blanks + 1,
            };
            let problem = format!("blocked: {} {}", shown(value), refusal.what);
            out.add(Fault::error(&origin, problem, refusal.allowed));
        }
    }
    if bad > TOLD {
        let origin = Origin {
            file: path.into(),
            line: 0,
            column: 0,
        };
        out.add(Fault::error(
            &origin,
            format!("blocked: {} more lines are no prefixes", bad - TOLD),
            "one address or prefix a line; comments behind `#` or `;`",
        ));
    }
    found
}
