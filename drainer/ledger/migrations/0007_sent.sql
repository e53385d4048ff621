-- How many recipients a queue's attempts and DSNs were begun for, by ten seconds (ledger/sent_rows.py): what hourly and daily
-- caps count. Rows of two days are kept.
CREATE TABLE sent (
    queue INTEGER NOT NULL,
    at INTEGER NOT NULL,
    recipients INTEGER NOT NULL,
    PRIMARY KEY (queue, at)
) WITHOUT ROWID;
