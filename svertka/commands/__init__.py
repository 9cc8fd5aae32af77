"""Commands of the command line that are too large for one file; `svertka.cli` registers them."""
