-- The record book of a node. Times are the engine's milliseconds (see offence::Clock) unless a
-- column says otherwise; texts named `body` are JSON.

-- All that was heard, in the order in which it was heard: replaying it gives the same state, as long
-- as nothing of it was forgotten (ledger/retention), and to the day for mail that was sent (`sent`: one
-- line a tenant and day). Nothing but tests replays it.
CREATE TABLE signals (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    -- What tells it from all others, where whoever sends it may send it twice.
    key       TEXT UNIQUE,
    at        INTEGER NOT NULL,
    -- The wall clock, milliseconds since 1970: for people.
    wall      INTEGER NOT NULL,
    tenant    TEXT,
    kind      TEXT NOT NULL,
    body      TEXT NOT NULL,
    -- The clocks as they were read.
    reading   TEXT NOT NULL,
    -- Who said so, and why, if it was a person.
    by        TEXT,
    reason    TEXT,
    -- What came of it.
    actions   TEXT NOT NULL
) STRICT;
CREATE INDEX signals_of ON signals (tenant, at);

-- What a signal rests on: kernel events, the complaint, counters at the time.
CREATE TABLE evidence (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    signal  INTEGER NOT NULL REFERENCES signals (id) ON DELETE CASCADE,
    kind    TEXT NOT NULL,
    body    TEXT NOT NULL
) STRICT;
CREATE INDEX evidence_of ON evidence (signal);

-- The engine's state.
CREATE TABLE clock (only INTEGER PRIMARY KEY CHECK (only = 1), body TEXT NOT NULL) STRICT;
CREATE TABLE records (tenant TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- Cases, also those that the engine has forgotten.
CREATE TABLE cases (
    tenant   TEXT NOT NULL,
    policy   TEXT NOT NULL,
    number   INTEGER NOT NULL,
    opened   INTEGER NOT NULL,
    closed   INTEGER,
    body     TEXT NOT NULL,
    PRIMARY KEY (tenant, policy, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE notes (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant  TEXT NOT NULL,
    policy  TEXT NOT NULL,
    number  INTEGER NOT NULL,
    wall    INTEGER NOT NULL,
    by      TEXT NOT NULL,
    text    TEXT NOT NULL
) STRICT;
CREATE INDEX notes_of ON notes (tenant, policy, number);

-- What a tenant suffered: from when, until when it was to last, and when it was lifted.
CREATE TABLE sanctions (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant    TEXT NOT NULL,
    sanction  TEXT NOT NULL,
    since     INTEGER NOT NULL,
    until     INTEGER,
    lifted    INTEGER
) STRICT;
CREATE INDEX sanctions_of ON sanctions (tenant, sanction, lifted);

CREATE TABLE charges (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    signal    INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    tenant    TEXT NOT NULL,
    bill      TEXT NOT NULL,
    cause     TEXT NOT NULL,
    policy    TEXT NOT NULL,
    cents     INTEGER,
    currency  TEXT NOT NULL,
    plus      TEXT NOT NULL,
    proposed  INTEGER NOT NULL
) STRICT;
CREATE INDEX charges_of ON charges (tenant, at);

-- What people are told, and how far each way of telling them has come.
CREATE TABLE notices (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    signal  INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    wall    INTEGER NOT NULL,
    tenant  TEXT NOT NULL,
    body    TEXT NOT NULL
) STRICT;
CREATE INDEX notices_of ON notices (tenant, at);
CREATE TABLE deliveries (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    notice    INTEGER NOT NULL REFERENCES notices (id) ON DELETE CASCADE,
    tenant    TEXT NOT NULL,
    -- mail, webhook, exec
    lane      TEXT NOT NULL,
    -- Where to, and what is said: JSON.
    channel   TEXT NOT NULL,
    facts     TEXT NOT NULL,
    -- waiting, done, given_up
    state     TEXT NOT NULL DEFAULT 'waiting',
    attempts  INTEGER NOT NULL DEFAULT 0,
    -- The wall clock, milliseconds since 1970.
    created   INTEGER NOT NULL,
    -- When it is tried next; when it was delivered, if it was.
    next      INTEGER NOT NULL,
    said      TEXT
) STRICT;
CREATE INDEX deliveries_due ON deliveries (lane, next) WHERE state = 'waiting';
CREATE INDEX deliveries_in_order ON deliveries (lane, tenant, id) WHERE state = 'waiting';
CREATE INDEX deliveries_of ON deliveries (notice);

-- Reports of abuse as they came, for a person to look at.
CREATE TABLE complaints (
    id        TEXT PRIMARY KEY,
    received  INTEGER NOT NULL,
    tenant    TEXT,
    -- attributed, ambiguous, unknown, refused, duplicate, not_counted, dismissed
    state     TEXT NOT NULL,
    why       TEXT NOT NULL,
    report    TEXT NOT NULL,
    raw       BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX complaints_in ON complaints (state, received);
CREATE INDEX complaints_about ON complaints (tenant, json_extract(report, '$.about'));
CREATE INDEX complaints_of ON complaints (tenant, received);

-- Up to which total of the kernel's counters all was heard. `epoch` tells one life of the
-- counters from the next.
CREATE TABLE positions (
    tenant  TEXT NOT NULL,
    what    TEXT NOT NULL,
    epoch   TEXT NOT NULL,
    total   INTEGER NOT NULL,
    PRIMARY KEY (tenant, what)
) STRICT, WITHOUT ROWID;

-- Mail in the node's queues that limiter put on hold, or was about to: what is not in here somebody
-- else holds.
CREATE TABLE held_mail (
    queue       TEXT NOT NULL,
    id          TEXT NOT NULL,
    -- Of its file, as a signed number.
    inode       INTEGER NOT NULL,
    -- The wall clock, microseconds.
    arrived_us  INTEGER NOT NULL,
    tenant      TEXT NOT NULL,
    place       TEXT NOT NULL,
    PRIMARY KEY (queue, id, inode, arrived_us)
) STRICT, WITHOUT ROWID;
CREATE INDEX held_mail_of ON held_mail (tenant);
