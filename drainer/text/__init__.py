"""Text: what strangers wrote made fit to be shown.

Promise  what passed through foreign.py holds no control character and no lone surrogate, and is no longer than it may be
Raw      octets that decide something (a list's directory, a recipient in RCPT, a digest) never pass through it
"""
