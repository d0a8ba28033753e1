"""stress-ng, which verifies what its stressors compute, for CPU, memory, signals, threads and processes."""

import re

import pytest

ARCHES = ['arm64', 'armhf', 'riscv64', 's390x', 'ppc64el', 'i386']
# Its classes; that of schedulers has threads and processes.
CLASSES = ['cpu', 'memory', 'signal', 'scheduler']
# They take all memory of the machine until somebody is killed for it, want hardware, or (bad-altstack) write beyond
# their own stack into whatever lies below.
LEFT_OUT = {
    'bad-altstack',
    'bigheap',
    'brk',
    'stack',
    'oom-pipe',
    'resources',
    'physpage',
    'physmmap',
    'numa',
    'cpu-online',
    'pagemove',
}
WORDS = {2: 'failed', 3: 'no resources', 4: 'not implemented', None: 'ran out of time'}


def try_stressor(guest, whose, name):
    """An empty word where it worked, else how it ended."""
    words = ['stress-ng', f'--{name}', '2', '--timeout', '1', '--verify', '--temp-path', '/tmp', '--oomable']
    result = guest.run(whose, *words, timeout=90)
    if result.code == 0:
        return ''
    lines = [line for line in (result.out + result.err).splitlines() if re.search('fail|error|signal', line)]
    return ' '.join([WORDS.get(result.code, f'status {result.code}'), *lines[:1]])


@pytest.mark.parametrize('kind', CLASSES)
@pytest.mark.parametrize('arch', ARCHES)
def test_class(arch, kind, guest, note):
    stress = guest('stress', arch, 'stress-ng')
    listed = stress.run('ours', 'stress-ng', '--class', f'{kind}?')
    assert listed.code == 0, str(listed)
    names = [name for name in (listed.out + listed.err).split(':', 1)[1].split() if name not in LEFT_OUT]
    assert len(names) > 5, str(listed)
    both, worse, better = [], {}, []
    for name in names:
        mine = try_stressor(stress, 'ours', name)
        if not mine:
            continue
        theirs = try_stressor(stress, 'debians', name)
        # What depends on time fails once, not twice.
        mine = mine if theirs else try_stressor(stress, 'ours', name)
        if mine and not theirs:
            worse[name] = mine
        elif mine:
            both.append(f'{name} ({mine.split(" stress-ng")[0]})')
        else:
            better.append(name)
    passed = len(names) - len(both) - len(worse)
    told = f"; not with Debian's either: {', '.join(both)}" if both else ''
    note(f'{arch}: {kind}: {passed} of {len(names)} stressors pass{told}')
    assert not worse, f"with Debian's only: {worse}"
    assert passed > len(names) // 2, 'too little was tested'
