"""Runs commands in a root of another architecture and measures each; for scripts/bench, which starts one an emulator.

Usage: worker.py ROOT, within `binfmtctl run --map-root`. Each line of standard input is one job as JSON, each line of
standard output its result.
"""

import json
import os
import resource  # noqa: F401 - os.wait4 loads it, and could not from inside the root
import shutil
import sys
import tempfile
import time
from typing import IO, Any

HOME = '/work/home'


def run(argv: list[str], env: dict[str, str], errors: int) -> tuple[int, float, float]:
    """Exit status, CPU time and wall time of one command and all that it waits for; starts with an empty home."""
    shutil.rmtree(HOME, ignore_errors=True)
    os.mkdir(HOME)
    null = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0)
    streams = [null, (os.POSIX_SPAWN_DUP2, 0, 1), (os.POSIX_SPAWN_DUP2, errors, 2)]
    start = time.monotonic()
    # Unlike a fork, this copies nothing of this process: all time is the command's own.
    child = os.posix_spawn(argv[0], argv, env, file_actions=streams)
    _, status, used = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, time.monotonic() - start


def measure(job: dict[str, Any], errors: IO[bytes]) -> dict[str, Any]:
    """Runs a job as often as it says, or until it fails."""
    errors.truncate(0)
    status, cpu, wall = 0, 0.0, 0.0
    for _ in range(job['repeat']):
        status, used, took = run(job['argv'], job['env'], errors.fileno())
        cpu += used
        wall += took
        if status != 0:
            break
    errors.seek(0)
    return {'status': status, 'cpu': cpu, 'wall': wall, 'said': errors.read().decode(errors='replace')}


def main() -> None:
    os.chroot(sys.argv[1])
    os.chdir('/')
    with tempfile.TemporaryFile(dir='/work') as errors:
        for line in sys.stdin:
            print(json.dumps(measure(json.loads(line), errors)), flush=True)


main()
