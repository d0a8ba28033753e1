"""BuildKit's way to emulators: no binfmt_misc, and programs that start programs."""

import os
import subprocess

import pytest

from machine import SCRIPTS, output, run, script

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
aarch64
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


@pytest.fixture(scope='module')
def root(work):
    path = work / 'buildkit-root'
    script('guests', '--root', path, 'arm64', 'bash', 'coreutils', 'dash', 'findutils', 'make', 'perl-base')
    return path


def started(root, emulators, *words, timeout=300):
    inside = ['unshare', '-Urm', '--pid', '--fork', '--mount-proc', 'bash', '-euc', INSIDE, '-', root]
    return run(*inside, emulators / 'buildkit-qemu-aarch64', root, *words, timeout=timeout)


def test_what_a_program_starts_is_emulated_too(root, emulators):
    result = started(root, emulators, 'sh', '-c', SCRIPT)
    assert (result.code, result.out) == (0, EXPECTED), str(result)


def test_a_program_is_found_as_a_shell_finds_it(root, emulators):
    assert started(root, emulators, 'uname', '-m').out == 'aarch64\n'
    assert [started(root, emulators, word).code for word in ('nonesuch', '/nonesuch', '/etc/debian_version')] == [
        127,
        127,
        126,
    ]


def test_started_by_another_name_nothing_changes(root, emulators):
    emulator = emulators / 'buildkit-qemu-aarch64'
    words = ['-L', root, root / 'usr/bin/dash', '-c', f'{root}/usr/bin/true; echo $?']
    inside = 'mount -t binfmt_misc none /sys; umount /sys; exec "$@"'
    result = run('unshare', '-Urm', '--pid', '--fork', '--mount-proc', 'bash', '-euc', inside, '-', emulator, *words)
    assert result.out == '126\n', str(result)


def test_buildkit_builds_without_binfmt_misc(root, emulators, work):
    """Docker's own builder is BuildKit: it looks for the emulators in its PATH."""
    if os.path.exists('/proc/sys/fs/binfmt_misc/qemu-aarch64'):
        pytest.fail('this machine has an entry for arm64: remove it first')
    context, engine = work / 'buildkit-context', work / 'buildkit-engine'
    context.mkdir()
    output('tar', '-C', root, '--exclude=./dev', '--exclude=./proc', '-cf', context / 'root.tar', '.')
    (context / 'Dockerfile').write_text(DOCKERFILE)
    env = {'PATH': f'{emulators}:{os.environ["PATH"]}'}
    reach = output(SCRIPTS / 'docker-engine', 'start', engine, '--bridge=none', '--iptables=false', env=env)
    try:
        build = 'docker buildx build --network=none --platform linux/arm64 --output "$1" "$2"'
        result = run(
            'bash', '-euc', f'{reach}\n{build}', '-', f'type=local,dest={work}/built', context, env=env, timeout=900
        )
        assert result.code == 0, str(result)
    finally:
        subprocess.run([SCRIPTS / 'docker-engine', 'stop', engine], check=False)
    assert (work / 'built/seen').read_text() == 'aarch64\naarch64\naarch64\nthree\n'
