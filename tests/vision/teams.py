"""Teams for tests: processes that have torch imported already, and find each other through a store of the test's."""

import contextlib
import io
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch.distributed import TCPStore

PRELOADED = ["torch._dynamo", "svertka.vision.run", "svertka.cli", "vision.teams"]
DEADLINE = 120  # seconds, for a machine that has other things to do


@dataclass
class Ended:
    """A process that ran to its end: the exit code, what it wrote to stdout and stderr, what its function gave."""

    code: int | None
    out: str = ""
    err: str = ""
    value: Any = None


class Together:
    """`size` processes, each of which calls `function(*arguments)`; `end` waits for them."""

    def __init__(self, size: int, function: Callable[..., Any], *arguments: Any, patience: float = DEADLINE) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self.processes, self.pipes = [], []
        for rank in range(size):
            pipe, theirs = context.Pipe(duplex=False)
            place = {
                "RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": self.store.port, "TORCHELASTIC_USE_AGENT_STORE": True, "SVERTKA_PATIENCE": patience,
            }  # fmt: skip
            environment = {key: str(value) for key, value in place.items()}
            process = context.Process(target=_run, args=(theirs, environment, function, arguments), daemon=True)
            process.start()
            theirs.close()
            self.processes.append(process)
            self.pipes.append(pipe)

    def end(self, processes: int | None = None) -> list[Ended]:
        """What became of each process, by rank; only the first ones are waited for if their number is given."""
        ended = []
        for process, pipe in list(zip(self.processes, self.pipes, strict=True))[:processes]:
            try:
                result = pipe.recv() if pipe.poll(DEADLINE) else Ended(None, err="still running")
            except EOFError:
                result = Ended(None)
            process.join(0.0 if result.err == "still running" else DEADLINE)
            if process.is_alive():
                process.kill()
            elif result.code is None:
                result.code = process.exitcode
            ended.append(result)
        return ended


def together(size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What `function(*arguments)` gives in each of `size` processes; fails with their stderr if one of them fails."""
    ended = Together(size, function, *arguments).end()
    assert all(one.code == 0 for one in ended), "\n".join(f"{one.code}\n{one.err}" for one in ended)
    return [one.value for one in ended]


def command(*arguments: str) -> None:
    """svertka with these arguments, to its exit."""
    from svertka.cli import main

    sys.argv = ["svertka", *arguments]
    main()


def _run(pipe: Connection, environment: dict[str, str], function: Callable[..., Any], arguments: tuple[Any]) -> None:
    os.environ |= environment
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    out, err, code, value = io.StringIO(), io.StringIO(), 0, None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            value = function(*arguments)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        except BaseException:
            code = -1
            traceback.print_exc()
    pipe.send(Ended(code, out.getvalue(), err.getvalue(), value))
    pipe.close()
