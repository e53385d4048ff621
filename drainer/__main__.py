"""python -m drainer: the same as the console script."""

from drainer.cli.main import main

if __name__ == "__main__":
    main()
