"""The emulators of a directory, as files."""

import lzma
import shutil
from collections.abc import Iterable
from pathlib import Path

# Debian's names of architectures, and QEMU's.
TARGETS = {
    'arm64': 'aarch64',
    'armhf': 'arm',
    'riscv64': 'riscv64',
    's390x': 's390x',
    'ppc64el': 'ppc64le',
    'i386': 'i386',
    'amd64': 'x86_64',
}


def unpack(bins: Path, to: Path, targets: Iterable[str] | None = None) -> Path:
    """Copies emulators to a new directory as qemu-TARGET: of a directory of such files, or of packs and a manifest.

    `targets` are QEMU's names; without, all. Raises FileNotFoundError where one is not there.
    """
    to.mkdir(parents=True)
    manifest = bins / 'manifest'
    if not manifest.is_file():
        for target in (
            targets if targets is not None else [path.name.removeprefix('qemu-') for path in bins.glob('qemu-*')]
        ):
            shutil.copy(bins / f'qemu-{target}', to)
        return to
    rows = [line.split() for line in manifest.read_text().splitlines() if not line.startswith('#')]
    wanted = set(targets) if targets is not None else {row[0] for row in rows}
    for pack in dict.fromkeys(row[5] for row in rows if row[0] in wanted):
        with lzma.open(bins / pack) as stream:
            for target, _, _, size, _, _ in (row for row in rows if row[5] == pack):
                content = stream.read(int(size))
                if target in wanted:
                    file = to / f'qemu-{target}'
                    file.write_bytes(content)
                    file.chmod(0o755)
    missing = wanted - {row[0] for row in rows}
    if missing:
        raise FileNotFoundError(f'{bins} has no qemu-{" and no qemu-".join(sorted(missing))}')
    return to
