"""Emulators for hosts of other architectures, run by emulation and counted; for scripts/bench.

Such an emulator is itself the program of another one, which has a plugin that counts what the first one executes.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(SCRIPTS))
from qemu import ARCHES, unpack  # noqa: E402

# The CPU that a host's emulators are counted on, where another one than the emulator's default is more like what people
# have: with LSE and RCpc, as Graviton 2 and Ampere Altra.
HOST_CPUS = {'arm64': 'neoverse-n1'}


@dataclass(frozen=True)
class Counted:
    """One workload: a program that starts no other one. @root, @data and @own are directories, * is a pattern."""

    name: str
    argv: list[str]


PYTHON = """
import json, re
t = json.dumps([{str(i): [i, i / 7]} for i in range(1500)])
print(len(json.loads(t)), len(re.findall("[0-9]+5", t)), sum(hash(str(i)) & 1 for i in range(15000)))"""
PERL = 'my %h; $h{$_ % 7919} += length($_) x 2 for 1 .. 40000; print join(q(,), (sort { $a <=> $b } keys %h)[0 .. 3])'
COUNTED = [
    Counted('true', ['@root/usr/bin/true']),
    # The first run would compile what the others then find.
    Counted('python', ['@root/usr/bin/python3', '-B', '-S', '-E', '-c', PYTHON]),
    Counted('perl', ['@root/usr/bin/perl', '-e', PERL]),
    Counted('gzip', ['@root/usr/bin/gzip', '-c', '@data/part']),
    Counted('xz', ['@root/usr/bin/xz', '-2', '-c', '@data/part']),
    Counted('sha256', ['@root/usr/bin/openssl', 'dgst', '-sha256', '@data/data']),
    Counted('sort', ['@root/usr/bin/sort', '-o', '/dev/null', '@data/lines']),
    Counted('cc1', ['@root/usr/libexec/gcc/*/*/cc1', '-quiet', '-O2', '-o', '/dev/null', '@data/plain.c']),
    Counted('floats', ['@own/floats']),
    Counted('atomics', ['@own/atomics']),
    Counted('threads', ['@own/threads']),
]

PLAIN = r"""
struct list@ { struct list@ *next; int key, value; };
int find@(struct list@ *at, int key)
{
    for (; at; at = at->next) if (at->key == key) return at->value * @ + (at->value >> 3);
    return -@;
}
void sort@(int *v, int n)
{
    for (int i = 1; i < n; i++)
        for (int k = i; k > 0 && v[k - 1] > v[k]; k--) { int x = v[k]; v[k] = v[k - 1] ^ @; v[k - 1] = x; }
}"""


def make_data(data: Path) -> None:
    """What the workloads read, beside what is there for others."""
    content = (data / 'data').read_bytes()
    (data / 'part').write_bytes(content[-700000:-400000])
    (data / 'lines').write_text(''.join(f'{i * 7919 % 20011} {i * i % 97}\n' for i in range(20000)))
    (data / 'plain.c').write_text(''.join(PLAIN.replace('@', str(i)) for i in range(1, 9)) + '\n')


def compile_programs(guest: str, to: Path) -> None:
    """The static programs of bench.d, for a guest."""
    triplet = ARCHES[guest].triplet
    own = subprocess.run(['dpkg', '--print-architecture'], capture_output=True, text=True, check=True).stdout.strip()
    compiler = 'gcc' if guest == own else f'{triplet}-gcc'
    packages = ['gcc', 'libc6-dev']
    if guest != own:
        packages = [f'{compiler}:gcc-{triplet.replace("_", "-")}', f'libc6-dev-{guest}-cross']
    subprocess.run(['sh', '-c', '. "$0/lib"; need "$@"', SCRIPTS, *packages], check=True)
    to.mkdir()
    for name in 'floats', 'atomics', 'threads':
        source = SCRIPTS / f'bench.d/{name}.c'
        words = [compiler, '-O2', '-static', '-pthread', '-o', to / name, source, '-lm']
        subprocess.run(words, check=True)


class Counter:
    """An emulator of a host that runs here, with the plugin."""

    def __init__(self, host: str, cpu: str, cache: Path, scratch: Path) -> None:
        target = ARCHES[host].target
        lock = subprocess.run(['sha256sum', SCRIPTS.parent / 'qemu-bins/source.lock'], capture_output=True, check=True)
        made = cache / f'qemu-plugins-{lock.stdout[:8].decode()}-{target}'
        if not (made / 'manifest').is_file():
            subprocess.run([SCRIPTS / 'qemu-build', '--plugins', '--targets', target, '--out', made], check=True)
        self.program = unpack(made, scratch / 'counter', [target]) / f'qemu-{target}'
        self.plugin, self.counts = scratch / 'count.so', scratch / 'counts'
        flags = subprocess.run(
            ['pkg-config', '--cflags', 'glib-2.0'], capture_output=True, text=True, check=True
        ).stdout
        words = ['gcc', '-O2', '-shared', '-fPIC', *flags.split(), f'-I{made}', '-o', self.plugin]
        subprocess.run([*words, SCRIPTS / 'bench.d/count.c'], check=True)
        cpu = cpu or HOST_CPUS.get(host, '')
        self.cpu = ['-cpu', cpu] if cpu else []

    def count(
        self, emulator: Path, cpu: str, env: dict[str, str], work: Counted, places: dict[str, Path]
    ) -> dict[str, int]:
        """What the emulator executes, from its start to the end of the program. Raises ValueError if that fails."""
        argv = []
        for word in work.argv:
            for place, path in places.items():
                word = word.replace(f'@{place}/', f'{path}/')
            if '*' in word and word.startswith('/'):
                word = str(next(Path('/').glob(word.lstrip('/')), word))
            argv.append(word)
        # At the same addresses each time.
        words = ['setarch', '-R', self.program, *self.cpu, '-plugin', f'{self.plugin},out={self.counts}']
        words += [emulator, *(['-cpu', cpu] if cpu else []), '-L', places['root'], *argv]
        self.counts.unlink(missing_ok=True)
        # Both emulators would read QEMU_CPU and its like.
        env = {'PATH': os.environ['PATH'], 'LC_ALL': 'C', **env}
        done = subprocess.run(
            words, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
        )
        if done.returncode != 0 or not self.counts.is_file():
            said = done.stderr.decode(errors='replace').strip().splitlines()[-5:]
            raise ValueError('\n'.join([f'it ended with {done.returncode}', *said]))
        lines = self.counts.read_text().splitlines()
        return {name: int(number) for name, number in map(str.split, lines)}


def need_tools() -> None:
    """What a plugin is compiled with."""
    if not shutil.which('gcc') or not shutil.which('pkg-config'):
        subprocess.run(['sh', '-c', '. "$0/lib"; need gcc libc6-dev pkg-config libglib2.0-dev', SCRIPTS], check=True)
