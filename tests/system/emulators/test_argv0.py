"""Programs see the name they were called by with flag P, and their path without it."""

import subprocess
from pathlib import Path

import pytest

from machine import CACHE, script

ARCHES = ['arm64', 'armhf', 'riscv64', 's390x', 'ppc64el', 'mips64el']

# With the wrong idea of the flag, QEMU takes the name for the path or an argument for the name. Entries hold memory
# until they are removed.
BOTH_WAYS = r"""
called() { (exec -a busybox-as-called "$2" cat /proc/self/cmdline) | tr '\0' ' '; }
trap '"$B" --uninstall all >/dev/null 2>&1' EXIT
called "$@"
"$B" --install "$1" --flags OCF --replace >/dev/null
called "$@"
"""


@pytest.fixture(scope='module')
def guests(work: Path) -> Path:
    script('guests', CACHE / 'guests', *ARCHES)
    # Where nobody may read them.
    subprocess.run(['cp', '-r', CACHE / 'guests', work / 'guests'], check=True)
    return work / 'guests'


@pytest.mark.parametrize('arch', ARCHES)
def test_name_with_flag_p_and_path_without(arch, guests, nobody, binfmtctl):
    busybox = guests / arch / 'bin/busybox'
    run_in = [binfmtctl, 'run', '--map-root', '--platform', arch, '--']
    result = nobody(*run_in, 'bash', '-euc', BOTH_WAYS, 'bash', arch, busybox)
    assert result.code == 0, str(result)
    assert result.out == f'busybox-as-called cat /proc/self/cmdline {busybox} cat /proc/self/cmdline '
