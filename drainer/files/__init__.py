"""Paths of this host: opened without risk, made durable, and explained where they are refused.

regular_file.py  opens only what is a regular file, and never hangs
fsync.py         makes names outlast a power failure
access.py        says why a path may not be read or written, and what would let it
"""
