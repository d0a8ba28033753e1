"""CPython's own regression tests, of threads, signals, memory, processes: no worse than with Debian's emulators."""

import re
import xml.etree.ElementTree as ET

import pytest

from machine import output, script

ARCHES = ['arm64', 'armhf', 'riscv64', 's390x', 'ppc64el', 'i386']
MODULES = [
    'test_threading',
    'test_signal',
    'test_mmap',
    'test_ctypes',
    'test_subprocess',
    'test_multiprocessing_fork',
    'test_multiprocessing_forkserver',
    'test_multiprocessing_spawn',
    'test_asyncio',
]
PART_FAILED = r'^(?:ERROR|FAIL): \w+ \(test\.[\w.]*?(\w+\.\w+)\) [(\[]'
# For one module, on a machine that does other things, too.
PATIENCE = 1800


def try_module(guest, whose, module, only=()):
    """The tests that fail, by name; `(all)` where the module did not come to its end. And how many were run."""
    report = guest.home / 'out/report.xml'
    report.unlink(missing_ok=True)
    words = ['python3', '-m', 'test', '-W', '--timeout', str(PATIENCE // 2), '--junit-xml', '/mnt/report.xml', module]
    words += [f'--match={name}' for name in only]
    result = guest.run(whose, *words, timeout=PATIENCE)
    if not report.exists():
        return {'(all)': str(result)}, 0
    cases = list(ET.parse(report).iter('testcase'))
    # The report leaves out what fails in a part of a test; the text names it.
    failed = {name: ['in a part'] for name in re.findall(PART_FAILED, result.out + result.err, re.MULTILINE)}
    for case in cases:
        wrong = [child for child in case if child.tag in ('failure', 'error')]
        if wrong:
            # Of `module.Class.test`, what --match takes.
            name = '.'.join(case.get('name', '').split('.')[-2:])
            failed[name] = (wrong[0].text or '').strip().splitlines()[-1:]
    if result.code is None or (result.code != 0 and not failed):
        failed['(all)'] = str(result)
    return failed, len(cases)


@pytest.fixture(scope='module')
def python_of(guest, work):
    """Makes the root of an architecture; the package of its tests is called by the version of its python3."""
    made = {}

    def make(arch):
        if arch not in made:
            directory = work / f'python-{arch}'
            directory.mkdir()
            script('debian', 'packages', directory, arch, 'python3-minimal')
            version = output('dpkg-deb', '-f', next(directory.glob('*.deb')), 'Version')
            tests = f'libpython{".".join(version.split(".")[:2])}-testsuite'
            made[arch] = guest('cpython', arch, 'python3', tests)
        return made[arch]

    return make


@pytest.mark.parametrize('module', MODULES)
@pytest.mark.parametrize('arch', ARCHES)
def test_module(arch, module, python_of, note):
    python = python_of(arch)
    failed, count = try_module(python, 'ours', module)
    if not failed:
        assert count, 'nothing was tested'
        return
    with_debians, _ = try_module(python, 'debians', module)
    worse = {name: why for name, why in failed.items() if name not in with_debians}
    # Some depend on time; what fails by that once does not three times.
    for _ in range(2):
        if worse:
            again, _ = try_module(python, 'ours', module, [] if '(all)' in worse else list(worse))
            worse = {name: again[name] for name in worse if name in again}
    both = sorted(set(failed) & set(with_debians))
    note(f"{arch}: {module}: {count} tests; not with Debian's either: {' '.join(both) or 'none'}")
    assert not worse, f"with Debian's only: {worse}"
