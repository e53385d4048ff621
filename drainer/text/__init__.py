"""Text that people read: cleaned, put into words, laid out in columns, marked up.

Promise   text cleaned by foreign.py has no control character and no lone surrogate, and its length is bounded
Raw       octets that decide something (a list's directory, a recipient in RCPT, a digest) are never cleaned
Not here  what is said (report/, control/messages/)
"""
