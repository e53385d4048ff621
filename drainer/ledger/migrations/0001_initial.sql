-- The first schema. Small rows first: 10,000 entries of one recipient each have to fit 216 bytes an entry.
-- Text that is not ASCII is stored as a BLOB of its bytes. Times are whole seconds unless REAL.

-- Codes of drainer/ledger/states.py; PENDING has no row. 0 and 1 take no room in a row.
CREATE TABLE states (
    code INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);
INSERT INTO states (code, name) VALUES
    (0, 'delivered'), (1, 'failed'), (2, 'skipped'), (3, 'deferred'), (4, 'held'), (5, 'attempting'), (6, 'in_doubt');

CREATE TABLE lists (
    id INTEGER PRIMARY KEY,
    name NOT NULL UNIQUE
);

-- digests: how many rows of identities it has. filebase: the first entry that carried it.
CREATE TABLE messages (
    id INTEGER PRIMARY KEY,
    list INTEGER NOT NULL,
    digests INTEGER NOT NULL,
    filebase NOT NULL,
    message_id NOT NULL
);

CREATE TABLE identities (
    digest BLOB NOT NULL,
    message INTEGER NOT NULL,
    PRIMARY KEY (digest, message)
) WITHOUT ROWID;

-- What became of recipients, for good. id: message * 2^24 + a number, so a message's rows lie together and need no
-- index. filebase NULL: the message's own. recipients: ten bytes each. reply and addresses: NULL when delivered.
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY,
    state INTEGER NOT NULL CHECK (state IN (0, 1, 2)),
    at INTEGER NOT NULL,
    filebase,
    recipients BLOB NOT NULL CHECK (length(recipients) % 10 = 0),
    reply,
    addresses TEXT
);

-- Recipients that wait, for their entry. Rows go when the recipients are attempted, released or finished.
CREATE TABLE waiting (
    id INTEGER PRIMARY KEY,
    message INTEGER NOT NULL,
    filebase NOT NULL,
    state INTEGER NOT NULL CHECK (state IN (3, 4)),
    at INTEGER NOT NULL,
    recipients BLOB NOT NULL CHECK (length(recipients) % 10 = 0),
    reply NOT NULL,
    addresses TEXT
);
CREATE INDEX waiting_by_message ON waiting (message);
CREATE INDEX waiting_by_filebase ON waiting (filebase);

-- Open and in doubt. at is REAL: it is compared with the MTA's log.
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY,
    message INTEGER NOT NULL,
    state INTEGER NOT NULL CHECK (state IN (5, 6)),
    at REAL NOT NULL,
    filebase NOT NULL,
    reverse_path NOT NULL,
    reply NOT NULL,
    addresses TEXT NOT NULL
);
CREATE INDEX attempts_by_message ON attempts (message);

CREATE TABLE deferrals (
    filebase PRIMARY KEY NOT NULL,
    attempts INTEGER NOT NULL,
    first_at REAL NOT NULL,
    due REAL NOT NULL,
    recipients INTEGER NOT NULL,
    reply NOT NULL
) WITHOUT ROWID;

CREATE TABLE holds (
    filebase PRIMARY KEY NOT NULL,
    reason NOT NULL,
    detail NOT NULL,
    by NOT NULL,
    at REAL NOT NULL
) WITHOUT ROWID;

-- One row. A rate of NULL: as the settings file says.
CREATE TABLE operator (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    messages_per_s REAL,
    recipients_per_s REAL
);
INSERT INTO operator (one) VALUES (1);

CREATE TABLE pauses (
    list PRIMARY KEY NOT NULL,
    since REAL NOT NULL,
    until REAL,
    by NOT NULL,
    reason NOT NULL
) WITHOUT ROWID;

CREATE TABLE journal (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    by NOT NULL,
    action NOT NULL,
    detail NOT NULL
);

-- One row, written when the ledger is created.
CREATE TABLE drain (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    since REAL NOT NULL
);

CREATE TABLE counters (
    name TEXT PRIMARY KEY NOT NULL,
    value INTEGER NOT NULL
) WITHOUT ROWID;
