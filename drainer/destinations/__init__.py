"""What lies behind the MTA: recipient domains, and how much their providers take.

Why       an MTA that accepts everything and then chokes on the providers never slows us down by itself: its queue grows
          instead. Its queue and its log say of each recipient domain how much arrives, waits, is deferred, and why.
Promise   a domain is slowed down only for what its own provider said, and only that domain; every ceiling has its reason.
Order     queue: command.py runs, queue_listing.py understands, queue_reader.py decides how and how often to ask
          log: log_tally.py counts what mta_log/follow.py reads; too_fast.py knows replies, quoted.py unwraps them
          both: put_together.py makes the values of seen.py, looking.py takes a look; then the law makes ceilings of it
Not here  which recipients of an entry go now (feed/shaping.py); when a look is taken (rounds/).
"""
