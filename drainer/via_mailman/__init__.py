"""Entries handed over to Mailman's own out/ queue at the rate in force, and followed until Mailman has finished them.

Why       for some sites Mailman has to do the delivering (docs/via-mailman.md).
Name      this is a handover; "release" is the operator's word for letting held entries go.
Not here  which entries go this way, and when (stages/).
"""
