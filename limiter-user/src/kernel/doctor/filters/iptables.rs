//! Rules on mail ports in the output of `iptables-save`.

use std::{collections::BTreeMap, fmt};

use super::{MAIL_PORTS, list};
use crate::kernel::doctor::report::several;

/// A chain with rules on mail ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// How many of its rules match a mail port as destination.
    pub rules: usize,
    /// How many of those ask for the owner of the socket.
    pub by_owner: usize,
    /// The mail ports they match.
    pub ports: Vec<u16>,
    /// Where they jump to.
    pub targets: Vec<String>,
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} on port {} in table {}, chain {}",
            several(self.rules, "rule"),
            list(&self.ports),
            self.table,
            self.name
        )?;
        if self.by_owner > 0 {
            write!(f, " ({} by owner)", self.by_owner)?;
        }
        write!(f, ": {}", self.targets.join(", "))
    }
}

/// The chains with rules on mail ports, in order of table and name.
#[must_use]
pub fn mail_rules(text: &str) -> Vec<Chain> {
    let mut chains: BTreeMap<(String, String), Chain> = BTreeMap::new();
    let mut table = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            name.trim().clone_into(&mut table);
        }
        let Some(rule) = line.strip_prefix("-A ") else {
            continue;
        };
        let words: Vec<&str> = rule.split_whitespace().collect();
        let after = |option: &str| {
            let at = words.iter().position(|word| *word == option)?;
            Some((at, *words.get(at + 1)?))
        };
        let Some((at, wanted)) = ["--dport", "--dports", "--destination-port"]
            .into_iter()
            .find_map(after)
        else {
            continue;
        };
        let negated = at > 0 && words[at - 1] == "!";
        let udp = after("-p").is_some_and(|(_, protocol)| protocol == "udp");
        let ports: Vec<u16> = MAIL_PORTS
            .into_iter()
            .filter(|port| !negated && !udp && holds(wanted, *port))
            .collect();
        if ports.is_empty() {
            continue;
        }
        let name = words.first().copied().unwrap_or_default().to_owned();
        let chain = chains
            .entry((table.clone(), name.clone()))
            .or_insert_with(|| Chain {
                table: table.clone(),
                name,
                rules: 0,
                by_owner: 0,
                ports: Vec::new(),
                targets: Vec::new(),
            });
        chain.rules += 1;
        chain.by_owner += usize::from(words.windows(2).any(|pair| pair == ["-m", "owner"]));
        chain.ports.extend(ports);
        chain.ports.sort_unstable();
        chain.ports.dedup();
        if let Some((_, target)) = after("-j").or_else(|| after("-g"))
            && !chain.targets.iter().any(|known| known == target)
        {
            chain.targets.push(target.to_owned());
        }
    }
    chains.into_values().collect()
}

/// Whether a list of ports and ranges (`25,465:587`) holds `port`.
fn holds(wanted: &str, port: u16) -> bool {
    // A range may be open at either end.
    let end = |text: &str, open: u16| match text {
        "" => Ok(open),
        number => number.parse(),
    };
    wanted.split(',').any(|part| match part.split_once(':') {
        Some((first, last)) => match (end(first, 0), end(last, u16::MAX)) {
            (Ok(first), Ok(last)) => (first..=last).contains(&port),
            _ => false,
        },
        None => part.parse() == Ok(port),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = include_str!("../fixtures/iptables-save.txt");

    #[test]
    fn rules_on_mail_ports_are_found() {
        let text: Vec<String> = mail_rules(SAVED).iter().map(Chain::to_string).collect();
        assert_eq!(
            text,
            [
                "1 rule on port 587 in table filter, chain LIMIT: DROP",
                "3 rules on port 25, 465, 587 in table filter, chain SMTPOUTPUT (2 by owner): \
                 ACCEPT, REJECT",
                "1 rule on port 25 in table nat, chain OUTPUT (1 by owner): REDIRECT",
            ]
        );
        assert!(mail_rules("").is_empty());
    }

    #[test]
    fn ports_ranges_and_lists() {
        assert!(holds("25", 25) && holds("465,25", 25) && holds("20:30", 25) && holds(":30", 25));
        assert!(!holds("26", 25) && !holds("26:", 25) && !holds("x", 25) && !holds("", 25));
    }
}
