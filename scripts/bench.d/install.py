"""Measures what an install costs, beside a copy of the emulators as files; for scripts/bench --install.

Usage: install.py PROGRAM DIR, as root of private namespaces; DIR has the emulators that PROGRAM embeds, as files.
"""

import gzip
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PROGRAM, FILES = sys.argv[1:]


def shmem() -> float:
    """Shared memory of this machine, in MB: what memory files hold."""
    lines = Path('/proc/meminfo').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith('Shmem:')) / 1e3


def cost(work: Callable[[], None]) -> tuple[float, float, float]:
    """Wall and CPU time, in seconds, of a process that does `work`, and its peak memory, in MB."""
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    _, status, used = os.wait4(child, 0)
    if status:
        sys.exit(f'error: a run that is measured failed: {status}')
    return time.monotonic() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3


def run(*arguments: str) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.execv(PROGRAM, [PROGRAM, *arguments])


def copy(names: list[str]) -> None:
    for name in names:
        shutil.copyfile(f'{FILES}/{name}', f'/mnt/{name}')


def measure(what: str, names: list[str]) -> None:
    installs, copies, held = [], [], []
    for _ in range(5):
        before = shmem()
        installs.append(cost(lambda: run('--install', what)))
        held.append(shmem() - before)
        cost(lambda: run('--uninstall', 'all'))
        copies.append(cost(lambda: copy(names)))
    wall, cpu, peak = (statistics.median(column) for column in zip(*installs, strict=True))
    copy_wall, copy_cpu, _ = (statistics.median(column) for column in zip(*copies, strict=True))
    print(
        f'--install {what}: {wall:.2f} s, {wall / copy_wall:.1f} times a copy; '
        f'CPU {cpu:.2f} s, {cpu / copy_cpu:.1f} times; '
        f'peak {peak:.0f} MB; {statistics.median(held):.0f} MB held',
        flush=True,
    )


compressed = gzip.compress(Path(PROGRAM).read_bytes(), 9)
print(f'program: {len(compressed) / 1e6:.2f} MB with gzip, as in an image', flush=True)
subprocess.run(['mount', '-t', 'binfmt_misc', 'none', '/proc/sys/fs/binfmt_misc'], check=True)
subprocess.run(['mount', '-t', 'tmpfs', 'none', '/mnt'], check=True)
measure('arm64', ['qemu-aarch64'])
measure('all', os.listdir(FILES))
