"""How much is left and when it ends.

Promise   an ETA comes with an interval that holds four times in five, or with the word that says why there is none.
Order     what is left: backlog/splits.py (the transactions of an entry), backlog/work.py;
          what was seen: service_rate.py (the work, in the unit of mixture.py), arrivals.py, interruptions.py, told by
          forecaster.py, one observation at a time;
          what follows: completion.py (the quantiles), drain_time.py (the word or the numbers), per_list.py, before_drain.py;
          how good that would have been on another drain: backtest.py > trace.py > replay.py > scores.py
Beside    rates.py smooths the rates that are shown; the estimate is made of what forecaster.py keeps
Not here  when to ask and whom to tell (service.py)
"""
