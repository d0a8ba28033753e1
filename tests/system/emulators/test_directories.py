"""Programs of 32 bits read directories whose offsets have 64, those of ext4, where readdir said "Value too large"."""

from pathlib import Path

import pytest

from machine import need, output, run, script

SOURCE = Path(__file__).parent / 'directories.c'


@pytest.fixture(scope='module')
def ext4(work):
    """A directory of a file system of its own."""
    need('e2fsprogs', 'mount')
    image, path = work / 'ext4.img', work / 'ext4'
    path.mkdir()
    output('truncate', '-s', '1G', image)
    output('mke2fs', '-q', '-t', 'ext4', '-O', 'dir_index', image)
    output('mount', '-o', 'loop', image, path)
    yield path
    output('umount', path)


@pytest.mark.parametrize('arch', ['armhf', 'i386', 'mipsel', 'powerpc', 'arm64'])
def test_program(arch, ext4, compiler, binfmtctl, ours, work):
    built, place = work / f'directories-{arch}', ext4 / arch
    output(compiler(arch), '-O2', '-static', '-pthread', '-o', built, SOURCE)
    place.mkdir()
    words = [binfmtctl, '--qemu-binary-path', ours, 'run', '--platform', arch, '--', built]
    result = run(*words, cwd=place, env={'XDG_CACHE_HOME': str(work / 'xdg')}, timeout=600)
    assert (result.code, result.out) == (0, 'all right\n'), str(result)


def test_openssl_rehashes(ext4, binfmtctl, ours, work):
    root = ext4 / 'root'
    script('guests', '--root', root, 'armhf', 'openssl', 'ca-certificates', 'libc-bin')
    certificates = root / 'etc/ssl/certs'
    for number, path in enumerate((root / 'usr/share/ca-certificates').rglob('*.crt')):
        (certificates / f'{number}.pem').write_bytes(path.read_bytes())
    words = [binfmtctl, '--qemu-binary-path', ours, 'run', '--root', root, '--', 'openssl', 'rehash', '/etc/ssl/certs']
    result = run(*words, env={'XDG_CACHE_HOME': str(work / 'xdg')}, timeout=600)
    assert result.code == 0, str(result)
    assert len(list(certificates.glob('*.0'))) > number * 0.9, str(result)
