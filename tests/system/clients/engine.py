"""What the scenarios of clients share: platforms, and how this machine looks."""

import json
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from machine import CACHE, TOP, Result, output, run, script

BINFMT_MISC = '/proc/sys/fs/binfmt_misc'
VERSION = re.findall(r'^version = "(.*)"', (TOP / 'Cargo.toml').read_text(), re.MULTILINE)[0]
PORT = 5987
REGISTRY = f'127.0.0.1:{PORT}'


@dataclass(frozen=True)
class Foreign:
    """A platform that needs emulation: as Docker, uname and Node.js call it, and its byte order."""

    name: str
    machine: str
    node: str
    endian: str


FOREIGN = [
    Foreign('arm64', 'aarch64', 'arm64', 'little'),
    Foreign('riscv64', 'riscv64', 'riscv64', 'little'),
    Foreign('s390x', 's390x', 's390x', 'big'),
]
PLATFORMS = [f'linux/{each.name}' for each in FOREIGN]


def entries() -> list[str]:
    """This machine's entries; looks from a mount namespace of its own, so that nothing is left mounted."""
    names = output('unshare', '-m', 'sh', '-c', 'mount -t binfmt_misc none /mnt && ls /mnt').split()
    return [name for name in names if name not in ('register', 'status')]


def mounted() -> int:
    return Path('/proc/self/mounts').read_text().count(f' {BINFMT_MISC} binfmt_misc')


def wait_for(what: Callable[[], object], seconds: float) -> bool:
    """Whether that comes to be true in time."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def supported(result: Result) -> list[str]:
    """Which of the three foreign platforms work, as `--status --format json` told."""
    assert result.code == 0, str(result)
    return [platform for platform in json.loads(result.out)['supported'] if platform in PLATFORMS]


def make_root(name: str, work: Path, suite: str, *options: str) -> Path:
    """The archive of a Debian root, from the cache or new."""
    kept = CACHE / name
    if kept.exists():
        return kept
    words = ['mmdebstrap', '--quiet', '--mode=root', '--variant=apt', f'--aptopt={script("debian", "options")}']
    # mmdebstrap wants to see the entries of the architecture that it is to run.
    see = ['unshare', '-m', 'sh', '-c', f'mount -t binfmt_misc none {BINFMT_MISC} && exec "$@"', 'sh']
    line = re.sub(r'\[[^]]*\] ', '', script('debian', 'line', suite))
    made = run(*see, *words, *options, suite, work / name, '-', stdin=line)
    assert made.code == 0, str(made)
    CACHE.mkdir(parents=True, exist_ok=True)
    shutil.move(work / name, kept)
    return kept
