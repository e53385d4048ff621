-- What is in flight or waiting belongs to a queue; what was delivered is known to every queue of the ledger.
-- Rows of earlier schemas belong to queue 1. It gets its queue_id when a drainer claims it (ledger/queue_rows.py).

-- queue_id: '' as long as no drainer has claimed the queue. owner: the drainer that claimed it last; only it may write
-- for the queue. claimed: when. since: when the queue's drain began, its counters count from there.
CREATE TABLE queues (
    id INTEGER PRIMARY KEY,
    queue_id TEXT NOT NULL UNIQUE,
    queue_dir NOT NULL,
    owner TEXT NOT NULL,
    claimed REAL NOT NULL,
    since REAL NOT NULL
);
INSERT INTO queues (id, queue_id, queue_dir, owner, claimed, since) SELECT 1, '', '', '', 0, since FROM drain;
DROP TABLE drain;

-- The entry that carried a message first is one of this queue. A delivery without a queue is of its message's.
ALTER TABLE messages ADD COLUMN queue INTEGER NOT NULL DEFAULT 1;
ALTER TABLE deliveries ADD COLUMN queue INTEGER;

ALTER TABLE waiting ADD COLUMN queue INTEGER NOT NULL DEFAULT 1;

-- id: 16 bytes, made by the caller, so that a write whose answer was lost can be asked for and repeated.
CREATE TABLE attempts_6 (
    id BLOB PRIMARY KEY NOT NULL CHECK (length(id) = 16),
    queue INTEGER NOT NULL,
    message INTEGER NOT NULL,
    state INTEGER NOT NULL CHECK (state IN (5, 6)),
    at REAL NOT NULL,
    filebase NOT NULL,
    reverse_path NOT NULL,
    reply NOT NULL,
    addresses TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO attempts_6 (id, queue, message, state, at, filebase, reverse_path, reply, addresses)
    SELECT randomblob(16), 1, message, state, at, filebase, reverse_path, reply, addresses FROM attempts ORDER BY id;
DROP TABLE attempts;
ALTER TABLE attempts_6 RENAME TO attempts;
CREATE INDEX attempts_by_message ON attempts (message);

-- How the last attempts of each queue ended: a ring (ledger/attempts.py). at: of the write that ended it.
CREATE TABLE ended_attempts (
    slot INTEGER PRIMARY KEY,
    number INTEGER NOT NULL,
    attempt BLOB NOT NULL,
    state INTEGER NOT NULL,
    at REAL NOT NULL
);

CREATE TABLE deferrals_6 (
    queue INTEGER NOT NULL,
    filebase NOT NULL,
    attempts INTEGER NOT NULL,
    first_at REAL NOT NULL,
    due REAL NOT NULL,
    recipients INTEGER NOT NULL,
    reply NOT NULL,
    PRIMARY KEY (queue, filebase)
) WITHOUT ROWID;
INSERT INTO deferrals_6 SELECT 1, filebase, attempts, first_at, due, recipients, reply FROM deferrals;
DROP TABLE deferrals;
ALTER TABLE deferrals_6 RENAME TO deferrals;

CREATE TABLE holds_6 (
    queue INTEGER NOT NULL,
    filebase NOT NULL,
    reason NOT NULL,
    detail NOT NULL,
    by NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (queue, filebase)
) WITHOUT ROWID;
INSERT INTO holds_6 SELECT 1, filebase, reason, detail, by, at FROM holds;
DROP TABLE holds;
ALTER TABLE holds_6 RENAME TO holds;

ALTER TABLE dsns ADD COLUMN queue INTEGER NOT NULL DEFAULT 1;
DROP INDEX dsns_by_due;
CREATE INDEX dsns_by_due ON dsns (queue, state, due);

CREATE TABLE counters_6 (
    queue INTEGER NOT NULL,
    name TEXT NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (queue, name)
) WITHOUT ROWID;
INSERT INTO counters_6 SELECT 1, name, value FROM counters;
DROP TABLE counters;
ALTER TABLE counters_6 RENAME TO counters;

CREATE TABLE ended_6 (
    queue INTEGER NOT NULL,
    fate TEXT NOT NULL,
    list NOT NULL,
    kind TEXT NOT NULL,
    entries INTEGER NOT NULL,
    recipients INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (queue, fate, list, kind)
) WITHOUT ROWID;
INSERT INTO ended_6 SELECT 1, fate, list, kind, entries, recipients, bytes FROM ended;
DROP TABLE ended;
ALTER TABLE ended_6 RENAME TO ended;

ALTER TABLE evidence ADD COLUMN queue INTEGER NOT NULL DEFAULT 1;
ALTER TABLE events ADD COLUMN queue INTEGER NOT NULL DEFAULT 1;
ALTER TABLE journal ADD COLUMN queue INTEGER NOT NULL DEFAULT 1;

CREATE TABLE kept_6 (
    queue INTEGER NOT NULL,
    name TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (queue, name)
) WITHOUT ROWID;
INSERT INTO kept_6 SELECT 1, name, value FROM kept;
DROP TABLE kept;
ALTER TABLE kept_6 RENAME TO kept;

-- What had been counted up to some moments, for reports that begin there (0004_marks.sql).
CREATE TABLE baselines (
    queue INTEGER NOT NULL,
    at REAL NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (queue, at)
);
INSERT INTO baselines SELECT 1, at, value FROM marks;
DROP TABLE marks;

-- Grows with every decision: who decides from an older state is refused. Pauses and rates are the whole ledger's.
ALTER TABLE operator ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
