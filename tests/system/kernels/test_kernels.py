"""Debian's own kernels, booted in QEMU in software, and the whole job done there.

It goes from a kernel that does not even have its module to an uninstall that leaves nothing behind.

The initramfs holds the binary of the image, a busybox and three foreign ones; its first process is `init`, beside this.
"""

import re
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from machine import CACHE, TOP, need, on_bookworm, output, own_arch, run, script
from qemu import ARCHES

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Machine:
    """How a machine of an architecture is emulated, and Debian's kernel for it."""

    packages: tuple[str, ...]
    words: str
    options: str
    """Of the kernel."""
    kernel: str
    foreign: tuple[str, str, str]
    """What it runs, sorted by QEMU's names."""


MACHINES = {
    'amd64': Machine(
        ('qemu-system-x86',),
        'qemu-system-x86_64 -M q35 -cpu max',
        'console=ttyS0',
        'linux-image-amd64',
        ('arm64', 'riscv64', 's390x'),
    ),
    # This CPU runs 32-bit programs by itself.
    'arm64': Machine(
        ('qemu-system-arm',),
        'qemu-system-aarch64 -M virt -cpu cortex-a72',
        'console=ttyAMA0',
        'linux-image-arm64',
        ('riscv64', 's390x', 'amd64'),
    ),
    'riscv64': Machine(
        ('qemu-system-misc', 'opensbi'),
        'qemu-system-riscv64 -M virt',
        'console=ttyS0',
        'linux-image-riscv64',
        ('arm64', 's390x', 'amd64'),
    ),
    'ppc64el': Machine(
        ('qemu-system-ppc',),
        'qemu-system-ppc64 -M pseries -cpu power9',
        'console=hvc0',
        'linux-image-powerpc64le',
        ('arm64', 'riscv64', 's390x'),
    ),
    's390x': Machine(
        ('qemu-system-misc',),
        'qemu-system-s390x -M s390-ccw-virtio -cpu max',
        'console=ttysclp0',
        'linux-image-s390x',
        ('arm64', 'riscv64', 'amd64'),
    ),
    # Without firmware the kernel looks for a keyboard where there is none.
    'loong64': Machine(
        ('qemu-system-misc',),
        'qemu-system-loongarch64 -M virt',
        'console=ttyS0 initcall_blacklist=i8042_init',
        'linux-image-loong64',
        ('arm64', 'riscv64', 'amd64'),
    ),
}
# By name: the suites that one is taken from, and its architecture.
NEWER = 'trixie,forky,sid'
KERNELS = {
    'bookworm-amd64': ('bookworm', 'amd64'),
    'trixie-amd64': ('trixie', 'amd64'),
    'trixie-arm64': ('trixie', 'arm64'),
    'riscv64': (NEWER, 'riscv64'),
    'ppc64el': (NEWER, 'ppc64el'),
    's390x': (NEWER, 's390x'),
    'loong64': (NEWER, 'loong64'),
}


@dataclass(frozen=True)
class Answer:
    code: int
    lines: tuple[str, ...]


def are_own(bins: Path) -> bool:
    """Whether these emulators are built with our patches, and not Debian's."""
    return 'scripts/qemu-build' in (bins / 'manifest').read_text().splitlines()[0]


def expected(kernel: str, own: bool) -> dict[str, Answer]:
    """What a kernel should answer, by the words of init, in their order."""
    suites, arch = KERNELS[kernel]
    # Kernels of other architectures get Debian's emulators.
    whose = 'own' if own and arch == own_arch() else 'debian'
    age = 'before-6.7' if suites == 'bookworm' else 'since-6.7'
    names = {'all', whose, age, f'{age}-{whose}', arch}
    words = {'own': ARCHES[arch].oci}
    for number, foreign in enumerate(MACHINES[arch].foreign, 1):
        words |= {f'arch{number}': ARCHES[foreign].oci, f'target{number}': ARCHES[foreign].target}
    answers = {}
    for block in re.split(r'^(?=\S)', (HERE / 'expected').read_text(), flags=re.MULTILINE):
        if not block or block.startswith('#'):
            continue
        head, *lines = block.splitlines()
        word, where, code = head.split(': ')
        if where in names:
            answers[word] = Answer(int(code), tuple(line.removeprefix('  ').format(**words) for line in lines))
    return answers


def kernel_files(suites: str, arch: str, work: Path) -> Path:
    """A directory with vmlinuz and binfmt_misc.ko of the newest kernel of the first of these suites that serves one."""
    name = f'kernel-{suites.replace(",", "-")}-{arch}'
    kept = CACHE / name
    if kept.is_dir():
        return kept
    new = work / name
    for part in 'deb', 'root', 'kept':
        (new / part).mkdir(parents=True)
    packages = [MACHINES[arch].kernel]
    # Newer packages only depend on those that have the kernel and its modules.
    for package in packages:
        script('debian', 'packages', '--from', suites, new / 'deb', arch, package)
        deb = next((new / 'deb').glob(f'{package}_*.deb'))
        packages += re.findall(r'linux-(?:image|binary|modules)-[^ ,]*', output('dpkg-deb', '-f', deb, 'Depends'))
        output('dpkg-deb', '-x', deb, new / 'root')
    # Some of them are not compressed.
    kernel = Path(shutil.move(next((new / 'root').rglob('vmlinu[xz]*')), new / 'kept/vmlinuz'))
    unpack_zboot(kernel)
    module = Path(shutil.move(next((new / 'root').rglob('binfmt_misc.ko*')), new / 'kept'))
    if module.suffix == '.xz':
        output('xz', '-d', module)
    CACHE.mkdir(parents=True, exist_ok=True)
    shutil.move(new / 'kept', kept)
    return kept


def unpack_zboot(kernel: Path) -> None:
    """Unpacks a kernel that is a program for EFI firmware, which would do it (Linux: libstub/zboot-header.S)."""
    image = kernel.read_bytes()
    if image[4:8] == b'zimg':
        start, size = struct.unpack_from('<II', image, 8)
        tool = image[24:32].rstrip(b'\0').decode()
        need(tool)
        packed = image[start : start + size]
        kernel.write_bytes(subprocess.run([tool, '-dc'], input=packed, stdout=subprocess.PIPE, check=True).stdout)


def initramfs(kernel: Path, arch: str, bins: Path, work: Path) -> Path:
    """Makes the archive that the kernel starts from."""
    foreign, guests = MACHINES[arch].foreign, CACHE / 'guests'
    script('guests', guests, arch, *foreign)
    if arch != own_arch():
        bins = TOP / f'target/emulators-debian-{arch}'
        script('get-qemu', '--host', arch, '--out', bins)
    binary = script('build', '--host', arch, '--release', env={'BINFMTCTL_QEMU_BINS': str(bins)})
    root = work / f'root-{kernel.name}'
    for directory in ['bin', 'dev', 'etc', 'guests', 'lib', 'proc', 'sbin', 'sys', 'tmp']:
        (root / directory).mkdir(parents=True)
    shutil.copy(binary, root / 'bin/binfmtctl')
    shutil.copy(guests / arch / 'bin/busybox', root / 'bin')
    shutil.copy(kernel / 'binfmt_misc.ko', root / 'lib')
    (root / 'etc/passwd').write_text('root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/tmp:/bin/sh\n')
    (root / 'etc/test').write_text(f"FIRST={foreign[0]}\nLIST={','.join(foreign)}\nFOREIGN='{' '.join(foreign)}'\n")
    for each in foreign:
        shutil.copytree(guests / each, root / 'guests' / each, symlinks=True)
        (root / 'guests' / each / 'proc').mkdir()
    shutil.copy(HERE / 'init', root / 'init')
    return pack(root, work / f'{kernel.name}.cpio')


def pack(root: Path, archive: Path) -> Path:
    """Makes an initramfs of a directory, which is then gone."""
    need('cpio')
    output('sh', '-c', 'cd "$0" && find . | cpio --quiet -o -H newc -R 0:0 >"$1"', root, archive)
    shutil.rmtree(root)
    return archive


def boot(kernel: str, bins: Path, work: Path, log: Path | None) -> tuple[str, dict[str, Answer]]:
    """The kernel's version, and what it answers, by the words of init, in their order."""
    suites, arch = KERNELS[kernel]
    files = kernel_files(suites, arch, work)
    return start(kernel, arch, files, initramfs(files, arch, bins, work), log)


def start(
    name: str, arch: str, files: Path, archive: Path, log: Path | None, timeout: float = 900
) -> tuple[str, dict[str, Answer]]:
    """The same of a kernel with its initramfs, which is then gone."""
    machine = MACHINES[arch]
    need(*machine.packages)
    words = [*machine.words.split(), '-append', f'{machine.options} quiet panic=-1']
    words += ['-accel', 'tcg,thread=multi', '-smp', '2', '-m', '2G', '-nodefaults', '-nographic']
    words += ['-serial', 'stdio', '-monitor', 'none', '-net', 'none', '-no-reboot']
    result = run(*words, '-kernel', files / 'vmlinuz', '-initrd', archive, timeout=timeout)
    archive.unlink()
    console = result.out.replace('\r', '')
    if log:
        log.mkdir(parents=True, exist_ok=True)
        (log / f'{name}.log').write_text(console)
    assert result.code == 0, f'{name} did not come to an end: {result}'
    answers = {}
    for word, said, code in re.findall(r'ANSWER (.*?): (.*?) ?\[(\d+)\]$', console, re.MULTILINE):
        said = re.sub(r'\(registered, QEMU [^)]*\)\)', '(registered)', said)
        answers[word] = Answer(int(code), tuple(said.split('|')) if said else ())
    assert answers, f'{name} gave no answer: {result}'
    return ''.join(re.findall(r'KERNEL (.*)', console)), answers


@pytest.fixture(scope='session')
def booted(bins, work, note, pytestconfig):
    """Boots a kernel, once even where that fails, and returns its answers."""
    done = {}

    def answers_of(kernel):
        if kernel == 'loong64' and on_bookworm():
            pytest.skip('Debian 12 has no compiler for loong64, and its QEMU cannot load the kernel')
        if kernel not in done:
            done[kernel] = None
            version, done[kernel] = boot(kernel, bins, work, pytestconfig.getoption('log'))
            note(f'{kernel}: {version}: {len(done[kernel])} answers')
        assert done[kernel] is not None, 'it did not come to an end, as told above'
        return done[kernel]

    return answers_of


@pytest.mark.parametrize(
    ('kernel', 'word'),
    [pytest.param(kernel, word, id=f'{kernel}: {word}') for kernel in KERNELS for word in expected(kernel, True)],
)
def test_answer(kernel, word, booted, bins):
    assert booted(kernel).get(word) == expected(kernel, are_own(bins))[word]


@pytest.mark.parametrize('kernel', KERNELS)
def test_nothing_else_is_said(kernel, booted, bins):
    assert list(booted(kernel)) == list(expected(kernel, are_own(bins)))
