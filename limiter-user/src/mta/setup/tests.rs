use super::{postfix::Override, *};
use crate::policy::compile::testing;

fn policy(addresses: &[&str]) -> Policy {
    let mut policy = testing::policy();
    let addresses: Vec<ServiceAddress> = addresses
        .iter()
        .map(|text| match text.strip_prefix("unix:") {
            Some(path) => ServiceAddress::Unix(path.into()),
            None => ServiceAddress::Inet(text.parse().unwrap()),
        })
        .collect();
    policy.places.services.policy = addresses;
    policy.places.services.milter = vec![ServiceAddress::Unix(
        "/var/spool/postfix/limiter/milter.sock".into(),
    )];
    policy
}

fn postfix() -> PostfixFacts {
    PostfixFacts {
        configuration: "/etc/postfix".into(),
        queue: "/var/spool/postfix".into(),
        version: (3, 7),
        ..PostfixFacts::default()
    }
}

fn overridden(place: &str, value: &str) -> Override {
    Override {
        place: place.to_owned(),
        value: value.to_owned(),
        meaning: value.to_owned(),
    }
}

const IN_QUEUE: &str = "unix:/var/spool/postfix/limiter/policy.sock";

#[test]
fn postfix_is_reached_from_within_its_chroot() {
    let text = postfix().steps(&policy(&[IN_QUEUE])).to_string();
    assert!(!text.contains("services:"), "{text}");
    let check =
        "check_policy_service { unix:limiter/policy.sock, timeout=15s, default_action=DUNNO }";
    for line in [
        format!("postconf -c '/etc/postfix' -e 'smtpd_recipient_restrictions = {check}'"),
        format!("postconf -c '/etc/postfix' -e 'smtpd_end_of_data_restrictions = {check}'"),
        "postconf -c '/etc/postfix' -e 'non_smtpd_milters = { unix:limiter/milter.sock, default_action=accept }'".to_owned(),
        "postfix -c '/etc/postfix' reload".to_owned(),
    ] {
        assert!(text.lines().any(|there| there == line), "{line}\n{text}");
    }
    let text = postfix()
        .steps(&policy(&["unix:/run/limiter/policy.sock"]))
        .to_string();
    let missing = format!("  policy: [\"unix:/run/limiter/policy.sock\", \"{IN_QUEUE}\"]");
    assert!(text.lines().any(|line| line == missing), "{text}");
    let text = postfix().steps(&policy(&["127.0.0.1:10040"])).to_string();
    assert!(text.contains("{ inet:127.0.0.1:10040, "), "{text}");
    assert!(text.contains("any user of this node can listen"), "{text}");
    let text = postfix().steps(&policy(&["127.0.0.1:740"])).to_string();
    assert!(!text.contains("any user of this node"), "{text}");
}

#[test]
fn what_postfix_does_already_stays_and_comes_behind() {
    let facts = PostfixFacts {
        recipient_restrictions: "permit_mynetworks, reject_rbl_client o'neill.example".to_owned(),
        end_of_data_restrictions: "check_policy_service unix:limiter/policy.sock".to_owned(),
        smtpd_milters: "inet:127.0.0.1:8891".to_owned(),
        non_smtpd_milters: "unix:limiter/milter.sock".to_owned(),
        overrides: vec![
            overridden(
                "submission/inet/smtpd_recipient_restrictions",
                "permit_sasl_authenticated,reject",
            ),
            overridden("submission/inet/smtpd_tls_security_level", "encrypt"),
            overridden(
                "smtps/inet/smtpd_recipient_restrictions",
                "check_client_access { cidr:/x } permit",
            ),
            Override {
                meaning: "check_policy_service unix:limiter/policy.sock,permit".to_owned(),
                ..overridden(
                    "10025/inet/smtpd_recipient_restrictions",
                    "$limiter_check,permit",
                )
            },
        ],
        ..postfix()
    };
    let mut policy = policy(&[IN_QUEUE]);
    policy.node.services.on_failure = OnFailure::Closed;
    policy.node.services.too_fast.action = PaceAction::Delay;
    let text = facts.steps(&policy).to_string();
    let check = "check_policy_service { unix:limiter/policy.sock, timeout=45s }";
    for line in [
        format!(
            r"postconf -c '/etc/postfix' -e 'smtpd_recipient_restrictions = {check}, permit_mynetworks, reject_rbl_client o'\''neill.example'"
        ),
        format!("postconf -c '/etc/postfix' -e 'limiter_check = {check}'"),
        "postconf -c '/etc/postfix' -P 'submission/inet/smtpd_recipient_restrictions=$limiter_check,permit_sasl_authenticated,reject'".to_owned(),
        "postconf -c '/etc/postfix' -e 'limiter_before_2 = check_client_access { cidr:/x } permit'".to_owned(),
        "postconf -c '/etc/postfix' -P 'smtps/inet/smtpd_recipient_restrictions=$limiter_check,$limiter_before_2'".to_owned(),
        "postconf -c '/etc/postfix' -e 'smtpd_milters = inet:127.0.0.1:8891, { unix:limiter/milter.sock, default_action=tempfail }'".to_owned(),
    ] {
        assert!(text.lines().any(|there| there == line), "{line}\n{text}");
    }
    for not in [
        "smtpd_end_of_data",
        "non_smtpd",
        "tls_security",
        "10025",
        "goes out uncounted",
    ] {
        assert!(!text.contains(not), "{not}\n{text}");
    }
}

/// What is printed about `smtpd_milters`.
fn about_smtpd_milters(facts: &PostfixFacts, policy: &Policy) -> Vec<String> {
    let steps = facts.steps(policy).steps.into_iter();
    let lines = steps.flat_map(|step| step.lines);
    lines
        .filter(|line| line.contains("smtpd_milters") && !line.contains("non_smtpd"))
        .collect()
}

#[test]
fn the_milter_is_asked_by_smtp_where_it_knows_more() {
    let ours = "{ unix:limiter/milter.sock, default_action=accept }";
    let printed = format!("postconf -c '/etc/postfix' -e 'smtpd_milters = {ours}'");
    let mut alone = policy(&[IN_QUEUE]);
    assert!(about_smtpd_milters(&postfix(), &alone).is_empty());
    assert_eq!(postfix().lacks(&alone), (true, true));
    let checks = PostfixFacts {
        content_checks: vec!["body_checks"],
        ..postfix()
    };
    let of_cleanup = PostfixFacts {
        overrides: vec![overridden("cleanup/unix/header_checks", "regexp:/x")],
        ..postfix()
    };
    let behind = PostfixFacts {
        end_of_data_restrictions: "check_policy_service inet:127.0.0.1:10031".to_owned(),
        ..postfix()
    };
    for facts in [checks, of_cleanup, behind] {
        let found = about_smtpd_milters(&facts, &alone);
        assert_eq!(found, std::slice::from_ref(&printed), "{facts:?}");
    }
    // Where one listener has filters of its own, it is asked there too.
    let of_one = PostfixFacts {
        overrides: vec![
            overridden("submission/inet/smtpd_milters", "$mua_milters"),
            overridden("smtps/inet/smtpd_milters", "{ inet:127.0.0.1:8891 }"),
            overridden("628/inet/smtpd_milters", ""),
        ],
        ..postfix()
    };
    assert_eq!(
        about_smtpd_milters(&of_one, &alone),
        [
            printed.as_str(),
            "postconf -c '/etc/postfix' -P 'submission/inet/smtpd_milters=$mua_milters,$limiter_milter'",
            "postconf -c '/etc/postfix' -P 'smtps/inet/smtpd_milters=$limiter_milters_2,$limiter_milter'",
        ]
    );
    let text = of_one.steps(&alone).to_string();
    for line in [
        format!("postconf -c '/etc/postfix' -e 'limiter_milter = {ours}'"),
        "postconf -c '/etc/postfix' -e 'limiter_milters_2 = { inet:127.0.0.1:8891 }'".to_owned(),
    ] {
        assert!(text.lines().any(|there| there == line), "{line}\n{text}");
    }
    let mut alice = testing::tenant("alice");
    alice.rules.limits = vec![crate::policy::model::Limit {
        unit: limiter_common::limit::Unit::DistinctRecipients,
        max: 4000,
        window: Duration::from_secs(3600),
        groups: 0,
    }];
    alone.tenants.push(alice);
    assert_eq!(about_smtpd_milters(&postfix(), &alone), [printed]);
    // Once it is there it stays.
    let there = PostfixFacts {
        smtpd_milters: ours.to_owned(),
        ..postfix()
    };
    alone.tenants.clear();
    assert!(about_smtpd_milters(&there, &alone).is_empty());
    assert!(there.asks_milter_by_smtp(&alone) && !postfix().asks_milter_by_smtp(&alone));
}

#[test]
fn an_old_postfix_gets_what_it_knows() {
    let facts = PostfixFacts {
        version: (2, 11),
        ..postfix()
    };
    let text = facts.steps(&policy(&[IN_QUEUE])).to_string();
    assert!(
        text.contains(
            "'smtpd_end_of_data_restrictions = check_policy_service unix:limiter/policy.sock'"
        ),
        "{text}"
    );
    assert!(text.contains("'milter_default_action = accept'"), "{text}");
}

#[test]
fn exim_is_told_as_it_is_put_together() {
    let mut facts = EximFacts {
        configuration: "/etc/exim/exim.conf".into(),
        debian: Some(true),
        acls: ["acl_check_rcpt", "acl_check_data", "", "", ""].map(str::to_owned),
        forwarders: Vec::new(),
    };
    let policy = policy(&["unix:/run/limiter/policy.sock"]);
    let text = facts.steps(&policy).to_string();
    for line in [
        "LIMITER_SOCKET = /run/limiter/policy.sock",
        r"LIMITER_TAIL = \n}{15s}{}{away}}",
        "MAIN_ACL_CHECK_RCPT = limiter_smtp_rcpt",
        "MAIN_ACL_CHECK_DATA = limiter_smtp_data",
        "acl_not_smtp = limiter_not_smtp",
        "          acl = acl_check_rcpt",
        "          acl = acl_check_data",
    ] {
        assert!(text.lines().any(|there| there == line), "{line}\n{text}");
    }
    assert!(text.contains("/etc/exim4/conf.d/acl/90_limiter"), "{text}");
    // Asked again when ours are there, it says the same.
    facts.acls = HOOKED.map(str::to_owned);
    assert_eq!(facts.steps(&policy).to_string(), text);
    facts.debian = Some(false);
    let text = facts.steps(&policy).to_string();
    assert!(text.contains("/etc/exim4/exim4.conf.template"), "{text}");
    facts.debian = None;
    facts.acls = ["check_rcpt", "", "check_local", "", ""].map(str::to_owned);
    let text = facts.steps(&policy).to_string();
    assert!(text.contains("acl_smtp_rcpt = limiter_smtp_rcpt"), "{text}");
    assert!(text.contains("          acl = check_local"), "{text}");
    assert!(text.contains("{away}}{match"), "{text}");
    // Where nothing may go out uncounted, no answer is none.
    let mut closed = policy.clone();
    closed.node.services.on_failure = OnFailure::Closed;
    let text = facts.steps(&closed).to_string();
    assert!(!text.contains("acl = limiter_away"), "{text}");
    assert!(text.contains("}{}{failed}}"), "{text}");
}

const HOOKED: [&str; 5] = [
    "limiter_smtp_rcpt",
    "limiter_smtp_data",
    "limiter_not_smtp",
    "limiter_smtp_quit",
    "limiter_smtp_notquit",
];

#[test]
fn dovecot_asks_once_for_each_login() {
    let mut facts = DovecotFacts {
        configuration: "/etc/dovecot/dovecot.conf".into(),
        version: "2.3.19.1 (9b53102964)".to_owned(),
        settings: ["", "", "yes", "yes", "yes", "no"].map(str::to_owned),
    };
    let mut policy = policy(&[]);
    let text = facts.steps(&policy).to_string();
    for line in [
        "  dovecot: [\"inet:127.0.0.1:941\"]",
        "auth_policy_server_url = http://127.0.0.1:941/",
        "auth_policy_check_before_auth = no",
        "auth_policy_report_after_auth = no",
    ] {
        assert!(text.lines().any(|there| there == line), "{line}\n{text}");
    }
    let nonce = text
        .lines()
        .find_map(|line| line.strip_prefix("auth_policy_hash_nonce = "));
    assert_eq!(nonce.map(str::len), Some(32), "{text}");
    assert!(
        text.contains("`mailbox.per_account` is not set") && !text.contains("check_after"),
        "{text}"
    );
    // What is there already stays.
    policy.places.services.dovecot = vec![ServiceAddress::Inet("[::1]:900".parse().unwrap())];
    policy.node.services.on_failure = OnFailure::Closed;
    facts.settings = ["http://[::1]:900/", "secret", "no", "yes", "no", "no"].map(str::to_owned);
    let text = facts.steps(&policy).to_string();
    assert!(
        text.contains("auth_policy_reject_on_fail = yes") && !text.contains("nonce"),
        "{text}"
    );
    policy.node.services.on_failure = OnFailure::Open;
    let text = facts.steps(&policy).to_string();
    assert!(
        text.contains("Dovecot asks already") && !text.contains("reload"),
        "{text}"
    );
}

/// What amavis says to put into master.cf, and a port for logins that skips the filter.
fn filtered() -> PostfixFacts {
    PostfixFacts {
        smtpd_milters: "inet:127.0.0.1:8891".to_owned(),
        overrides: vec![
            overridden("127.0.0.1:10025/inet/content_filter", ""),
            overridden(
                "127.0.0.1:10025/inet/smtpd_recipient_restrictions",
                "permit_mynetworks,reject",
            ),
            overridden(
                "10026/inet/receive_override_options",
                "no_milters,no_address_mappings",
            ),
            Override {
                meaning: "check_policy_service unix:limiter/policy.sock,permit_mynetworks,reject"
                    .to_owned(),
                ..overridden(
                    "10026/inet/smtpd_recipient_restrictions",
                    "$limiter_check,permit_mynetworks,reject",
                )
            },
            overridden("submission/inet/content_filter", ""),
            overridden("2587/inet/content_filter", ""),
            overridden("2587/inet/smtpd_sasl_auth_enable", "yes"),
            overridden("2587/inet/smtpd_recipient_restrictions", "permit"),
            overridden("smtp/unix/content_filter", ""),
        ],
        ..postfix()
    }
}

#[test]
fn where_a_filter_hands_mail_back_nobody_is_asked_unless_the_filter_is_known() {
    let mut policy = policy(&[IN_QUEUE]);
    let facts = filtered();
    assert_eq!(facts.taking_back(), ["127.0.0.1:10025/inet", "10026/inet"]);
    let text = facts.steps(&policy).to_string();
    for line in [
        "postconf -c '/etc/postfix' -P '127.0.0.1:10025/inet/smtpd_end_of_data_restrictions='",
        "postconf -c '/etc/postfix' -e 'limiter_other_milters = inet:127.0.0.1:8891'",
        "postconf -c '/etc/postfix' -P '127.0.0.1:10025/inet/smtpd_milters=$limiter_other_milters'",
        "postconf -c '/etc/postfix' -P '10026/inet/smtpd_recipient_restrictions=permit_mynetworks,reject'",
        "postconf -c '/etc/postfix' -P '10026/inet/smtpd_end_of_data_restrictions='",
        "postconf -c '/etc/postfix' -P '2587/inet/smtpd_recipient_restrictions=$limiter_check,permit'",
    ] {
        assert!(text.lines().any(|there| there == line), "{line}\n{text}");
    }
    for not in [
        "10025/inet/smtpd_recipient_restrictions",
        "10026/inet/smtpd_milters",
        "2587/inet/smtpd_milters",
    ] {
        assert!(!text.contains(not), "{not}\n{text}");
    }
    assert!(text.contains("services.filters"), "{text}");
    policy.node.services.filters = vec!["amavis".to_owned()];
    let text = facts.steps(&policy).to_string();
    let asks = "127.0.0.1:10025/inet/smtpd_recipient_restrictions=$limiter_check,permit_mynetworks";
    assert!(text.contains(asks), "{text}");
    assert!(!text.contains("inet/smtpd_milters"), "{text}");
    assert!(text.contains("let only Postfix reach it"), "{text}");
}

#[test]
fn it_is_said_when_users_files_are_followed() {
    let follows = PostfixFacts {
        forward_path: "$home/.forward${recipient_delimiter}${extension}, $home/.forward".to_owned(),
        local_domains: "node.example".to_owned(),
        local_transport: "local:node.example".to_owned(),
        ..postfix()
    };
    let policy = policy(&[IN_QUEUE]);
    let text = follows.steps(&policy).to_string();
    assert!(
        text.contains("postconf -c '/etc/postfix' -e 'forward_path =' "),
        "{text}"
    );
    assert_eq!(follows.lacks(&policy), (true, true));
    let without = |change: fn(&mut PostfixFacts)| {
        let mut facts = follows.clone();
        change(&mut facts);
        facts.forwards()
    };
    assert_eq!(without(|it| it.local_domains.clear()), None);
    assert_eq!(without(|it| it.forward_path.clear()), None);
    assert_eq!(
        without(|it| it.forward_path = "/etc/postfix/forward/$user".to_owned()),
        None
    );
    assert_eq!(
        without(|it| it.local_transport = "lmtp:unix:x".to_owned()),
        None
    );
    let off =
        |it: &mut PostfixFacts| it.overrides = vec![overridden("local/unix/forward_path", "")];
    assert_eq!(without(off), None);
    let on = |it: &mut PostfixFacts| {
        it.overrides = vec![overridden("local/unix/forward_path", "$home/.forward")];
        it.forward_path.clear();
    };
    let said = without(on).unwrap().remedy;
    assert!(said.contains("-P 'local/unix/forward_path='"), "{said}");

    let exim = EximFacts {
        configuration: "/etc/exim/exim.conf".into(),
        forwarders: vec!["userforward".to_owned()],
        ..EximFacts::default()
    };
    let text = exim.steps(&policy).to_string();
    assert!(
        text.contains("`condition = false` in the router userforward (/etc/exim/exim.conf)"),
        "{text}"
    );
    assert_eq!(EximFacts::default().forwards(), None);
    let said = "
system_aliases router:
data = ${lookup{$local_part}lsearch{/etc/aliases}}
driver = redirect
file = 

userforward router:
address_data = 
driver = redirect
file = $home/.forward
file_transport = address_file

lists router:
driver = redirect
file = /etc/exim4/lists/$local_part

home router:
driver = accept
transport_home_directory = $home
";
    assert_eq!(forward::forwarders(said), ["userforward"]);
}
