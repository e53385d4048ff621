"""The ledger: which recipient of which message has been handed to the MTA.

Why       Mailman forgets a finished entry, so a resubmission looks new to it.
Promise   per message a recipient is handed over once, whichever queue its copy lies in; IN_DOUBT waits for the policy or an
          operator.
Order     attempt, DATA, outcome, finish: each on disk before the next begins.
Not here  what counts as a duplicate (duplicates/); where entries come from (queuedir/).

Contract  contract.py is the whole of it; tests/contract holds every implementation to it. Messages and deliveries are common
          to all queues of a ledger. Attempts, holds, deferrals, DSNs, counters and the journal belong to one queue and its
          owner, so that several drainers can write one ledger and recovery touches only its own.
States    PENDING > ATTEMPTING > DELIVERED | DEFERRED | FAILED | IN_DOUBT. DEFERRED is attempted again. IN_DOUBT becomes
          DELIVERED, PENDING or HELD by a decision. HELD is released or SKIPPED. states.py has the table.
Files     open.py makes the ledger of the settings. sqlite.py writes and sqlite_reads.py answers; sqlite_file.py has the
          file, group_commit.py the transactions. writer.py is what all changes share; attempts.py, outcomes.py,
          settle_rows.py, dsns.py and forgetting.py decide under the writer's lock. queue_rows.py has queues and owners.
"""
