"""apt-get installs git, python3, nodejs, OpenJDK and Go in an arm64 root, and each of them runs."""

from fnmatch import fnmatchcase

import pytest

INSTALL = """
apt-get -qq update >&2
apt-get -qq install -y --no-install-recommends libc-bin git python3 nodejs default-jdk-headless golang >&2
dpkg --audit
"""
GIT = """
cd /tmp && git init -q one && cd one && git config user.name x && git config user.email x@y
seq 5000 >f && git add f && git commit -qm "what and why"
git clone -q . ../two && cd ../two && git fsck && git log --format=%s
"""
PYTHON = """
import os, threading
total = []
thread = threading.Thread(target=lambda: total.append(sum(range(1000000))))
thread.start(); thread.join()
print(os.uname().machine, total[0])
"""
NODE = 'const f = n => n < 2 ? n : f(n - 1) + f(n - 2); console.log(process.arch, f(30))'
JAVA = """
cat >/tmp/Hello.java <<'END'
class Hello {
    static int f(int n) { return n < 2 ? n : f(n - 1) + f(n - 2); }
    public static void main(String[] a) { System.out.println(System.getProperty("os.arch") + " " + f(30)); }
}
END
java /tmp/Hello.java
"""
GO = """
cat >/tmp/hello.go <<'END'
package main

import ("fmt"; "runtime")

func main() {
    c := make(chan int)
    for i := range 4 { go func() { c <- i }() }
    fmt.Println(runtime.GOARCH, <-c + <-c + <-c + <-c)
}
END
go run /tmp/hello.go
"""


@pytest.fixture(scope='module')
def installed(in_root):
    result = in_root('sh', '-euc', INSTALL)
    assert (result.code, result.out) == (0, ''), str(result)


@pytest.mark.parametrize(
    ('words', 'wanted'),
    [
        pytest.param(['git', '--version'], 'git version *', id='git'),
        pytest.param(['sh', '-euc', GIT], 'what and why', id='git-commits-and-clones'),
        pytest.param(['python3', '-c', PYTHON], 'aarch64 499999500000', id='python3'),
        pytest.param(['node', '-e', NODE], 'arm64 832040', id='node'),
        pytest.param(['sh', '-c', 'java -version 2>&1'], '*openjdk version "[0-9]*', id='java-version'),
        pytest.param(['sh', '-euc', JAVA], 'aarch64 832040', id='java-compiles-and-runs'),
        pytest.param(['sh', '-euc', GO], 'arm64 6', id='go-run'),
    ],
)
def test_runs(words, wanted, installed, in_root):
    result = in_root(*words)
    assert result.code == 0, str(result)
    assert fnmatchcase(result.out.strip(), wanted), str(result)
