//! What a person at a terminal sees: progress, colours, one line instead of JSON. `script` makes the terminal.

use crate::support::in_namespace;

/// Runs a command of the program on a terminal of 80 columns; `script` joins both streams.
const TERMINAL: &str = r#"
    export TERM=xterm; unset NO_COLOR CLICOLOR_FORCE FORCE_COLOR CLICOLOR
    on_terminal() { script -qec "stty cols 80; $*" /dev/null </dev/null | tr -d '\r' | sed 's/\x1b/^/g'; }
"#;

#[test]
fn an_install_shows_progress_and_ends_with_one_line() {
    let ran = in_namespace(&format!("{TERMINAL} on_terminal $B --install arm64,riscv64")).ok();
    let shown: Vec<_> = ran.stdout.split("^[K").map(str::trim_end).collect();
    // Before anything was done, so that nobody waits before an empty screen.
    assert_eq!(shown[..2], ["", "looking at what works already"], "{shown:?}");
    assert!(shown.iter().any(|text| text.starts_with("unpacked qemu-")), "{shown:?}");
    let last: Vec<_> = ran.stdout.lines().rev().take(3).collect();
    let summary = last[0].rsplit("^[K").next().unwrap();
    assert!(summary.contains(" platforms work: linux/amd64"), "{last:?}");
    assert!(summary.contains("linux/arm64, linux/riscv64"), "{last:?}");
    assert!(last[2].contains("installing: arm64 OK (registered, QEMU "), "{last:?}");
    assert!(!ran.stdout.contains("\"supported\""), "{}", ran.stdout);
}

#[test]
fn json_comes_on_request_and_nothing_with_quiet() {
    let ran = in_namespace(&format!(
        "{TERMINAL} on_terminal $B -q --install arm64; echo --; on_terminal $B install -q --json arm64 | head -3
         echo --; on_terminal $B --json | head -1; on_terminal $B"
    ))
    .ok();
    let parts: Vec<_> = ran.stdout.split("--\n").collect();
    assert_eq!(parts[0], "", "{parts:?}");
    assert!(parts[1].starts_with("{\n  \"supported\": [\n"), "{parts:?}");
    let lines: Vec<_> = parts[2].lines().map(|line| line.rsplit("^[K").next().unwrap()).collect();
    assert_eq!(lines[0], "{", "{parts:?}");
    assert!(lines[1].contains(" platforms work: linux/amd64"), "{parts:?}");
}

#[test]
fn without_a_terminal_nothing_is_added() {
    let ran =
        in_namespace("CLICOLOR=1 TERM=xterm $B --install arm64 2>&1 >/dev/null | cat -v").ok();
    assert!(ran.stdout.starts_with("installing: arm64 OK (registered, QEMU "), "{}", ran.stdout);
    assert_eq!(ran.stdout.lines().count(), 1, "{}", ran.stdout);
}

#[test]
fn colours_go_by_the_environment() {
    let ran = in_namespace(&format!(
        "{TERMINAL}
         on_terminal $B --install bogus; echo --
         NO_COLOR=1 on_terminal $B --install bogus; echo --
         TERM=dumb on_terminal $B --install bogus; echo --
         CLICOLOR_FORCE=1 $B --install bogus 2>&1 >/dev/null | sed 's/\\x1b/^/g'; echo --
         $B --install bogus 2>&1 >/dev/null | sed 's/\\x1b/^/g'; echo --
         on_terminal $B --nonsense"
    ))
    .ok();
    let parts: Vec<_> = ran.stdout.split("--\n").collect();
    for (part, colours) in parts.iter().zip([true, false, false, true, false, true]) {
        assert_eq!(part.contains("^[31merror:^[0m "), colours, "{parts:?}");
        assert_eq!(part.contains("\nerror: ") || part.contains("Kerror: "), !colours, "{parts:?}");
    }
    for (part, colours) in parts.iter().zip([true, false, false, true, false]) {
        assert_eq!(part.contains("^[36mhint:^[0m "), colours, "{parts:?}");
    }
    assert!(!parts[2].contains('^'), "a dumb terminal takes no commands: {parts:?}");
}

/// Names are never torn apart, and nothing is wider than the terminal.
#[test]
fn a_status_fits_eighty_columns() {
    let ran = in_namespace(&format!(
        "{TERMINAL} NO_COLOR=1; export NO_COLOR; $B --install all >/dev/null 2>&1; on_terminal $B --status"
    ))
    .ok();
    let table = ran.stdout.rsplit("^[K").next().unwrap();
    let wide: Vec<_> = table.lines().filter(|line| line.chars().count() > 80).collect();
    assert!(wide.is_empty(), "{wide:?}");
    for name in ["linux/riscv64 ", "linux/ppc64le ", "linux/arm/v7 v6 ", "linux/loong64 "] {
        assert!(table.lines().any(|line| line.trim_start().starts_with(name)), "{name}: {table}");
    }
    assert!(table.contains("checks of the kernel found nothing wrong; -v shows them"), "{table}");
}

#[test]
fn the_cache_of_runs_can_be_removed() {
    let ran = in_namespace(
        "export XDG_CACHE_HOME=$T/cache; $B run --platform riscv64 true; ls $T/cache/binfmtctl | wc -l
         $B run --clean-cache; ls $T/cache; $B run --clean-cache true || echo $?
         $B run --clean-cache; HOME= XDG_CACHE_HOME= $B run --clean-cache; ls $T/cache",
    )
    .ok();
    assert_eq!(ran.stdout, "1\n2\n");
    assert!(ran.stderr.starts_with("removed /mnt/cache/binfmtctl\nUsage: "), "{}", ran.stderr);
    let nothing = "error: the argument '--clean-cache' cannot be used with one or more of the other specified arguments\n\
        nothing to remove: there is no /mnt/cache/binfmtctl\n\
        there is no cache: neither XDG_CACHE_HOME nor HOME is set\n";
    assert!(ran.stderr.ends_with(nothing), "{}", ran.stderr);
}

/// Whatever there is room for: no line is wider, and a progress that is taken away leaves nothing.
#[test]
fn narrow_terminals_get_fewer_columns() {
    let ran = in_namespace(&format!(
        "{TERMINAL} export NO_COLOR=1; $B -q --install arm64,riscv64 >/dev/null
         for cols in 20 40 60 80; do script -qec \"stty cols $cols; $B --status; $B doctor\" /dev/null </dev/null | tr -d '\\r' | sed 's/\\x1b\\[K/\\n/g'; echo --; done
         on_terminal $B --status --mount /etc"
    ))
    .ok();
    let parts: Vec<_> = ran.stdout.split("--\n").collect();
    for (part, width) in parts.iter().zip([20, 40, 60, 80, 80]) {
        let wide: Vec<_> = part
            .lines()
            .flat_map(|line| line.split("^[K"))
            .filter(|line| line.chars().count() > width)
            // Nothing can be left out of a name.
            .filter(|line| width > 20 || !(line.contains("AVAILABLE") || line.contains("linux/")))
            .collect();
        assert!(wide.is_empty(), "{width}: {wide:#?}");
        assert!(part.contains("linux/arm64 "), "{width}: {part}");
    }
    assert!(!parts[1].contains(" BY"), "{}", parts[1]);
    assert!(parts[2].contains(" BY") && !parts[2].contains(" FLAGS "), "{}", parts[2]);
    assert!(parts[3].contains(" FLAGS ") && parts[3].contains(" QEMU"), "{}", parts[3]);
    assert!(parts[4].contains("an entry that cannot be seen from here"), "{}", parts[4]);
}
