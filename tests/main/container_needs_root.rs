//! The image in a real Docker engine, on the host's own binfmt_misc, which is left as it was found.

use std::path::Path;
use std::process::Command;

use crate::support::{BINARY, Ran, SOURCE, alone, guests, skip};

/// Why this cannot be tried here, if it cannot.
fn engine(dir: &Path) -> Result<String, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("needs root".to_owned());
    }
    let started = Command::new(Path::new(SOURCE).join("scripts/docker-engine"))
        .arg("start")
        .arg(dir)
        .output();
    let started = Ran::new(&started.map_err(|error| error.to_string())?);
    if started.code == 0 { Ok(started.stdout) } else { Err(started.last_line().to_owned()) }
}

fn bash(environment: &str, script: &str) -> Ran {
    let script = format!("{environment}\nset -euo pipefail\n{script}");
    let output = Command::new("bash")
        .arg("-c")
        .arg(script)
        .env("B", BINARY)
        .env("M", "/proc/sys/fs/binfmt_misc")
        .output();
    Ran::new(&output.unwrap())
}

#[test]
fn the_image_installs_lasts_and_uninstalls() {
    let temporary = tempfile::Builder::new().prefix("engine").tempdir().unwrap();
    let dir = temporary.path().join("e");
    let environment = match engine(&dir) {
        Ok(environment) => environment,
        Err(why) => return skip(&format!("no Docker engine: {why}")),
    };
    let guests = guests(&["arm64"]);
    let _alone = alone();
    let ran = bash(&environment, &SCRIPT.replace("GUESTS", &guests.display().to_string()));
    let stopped = Command::new(Path::new(SOURCE).join("scripts/docker-engine"))
        .arg("stop")
        .arg(&dir)
        .output();
    Ran::new(&stopped.unwrap()).ok();
    let ran = ran.ok();
    if let Some(why) = ran.stdout.strip_prefix("skipped: ") {
        return skip(why.trim_end());
    }
    assert_eq!(ran.stdout, EXPECTED, "{}", ran.stderr);
}

/// `GUESTS` holds an arm64 root.
const SCRIPT: &str = r#"
mounted=no; if grep -q " $M binfmt_misc" /proc/self/mounts; then mounted=yes; umount $M; fi
put_back() {
    $B --uninstall all >/dev/null 2>&1 || true
    if grep -q " $M binfmt_misc" /proc/self/mounts; then [ $mounted = yes ] || umount $M
    elif [ $mounted = yes ]; then mount -t binfmt_misc none $M; fi
}
if [ -n "$(unshare -m sh -c "mount -t binfmt_misc none $M; ls $M | grep -v -e register -e status" || true)" ]; then
    [ $mounted = no ] || mount -t binfmt_misc none $M
    echo "skipped: this machine has binfmt_misc entries of its own"; exit 0
fi
trap put_back EXIT

context=$(mktemp -d); cp $B $context/binfmtctl
printf 'FROM scratch\nCOPY binfmtctl /usr/bin/binfmtctl\nENTRYPOINT ["/usr/bin/binfmtctl"]\n' >$context/Dockerfile
docker build -q -t binfmtctl $context >/dev/null; rm -r $context
tar -C GUESTS/arm64 -c . | docker import --platform linux/arm64 - busybox:arm64 >/dev/null
listed() { docker buildx ls | grep -c -e linux/arm64 -e linux/riscv64 || true; }
arm64() { docker run --rm --platform linux/arm64 busybox:arm64 /bin/busybox uname -m 2>&1 | grep -o -e aarch64 -e 'exec format error' || true; }

echo "before: $(listed) $(arm64)"

docker run --rm --privileged binfmtctl --install all >/tmp/$$.json
echo "installed: $(grep -c -e '"linux/arm64"' -e '"qemu-aarch64"' /tmp/$$.json) $(listed) $(arm64) $(chroot GUESTS/arm64 /bin/busybox uname -m)"
rm /tmp/$$.json

docker run --rm --privileged binfmtctl --status | grep -E 'linux/(arm64|riscv64) ' | awk '{ print $1, $2, $3, $4 }'
echo "without rights: $(docker run --rm binfmtctl --status --require arm64 | grep -E 'linux/arm64 |^ failure' | awk '{ print $1, $2 }')"
docker run --rm --privileged --read-only binfmtctl --install all 2>&1 >/dev/null | grep -c unchanged
docker run --rm --privileged binfmtctl --uninstall arm64,riscv64 2>&1 >/dev/null
echo "uninstalled: $(arm64)"
docker run --rm --privileged binfmtctl --uninstall 'qemu-*' >/dev/null 2>&1

# Read-only root, nobody else's mount.
docker run --rm --privileged --read-only binfmtctl --install arm64 >/dev/null 2>&1
echo "read-only: $(arm64)"
docker run --rm --privileged binfmtctl --uninstall all >/dev/null 2>&1

# One capability in place of all, nobody else's mount.
docker run --rm --cap-add SYS_ADMIN --security-opt apparmor=unconfined binfmtctl --install arm64 2>&1 >/dev/null | sed 's/, QEMU.*//'
echo "one capability: $(arm64)"
docker run --rm --cap-add SYS_ADMIN --security-opt apparmor=unconfined binfmtctl --uninstall all >/dev/null 2>&1

# Without privileges: the host's mount is given to the container.
mount -t binfmt_misc none $M
docker run --rm -v $M:/binfmt_misc binfmtctl --mount /binfmt_misc --install arm64 >/dev/null 2>&1
echo "unprivileged: $(arm64) $(sed -n 2,3p $M/qemu-aarch64 | tr '\n' ' ')"
docker run --rm --read-only -v $M:/binfmt_misc binfmtctl --mount /binfmt_misc --install riscv64 >/dev/null 2>&1
docker run --rm -v $M:/binfmt_misc binfmtctl --mount /binfmt_misc --uninstall arm64,riscv64 >/dev/null 2>&1
umount $M

# persist: the host's root is given to the container.
root=$(mktemp -d); mkdir -p $root/usr/lib/systemd $root/etc; touch $root/usr/lib/systemd/systemd-binfmt
docker run --rm --privileged -v $root:/host binfmtctl persist --root /host --install arm64 2>&1 | sed -n 1p
echo "persisted: $(cd $root && find usr/local etc -type f | sort | tr '\n' ' ')"
docker run --rm --privileged -v $root:/host binfmtctl persist --root /host --remove >/dev/null 2>&1
echo "left: $(cd $root && find usr/local etc -type f)"; rm -r $root

# status: what is not mounted in a container, and works, is no fault.
docker run --rm --privileged binfmtctl -q --install arm64 >/dev/null
echo "warnings: $(docker run --rm --privileged binfmtctl --status | grep -c -e ' warning ' -e ' unknown ' || true)"

# hold: the entries of an earlier run are not lost.
docker run -d --name hold --privileged binfmtctl hold --install arm64 >/dev/null
for i in $(seq 50); do docker logs hold 2>&1 | grep -q holding && break; sleep 0.2; done
sleep 5; docker stop -t 5 hold >/dev/null; docker logs hold 2>&1 | sed 's/^[^ ]* //'; docker rm hold >/dev/null
docker run --rm --privileged binfmtctl --uninstall all >/dev/null 2>&1

# hold: gone with --remove-on-exit, answered at once.
docker run -d --name hold --privileged binfmtctl hold --install arm64 --remove-on-exit >/dev/null
for i in $(seq 50); do docker logs hold 2>&1 | grep -q holding && break; sleep 0.2; done
echo "held: $(arm64)"
docker stop -t 5 hold >/dev/null; docker inspect -f 'ended {{.State.ExitCode}}' hold; docker rm hold >/dev/null
echo "after: $(arm64)"
"#;

const EXPECTED: &str = "\
before: 0 exec format error
installed: 2 1 aarch64 aarch64
linux/arm64 yes qemu-aarch64 POCF
linux/riscv64 yes qemu-riscv64 POCF
without rights: linux/arm64 yes
31
uninstalling: aarch64 OK
uninstalling: riscv64 OK
uninstalled: exec format error
read-only: aarch64
installing: arm64 OK (registered
one capability: aarch64
unprivileged: aarch64 interpreter /usr/bin/qemu-aarch64 flags: POCF 
persisting: arm64 OK (/usr/local/lib/binfmtctl/qemu-aarch64)
persisted: etc/binfmt.d/zz-binfmtctl.conf usr/local/lib/binfmtctl/manifest usr/local/lib/binfmtctl/qemu-aarch64 usr/local/lib/binfmtctl/register 
left: 
warnings: 0
installing: arm64 OK (unchanged)
holding arm64
ending: a signal came
held: aarch64
ended 0
after: exec format error
";
