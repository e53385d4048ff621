"""The stages of the pipeline, each a class with one task or none.

Why       the data path is told once, in pipeline.py; how each stage does its part is told here.
Order     intake.py > survey.py > feed.py > settle.py; operator_actions.py and handback.py: the operator's hand in between.
Meet in   the index (what waits), the ledger (what is settled), and Standing (parts.py) for what neither says.
"""
