-- DSNs owed to reverse-paths for recipients that failed. A row goes when its DSN is sent or given up.

-- id: never used twice, the Message-ID is made of it. state: codes of drainer/ledger/columns.py. at: when the recipients
-- failed. tried: when sending was last begun. recipients: JSON, [as the entry has it, as sent, reply, status] each.
-- headers: of the mail, compressed (zlib).
CREATE TABLE dsns (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    state INTEGER NOT NULL CHECK (state IN (0, 1, 2)),
    at REAL NOT NULL,
    tried REAL,
    due REAL NOT NULL,
    attempts INTEGER NOT NULL,
    list NOT NULL,
    filebase NOT NULL,
    message_id NOT NULL,
    reverse_path NOT NULL,
    envelope_id NOT NULL,
    recipients TEXT NOT NULL,
    headers BLOB NOT NULL
);
CREATE INDEX dsns_by_due ON dsns (state, due);
