//! Exim.

use std::{fs, path::PathBuf};

use limiter_tests::{Agent, Cgroup, Exim, Node, OUTSIDE_MX, Process, post::Steps};

use super::{MailServer, PASSWORD, Town};

/// Exim, with passwords in a file.
pub struct Server {
    exim: Exim,
    // Who is in a cgroup is killed with it.
    daemon: Option<(Process, Cgroup)>,
}

impl Server {
    fn install(node: &Node) -> Self {
        let passwords = node.directory().join("passwords");
        let names = ["alice@shop.example", "bob@bob.example"];
        let lines = names.map(|name| format!("{name}: {PASSWORD}\n"));
        fs::write(&passwords, lines.concat()).expect("the directory is ours");
        let authenticators = format!(
            "
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{def:auth3}}{{eq{{$auth3}}{{${{lookup{{$auth2}}lsearch{{{}}}}}}}}}}}}}
  server_set_id = $auth2
",
            passwords.display()
        );
        let exim = Exim::install_with(
            node,
            OUTSIDE_MX.into(),
            "127.0.0.1.25 ; 203.0.113.2.587",
            "smtp_accept_max = 100
smtp_accept_queue_per_connection = 0
untrusted_set_sender = *
local_from_check = false
",
            &authenticators,
        );
        Self { exim, daemon: None }
    }
}

impl MailServer for Server {
    const SAYS_AT_ONCE: bool = true;

    fn start(&mut self, node: &Node, agent: &Agent<'_>) {
        let program = self.exim.program().display().to_string();
        let steps = Steps::of(agent, "exim", &["--program", &program]);
        assert_eq!(steps.for_limiter(agent), "", "Exim reaches every socket");
        steps.into_exim(node, "exim4/exim4.conf");
        let cgroup = node.cgroup().child("mta");
        self.daemon = Some((self.exim.daemon(&node.root(), &cgroup), cgroup));
    }

    fn sendmail(&self) -> PathBuf {
        self.exim.program().to_owned()
    }

    fn log(&self) -> String {
        self.exim.log()
    }

    fn alarms(line: &str) -> bool {
        line.contains("limiter does not answer")
    }
}

pub fn town() -> Town<Server> {
    Town::new(Server::install)
}

super::scenes::all!(town);
