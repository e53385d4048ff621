-- What had been counted up to some moments (`counters` and `ended` as they were then), for reports that begin there. A few
-- dozen rows (ledger/evidence.py, marks_to_forget). value: compressed JSON (ledger/account.py).
CREATE TABLE marks (
    at REAL PRIMARY KEY NOT NULL,
    value BLOB NOT NULL
);
