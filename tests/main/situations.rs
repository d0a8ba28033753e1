//! What goes wrong on real machines, made for real: what the doctor says of it, and whether its repair,
//! pasted as it is printed, repairs. A table, and a score.
//!
//! A situation is right when all of `says` is said and nothing of `never`; when every line after
//! `repair:`, pasted in order, makes `works` succeed, which failed before; and when there is none, if
//! `works` is empty. `SITUATION=A4` tries those alone whose names have that, `SHOW=1` prints all that is said.

use std::fs;
use std::path::Path;

use binfmtctl::testing::Arch;

use crate::support::{REGISTER, guest_root, guests, in_namespace};

struct Situation {
    id: &'static str,
    /// Bash that makes it, in `$T`. There are `$G/arm64/bin/busybox`, an arm64 root `$R`, programs `$F`.
    make: &'static str,
    /// The doctor's arguments.
    look: &'static str,
    says: &'static [&'static str],
    never: &'static [&'static str],
    /// A command that works once the repair is made.
    works: &'static str,
}

const fn situation(
    id: &'static str,
    make: &'static str,
    look: &'static str,
    says: &'static [&'static str],
    works: &'static str,
) -> Situation {
    Situation { id, make, look, says, never: &[], works }
}

/// `sed` would damage these.
const NO_EDIT: &[&str] = &["repair:", "sed -i"];

impl Situation {
    const fn never(self, never: &'static [&'static str]) -> Self {
        Self { never, ..self }
    }
}

/// Shell functions and files that situations are made of.
const PRELUDE: &str = r#"
set +e
mkdir $T/path && ln -s $B $T/path/binfmtctl; PATH=$T/path:$PATH; cd $T
install() { binfmtctl --install "$1" >/dev/null 2>&1; }
script() { printf "$1" >$T/x; chmod +x $T/x; }
compile() { echo "$1" | gcc -x c -o "$T/${@: -1}" - -x none "${@:2:$#-2}"; }
# Starts a program as the kernel does; shells and env would read what it refuses as a script.
printf 'import os, sys\nos.execv(sys.argv[1], sys.argv[1:])\n' >$T/exec.py; export X="python3 $T/exec.py"
# A root with an arm64 program, its loader and libraries, and nothing else.
root() {
    mkdir -p $T/root/usr/bin $T/root/usr/lib/aarch64-linux-gnu $T/root/etc; ln -s usr/lib $T/root/lib; ln -s usr/bin $T/root/bin
    cp $R/usr/bin/{true,dash,ls,env} $T/root/usr/bin; ln -s dash $T/root/usr/bin/sh
    cp -P $R/usr/lib/aarch64-linux-gnu/{ld-linux,libc.so,libselinux,libcap,libpcre2}* $T/root/usr/lib/aarch64-linux-gnu
    ln -s aarch64-linux-gnu/ld-linux-aarch64.so.1 $T/root/usr/lib/ld-linux-aarch64.so.1; cp $R/etc/os-release $T/root/etc 2>/dev/null
}
# A root with a program of this machine and what it needs.
native() { mkdir -p $T/native; cp /bin/true $T/native; ldd /bin/true | grep -o '/[^ ]*' | while read -r file; do mkdir -p $T/native$(dirname $file); cp $file $T/native$file; done; }
# An OCI layout $1 for $2 with a layer of $3, packed by $4, and what stands after \"config\": in its configuration.
blob() { h=$(sha256sum <$2 | cut -c1-64); mkdir -p $1/blobs/sha256; cp $2 $1/blobs/sha256/$h; echo "{\"digest\":\"sha256:$h\",\"size\":$(stat -c %s $2)${3-}}"; }
oci() {
    tar -C $3 -c . | $4 >$T/layer; layer=$(blob $1 $T/layer)
    echo "{\"os\":\"linux\",\"architecture\":\"$2\",\"config\":$5}" >$T/config; config=$(blob $1 $T/config)
    echo "{\"config\":$config,\"layers\":[$layer${6:+,${6-}}]}" >$T/manifest
    echo "{\"manifests\":[$(blob $1 $T/manifest ",\"platform\":{\"os\":\"linux\",\"architecture\":\"$2\"}")]}" >$1/index.json; echo '{"imageLayoutVersion":"1.0.0"}' >$1/oci-layout
}
# What `docker save` wrote before it wrote layouts.
saved() {
    mkdir $T/saved $T/saved/a; tar -C $3 -cf $T/saved/a/layer.tar .; echo "{\"os\":\"linux\",\"architecture\":\"$2\",\"config\":$4}" >$T/saved/c.json
    echo '[{"Config":"c.json","RepoTags":["me/app:1"],"Layers":["a/layer.tar"]}]' >$T/saved/manifest.json; tar -C $T/saved -cf $1 .
}
# Starts a command for which system call $1 fails with EPERM.
cat >$T/deny.py <<'P'
import ctypes, os, struct, sys
wrong = [(0x20, 0, 0, 0), (0x15, 0, 1, int(sys.argv[1])), (6, 0, 0, 0x50001), (6, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in wrong))
program = struct.pack("HxxxxxxQ", len(wrong), ctypes.addressof(code))
if ctypes.CDLL(None).prctl(22, 2, program, 0, 0): sys.exit("no filter")
os.execvp(sys.argv[2], sys.argv[2:])
P
deny() { python3 $T/deny.py "$@"; }
# A program $1 of so many bits, byte order, machine and flags, for loader $6 if there is one, of e_type $7.
cat >$T/elf.py <<'P'
import os, struct, sys
path, bits, order, machine, flags, loader, kind = sys.argv[1:] + ["", "2"][len(sys.argv) - 6:]
order, loader, wide = {"le": "<", "be": ">"}[order], loader.encode() + b"\0" if loader else b"", bits == "64"
head, part, count = (64, 56, 2 if loader else 1) if wide else (52, 32, 2 if loader else 1)
text = head + part * count
def header(kind, flags, offset, size):
    at = 0x10000 + offset
    return struct.pack(order + "IIQQQQQQ", kind, flags, offset, at, at, size, size, 1) if wide else struct.pack(order + "IIIIIIII", kind, offset, at, at, size, size, flags, 1)
elf = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1, 0]) + bytes(8)
elf += struct.pack(order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"), int(kind), int(machine), 1, 0x10000 + text, head, 0, int(flags, 16), head, part, count, 64, 0, 0)
elf += header(1, 5, 0, text + len(loader) + 16) + (header(3, 4, text + 16, len(loader)) if loader else b"") + b"\x01" * 16 + loader
open(path, "wb").write(elf)
os.chmod(path, 0o755)
P
elf() { python3 $T/elf.py "$@"; }
# An entry for arm64 as `$1` says: magic, mask, in hexadecimal escapes.
narrow() { printf ':qemu-aarch64:M:0:%s:%s:%s:POCF' "$1" "$2" $B >$M/register; }
"#;

/// The program's file.
#[rustfmt::skip]
const FILES: &[Situation] = &[
    situation("A1 no entry", "mount -t binfmt_misc none $M", "$G/arm64/bin/busybox",
        &["no emulator for arm64 is registered"], "$G/arm64/bin/busybox true"),
    situation("A2 cut in half", "install arm64; head -c 700000 $G/arm64/bin/busybox >$T/x; chmod +x $T/x", "$T/x",
        &["is cut short: it has 700000 bytes", "fetch it again"], ""),
    situation("A2b cut to 100 bytes", "install arm64; head -c 100 $G/arm64/bin/busybox >$T/x; chmod +x $T/x", "--run $T/x",
        &["is cut short"], "").never(&["newer emulator"]),
    situation("A3 pointer of Git LFS", r"script 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n'", "$T/x",
        &["a pointer of Git LFS", "git lfs pull"], "").never(NO_EDIT),
    situation("A4 HTML page", r"script '<!DOCTYPE html>\n<html><title>404</title></html>\n'", "$T/x", &["an HTML page"], "").never(NO_EDIT),
    situation("A4 Not Found", "script 'Not Found'", "$T/x", &["a server's answer"], "").never(NO_EDIT),
    situation("A4 JSON", r#"script '{"message":"Not Found"}'"#, "$T/x", &["a JSON document"], "").never(NO_EDIT),
    situation("A4 gzip", "echo x | gzip >$T/x; chmod +x $T/x", "$T/x", &["compressed with gzip", "tar -xzf"], "").never(NO_EDIT),
    situation("A4 xz", "echo x | xz >$T/x; chmod +x $T/x", "$T/x", &["compressed with xz"], "").never(NO_EDIT),
    situation("A4 tar", "tar -cf $T/x /etc/hostname 2>/dev/null; chmod +x $T/x", "$T/x", &["a tar archive"], "").never(NO_EDIT),
    situation("A4 Mach-O", r"script '\xcf\xfa\xed\xfe\x0c\0\0\x01\0\0\0\0'", "$T/x", &["a macOS program"], "").never(NO_EDIT),
    situation("A4 zero bytes", "truncate -s 3G $T/x; chmod +x $T/x", "$T/x", &["nothing but zero bytes"], "").never(NO_EDIT),
    situation("A4 static library", "echo 'int f;' | gcc -x c -c -o o - && ar rc $T/x o; chmod +x $T/x", "$T/x", &["a static library"], ""),
    situation("A36 no shebang", r"script 'echo hello\nexit 0\n'", "$T/x", &["without #!"], "$X $T/x"),
    situation("A36b no shebang, for bash", r"script 'x=(1 2)\n[[ ${x[1]} = 2 ]] && exit 0\nexit 3\n'", "$T/x", &["without #!", "/bin/bash"],
        "$X $T/x"),
    situation("A36c no shebang, no script", r"script 'What this is: a text.\n'", "$T/x", &["without #!"], "").never(NO_EDIT),
    situation("A38 UTF-16", r"printf '#!/bin/sh\r\nexit 0\r\n' | iconv -t UTF-16 >$T/x; chmod +x $T/x", "$T/x", &["UTF-16"], "$X $T/x"),
    situation("A38b UTF-16 without a mark", r"printf '#!/bin/sh\nexit 0\n' | iconv -t UTF-16BE >$T/x; chmod +x $T/x", "$T/x", &["UTF-16"], "$X $T/x"),
    situation("A5 CRLF", r"script '#!/bin/sh\r\nexit 0\r\n'", "$T/x", &["carriage return"], "$X $T/x"),
    situation("A5b CRLF after an option", r"script '#!/bin/sh -e\r\nexit 0\r\n'", "$T/x", &["carriage return"], "$X $T/x"),
    situation("A37 byte order mark", r"script '\xef\xbb\xbf#!/bin/sh\nexit 0\n'", "$T/x", &["byte order mark"], "$X $T/x"),
    situation("A37b byte order mark and CRLF", r"script '\xef\xbb\xbf#!/bin/sh\r\nexit 0\r\n'", "$T/x", &["byte order mark"], "$X $T/x"),
    situation("A37c blank before #!", r"script ' #!/bin/sh\nexit 0\n'", "$T/x", &["blanks or empty lines before #!"], "$X $T/x"),
    situation("A37d empty line before #!", r"script '\n\n#!/bin/sh\nexit 0\n'", "$T/x", &["blanks or empty lines before #!"], "$X $T/x"),
    situation("A41 empty", ": >$T/x; chmod +x $T/x", "$T/x", &["x is empty"], "").never(NO_EDIT),
    situation("A11 Windows", r"script 'MZ\0'; truncate -s 60 $T/x; printf '\x40\0\0\0PE\0\0' >>$T/x", "$T/x", &["a Windows program"], "").never(NO_EDIT),
    situation("A15 object file", "echo 'int main;' | gcc -x c -c -o $T/x -; chmod +x $T/x", "$T/x", &["an object file"], ""),
    situation("A14 shared library", "compile 'int f(void){return 0;}' -shared -fPIC x", "$T/x", &["a shared library, not a program", "failure"], ""),
    situation("A14b shared library of the system", "cp $(gcc -print-file-name=libm.so.6) $T/x; chmod +x $T/x", "$T/x", &["a shared library, not a program"], ""),
    situation("A14c arm64 shared library", "install arm64; root; chmod +x $T/root/lib/aarch64-linux-gnu/libselinux.so.1", "--root $T/root /lib/aarch64-linux-gnu/libselinux.so.1",
        &["a shared library, not a program"], ""),
    situation("A14d debugging information", "compile 'int main(void){return 0;}' -g y; objcopy --only-keep-debug y x; chmod +x x", "$T/x",
        &["only what debuggers read"], "").never(&["cut short"]),
    situation("A14e zeros where it begins", "compile 'int main(void){return 0;}' -static x && dd if=/dev/zero of=x bs=4096 seek=1 count=100 conv=notrunc status=none", "$T/x",
        &["only zero bytes where its code begins"], ""),
    situation("A6 noexec", r"mkdir $T/m; mount -t tmpfs -o noexec none $T/m; printf '#!/bin/sh\nexit 0\n' >$T/m/x; chmod +x $T/m/x", "$T/m/x",
        &["mounted noexec"], "$T/m/x"),
    situation("A7 not executable", r"script '#!/bin/sh\nexit 0\n'; chmod -x $T/x", "$T/x", &["is not executable"], "$T/x"),
    situation("A9 dangling link", "ln -s /nowhere/else $T/x", "$T/x", &["is a link to /nowhere/else, which is not there"], ""),
    situation("A9b link of an unpacked root", "root; mv $T/root/usr/bin/dash $T/root/usr/bin/dash-1; ln -s /bin/dash-1 $T/root/usr/bin/ash", "$T/root/usr/bin/ash",
        &["is a link to /bin/dash-1", "--root /mnt/root /usr/bin/ash"], "").never(&["install what has"]),
    situation("A9c directory that is a dangling link", "ln -s /nowhere $T/d", "$T/d/x", &["/mnt/d of /mnt/d/x is a link to /nowhere, which is not there"], ""),
    situation("C29 directory", "mkdir $T/x", "$T/x", &["x is a directory"], ""),
    situation("C29b pipe", "mkfifo -m 755 $T/x", "$T/x", &["x is a named pipe"], ""),
    situation("C29c device", "", "/dev/null", &["/dev/null is a device"], ""),
    situation("C29d file of /proc that waits", "chmod +x $T", "/proc/kmsg", &[], ""),
    situation("A17 arm64 on this machine", "install arm64; cp $R/usr/bin/ls $T/x; sed -i 's#/lib/ld-linux-aarch64.so.1#/lib/ld-linux-aarch64.so.9#' $T/x", "$T/x",
        &["its dynamic loader /lib/ld-linux-aarch64.so.9 is not in /", "this root is for"], "").never(&["docker run", "IMAGE"]),
    situation("A45 amd64 in an arm64 root", "root; cp /bin/true $T/root/usr/bin/native", "--root $T/root /usr/bin/native",
        &["its dynamic loader /lib64/ld-linux-x86-64.so.2 is not in", "that root is for arm64"], "").never(&["docker run", "IMAGE"]),
    situation("A45b loader is for amd64", "install arm64; root; cp $B $T/root/usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1", "--root $T/root ls", &["is one for amd64"], ""),
    situation("A16 built by Nix", "compile 'int main(void){return 0;}' -Wl,-I/nix/store/abc-glibc-2.40/lib/ld-linux-x86-64.so.2 x", "$T/x",
        &["its dynamic loader /nix/store/abc-glibc-2.40/lib/ld-linux-x86-64.so.2 is not in /: it was built with Nix"], "").never(&["docker run", "IMAGE", "--platform"]),
    situation("D1 musl in a root with glibc", "install arm64; root; sed -i 's#/lib/ld-linux-aarch64.so.1#/lib/ld-musl-aarch64.so.1\\x00#' $T/root/usr/bin/true", "--root $T/root true",
        &["built for musl (Alpine), and this root has glibc"], "").never(&["docker run", "IMAGE", "--platform"]),
    situation("D2 glibc in a root with musl", "install arm64; root; rm $T/root/usr/lib/ld-* $T/root/usr/lib/aarch64-linux-gnu/ld-*; \
            cp $R/usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1 $T/root/usr/lib/ld-musl-aarch64.so.1; echo ID=alpine >$T/root/etc/os-release", "--root $T/root true",
        &["built for glibc (Debian, Fedora), and this root has musl", "gcompat"], "").never(&["docker run", "IMAGE", "--platform"]),
    situation("D3 no loader at all", "install arm64; root; rm $T/root/usr/lib/ld-* $T/root/usr/lib/*/{ld-,libc.so}*", "--root $T/root true", &["nor any other", "static"], ""),
    situation("D4 loader not executable", "native; chmod -x $T/native/lib64/ld-linux-x86-64.so.2", "--root $T/native /true", &["is not executable"], "chroot $T/native /true"),
    situation("D4b loader not executable, which emulators do not mind", "install arm64; root; chmod -x $T/root/usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1; chroot $T/root true || echo broken", "--root $T/root true",
        &["shared libraries are there"], "").never(&["failure", "broken"]),
    situation("D5 loader elsewhere", "install arm64; root; rm $T/root/usr/lib/ld-linux-aarch64.so.1; mkdir $T/root/lib64; mv $T/root/lib/aarch64-linux-gnu/ld-* $T/root/lib64", "--root $T/root true",
        &["it is at /lib64/ld-linux-aarch64.so.1"], "chroot $T/root /bin/true"),
    situation("A17n library missing", "compile 'int f(void){return 0;}' -shared -fPIC libfoo.so.1; compile 'int f(void); int main(void){return f();}' x $T/libfoo.so.1 x 2>/dev/null; \
            compile 'int f(void){return 0;}' -shared -fPIC -Wl,-soname,libfoo.so.1 libfoo.so; compile 'int f(void); int main(void){return f();}' -L$T -Wl,--no-as-needed -lfoo x; rm libfoo.so*", "$T/x",
        &["x needs libfoo.so.1, which is not in /", "failure"], ""),
    situation("A17o library beside the program", "compile 'int f(void){return 0;}' -shared -fPIC -Wl,-soname,libfoo.so.1 libfoo.so; compile 'int f(void); int main(void){return f();}' -L$T -lfoo x; mv libfoo.so libfoo.so.1", "$T/x",
        &["it is at /mnt/libfoo.so.1, where its loader does not look"], "$T/x"),
    situation("A17p library by RUNPATH", "mkdir lib; compile 'int f(void){return 0;}' -shared -fPIC -Wl,-soname,libfoo.so.1 lib/libfoo.so; \
            compile 'int f(void); int main(void){return f();}' -L$T/lib -lfoo '-Wl,-rpath,$ORIGIN/lib' x; mv lib/libfoo.so lib/libfoo.so.1; $T/x || echo broken", "$T/x", &["shared libraries are there"], "").never(&["failure", "broken"]),
    situation("A17q library of a library", "compile 'int g(void){return 0;}' -shared -fPIC -Wl,-soname,libbar.so.1 libbar.so; compile 'int g(void); int f(void){return g();}' -shared -fPIC -Wl,-soname,libfoo.so.1 -L$T -lbar libfoo.so; \
            compile 'int f(void); int main(void){return f();}' -L$T -lfoo -Wl,--allow-shlib-undefined -Wl,-rpath,$T x; mv libfoo.so libfoo.so.1; rm libbar.so", "$T/x",
        &["/mnt/libfoo.so.1 needs libbar.so.1, which is not in /"], ""),
    situation("A17r libselinux missing in an arm64 root", "install arm64; root; rm $T/root/usr/lib/*/libselinux*", "--root $T/root ls", &["ls needs libselinux.so.1, which is not in"], ""),
    situation("A17s library for another architecture", "install arm64; root; cp /lib/x86_64-linux-gnu/libselinux.so.1 $T/root/usr/lib/aarch64-linux-gnu/", "--root $T/root ls",
        &["libselinux.so.1", "is for amd64"], ""),
    situation("A17t library cut short", "install arm64; root; l=$(readlink -f $T/root/usr/lib/aarch64-linux-gnu/libselinux.so.1); truncate -s 5000 $l", "--root $T/root ls", &["is cut short"], ""),
    situation("A17u not in the cache", "install arm64; root; mkdir $T/root/opt; mv $T/root/lib/*/libselinux* $T/root/opt; echo /opt >$T/root/etc/ld.so.conf; cp $R/usr/sbin/ldconfig $T/root/usr/bin; \
            : >$T/root/etc/ld.so.cache", "--root $T/root ls", &["it is at /opt/libselinux.so.1, but not in /etc/ld.so.cache"], "chroot $T/root /bin/ls / >/dev/null"),
    situation("A17v in the cache", "install arm64; root; mkdir $T/root/opt; mv $T/root/lib/*/libselinux* $T/root/opt; echo /opt >$T/root/etc/ld.so.conf; cp $R/usr/sbin/ldconfig $T/root/usr/bin; \
            chroot $T/root ldconfig; chroot $T/root ls >/dev/null || echo broken", "--root $T/root ls", &["shared libraries are there"], "").never(&["failure", "broken"]),
    situation("A18g glibc too old", "compile 'int main(void){return 0;}' x; sed -i 's/GLIBC_2.34/GLIBC_2.99/' x", "$T/x", &["needs GLIBC_2.99 of", "it has up to GLIBC_2."], ""),
    situation("A18h library too old", "echo 'V1 { f; }; V2 { g; } V1;' >v; echo 'V1 { f; };' >w; compile 'int f(void){return 0;} int g(void){return 0;}' -shared -fPIC -Wl,-soname,libv.so.1 -Wl,--version-script=v libv.so; \
            compile 'int g(void); int main(void){return g();}' -L$T -lv -Wl,-rpath,$T x; compile 'int f(void){return 0;}' -shared -fPIC -Wl,-soname,libv.so.1 -Wl,--version-script=w libv.so.1", "$T/x",
        &["x needs V2 of /mnt/libv.so.1"], ""),
    situation("A24 native SIGILL", "compile 'int main(void){__builtin_trap();}' x", "--run $T/x", &["it crashed by itself, without any emulator: signal 4, SIGILL"], "").never(&["newer emulator", "--replace"]),
    situation("A25 native SIGSEGV", "compile 'int main(void){return *(volatile int*)0;}' x", "--run $T/x", &["it crashed by itself, without any emulator: signal 11, SIGSEGV"], "").never(&["newer emulator", "--replace"]),
    situation("A25b native abort", "compile 'void abort(void); int main(void){abort();}' x", "--run $T/x", &["signal 6, SIGABRT", "it gave up"], ""),
    situation("A35 env, command misspelt", r"script '#!/usr/bin/env pyhton3\n'", "$T/x", &["env does not find pyhton3"], ""),
    situation("A35b env, two words", r"script '#!/usr/bin/env sh -e\nexit 0\n'", "$T/x", &["to env as one word"], "$X $T/x"),
    situation("A35c env of busybox and -S", r"mkdir -p $T/root/bin; cp $G/arm64/bin/busybox $T/root/bin/; ln -s busybox $T/root/bin/env; ln -s busybox $T/root/bin/sh; install arm64
            printf '#!/bin/env -S sh -e\nexit 0\n' >$T/root/x; chmod +x $T/root/x; chroot $T/root /x && echo fine", "--root $T/root /x", &["busybox's, which does not know -S"], "").never(&["fine"]),
    situation("A35d line too long", r"script '#!/bin/sh'; d=$T/$(printf 'd%.0s' {1..250}); mkdir $d; ln -s /bin/sh $d/sh; echo '#!'$d/sh >x; $X $T/x 2>/dev/null && echo fine", "$T/x", &["is too long: the kernel reads 256 bytes"], "").never(&["fine"]),
    situation("A35e scripts of scripts", r"cp /bin/true $T/s0; for i in 1 2 3 4 5 6; do echo '#!'$T/s$((i - 1)) >$T/s$i; chmod +x $T/s$i; done; $T/s5 || echo s5 broken; $T/s6 2>/dev/null && echo s6 fine", "$T/s6",
        &["the kernel goes 5 from file to file"], "").never(&["broken", "fine"]),
    situation("A35f five scripts", "cp /bin/true $T/s0; for i in 1 2 3 4 5; do echo '#!'$T/s$((i - 1)) >$T/s$i; chmod +x $T/s$i; done", "$T/s5", &["s5 is a script for"], "").never(&["failure"]),
    situation("A35g an emulator is a step", "install arm64; cp $G/arm64/bin/busybox $T/true; mv $T/true $T/s0; for i in 1 2 3 4 5; do echo '#!'$T/s$((i - 1)) >$T/s$i; chmod +x $T/s$i; done
            $T/s5 true 2>/dev/null && echo fine", "$T/s5", &["the kernel goes 5 from file to file"], "").never(&["fine"]),
    situation("A22b shell of the root is foreign", r"mount -t binfmt_misc none $M; root; printf '#!/bin/sh\nexit 0\n' >$T/root/x; chmod +x $T/root/x", "--root $T/root /x", &["no emulator for arm64 is registered"], "chroot $T/root /x"),
    situation("A22 interpreter of the root is native, its loader missing", r"root; cp /bin/dash $T/root/usr/bin/dash; printf '#!/bin/sh\n' >$T/root/x; chmod +x $T/root/x", "--root $T/root /x", &["that root is for arm64"], ""),
    situation("A23 AppImage", r"install arm64; cp $F/exit $T/x; printf 'AI\x02' | dd of=$T/x bs=1 seek=8 conv=notrunc status=none", "$T/x", &["as it is an AppImage"], "$T/x.elf"),
    situation("A17b options after the program", "install arm64", "/bin/true --root $R --run", &["/bin/true is a program for arm64", "it ran"], "").never(&["amd64"]),
    situation("A17c second program", "", "/bin/true /bin/false", &["unexpected argument '/bin/false'"], ""),
    situation("C37 hangs", "", "--run --timeout 1 /bin/sleep 60", &["this machine runs it by itself", "still ran after 1 s"], ""),
    situation("C38 its own failure", "", "--run /bin/sh -c 'echo no luck >&2; exit 3'", &["it ran, and failed by itself: exit status 3", "it said: no luck"], "").never(&["ok       file-run"]),
    situation("C38b not found inside", "", "--run /bin/sh -c nonesuch", &["failure  file-run", "exit status 127"], ""),
    situation("E1 x32", r"compile 'int main(void){return 0;}' -static x; printf '\x01' | dd of=x bs=1 seek=4 conv=notrunc status=none", "$T/x", &["x32"], ""),
    situation("E2 ILP32", r"cp $F/exit $T/x; printf '\x01' | dd of=x bs=1 seek=4 conv=notrunc status=none", "$T/x", &["ILP32"], ""),
    situation("E3 FreeBSD", r"cp $G/arm64/bin/busybox $T/x; printf '\x09' | dd of=$T/x bs=1 seek=7 conv=notrunc status=none", "$T/x", &["a program for FreeBSD, not for Linux"], ""),
    situation("E4 Android", "install arm64; cp $R/usr/bin/true $T/x; sed -i 's#/lib/ld-linux-aarch64.so.1#/system/bin/linker64\\x00\\x00\\x00\\x00\\x00#' $T/x", "$T/x", &["a program for Android"], ""),
    situation("E5 other byte order", r"root; cp $R/usr/bin/true $T/x; cp $F/exit-be $T/x", "$T/x", &["a program for arm64be"], ""),
    situation("M1 pasted message", "mount -t binfmt_misc none $M", "'exec /bin/sh: exec format error'", &["meaning  nothing here runs that file", "binfmtctl doctor PROGRAM"], "").never(&["is not there", "IMAGE"]),
    situation("M2 pasted without quotes", "", "qemu-x86_64: Could not open \"'/lib64/ld-linux-x86-64.so.2':\" No such file or directory", &["dynamic loader is not in its root"], ""),
    situation("M3 name of an image", "", "alpine:latest", &["docker save", "--image"], ""),
];

/// More of the kind that people meet: other ABIs, other distributions, odd files.
#[rustfmt::skip]
const ODDITIES: &[Situation] = &[
    situation("O1 CRLF and env -S", r"script '#!/usr/bin/env -S sh -e\r\nexit 0\r\n'", "$T/x", &["end as on Windows"], "! grep -q $'\\r' $T/x"),
    situation("O2 script of a script for another architecture", r"mount -t binfmt_misc none $M; cp $G/arm64/bin/busybox $T; printf '#!/mnt/busybox true\n' >$T/s; printf '#!/mnt/s\n' >$T/x; chmod +x $T/s $T/x", "$T/x",
        &["/mnt/busybox is a program for arm64", "no emulator for arm64 is registered"], "$X $T/x"),
    situation("O3 setuid without C", "mount -t binfmt_misc none $M; binfmtctl --install arm64 --no-credentials >/dev/null 2>&1; cp $G/arm64/bin/busybox $T/su; chmod 4755 $T/su", "$T/su", &["qemu-aarch64 lacks flag C"], "grep -q POCF $M/qemu-aarch64"),
    situation("O4 emulator that prints how it is used", r#"mount -t binfmt_misc none $M; compile '#include <stdio.h>
            int main(void){fputs("usage: qemu-aarch64 program\n", stderr); return 1;}' -static q; register qemu-aarch64 $T/q POCF"#, "$F/exit", &["it says: usage: qemu-aarch64 program"], "$F/exit"),
    situation("O5 big-endian arm", "mount -t binfmt_misc none $M; elf x 32 be 40 5800000", "$T/x", &["a program for armbe", "no emulator for armbe is registered"], "grep -q enabled $M/qemu-armeb"),
    situation("O6 LoongArch's old world", "install loong64; elf x 64 le 258 3 /lib64/ld.so.1", "$T/x", &["it is of LoongArch's old world"], ""),
    situation("O7 riscv32 in a root of riscv64", "install riscv,riscv64; mkdir -p root/lib root/bin; elf root/lib/ld-linux-riscv64-lp64d.so.1 64 le 243 5 '' 3; elf root/bin/x 32 le 243 5 /lib/ld-linux-riscv32-ilp32d.so.1", "--root $T/root /bin/x", &["that root is for riscv64"], ""),
    situation("O8 armel in a root of armhf", "install arm; mkdir -p root/lib root/bin; elf root/lib/ld-linux-armhf.so.3 32 le 40 5000400 '' 3; elf root/bin/x 32 le 40 5000200 /lib/ld-linux.so.3", "--root $T/root /bin/x", &["it is for armel, and this root for armhf"], ""),
    situation("O9 armhf in a root of armel", "install arm; mkdir -p root/lib root/bin; elf root/lib/ld-linux.so.3 32 le 40 5000200 '' 3; elf root/bin/x 32 le 40 5000400 /lib/ld-linux-armhf.so.3", "--root $T/root /bin/x", &["it is for armhf, and this root for armel"], ""),
    situation("O10 mips n32 in a root of o32", "install mips,mips64p32; mkdir -p root/lib root/bin; elf root/lib/ld.so.1 32 be 8 1007 '' 3; elf root/bin/x 32 be 8 27 /lib32/ld.so.1", "--root $T/root /bin/x", &["a program for mips64p32", "that root is for mips"], ""),
    situation("O11 ARMv7 on an ARMv5 CPU", "install arm; export QEMU_CPU=arm926", "--run $F/armv7", &["the CPU of QEMU_CPU=arm926 lacks", "SIGILL"], "$F/armv7").never(&["--replace"]),
    situation("O12 header cut short", "head -c 20 $F/exit >$T/x; chmod +x $T/x", "$T/x", &["it ends within the ELF header"], ""),
    situation("O13 no such class", r"cp $F/exit x; printf '\x03' | dd of=x bs=1 seek=4 conv=notrunc status=none", "$T/x", &["its ELF class is neither 32 nor 64 bits"], ""),
    situation("O14 no such byte order", r"cp $F/exit x; printf '\x07' | dd of=x bs=1 seek=5 conv=notrunc status=none", "$T/x", &["its ELF byte order is neither"], ""),
    situation("O15 machine that nobody knows", "elf x 64 le 57005 0", "$T/x", &["an unknown architecture", "no emulator is known for its machine number"], ""),
    situation("O16 program for BPF", "elf x 64 le 247 0", "$T/x", &["(BPF)"], ""),
    situation("O17 actually portable executable", r"printf 'MZqFpD=\x27\n' >x; head -c 5000 /dev/zero >>x; chmod +x x", "$T/x", &["an actually portable executable (APE)", "sh FILE"], "").never(&["a program for DOS"]),
    situation("O18 link that leads to itself", "ln -s y x; ln -s x y", "$T/x", &["a link that leads to itself"], ""),
    situation("O19 a file where a directory should be", "cp /bin/true x", "$T/x/y", &["/mnt/x/y cannot be reached: Not a directory"], ""),
    situation("O20 setuid script", r"script '#!/bin/sh\nexit 0\n'; chmod 4755 x", "$T/x", &["is setuid, which the kernel ignores for scripts"], ""),
    situation("O21 interpreter on noexec", r"mkdir m; mount -t tmpfs -o noexec none m; cp /bin/dash m/sh; script '#!/mnt/m/sh\nexit 0\n'", "$T/x", &["/mnt/m/sh is on a file system mounted noexec"], "$X $T/x"),
    situation("O22 python, where there is python3", r"mkdir -p root/usr/bin; cp $F/exit root/usr/bin/python3; printf '#!/usr/bin/python\n' >root/x; chmod +x root/x; install arm64", "--root $T/root /x", &["its interpreter /usr/bin/python is not in", "s|/usr/bin/python|/usr/bin/python3|"], "chroot $T/root /x"),
    situation("O23 bash in a root of Alpine", r"mkdir -p root/bin root/etc/apk; cp $G/arm64/bin/busybox root/bin/; ln -s busybox root/bin/sh; printf '#!/bin/bash\n' >root/x; chmod +x root/x; install arm64", "--root $T/root /x", &["apk add bash"], ""),
    situation("O24 root of NixOS", "native; mkdir -p native/nix/store/abc/lib; mv native/lib64/* native/nix/store/abc/lib/; rm -rf native/lib64", "--root $T/native /true", &["this is NixOS", "nix-ld"], "").never(&["link it statically"]),
    situation("O25 root is a file", "tar -cf r.tar /etc/hostname 2>/dev/null", "--root $T/r.tar /bin/sh", &["--image looks into images"], ""),
    situation("O26 name of no command", "", "lsx", &["PATH leads to no such command"], ""),
    situation("O27 squashfs", r"script 'hsqs'; head -c 500 /dev/zero >>x", "$T/x", &["a squashfs image"], "").never(NO_EDIT),
    situation("O28 native loader, program without code", "elf x 64 le 62 0 /lib64/ld-linux-x86-64.so.2", "--run $T/x", &["it crashed by itself, without any emulator"], "").never(&["--replace"]),
    situation("O29 an emulator's complaints do not spoil JSON", "install arm64; export QEMU_CPU=nonsense; binfmtctl() { $B \"$@\" | python3 -c 'import json, sys; json.load(sys.stdin); print(\"sound\")'; }", "--json $F/exit", &["sound"], ""),
    situation("O30 entry that takes programs by extension", "mount -t binfmt_misc none $M; printf ':dosexec:E::exe::/usr/bin/wine:' >$M/register; cp /bin/true x.exe", "$T/x.exe", &["dosexec is registered for it, but"], "$T/x.exe"),
    situation("O31 script taken by extension", r"mount -t binfmt_misc none $M; printf ':x:E::sh::/nowhere/x:' >$M/register; printf '#!/bin/sh\nexit 0\n' >x.sh; chmod +x x.sh", "$T/x.sh", &["/nowhere/x is not in /"], ""),
    situation("O32 entry for what this machine runs, PIE alone", r"mount -t binfmt_misc none $M; narrow '\x7fELF\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00\x03\x00' '' 2>/dev/null; echo 0 >$M/qemu-aarch64", "", &["found nothing wrong"], "").never(&["failure"]),
    situation("O33 the files of an image of another architecture, by chroot", "mount -t binfmt_misc none $M; root", "--root $T/root ls", &["no emulator for arm64 is registered"], "chroot $T/root /bin/ls / >/dev/null"),
    situation("O34 busybox links", "install arm64; mkdir -p root/bin; cp $G/arm64/bin/busybox root/bin; ln -s /bin/busybox root/bin/ls; chroot root /bin/ls / >/dev/null || echo broken", "--root $T/root ls", &["is a program for arm64", "qemu-aarch64 runs programs for arm64"], "").never(&["failure", "broken"]),
    situation("O35 busybox links, busybox gone", "install arm64; mkdir -p root/bin; ln -s /bin/busybox root/bin/ls", "--root $T/root /bin/ls", &["/bin/ls is a link to /bin/busybox, which is not there"], ""),
    situation("O36 message of runc", "", "'exec: \"/app\": permission denied: unknown'", &["may not be executed"], ""),
    situation("O37 message of npm", "", "'Error: spawn Unknown system error -8'", &["nothing here runs that file"], ""),
    situation("O38 message of BuildKit", "", "'process \"/dev/.buildkit_qemu_emulator /bin/sh -c apt-get update\" did not complete successfully: exit code: 139'", &["a program crashed (signal 11)"], ""),
    situation("O39 message of dpkg", "", "'installed libc-bin package post-installation script subprocess returned error exit status 139'", &["a program crashed (signal 11)"], ""),
    situation("O40 message of systemd", "", "'Main process exited, code=exited, status=203/EXEC'", &["systemd could not start the file"], ""),
    situation("O41 message of debootstrap", "", "'E: Unable to execute target architecture'", &["debootstrap found no emulator"], ""),
    situation("O42 message of env about CRLF", "", r#""/usr/bin/env: 'bash\r': No such file or directory""#, &["lines end as on Windows"], ""),
    situation("O43 message of musl", "", "'Error relocating ./x: __vfprintf_chk: symbol not found'", &["of another C library", "doctor ./x"], ""),
    situation("O44 message of tar", "", "'tar: src/f: Cannot open: Function not implemented'", &["openat2"], ""),
    situation("O45 message of zsh names the program", "", "'zsh: exec format error: ./tool'", &["`binfmtctl doctor ./tool`"], ""),
    situation("O46 message that is none", "", "'the weather is fine'", &["if it is a message, binfmtctl does not know it"], ""),
    situation("O47 message of a kernel without the module", "", "\"mount: /proc/sys/fs/binfmt_misc: unknown filesystem type 'binfmt_misc'.\"", &["modprobe binfmt_misc"], ""),
];

/// Images, looked into without running them.
#[rustfmt::skip]
const IMAGES: &[Situation] = &[
    situation("I1 OCI layout, gzip", r#"install arm64; root; oci $T/i arm64 $T/root gzip '{"Cmd":["ls"],"Env":["PATH=/bin"]}'"#, "--image $T/i",
        &["linux/arm64: it starts ls", "/bin/ls is a program for arm64", "its 5 shared libraries are there"], "").never(&["failure"]),
    situation("I2 OCI layout, zstd", r#"install arm64; root; oci $T/i arm64 $T/root 'zstd -q' '{"Entrypoint":["/bin/sh","-c"],"Cmd":["exec ls -l"]}'"#, "--image $T/i",
        &["/bin/sh is a program for arm64", "/bin/ls is a program for arm64", "its 5 shared libraries are there"], "").never(&["failure"]),
    situation("I3 docker save", r#"install arm64; root; saved $T/i.tar arm64 $T/root '{"Entrypoint":["/usr/bin/env"],"Cmd":["ls"]}'"#, "--image $T/i.tar",
        &["linux/arm64 (me/app:1): it starts /usr/bin/env ls", "shared libraries are there"], "").never(&["failure"]),
    situation("I4 docker save, packed", r#"install arm64; root; saved $T/i.tar arm64 $T/root '{"Cmd":["ls"]}'; gzip $T/i.tar"#, "--image $T/i.tar.gz", &["(me/app:1): it starts ls", "ls is a program for arm64"], "").never(&["failure"]),
    situation("I5 archive of an OCI layout", r#"install arm64; root; oci $T/i arm64 $T/root cat '{"Cmd":["ls"]}'; tar -C $T/i -cf $T/i.tar ."#, "--image $T/i.tar", &["it starts ls", "shared libraries are there"], "").never(&["failure"]),
    situation("I6 wrong architecture inside", r#"install arm64; root; oci $T/i amd64 $T/root gzip '{"Cmd":["ls"]}'"#, "--image $T/i", &["it says linux/amd64, but what it starts is for arm64"], "").never(&["repair:"]),
    situation("I7 library missing", r#"install arm64; root; rm $T/root/lib/*/libselinux*; oci $T/i arm64 $T/root gzip '{"Cmd":["ls"]}'"#, "--image $T/i", &["ls needs libselinux.so.1, which is not in"], "").never(&["repair:"]),
    situation("I8 entry point missing", r#"root; oci $T/i arm64 $T/root gzip '{"Entrypoint":["/app"]}'"#, "--image $T/i", &["/app is not there in"], ""),
    situation("I9 entry point not executable", r#"install arm64; root; printf '#!/bin/sh\n' >$T/root/app; oci $T/i arm64 $T/root gzip '{"Entrypoint":["/app"]}'"#, "--image $T/i",
        &["/app is not executable", "in its Dockerfile: RUN chmod +x /app"], "").never(&["repair:"]),
    situation("I10 nothing to start", r#"root; oci $T/i arm64 $T/root gzip '{}'"#, "--image $T/i", &["it says nothing to start"], ""),
    situation("I11 layer cut short", r#"root; oci $T/i arm64 $T/root gzip '{"Cmd":["ls"]}'; for b in $T/i/blobs/sha256/*; do [ $(stat -c %s $b) -lt 100000 ] || truncate -s 90000 $b; done"#, "--image $T/i",
        &["its layer sha256:", "has 90000 bytes of"], ""),
    situation("I12 layer not there", r#"root; oci $T/i arm64 $T/root gzip '{"Cmd":["ls"]}'; find $T/i -size +50k -delete"#, "--image $T/i", &["its layer sha256:", "is not here"], ""),
    situation("I13 file taken away by a later layer", r#"install arm64; root; mkdir -p $T/up/usr/bin; : >$T/up/usr/bin/.wh.ls; tar -C $T/up -cf $T/l2 .; oci $T/i arm64 $T/root gzip '{"Cmd":["/usr/bin/ls"]}' "$(blob $T/i $T/l2)""#, "--image $T/i",
        &["/usr/bin/ls is not there in"], ""),
    situation("I14 no emulator for it", r#"mount -t binfmt_misc none $M; root; oci $T/i arm64 $T/root gzip '{"Cmd":["ls"]}'"#, "--image $T/i", &["no emulator for arm64 is registered"], "$F/exit"),
    situation("I15 another program of it", r#"install arm64; root; oci $T/i arm64 $T/root gzip '{"Cmd":["ls"]}'"#, "--image $T/i true", &["true is a program for arm64"], "").never(&["/ls is"]),
    situation("I18 long names and hard links", r#"install arm64; root; d=$(printf 'd%.0s' {1..200}); mkdir -p $T/root/$d/$d; ln $T/root/usr/bin/ls $T/root/$d/$d/ls; oci $T/i arm64 $T/root gzip "{\"Cmd\":[\"/$d/$d/ls\"]}""#, "--image $T/i",
        &["dd/ls is a program for arm64", "its 5 shared libraries are there"], "").never(&["failure"]),
    situation("I19 size of a file beyond all bounds", r#"python3 -c 'import tarfile; t = tarfile.TarInfo("manifest.json"); t.size = 1 << 60; open("/mnt/i.tar", "wb").write(t.tobuf(tarfile.GNU_FORMAT) + bytes(1024))'"#, "--image $T/i.tar",
        &["it is no whole tar archive"], ""),
    situation("I19b the same in a layer", r#"root; python3 -c 'import tarfile; t = tarfile.TarInfo("ls"); t.size = 1 << 60; open("/mnt/big", "wb").write(t.tobuf(tarfile.GNU_FORMAT) + bytes(1024))'; oci $T/i arm64 $T/root gzip '{"Cmd":["ls"]}' "$(blob $T/i $T/big)""#, "--image $T/i",
        &["layer 2 cannot be read"], ""),
    situation("I20 for many platforms, one of which is here", r#"install arm64; root; oci $T/i arm64 $T/root gzip '{"Cmd":["ls"]}'
            echo "{\"manifests\":[$(blob $T/i $T/manifest ',"platform":{"os":"linux","architecture":"arm64","variant":"v8"}'),{\"digest\":\"sha256:00\",\"size\":9,\"platform\":{\"os\":\"linux\",\"architecture\":\"s390x\"}},\
                $(blob $T/i $T/config ',"annotations":{"vnd.docker.reference.type":"attestation-manifest"},"platform":{"os":"unknown","architecture":"unknown"}')]}" >$T/index
            echo "{\"manifests\":[$(blob $T/i $T/index ',"annotations":{"org.opencontainers.image.ref.name":"me/app:1"}')]}" >$T/i/index.json"#, "--image $T/i",
        &["linux/arm64 (me/app:1): it starts ls", "linux/s390x (me/app:1): named, but not in this file"], "").never(&["failure", "unknown"]),
    situation("I16 no image", "echo x >$T/x", "--image $T/x", &["cannot be looked into"], ""),
    situation("I17 a directory that is none", "", "--image /etc", &["neither an OCI layout"], ""),
];

/// Kinds of files, scripts and libraries that people meet.
#[rustfmt::skip]
const MORE_FILES: &[Situation] = &[
    situation("P1 #! misspelt", r"script '!#/bin/sh\nexit 0\n'", "$T/x", &["a misspelt first line"], "$X $T/x"),
    situation("P1b ! forgotten, Windows' line ends", r"script '#/bin/sh\r\nexit 0\r\n'", "$T/x", &["a misspelt first line"], "$X $T/x"),
    situation("P2 #! below a comment", r"script '# Copyright\n#\n#!/bin/sh\nexit 0\n'", "$T/x", &["has its #! below other lines"], "$X $T/x"),
    situation("P3 invisible character", r"script '#!\xc2\xa0/bin/sh\nexit 0\n'", "$T/x", &["an invisible character (U+00A0)"], "$X $T/x"),
    situation("P3b zero width", r"script '#!/bin/\xe2\x80\x8bsh\nexit 0\n'", "$T/x", &["an invisible character (U+200B)"], "$X $T/x"),
    situation("P4 relative interpreter", r"script '#!bin/sh\nexit 0\n'; cd /usr/lib", "$T/x", &["bin/sh is no whole path"], "$X $T/x"),
    situation("P5 virtual environment removed", r"mkdir -p v/bin; printf '#!/home/me/v/bin/python3\n' >v/bin/x; chmod +x v/bin/x", "$T/v/bin/x", &["a virtual environment of Python's that was moved or removed"], "").never(NO_EDIT),
    situation("P5b virtual environment moved", r"mkdir -p v/bin; ln -s /usr/bin/python3 v/bin/python3; printf '#!/home/me/v/bin/python3\n' >v/bin/x; chmod +x v/bin/x", "$T/v/bin/x", &["s|/home/me/v/bin/python3|/mnt/v/bin/python3|"], "$X $T/v/bin/x"),
    situation("P6 Homebrew's bash", r"script '#!/opt/homebrew/bin/bash\nexit 0\n'", "$T/x", &["/opt/homebrew/bin/bash is not in /"], "$X $T/x"),
    situation("P7 env python, where there is python3", r"mkdir -p root/usr/bin; cp $F/exit root/usr/bin/python3; cp $G/arm64/bin/busybox root/usr/bin/env; printf '#!/usr/bin/env python\n' >root/x; chmod +x root/x; install arm64",
        "--root $T/root /x", &["env does not find python in", "s|python|python3|"], "chroot $T/root /x"),
    situation("P8 Python without #!", r"script 'import sys\nsys.exit(0)\n'", "$T/x", &["without #!", "python3"], "$X $T/x"),
    situation("P8b script of Windows without #!", r"script 'set -e\r\nexit 0\r\n'", "$T/x", &["without #!"], "$X $T/x"),
    situation("P8c interpreter that is not here", r"script 'Write-Host hi\n'; mv x x.ps1", "$T/x.ps1", &["it seems to be a script for /usr/bin/env pwsh, which is not here"], "").never(NO_EDIT),
    situation("P9 source in C", r"script '#include <stdio.h>\nint main(void){return 0;}\n'", "$T/x", &["source code"], "").never(NO_EDIT),
    situation("P9b source in Go", r"script '// a tool\npackage main\n'", "$T/x", &["source code"], "").never(NO_EDIT),
    situation("P10 YAML", r"script 'apiVersion: v1\nkind: Pod\n'", "$T/x", &["is YAML"], "").never(NO_EDIT),
    situation("P11 Dockerfile", r"script '# build\nFROM debian\nRUN true\n'", "$T/x", &["a Dockerfile"], "").never(NO_EDIT),
    situation("P12 unit of systemd's", r"script '[Unit]\nDescription=x\n'", "$T/x", &["a unit of systemd's"], "").never(NO_EDIT),
    situation("P13 desktop entry", r"script '[Desktop Entry]\nExec=true\n'", "$T/x", &["a desktop entry"], "").never(NO_EDIT),
    situation("P14 batch file", r"script '@echo off\r\necho hi\r\n'", "$T/x", &["a Windows batch file"], "").never(NO_EDIT),
    situation("P15 base64", "base64 $F/exit >x; chmod +x x", "$T/x", &["is base64"], "").never(NO_EDIT),
    situation("P16 linker's script", r"script '/* GNU ld script */\nGROUP ( libc.so.6 )\n'", "$T/x", &["a linker's script"], "").never(NO_EDIT),
    situation("P17 database", r"script 'SQLite format 3\0'; head -c 100 /dev/zero >>x", "$T/x", &["an SQLite database"], "").never(NO_EDIT),
    situation("P18 what curl said", r"script 'curl: (22) The requested URL returned error: 404\n'", "$T/x", &["a server's answer"], "").never(NO_EDIT),
    situation("P19 started though it is cut short", "install arm64; head -c 700000 $G/arm64/bin/busybox >$T/x; chmod +x $T/x", "--run $T/x", &["is cut short", "the findings before this one tell why"], "").never(&["repair:"]),
    situation("P20 copied without its libraries", "mkdir -p opt/bin opt/lib; compile 'int f(void){return 0;}' -shared -fPIC -Wl,-soname,libfoo.so.1 opt/lib/libfoo.so.1; ln -s libfoo.so.1 opt/lib/libfoo.so; \
            compile 'int f(void); int main(void){return f();}' -Lopt/lib -lfoo '-Wl,-rpath,$ORIGIN/../lib/foo' opt/bin/x; mkdir b; cp opt/bin/x b/", "$T/b/x",
        &["x needs libfoo.so.1", "(RUNPATH): /mnt/lib/foo (not there)", "copied or moved without its libraries"], ""),
    situation("P21 library is a dangling link", "install arm64; root; l=$T/root/usr/lib/aarch64-linux-gnu/libselinux.so.1; rm $l; ln -s libselinux.so.1.99 $l", "--root $T/root ls",
        &["libselinux.so.1 is a link to", "libselinux.so.1.99, which is not there"], ""),
    situation("P22 library is empty", "install arm64; root; l=$(readlink -f $T/root/usr/lib/aarch64-linux-gnu/libselinux.so.1); : >$l", "--root $T/root ls", &["libselinux.so.1 is empty"], ""),
    situation("P23 chroot of this machine's files, library forgotten", "native; rm $T/native/lib/x86_64-linux-gnu/libc.so.6", "--root $T/native /true", &["/true needs libc.so.6", "this machine has it"], "chroot $T/native /true"),
    situation("P23b loader forgotten", "native; rm $T/native/lib64/ld-*", "--root $T/native /true", &["but not its loader"], "chroot $T/native /true"),
    situation("P24 older library in LD_LIBRARY_PATH", "echo 'V1 { f; }; V2 { g; } V1;' >v; echo 'V1 { f; };' >w; compile 'int f(void){return 0;} int g(void){return 0;}' -shared -fPIC -Wl,-soname,libv.so.1 -Wl,--version-script=v libv.so; \
            compile 'int g(void); int main(void){return g();}' -L$T -lv x; mkdir old; compile 'int f(void){return 0;}' -shared -fPIC -Wl,-soname,libv.so.1 -Wl,--version-script=w old/libv.so.1; \
            mkdir up lib work; mount -t overlay -o lowerdir=/usr/lib/x86_64-linux-gnu,upperdir=up,workdir=work none /usr/lib/x86_64-linux-gnu; cp libv.so /usr/lib/x86_64-linux-gnu/libv.so.1; export LD_LIBRARY_PATH=$T/old", "$T/x",
        &["x needs V2 of /mnt/old/libv.so.1", "unset LD_LIBRARY_PATH"], "$T/x"),
    situation("P25 file closed to its reader", "mkdir d; cp /bin/true d/x; chmod 000 d; binfmtctl() { unshare -U --map-user=1000 $B \"$@\"; }", "$T/d/x", &["cannot be reached: Permission denied", "namei -l"], ""),
    situation("D3b loader missing beside its C library", "install arm64; root; rm $T/root/usr/lib/ld-* $T/root/usr/lib/*/ld-*", "--root $T/root true", &["it has the C library", "but not its loader"], ""),
    situation("P27 open for writing", "cp /bin/true x; exec 7>>x", "--run $T/x", &["it did not start: Text file busy", "fuser -v"], ""),
    situation("P28 no part to load", r"install arm64; cp $F/exit x; printf '\0\0' | dd of=x bs=1 seek=56 conv=notrunc status=none", "--run $T/x", &["x is damaged: it names no part", "the findings before this one"], "").never(&["repair:"]),
    situation("P29 sent by FTP as a text", r"install arm64; sed 's/$/\r/' $G/arm64/bin/busybox >x; chmod +x x", "$T/x", &["took it for a text and put in line ends"], ""),
    situation("P30 converted to UTF-8", "iconv -f latin1 -t utf-8 $G/arm64/bin/busybox >x; chmod +x x", "$T/x", &["took it for a text and converted it to UTF-8"], ""),
    situation("P31 headers of HTTP before it", r"printf 'HTTP/1.1 200 OK\r\nContent-Type: x\r\n\r\n' >x; cat $F/exit >>x; chmod +x x", "$T/x", &["a server's answer with its headers"], "").never(NO_EDIT),
    situation("P32 dump", "od -A x -t x1 $F/exit >x; chmod +x x", "$T/x", &["a dump of a file in hexadecimal"], "").never(NO_EDIT),
    situation("P33 what docker export wrote", "root; tar -C root -cf r.tar .", "--image $T/r.tar", &["the files of a root, as `docker export` writes them", "--root"], ""),
    situation("P26 program of Android, started", "install arm64; elf x 64 le 183 0 /system/bin/linker64", "--run $T/x", &["a program for Android", "the findings before this one tell why"], ""),
];

/// What a machine has that is not as it should be.
#[rustfmt::skip]
const MORE_MACHINE: &[Situation] = &[
    situation("Q1 QEMU_CPU of no CPU", "install arm64; export QEMU_CPU=nonsense", "", &["environment: QEMU_CPU=nonsense is the cause", "unable to find CPU model", "programs for arm64"], "$F/exit"),
    situation("Q1b emulators print their version", "install arm64; export QEMU_VERSION=1", "", &["QEMU_VERSION=1 is set"], "test -z \"$($F/exit)\""),
    situation("Q1c prefix that is not there", "install arm64; export QEMU_LD_PREFIX=/nowhere", "", &["QEMU_LD_PREFIX=/nowhere is set, and there is no such directory"], ""),
    situation("Q1d healthy with a variable", "install arm64; export QEMU_CPU=max", "", &["found nothing wrong"], "").never(&["warning", "failure"]),
    situation("Q2 address space", "install arm; ulimit -Sv 3000000", "", &["environment: the limit on address space is too low", "Unable to find a guest_base"], "$F/arm").never(&["emulator-runs", "--replace"]),
    situation("Q2b address space, hard limit", "install arm; ulimit -v 3000000", "", &["environment: the limit on address space is too low", "it cannot be raised from here"], "").never(&["emulator-runs", "--replace"]),
    situation("Q2c data", "install arm64; ulimit -Sd 3000", "", &["environment: the limit on data is too low"], "$F/exit").never(&["--replace"]),
    situation("Q2d few open files, hard limit", "install arm64; binfmtctl() { (ulimit -n 5; exec $B \"$@\"); }", "$F/exit", &["only 5 files may be open at once", "whether that works is not known"], "").never(&["--replace", "failure"]),
    situation("Q3 emulator's last words", r#"mount -t binfmt_misc none $M; compile '#include <stdio.h>
            int main(int c,char**v){fprintf(stderr,"qemu-arm: %s: Invalid ELF image for this architecture\n",v[1]);return 1;}' -static q; register qemu-aarch64 $T/q POCF"#, "",
        &["emulator-runs: qemu-aarch64", "it says: qemu-arm: /aarch64: Invalid ELF image for this architecture"], "$F/exit"),
    situation("Q4 magic of another architecture", "mount -t binfmt_misc none $M; register qemu-arm $(command -v binfmtctl) POCF", "", &["qemu-arm handles programs for arm64: its magic and mask are not those of arm"], "$F/exit && $F/arm"),
    situation("Q4b magic of all little-endian ELF of 32 bits", r"mount -t binfmt_misc none $M; printf ':qemu-arm:M:0:\\x7fELF\\x01\\x01\\x01::%s:POCF' $B >$M/register", "", &["qemu-arm handles programs for 386, mipsle"], "$F/arm").never(&["echo -1"]),
    situation("Q5 movable programs alone", r"mount -t binfmt_misc none $M; narrow '\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00\xb7\x00' '\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff'", "",
        &["its magic and mask miss programs at fixed addresses"], "$F/exit").never(&["matches no program"]),
    situation("Q6 mounted elsewhere alone", r#"mkdir "$T/a b"; mount -t binfmt_misc none "$T/a b"; binfmtctl --mount "$T/a b" --install arm64 >/dev/null 2>&1; echo 0 >"$T/a b/qemu-aarch64""#, "", &["qemu-aarch64 is disabled", "'/mnt/a b/qemu-aarch64'"], "$F/exit"),
    situation("Q7 something mounted over it", "install arm64; mount -t tmpfs none $M", "", &["tmpfs is mounted over binfmt_misc"], "test -e $M/qemu-aarch64"),
    situation("Q8 no /proc", "install arm64; mkdir $T/c; cp $B $T/c/b; cp $F/exit $T/c/exit; binfmtctl() { chroot $T/c /b \"$@\"; }", "/exit", &["whether an emulator for arm64 is registered cannot be seen", "mount -t proc"], "").never(&["failure"]),
    situation("Q9 message of Docker on a path of an emulator", "", "'exec /usr/bin/qemu-aarch64-static: no such file or directory'", &["an entry without flag F"], ""),
    situation("Q10 message of Docker's builder", "", "'multiple platforms feature is currently not supported for docker driver'", &["docker buildx create"], ""),
    situation("Q11 message of a shell on register", "", "'bash: /proc/sys/fs/binfmt_misc/register: Permission denied'", &["registering needs root"], ""),
    situation("Q11b before it is mounted", "", "'bash: /proc/sys/fs/binfmt_misc/register: No such file or directory'", &["binfmt_misc is not mounted"], ""),
    situation("Q12 message with a colon that is none", "", "'Assertion failed: page size'", &["if it is a message, binfmtctl does not know it"], "").never(&["docker save"]),
];

/// Environment and limits.
#[rustfmt::skip]
const ENVIRONMENT: &[Situation] = &[
    situation("A26b CPU lacks an instruction", "install arm64; export QEMU_CPU=cortex-a53", "--run $F/atomic", &["QEMU_CPU=cortex-a53", "SIGILL"], "$F/atomic").never(&["--replace"]),
    situation("A27 no such CPU", "install arm64; export QEMU_CPU=nonsense", "$G/arm64/bin/busybox", &["QEMU_CPU=nonsense is the cause", "unable to find CPU model"], "$G/arm64/bin/busybox true"),
    situation("A27b run with no such CPU", "install arm64; export QEMU_CPU=nonsense", "--run $G/arm64/bin/busybox true", &["failure  file-run", "QEMU_CPU=nonsense is the cause"], "$G/arm64/bin/busybox true"),
    situation("A27c too little address space reserved", "install arm64; export QEMU_RESERVED_VA=64K", "$G/arm64/bin/busybox", &["QEMU_RESERVED_VA=64K is the cause"], "$G/arm64/bin/busybox true"),
    situation("A27d emulator prints its version", "install arm64; export QEMU_VERSION=1", "$G/arm64/bin/busybox", &["QEMU_VERSION=1"], "test \"$($G/arm64/bin/busybox echo a)\" = a"),
    situation("A27e emulator waits for a debugger", "install arm64; export QEMU_GDB=12345", "$G/arm64/bin/busybox", &["QEMU_GDB=12345"], "timeout 5 $G/arm64/bin/busybox true"),
    situation("A27f prefix that is not there", "install arm64; export QEMU_LD_PREFIX=/nowhere", "$G/arm64/bin/busybox", &["QEMU_LD_PREFIX=/nowhere", "no such directory"], ""),
    situation("A27g prefix that has the loader", "install arm64; mkdir $T/p; cp -a $R/usr/lib $T/p/lib; cp $R/usr/bin/true $T/x; export QEMU_LD_PREFIX=$T/p; $T/x || echo broken", "$T/x", &["shared libraries are there"], "").never(&["failure", "broken"]),
    situation("C10 address space, soft limit", "install arm; ulimit -Sv 3000000", "$F/arm", &["the limit on address space is too low", "ulimit -v 3000000"], "$F/arm"),
    situation("C10b address space, hard limit", "install arm; ulimit -v 3000000", "$F/arm", &["the limit on address space is too low", "it cannot be raised from here"], "").never(&["--replace", "repair:"]),
    situation("C10c data, soft limit", "install arm64; ulimit -Sd 3000", "$F/exit", &["the limit on data is too low"], "$F/exit"),
    situation("C6 no_new_privs outside a container", "install arm64; cp $G/arm64/bin/busybox $T/sudo; chmod 4755 $T/sudo; binfmtctl() { setpriv --no-new-privs $B \"$@\"; }", "$T/sudo",
        &["no_new_privs is set here", "NoNewPrivileges="], "").never(&["repair:"]),
    situation("C7 setuid on nosuid", "install arm64; mkdir $T/m; mount -t tmpfs -o nosuid none $T/m; cp $G/arm64/bin/busybox $T/m/sudo; chmod 4755 $T/m/sudo", "$T/m/sudo", &["mounted nosuid"],
        "! grep -q \"$T/m .*nosuid\" /proc/self/mounts"),
    situation("C20 getrandom denied", "install arm64; binfmtctl() { deny 318 $B \"$@\"; }; deny 318 $F/exit || echo broken", "$F/exit", &["runs programs for"], "").never(&["warning", "failure", "broken"]),
    situation("C20b a system call that emulators need is denied", "install arm64; binfmtctl() { deny 11 $B \"$@\"; }", "$F/exit", &["its emulator fails", "system calls are filtered here (seccomp)"], "").never(&["repair:"]),
    situation("C20c the same, for the machine", "install arm64; binfmtctl() { deny 11 $B \"$@\"; }", "", &["emulator-runs", "system calls are filtered here (seccomp)"], "").never(&["repair: binfmtctl --install arm64"]),
    situation("C21 few open files", "install arm64; ulimit -Sn 9", "$F/exit", &["runs programs for", "only 9 files may be open at once"], "test $(ulimit -n) -gt 9").never(&["failure"]),
    situation("C22 personalities that hurt nobody", "install arm64,arm; for p in -R -3 -X -Z -L -S --uname-2.6; do setarch $p $F/exit && setarch $p $F/arm || echo broken $p; done; binfmtctl() { setarch -R -X -Z -L $B \"$@\"; }", "$F/arm", &["runs programs for"], "").never(&["warning", "failure", "broken"]),
    situation("C5 no /proc", "install arm64; mkdir $T/c; cp $B $T/c/b; cp $F/exit $T/c/exit; binfmtctl() { chroot $T/c /b \"$@\"; }", "/exit", &["/exit is a program for arm64"], "").never(&["failure", "--install"]),
];

/// The entries.
#[rustfmt::skip]
const ENTRIES: &[Situation] = &[
    situation("B1 status 0", "install arm64; echo 0 >$M/status", "$F/exit", &["disabled as a whole"], "$F/exit"),
    situation("B2 entry disabled", "install arm64; echo 0 >$M/qemu-aarch64", "$F/exit", &["qemu-aarch64 is registered for it, but disabled"], "$F/exit"),
    situation("B1b status 0, mounted elsewhere", r#"mkdir "$T/a b"; mount -t binfmt_misc none "$T/a b"; binfmtctl --mount "$T/a b" --install arm64 2>/dev/null; echo 0 >"$T/a b/status""#, "--mount '/mnt/a b' $F/exit",
        &["disabled as a whole", "'/mnt/a b/status'"], "$F/exit"),
    situation("B1c entry disabled, mounted elsewhere, with an odd name", r#"mkdir "$T/a b"; mount -t binfmt_misc none "$T/a b"; binfmtctl --mount "$T/a b" --install arm64 --qemu-binary-prefix "it's " 2>/dev/null; echo 0 >"$T/a b/it's qemu-aarch64""#,
        "--mount '/mnt/a b' $F/exit", &["but disabled"], "$F/exit"),
    situation("B3 without F", "mount -t binfmt_misc none $M; root; register qemu-aarch64 /nowhere/qemu-aarch64 POC", "--root $T/root true", &["lacks flag F"], "chroot $T/root /bin/true"),
    situation("B4 mask of all ones", r"mount -t binfmt_misc none $M; narrow '\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00' ''", "$G/arm64/bin/busybox",
        &["qemu-aarch64 does not match it, as its magic and mask ask for too much", "OS ABI"], "$G/arm64/bin/busybox true").never(&["build it again", "unusual"]),
    situation("B4c mask that misses movable programs", r"mount -t binfmt_misc none $M; root
            narrow '\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00' '\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff'", "--root $T/root true",
        &["qemu-aarch64 does not match it, as its magic and mask ask for too much", "movable"], "chroot $T/root /bin/true").never(&["build it again", "unusual"]),
    situation("B4b magic of something else", r"mount -t binfmt_misc none $M; narrow '\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb8\x00' ''", "$F/exit",
        &["no emulator for arm64 is registered: qemu-aarch64 is registered for something else"], "$F/exit"),
    situation("B8 interpreter is a script", r"mount -t binfmt_misc none $M; printf '#!/bin/sh\nexec true\n' >$T/q; chmod +x $T/q; register qemu-aarch64 $T/q POCF", "$F/exit", &["qemu-aarch64 is registered for it, but"], "$F/exit"),
    situation("C17 emulator crashes", r"mount -t binfmt_misc none $M; compile 'void abort(void); int main(void){abort();}' -static q; register qemu-aarch64 $T/q POCF", "$F/exit", &["its emulator crashes"], "$F/exit"),
    situation("C16 emulator hangs", r"mount -t binfmt_misc none $M; compile 'int main(void){for(;;);}' -static q; register qemu-aarch64 $T/q POCF", "$F/exit", &["its emulator hangs"], "$F/exit"),
    situation("C34 stale entry of another tool", r"mount -t binfmt_misc none $M; compile 'int main(void){return 3;}' -static q; register rosetta $T/q POCF; rm $T/q", "$F/exit", &["rosetta is registered for it, but"], "$F/exit"),
    situation("N4 dead instance of its own, the host's entries in sight", r#"install arm64; mkdir $T/i; INSIDE="unshare -Urm $T/inside"
            printf '#!/bin/bash\nmount -t binfmt_misc none /mnt/i; umount /mnt/i; exec "$@"\n' >$T/inside; chmod +x $T/inside"#, "$F/exit",
        &["qemu-aarch64: seen here, but not used"], "$F/exit").never(&["--replace"]),
];

/// The machine: `doctor` without a program.
#[rustfmt::skip]
const MACHINE: &[Situation] = &[
    situation("MA1 healthy", "install all", "", &["found nothing wrong"], "").never(&["failure"]),
    situation("MA2 disabled as a whole", "install arm64; echo 0 >$M/status", "", &["disabled as a whole"], "$F/exit"),
    situation("MA3 entry disabled", "install arm64; echo 0 >$M/qemu-aarch64", "", &["qemu-aarch64 is disabled"], "$F/exit"),
    situation("MA4 without F", "mount -t binfmt_misc none $M; root; register qemu-aarch64 /nowhere/qemu-aarch64 POC", "", &["lacks flag F", "is not there"], "chroot $T/root /bin/true"),
    situation("MA5 mask of all ones", r"mount -t binfmt_misc none $M; narrow '\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00' ''", "",
        &["qemu-aarch64 handles only some programs for arm64", "PIE", "OS ABI (3)"], "$G/arm64/bin/busybox true"),
    situation("MA5b mask that misses movable programs", r"mount -t binfmt_misc none $M; root; cp $(command -v binfmtctl) q
            narrow '\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00' '\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff'", "",
        &["its magic and mask miss position-independent programs (PIE)"], "chroot $T/root /bin/true"),
    situation("MA5c such an entry is not taken for one that works", r"mount -t binfmt_misc none $M; compile 'int main(void){return 0;}' -static q
            B=$T/q narrow '\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00' ''
            binfmtctl --install arm64 2>&1; binfmtctl --status", "", &["PIE", "partly", "--replace"], "$G/arm64/bin/busybox true").never(&["works already"]),
    situation("MA6 stale entry of Rosetta", "mount -t binfmt_misc none $M; compile 'int main(void){return 3;}' -static q; register rosetta $T/q POCF; rm $T/q", "",
        &["rosetta (Apple's Rosetta for amd64 programs): the emulator failed on a test program: exit status 3"], "$F/exit"),
    situation("MA6b over an emulator that works", "install arm64; compile 'int main(void){return 3;}' -static q; register rosetta $T/q POCF", "", &["rosetta (Apple's Rosetta"], "$F/exit"),
    situation("MA6c without F, its interpreter gone", "mount -t binfmt_misc none $M; register rosetta /run/rosetta/rosetta POC", "", &["/run/rosetta/rosetta of rosetta (Apple's Rosetta for amd64 programs) is not there"], "$F/exit"),
    situation("MA7 Python's entry, its interpreter gone", r"mount -t binfmt_misc none $M; printf ':python3.99:M::\\xa7\\x0d\\x0d\\x0a::/usr/bin/python3.99:' >$M/register", "",
        &["/usr/bin/python3.99 of python3.99 (Python for compiled modules) is not there"], "! test -e $M/python3.99"),
    situation("MA7b Wine's entry by extension", "mount -t binfmt_misc none $M; printf ':wine:E::exe::/usr/bin/wine:' >$M/register", "",
        &["/usr/bin/wine of wine (Wine for Windows programs) is not there"], "! test -e $M/wine"),
    situation("MA8 dead instance of its own, the host's entries in sight", r#"install arm64; mkdir $T/i; INSIDE="unshare -Urm $T/inside"
            printf '#!/bin/bash\nmount -t binfmt_misc none /mnt/i; umount /mnt/i; exec "$@"\n' >$T/inside; chmod +x $T/inside"#, "",
        &["qemu-aarch64: seen here, but not used"], "$F/exit").never(&["--replace", "emulator-runs"]),
    situation("MA8b dead instance of its own, nothing in sight", r#"install arm64; mkdir $T/i; INSIDE="unshare -Urm --pid --fork --mount-proc $T/inside"
            printf '#!/bin/bash\nmount -t binfmt_misc none /mnt/i; umount /mnt/i; exec "$@"\n' >$T/inside; chmod +x $T/inside"#, "",
        &["no emulator works here", "a binfmt_misc of its own"], "$F/exit"),
    situation("MA8c the host's entries at work, out of sight", r#"install arm64; INSIDE="unshare -Urm --pid --fork --mount-proc""#, "-v",
        &["should not be: programs run by the entries of a namespace around this one"], "").never(&["repair:", "warning  mounted"]),
    situation("MA9 colima's emulators", r#"mount -t binfmt_misc none $M; compile '#include <stdio.h>
            #include <stdlib.h>
            int main(void){if(getenv("QEMU_VERSION"))puts("qemu-aarch64 version 7.0.0 (Debian 1:7.0)");return 0;}' -static q; register qemu-aarch64 $T/q POCF"#, "",
        &["qemu-aarch64 is QEMU 7.0.0 (Debian 1:7.0), as colima brings it", "openat2", "libc-bin"], "! QEMU_VERSION=1 $F/exit | grep 7.0.0"),
    situation("MA9b Docker Desktop's emulators", r#"mount -t binfmt_misc none $M; compile '#include <stdio.h>
            #include <stdlib.h>
            int main(void){if(getenv("QEMU_VERSION"))puts("qemu-aarch64 version 8.1.5 (v8.1.5)");return 0;}' -static q; register qemu-aarch64 $T/q POCF"#, "",
        &["QEMU 8.1.5 (v8.1.5), as Docker Desktop brought it before 4.56"], "! QEMU_VERSION=1 $F/exit | grep 8.1.5").never(&["Erlang"]),
    situation("MA10 systemd in a container with privileges", "install arm64; cp /bin/sleep $T/systemd; unshare --pid --fork --kill-child $T/systemd 60 & sleep 0.5", "",
        &["(systemd) is the init of a container that may write these entries", "binfmtctl hold"], ""),
    situation("MA11 read-only", "install arm64; mount -o remount,ro $M", "", &["mounted read-only"], "echo 1 >$M/status"),
    situation("MA12 emulator crashes", "mount -t binfmt_misc none $M; compile 'void abort(void); int main(void){abort();}' -static q; register qemu-aarch64 $T/q POCF", "", &["signal 6"], "$F/exit"),
    situation("MA13 interpreter is a script", r"mount -t binfmt_misc none $M; printf '#!/bin/sh\nexec true\n' >$T/q; chmod +x $T/q; register qemu-aarch64 $T/q POCF", "", &["is a script"], "$F/exit"),
    situation("MA14 two entries, the newer one broken", "install arm64; compile 'int main(void){return 1;}' -static q; register qemu-aarch64-two $T/q POCF", "", &["qemu-aarch64-two"], "$F/exit"),
    situation("MA15 own empty instance", "mount -t binfmt_misc none $M", "", &["a binfmt_misc of its own, and that is empty"], "$F/exit"),
    situation("MA16 entry without C", "install arm64; binfmtctl --install arm64 --no-credentials --replace 2>/dev/null", "", &["lacks flag C"], "grep -q 'flags: POCF' $M/qemu-aarch64"),
    situation("MA17 no_new_privs", "install arm64; binfmtctl() { setpriv --no-new-privs $B \"$@\"; }", "", &["no_new_privs is set"], "").never(&["repair:"]),
    situation("MA18 386 emulated, which this machine runs", r"mount -t binfmt_misc none $M; compile 'int main(void){return 0;}' -static q
            printf ':qemu-i386:M:0:%s:%s:%s:POCF' '\x7fELF\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x03\x00' '\xff\xff\xff\xff\xff\xfe\xfe\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff' $T/q >$M/register", "",
        &["qemu-i386 emulates 386"], ""),
];

/// `--fix`, which is to repair without anything being pasted.
#[rustfmt::skip]
const FIXES: &[Situation] = &[
    situation("F1 disabled as a whole", "install arm64; echo 0 >$M/status", "--fix --yes", &["done: echo 1 > /proc/sys/fs/binfmt_misc/status", "after that:"], "$F/exit"),
    situation("F1b disabled as a whole, mounted elsewhere", r#"mkdir "$T/a b"; mount -t binfmt_misc none "$T/a b"; binfmtctl --mount "$T/a b" --install arm64 2>/dev/null; echo 0 >"$T/a b/status""#, "--mount '/mnt/a b' --fix -y",
        &["done: echo 1 > '/mnt/a b/status'"], "$F/exit"),
    situation("F2 entry disabled", "install arm64; echo 0 >$M/qemu-aarch64", "--fix --yes", &["done: echo 1 >"], "$F/exit"),
    situation("F3 without F", "mount -t binfmt_misc none $M; root; register qemu-aarch64 /nowhere/qemu-aarch64 POC", "--fix --yes", &["done: binfmtctl --install arm64 --replace"], "chroot $T/root /bin/true"),
    situation("F4 stale entry of Rosetta", "mount -t binfmt_misc none $M; compile 'int main(void){return 3;}' -static q; register rosetta $T/q POCF; rm $T/q", "--fix --yes",
        &["done: binfmtctl --uninstall rosetta --install arm64"], "$F/exit && ! test -e $M/rosetta"),
    situation("F4b over an emulator that works", "install arm64; compile 'int main(void){return 3;}' -static q; register rosetta $T/q POCF", "--fix --yes", &["installing: arm64 OK (unchanged)"], "$F/exit"),
    situation("F5 Python's entry, its interpreter gone", r"mount -t binfmt_misc none $M; printf ':python3.99:M::\\xa7\\x0d\\x0d\\x0a::/usr/bin/python3.99:' >$M/register", "--fix --yes", &["done: binfmtctl --uninstall python3.99"], "! test -e $M/python3.99"),
    situation("F6 dead instance of its own, the host's entries in sight", r#"install arm64; mkdir $T/i; INSIDE="unshare -Urm $T/inside"
            printf '#!/bin/bash\nmount -t binfmt_misc none /mnt/i; umount /mnt/i; exec "$@"\n' >$T/inside; chmod +x $T/inside"#, "--fix --yes", &["done: mount -t binfmt_misc"], "$F/exit"),
    situation("F7 read-only", "install arm64; mount -o remount,ro $M", "--fix --yes", &["done: mount -o remount,rw"], "echo 1 >$M/status"),
    situation("F8 own empty instance", "mount -t binfmt_misc none $M", "--fix --yes", &["done: binfmtctl --install all"], "$F/exit"),
    situation("F9 mask of all ones", r"mount -t binfmt_misc none $M; narrow '\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00' ''", "--fix --yes", &["done: binfmtctl --install arm64 --replace"], "$G/arm64/bin/busybox true"),
    situation("F10 what a program needs", "mount -t binfmt_misc none $M", "--fix --yes $F/exit", &["done: binfmtctl --install arm64", "qemu-aarch64 runs programs for arm64"], "$F/exit").never(&["--install all"]),
    situation("F11 two that work are left alone", "install arm64; compile 'int main(void){return 0;}' -static q; register rosetta $T/q POCF; binfmtctl() { $B \"$@\"; ls $M; }", "--fix --yes",
        &["rosetta and qemu-aarch64 both match arm64 programs", "nothing to do for --fix", "\nrosetta", "\nqemu-aarch64"], "").never(&["done:"]),
    situation("F11b what some do without on purpose is left alone", "mount -t binfmt_misc none $M; binfmtctl --install arm64 --no-credentials >/dev/null 2>&1", "--fix --yes", &["lacks flag C", "nothing to do for --fix"], "").never(&["done:"]),
    situation("F12 without root", "install arm64; echo 0 >$M/status; binfmtctl() { unshare -U $B \"$@\"; cat $M/status; }", "--fix --yes", &["error: doctor --fix needs root: sudo binfmtctl doctor --fix", "disabled"], "").never(&["done:"]),
    situation("F13 nobody to ask", "install arm64; echo 0 >$M/status; binfmtctl() { $B \"$@\"; cat $M/status; }", "--fix", &["there is no terminal: add --yes", "\ndisabled"], "").never(&["done:"]),
    situation("F14 agreed to", "install arm64; echo 0 >$M/status; binfmtctl() { (sleep 5; echo y; sleep 5) | command script -qec \"$B $*\" /dev/null; }", "--fix", &["Do that? [y/N]", "done: echo 1 >"], "$F/exit"),
    situation("F14b declined", "install arm64; echo 0 >$M/status; binfmtctl() { (sleep 5; echo n; sleep 5) | command script -qec \"$B $*\" /dev/null; cat $M/status; }", "--fix", &["Do that? [y/N]", "nothing was changed", "\ndisabled"], "").never(&["done:"]),
    situation("F15 as JSON", "install arm64; echo 0 >$M/status", "--fix --yes --json", &["\"fixes\": [", "\"done\": true"], "$F/exit"),
];

/// Programs that no compiler makes.
fn programs() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let arm64 = Arch::by_target("aarch64").unwrap();
    write("exit", &arm64.probe());
    write("exit-be", &Arch::by_target("aarch64_be").unwrap().probe());
    write("arm", &Arch::by_target("arm").unwrap().probe());
    // movw r0, #0 is not in ARMv5; mov r7, #1; svc 0
    let code: [u32; 3] = [0xe3000000, 0xe3a07001, 0xef000000];
    let arm = Arch::by_target("arm").unwrap();
    write("armv7", &arm.program(&code.map(u32::to_le_bytes).concat()));
    // mov x2, sp; mov w0, #1; ldadd w0, w1, [x2]; mov x0, #0; mov x8, #93; svc 0
    let code: [u32; 6] = [0x910003e2, 0x52800020, 0xb8200041, 0xd2800000, 0xd2800ba8, 0xd4000001];
    write("atomic", &arm64.program(&code.map(u32::to_le_bytes).concat()));
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// What was wrong with a situation; nothing if it was right.
fn faults(situation: &Situation, files: &Path) -> Vec<String> {
    let Situation { make, look, says, never, works, .. } = situation;
    let works_text = if works.is_empty() { "false" } else { works };
    let (guests, root) =
        (guests(&["arm64"]), guest_root("arm64", &["dash", "coreutils", "libc-bin"]));
    let script = format!(
        r#"{REGISTER}{PRELUDE}
           export G={} R={} F={}
           INSIDE=
           {make}
           if [ -n "$INSIDE" ]; then exec $INSIDE bash -c "$REST"; else eval "$REST"; fi"#,
        guests.display(),
        root.display(),
        files.display(),
    );
    // What --fix does needs no pasting.
    let repairs =
        if look.contains("--fix") { "cat /dev/null" } else { "sed -n 's/^ *repair: //p'" };
    let rest = format!(
        r#"works() {{ timeout 10 bash -c "$WORKS"; }}
           works >/dev/null 2>&1 && echo '== worked before'
           told=$(binfmtctl doctor {look} 2>&1 </dev/null)
           printf '%s\n' "$told"
           while IFS= read -r line; do eval "$line" >/dev/null 2>$T/error || {{ echo "== pasted: $line"; cat $T/error; }}; done \
               < <(printf '%s\n' "$told" | {repairs})
           works >/dev/null 2>$T/error && echo '== works' || cat $T/error
           exit 0"#
    );
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let script = format!("export WORKS={} REST={}\n{script}", quoted(works_text), quoted(&rest));
    let ran = in_namespace(&script);
    let said = format!("{}{}", ran.stdout, ran.stderr);
    if std::env::var_os("SHOW").is_some() {
        crate::support::say(&format!("== {}: doctor {look}\n{said}", situation.id));
    }
    let mut faults = Vec::new();
    faults.extend(
        says.iter().filter(|text| !said.contains(**text)).map(|text| format!("not said: {text}")),
    );
    faults.extend(
        never.iter().filter(|text| said.contains(**text)).map(|text| format!("said: {text}")),
    );
    let works_now = said.contains("== works\n");
    let repair = said.contains(" repair: ") || look.contains("--fix");
    if said.contains("== worked before") {
        faults.push("it works without a repair".to_owned());
    }
    match (works.is_empty(), repair, works_now) {
        (false, false, _) => faults.push("no repair".to_owned()),
        (false, true, false) => faults.push("the repair does not repair".to_owned()),
        _ => {}
    }
    if !faults.is_empty() {
        faults.push(said);
    }
    faults
}

/// Tries a table and prints its score.
fn score(name: &str, situations: &[Situation]) {
    let files = programs();
    let only = std::env::var("SITUATION").unwrap_or_default();
    let chosen: Vec<_> =
        situations.iter().filter(|situation| situation.id.contains(&only)).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    let wrong = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(situation) =
                    chosen.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    let faults = faults(situation, files.path());
                    if !faults.is_empty() {
                        wrong.lock().unwrap().push(format!(
                            "{}:\n{}",
                            situation.id,
                            faults.join("\n")
                        ));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    let right = chosen.len() - wrong.len();
    crate::support::say(&format!("situations: {name}: {right} of {} right", chosen.len()));
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn a_programs_file_is_diagnosed_and_repaired() {
    score("the program's file", FILES);
}

#[test]
fn more_files_are_diagnosed_and_repaired() {
    score("more files", MORE_FILES);
}

#[test]
fn more_of_a_machine_is_diagnosed_and_repaired() {
    score("more of the machine", MORE_MACHINE);
}

#[test]
fn oddities_are_diagnosed_and_repaired() {
    score("oddities", ODDITIES);
}

#[test]
fn images_are_diagnosed() {
    score("images", IMAGES);
}

#[test]
fn what_a_program_inherits_is_diagnosed_and_repaired() {
    score("environment and limits", ENVIRONMENT);
}

#[test]
fn a_machine_is_diagnosed_and_repaired() {
    score("the machine", MACHINE);
}

#[test]
fn what_is_safe_is_repaired_by_fix() {
    score("doctor --fix", FIXES);
}

#[test]
fn what_an_entry_does_to_a_program_is_diagnosed_and_repaired() {
    score("entries, for a program", ENTRIES);
}
