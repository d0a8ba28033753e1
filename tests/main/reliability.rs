//! Random sequences of commands, with faults in between, never cost what worked before.

use crate::support::{guests, in_namespace};

/// 200 sequences, of which each ends with a look at everything that must have survived.
///
/// The seed is in the failure's message; `BINFMTCTL_SEED` repeats a run, as far as timing does.
#[test]
fn whatever_happens_nothing_of_others_is_lost_and_what_ran_runs() {
    let guests = guests(&["arm64", "armhf", "riscv64", "s390x"]);
    let ran = in_namespace(&SCRIPT.replace("GUESTS", &guests.display().to_string())).ok();
    let mut lines = ran.stdout.lines();
    assert!(lines.next().is_some_and(|line| line.starts_with("seed ")), "{}", ran.stdout);
    assert_eq!(lines.collect::<Vec<_>>(), ["200 sequences"], "{}\n{}", ran.stdout, ran.stderr);
}

/// `GUESTS` holds a root for each Debian architecture.
const SCRIPT: &str = r#"
seed=${BINFMTCTL_SEED:-$(od -An -N2 -tu2 /dev/urandom | tr -d ' ')}
echo "seed $seed"
RANDOM=$seed
pick() { shift $((RANDOM % $#)); picked=$1; }

# Other tools' entries: one that works, one without F, one disabled, two that are no emulators.
mount -t binfmt_misc none $M
XDG_CACHE_HOME=$T/cache $B run --platform s390x true; cp $T/cache/binfmtctl/*/qemu-s390x $T/box; chmod 755 $T/box
printf '%s' ':vendor-works:M:0:\x7fELF\x02\x02\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x16:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff:/mnt/box:F' >$M/register
printf ':WSLInterop:M::MZ::/init:P' >$M/register
printf ':python3.12:M::pyc::/usr/bin/python3:' >$M/register
printf ':vendor-off:M::off::/bin/true:F' >$M/register; echo 0 >$M/vendor-off
printf ':vendor-gone:E::gone::/nonesuch:' >$M/register
others() { grep -H '' $M/vendor-* $M/WSLInterop $M/python3.12; }
before=$(others)

# A host's root that is too small for an emulator.
mkdir $T/small; mount -t tmpfs -o size=2m,mode=755 none $T/small
mkdir -p $T/small/usr/lib/systemd $T/small/etc; touch $T/small/usr/lib/systemd/systemd-binfmt

declare -A debian=([arm64]=arm64 [arm]=armhf [riscv64]=riscv64 [s390x]=s390x)
runs() { chroot GUESTS/${debian[$1]} /bin/busybox true 2>/dev/null; }

# command: a random one, in ${words[@]}; adds to $gone what may not run any more.
command() {
    pick arm64 riscv64 arm arm64,riscv64 riscv64,arm arm64,arm,riscv64; list=$picked
    pick install install install replace replace uninstall uninstall all status persist
    case $picked in
    install) words=(--install $list) ;;
    replace) pick POCF OF PF F; words=(--install $list --replace --flags $picked) ;;
    uninstall) words=(--uninstall $list); gone+=",$list" ;;
    all) pick all 'qemu-*'; words=(--uninstall "$picked"); gone+=,arm64,riscv64,arm ;;
    status) words=(--status) ;;
    persist) words=(persist --root $T/small --install $list); full=yes ;;
    esac
}
# As it is, or with a fault.
run() {
    full=no; command
    pick none none kill kill readonly limit; local fault=$picked
    log+=("${words[*]} [$fault]")
    case $fault in
    none) if $B "${words[@]}" >/dev/null 2>&1 && [ $full = yes ]; then wrong "wrote to a full disk"; fi ;;
    kill)
        $B "${words[@]}" >/dev/null 2>&1 & local pid=$!
        sleep 0.$(printf %03d $((RANDOM % 350))); kill -9 $pid 2>/dev/null || true
        wait $pid 2>/dev/null || true ;;
    readonly)
        mount -o remount,bind,ro $M; $B "${words[@]}" >/dev/null 2>&1 || true; mount -o remount,bind,rw $M ;;
    # In KiB: the emulators do not fit, nor does a file that is to replace one.
    limit) (trap '' XFSZ; ulimit -f $((RANDOM % 4000)); exec $B "${words[@]}") >/dev/null 2>&1 || true ;;
    esac
}
wrong() { printf 'WRONG in sequence %s: %s\n' "$sequence" "$1"; printf '  %s\n' "${log[@]}"; ls $M; exit 1; }

for sequence in $(seq 200); do
    log=() gone= ran=s390x
    for arch in arm64 riscv64 arm; do if runs $arch; then ran+=" $arch"; fi; done
    for step in $(seq $((1 + RANDOM % 3))); do
        # A second one at the same time.
        if [ $((RANDOM % 3)) = 0 ]; then
            command; log+=("${words[*]} &"); $B "${words[@]}" >/dev/null 2>&1 & other=$!
            run; wait $other || true
        else
            run
        fi
    done
    [ "$(others)" = "$before" ] || wrong "entries of others changed: $(others)"
    for arch in $ran; do
        case ,$gone, in *,$arch,*) continue ;; esac
        runs $arch || wrong "$arch no longer runs"
    done
    /bin/true || wrong 'native programs no longer run'
    ! grep -q binfmtctl /proc/self/mountinfo || wrong 'a mount is left'
done
# From wherever that led, one command leads back.
$B --install arm64,arm,riscv64 --replace >/dev/null 2>&1 || $B --install arm64,arm,riscv64
for arch in arm64 arm riscv64; do runs $arch || wrong "$arch does not run in the end"; done
$B --uninstall all >/dev/null 2>&1
[ "$(ls $M | tr '\n' ' ')" = "$(echo WSLInterop python3.12 register status vendor-gone vendor-off vendor-works) " ] || wrong 'something is left'
# No boot registers what did not fit, and nothing is left that `--remove` does not know.
! grep -s ^: $T/small/etc/binfmt.d/* || wrong 'a rule without its emulator'
$B persist --root $T/small --remove >/dev/null 2>&1
[ -z "$(find $T/small/usr/local $T/small/etc -type f)" ] || wrong "files are left: $(find $T/small -type f)"
echo '200 sequences'
"#;
