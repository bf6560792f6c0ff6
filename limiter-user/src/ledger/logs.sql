-- Up to where the mail server's logs were read, and the messages that they told of and that are still
-- under way: written with the bounces that they brought, so that none counts twice, and none is lost.
CREATE TABLE logs (log TEXT PRIMARY KEY, position TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE log_mail (
    log   TEXT NOT NULL,
    -- Its name in the queue.
    id    TEXT NOT NULL,
    body  TEXT NOT NULL,
    PRIMARY KEY (log, id)
) STRICT, WITHOUT ROWID;
