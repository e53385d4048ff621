"""What the service does again and again beside the data path, each on a timer of its own.

Order     each_second.py (pauses that end, rates, what is shown) · looking_around.py (guards, Mailman) · ledger_upkeep.py
Above     observe/ says how things are, operate/ changes what the operator may change; a round brings the two together.
Not here  starting and stopping these tasks, and what their failure means (service.py, observe/side_tasks.py).
"""
