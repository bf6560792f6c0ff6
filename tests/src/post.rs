//! What a node's own mail server is asked to send, by every way in, and how it is set up to ask limiter: by
//! what `limiter mta config` prints, and by nothing else.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::{Agent, Node, Output, Place, process::run};

/// What `limiter mta config --json` says.
#[derive(Clone, Debug, Deserialize)]
pub struct Steps {
    /// One after the other.
    pub steps: Vec<Step>,
}

/// One thing to do.
#[derive(Clone, Debug, Deserialize)]
pub struct Step {
    /// What, in words.
    pub what: String,
    /// The file that it is about; none: these are commands.
    pub file: Option<PathBuf>,
    /// What to put there, or to run.
    pub lines: Vec<String>,
}

impl Steps {
    /// What limiter says of this mail server; `more` says where that is.
    #[must_use]
    pub fn of(agent: &Agent<'_>, server: &str, more: &[&str]) -> Self {
        let mut words = vec!["mta", "config", server, "--json"];
        words.extend(more);
        let printed = agent.must(&words);
        serde_json::from_str(&printed).expect("it prints JSON")
    }

    /// What is to be put into limiter's own configuration; nothing if it is as it should be.
    #[must_use]
    pub fn for_limiter(&self, agent: &Agent<'_>) -> String {
        self.put(&agent.main_file()).concat()
    }

    /// What is to be put into a file, one text for each step.
    #[must_use]
    pub fn put(&self, file: &Path) -> Vec<String> {
        let about = self
            .steps
            .iter()
            .filter(|step| step.file.as_deref() == Some(file));
        about.map(|step| step.lines.join("\n") + "\n").collect()
    }

    /// Runs the commands that begin with this word.
    pub fn run(&self, node: &Node, word: &str) {
        let commands = self.steps.iter().filter(|step| step.file.is_none());
        for line in commands.flat_map(|step| &step.lines) {
            if line.split(' ').next() == Some(word) {
                let mut shell = node.root().command("/bin/sh");
                let _ = run(shell.args(["-c", line]), "").success(line);
            }
        }
    }

    /// Does what it says in an Exim's configuration in the node's /etc.
    pub fn into_exim(&self, node: &Node, file: &str) {
        let path = node.directory().join("etc").join(file);
        let parts = self.put(&Path::new("/etc").join(file));
        let [settings, acls] = &parts[..] else {
            panic!("{self:?}");
        };
        let text = fs::read_to_string(&path).expect("it is there");
        let replaced: Vec<&str> = settings
            .lines()
            .filter_map(|line| line.split_once('=').map(|(name, _)| name.trim()))
            .filter(|name| name.starts_with("acl_"))
            .collect();
        let mut new = String::new();
        for line in text.lines() {
            let name = line.split_once('=').map(|(name, _)| name.trim());
            if name.is_some_and(|name| replaced.contains(&name)) {
                continue;
            }
            if line == "begin acl" {
                new.push_str(settings);
            }
            new.push_str(line);
            new.push('\n');
            if line == "begin acl" {
                new.push_str(acls);
            }
        }
        node.etc().write(file, &new);
    }
}

/// A message to be sent over SMTP.
#[derive(Clone, Debug)]
pub struct Letters<'l> {
    /// The mail server.
    pub server: SocketAddr,
    /// The name and the password to log in with.
    pub login: Option<(&'l str, &'l str)>,
    /// The envelope's sender; also in the header.
    pub from: &'l str,
    /// The recipients.
    pub to: &'l [String],
}

/// What a mail server said to a message.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Said {
    /// To each recipient.
    pub recipients: Vec<(u16, String)>,
    /// To the message; none if it was not sent.
    pub message: Option<(u16, String)>,
    /// Why the session broke off, if it did.
    pub broken: Option<String>,
}

impl Said {
    /// How many recipients will get the message.
    #[must_use]
    pub fn taken(&self) -> usize {
        let goes = matches!(self.message, Some((250, _)));
        let taken = self.recipients.iter().filter(|(code, _)| *code == 250);
        if goes { taken.count() } else { 0 }
    }

    /// The first refusal.
    #[must_use]
    pub fn refusal(&self) -> Option<&str> {
        let said = self.recipients.iter().chain(&self.message);
        said.clone()
            .find(|(code, _)| *code >= 400)
            .map(|(_, text)| text.as_str())
    }
}

/// Sends one message over one session.
#[must_use]
pub fn send(place: &Place, letters: &Letters<'_>) -> Said {
    let (name, password) = letters.login.unwrap_or_default();
    let mut command = place.command("/usr/bin/python3");
    let (host, port) = (letters.server.ip(), letters.server.port());
    command.args(["-c", SMTP, &host.to_string(), &port.to_string()]);
    command.args([name, password, letters.from]);
    let out = run(&mut command, &letters.to.join("\n")).success("smtplib");
    serde_json::from_str(&out.stdout).expect("it prints what was said")
}

/// PHP's `mail()`, which runs this `sendmail`.
#[must_use]
pub fn php_mail(place: &Place, sendmail: &Path, from: &str, to: &str) -> Output {
    let mut command = place.command("php");
    let path = format!("sendmail_path={} -t -i", sendmail.display());
    command.args(["-d", &path, "-r", PHP, "--", from, to]);
    run(&mut command, "")
}

/// So many recipients outside, whose names begin so.
#[must_use]
pub fn people(name: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{name}{number}@outside.example"))
        .collect()
}

const PHP: &str = r#"
[$_, $from, $to] = $argv;
exit(mail($to, "by php", "Buy now.", "From: $from", "-f$from") ? 0 : 1);
"#;

const SMTP: &str = r#"
import json, smtplib, sys
host, port, name, password, sender = sys.argv[1:]
to = sys.stdin.read().split()
said = {"recipients": [], "message": None, "broken": None}
def answer(pair):
    code, text = pair
    return [code, text.decode("utf-8", "replace")]
try:
    server = smtplib.SMTP(host, int(port), local_hostname="web.example", timeout=50)
    server.ehlo()
    if name:
        server.login(name, password)
    code, text = server.mail(sender)
    if code != 250:
        raise OSError(f"MAIL: {code} {text}")
    for one in to:
        said["recipients"].append(answer(server.rcpt(one)))
    if any(code == 250 for code, _ in said["recipients"]):
        text = f"From: <{sender}>\r\nTo: <list@outside.example>\r\nSubject: by smtp\r\n\r\nBuy now.\r\n"
        try:
            said["message"] = answer(server.data(text))
        except smtplib.SMTPDataError as error:
            said["message"] = answer((error.smtp_code, error.smtp_error))
    server.quit()
except (OSError, smtplib.SMTPException) as error:
    said["broken"] = repr(error)
print(json.dumps(said))
"#;
