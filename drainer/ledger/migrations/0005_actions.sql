-- What operators did, so that it can be undone. `actions` has a row for each line of the journal that is an operator's.

-- number: of the line in `journal`. undoes: the action that this one takes back; depth: 0, or one more than that one's.
-- ended: NULL while it is under way, and for ever if a crash cut it off. payload: JSON, of what was decided beside entries.
CREATE TABLE actions (
    number INTEGER PRIMARY KEY,
    reason NOT NULL,
    undoes INTEGER,
    depth INTEGER NOT NULL,
    ended REAL,
    payload TEXT NOT NULL
);
CREATE INDEX actions_by_undoes ON actions (undoes) WHERE undoes IS NOT NULL;

-- What an action did to one entry, written in the commit that did it. takes_back: the action whose step on this entry it
-- reverses; undone_by: the action that reversed this one. before: compressed JSON (ledger/actions.py, step_as_text).
CREATE TABLE steps (
    number INTEGER NOT NULL,
    filebase NOT NULL,
    kind TEXT NOT NULL,
    takes_back INTEGER,
    undone_by INTEGER,
    before BLOB NOT NULL,
    PRIMARY KEY (number, filebase)
) WITHOUT ROWID;
