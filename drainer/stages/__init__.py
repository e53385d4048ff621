"""The stages of the pipeline, each a class with one task or none.

Why       pipeline.py says what the data path is; here is how each stage does its part.
Order     intake.py > survey.py > feed.py > turn.py: decide.py, transmit.py, settle.py. bounces.py follows behind.
          operator_actions.py, undo.py and handback.py act on single entries in between.
Meet in   the index (what waits), the ledger (what is settled), entry_facts.py for what neither says. Signals wake the one
          who waits (backlog/signals.py); no stage calls back into another one.
Promise   an entry leaves the disk only when every recipient of it is settled in the ledger (settle.py); a turn is
          concluded once, whatever ended it (ending.py).
Not here  whether a recipient is owed (duplicates/decision.py); the steps of one transaction (feed/deliver.py).
"""
