"""podman with and without root, in a root of its own: it wants newer libraries than some machines have.

These scenarios follow one another.
"""

import resource
import shutil
import subprocess
from pathlib import Path

import pytest

from engine import VERSION, entries, make_root, supported, wait_for
from machine import CACHE, output, own_arch, run, script

HERE = Path(__file__).parent
IMAGE = f'docker.io/library/binfmtctl:{VERSION}'
PACKAGES = 'podman,crun,uidmap,passt,mount'


def limit(name, what, most=None):
    """A line for podman, which asks for higher limits than a machine without CAP_SYS_RESOURCE may give."""
    hard = resource.getrlimit(what)[1]
    value = (
        most if hard == resource.RLIM_INFINITY and most else ('unlimited' if hard == resource.RLIM_INFINITY else hard)
    )
    return f'"{name}={value}:{value}"'


@pytest.fixture(scope='module')
def root(work, archive, installed_root_arm64):
    """The root that podman lives in."""
    own = own_arch()
    suite = script('debian', 'suite', own, '?essential', 'apt', *PACKAGES.split(','))
    made = make_root(f'podman-{own}.tar', work, suite, f'--include={PACKAGES}')
    path = work / 'podman'
    path.mkdir()
    output('tar', '-xpf', made, '--numeric-owner', '-C', path)
    (path / 'images').mkdir()
    (path / 'etc/containers').mkdir(parents=True, exist_ok=True)
    shutil.copy(archive, path / 'images/own.tar')
    shutil.copy(installed_root_arm64, path / 'images/arm64.tar')
    shutil.copy(HERE / 'podman-as', path / 'usr/local/bin')
    output('chroot', path, 'useradd', '-m', '-d', '/home/user', 'user')
    limits = ', '.join([limit('nofile', resource.RLIMIT_NOFILE, 1048576), limit('nproc', resource.RLIMIT_NPROC)])
    # The controller of processes may be version 1's.
    (path / 'etc/containers/containers.conf').write_text(
        f'[containers]\ndefault_ulimits = [{limits}]\npids_limit = 0\n'
        '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
    )
    return path


@pytest.fixture(scope='module')
def installed_root_arm64(binfmtctl, root_of):
    """The archive of an arm64 root; nothing stays installed."""
    if not (CACHE / 'root-arm64.tar').exists():
        assert binfmtctl('--install', 'arm64').code == 0
        try:
            root_of('arm64')
        finally:
            binfmtctl('--uninstall', 'all')
    return root_of('arm64')


@pytest.fixture(scope='module')
def podman(root, work):
    """Runs podman in that root, as root or as a user."""
    with (work / 'box').open('w') as said:
        words = ['unshare', '--mount', '--pid', '--fork', '--kill-child', HERE / 'podman-box', root]
        outer = subprocess.Popen(words, stderr=said)
    children = Path(f'/proc/{outer.pid}/task/{outer.pid}/children')

    def entered():
        first = children.read_text().split()[:1]
        return first and Path(f'/proc/{first[0]}/root/run/entered').exists()

    assert wait_for(lambda: outer.poll() is not None or entered(), 10) and outer.poll() is None, (
        f'cannot enter a root for podman: {(work / "box").read_text()}'
    )
    first = children.read_text().split()[0]

    def in_box(who, *words):
        return run('nsenter', '--target', first, '--mount', '--pid', '--root', '--', 'podman-as', who, *words)

    yield in_box
    # Entries of a namespace that ends would hold their memory.
    in_box('user', 'run', '--rm', '--network=none', '--privileged', IMAGE, '--uninstall', 'all')
    in_box('root', 'run', '--rm', '--network=none', '--privileged', IMAGE, '--uninstall', 'all')
    # The first process of a namespace takes no other signal.
    subprocess.run(['kill', '-KILL', first], check=True)
    outer.wait()


@pytest.fixture(scope='module')
def pod(podman):
    """Runs a container of the image."""
    return lambda who, *words: podman(who, 'run', '--rm', '--network=none', *words)


@pytest.fixture(scope='module')
def sees(pod):
    """Which foreign platforms an ordinary container sees."""
    return lambda who: supported(pod(who, IMAGE, '--status', '--format', 'json'))


@pytest.fixture(scope='module')
def uname(podman):
    """What a container for arm64 says of its machine."""

    def ask(who):
        words = ['--rm', '--network=none', '--platform', 'linux/arm64', 'localhost/base:arm64', 'uname', '-m']
        result = podman(who, 'run', *words)
        return result.out.strip() or str(result)

    return ask


@pytest.mark.parametrize('who', ['root', 'user'])
def test_load(who, podman):
    loaded = podman(who, 'load', '-q', '-i', '/images/own.tar')
    assert loaded.out.strip() == f'Loaded image: {IMAGE}', str(loaded)
    imported = podman(who, 'import', '-q', '--os', 'linux', '--arch', 'arm64', '/images/arm64.tar', 'base:arm64')
    assert imported.code == 0, str(imported)


def test_root_sees_nothing_before(sees):
    assert sees('root') == []


def test_root_installs(pod):
    result = pod('root', '--privileged', IMAGE, '--install', 'arm64,riscv64')
    assert result.code == 0, str(result)
    assert entries() == ['qemu-aarch64', 'qemu-riscv64'], "its entries are the machine's"


@pytest.mark.parametrize('who', ['root', 'user'])
def test_run_with_platform(who, uname):
    assert uname(who) == 'aarch64'


@pytest.mark.parametrize('who', ['root', 'user'])
def test_ordinary_container_sees_them(who, sees):
    assert sees(who) == ['linux/arm64', 'linux/riscv64']


def test_root_uninstalls(pod):
    result = pod('root', '--privileged', IMAGE, '--uninstall', 'all')
    assert result.code == 0, str(result)
    assert entries() == []


# Rootless, where the machine has none: in the user's own namespace, as Linux 6.7 allows.


def test_rootless_container_sees_nothing(sees):
    assert sees('user') == []


def test_rootless_install(pod, sees):
    result = pod('user', '--privileged', IMAGE, '--install', 'arm64')
    assert result.code == 0, str(result)
    assert sees('user') == ['linux/arm64']


def test_run_with_platform_all_rootless(uname):
    assert uname('user') == 'aarch64'


def test_machine_is_not_changed_by_that(sees):
    assert entries() == []
    assert sees('root') == []


def test_rootless_uninstall(pod, sees):
    result = pod('user', '--privileged', IMAGE, '--uninstall', 'all')
    assert result.code == 0, str(result)
    assert sees('user') == []
