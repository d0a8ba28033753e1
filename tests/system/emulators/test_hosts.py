"""Machines of other architectures: the program and emulators that are built for them, started here by emulation."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from machine import CACHE, Result, on_bookworm, own_arch, run, script
from qemu import ARCHES, rows, unpack

# Hosts that are tried, by Debian's names, and what they are to emulate: two of these that they are not themselves.
HOSTS = ['arm64', 'riscv64', 'ppc64el', 's390x', 'loong64']
GUESTS = ['arm64', 'amd64', 'riscv64']


@dataclass(frozen=True)
class Host:
    """What was built for a host, and how to start it."""

    arch: str
    program: Path
    emulators: Path
    # Those that are tried, of what it has emulators for.
    guests: list[str]
    run: Callable[..., Result]


@pytest.fixture(scope='module', params=['debian', 'source'])
def built(request, work):
    """Builds the program with Debian's emulators or with our own of some guests in it, once for each host."""
    whose, done = request.param, {}

    def build(arch):
        if arch not in done:
            guests = [guest for guest in GUESTS if guest != arch][:2]
            bins = work / 'hosts' / f'{arch}-{whose}'
            targets = [ARCHES[guest].target for guest in guests]
            if whose == 'source' and arch == 'riscv64' and on_bookworm():
                pytest.skip("Debian 12's linker ends with a signal on newer suites' libraries for riscv64")
            if whose == 'debian':
                script('get-qemu', '--host', arch, '--out', bins)
            else:
                script('qemu-build', '--host', arch, '--targets', ','.join(targets), '--out', bins)
            words = ['build', '--host', arch, '--release', '--locked']
            program = shutil.copy(script(*words, env={'BINFMTCTL_QEMU_BINS': str(bins)}), bins / 'binfmtctl')
            done[arch] = Path(program), unpack(bins, bins / 'unpacked', targets), guests
        return done[arch]

    return build


@pytest.fixture(scope='module')
def own_cache(work):
    """`run` keeps what it unpacks apart from this machine's."""
    return {'XDG_CACHE_HOME': str(work / 'hosts/cache')}


@pytest.fixture(scope='module', params=[arch for arch in HOSTS if arch != own_arch()])
def arch(request):
    return request.param


@pytest.fixture(scope='module')
def host(arch, built, binfmtctl, own_cache):
    if arch == 'loong64' and on_bookworm():
        pytest.skip('Debian 12 has no compiler for loong64')
    program, emulators, guests = built(arch)

    def start(*words):
        """Runs a command where this machine knows that host's programs, and no others."""
        return run(binfmtctl, 'run', '--map-root', '--platform', arch, '--', *words, env=own_cache, timeout=600)

    return Host(arch, program, emulators, guests, start)


def busybox(guest):
    script('guests', CACHE / 'guests', guest)
    return CACHE / 'guests' / guest / 'bin/busybox'


def test_says_what_it_holds(host):
    result = host.run(host.program, '--version')
    assert result.code == 0, str(result)
    for guest in host.guests:
        assert f'qemu-{ARCHES[guest].target}' in result.out


def test_help(host):
    result = host.run(host.program, 'run', '--help')
    assert (result.code, result.out.splitlines()[0]) == (
        0,
        'Run a program of another architecture, without root and without changing the machine',
    ), str(result)


def test_status_has_its_own_platform(host):
    result = host.run(host.program, '--status', '--format', 'json')
    assert result.code == 0, str(result)
    assert json.loads(result.out)['supported'][0] == f'linux/{ARCHES[host.arch].oci}'


def test_plans_to_register_what_does_not_run(host):
    """What the kernel here runs by itself works already, also where an emulated program asks."""
    result = host.run(host.program, '--dry-run', '--install', 'all')
    assert result.code == 0, str(result)
    held = {row[0] for row in rows(host.program.parent / 'manifest')}
    for arch in ['arm64', 'riscv64', 's390x', 'ppc64el', own_arch()]:
        planned = f'register qemu-{ARCHES[arch].target} ' in result.out + result.err
        foreign = arch not in (host.arch, own_arch())
        assert planned == (foreign and ARCHES[arch].target in held), str(result)


@pytest.mark.parametrize('which', [0, 1])
def test_emulator_runs_programs(which, host):
    guest = host.guests[which]
    emulator = host.emulators / f'qemu-{ARCHES[guest].target}'
    words = [
        emulator,
        busybox(guest),
        'sh',
        '-c',
        'uname -m; i=0; while [ $i -lt 300 ]; do (:); i=$((i + 1)); done; echo $i',
    ]
    result = host.run(*words)
    assert (result.code, result.out) == (0, f'{ARCHES[guest].target}\n300\n'), str(result)


def test_writes_what_a_boot_registers(host, binfmtctl, work):
    """Its emulators, and the lines that this machine's own program writes. The kernel here is no such host's."""
    written, guest = [], next(guest for guest in host.guests if guest != own_arch())
    for whose, program in ('theirs', host.program), ('ours', binfmtctl):
        root = work / f'{host.program.parent.name}-{whose}'
        (root / 'usr/lib/systemd').mkdir(parents=True)
        (root / 'usr/lib/systemd/systemd-binfmt').touch(mode=0o755)
        words = [program, 'persist', '--root', root, '--install', guest]
        result = host.run(*words) if whose == 'theirs' else run(*words)
        assert result.code == 0, str(result)
        written.append((root / 'etc/binfmt.d/zz-binfmtctl.conf').read_text())
        if whose == 'theirs':
            name = f'qemu-{ARCHES[guest].target}'
            unpacked = (root / 'usr/local/lib/binfmtctl' / name).read_bytes()
            assert unpacked == (host.emulators / name).read_bytes()
    assert written[0] == written[1]


@pytest.mark.skipif(own_arch() == 'arm64', reason='an emulator for this machine runs without being counted')
def test_full_barriers_are_rare_on_arm64(work):
    """amd64 programs with threads: loads are followed by a barrier for loads, stores preceded by one for stores."""
    bins, counted = work / 'hosts/barriers', work / 'hosts/barriers.json'
    script('qemu-build', '--host', 'arm64', '--targets', 'x86_64', '--out', bins)
    script('bench', '--host', 'arm64', '--only', 'true,threads', '--json', counted, f'ours={bins}')
    kinds = {row['work']: row['kinds']['ours'] for row in json.loads(counted.read_text())['results']}
    assert min(kinds['threads'][kind] for kind in ('dmb-ishld', 'dmb-ishst')) > 1_000_000, kinds
    # What is left are the emulator's own.
    assert kinds['threads']['dmb-ish'] < kinds['threads']['dmb-ishst'] // 100, kinds
    # A program with one thread needs none.
    assert sum(kinds['true'][kind] for kind in ('dmb-ishld', 'dmb-ishst')) < 100_000, kinds
