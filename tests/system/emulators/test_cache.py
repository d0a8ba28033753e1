"""The translation cache: on, off and full; with rubbish written to it; and not across users.

docs/translation-cache.md tells what it is, and what these are for.
"""

import os
import random
import struct
import subprocess
import threading
import time
from pathlib import Path

import pytest

from blocks import BLOCKS
from machine import output, run
from qemu import ARCHES

SOURCE = Path(__file__).parent / 'cache.c'
# Where the store has what its offsets lead to; see accel/tcg/tb-cache.c.
HEADER, INDEX, FIRST = 96, 4096, 4096 + 4 * 8192

WORK = """
for i in 1 2 3 4 5 6 7 8 9; do
    perl -e 'print map { chr(65 + $_ % 26) } 1 .. 9999' | sha1sum
    ls -l /usr/bin | sort | md5sum
done
"""
# Says when it has a cache, and when it has restricted itself; then waits for a line.
# Says so before and after a call, and waits each time.
CALL = """
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void)
{
    uint64_t rights = 2;
    if (fork() == 0)
        _exit(0);
    wait(NULL);
    puts("before");
    fflush(stdout);
    getchar();
    if (CALL != 0)
        return 1;
    puts("after");
    fflush(stdout);
    getchar();
    return 0;
}
"""
CALLS = {
    'Landlock': 'syscall(446, syscall(444, &rights, sizeof(rights), 0), 0)',
    'undumpable': '(int)(rights - 2) + prctl(PR_SET_DUMPABLE, 0)',
}
USERS = """
timeout 8 tail -f /dev/null &
setpriv --reuid 1 --regid 1 --clear-groups timeout 8 tail -f /dev/null &
wait
"""


@pytest.fixture(autouse=True)
def usual_size(monkeypatch):
    """The scenarios here say themselves what size they want, or look at a cache of the usual one."""
    monkeypatch.delenv('QEMU_TB_CACHE', raising=False)


def stores():
    """Processes, by name, and the descriptors of their caches, as this machine sees them."""
    for process in Path('/proc').glob('[0-9]*'):
        store = process / 'fd/1024'
        try:
            if 'qemu-tb-cache' in os.readlink(store):
                yield (process / 'comm').read_text().strip(), store
        except OSError:
            continue


@pytest.mark.parametrize('size', ['', '0', '1'], ids=['on', 'off', 'full'])
@pytest.mark.parametrize('arch', ['arm64', 'armhf', 'riscv64', 's390x', 'ppc64el'])
def test_program(arch, size, compiler, binfmtctl, work):
    built = work / 'cache' / arch
    if not built.exists():
        built.parent.mkdir(parents=True, exist_ok=True)
        output(compiler(arch), '-O2', '-static', '-pthread', '-o', built, SOURCE)
    words = [binfmtctl, 'run', '--map-root', '--platform', arch, '--', built]
    env = {'XDG_CACHE_HOME': str(work / 'xdg'), 'TMPDIR': str(work), 'QEMU_TB_CACHE': size}
    result = run(*words, env=env, timeout=600)
    assert (result.code, result.out) == (0, 'all right\n'), str(result)


def count_blocks(store):
    """How many blocks its chains of nodes lead to."""
    data, count = store.read_bytes(), 0
    for (offset,) in struct.iter_unpack('<I', data[INDEX:FIRST]):
        while offset:
            _, after, *_, entries = struct.unpack_from('<IIQQQI', data, offset)
            offset, count = after, count + entries
    return count


@pytest.mark.parametrize('arch', ['arm64', 'armhf', 'riscv64', 's390x', 'ppc64el', 'i386'])
def test_all_blocks_are_shared(arch, compiler, ours, work):
    built = work / f'blocks-{arch}'
    output(compiler(arch), '-O1', '-static', '-o', built, '-xc', '-', stdin=BLOCKS)
    with subprocess.Popen(
        [ours / f'qemu-{ARCHES[arch].target}', built], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as program:
        assert program.stdout.readline() == b'1\n'
        # A call is a block of its own, and so is what is called. The last of a page may be left out.
        assert count_blocks(Path(f'/proc/{program.pid}/fd/1024')) > 3900
        program.communicate(b'\n')
    assert program.returncode == 0


def test_libraries_are_loaded_and_unloaded(compiler, in_root, arm64_root):
    output(compiler('arm64'), '-O2', '-DLIBRARIES', '-pthread', '-o', arm64_root / 'usr/bin/libraries', SOURCE)
    result = in_root('libraries')
    assert (result.code, result.out) == (0, 'all right\n'), str(result)


def write_rubbish(stop, written):
    while not stop.is_set():
        for _, store in stores():
            try:
                file = os.open(store, os.O_RDWR)
            except OSError:
                continue
            for _ in range(300):
                last = random.choice([FIRST, 2**20, 2**22, 2**23])
                os.pwrite(file, os.urandom(random.choice([1, 4, 8, 16, 200])), random.randrange(HEADER, last))
                written.append(1)
            # Offsets that may be somewhere.
            for _ in range(20):
                offset = random.choice([0, 8, 2**31, random.randrange(2**23) & -8])
                os.pwrite(file, struct.pack('<I', offset), INDEX + 4 * random.randrange(8192))
            os.close(file)


def test_rubbish_does_no_harm(in_root):
    right = in_root('sh', '-ec', WORK)
    assert right.code == 0, str(right)
    stop, written = threading.Event(), []
    writer = threading.Thread(target=write_rubbish, args=(stop, written))
    writer.start()
    try:
        results = [in_root('sh', '-ec', WORK) for _ in range(3)]
    finally:
        stop.set()
        writer.join()
    assert written, 'no cache was found to write to'
    for result in results:
        assert (result.code, result.out) == (0, right.out), str(result)


def test_each_user_has_a_cache(in_root):
    started = threading.Thread(target=in_root, args=('sh', '-c', USERS))
    started.start()
    found = set()
    while started.is_alive():
        found |= {store.stat().st_ino for name, store in list(stores()) if name == 'tail' and store.exists()}
        time.sleep(0.2)
    assert len(found) == 2, f'{len(found)} caches'


@pytest.mark.parametrize('call', CALLS)
def test_a_call_closes_it(call, compiler, ours, work):
    built = work / f'closes-{call}'
    output(compiler('arm64'), '-static', f'-DCALL={CALLS[call]}', '-o', built, '-xc', '-', stdin=CALL)
    program = subprocess.Popen([ours / 'qemu-aarch64', built], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    store = Path(f'/proc/{program.pid}/fd/1024')
    assert program.stdout.readline() == b'before\n'
    assert 'qemu-tb-cache' in os.readlink(store)
    program.stdin.write(b'\n')
    program.stdin.flush()
    assert program.stdout.readline() == b'after\n'
    assert not store.exists()
    program.communicate(b'\n')
    assert program.returncode == 0
