"""amd64 programs with our emulator on an arm64 kernel: its addresses have one bit more, and translations are shared.

The first process of the machine is `init-addresses`, beside this.
"""

import shutil
from pathlib import Path

import pytest
from test_kernels import HERE, Answer, kernel_files, pack, start

from blocks import BLOCKS
from machine import CACHE, TOP, need, output, own_arch, script
from qemu import ARCHES, unpack

NAME, KERNEL = 'amd64-on-arm64', ('trixie', 'arm64')
ANSWERS = {
    'addresses': 'all right',
    'fixed maps': 'all right',
    'AddressSanitizer': 'all right',
    'Go': '122760',
    'cache': 'all right',
    'cache, off': 'all right',
    'cache, full': 'all right',
    'shared blocks': '1|more than 3900',
}
# Its shadow ends at 16 TiB. Emulators lie at 48 GiB, where kernels with short addresses have room for them.
KNOWN = pytest.mark.xfail(reason="emulators lie within AddressSanitizer's shadow on amd64", strict=True)


def build(programs: Path, work: Path) -> None:
    """Static programs for amd64."""
    compiler = f'{ARCHES["amd64"].triplet}-gcc'
    libc = 'libc6-dev' if own_arch() == 'amd64' else 'libc6-dev-amd64-cross'
    need(f'{compiler}:gcc-x86-64-linux-gnu', libc, 'go:golang-go')
    for name in 'address-limit', 'fixed-maps':
        output(compiler, '-O2', '-static', '-pthread', '-o', programs / name, TOP / f'tests/qemu/{name}.c')
    torture = TOP / 'tests/system/emulators/cache.c'
    output(compiler, '-O2', '-static', '-pthread', '-o', programs / 'cache', torture)
    output(compiler, '-O1', '-static', '-o', programs / 'blocks', '-xc', '-', stdin=BLOCKS)
    shutil.copy(CACHE / 'guests/amd64/bin/busybox', programs)
    env = {'GOARCH': 'amd64', 'CGO_ENABLED': '0', 'GOCACHE': str(work / 'go'), 'GOFLAGS': '', 'GOTOOLCHAIN': 'local'}
    output('go', 'build', '-o', programs / 'garbage', HERE / 'garbage.go', env=env)


@pytest.fixture(scope='module')
def answers(work, note, pytestconfig):
    suite, arch = KERNEL
    bins = work / 'emulators-arm64'
    script('qemu-build', '--host', arch, '--targets', ARCHES['amd64'].target, '--out', bins)
    files = kernel_files(suite, arch, work)
    script('guests', CACHE / 'guests', arch, 'amd64')
    root = work / 'root-addresses'
    for directory in 'dev', 'lib', 'proc', 'programs', 'tmp':
        (root / directory).mkdir(parents=True)
    unpack(bins, root / 'bin', [ARCHES['amd64'].target])
    shutil.copy(CACHE / 'guests' / arch / 'bin/busybox', root / 'bin')
    shutil.copy(files / 'binfmt_misc.ko', root / 'lib')
    shutil.copy(HERE / 'init-addresses', root / 'init')
    build(root / 'programs', work)
    archive = pack(root, work / 'addresses.cpio')
    version, found = start(NAME, arch, files, archive, pytestconfig.getoption('log'), timeout=1800)
    note(f'{NAME}: {version}, {output("go", "version")}')
    # Emulated, what is translated has to be translated once more, so this is less than on a machine.
    note(f'{NAME}: {" ".join(found["started again"].lines)}')
    return found


@pytest.mark.parametrize(
    'word',
    [pytest.param(word, id=f'{NAME}: {word}', marks=KNOWN if word == 'AddressSanitizer' else ()) for word in ANSWERS],
)
def test_answer(word, answers):
    assert answers.get(word) == Answer(0, tuple(ANSWERS[word].split('|')))
