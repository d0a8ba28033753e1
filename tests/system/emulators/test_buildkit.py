"""BuildKit's way to emulators: no binfmt_misc, and programs that start programs."""

import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from machine import SCRIPTS, need, output, run, script
from qemu import ARCHES

# In a user namespace with an empty binfmt_misc of its own, in a root that has the emulator where BuildKit mounts it.
INSIDE = r"""
mount -t binfmt_misc none /sys; umount /sys
mount -t tmpfs none "$1/dev"; mount -t tmpfs none "$1/tmp"
for file in null .buildkit_qemu_emulator; do : >"$1/dev/$file"; done
mount --bind /dev/null "$1/dev/null"; mount --bind "$2" "$1/dev/.buildkit_qemu_emulator"
mount --rbind /proc "$1/proc"; ln -s /proc/self/fd "$1/dev/fd"
shift 2; root=$1; shift
export PATH=/usr/local/bin:/usr/bin:/bin LC_ALL=C
exec /usr/sbin/chroot "$root" /dev/.buildkit_qemu_emulator "$@"
"""
SCRIPT = r"""
set -e
cd /tmp
cat >script <<'END'
#!/bin/sh -e
echo "script $0 $# $1"
exec /usr/bin/env bash -c 'echo "$0 $1"' zero "two words"
END
printf '#!/tmp/script\n' >nested; printf '#!/tmp/loop\n' >loop; echo 'echo fallback' >plain; echo >unreadable
chmod 755 script nested loop plain; chmod 644 unreadable
./script 'a b'; cd /; tmp/script rel; PATH=/tmp:$PATH script found; /tmp/nested x
bash -c 'exec -a myname bash -c "echo \$0; readlink /proc/self/exe; cat /proc/self/comm"'
perl -e 'print `uname -m`; exec {"/bin/sh"} "argzero", "-c", q(echo $0)'
/tmp/plain; /tmp/loop || echo $?; /tmp/unreadable || echo $?; /nonesuch || echo $?
printf 'all:\n\t@echo made; for i in 1 2 3; do env true; done; perl -e "print 42"\n' >/tmp/Makefile
make --no-print-directory -s -C /tmp; echo; find /tmp -name script -exec echo '{}' ';' | xargs -n 1 basename
"""
# What builds use: apt with its helpers and dpkg with a package's scripts, git, Node.js. Nothing comes from
# the network: the package is made here.
TOOLS = r"""
set -e
mkdir -p /var/lib/dpkg /var/lib/apt/lists/partial /var/cache/apt/archives/partial /etc/apt/sources.list.d /var/log/apt
: >>/var/lib/dpkg/status; rm -f /etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:/repository ./' >/etc/apt/sources.list
export DEBIAN_FRONTEND=noninteractive HOME=/tmp PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
apt-get -qq update
apt-get -qq -y --no-install-recommends install tiny >/tmp/apt.log 2>&1 || { cat /tmp/apt.log; exit 1; }
cat /tiny
git -c init.defaultBranch=main init -q /tmp/repository && cd /tmp/repository
printf '#!/bin/sh
echo hook of %s
' "$(uname -m)" >.git/hooks/pre-commit && chmod +x .git/hooks/pre-commit
echo text >file && git add file
git -c user.name=a -c user.email=a@example.org commit -qm message 2>&1
git clone -q /tmp/repository /tmp/clone && cat /tmp/clone/file
cat >/tmp/program <<'END'
#!/usr/bin/env node
const { execFileSync } = require('child_process')
if (process.argv[2]) console.log('child of', process.argv[2])
else process.stdout.write(execFileSync(process.execPath, [__filename, execFileSync('uname', ['-m']).toString().trim()]))
END
chmod +x /tmp/program && /tmp/program
"""
TOOLS_EXPECTED = """postinst of {machine}
hook of {machine}
text
child of {machine}
"""
POSTINST = '#!/bin/sh\necho "postinst of $(uname -m)" >/tiny\n'
EXPECTED = """script ./script 1 a b
zero two words
script tmp/script 1 rel
zero two words
script /tmp/script 1 found
zero two words
script /tmp/script 2 /tmp/nested
zero two words
myname
/usr/bin/readlink
cat
{machine}
argzero
fallback
127
126
127
made
42
script
"""
DOCKERFILE = r"""FROM scratch
ADD root.tar /
RUN uname -m >/seen; printf '#!/bin/sh\nuname -m >>/seen\n' >/x; chmod +x /x; /x; perl -e 'print `uname -m`' >>/seen
RUN ["/usr/bin/env", "WORD=three", "sh", "-c", "echo $WORD >>/seen"]
"""


@pytest.fixture(scope='module')
def emulators(bins, work):
    if 'emulators.xz' not in (bins / 'manifest').read_text():
        pytest.fail('this needs emulators of scripts/qemu-build: Debian has no such one')
    script('buildkit-emulators', '--bins', bins, work / 'buildkit')
    return work / 'buildkit'


@pytest.fixture(scope='module', params=['arm64', 'riscv64'])
def arch(request):
    return request.param


@pytest.fixture(scope='module')
def machine(arch):
    return ARCHES[arch].target


@pytest.fixture(scope='module')
def root(work, arch):
    path = work / f'buildkit-root-{arch}'
    script('guests', '--root', path, arch, 'bash', 'coreutils', 'dash', 'findutils', 'make', 'perl-base')
    return path


@pytest.fixture(scope='module')
def tools(work, arch):
    """A root with tools, and a repository with a package that has a script."""
    path, package = work / f'buildkit-tools-{arch}', work / f'buildkit-tiny-{arch}'
    packages = ['bash', 'coreutils', 'dash', 'apt', 'diffutils', 'dpkg', 'git', 'grep', 'libc-bin', 'nodejs', 'tar']
    script('guests', '--root', path, arch, *packages)
    (path / 'etc/passwd').write_text('root:x:0:0::/root:/bin/sh\n_apt:x:42:65534::/nonexistent:/usr/sbin/nologin\n')
    (path / 'etc/group').write_text('root:x:0:\nnogroup:x:65534:\n')
    (package / 'DEBIAN').mkdir(parents=True)
    (package / 'DEBIAN/control').write_text(
        f'Package: tiny\nVersion: 1\nArchitecture: {arch}\nMaintainer: a <a@example.org>\nDescription: tiny\n'
    )
    (package / 'DEBIAN/postinst').write_text(POSTINST)
    (package / 'DEBIAN/postinst').chmod(0o755)
    (path / 'repository').mkdir(exist_ok=True)
    output('dpkg-deb', '--root-owner-group', '-b', package, path / 'repository/tiny.deb')
    need('apt-utils')
    packages = output('apt-ftparchive', 'packages', '.', cwd=path / 'repository')
    (path / 'repository/Packages').write_text(f'{packages}\n')
    return path


@pytest.fixture(scope='module')
def started(emulators, machine):
    """Runs a program of a root as BuildKit does."""

    def start(root, *words, timeout=300):
        inside = ['unshare', '-Urm', '--pid', '--fork', '--mount-proc', 'bash', '-euc', INSIDE, '-', root]
        return run(*inside, emulators / f'buildkit-qemu-{machine}', root, *words, timeout=timeout)

    return start


def test_what_a_program_starts_is_emulated_too(root, started, machine):
    result = started(root, 'sh', '-c', SCRIPT)
    assert (result.code, result.out) == (0, EXPECTED.format(machine=machine)), str(result)


def test_a_program_is_found_as_a_shell_finds_it(root, started, machine):
    assert started(root, 'uname', '-m').out == f'{machine}\n'
    codes = [started(root, word).code for word in ('nonesuch', '/nonesuch', '/etc/debian_version')]
    assert codes == [127, 127, 126]


def test_started_by_another_name_nothing_changes(root, emulators, machine):
    emulator = emulators / f'buildkit-qemu-{machine}'
    words = ['-L', root, root / 'usr/bin/dash', '-c', f'{root}/usr/bin/true; echo $?']
    inside = 'mount -t binfmt_misc none /sys; umount /sys; exec "$@"'
    result = run('unshare', '-Urm', '--pid', '--fork', '--mount-proc', 'bash', '-euc', inside, '-', emulator, *words)
    assert result.out == '126\n', str(result)


@pytest.fixture(scope='module')
def engine(work, emulators):
    """Docker's engine with the emulators in its PATH: its builder is BuildKit. The variables to reach it."""
    env = {'PATH': f'{emulators}:{os.environ["PATH"]}'}
    words = ['start', work / 'buildkit-engine', '--bridge=none', '--iptables=false']
    yield {**env, 'REACH': output(SCRIPTS / 'docker-engine', *words, env=env)}
    subprocess.run([SCRIPTS / 'docker-engine', 'stop', work / 'buildkit-engine'], check=False)


@pytest.fixture
def build(engine, work, arch, machine):
    """Builds an image of a root, and returns what its file `seen` says."""
    if os.path.exists(f'/proc/sys/fs/binfmt_misc/qemu-{machine}'):
        pytest.fail(f'this machine has an entry for {arch}: remove it first')

    def in_buildkit(root, dockerfile, **files):
        context, built = Path(tempfile.mkdtemp(dir=work)), Path(tempfile.mkdtemp(dir=work))
        output('tar', '-C', root, '--exclude=./dev', '--exclude=./proc', '-cf', context / 'root.tar', '.')
        for name, text in {'Dockerfile': dockerfile, **files}.items():
            (context / name).write_text(text)
        command = 'eval "$REACH"; docker buildx build --network=none --platform "$1" --output "$2" "$3"'
        words = [f'linux/{arch}', f'type=local,dest={built}', context]
        result = run('bash', '-euc', command, '-', *words, env=engine, timeout=900)
        assert result.code == 0, str(result)
        return (built / 'seen').read_text()

    return in_buildkit


def test_buildkit_builds_without_binfmt_misc(root, build, machine):
    assert build(root, DOCKERFILE) == f'{machine}\n{machine}\n{machine}\nthree\n'


def test_tools_of_builds(tools, build, machine):
    seen = build(tools, 'FROM scratch\nADD root.tar tools /\nRUN sh /tools >/seen\n', tools=TOOLS)
    assert seen == TOOLS_EXPECTED.format(machine=machine)
