"""`make fuzz`: many more examples than in `make test`, never the same, in pieces of a process each.

    python tests/fuzz/run.py [--examples 20000] [--piece 2500] [--seed N] [-k SELECTION]

Examples are of specs; of each parser it is a share of them (see the tests). What fails is printed with what reproduces
it; give its seed and piece to see it again. Exit code 1 if anything failed.
"""

import argparse
import os
import random
import re
import subprocess
import sys
import time


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=20_000)
    parser.add_argument("--piece", type=int, default=2500, help="examples in a process: its machine code lives as long")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**31))
    parser.add_argument("-k", dest="selection", default="")
    options = parser.parse_args()
    failed, begin = 0, time.monotonic()
    for piece, first in enumerate(range(0, options.examples, options.piece)):
        count, seed = min(options.piece, options.examples - first), options.seed + piece
        command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "tests/fuzz", f"--hypothesis-seed={seed}"]
        command += ["-k", options.selection] if options.selection else []
        command += ["--hypothesis-show-statistics"]
        done = subprocess.run(command, env={**os.environ, "SVERTKA_FUZZ": str(count)}, capture_output=True, text=True)
        passing = sum(map(int, re.findall(r"(\d+) passing, ", done.stdout)))
        failed += done.returncode != 0
        print(
            f"{first + count:6} of {options.examples}  seed {seed}  {passing} examples passed  "
            f"{time.monotonic() - begin:5.0f} s  {'FAILED' if done.returncode else 'sound'}",
            flush=True,
        )
        if done.returncode:
            print(done.stdout[-8000:], done.stderr[-2000:], flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
