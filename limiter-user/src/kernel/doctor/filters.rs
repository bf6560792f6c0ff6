//! Other filters of outbound mail: CSF, cPanel's SMTP restrictions, nftables and iptables rules.
//! What they refuse limiter cannot let through, and what they count it does not know.

mod iptables;
mod nft;

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use super::Finding;

const AREA: &str = "mail filters";
/// The ports that are looked for.
const MAIL_PORTS: [u16; 3] = [25, 465, 587];
/// A command that does not end by then is killed.
const PATIENCE: Duration = Duration::from_secs(20);
/// More than this is not read of a command's output, bytes.
const MOST_OUTPUT: u64 = 256 << 20;

pub(super) fn examine(findings: &mut Vec<Finding>) {
    let before = findings.len();
    if let Ok(text) = fs::read_to_string("/etc/csf/csf.conf") {
        findings.push(csf(&text));
    }
    if Path::new("/var/cpanel").is_dir() {
        findings.push(cpanel(Path::new("/var/cpanel/smtpgidonlytweak").exists()));
    }
    match output("nft", &["-j", "list", "ruleset"]) {
        Ok(None) => {}
        Ok(Some(text)) => nftables(&text, findings),
        Err(error) => findings.push(unknown("nft -j list ruleset", &error)),
    }
    for program in ["iptables-save", "ip6tables-save"] {
        match output(program, &[]) {
            Ok(None) => {}
            Ok(Some(text)) => findings.extend(tables(program, &iptables::mail_rules(&text))),
            Err(error) => findings.push(unknown(program, &error)),
        }
    }
    if findings.len() == before {
        findings.push(Finding::ok(AREA, "no other filter of mail ports was found"));
    }
}

/// What CSF does with mail ports.
fn csf(text: &str) -> Finding {
    if csf_value(text, "SMTP_BLOCK") != Some("1") {
        return Finding::note(AREA, "CSF is installed; its SMTP_BLOCK is off", "");
    }
    let ports = csf_value(text, "SMTP_PORTS").unwrap_or("25,465,587");
    let users = csf_value(text, "SMTP_ALLOWUSER").unwrap_or("");
    let groups = csf_value(text, "SMTP_ALLOWGROUP").unwrap_or("");
    Finding::warning(
        AREA,
        format!(
            "CSF blocks ports {ports} (SMTP_BLOCK) for all but root, the users \"{users}\" and \
             the groups \"{groups}\": what it refuses, limiter neither counts nor lets through"
        ),
        "When limiter enforces: SMTP_BLOCK = \"0\" in /etc/csf/csf.conf, then csf -r.",
    )
}

/// The value of a key in csf.conf: `KEY = "value"`.
fn csf_value<'a>(text: &'a str, wanted: &str) -> Option<&'a str> {
    text.lines().rev().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        let value = value.trim().strip_prefix('"')?;
        (key.trim() == wanted).then(|| value.split('"').next().unwrap_or(value))
    })
}

fn cpanel(restricted: bool) -> Finding {
    if restricted {
        Finding::warning(
            AREA,
            "cPanel's SMTP restrictions are on: only root, the MTA and Mailman may connect to \
             port 25, by iptables owner rules",
            "When limiter enforces: WHM, Security Center, SMTP Restrictions, Disable.",
        )
    } else {
        Finding::note(
            AREA,
            "cPanel is installed; its SMTP restrictions are off",
            "",
        )
    }
}

fn nftables(text: &str, findings: &mut Vec<Finding>) {
    match nft::mail_rules(text) {
        Err(error) => findings.push(unknown("the output of nft", &io::Error::other(error))),
        Ok(chains) => findings.extend(chains.iter().map(|chain| {
            Finding::warning(
                AREA,
                format!("nftables: {chain}"),
                format!(
                    "See it: nft list chain {} {} {}. If it stands for what limiter now does, \
                     take it out when limiter enforces.",
                    chain.family, chain.table, chain.name
                ),
            )
        })),
    }
}

fn tables(program: &str, chains: &[iptables::Chain]) -> Vec<Finding> {
    let firewall = program.trim_end_matches("-save");
    chains
        .iter()
        .map(|chain| {
            Finding::warning(
                AREA,
                format!("{firewall}: {chain}"),
                format!(
                    "See it: {firewall} -t {} -S {}. If it stands for what limiter now does, \
                     take it out when limiter enforces.",
                    chain.table, chain.name
                ),
            )
        })
        .collect()
}

fn unknown(what: &str, error: &io::Error) -> Finding {
    Finding::note(
        AREA,
        format!("{what}: {error}; its rules are not known"),
        "Run doctor as root; look yourself.",
    )
}

/// What a program prints; none if there is no such program.
fn output(program: &str, arguments: &[&str]) -> io::Result<Option<String>> {
    let child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = match child {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        child => child?,
    };
    let Some(pipe) = child.stdout.take() else {
        return Ok(None);
    };
    let (done, read) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        let result = pipe.take(MOST_OUTPUT).read_to_string(&mut text);
        // Nobody listens any more if it took too long.
        let _ = done.send(result.map(|_| text));
    });
    let text = read.recv_timeout(PATIENCE).unwrap_or_else(|_| {
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {} s", PATIENCE.as_secs()),
        ))
    });
    if text.is_err() {
        child.kill()?;
    }
    let status = child.wait()?;
    // Ends with the pipe, which ended with the program.
    let _ = reader.join();
    let text = text?;
    if !status.success() {
        return Err(io::Error::other(format!("failed ({status})")));
    }
    Ok(Some(text))
}

/// `25, 587`.
fn list(ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    ports.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::doctor::Level;

    const CSF: &str = include_str!("fixtures/csf.conf");

    #[test]
    fn csf_is_read_as_it_is_written() {
        assert_eq!(csf_value(CSF, "SMTP_BLOCK"), Some("1"));
        assert_eq!(csf_value(CSF, "SMTP_ALLOWUSER"), Some("cpanel"));
        assert_eq!(csf_value(CSF, "SMTP_PORTS"), Some("25,465,587"));
        assert_eq!(csf_value(CSF, "MISSING"), None);
        let finding = csf(CSF);
        assert_eq!(finding.level, Level::Warning);
        assert!(finding.what.contains("25,465,587") && finding.what.contains("\"mail,mailman\""));
        let off = CSF.replace("SMTP_BLOCK = \"1\"", "SMTP_BLOCK = \"0\"");
        assert_eq!(csf(&off).level, Level::Note);
        assert_eq!(csf("").level, Level::Note);
    }

    #[test]
    fn programs_that_fail_or_are_not_there() {
        assert!(output("limiter-no-such-program", &[]).unwrap().is_none());
        assert!(output("false", &[]).is_err());
        assert_eq!(output("echo", &["x"]).unwrap().unwrap(), "x\n");
    }
}
