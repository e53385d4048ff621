"""The estimate: when the drain ends.

Promise   an ETA has an interval that holds in four cases of five, or a word that says why there is no number
Order     forecaster.py takes one observation after the other, and gives each to
            service_rate.py (how fast work is done, in the unit of mixture.py), arrivals.py and interruptions.py;
          completion.py computes from these the chance that the drain ends by a given time, and its quantiles;
          drain_time.py answers with numbers or a word, per_list.py with a time for each list;
          before_drain.py answers before the drain has begun
Beside    rates.py smooths the rates that are shown, and no estimate is made from them;
          backtest/ measures how good the forecasts would have been on recorded drains
Not here  how much is left (backlog/splits.py, backlog/work.py); when to ask and who gets the answer (observe/)
"""
