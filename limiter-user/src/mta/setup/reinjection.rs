//! Where Postfix takes back what a content filter judged. Such a listener need not ask again, unless limiter
//! knows the filter's user (`services.filters`): then the filter's mail is nobody's, and whoever else
//! connects there pays as everywhere.

use super::{
    Common, PostfixFacts, Steps, Way,
    postfix::{Override, PARAMETER},
};

/// Where strangers and users hand mail in; no filter does.
const PUBLIC: [&str; 7] = [
    "smtp",
    "25",
    "submission",
    "587",
    "smtps",
    "submissions",
    "465",
];
/// A parameter of our own that holds the milters beside limiter's: values in master.cf cannot hold spaces.
const OTHERS: &str = "limiter_other_milters";

impl PostfixFacts {
    /// The listeners that skip the filter or the milters, and take no logins: `127.0.0.1:10025/inet`.
    #[must_use]
    pub fn taking_back(&self) -> Vec<&str> {
        let mut found = Vec::new();
        for it in &self.overrides {
            let Some((service, name)) = it.place.rsplit_once('/') else {
                continue;
            };
            let skips = (name == "content_filter" && it.meaning.is_empty())
                || (name == "receive_override_options" && it.meaning.contains("no_milters"));
            let port = service
                .strip_suffix("/inet")
                .map(|it| it.rsplit(':').next());
            let is_own = port.flatten().is_some_and(|port| !PUBLIC.contains(&port));
            let logins = self.said(service, "smtpd_sasl_auth_enable");
            let logins = logins.is_some_and(|it| it.meaning == "yes");
            if skips && is_own && !logins && !found.contains(&service) {
                found.push(service);
            }
        }
        found
    }

    /// Whether this is about a listener that is not to ask.
    pub(super) fn is_left_out(&self, common: &Common<'_>, it: &Override) -> bool {
        let service = it.place.rsplit_once('/').map(|(service, _)| service);
        common.services.filters.is_empty()
            && service.is_some_and(|service| self.taking_back().contains(&service))
    }

    /// Keeps those listeners from asking, or says what asking there means.
    pub(super) fn reinjection(
        &self,
        common: &Common<'_>,
        policy: &Way,
        milter: &Way,
        steps: &mut Steps,
    ) {
        let listeners = self.taking_back();
        if listeners.is_empty() {
            return;
        }
        let names: Vec<&str> = listeners
            .iter()
            .map(|it| it.trim_end_matches("/inet"))
            .collect();
        let names = names.join(", ");
        if !common.services.filters.is_empty() {
            steps.know(format!(
                "beware: what the filter ({}) hands back at {names} is nobody's. Whoever can connect to the \
                 filter itself sends uncounted: let only Postfix reach it, such as over a UNIX socket",
                common.services.filters.join(", ")
            ));
            return;
        }
        let mut lines = Vec::new();
        for service in listeners {
            self.leave_out(service, common, policy, milter, &mut lines);
        }
        if !lines.is_empty() {
            steps.run(
                "what a content filter hands back does not count again",
                lines,
            );
        }
        steps.know(format!(
            "beware: {names} takes back what a content filter judged, and does not ask: any user of this node \
             who connects there sends uncounted. Better name the filter's user in services.filters, `limiter \
             reload`, and do what this prints then: it asks there too, and the filter's mail is nobody's"
        ));
    }

    fn leave_out(
        &self,
        service: &str,
        common: &Common<'_>,
        policy: &Way,
        milter: &Way,
        lines: &mut Vec<String>,
    ) {
        let ours = format!("${PARAMETER}");
        for (name, without) in [
            ("smtpd_recipient_restrictions", "permit_mynetworks,reject"),
            ("smtpd_end_of_data_restrictions", ""),
        ] {
            let value = match self.said(service, name) {
                None => without.to_owned(),
                Some(it) if self.holds(&it.meaning, policy) && it.value.contains(&ours) => {
                    let rest = it.value.replace(&ours, "");
                    rest.trim_matches(',').to_owned()
                }
                Some(_) => continue,
            };
            lines.push(self.postconf("-P", &format!("{service}/{name}={value}")));
        }
        let skips = self.said(service, "receive_override_options");
        let skips = skips.is_some_and(|it| it.meaning.contains("no_milters"));
        if skips || self.said(service, "smtpd_milters").is_some() {
            return;
        }
        let others = self.smtpd_milters.replace(&self.milter(common, milter), "");
        let others = others.trim_matches([',', ' ']);
        let value = if others.is_empty() {
            String::new()
        } else {
            lines.push(self.postconf("-e", &format!("{OTHERS} = {others}")));
            format!("${OTHERS}")
        };
        lines.push(self.postconf("-P", &format!("{service}/smtpd_milters={value}")));
    }

    fn said(&self, service: &str, name: &str) -> Option<&Override> {
        let place = format!("{service}/{name}");
        self.overrides.iter().find(|it| it.place == place)
    }
}
