"""Debian's own kernels, booted in QEMU in software, and the whole job done there.

It goes from a kernel that does not even have its module to an uninstall that leaves nothing behind.

The initramfs holds the binary of the image, a busybox and three foreign ones; its first process is `init`, beside this.
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from machine import CACHE, TOP, need, output, own_arch, run, script

HERE = Path(__file__).parent
KERNELS = ['bookworm-amd64', 'trixie-amd64', 'trixie-arm64']
FOREIGN = {'amd64': ['arm64', 'riscv64', 's390x'], 'arm64': ['riscv64', 's390x', 'amd64']}
MACHINE = {
    'amd64': ['qemu-system-x86_64', '-M', 'q35', '-cpu', 'max', '-append', 'console=ttyS0 quiet panic=-1'],
    # This CPU runs 32-bit programs by itself.
    'arm64': ['qemu-system-aarch64', '-M', 'virt', '-cpu', 'cortex-a72', '-append', 'console=ttyAMA0 quiet panic=-1'],
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
    suite, arch = kernel.split('-')
    # Kernels of other architectures get Debian's emulators.
    whose = 'own' if own and arch == own_arch() else 'debian'
    names = {'all', kernel, suite, arch, f'{suite}-{whose}'}
    answers = {}
    for block in re.split(r'^(?=\S)', (HERE / 'expected').read_text(), flags=re.MULTILINE):
        if not block or block.startswith('#'):
            continue
        head, *lines = block.splitlines()
        word, where, code = head.split(': ')
        if where in names:
            answers[word] = Answer(int(code), tuple(line.removeprefix('  ') for line in lines))
    return answers


def kernel_files(suite: str, arch: str, work: Path) -> Path:
    """A directory with vmlinuz and binfmt_misc.ko of the suite's newest kernel."""
    kept = CACHE / f'kernel-{suite}-{arch}'
    if kept.is_dir():
        return kept
    new = work / f'kernel-{suite}-{arch}'
    for part in 'meta', 'deb', 'root', 'kept':
        (new / part).mkdir(parents=True)
    script('debian', 'packages', '--from', suite, new / 'meta', arch, f'linux-image-{arch}')
    depends = output('dpkg-deb', '-f', next((new / 'meta').glob('*.deb')), 'Depends')
    package = re.findall(r'linux-image-[^ ,]*', depends)[0]
    script('debian', 'packages', '--from', suite, new / 'deb', arch, package)
    output('dpkg-deb', '-x', next((new / 'deb').glob('*.deb')), new / 'root')
    shutil.move(next((new / 'root/boot').glob('vmlinuz-*')), new / 'kept/vmlinuz')
    module = Path(shutil.move(next((new / 'root').rglob('binfmt_misc.ko*')), new / 'kept'))
    if module.suffix == '.xz':
        output('xz', '-d', module)
    CACHE.mkdir(parents=True, exist_ok=True)
    shutil.move(new / 'kept', kept)
    return kept


def initramfs(kernel: Path, arch: str, bins: Path, work: Path) -> Path:
    """Makes the archive that the kernel starts from."""
    foreign, guests = FOREIGN[arch], CACHE / 'guests'
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
    suite, arch = kernel.split('-')
    files = kernel_files(suite, arch, work)
    return start(kernel, arch, files, initramfs(files, arch, bins, work), log)


def start(
    name: str, arch: str, files: Path, archive: Path, log: Path | None, timeout: float = 900
) -> tuple[str, dict[str, Answer]]:
    """The same of a kernel with its initramfs, which is then gone."""
    need({'amd64': 'qemu-system-x86', 'arm64': 'qemu-system-arm'}[arch])
    words = [*MACHINE[arch], '-accel', 'tcg,thread=multi', '-smp', '2', '-m', '2G', '-nodefaults', '-nographic']
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
