"""What the patches of scripts/patches must not break, by the programs of tests/qemu.

To add a program, add its C source there. It is compiled for each architecture and has to end with 0. A line of its
first comment may say more, as words KEY=VALUE:

    test-qemu: arches=arm64,s390x runs=20 cpus=default,max says='all right' like=debian timeout=60 flags='-O0 -lm'

    arches   for which it is compiled, by Debian's names (arm64,armhf,riscv64,s390x,ppc64el,i386)
    runs     how often it runs (1)
    cpus     values of QEMU_CPU to run it with; default: without that variable (default)
    says     what it must print (anything)
    like     debian: it must print what it prints with Debian's emulator, and end with the same status
    timeout  in seconds, for each run (120)
    flags    for the compiler, at the end of its command
    dynamic  for which architectures, or all, it is not linked statically
    broken   for which architectures, or all, it is known to fail; when it does not any more, that is a failure, too
"""

import re
import resource
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from machine import TOP, output, run
from qemu import ARCHES


@dataclass
class Program:
    """What the comment of a program says."""

    source: Path
    arches: str = 'arm64,armhf,riscv64,s390x,ppc64el,i386'
    runs: str = '1'
    cpus: str = 'default'
    says: str = ''
    like: str = ''
    timeout: str = '120'
    flags: str = ''
    dynamic: str = ''
    broken: str = ''

    @classmethod
    def read(cls, source: Path) -> 'Program':
        """Raises ValueError where the comment says what cannot be understood."""
        comment = re.match(r'\s*/\*(.*?)\*/', source.read_text(), re.DOTALL)
        lines = (
            [line.split('test-qemu:', 1)[1] for line in comment[1].splitlines() if 'test-qemu:' in line]
            if comment
            else []
        )
        settings = dict(word.partition('=')[::2] for line in lines for word in shlex.split(line))
        try:
            program = cls(source, **settings)
        except TypeError as error:
            raise ValueError(f'{source}: test-qemu: {error}') from error
        if not set(program.arches.split(',')) <= set(ARCHES):
            raise ValueError(f'{source}: test-qemu: arches={program.arches} names one that scripts/qemu.py does not')
        if program.like not in ('', 'debian') or not program.runs.isdecimal():
            raise ValueError(f'{source}: test-qemu: like={program.like} runs={program.runs}')
        return program

    def holds(self, key: str, arch: str) -> bool:
        """Whether it says that of an architecture: by its name, or of all."""
        return bool({arch, 'all'} & set(getattr(self, key).split(',')))


def cases():
    for source in sorted((TOP / 'tests/qemu').glob('*.c')):
        program = Program.read(source)
        for arch in program.arches.split(','):
            for cpu in program.cpus.split(','):
                name = f'{source.stem}-{arch}' + ('' if cpu == 'default' else f'-{cpu}')
                broken = program.holds('broken', arch)
                known = pytest.mark.xfail(broken, reason='told in its comment', strict=True)
                yield pytest.param(program, arch, cpu, id=name, marks=known)


def setup_module():
    # Some programs are to be ended by signals.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def start(emulators, program, arch, cpu, built):
    env = {} if cpu == 'default' else {'QEMU_CPU': cpu}
    if program.holds('dynamic', arch):
        env['QEMU_LD_PREFIX'] = f'/usr/{ARCHES[arch].triplet}'
    return run(emulators / f'qemu-{ARCHES[arch].target}', built, env=env, timeout=float(program.timeout))


@pytest.mark.parametrize(('program', 'arch', 'cpu'), cases())
def test_program(program, arch, cpu, request, compiler, ours, work):
    built = work / 'patches' / arch / program.source.stem
    if not built.exists():
        built.parent.mkdir(parents=True, exist_ok=True)
        flags = ['-O2', '-pthread', '-o', built, program.source, *shlex.split(program.flags)]
        if not program.holds('dynamic', arch):
            flags.append('-static')
        output(compiler(arch), *flags)
    emulator = ours / f'qemu-{ARCHES[arch].target}'
    assert emulator.exists(), f'there is no {emulator.name} in what --bins names: choose others with --arch'
    wanted = start(request.getfixturevalue('debians'), program, arch, cpu, built) if program.like else None
    runs = request.config.getoption('repeat') or int(program.runs)
    for number in range(1, runs + 1):
        result = start(ours, program, arch, cpu, built)
        told = f'run {number} of {runs}: {result}'
        if wanted:
            assert (result.code, result.out) == (wanted.code, wanted.out), f'{told}\nwith Debian: {wanted}'
        else:
            assert result.code == 0, told
            assert not program.says or result.out.strip() == program.says, told
