"""The emulators of a directory, and what an architecture is called by whom; for the Python beside this and in tests."""

import lzma
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Arch:
    """An architecture: as Debian, QEMU and GNU's tools call it."""

    debian: str
    target: str
    triplet: str

    @property
    def oci(self) -> str:
        """As images call it."""
        others = {'armhf': 'arm/v7', 'ppc64el': 'ppc64le', 'i386': '386', 'mips64el': 'mips64le', 'mipsel': 'mipsle'}
        return others.get(self.debian, self.debian)


_ROWS = [
    Arch('arm64', 'aarch64', 'aarch64-linux-gnu'),
    Arch('armhf', 'arm', 'arm-linux-gnueabihf'),
    Arch('riscv64', 'riscv64', 'riscv64-linux-gnu'),
    Arch('s390x', 's390x', 's390x-linux-gnu'),
    Arch('ppc64el', 'ppc64le', 'powerpc64le-linux-gnu'),
    Arch('i386', 'i386', 'i686-linux-gnu'),
    Arch('amd64', 'x86_64', 'x86_64-linux-gnu'),
    Arch('loong64', 'loongarch64', 'loongarch64-linux-gnu'),
    Arch('mips64el', 'mips64el', 'mips64el-linux-gnuabi64'),
    Arch('mips64', 'mips64', 'mips64-linux-gnuabi64'),
    Arch('mipsel', 'mipsel', 'mipsel-linux-gnu'),
    Arch('mips', 'mips', 'mips-linux-gnu'),
    Arch('ppc64', 'ppc64', 'powerpc64-linux-gnu'),
    Arch('powerpc', 'ppc', 'powerpc-linux-gnu'),
    Arch('sparc64', 'sparc64', 'sparc64-linux-gnu'),
    Arch('hppa', 'hppa', 'hppa-linux-gnu'),
    Arch('m68k', 'm68k', 'm68k-linux-gnu'),
    Arch('alpha', 'alpha', 'alpha-linux-gnu'),
]
# By Debian's name.
ARCHES = {arch.debian: arch for arch in _ROWS}


def rows(manifest: Path) -> list[list[str]]:
    """What a manifest says of each emulator: its target, QEMU's version, the package's, bytes, SHA-256 and pack."""
    return [line.split() for line in manifest.read_text().splitlines() if not line.startswith('#')]


def unpack(bins: Path, to: Path, targets: Iterable[str] | None = None) -> Path:
    """Copies emulators to a new directory as qemu-TARGET: of a directory of such files, or of packs and a manifest.

    `targets` are QEMU's names; without, all. Raises FileNotFoundError where one is not there.
    """
    to.mkdir(parents=True)
    manifest = bins / 'manifest'
    if not manifest.is_file():
        names = [path.name for path in bins.glob('qemu-*')] if targets is None else [f'qemu-{name}' for name in targets]
        for name in names:
            shutil.copy(bins / name, to)
        return to
    held = rows(manifest)
    wanted = {row[0] for row in held} if targets is None else set(targets)
    for pack in dict.fromkeys(row[5] for row in held if row[0] in wanted):
        with lzma.open(bins / pack) as stream:
            for target, _, _, size, _, _ in (row for row in held if row[5] == pack):
                content = stream.read(int(size))
                if target in wanted:
                    file = to / f'qemu-{target}'
                    file.write_bytes(content)
                    file.chmod(0o755)
    missing = wanted - {row[0] for row in held}
    if missing:
        raise FileNotFoundError(f'{bins} has no qemu-{" and no qemu-".join(sorted(missing))}')
    return to
