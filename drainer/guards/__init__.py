"""Reasons to slow down or stop before harm is done: each guard gives go, slow or stop with a reason; the strictest wins."""
