-- What the report is made of. Rows of `evidence` are of what went otherwise than a plain delivery; `ended` has a row for
-- each way out, list and class of duplicate; `events` is bounded (ledger/evidence.py); `kept` has a few names.

-- fate: as in drainer/ledger/evidence.py. of, of_at: what settled the recipients of a suppressed entry. addresses: JSON.
CREATE TABLE evidence (
    id INTEGER PRIMARY KEY,
    fate TEXT NOT NULL,
    at REAL NOT NULL,
    list NOT NULL,
    filebase NOT NULL,
    message_id NOT NULL,
    recipients INTEGER NOT NULL,
    of NOT NULL,
    of_at REAL NOT NULL,
    addresses TEXT NOT NULL,
    detail NOT NULL
);
CREATE INDEX evidence_by_fate ON evidence (fate);

CREATE TABLE ended (
    fate TEXT NOT NULL,
    list NOT NULL,
    kind TEXT NOT NULL,
    entries INTEGER NOT NULL,
    recipients INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (fate, list, kind)
) WITHOUT ROWID;

CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    kind TEXT NOT NULL,
    what NOT NULL,
    detail NOT NULL
);

CREATE TABLE kept (
    name TEXT PRIMARY KEY NOT NULL,
    value BLOB NOT NULL
) WITHOUT ROWID;
