"""Options and what all scenarios share. scripts/test-qemu, test-clients and test-kernels start them."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from machine import TOP, script

NOTES: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup('binfmtctl')
    group.addoption('--bins', type=Path, default=TOP / 'qemu-bins', help='the emulators to test')
    group.addoption('--arch', help='only scenarios of these architectures, as Debian calls them: arm64,s390x')
    group.addoption('--repeat', type=int, help='how often scenarios that look for rare failures run their programs')
    group.addoption('--log', type=Path, help='keep the consoles of booted kernels in this directory')
    group.addoption('--image', default='', help='options for scripts/image')


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption('arch'):
        return
    wanted = config.getoption('arch').split(',')
    kept, others = [], []
    for item in items:
        params = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, 'callspec') else {}
        (kept if params.get('arch', wanted[0]) in wanted else others).append(item)
    config.hook.pytest_deselected(items=others)
    items[:] = kept


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if NOTES:
        terminalreporter.section('notes')
        for note in NOTES:
            terminalreporter.write_line(note)


@pytest.fixture(scope='session')
def note() -> Callable[[str], None]:
    """Keeps a line for the end of the run."""
    return NOTES.append


@pytest.fixture(scope='session')
def work() -> Iterator[Path]:
    """A directory for the whole run that everybody may enter."""
    path = Path(tempfile.mkdtemp(prefix='binfmtctl-'))
    path.chmod(0o755)
    yield path
    # Not into what a scenario that failed left mounted.
    subprocess.run(['rm', '-rf', '--one-file-system', path], check=False)


@pytest.fixture(scope='session')
def bins(pytestconfig: pytest.Config) -> Path:
    """The directory of emulators that is tested."""
    path = pytestconfig.getoption('bins').resolve()
    assert (path / 'manifest').is_file(), f'{path} has no emulators: run scripts/qemu-build or scripts/get-qemu first'
    return path


@pytest.fixture(scope='session')
def binfmtctl(bins: Path, work: Path) -> Path:
    """The program, with these emulators in it."""
    built = script('build', '--release', env={'BINFMTCTL_QEMU_BINS': str(bins)})
    return Path(shutil.copy(built, work / 'binfmtctl'))
