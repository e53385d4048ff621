"""The control socket: HTTP/1.1 + JSON over a unix socket (`curl --unix-socket` works), and its client; the web listener.

Order     messages/ (requests and replies) > operations.py (who answers what) > server.py, client.py; web.py
Promise   each request and reply is defined once, for both ends.
          The web listener (TCP) is given only functions that read, so that it can change nothing.
Not here  what a request does (operate/operations.py).
"""
