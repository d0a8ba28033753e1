"""What xz, zstd, openssl, ffmpeg, gcc -S and NumPy put out is what the same versions put out natively."""

import random
from pathlib import Path

import pytest

from machine import output, own_arch
from qemu import ARCHES

# How each is asked, and why there is but one right answer.
OUTPUTS = Path(__file__).parent / 'outputs'
EMULATED = ['arm64', 'armhf', 'riscv64', 's390x', 'ppc64el', 'i386']
# Of these a compiler for EMULATED is there natively, and in the emulated root the compiler of that machine itself.
COMPILED = ['vfork', 'code-threads', 'indirect-loops', 'handlers']
PACKAGES = ['xz-utils', 'zstd', 'openssl', 'ffmpeg', 'gcc', 'python3-numpy']
KINDS = ['xz', 'zstd', 'openssl', 'ffmpeg', 'gcc', 'numpy']
KEYS = {
    'ed25519': ['ed25519'],
    'ed448': ['ed448'],
    'x25519': ['x25519'],
    'x448': ['x448'],
    'rsa': ['rsa', '-pkeyopt', 'rsa_keygen_bits:2048'],
    'ec-p256': ['ec', '-pkeyopt', 'ec_paramgen_curve:P-256'],
    'ec-p521': ['ec', '-pkeyopt', 'ec_paramgen_curve:P-521'],
    'ec-brainpool': ['ec', '-pkeyopt', 'ec_paramgen_curve:brainpoolP256r1'],
}
PATIENCE = 1800


def cross(arch: str) -> str:
    """The name of the compiler for an architecture, as in its package's name."""
    return ARCHES[arch].triplet.replace('_', '-')


@pytest.fixture(scope='module')
def given(home: Path) -> None:
    """What all programs are given, in /mnt."""
    out = home / 'out'
    out.mkdir(exist_ok=True)
    chance = random.Random(1)
    words = [bytes(chance.choices(b'abcdefghijklmnopqrstuvwxyz', k=chance.randint(2, 9))) for _ in range(400)]
    text = b' '.join(chance.choices(words, k=30000))
    (out / 'input').write_bytes(text + chance.randbytes(20000) + bytes(20000) + Path('/bin/true').read_bytes())
    (out / 'arrays.py').write_bytes((OUTPUTS / 'arrays.py').read_bytes())
    for name, words in KEYS.items():
        output('openssl', 'genpkey', '-quiet', '-algorithm', *words, '-out', out / f'{name}.pem')
        (out / f'{name}.pem').chmod(0o644)


@pytest.fixture(scope='module')
def natively(guest, given):
    """What a program puts out on this machine, of the suite that a root is of."""
    known: dict[tuple[str, ...], str] = {}

    def run(made, kind: str, *words: str) -> str:
        release = (made.root / 'etc/os-release').read_text()
        suite = next(line.split('=')[1] for line in release.splitlines() if line.startswith('VERSION_CODENAME='))
        others = sorted(f'gcc-{cross(arch)}' for arch in EMULATED if arch != own_arch())
        root = guest(f'outputs-{suite}', own_arch(), *PACKAGES, *others, suite=suite)
        key = (suite, kind, *words)
        if key not in known:
            known[key] = put_out(root, 'ours', kind, *words)
        return known[key]

    return run


def put_out(guest, whose: str, kind: str, *words: str) -> str:
    """What a program puts out in a root; it has to succeed."""
    script = (OUTPUTS / 'prologue').read_text() + (OUTPUTS / kind).read_text()
    result = guest.run(whose, 'sh', '-c', script, kind, *words, timeout=PATIENCE)
    assert result.code == 0, str(result)
    assert len(result.out.splitlines()) > 5, str(result)
    return result.out


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('arch', [arch for arch in EMULATED if arch != own_arch()])
def test_output(arch, kind, guest, natively, compiler, note):
    made = guest('outputs', arch, *PACKAGES)
    names: dict[str, list[str]] = {'emulated': [], 'natively': []}
    if kind == 'gcc':
        # Native headers are not as old as others, so one of both makes the text for both.
        for name in COMPILED:
            source = OUTPUTS.parents[2] / f'qemu/{name}.c'
            output(compiler(arch), '-E', '-P', source, '-o', made.home / f'out/{name}.i')
        names = {'emulated': ['gcc'], 'natively': [f'{ARCHES[arch].triplet}-gcc']}
    wanted = natively(made, kind, *names['natively'])
    got = put_out(made, 'ours', kind, *names['emulated'])
    if got != wanted:
        theirs = put_out(made, 'debians', kind, *names['emulated'])
        pairs = zip(wanted.splitlines(), got.splitlines(), theirs.splitlines(), strict=False)
        unlike = [f'natively {a}\nours {b}\nof Debian {c}' for a, b, c in pairs if a != b]
        pytest.fail('\n'.join(unlike) or f'natively:\n{wanted}\nours:\n{got}')
    note(f'{arch}: {kind}: all of {len(got.splitlines())} lines are as natively')
