//! `notices`: how people are told.

use std::time::Duration;

use super::*;
use crate::policy::notices::{ExecSettings, MailSettings, Notices, Smtp, WebhookSettings};

fn notices(text: &str) -> Notices {
    let config = Config::new(text);
    assert_eq!(config.faults(), Vec::<String>::new(), "{text}");
    config.policy().node.notices
}

#[test]
fn what_is_not_said_is_by_mail_through_the_node_itself() {
    assert_eq!(notices("mode: observe\n"), Notices::default());
    assert_eq!(notices("notices: {}\n"), Notices::default());
    assert_eq!(notices("notices: null\n"), Notices::off());
    let off = notices("notices: {from: null, operator: [a@b.example]}\n");
    assert_eq!(
        (off.mail, off.operator),
        (None, vec!["a@b.example".to_owned()])
    );
}

#[test]
fn the_long_forms_say_more_than_the_short_ones() {
    let short = notices(
        "notices: {from: abuse@host.example, webhook: \"https://panel.example:8443/hook?a=b\", \
         exec: /usr/local/bin/hook, smtp: \"[::1]:2525\"}\n",
    );
    assert_eq!(
        short.mail,
        Some(MailSettings {
            from: Some("abuse@host.example".to_owned()),
            smtp: Smtp::Server {
                host: "::1".to_owned(),
                port: 2_525
            },
        })
    );
    assert_eq!(
        short.webhook,
        Some(WebhookSettings {
            url: "https://panel.example:8443/hook?a=b".to_owned(),
            key_file: None,
            timeout: WebhookSettings::TIMEOUT,
        })
    );
    assert_eq!(
        short.exec,
        Some(ExecSettings {
            path: "/usr/local/bin/hook".into(),
            user: "nobody".to_owned(),
            timeout: ExecSettings::TIMEOUT,
        })
    );
    let config = Config::new(
        "notices:\n  templates: texts/\n  webhook: {url: \"http://127.0.0.1/\", key_file: hook.key, timeout: 5s}\n  \
         exec: {path: /opt/hook, user: panel, timeout: 2m}\n  smtp: /usr/sbin/sendmail\n  \
         give_up: 12h\n  mails_per_hour: 2\n",
    );
    let long = config.policy().node.notices;
    assert_eq!(long.templates, Some(config.path("texts")));
    let webhook = long.webhook.unwrap();
    assert_eq!(webhook.key_file, Some(config.path("hook.key")));
    assert_eq!(webhook.timeout, Duration::from_secs(5));
    let exec = long.exec.unwrap();
    assert_eq!(
        (exec.user.as_str(), exec.timeout),
        ("panel", Duration::from_secs(120))
    );
    assert_eq!(
        long.mail.unwrap().smtp,
        Smtp::Sendmail("/usr/sbin/sendmail".into())
    );
    assert_eq!(long.give_up, Duration::from_secs(12 * 3_600));
    assert_eq!(long.mails_per_hour, 2);
}

#[test]
fn what_makes_no_sense_is_said() {
    all(
        &Config::new(
            "notices:\n\
             \x20 from: \"a@b.example\\r\\nBcc: c@d.example\"\n\
             \x20 webhook: {key_file: x, timeout: 1h}\n\
             \x20 exec: {path: /x, user: root, shell: true}\n\
             \x20 smtp: mail.example\n\
             \x20 operator: [root]\n\
             \x20 give_up: 1m\n\
             \x20 mails_per_hour: 0\n",
        ),
        &[
            "limiter.yaml:2:9: error: notices.from: \"a@b.example\\r\\nBcc: c@d.example\" is not a mail…",
            "limiter.yaml:3:12: error: notices.webhook.url: is missing;…",
            "limiter.yaml:3:35: error: notices.webhook.timeout: 1h is too long;…",
            "limiter.yaml:4:26: warning: notices.exec.user: root may do anything on this node;…",
            "limiter.yaml:4:32: error: notices.exec.shell: unknown key;…",
            "limiter.yaml:5:9: error: notices.smtp: mail.example is neither a server and its port…",
            "limiter.yaml:6:14: error: notices.operator[0]: root is not a mail address;…",
            "limiter.yaml:7:12: error: notices.give_up: 1m is too short;…",
            "limiter.yaml:8:19: error: notices.mails_per_hour: 0 is too small;…",
        ],
    );
    all(
        &Config::new("notices: {webhook: \"https://user:secret@panel.example/\"}\n"),
        &[
            "limiter.yaml:1:20: error: notices.webhook: \"https://user:secret@panel.example/\" holds a user…",
        ],
    );
}
