"""The command line: main.py, then a file per subcommand.

Exit status  0 done, 1 failed, 2 usage or settings, 3 service not running
"""
