"""What the clock and the count allow: windows of the day with a rate each, hourly and daily caps.

Why       a site may want full speed at night only; shared hosting takes so many recipients an hour, and no more.
Promise   within any hour no more recipients than `feed.hourly`, within any day no more than `feed.daily`.
Not here  the throttle that waits (feed/throttle.py); what the ledger counts (ledger/sent_rows.py); the finish time
          (estimate/ahead.py).
"""
