"""A node of Kubernetes: what buildx and GitLab's runner start before their pods, by containerd.

These scenarios follow one another. The node has no mount of binfmt_misc of its own, as most have none.
"""

import tomllib

import pytest

from engine import VERSION, entries
from machine import TOP, own_arch, run, script

yaml = pytest.importorskip('yaml', reason='the package python3-yaml is missing')

IMAGE = f'docker.io/library/binfmtctl:{VERSION}'
# What other installers do, and what becomes of it.
FORGETFUL = """
/bin/busybox mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
echo ':gone:E::gone::/bin/busybox:F' >/proc/sys/fs/binfmt_misc/register
"""


def init_container(pod):
    (container,) = pod['initContainers']
    assert container['securityContext'] == {'privileged': True}
    return container


def buildx():
    manifest = yaml.safe_load((TOP / 'deploy/buildx-kubernetes.yaml').read_text())
    return init_container(manifest['spec']['template']['spec'])


def gitlab():
    (runner,) = tomllib.loads((TOP / 'deploy/gitlab-runner.toml').read_text())['runners']
    (patch,) = runner['kubernetes']['pod_spec']
    return init_container(yaml.safe_load(patch['patch']))


@pytest.fixture(scope='module')
def ctr(docker, archive, work):
    """Runs containers as the kubelet has them run, in its namespace of the engine's containerd."""

    def call(*words):
        return run('ctr', '--address', work / 'e/exec/containerd/containerd.sock', '--namespace', 'k8s.io', *words)

    imported = call('images', 'import', archive)
    assert imported.code == 0, str(imported)
    yield call
    call('run', '--rm', '--privileged', IMAGE, 'last', '/usr/bin/binfmtctl', '--uninstall', 'all')
    call('images', 'rm', IMAGE)


@pytest.fixture(scope='module')
def start(ctr):
    """Runs a container of the image until it ends, with these arguments, as its image says."""
    return lambda name, args, *options: ctr('run', '--rm', *options, IMAGE, name, '/usr/bin/binfmtctl', *args)


@pytest.fixture(scope='module')
def node_root(work):
    """A root with busybox, where containers get directories to mount on."""

    def make(arch):
        script('guests', work / 'node', arch)
        return work / 'node' / arch

    return make


@pytest.fixture(scope='module')
def uname(ctr, node_root):
    """What an ordinary container of a foreign image says, without rights and after all others have ended."""

    def ask(arch):
        result = ctr('run', '--rm', '--rootfs', node_root(arch), 'job', '/bin/busybox', 'uname', '-m')
        return result.out.strip() or str(result)

    return ask


def test_what_others_register_goes_with_their_container(ctr, node_root):
    root = node_root(own_arch())
    result = ctr('run', '--rm', '--privileged', '--rootfs', root, 'other', '/bin/busybox', 'sh', '-ec', FORGETFUL)
    assert result.code == 0, str(result)
    assert entries() == []


def test_buildx_installs_all(ctr, start):
    result = start('qemu', buildx()['args'], '--privileged')
    assert result.code == 0, str(result)
    assert {'qemu-aarch64', 'qemu-riscv64', 'qemu-s390x'} <= set(entries())
    assert 'qemu-x86_64' not in entries()
    assert ctr('containers', 'ls', '-q').out == '', 'its container is still there'


@pytest.mark.parametrize(('arch', 'said'), [('arm64', 'aarch64'), ('riscv64', 'riscv64'), ('s390x', 's390x')])
def test_the_node_runs_foreign_images_afterwards(arch, said, uname):
    assert uname(arch) == said


def test_a_second_pod_on_the_node_changes_nothing(start):
    before = entries()
    result = start('qemu', buildx()['args'], '--privileged')
    assert result.code == 0, str(result)
    assert entries() == before


def test_a_container_without_rights_sees_what_works(start):
    result = start('status', ['--status', '--require', 'linux/arm64,linux/riscv64'])
    assert result.code == 0, str(result)


def test_gitlab_runner_installs_what_it_names(start, uname):
    assert start('clean', ['--uninstall', 'all'], '--privileged').code == 0
    assert entries() == []
    result = start('binfmtctl', gitlab()['args'], '--privileged')
    assert result.code == 0, str(result)
    assert entries() == ['qemu-aarch64', 'qemu-riscv64']
    assert uname('arm64') == 'aarch64'
