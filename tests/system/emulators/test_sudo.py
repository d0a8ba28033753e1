"""Setuid programs get their owner's rights with flag C, and only with it."""

WITHOUT_C = r"""
trap '"$B" --uninstall all >/dev/null 2>&1' EXIT
"$B" --install arm64 --no-credentials --replace >/dev/null
mount --rbind /proc root/proc
mount --rbind /dev root/dev
if chroot --userspec=1000:1000 root /usr/bin/sudo -n id -u 2>&1; then exit 1; fi
"""
ADD_USER = """
echo user:*:1000:1000::/:/bin/sh >>/etc/passwd
echo "user ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/user
"""


def test_with_and_without_flag_c(in_root, nobody, binfmtctl):
    added = in_root('sh', '-ec', ADD_USER)
    assert added.code == 0, str(added)
    with_c = in_root('setpriv', '--reuid', '1000', '--regid', '1000', '--clear-groups', 'sudo', '-n', 'id', '-u')
    assert (with_c.code, with_c.out) == (0, '0\n'), str(with_c)
    without = nobody(binfmtctl, 'run', '--map-root', '--platform', 'arm64', '--', 'bash', '-euc', WITHOUT_C)
    assert without.code == 0, str(without)
    assert 'effective uid is not 0' in without.out
