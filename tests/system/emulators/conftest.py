"""For scenarios of emulators: ours, Debian's, and a user without rights. This machine's binfmt_misc is not touched."""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from machine import CACHE, TOP, Result, need, on_bookworm, output, run, script
from qemu import ARCHES, unpack

AS_NOBODY = Path(__file__).parent / 'as-nobody'
IN_GUEST = Path(__file__).parent / 'in-guest'


@pytest.fixture(scope='session')
def ours(bins: Path, work: Path) -> Path:
    """Our emulators as files."""
    return unpack(bins, work / 'ours')


@pytest.fixture(scope='session')
def debians(work: Path) -> Path:
    """Debian's newest emulators as files."""
    script('get-qemu', '--out', CACHE / 'qemu-debian')
    return unpack(CACHE / 'qemu-debian', work / 'debian')


@pytest.fixture(scope='session')
def home(work: Path) -> Path:
    """The home of nobody, who has subordinate ids."""
    need('util-linux', 'uidmap', 'mmdebstrap', 'debootstrap', 'arch-test')
    path = work / 'home'
    path.mkdir()
    output('chown', 'nobody:', path)
    (work / 'ids').write_text('nobody:200000:65536\n')
    return path


Nobody = Callable[..., Result]


@pytest.fixture(scope='session')
def nobody(home: Path, binfmtctl: Path) -> Nobody:
    """Runs a command as nobody in that home; $B is binfmtctl."""

    def as_nobody(*words: str | Path, timeout: float = 3600, stdin: str = '') -> Result:
        return run(AS_NOBODY, home.parent, *words, env={'B': str(binfmtctl)}, timeout=timeout, stdin=stdin)

    return as_nobody


@pytest.fixture(scope='session')
def arm64_root(home: Path, nobody: Nobody, binfmtctl: Path) -> Path:
    """A root with apt and sudo, made by nobody, emulated."""
    suite = script('debian', 'suite', 'arm64', '?essential', 'apt', 'sudo')
    words = ['mmdebstrap', '--quiet', '--mode=root', '--skip=chroot/mount', '--arch=arm64', '--variant=apt']
    words += [f'--aptopt={script("debian", "options")}', '--include=sudo', suite, 'root', '-']
    run_in = [binfmtctl, 'run', '--map-root', '--platform', 'arm64', '--']
    made = nobody(*run_in, *words, stdin=script('debian', 'line', suite))
    assert made.code == 0, str(made)
    return home / 'root'


@pytest.fixture(scope='session')
def in_root(arm64_root: Path, nobody: Nobody, binfmtctl: Path) -> Callable[..., Result]:
    """Runs a command as root of that root."""

    def inside(*words: str) -> Result:
        env = ['env', 'HOME=/root', 'DEBIAN_FRONTEND=noninteractive']
        return nobody(binfmtctl, 'run', '--map-root', '--root', 'root', '--', *env, *words)

    return inside


@pytest.fixture(scope='session')
def compiler() -> Callable[[str], str]:
    """The C compiler for an architecture, by Debian's name; installed where it is not there."""
    got: dict[str, str] = {}

    def of(arch: str) -> str:
        if arch not in got:
            if arch == 'loong64' and on_bookworm():
                pytest.skip('Debian 12 has no compiler for loong64')
            triplet = ARCHES[arch].triplet
            # alpha's has had another version from its beginning.
            libc = 'libc6.1' if arch == 'alpha' else 'libc6'
            need(f'gcc-{triplet.replace("_", "-")}', f'{libc}-dev-{arch}-cross')
            got[arch] = f'{triplet}-gcc'
        return got[arch]

    return of


@pytest.fixture(scope='session')
def qemu_source(work: Path) -> Path:
    """QEMU's source, with its test programs."""
    lock = (TOP / 'qemu-bins/source.lock').read_text().split('\n')
    version = next(line.split()[1] for line in lock if line.startswith('qemu '))
    # make takes no colon.
    source = CACHE / f'qemu-{version.split(":")[-1]}'
    if not source.is_dir():
        script('qemu-build', '--fetch', '--work', work / 'qemu')
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(['mv', work / 'qemu/src', source], check=True)
    return source


@dataclass
class Guest:
    """A root of one architecture, whose programs run with our emulators or Debian's."""

    arch: str
    root: Path
    binfmtctl: Path
    home: Path
    emulators: dict[str, Path]

    def run(self, whose: str, *words: str, timeout: float = 600) -> Result:
        """Runs a command as nobody, in processes of its own that end with it; `whose` is ours or debians."""
        return run(
            IN_GUEST, self.binfmtctl, self.emulators[whose], self.arch, self.root, self.home, *words, timeout=timeout
        )


@pytest.fixture(scope='session')
def guest(binfmtctl: Path, home: Path, ours: Path, debians: Path) -> Callable[..., Guest]:
    """Makes a root with packages that are unpacked, but not configured; it is kept for the next time."""

    def make(name: str, arch: str, *packages: str, suite: str = '') -> Guest:
        root = CACHE / f'{name}-{arch}'
        of = ['--from', suite] if suite else []
        script('guests', '--root', root, *of, arch, 'coreutils', 'dash', 'libc-bin', *packages)
        # Its package makes it when it is configured.
        (root / 'mnt').mkdir(exist_ok=True)
        (root / 'etc/passwd').write_text('root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/nonexistent:/bin/sh\n')
        (root / 'etc/group').write_text('root:x:0:\nnogroup:x:65534:\n')
        (root / 'etc/hosts').write_text('127.0.0.1 localhost\n::1 localhost\n')
        for name in 'root', 'out':
            (home / name).mkdir(exist_ok=True)
        shutil.chown(home / 'out', 'nobody')
        return Guest(arch, root, binfmtctl, home, {'ours': ours, 'debians': debians})

    return make
