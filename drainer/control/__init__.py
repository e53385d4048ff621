"""The control socket: HTTP/1.1 + JSON over a unix socket (`curl --unix-socket` works), and its client.

Promise   the definition of each request and reply stands once, in messages.py, for both ends.
Not here  what a request does (service.py implements Operations).
"""
