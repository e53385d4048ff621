"""drainer: drains a GNU Mailman outgoing queue after an outage, every recipient once.

The data path, and where each stage lives:

    watch > scan > custody > read        queuedir/    Mailman's queue directory, and the entries taken from it
    fingerprint > decision               duplicates/  has this recipient had this message already?
    pick                                 feed/        what goes next
    compose                              compose/     envelope and content as Mailman would have written them
    throttle > deliver                   feed/        the SMTP transactions, at a rate the MTA can bear
    finish                               queuedir/    an entry leaves the disk once the ledger has settled it

`pipeline.py` says it once; `stages/` has a file for each. `ledger/` remembers which recipient was handed over.
"""

__version__ = "0.1.0"
