"""What multi-platform tutorials build: one build for three architectures, with packages installed on the way."""

import pytest

from engine import FOREIGN, PLATFORMS
from machine import TOP

LANGUAGES = ['c', 'go', 'node']
HELLO = {
    'c': 'hello from C on {machine}, 64-bit, {endian}-endian',
    'go': 'hello from Go on {name}, 64-bit, {endian}-endian',
    'node': 'hello from Node.js on {node}, {endian}-endian',
}


@pytest.fixture(scope='module')
def base(installed, docker, registry, root_of):
    """An image of three architectures, from roots made with what was just installed."""
    names = []
    for each in FOREIGN:
        name = f'{registry}/base:{each.name}'
        for words in ['import', '--platform', f'linux/{each.name}', root_of(each.name), name], ['push', '-q', name]:
            done = docker(*words)
            assert done.code == 0, str(done)
        names.append(name)
    index = docker('buildx', 'imagetools', 'create', '-t', f'{registry}/base', *names)
    assert index.code == 0, str(index)
    return f'{registry}/base'


@pytest.fixture(scope='module')
def built(request, base, docker, registry):
    """How the build of one language went, and the name of what it made."""
    name = f'{registry}/{request.param}'
    words = ['--network=host', '--platform', ','.join(PLATFORMS), '--build-arg', f'BASE={base}', '--progress', 'plain']
    result = docker('build', *words, '--push', '-t', name, TOP / 'tests/clients' / request.param)
    return name, result


@pytest.mark.parametrize('each', FOREIGN, ids=lambda each: each.name)
def test_docker_run_with_platform(each, base, docker):
    # A private engine has no network for its containers.
    platform = f'linux/{each.name}'
    result = docker('run', '--rm', '--network=none', '--platform', platform, f'{base}:{each.name}', 'uname', '-m')
    assert result.out.strip() == each.machine, str(result)


@pytest.mark.parametrize('built', LANGUAGES, indirect=True)
def test_docker_build_for_three_platforms(built):
    _, result = built
    assert result.code == 0, str(result)


@pytest.mark.parametrize('each', FOREIGN, ids=lambda each: each.name)
@pytest.mark.parametrize(('built', 'language'), [(name, name) for name in LANGUAGES], indirect=['built'])
def test_what_was_built_runs(built, language, each, docker):
    words = ['--network=none', '--pull', 'always', '-q', '--platform', f'linux/{each.name}']
    result = docker('run', '--rm', *words, built[0])
    assert result.out.splitlines()[-1:] == [HELLO[language].format(**vars(each))], str(result)
