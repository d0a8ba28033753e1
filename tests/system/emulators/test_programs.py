"""QEMU's own test programs, built with Debian's cross compilers: no worse than with Debian's emulators."""

import os
import re
import resource
import subprocess

import pytest

from machine import need, run
from qemu import ARCHES

COMMON = ['arm64', 'armhf', 'riscv64', 's390x', 'ppc64el', 'mips64el']
# Not alpha and sh4: no static program of Debian's cross compilers for them runs on any emulator, even Debian's own.
RARE = ['i386', 'mips64', 'mipsel', 'mips', 'ppc64', 'powerpc', 'sparc64', 'hppa', 'm68k']

WORDS = {
    'model': 'with QEMU_CPU=max only',
    'better': 'with ours only',
    'both': "not with Debian's either",
    'skipped': 'QEMU itself leaves out',
    'unlike': "not the output of Debian's",
    'worse': "with Debian's only",
}


class Suite:
    """The test programs for one architecture, built."""

    def __init__(self, arch, source, directory, compiler):
        self.target, self.source, self.directory = ARCHES[arch].target, source, directory
        directory.mkdir(parents=True)
        (directory / 'Makefile').symlink_to(source / 'tests/tcg/Makefile.target')
        (directory / 'config-target.mak').write_text(
            f'TARGET={self.target}-linux-user\nTARGET_NAME={self.target}\nCC={compiler}\n'
            f'BUILD_STATIC=y\nSRC_PATH={source}\n'
        )
        # What does not build fails below, by name.
        run('make', '-s', '-k', '-j', str(os.cpu_count()), cwd=directory)

    def names(self):
        """Without those that test QEMU's debugger and plugins."""
        found = re.findall(r'^  run-(\S+)', run('make', '-s', 'help', cwd=self.directory).out, re.MULTILINE)
        return [name for name in found if not name.startswith(('gdbstub-', 'plugin-'))]

    def outcome(self, emulators, name, **env):
        """How a test ends: passed, failed or skipped; and what make said."""
        result = run('make', '-s', f'QEMU={emulators}/qemu-{self.target}', f'run-{name}', cwd=self.directory, env=env)
        said = result.out + result.err
        if result.code != 0:
            return 'failed', said
        return ('skipped' if f'SKIPPED {name} on' in said else 'passed'), said

    def judge(self, ours, debians, name):
        """The word for one test, a key of WORDS or `passed`."""
        printed = self.directory / f'{name}.out'
        mine, _ = self.outcome(ours, name)
        what_mine = printed.read_bytes() if printed.exists() else b''
        printed.unlink(missing_ok=True)
        theirs, said = self.outcome(debians, name)
        if mine == theirs == 'passed':
            # Where QEMU has no reference, Debian's output is it.
            what_theirs = printed.read_bytes() if printed.exists() else b''
            return 'unlike' if 'no reference' in said and what_mine != what_theirs else 'passed'
        if mine == theirs == 'failed':
            return 'both'
        if (mine, theirs) == ('passed', 'failed'):
            return 'better'
        if mine == 'skipped':
            return 'skipped'
        # Programs for one architecture may need instructions that our CPU models leave out on purpose.
        for_one = not any((self.source / 'tests/tcg/multiarch').rglob(f'{name}.c'))
        return 'model' if for_one and self.outcome(ours, name, QEMU_CPU='max')[0] == 'passed' else 'worse'


def compare(arch, qemu_source, compiler, ours, debians, work, note):
    need('make')
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    suite = Suite(arch, qemu_source, work / 'programs' / arch, compiler(arch))
    lists = {word: [] for word in ['passed', *WORDS]}
    for name in suite.names():
        lists[suite.judge(ours, debians, name)].append(name)
    passed = len(lists['passed'] + lists['better'])
    tried = sum(map(len, lists.values())) - len(lists['skipped'])
    line = f'{suite.target}: {passed} of {tried} programs pass'
    line += ''.join(f'; {what}: {" ".join(lists[word])}' for word, what in WORDS.items() if lists[word])
    note(line)
    assert not lists['worse'] + lists['unlike'], line
    assert lists['passed'], f'{line}: nothing was tested'
    subprocess.run(['rm', '-r', suite.directory], check=True)


@pytest.mark.parametrize('arch', COMMON)
def test_common(arch, qemu_source, compiler, ours, debians, work, note):
    compare(arch, qemu_source, compiler, ours, debians, work, note)
