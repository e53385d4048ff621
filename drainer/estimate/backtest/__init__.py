"""How good the forecasts would have been on drains that are recorded: `python -m drainer.estimate.backtest TRACE.csv`.

Path      trace.py reads the recorded drain; replay.py gives it to the forecaster row by row; scores.py compares the
          forecasts with what came; __main__.py prints the answer
Not here  the service itself uses none of this; the traces and their simulation lie in tests/estimate
"""
