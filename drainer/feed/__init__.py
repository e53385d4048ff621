"""Handing transactions to the MTA.

Why       every rule about what may be sent, when and how fast is here, apart from whose turn it is (stages/).
Promise   the attempt is durable before DATA, the outcome before the next step; a lost final reply is IN_DOUBT, never
          DEFERRED; a dead MTA is the MTA's state and blames no entry.
Order     pick > throttle > deliver.
Not here  what is sent (compose/); who still has to get it (duplicates/).
"""
