"""Emulation for one builder only: dockerd, buildah and podman under `run`; the machine gets no entries."""

import os
import shlex
import shutil
import subprocess

import pytest

from machine import CACHE, SCRIPTS, need, output, own_arch, run, script

# podman and dockerd keep files in /run, podman in /dev/shm, which are other users'.
OWN_RUN = 'mount -t tmpfs none /run; mount -t tmpfs none /dev/shm; mkdir "$HOME"; "$@"'
UNPRIVILEGED = r"""
mount -t tmpfs none /run
export PATH=$1/usr/bin:$1/usr/sbin:$PATH DOCKER_HOST=unix://$PWD/engine/socket DOCKER_CONFIG=$PWD/config
mkdir -p engine config/cli-plugins
ln -s "$1/usr/libexec/docker/cli-plugins/docker-buildx" config/cli-plugins/
at=$PWD/engine
dockerd --rootless --storage-driver vfs --data-root "$at/data" --exec-root "$at/exec" --pidfile "$at/pid" \
    --host "$DOCKER_HOST" --iptables=false --ip6tables=false --bridge=none >engine/log 2>&1 &
trap 'kill $!; wait' EXIT
for i in {1..150}; do if docker info >/dev/null 2>&1; then break; fi; sleep 0.2; done
docker info >/dev/null || { tail engine/log >&2; exit 1; }
shift
"$@"
"""


def entries():
    """This machine's entries, seen from a mount namespace of its own, so that nothing is left mounted."""
    return output('unshare', '-m', 'sh', '-c', 'mount -t binfmt_misc none /mnt && ls /mnt').split()


@pytest.fixture(scope='module', autouse=True)
def machine():
    before = entries()
    assert 'qemu-aarch64' not in before, 'this machine has an entry for arm64: remove it first'
    yield
    assert entries() == before, 'an entry is left on this machine'


@pytest.fixture(scope='module')
def context(home):
    """What is built, where nobody finds it."""
    script('guests', CACHE / 'guests', 'arm64')
    path = home / 'context'
    path.mkdir()
    shutil.copy(CACHE / 'guests/arm64/bin/busybox', path)
    (path / 'Dockerfile').write_text(
        'FROM scratch\nCOPY busybox /bin/sh\nCOPY busybox /bin/uname\nCOPY busybox /bin/sleep\n'
        'RUN uname -m >/seen && sleep 2\n'
    )
    return path


@pytest.fixture(scope='module')
def built(context):
    """Whether the image's program ran in a build that wrote its files to a new directory of this name."""

    def check(result, name):
        assert result.code == 0, str(result)
        assert (context.parent / name / 'seen').read_text() == 'aarch64\n'

    return check


def build_words(name):
    return ['build', '--platform', 'linux/arm64', '--output', f'type=local,dest={name}']


@pytest.mark.parametrize('tool', ['buildah', 'podman'])
@pytest.mark.parametrize('who', ['root', 'nobody'])
def test_one_that_builds_by_itself(who, tool, nobody, binfmtctl, context, home, built):
    need(tool)
    name = f'{tool}-{who}'
    words = [binfmtctl, 'run', '--map-root', '--platform', 'arm64', '--', 'env', f'HOME={home}/{name}-home']
    words += ['sh', '-euc', OWN_RUN, '-', tool]
    words += ['--root', f'{home}/{name}-images', '--runroot', f'{home}/{name}-run', '--storage-driver', 'vfs']
    words += [*build_words(home / name), '--isolation', 'chroot', context]
    env = {'XDG_CACHE_HOME': str(home.parent / 'cache')}
    built(nobody(*words) if who == 'nobody' else run(*words, env=env, cwd=home), name)


@pytest.fixture(scope='module')
def engine(binfmtctl, work):
    """Docker's engine, started by root under `run`: its variables. Its builder is BuildKit."""
    under = {'DOCKERD_UNDER': f'{binfmtctl} run --platform arm64 --'}
    options = ['--bridge=none', '--iptables=false']
    reach = script('docker-engine', 'start', work / 'engine', *options, env=under)
    words = [word for word in shlex.split(reach) if '=' in word]
    yield dict(word.split('=', 1) for word in words)
    subprocess.run([SCRIPTS / 'docker-engine', 'stop', work / 'engine'], check=False)


def test_docker_engine_of_root(engine, context, home, built):
    words = ['docker', 'buildx', *build_words(home / 'docker'), '--network=none', context]
    os.environ['PATH'] = engine['PATH']
    built(run(*words, env=engine, timeout=600), 'docker')
    assert 'qemu-aarch64' not in entries(), "its entries are the machine's"


def test_docker_engine_of_a_user(engine, nobody, binfmtctl, context, home, built):
    codename = output('sh', '-c', '. /etc/os-release && echo "$VERSION_CODENAME"')
    tools = home.parent / 'docker'
    shutil.copytree(CACHE / f'docker-{codename}-{own_arch()}', tools, symlinks=True)
    output('chmod', '-R', 'a+rX', tools)
    words = [binfmtctl, 'run', '--map-root', '--platform', 'arm64', '--', 'env', f'HOME={home}', 'bash', '-euc']
    build = ['docker', 'buildx', *build_words(home / 'docker-user'), '--network=none', context]
    built(nobody(*words, UNPRIVILEGED, '-', tools, *build, timeout=600), 'docker-user')
