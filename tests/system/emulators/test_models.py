"""The default CPU models have what distributions build for, as programs are told."""

import pytest

from machine import CACHE, own_arch, run, script

# The bits of AT_HWCAP that have to be there, and the width of a word.
CAPABILITIES = [
    pytest.param('arm64', 8, 0x119FFB, id='arm64-is-Neoverse-N1'),
    pytest.param('armhf', 4, 1 << 16 | 1 << 19, id='armhf-has-VFPv4-with-32-registers'),
    pytest.param('riscv64', 8, 0x20112D, id='riscv64-has-vectors'),
    pytest.param('s390x', 8, 1 << 13 | 1 << 15, id='s390x-is-z15'),
    pytest.param('i386', 4, 1 << 26, id='i386-has-SSE2'),
]
# What the loader says it supports.
LEVELS = [
    pytest.param('ppc64el', '/lib64/ld64.so.2', 'power9', id='ppc64el-is-POWER9'),
    pytest.param('amd64', '/lib64/ld-linux-x86-64.so.2', 'x86-64-v3', id='amd64-is-v3'),
]
# This machine's own programs are not emulated.
LEVELS = [level for level in LEVELS if level.values[0] != own_arch()]
AT_HWCAP = 16


@pytest.fixture(scope='module')
def ask(work, binfmtctl):
    """What a program of a fresh root prints."""

    def ask_program(arch, *words, cpu=None):
        root = CACHE / 'models' / arch
        script('guests', '--root', root, arch, 'libc6', 'coreutils')
        env = {'XDG_CACHE_HOME': str(work / 'cache')} | ({'QEMU_CPU': cpu} if cpu else {})
        result = run(binfmtctl, 'run', '--root', root, '--', *words, env=env)
        assert result.code == 0, str(result)
        return result.out

    return ask_program


@pytest.mark.parametrize(('arch', 'width', 'wanted'), CAPABILITIES)
def test_capabilities(arch, width, wanted, ask):
    words = [int(word, 16) for word in ask(arch, 'od', '-An', '-v', f'-tx{width}', '/proc/self/auxv').split()]
    auxv = dict(zip(words[::2], words[1::2], strict=True))
    assert auxv[AT_HWCAP] & wanted == wanted, hex(auxv[AT_HWCAP])


@pytest.mark.parametrize(('arch', 'loader', 'level'), LEVELS)
def test_level(arch, loader, level, ask):
    assert f'{level} (supported' in ask(arch, loader, '--help')


@pytest.mark.parametrize('arch', ['ppc64el'])
def test_variable_chooses_another(arch, ask):
    assert 'power10 (supported' in ask(arch, '/lib64/ld64.so.2', '--help', cpu='power10')
