"""`python -m svertka` is the command `svertka`."""

from svertka.cli import main

if __name__ == "__main__":
    main()
