"""An engine, a registry and images for the clients of binfmtctl. This machine's binfmt_misc is used, and left empty."""

import os
import shlex
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine import PORT, REGISTRY, entries, make_root, mounted, wait_for
from machine import CACHE, SCRIPTS, TOP, Result, need, output, own_arch, run, script


@pytest.fixture(scope='session', autouse=True)
def machine() -> Iterator[None]:
    """This machine, which must have no entries, and has none and no other mounts afterwards."""
    assert os.getuid() == 0, 'cannot start a container engine without root'
    need('mmdebstrap', 'arch-test', 'skopeo')
    found, before = entries(), mounted()
    assert not found, f'this machine has binfmt_misc entries: {found}: uninstall them, or use another machine'
    yield
    assert (entries(), mounted()) == ([], before), 'something is left on this machine'


@pytest.fixture(scope='session')
def layout(pytestconfig: pytest.Config) -> Path:
    """The image on disk."""
    script('image', *shlex.split(pytestconfig.getoption('image')))
    return TOP / 'target/image'


@pytest.fixture(scope='session')
def archive(layout: Path) -> Path:
    """The same for this machine alone, for `docker load`."""
    return layout.with_name(f'{layout.name}-{own_arch()}.tar')


@pytest.fixture(scope='session')
def docker(machine: None, work: Path) -> Iterator[Callable[..., Result]]:
    """Runs docker, of a private engine; its containers have no network but the machine's."""
    # Only this image store takes images of several platforms; it is the default from Docker 29 on.
    (work / 'daemon.json').write_text('{"features": {"containerd-snapshotter": true}}')
    started = script('docker-engine', 'start', work / 'e', '--config-file', work / 'daemon.json')
    words = [word for word in shlex.split(started) if '=' in word]
    env = dict(word.split('=', 1) for word in words)

    def docker_command(*words: str | Path, timeout: float = 3600) -> Result:
        return run('docker', *words, env=env, timeout=timeout)

    # The variables are for finding docker itself, too.
    os.environ['PATH'] = env['PATH']
    yield docker_command
    for image in docker_command('images', '-q', '--filter', 'reference=*binfmtctl').out.split()[:1]:
        docker_command('run', '--rm', '--privileged', image, '--uninstall', 'all')
    output(SCRIPTS / 'docker-engine', 'stop', work / 'e')


@pytest.fixture(scope='session')
def registry(work: Path) -> Iterator[str]:
    """A registry on the loopback address, because an index of several platforms has to come from one."""
    program = CACHE / 'docker-registry'
    if not program.exists():
        (work / 'registry').mkdir()
        codename = output('sh', '-c', '. /etc/os-release && echo "$VERSION_CODENAME"')
        script('debian', 'packages', '--from', codename, work / 'registry', own_arch(), 'docker-registry')
        output('dpkg-deb', '-x', next((work / 'registry').glob('*.deb')), work / 'registry/root')
        CACHE.mkdir(parents=True, exist_ok=True)
        shutil.copy(work / 'registry/root/usr/bin/docker-registry', program)

    def listening() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(('127.0.0.1', PORT)) == 0

    assert not listening(), f'port {PORT} is in use: the registry of an earlier test may still run'
    (work / 'registry.yml').write_text(
        'version: 0.1\nlog: { level: error }\n'
        f'storage: {{ filesystem: {{ rootdirectory: {work}/blobs }} }}\nhttp: {{ addr: "{REGISTRY}" }}\n'
    )
    with (work / 'registry.log').open('w') as log:
        process = subprocess.Popen([program, 'serve', work / 'registry.yml'], stdout=log, stderr=log)
    assert wait_for(lambda: listening() or process.poll() is not None, 30) and process.poll() is None, (
        f'cannot start a registry: {(work / "registry.log").read_text()[-500:]}'
    )
    yield REGISTRY
    process.terminate()
    process.wait()


@pytest.fixture(scope='session')
def pushed(layout: Path, registry: str) -> Result:
    """How skopeo copied the image for both hosts to the registry."""
    words = ['--insecure-policy', 'copy', '--quiet', '--all', '--dest-tls-verify=false']
    return run('skopeo', *words, f'oci:{layout}', f'docker://{registry}/binfmtctl')


@pytest.fixture(scope='session')
def image(pushed: Result, docker: Callable[..., Result]) -> str:
    """The image's name, pulled by the engine."""
    assert pushed.code == 0, str(pushed)
    pulled = docker('pull', '-q', f'{REGISTRY}/binfmtctl')
    assert pulled.code == 0, str(pulled)
    return f'{REGISTRY}/binfmtctl'


@pytest.fixture(scope='session')
def binfmtctl(image: str, docker: Callable[..., Result]) -> Callable[..., Result]:
    """Runs the image as people do."""
    return lambda *words: docker('run', '--rm', '--privileged', image, *words)


@pytest.fixture(scope='session')
def root_of(work: Path) -> Callable[[str], Path]:
    """The archive of a root of a foreign architecture; its emulator has to be installed."""

    def make(arch: str) -> Path:
        suite = script('debian', 'suite', arch, '?essential', 'apt')
        return make_root(f'root-{arch}.tar', work, suite, f'--architectures={arch}')

    return make


@pytest.fixture(scope='module')
def installed(binfmtctl: Callable[..., Result]) -> Iterator[None]:
    """All emulators are installed for one file of scenarios, and gone after it."""
    result = binfmtctl('--install', 'all')
    assert result.code == 0, str(result)
    yield
    assert binfmtctl('--uninstall', 'all').code == 0
    assert entries() == [], 'an entry is left'
