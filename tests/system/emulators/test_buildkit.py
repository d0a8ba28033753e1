"""BuildKit's way to emulators: no binfmt_misc, and programs that start programs."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from machine import CACHE, SCRIPTS, need, output, own_arch, run, script
from qemu import ARCHES

# Prints what becomes of each way to start a program.
STARTS = Path(__file__).parent / 'starts.c'
# BuildKit's names for emulators, where they are not QEMU's.
BUILDKIT_NAMES = {'mips64el': 'mips64le'}

# In a user namespace with an empty binfmt_misc of its own, in a root that has the emulator where BuildKit mounts it;
# natively where none is named.
INSIDE = r"""
mount -t binfmt_misc none /sys; umount /sys
root=$1 emulator=$2; shift 2
mount -t tmpfs none "$root/dev"; mount -t tmpfs none "$root/tmp"
: >"$root/dev/null"; mount --bind /dev/null "$root/dev/null"
if [ -n "$emulator" ]; then
    : >"$root/dev/.buildkit_qemu_emulator"; mount --bind "$emulator" "$root/dev/.buildkit_qemu_emulator"
    set -- /dev/.buildkit_qemu_emulator "$@"
fi
mount --rbind /proc "$root/proc"; ln -s /proc/self/fd "$root/dev/fd"
export PATH=/usr/local/bin:/usr/bin:/bin LC_ALL=C
exec /usr/sbin/chroot "$root" "$@"
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


def start_inside(root, emulator, *words, under=()):
    inside = [*under, 'unshare', '-Urm', '--pid', '--fork', '--mount-proc', 'bash', '-euc', INSIDE, '-']
    return run(*inside, root, emulator, *words, timeout=900)


@pytest.fixture(scope='module')
def started(emulators, machine):
    """Runs a program of a root as BuildKit does."""
    return lambda root, *words: start_inside(root, emulators / f'buildkit-qemu-{machine}', *words)


def test_what_a_program_starts_is_emulated_too(root, started, machine):
    result = started(root, 'sh', '-c', SCRIPT)
    assert (result.code, result.out) == (0, EXPECTED.format(machine=machine)), str(result)


def test_a_program_is_found_as_a_shell_finds_it(root, started, machine):
    assert started(root, 'uname', '-m').out == f'{machine}\n'
    codes = [started(root, word).code for word in ('nonesuch', '/nonesuch', '/etc/debian_version')]
    assert codes == [127, 127, 126]


def root_with(work, name, *words):
    """A root with one program, /t/program, which these words compile."""
    path = work / name
    for directory in 'dev', 'proc', 'tmp', 't':
        (path / directory).mkdir(parents=True)
    output(*words, '-O1', '-static', '-pthread', '-o', path / 't/program', STARTS)
    return path


@pytest.fixture(scope='module')
def natively(work):
    """What the kernel itself makes of each way to start a program."""
    need('gcc', 'libc6-dev')
    result = start_inside(root_with(work, 'starts', 'gcc'), '', '/t/program', 'start-all')
    assert (result.code, result.err) == (0, ''), str(result)
    return result.out.splitlines()


EMULATED = ['arm64', 'armhf', 'i386', 'riscv64', 's390x', 'ppc64el', 'mips64el', 'amd64']


@pytest.mark.parametrize('arch', [arch for arch in EMULATED if arch != own_arch()], ids=str)
def test_programs_are_started_as_the_kernel_starts_them(arch, work, natively, compiler, emulators):
    """By each system call and kind of name, from threads, in other roots; scripts of all shapes; what fails."""
    emulator = emulators / f'buildkit-qemu-{BUILDKIT_NAMES.get(arch, ARCHES[arch].target)}'
    result = start_inside(root_with(work, f'starts-{arch}', compiler(arch)), emulator, '/t/program', 'start-all')
    assert (result.code, result.err) == (0, ''), str(result)
    assert result.out.splitlines() == natively


def test_kernels_before_5_8(root, work, arch, emulators, machine):
    need('gcc', 'libc6-dev')
    output('gcc', '-o', work / f'old-{arch}', Path(__file__).parent / 'no-faccessat2.c')
    emulator = emulators / f'buildkit-qemu-{machine}'
    result = start_inside(root, emulator, 'bash', '-c', 'env uname -m; true', under=[work / f'old-{arch}'])
    assert (result.code, result.out) == (0, f'{machine}\n'), str(result)


def test_programs_of_other_architectures(root, started, arch, machine):
    """The machine's own run natively, also as the first; those of a third are the kernel's to refuse."""
    third = 'riscv64' if arch == 'arm64' else 'arm64'
    for guest in own_arch(), third:
        script('guests', CACHE / 'guests', guest)
        shutil.copy(CACHE / 'guests' / guest / 'bin/busybox', root / f'busybox-{guest}')
    native, own = f'/busybox-{own_arch()}', ARCHES[own_arch()].target
    assert started(root, native, 'uname', '-m').out == f'{own}\n'
    script_ = f'{native} uname -m; /busybox-{third} uname -m || echo $?; exec {native} sh -c "uname -m || echo none"'
    result = started(root, 'bash', '-c', script_)
    assert result.out.splitlines() == [own, '126', own], str(result)


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
