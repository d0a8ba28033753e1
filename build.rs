//! Tells Cargo where the emulators lie, so that adding or removing one rebuilds the binary.
//!
//! `BINFMTCTL_QEMU_BINS` names another directory than `qemu-bins/`: another host's emulators, say.

fn main() {
    println!("cargo:rerun-if-env-changed=BINFMTCTL_QEMU_BINS");
    let dir = std::env::var("BINFMTCTL_QEMU_BINS")
        .unwrap_or_else(|_| format!("{}/qemu-bins", env!("CARGO_MANIFEST_DIR")));
    println!("cargo:rerun-if-changed={dir}");
    println!("cargo:rustc-env=QEMU_BINS={dir}");
}
