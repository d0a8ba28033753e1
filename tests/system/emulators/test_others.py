"""QEMU's own test programs for rarer architectures, as in test_programs."""

import pytest

from test_programs import RARE, compare


@pytest.mark.parametrize('arch', RARE)
def test_rare(arch, qemu_source, compiler, ours, debians, work, note):
    compare(arch, qemu_source, compiler, ours, debians, work, note)
