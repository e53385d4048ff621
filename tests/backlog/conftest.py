"""The queue directories of tests/queuedir, for the index that is made of them."""

from tests.queuedir.conftest import genuine_queue_dir, queue_dir, small_filesystem

__all__ = ["genuine_queue_dir", "queue_dir", "small_filesystem"]
