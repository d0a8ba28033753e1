//! For kernels that cannot give a user namespace a binfmt_misc of its own: the emulator is started with the
//! program, and starts by itself what that starts.
//!
//! Our own emulators can do this since `BuildKit` needs it (`scripts/patches/behaviour/self-exec.patch`). It
//! serves one architecture: programs of others are left to the kernel.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use super::{Context, Run, arch_of};
use crate::arch::{Arch, HOST};
use crate::emulator::{Emulator, Emulators};
use crate::error::{Error, Op};
use crate::plan;
use crate::root::Root;

/// How an emulator has to be called to do it. Where a root has no /proc it looks for itself there.
const CALLED: &str = "/dev/.buildkit_qemu_emulator";

const HINT: &str = "use Linux 6.7 or newer, or install on the host as root: binfmtctl --install";

/// An emulator that is to be started with the program.
#[derive(Debug)]
pub(super) struct Direct {
    file: File,
}

impl Direct {
    /// Takes the emulator's file, which must be one that can; `why` tells what it is needed for.
    ///
    /// # Errors
    /// Those of reading; that it cannot.
    pub(super) fn new(path: &Path, why: &str) -> Result<Self, Error> {
        let failed = |error| Error::system(Op::Read, path, error);
        let mut file = File::open(path).map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        // It looks for that name alone, whatever directory it is in.
        let name = Path::new(CALLED).file_name().unwrap_or_default().as_encoded_bytes();
        if !bytes.windows(name.len()).any(|window| window == name) {
            return Err(cannot(
                why,
                "and these emulators do not start other programs by themselves",
            ));
        }
        Ok(Self { file })
    }

    /// What to execute, and its arguments with the name that it goes by.
    ///
    /// # Errors
    /// In a root without /proc.
    pub(super) fn command(&self, words: &[OsString]) -> Result<(PathBuf, Vec<OsString>), Error> {
        let path = Root::fd_path(self.file.as_raw_fd());
        if let Err(error) = path.metadata() {
            return Err(Error::system(Op::Start, &path, error));
        }
        let mut all = vec![CALLED.into()];
        all.extend_from_slice(words);
        Ok((path, all))
    }
}

/// The one emulator that serves: the program's own, or that of the one platform that was named.
///
/// # Errors
/// Where the program is this machine's own, or nobody knows whose, and several may be meant.
pub(super) fn emulator<'a>(
    emulators: &'a Emulators,
    request: &Run,
    why: &str,
) -> Result<&'a Emulator, Error> {
    let unclear =
        || cannot(why, "so `run` can only start a program that is itself of another architecture");
    let arch = match arch_of(request).or_else(|| only_platform(emulators, request)) {
        Some(arch) if arch != HOST => arch,
        _ => return Err(unclear()),
    };
    emulators.find(arch)
}

fn only_platform(emulators: &Emulators, request: &Run) -> Option<&'static Arch> {
    let named = plan::requested(&request.platforms()?, emulators);
    match named.as_slice() {
        [Ok(arch)] => Some(arch),
        _ => None,
    }
}

fn cannot(why: &str, what: &str) -> Error {
    Error::Host { what: format!("{why}, {what}"), hint: HINT.to_owned() }
}

/// Says what does not work so, where more was asked for.
pub(super) fn tell(context: &mut Context<'_>, emulator: &Emulator, request: &Run, why: &str) {
    if request.platforms().is_some() && only_platform(context.emulators, request).is_none() {
        let name = emulator.arch.oci;
        context.log.line(&format!("note: only {name} programs are emulated: {why}"));
    }
}
