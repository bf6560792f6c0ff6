//! `notices` of the main file: how people are told.

use std::{net::IpAddr, path::Path, time::Duration};

use super::{
    findings::Findings,
    item::{Fields, Item, Parsed, Scalar, refuse},
    notices::{ExecSettings, MailSettings, Notices, Smtp, WebhookSettings},
    section_tenant::texts,
    value,
};

/// The key that is read here.
pub(super) const KEY: &str = "notices";

const KEYS: [&str; 8] = [
    "from",
    "templates",
    "webhook",
    "exec",
    "operator",
    "smtp",
    "give_up",
    "mails_per_hour",
];
const HOUR: Duration = Duration::from_secs(3_600);
/// RFC 5321, 4.5.3.1.3, without the angle brackets.
const MAX_ADDRESS: usize = 254;

/// Reads it; relative paths start at the directory of the main file.
pub(super) fn notices(fields: &Fields<'_>, config: &Path, out: &mut Findings) -> Notices {
    let base = config.parent().unwrap_or(Path::new("/"));
    let Some(item) = fields.get(KEY) else {
        return Notices::default();
    };
    if item.is_null() {
        return Notices::off();
    }
    let Some(fields) = item.fields(out, &KEYS) else {
        return Notices::default();
    };
    let mut found = Notices {
        mail: mail(&fields, base, out),
        templates: fields
            .set("templates")
            .and_then(|item| item.parse(out, "a directory", |scalar| value::path(scalar, base))),
        webhook: fields
            .set("webhook")
            .and_then(|item| webhook(&item, base, out)),
        exec: fields.set("exec").and_then(|item| exec(&item, base, out)),
        ..Notices::default()
    };
    if let Some(item) = fields.set("operator") {
        let operator = texts(&item, out, "a list of mail addresses", mail_address);
        if item.is_empty() {
            item.warn(
                out,
                "leaves nobody who is told what waits for a decision",
                "an address, or leave `operator` out for root@localhost",
            );
        } else {
            found.operator = operator;
        }
    }
    if let Some(item) = fields.set("give_up") {
        let allowed = "a duration such as 3d";
        let span = item.parse(out, allowed, |scalar| {
            value::duration(scalar, HOUR, 30 * 24 * HOUR)
        });
        found.give_up = span.unwrap_or(found.give_up);
    }
    if let Some(item) = fields.set("mails_per_hour") {
        let count = item.parse(out, "a count", |scalar| value::whole(scalar, 1, 1_000));
        found.mails_per_hour = count.unwrap_or(found.mails_per_hour);
    }
    found
}

/// Without a sender there is no mail; without the key the node is the sender.
fn mail(fields: &Fields<'_>, base: &Path, out: &mut Findings) -> Option<MailSettings> {
    let from = match fields.get("from") {
        None => None,
        Some(item) if item.is_null() => return None,
        Some(item) => item.parse(out, "a mail address", mail_address),
    };
    let smtp = fields.set("smtp").and_then(|item| {
        item.parse(out, SMTP, |scalar| match scalar.text.strip_prefix('/') {
            Some(_) => value::path(scalar, base).map(Smtp::Sendmail),
            None => server(scalar),
        })
    });
    Some(MailSettings {
        from,
        smtp: smtp.unwrap_or_else(Smtp::local),
    })
}

const SMTP: &str = "a server such as 127.0.0.1:25, or a program such as /usr/sbin/sendmail";

fn server(scalar: Scalar<'_>) -> Parsed<Smtp> {
    let wrong = || refuse("is neither a server and its port nor a program", SMTP);
    let Some((host, port)) = scalar.text.rsplit_once(':') else {
        return wrong();
    };
    let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let name = |host: &str| {
        !host.is_empty()
            && host.len() <= 253
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
    };
    let good = match bracketed {
        Some(inner) => inner
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_ipv6()),
        None => name(host),
    };
    match port.parse::<u16>() {
        Ok(port) if good && port > 0 => Ok(Smtp::Server {
            host: bracketed.unwrap_or(host).to_owned(),
            port,
        }),
        _ => wrong(),
    }
}

fn webhook(item: &Item<'_>, base: &Path, out: &mut Findings) -> Option<WebhookSettings> {
    const ALLOWED: &str = "a URL, or {url: …, key_file: …}";
    let Some(fields) = map(item, out, &["url", "key_file", "timeout"]) else {
        return Some(WebhookSettings {
            url: item.parse(out, ALLOWED, url)?,
            key_file: None,
            timeout: WebhookSettings::TIMEOUT,
        });
    };
    let key_file = fields
        .set("key_file")
        .and_then(|item| item.parse(out, "a file", |scalar| value::path(scalar, base)));
    let timeout = timeout(&fields, out, 120).unwrap_or(WebhookSettings::TIMEOUT);
    let item = fields.require(out, "url", "add `url`, such as https://panel.example/hook")?;
    Some(WebhookSettings {
        url: item.parse(out, "a URL", url)?,
        key_file,
        timeout,
    })
}

fn exec(item: &Item<'_>, base: &Path, out: &mut Findings) -> Option<ExecSettings> {
    const ALLOWED: &str = "the path of a program, or {path: …, user: …, timeout: …}";
    let program = |scalar: Scalar<'_>| value::path(scalar, base);
    let Some(fields) = map(item, out, &["path", "user", "timeout"]) else {
        return Some(ExecSettings {
            path: item.parse(out, ALLOWED, program)?,
            user: ExecSettings::USER.to_owned(),
            timeout: ExecSettings::TIMEOUT,
        });
    };
    let user = fields.set("user").and_then(|item| {
        let user = item.parse(out, "a user", value::user)?;
        if user == "root" {
            item.warn(
                out,
                "may do anything on this node",
                "a user that may do no more than it needs",
            );
        }
        Some(user)
    });
    let timeout = timeout(&fields, out, 600).unwrap_or(ExecSettings::TIMEOUT);
    let item = fields.require(out, "path", "add `path`, the program")?;
    Some(ExecSettings {
        path: item.parse(out, "the path of a program", program)?,
        user: user.unwrap_or_else(|| ExecSettings::USER.to_owned()),
        timeout,
    })
}

/// The keys of a map; `None`: it is a single text, or wrong, which whoever reads it will say.
fn map<'i>(item: &'i Item<'_>, out: &mut Findings, known: &[&str]) -> Option<Fields<'i>> {
    item.is_map().then(|| item.fields(out, known)).flatten()
}

fn timeout(fields: &Fields<'_>, out: &mut Findings, most: u64) -> Option<Duration> {
    let (least, most) = (Duration::from_secs(1), Duration::from_secs(most));
    fields.set("timeout")?.parse(out, "a duration", |scalar| {
        value::duration(scalar, least, most)
    })
}

fn url(scalar: Scalar<'_>) -> Parsed<String> {
    const ALLOWED: &str = "https://… or http://…, or null";
    let wrong = || refuse("is not a URL", ALLOWED);
    let Ok(uri) = scalar.text.parse::<hyper::Uri>() else {
        return wrong();
    };
    let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
    if !scheme || uri.host().is_none_or(str::is_empty) || scalar.text.contains('#') {
        return wrong();
    }
    if uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        return refuse("holds a user name", "put the secret into `key_file`");
    }
    Ok(scalar.text.to_owned())
}

/// An address that can stand on an envelope.
pub(super) fn mail_address(scalar: Scalar<'_>) -> Parsed<String> {
    let text = scalar.text;
    let allowed = "an address such as owner@example.org";
    if text.len() > MAX_ADDRESS {
        return refuse("is too long for a mail address", allowed);
    }
    if text.parse::<lettre::Address>().is_err() {
        return refuse("is not a mail address", allowed);
    }
    Ok(text.to_owned())
}
