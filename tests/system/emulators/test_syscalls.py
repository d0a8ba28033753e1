"""System calls that emulators tend to lack, put to use in every guest: docs/system-calls.md is what came of it.

UPDATE_EXPECTED=1 writes the table anew. What this machine's kernel does not do natively is not looked at, and told.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from machine import TOP, need, output, own_arch
from qemu import ARCHES

PROBES = Path(__file__).parent / 'syscalls.c'
DOCUMENT = TOP / 'docs/system-calls.md'
# Static programs for alpha crash, with Debian's emulators, too.
GUESTS = [arch for arch in ARCHES if arch not in (own_arch(), 'alpha')]
ROW = re.compile(r'\| `(?P<call>.*)` \| (?P<since>\S+) \| (?P<ours>.*) \| (?P<debians>.*) \|')


def join(results: dict[str, str]) -> str:
    """What the guests have to say, the most frequent first and without the guests' names."""
    usual = Counter(results.values()).most_common(1)[0][0]
    others = {text: [guest for guest in results if results[guest] == text] for text in sorted(set(results.values()))}
    return '; '.join([usual, *(f'{text} on {", ".join(others[text])}' for text in others if text != usual)])


def split(cell: str) -> dict[str, str]:
    """The inverse of join."""
    usual, *others = cell.split('; ')
    results = dict.fromkeys(GUESTS, usual)
    for text, _, guests in (other.rpartition(' on ') for other in others):
        results |= dict.fromkeys(guests.split(', '), text)
    return results


@dataclass
class Row:
    """A call: the kernel that brought it, and what it does in each guest with each emulator."""

    since: str
    ours: dict[str, str]
    debians: dict[str, str]


@dataclass
class Table:
    """The document."""

    rows: dict[str, Row]
    found: dict[str, Row] = field(default_factory=dict)

    @classmethod
    def read(cls) -> 'Table':
        found = (ROW.fullmatch(line) for line in DOCUMENT.read_text().splitlines())
        return cls({m['call']: Row(m['since'], split(m['ours']), split(m['debians'])) for m in found if m})

    def write(self) -> None:
        lines = [line for line in DOCUMENT.read_text().splitlines() if not line.startswith('| `')]
        for number, line in enumerate(lines):
            if line.startswith('|---'):
                lines[number + 1 : number + 1] = [
                    f'| `{call}` | {row.since} | {join(row.ours)} | {join(row.debians)} |'
                    for call, row in self.found.items()
                ]
        DOCUMENT.write_text('\n'.join(lines) + '\n')


def results(*words: str | Path) -> dict[str, tuple[str, str]]:
    """What the probes found: for each call, the kernel that brought it, and how it went."""
    lines = [line.split('\t') for line in output(*words, timeout=300).splitlines()]
    return {call: (since, 'wrong' if text.startswith('wrong') else text) for call, since, text in lines}


@pytest.fixture(scope='module')
def native(work, note) -> dict[str, tuple[str, str]]:
    need('gcc', 'libc6-dev')
    built = work / 'syscalls-native'
    output('gcc', '-O2', '-static', '-pthread', '-o', built, PROBES)
    found = results(built)
    lacking = [f'{call} ({text})' for call, (_, text) in found.items() if not text.startswith('works')]
    if lacking:
        note(f"not looked at, as this machine's own kernel does not do it: {', '.join(lacking)}")
    return found


@pytest.fixture(scope='module')
def table(native) -> Iterator[Table]:
    table = Table.read()
    update = os.environ.get('UPDATE_EXPECTED')
    for call, (since, _) in native.items():
        known = table.rows.get(call, Row(since, dict.fromkeys(GUESTS, '?'), dict.fromkeys(GUESTS, '?')))
        table.found[call] = Row(since, known.ours, known.debians)
    yield table
    if update:
        table.write()


def test_the_table_names_what_is_tried(native, table):
    if not os.environ.get('UPDATE_EXPECTED'):
        assert {call: row.since for call, row in table.rows.items()} == {call: row[0] for call, row in native.items()}


@pytest.mark.parametrize('arch', GUESTS)
def test_guest(arch, native, table, compiler, ours, debians, work):
    built = work / f'syscalls-{arch}'
    output(compiler(arch), '-O2', '-static', '-pthread', '-o', built, PROBES)
    wrong = []
    for whose, emulators in ('ours', ours), ('debians', debians):
        found = results(emulators / f'qemu-{ARCHES[arch].target}', built)
        assert list(found) == list(native), f'with {whose}, the probes ended early'
        for call, (_, text) in found.items():
            if native[call][1].startswith('works'):
                expected = getattr(table.found[call], whose)
                if expected[arch] != text:
                    wrong.append(f'{call} with {whose}: {text}, not {expected[arch]}')
                    expected[arch] = text
    if not os.environ.get('UPDATE_EXPECTED'):
        assert not wrong, '\n'.join(wrong)
