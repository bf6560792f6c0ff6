//! Users' own `.forward` files. A mail server follows them after limiter was asked: a message that counted
//! once goes to everybody whom such a file names.

use super::{EximFacts, PostfixFacts, quoted};

/// What happens where users' files are followed.
const WHY: &str =
    "mail to such a user counts for one recipient, and goes to everybody whom the file names";

/// That a mail server follows what its users write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwards {
    /// How.
    pub problem: String,
    /// What to set.
    pub remedy: String,
}

impl PostfixFacts {
    /// Whether local(8) follows files in its users' homes; what root alone writes is no matter.
    #[must_use]
    pub fn forwards(&self) -> Option<Forwards> {
        let own = |it: &&super::postfix::Override| it.place == "local/unix/forward_path";
        let path = self.overrides.iter().find(own);
        let path = path.map_or(&self.forward_path, |it| &it.meaning);
        let is_local = !self.local_domains.is_empty() && self.local_transport.starts_with("local");
        if !is_local || !path.contains("home") {
            return None;
        }
        let configuration = quoted(&self.configuration.display().to_string());
        let set = if self.overrides.iter().any(|it| own(&it)) {
            format!("postconf -c {configuration} -P 'local/unix/forward_path='")
        } else {
            format!("postconf -c {configuration} -e 'forward_path ='")
        };
        Some(Forwards {
            problem: format!(
                "Postfix follows users' own .forward files (forward_path = {path}): {WHY}"
            ),
            remedy: format!(
                "`{set} && postfix -c {configuration} reload` switches it off; for some users, \
                 `forward_path = /etc/postfix/forward/${{user}}` reads files that root alone writes"
            ),
        })
    }
}

impl EximFacts {
    /// Whether routers follow files in users' homes.
    #[must_use]
    pub fn forwards(&self) -> Option<Forwards> {
        if self.forwarders.is_empty() {
            return None;
        }
        let names = self.forwarders.join(", ");
        let (file, then) = match self.debian {
            Some(true) => (
                "/etc/exim4/conf.d/router".to_owned(),
                "update-exim4.conf && systemctl restart exim4",
            ),
            Some(false) => (
                "/etc/exim4/exim4.conf.template".to_owned(),
                "update-exim4.conf && systemctl restart exim4",
            ),
            None => (
                self.configuration.display().to_string(),
                "systemctl restart exim",
            ),
        };
        Some(Forwards {
            problem: format!("Exim follows users' own .forward files (router {names}): {WHY}"),
            remedy: format!(
                "`condition = false` in the router {names} ({file}), then `{then}`, switches it off; for some \
                 users, `file = /etc/exim4/forward/$local_part` in it reads files that root alone writes"
            ),
        })
    }
}

/// The routers that follow files in users' homes, in what `exim -bP routers` says.
pub(super) fn forwarders(said: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut router = "";
    let (mut redirects, mut follows) = (false, false);
    for line in said.lines().chain(["end router:"]) {
        if let Some(name) = line.strip_suffix(" router:") {
            if redirects && follows {
                found.push(router.to_owned());
            }
            (router, redirects, follows) = (name, false, false);
        } else if let Some((key, value)) = line.split_once(" = ") {
            redirects |= (key, value) == ("driver", "redirect");
            follows |= key == "file" && value.contains("home");
        }
    }
    found
}
