//! What is told of a record, by a court in memory and by the record book alone.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::{Timestamp, tz::TimeZone};
use serde_json::json;

use super::*;
use crate::{
    court::{Bailiff, BailiffError, Clocks, Court, Found, Setting, Submission, Wanted, testing},
    ledger::{Ledger, NoteRow},
    offence::{Book, Reading, Sanction, Severity, Signal, Span, Word},
    report::{
        case::{CaseState, HoldState},
        case_text, dossier_html, dossier_text,
        status::{Standing, Status},
        status_text::{self, Style},
    },
};

const START: u64 = 1_800_000_000_000;
const STYLE: Style = Style {
    zone: TimeZone::UTC,
    all: true,
};

/// A machine whose kernel does whatever it is told.
#[derive(Clone, Default)]
struct Machine(Arc<Mutex<u64>>);

impl Clocks for Machine {
    fn read(&self) -> Reading {
        let passed = *self.0.lock().unwrap();
        Reading {
            wall: Moment(START + passed),
            boot: "a boot".to_owned(),
            up: Span(100_000 + passed),
            trusted: true,
        }
    }
}

impl Bailiff for Machine {
    fn enforce(&mut self, _: &str, _: &Wanted) -> Result<(), BailiffError> {
        Ok(())
    }

    fn in_force(&self) -> Result<Vec<Found>, BailiffError> {
        Ok(Vec::new())
    }
}

struct Stage {
    directory: tempfile::TempDir,
    machine: Machine,
    court: Court,
}

impl Stage {
    fn new(policy: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
        let loaded = crate::policy::load_ladder(&path.join(format!("{policy}.yaml")));
        let ladder = loaded.ladder.unwrap();
        let book = Book {
            everybody: [ladder.name.clone()].into(),
            ladders: [(ladder.name.clone(), ladder)].into(),
            tenants: [("alice".to_owned(), Default::default())].into(),
        };
        let directory = tempfile::tempdir().unwrap();
        let machine = Machine::default();
        let court = Court::open(Setting {
            ledger: Ledger::open(directory.path()).unwrap(),
            book,
            clocks: Box::new(machine.clone()),
            bailiff: Box::new(machine.clone()),
            herald: Box::new(testing::Everywhere),
            later: Vec::new(),
        });
        Self {
            directory,
            machine,
            court: court.unwrap(),
        }
    }

    fn hear(&self, signal: Signal, reason: &str) {
        let by = json!({
            "uid": 0, "user": "root", "login_uid": 1000, "login_user": "carla", "pid": 1,
        });
        let submission = Submission::by(signal, by, Some(reason.to_owned()));
        self.court.hear(vec![submission], &[]).unwrap();
        *self.machine.0.lock().unwrap() += 10;
        self.court.tick();
    }

    fn offence(&self, severity: Severity, reason: &str) {
        let signal = Signal::Offence {
            tenant: "alice".to_owned(),
            severity,
            reason: reason.to_owned(),
            by: "root".to_owned(),
            happened: Moment(u64::MAX),
        };
        self.hear(signal, reason);
    }

    fn word(&self, word: Word) {
        let signal = Signal::Word {
            tenant: "alice".to_owned(),
            word,
            by: "root".to_owned(),
        };
        self.hear(signal, "by telephone");
    }

    /// The record book as it is read with no agent.
    fn shelf(&self) -> Shelf {
        let book = self.court.book();
        let shelf = Shelf::alone(self.directory.path(), book, &self.machine.read());
        shelf.unwrap().unwrap()
    }

    /// What `status` says of alice, by the court.
    fn status(&self) -> Status {
        let mut status: Status = serde_json::from_value(json!({
            "node": "web-17", "mode": "enforce", "observe_until": null, "healthy": true,
            "problems": [], "agent": null, "layers": [],
            "tenants": [{
                "tenant": "alice", "parent": null, "mode": "enforce", "observe_until": null,
                "standing": "good", "sanction": null, "until": null, "usage": [],
                "allowed": 0, "denied": 0, "redirected": 0, "would_deny": 0,
            }],
        }))
        .unwrap();
        self.court
            .study(|study| add_to_status(&mut status, study, false));
        let mut alone = status.clone();
        alone.tenants[0].record = Default::default();
        alone.tenants[0].sanctions.clear();
        let shelf = self.shelf();
        let records = shelf.records().unwrap();
        shelf.study_all(&records, |study| add_to_status(&mut alone, study, false));
        assert_eq!(alone, status, "with and without an agent");
        status
    }
}

fn case(name: &str) -> CaseName {
    name.parse().unwrap()
}

#[test]
fn names_of_cases_are_read() {
    assert_eq!(case("ix-cm/12").to_string(), "ix-cm/12");
    assert_eq!(case("a/b/3").policy, "a/b");
    for wrong in ["", "hostup", "hostup/", "/1", "hostup/x", "hostup/-1"] {
        assert!(wrong.parse::<CaseName>().is_err(), "{wrong}");
    }
}

#[test]
fn times_are_the_wall_clocks() {
    let at = |now, wall, moment| {
        let times = Times {
            now: Moment(now),
            wall: Moment(wall),
        };
        times.at(Moment(moment)).as_millisecond()
    };
    assert_eq!(at(1_000, 5_000, 900), 4_900);
    assert_eq!(at(5_000, 1_000, 6_000), 2_000);
    assert_eq!(at(1_000, 1_003, 1_500), 1_500, "read one after the other");
    assert_eq!(at(1_003, 1_000, 1_500), 1_500);
    assert_eq!(at(1, 1, u64::MAX), Timestamp::MAX.as_millisecond());
}

#[test]
fn an_unknown_tenant_is_refused_and_a_record_is_shown() {
    let stage = Stage::new("hostup");
    let shelf = stage.shelf();
    assert!(shelf.cases(Some("alice"), true).unwrap().is_empty());
    assert!(shelf.cases(Some("mallory"), true).is_err());
    assert!(shelf.case("alice", &case("hostup/1")).is_err());
    stage.offence(Severity::Severe, "x");
    // Nobody knows the tenant any more; its record is kept.
    stage.court.set_book(Book::default());
    let shelf = stage.shelf();
    assert_eq!(shelf.cases(Some("alice"), false).unwrap().len(), 1);
    let dossier = shelf.dossier("alice", Duration::from_secs(60), About::default());
    assert!(!dossier.unwrap().known);
}

#[test]
fn a_case_is_told_whole() {
    let stage = Stage::new("hostup");
    stage.offence(Severity::Severe, "an \x1b[2J<open> relay");
    stage.word(Word::Contact);
    let note = NoteRow {
        tenant: "alice".to_owned(),
        policy: "hostup".to_owned(),
        number: 1,
        wall: 1_800_000_000_000,
        by: json!("carla"),
        text: "no answer".to_owned(),
    };
    stage.court.write(|page| page.note(&note)).unwrap();
    let shelf = stage.shelf();
    let details = shelf.case("alice", &case("hostup/1")).unwrap();
    assert_eq!(details.summary.state, CaseState::Open);
    assert_eq!(details.summary.sanction, Some(Sanction::SuspendNetwork));
    assert_eq!(details.marks.len(), 1);
    assert_eq!(details.holds[0].state, HoldState::InForce);
    assert_eq!(
        details.holds[0].lift,
        "a review (`limiter reinstate alice`)"
    );
    assert_eq!(details.notes[0].text, "no answer");
    assert_eq!(details.notices.len(), 3);
    assert_eq!(details.notices[0].deliveries[0].state, "waiting");
    assert_eq!(details.charges[0].plus, ["remediation"]);
    let kinds: Vec<&str> = details.heard.iter().map(|it| it.kind.as_str()).collect();
    assert_eq!(kinds, ["offence", "word"]);
    assert_eq!(
        details.heard[1].by.as_deref(),
        Some("root (uid 0), logged in as carla (uid 1000)")
    );
    let next: Vec<_> = details
        .next
        .iter()
        .filter(|it| !it.already)
        .map(|it| (it.severity, it.sanction, it.proposed, it.meanwhile))
        .collect();
    let meanwhile = Some(Sanction::SuspendNetwork);
    let expected = (
        Some(Severity::Critical),
        Sanction::NullRoute,
        true,
        meanwhile,
    );
    assert_eq!(next, [expected]);
    let text = case_text::details(&details, &STYLE);
    assert!(!text.contains('\x1b'), "{text}");
    for words in [
        "case hostup/1 of alice: open, severe\n",
        "suspend_network, case hostup/1: severe, offence 1; lifted by a review",
        "a further critical offence: suspend_network at once, null_route proposed (hostup)",
        "a further severe offence: joins the open case, nothing beyond what that led to (hostup)",
        "the owner was spoken to, by root (uid 0), logged in as carla (uid 1000), because by \
         telephone",
        "no answer (carla, hostup/1)",
        "an amount to be named for offence hostup 1, billed to alice (hostup), plus remediation",
    ] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
    let json = serde_json::to_value(&details).unwrap();
    assert_eq!(json["case"], "hostup/1");
    assert_eq!(
        serde_json::from_value::<crate::report::case::CaseDetails>(json).unwrap(),
        details
    );
}

#[test]
fn status_tells_of_the_record() {
    let stage = Stage::new("hostup");
    assert_eq!(stage.status().tenants[0].standing, Standing::Good);
    stage.offence(Severity::Minor, "a form");
    let status = stage.status();
    let alice = &status.tenants[0];
    assert_eq!(alice.standing, Standing::Warned);
    assert!(alice.until.is_some());
    let reason = "case hostup/1: minor, offence 1";
    assert_eq!(alice.record.reason.as_deref(), Some(reason));

    stage.offence(Severity::Critical, "a botnet");
    let status = stage.status();
    let proposal = &status.proposals[0];
    assert_eq!(proposal.sanction, Sanction::NullRoute);
    assert_eq!(proposal.meanwhile, Some(Sanction::SuspendNetwork));
    assert_eq!(status.tenants[0].record.deadline, proposal.deadline);
    let text = status_text::node(&status, &STYLE);
    assert!(
        text.starts_with(
            "?? null_route of alice waits for you (hostup/1, critical), to be decided"
        ),
        "{text}"
    );
    let text = status_text::details(&status, &STYLE);
    assert!(
        text.contains("limiter case confirm alice hostup/1 --sanction null_route"),
        "{text}"
    );

    // Confirmed, and what follows it confirmed too: over.
    stage.word(Word::Confirm(Sanction::NullRoute));
    stage.word(Word::Confirm(Sanction::Terminate));
    let status = stage.status();
    assert_eq!(status.tenants[0].standing, Standing::Terminated);
    assert!(status.proposals.is_empty(), "{status:#?}");
    let lift = status.tenants[0].record.lift.as_deref();
    assert_eq!(
        lift,
        Some("nothing but `limiter reinstate alice --override`")
    );
    let json = serde_json::to_value(&status).unwrap();
    assert_eq!(json["tenants"][0]["holds"][0]["sanction"], "terminate");
    assert_eq!(serde_json::from_value::<Status>(json).unwrap(), status);
}

#[test]
fn a_review_in_vain_and_what_happened_earlier_are_told_as_they_were() {
    let stage = Stage::new("hostup");
    stage.offence(Severity::Critical, "a botnet");
    stage.word(Word::Review);
    *stage.machine.0.lock().unwrap() += 3_600_000;
    let signal = Signal::Violations {
        tenant: "alice".to_owned(),
        reason: "suspended".to_owned(),
        count: 2,
        refused: true,
        source: None,
        happened: Moment(START + 1_000),
        around: Default::default(),
    };
    stage.hear(signal, "the kernel");
    let details = stage.shelf().case("alice", &case("hostup/1")).unwrap();
    let text = case_text::details(&details, &STYLE);
    for words in [
        "asked for a review; the rules did not let it lift anything",
        "2027-01-15T08:00:01Z: 2 attempts to connect while under a sanction, refused, heard \
         2027-01-15T09:00:00Z",
    ] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
    assert!(!text.contains("is in order"), "{text}");

    let stage = Stage::new("hostup");
    stage.offence(Severity::Severe, "a relay");
    stage.word(Word::Review);
    let details = stage.shelf().case("alice", &case("hostup/1")).unwrap();
    assert!(case_text::details(&details, &STYLE).contains("it was looked at, and is in order"));
}

#[test]
fn lift_rules_have_words() {
    let stage = Stage::new("mvmcloud");
    let lift = || stage.status().tenants[0].record.holds[0].lift.clone();
    stage.offence(Severity::Moderate, "spam");
    assert_eq!(
        lift(),
        "the end of its time or contact with the owner (`limiter contact alice`)"
    );
    stage.word(Word::Contact);
    stage.offence(Severity::Moderate, "spam again");
    assert_eq!(
        lift(),
        "the end of its time and the owner's acknowledgement (`limiter acknowledge alice`)"
    );
}

#[test]
fn a_report_holds_everything_and_nothing_of_it_is_markup() {
    let stage = Stage::new("hostup");
    stage.offence(Severity::Severe, "<script>alert('\"&')</script>");
    stage.word(Word::Review);
    let about = About {
        node: "web<17>".to_owned(),
        made_by: Some("root (uid 0)".to_owned()),
        counters: None,
    };
    let dossier = stage
        .shelf()
        .dossier("alice", Duration::from_secs(3_600), about);
    let dossier = dossier.unwrap();
    assert_eq!(dossier.cases[0].summary.state, CaseState::Closed);
    assert_eq!(dossier.sanctions[0].sanction, Sanction::SuspendNetwork);
    assert_eq!(dossier.sanctions.len(), 1, "one suspension is told once");
    assert!(dossier.sanctions[0].lifted.is_some());
    assert_eq!(dossier.heard.len(), 2);
    assert!(dossier.notices.len() > 3, "{:#?}", dossier.notices);
    let html = dossier_html::html(&dossier, &STYLE);
    for words in [
        "web&lt;17&gt;",
        "&lt;script&gt;alert(&#39;&quot;&amp;&#39;)&lt;/script&gt;",
        "contenteditable",
        "made by",
    ] {
        assert!(html.contains(words), "{words}:\n{html}");
    }
    assert!(!html.contains("<script") && !html.contains("http:") && !html.contains("https:"));
    let text = dossier_text::text(&dossier, &STYLE);
    for title in [
        "CASES",
        "WHO WAS TOLD",
        "SANCTIONS SUFFERED",
        "CHARGES",
        "REMARKS",
    ] {
        assert!(text.contains(title), "{title}:\n{text}");
    }
}

#[test]
fn an_ancestors_case_is_the_reason_below_it() {
    let stage = Stage::new("hostup");
    stage.offence(Severity::Severe, "relay");
    let mut status = stage.status();
    let mut bob = status.tenants[0].clone();
    bob.tenant = "bob".to_owned();
    bob.record = Default::default();
    bob.sanctions = vec![crate::report::status::SanctionStatus {
        sanction: crate::report::status::Sanction::SuspendNetwork,
        until: None,
        from: Some("alice".to_owned()),
    }];
    status.tenants = vec![bob];
    stage
        .court
        .study(|study| add_to_status(&mut status, study, true));
    let bob = &status.tenants[0];
    let reason = "alice: case hostup/1: severe, offence 1";
    assert_eq!(bob.record.reason.as_deref(), Some(reason));
    assert!(bob.record.holds.is_empty());
}

#[test]
fn what_was_only_proposed_is_not_over_and_what_was_wrong_costs_nothing() {
    let stage = Stage::new("hostup");
    stage.offence(Severity::Critical, "a botnet");
    stage.word(Word::Reject(Sanction::NullRoute));
    let name = "hostup/1".parse().unwrap();
    let details = stage.shelf().case("alice", &name).unwrap();
    assert_eq!(details.holds[0].state, HoldState::Dropped);
    let words = case_text::hold_words(&details.holds[0], &STYLE);
    assert!(
        words.starts_with("null_route proposed, never in force, case hostup/1"),
        "{words}"
    );
    assert!(words.contains("; rejected by an operator, "), "{words}");
    let told = details.notices.iter().map(|told| told.text.as_str());
    let told: Vec<&str> = told.collect();
    assert!(
        told.contains(&"null_route was proposed, and dropped: an operator rejected it"),
        "{told:#?}"
    );

    let stage = Stage::new("hostup");
    stage.offence(Severity::Severe, "an open relay");
    let details = stage.shelf().case("alice", &name).unwrap();
    assert!(!details.charges.is_empty());
    assert!(details.charges.iter().all(|charge| !charge.void));
    stage.word(Word::Acquit);
    let details = stage.shelf().case("alice", &name).unwrap();
    assert!(details.charges.iter().all(|charge| charge.void));
    assert_eq!(details.summary.offence, 0);
    let text = case_text::details(&details, &STYLE);
    let counts = "was offence 1, found wrong: counts no more";
    assert!(text.contains(counts), "{text}");
    let words = case_text::charge_words(&details.charges[0], &STYLE);
    assert!(words.contains("[void: "), "{words}");
    let span = Duration::from_secs(3_600);
    let dossier = stage.shelf().dossier("alice", span, About::default());
    assert!(dossier.unwrap().charges.iter().all(|charge| charge.void));
}

#[test]
fn whoever_is_suspended_and_no_tenant_is_named_with_what_happens() {
    let stage = Stage::new("hostup");
    stage.offence(Severity::Severe, "relay");
    let records = stage.shelf().records().unwrap();
    assert!(stranded::stranded(&records, ["alice", "bob"]).is_empty());
    let found = stranded::stranded(&records, ["bob"]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].tenant, "alice");
    assert_eq!(found[0].cases, ["hostup/1"]);
    assert_eq!(found[0].sanctions, [Sanction::SuspendNetwork]);
    let faults = stranded::warnings(&found, Path::new("/etc/limiter/limiter.yaml"));
    let said = faults[0].to_string();
    for words in [
        "warning",
        "\"alice\" is under suspend_network, has open cases (hostup/1)",
        "NOT in force",
        "limiter reinstate alice --override",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    let problem = stranded::problem(&found).unwrap();
    assert!(problem.problem.contains("\"alice\" (suspend_network)"));
    // Once it is over there is nothing to say.
    stage.word(Word::Reinstate);
    let records = stage.shelf().records().unwrap();
    assert!(stranded::stranded(&records, ["bob"]).is_empty());
}
