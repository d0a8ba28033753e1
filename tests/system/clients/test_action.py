"""The image on disk, and what docker/setup-qemu-action does with it, in its order, as it reads the output."""

import json
import re

from engine import PLATFORMS, VERSION, entries, supported
from machine import run

WANTED = ['linux/amd64', *PLATFORMS]


def seen_by_buildx(docker):
    found = docker('buildx', 'ls')
    assert found.code == 0, str(found)
    return sorted(set(re.findall(r'linux/[a-z0-9]+', found.out)) & set(PLATFORMS))


def carried(docker, image, host):
    """Which of some emulators the image for a host carries."""
    told = docker('run', '--rm', '--pull', 'always', '-q', '--platform', f'linux/{host}', image, '--version')
    assert told.code == 0, str(told)
    names = re.findall(r'^emulators (.*)', told.out, re.MULTILINE)[0].split()
    return sorted({'qemu-aarch64', 'qemu-x86_64', 'qemu-i386', 'qemu-riscv64'} & set(names))


def test_skopeo_sees_both_hosts(layout):
    index = json.loads(run('skopeo', 'inspect', '--raw', f'oci:{layout}').out)
    assert [each['platform']['architecture'] for each in index['manifests']] == ['amd64', 'arm64']


def test_skopeo_copies_both(pushed):
    assert pushed.code == 0, str(pushed)


def test_docker_load(docker, archive):
    loaded = docker('load', '-i', archive)
    assert loaded.out.strip() == f'Loaded image: binfmtctl:{VERSION}', str(loaded)


def test_image_is_inspected(docker, image):
    entrypoint = json.loads(docker('image', 'inspect', image).out)[0]['Config']['Entrypoint']
    assert entrypoint[0] == '/usr/bin/binfmtctl'


def test_version(binfmtctl):
    told = binfmtctl('--version')
    assert (told.out + told.err).splitlines()[0] == f'binfmtctl {VERSION}'


def test_buildx_sees_nothing_before(docker):
    assert seen_by_buildx(docker) == []


def test_no_platform_works_before(binfmtctl):
    assert supported(binfmtctl('--status', '--format', 'json')) == []


def test_reset_with_nothing_there(binfmtctl):
    assert binfmtctl('--uninstall', 'qemu-*').code == 0


def test_install_all(binfmtctl):
    result = binfmtctl('--install', 'all')
    assert result.code == 0, str(result)
    assert [line for line in result.err.splitlines() if ' OK' not in line] == []


def test_no_argument(binfmtctl):
    result = binfmtctl()
    assert (result.code, result.err) == (0, ''), str(result)
    # It does JSON.parse(stdout.trim()), and joins what is supported.
    told = json.loads(result.out.strip())
    assert [platform for platform in told['supported'] if platform in WANTED] == WANTED
    assert list(told)[:2] == ['supported', 'emulators']


def test_platforms_by_name_and_the_own_one_among_them(binfmtctl):
    assert binfmtctl('--install', 'linux/arm64,linux/arm/v7,linux/arm/v6,linux/amd64').code == 0


def test_wrong_name(binfmtctl):
    result = binfmtctl('--install', 'arm64,nonsense')
    assert result.code == 1
    # The last line is what a user sees.
    assert result.err.splitlines()[-1].startswith('error: cannot install nonsense:')


def test_what_the_image_for_amd64_carries(docker, image):
    assert carried(docker, image, 'amd64') == ['qemu-aarch64', 'qemu-i386', 'qemu-riscv64']


def test_what_the_image_for_arm64_carries_as_it_says_emulated(docker, image):
    assert carried(docker, image, 'arm64') == ['qemu-i386', 'qemu-riscv64', 'qemu-x86_64']


def test_buildx_sees_them_after(docker):
    assert seen_by_buildx(docker) == PLATFORMS


def test_uninstall_all(binfmtctl):
    assert binfmtctl('--uninstall', 'all').code == 0
    assert entries() == []
