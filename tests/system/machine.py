"""What the scenarios share: running commands on this machine, and what the scripts of the project make."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
SCRIPTS = TOP / 'scripts'
CACHE = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'binfmtctl-build'

sys.path.insert(0, str(SCRIPTS))

# A shell that does not wait for us lets us ignore these, and what we start would, too: interpreters then act otherwise.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)

Words = Sequence[str | Path]


@dataclass(frozen=True)
class Result:
    """How a command ended, and what it said."""

    words: list[str]
    code: int | None
    out: str
    err: str

    def __str__(self) -> str:
        how = 'ran out of time' if self.code is None else f'ended with {self.code}'
        shown = [' '.join(self.words)[:300] + f' {how}']
        for name, text in ('output', self.out), ('errors', self.err):
            lines = text.strip().splitlines()
            shown += [f'{name}: {"... " if len(lines) > 12 else ""}'] if lines else []
            shown += [f'  {line}' for line in lines[-12:]]
        return '\n'.join(shown)


def run(
    *words: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
    stdin: str = '',
) -> Result:
    """Runs a command; `env` comes on top of this process's. What runs out of time is killed, with all its children."""
    process = subprocess.Popen(
        [str(word) for word in words],
        env={**os.environ, **(env or {})},
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors='replace',
        start_new_session=True,
    )
    try:
        out, err = process.communicate(stdin, timeout)
        code: int | None = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        out, err = process.communicate()
        code = None
    return Result([str(word) for word in words], code, out, err)


def output(*words: str | Path, **options: object) -> str:
    """What a command that must succeed prints, without the last newline."""
    result = run(*words, **options)  # type: ignore[arg-type]
    assert result.code == 0, str(result)
    return result.out.rstrip('\n')


def script(name: str, *words: str | Path, **options: object) -> str:
    """What one of the project's scripts prints; what it says on the way is shown where it fails."""
    return output(SCRIPTS / name, *words, **options)


def need(*what: str) -> None:
    """Installs packages that are not there, as scripts/lib does."""
    output('sh', '-c', '. "$0/lib"; need "$@"', SCRIPTS, *what)


def own_arch() -> str:
    """Debian's name of this machine's architecture."""
    return output('dpkg', '--print-architecture')


def on_bookworm() -> bool:
    """Whether this machine's Debian is 12, which lacks some compilers, and calls some packages otherwise."""
    return output('sh', '-c', '. /etc/os-release && echo "$ID$VERSION_ID"') == 'debian12'
