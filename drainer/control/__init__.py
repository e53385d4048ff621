"""The control socket: HTTP/1.1 + JSON over a unix socket (`curl --unix-socket` works), and its client; the web listener.

Promise   the definition of each request and reply stands once, in messages.py, for both ends.
          who may only look (TCP) is given nothing that could change anything (web.py).
Not here  what a request does (service.py implements Operations).
"""
