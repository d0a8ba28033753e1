"""The DaemonSet's container, in Docker, with its own command lines and rights."""

import pytest

from engine import PLATFORMS, entries, supported, wait_for
from machine import TOP

yaml = pytest.importorskip('yaml', reason='the package python3-yaml is missing')

LABELS = {'binfmt.linux-arm64=true', 'binfmt.linux-riscv64=true'}


@pytest.fixture(scope='module')
def container():
    documents = yaml.safe_load_all((TOP / 'deploy/daemonset.yaml').read_text())
    daemonset = next(document for document in documents if document and document['kind'] == 'DaemonSet')
    return daemonset['spec']['template']['spec']['containers'][0]


@pytest.fixture(scope='module')
def labels(work):
    (work / 'features.d').mkdir()
    return work / 'features.d/binfmtctl'


@pytest.fixture(scope='module')
def held(container, labels, image, docker, binfmtctl):
    """The running container; these scenarios follow one another."""
    context = container['securityContext']
    rights = [f'--cap-drop={right}' for right in context['capabilities']['drop']]
    rights += [f'--cap-add={right}' for right in context['capabilities']['add']]
    rights += ['--security-opt', f'apparmor={context["appArmorProfile"]["type"].lower()}']
    words = ['--name', 'hold', '--read-only', *rights, '-v', f'{labels.parent}:/features.d']
    started = docker('run', '-d', *words, image, *container['args'])
    assert started.code == 0, str(started)
    yield
    docker('rm', '-f', 'hold')
    binfmtctl('--uninstall', 'all')
    assert entries() == [], 'an entry is left by it'


def test_labels_its_node(held, labels, docker):
    assert wait_for(lambda: labels.exists() and labels.read_text(), 60), str(docker('logs', 'hold'))
    assert set(labels.read_text().splitlines()) >= LABELS
    logs = docker('logs', 'hold')
    assert 'error:' not in logs.out + logs.err


@pytest.mark.parametrize('probe', ['startupProbe', 'readinessProbe', 'livenessProbe'])
def test_probe(probe, held, container, docker):
    result = docker('exec', 'hold', *container[probe]['exec']['command'])
    assert result.code == 0, str(result)


def test_puts_back_what_somebody_removes(held, binfmtctl):
    assert binfmtctl('--uninstall', 'qemu-aarch64').code == 0
    assert wait_for(lambda: 'qemu-aarch64' in entries(), 10)
    assert supported(binfmtctl('--status', '--format', 'json')) == PLATFORMS


def test_ends_when_told(held, docker):
    assert docker('stop', '-t', '20', 'hold').code == 0
    assert docker('inspect', '-f', '{{.State.ExitCode}}', 'hold').out.strip() == '0'


def test_its_labels_go_with_it(held, labels):
    assert list(labels.parent.iterdir()) == []
