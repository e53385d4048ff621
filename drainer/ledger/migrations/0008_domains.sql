-- What operators ordered for recipient domains, or groups of them (`drainer domain`); the whole ledger's, as pauses are.
-- per_s: recipients per second, NULL as learnt, infinite no ceiling. paused_until: NULL not held back, infinite until --auto.
CREATE TABLE domain_orders (
    destination PRIMARY KEY NOT NULL,
    per_s REAL,
    paused_until REAL,
    since REAL NOT NULL,
    by NOT NULL,
    reason NOT NULL
) WITHOUT ROWID;
