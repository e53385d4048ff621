"""What lies behind the MTA: recipient domains, and how much their providers take.

Why       an MTA that accepts everything and then chokes on the providers never slows us down by itself: its queue grows
          instead. Its queue and its log say of each recipient domain how much arrives, waits, is deferred, and why.
Promise   a domain is slowed down only for what its own provider said, and only that domain; every ceiling has its reason.
Order     seen.py (the values) < readers of queue and log < the law that makes a ceiling of what was seen.
Not here  which recipients of an entry go now (feed/shaping.py); when a look is taken (rounds/).
"""
