"""debootstrap's second stage, emulated."""

import subprocess

import pytest

from machine import output, run, script
from qemu import ARCHES

SECOND_STAGE = r"""
"$B" run --map-root -- sh -c 'mkdir "$1" && tar -C "$1" -xpf ../stage.tar' sh "$1"
emulated() { "$B" run --map-root --root "$@"; }
emulated "$1" env container=lxc /debootstrap/debootstrap --second-stage >log 2>&1 || { tail log >&2; exit 1; }
tail -n 1 log
emulated "$1" dpkg --audit
emulated "$1" uname -m
"$B" run --map-root -- rm -r "$1"
"""


@pytest.mark.parametrize('arch', ['arm64', 'riscv64', 's390x'])
def test_second_stage(arch, work, nobody):
    stage = work / 'stage'
    keyring = script('debian', 'keyring')
    words = ['debootstrap', '--foreign', f'--arch={arch}', '--variant=minbase', f'--keyring={keyring}']
    # debootstrap may be older than the suite; all of them are made alike.
    recipe = '/usr/share/debootstrap/scripts/sid'
    suite = script('debian', 'suite', arch, '?essential', '?priority(required)', 'apt')
    unpacked = run(*words, suite, stage, script('debian', 'mirror'), recipe)
    assert unpacked.code == 0, str(unpacked)
    output('tar', '-C', stage, '--exclude=./dev/*', '-cf', work / 'stage.tar', '.')
    subprocess.run(['rm', '-r', stage], check=True)
    result = nobody('bash', '-euc', SECOND_STAGE, 'bash', arch)
    assert result.code == 0, str(result)
    assert result.out.splitlines() == ['I: Base system installed successfully.', ARCHES[arch].target]
