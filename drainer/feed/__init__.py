"""Handing transactions to the MTA.

Promise   the attempt is durable before DATA, the outcome before the next step; a lost final reply is IN_DOUBT, never
          DEFERRED; a dead MTA is the MTA's state and blames no entry.
Order     pick > throttle > deliver.
Not here  what is sent (compose/); who still has to get it (duplicates/).
"""
