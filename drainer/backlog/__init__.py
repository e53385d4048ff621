"""What waits: each entry's facts, kept in an index that can always be rebuilt from the files.

Why       picking the next entry, counting what is left and finding copies of one mail must not read files again.
Promise   every figure is a sum that each write keeps up to date; an entry changes its state only as states.py allows.
Order     readers.py reads files; index.py writes what they showed into store.py. Four parts answer over one store: order.py
          (which entry is next), related.py (copies of one mail), entry_lines.py (what an operator selects), totals.py.
          An entry is a name in the table `listed` until it is read, a row of `entry` while it waits, and a row in memory
          as well while it is in delivery (in_delivery.py); the tables learn later, in batches, what became of it.
Not here  which copy of a mail goes out (duplicates/decision.py); the files themselves (queuedir/).
"""
