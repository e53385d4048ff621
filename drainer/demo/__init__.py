"""The demonstration: a sample outage, an SMTP sink on loopback, a drain, and a comparison of the two afterwards.

Why       to try drainer without Mailman and without sending mail; the tests use the same sink and sample queue.
Order     sample_queue writes the outage; tour runs the drain; sink takes mail (with sink_session, sink_state and others).
Promise   it listens on loopback only, and delivers nothing to anywhere.
Not here  anything that the service imports.
"""
