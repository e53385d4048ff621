"""On the wire: what we send, compared with what Mailman sends, for every version of Mailman we know.

`python -m tests.wire` (make wire) prints the tables; test_tables.py holds them to 100 %, docs/wire.md too.
"""
