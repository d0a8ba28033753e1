//! What the user asked for. Touches nothing.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::root::MOUNT_POINT;

/// Install, prove and explain qemu-user handlers in binfmt_misc, so that this machine runs and
/// builds container images of other architectures.
///
/// Without arguments: print the platforms that work, as JSON.
#[derive(Debug, Parser)]
#[command(name = "binfmtctl", disable_version_flag = true, args_override_self = true)]
#[command(
    after_help = "LIST is names separated by commas: linux/arm64, arm64, aarch64, armhf, qemu-riscv64, all.\n\
    Exit codes: 0 the machine is as asked for; 1 it is not, the last line says why; 2 wrong arguments."
)]
pub struct Cli {
    /// What to do beyond installing; the options then belong after its name
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Register emulators for these platforms
    #[arg(long, value_name = "LIST")]
    pub install: Option<String>,

    /// Remove entries: platforms, names of entries, or globs such as qemu-*
    #[arg(long, value_name = "LIST")]
    pub uninstall: Option<String>,

    /// Show which platforms work, by what, and why not
    #[arg(long, conflicts_with_all = ["install", "uninstall"])]
    pub status: bool,

    /// How --status is written
    #[arg(long, value_enum, default_value_t, requires = "status")]
    pub format: Format,

    /// With --status: fail unless all of these work, for scripts and readiness probes
    #[arg(long, value_name = "LIST", requires = "status")]
    pub require: Option<String>,

    /// Show what would be done, change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Replace entries that others made, or that do not work
    #[arg(long, requires = "install")]
    pub replace: bool,

    /// Flags to register with, of POCF [default: POCF; OCF on kernels that cannot tell QEMU of P]
    #[arg(long, requires = "install")]
    pub flags: Option<String>,

    /// Leave out flag C: setuid programs of other architectures then run without their owner's rights
    #[arg(long, requires = "install")]
    pub no_credentials: bool,

    /// Where binfmt_misc is, or is to be mounted
    #[arg(long, value_name = "DIR", default_value = MOUNT_POINT)]
    pub mount: PathBuf,

    /// Say what is found and planned on the way
    #[arg(short, long, global = true)]
    pub verbose: bool,

    /// Print the version, and QEMU's
    #[arg(short = 'V', long)]
    pub version: bool,

    /// Print the licences of everything inside, and where its source is
    #[arg(long)]
    pub licenses: bool,

    /// Directory of emulators to use in place of those in this binary
    #[arg(long, env = "QEMU_BINARY_PATH", value_name = "DIR", hide_env_values = true, value_parser = any_path)]
    pub qemu_binary_path: Option<PathBuf>,

    /// Prefix of the emulators' file names and of the entries' names
    #[arg(
        long,
        env = "QEMU_BINARY_PREFIX",
        value_name = "PREFIX",
        default_value = "",
        hide_env_values = true
    )]
    pub qemu_binary_prefix: String,
}

/// The commands that go beyond what existing scripts use.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Install and stay: put back what vanishes, until a signal ends it
    Hold(HoldArgs),
    /// Write emulators and registrations to disk, so that each boot registers them
    Persist(PersistArgs),
    /// Find what is wrong: with this machine, or with one program that does not run
    Doctor(DoctorArgs),
    /// Run a program of another architecture, without root and without changing the machine
    Run(RunArgs),
}

/// Options of `hold`.
#[derive(Debug, Args)]
pub struct HoldArgs {
    /// Platforms to register and to watch
    #[arg(long, value_name = "LIST", default_value = "all")]
    pub install: String,

    /// Remove what was registered when a signal ends it
    #[arg(long)]
    pub remove_on_exit: bool,

    /// File that exists while everything is registered, for readiness probes; its lines are labels as
    /// Kubernetes' Node Feature Discovery reads them
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

/// Options of `persist`.
#[derive(Debug, Args)]
pub struct PersistArgs {
    /// Platforms to register at boot [default: all]
    #[arg(long, value_name = "LIST")]
    pub install: Option<String>,

    /// Take away what was written, and nothing else
    #[arg(long, conflicts_with = "install")]
    pub remove: bool,

    /// Root of the system to write to: /host in a container with -v /:/host
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// Where the emulators go, as that system calls it
    #[arg(long, value_name = "DIR", default_value = "/usr/local/lib/binfmtctl")]
    pub lib_dir: PathBuf,

    /// Flags to register with, of POCF
    #[arg(long)]
    pub flags: Option<String>,

    /// Leave out flag C, see --no-credentials of --install
    #[arg(long)]
    pub no_credentials: bool,
}

/// Options of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// A program that does not run, or a message that was seen; without it, the machine is looked at
    pub program: Option<OsString>,

    /// Arguments for the program, with --run: from the first word on that is no option of doctor's, or --
    #[arg(allow_hyphen_values = true)]
    pub arguments: Vec<OsString>,

    /// Root that the program lives in: an unpacked image, a chroot
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// Also run the program
    #[arg(long, requires = "program")]
    pub run: bool,

    /// How long --run waits for the program's end; 0 for as long as it takes
    #[arg(long, value_name = "SECONDS", default_value_t = 10, requires = "run")]
    pub timeout: u64,

    /// How the findings are written
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,

    /// Tell the whole story of one check
    #[arg(long, value_name = "ID", conflicts_with = "program")]
    pub explain: Option<String>,

    /// List all checks
    #[arg(long, conflicts_with_all = ["program", "explain"])]
    pub list: bool,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Platforms to emulate [default: the program's own; all, if this machine runs it itself]
    #[arg(long, value_name = "LIST")]
    pub platform: Option<String>,

    /// Root to run in, with /proc, /dev, /sys and resolv.conf of this machine
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,

    /// Also show this file or directory, in the root at DST
    #[arg(long, value_name = "SRC[:DST]")]
    pub bind: Vec<String>,

    /// Directory to run in [default: this one; / with --root]
    #[arg(long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,

    /// Be root inside, with the subordinate ids of /etc/subuid if there are any: for apt, dpkg, sudo
    #[arg(long)]
    pub map_root: bool,

    /// The program and its arguments
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required = true,
        value_name = "COMMAND"
    )]
    pub command: Vec<String>,
}

/// clap's own parser of paths refuses empty ones.
fn any_path(text: &str) -> Result<PathBuf, std::convert::Infallible> {
    Ok(text.into())
}

/// How a report is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

impl Cli {
    /// Parses a command line.
    ///
    /// Existing scripts use Go's flag syntax, so `-install` is `--install`.
    ///
    /// # Errors
    /// clap's, help among them.
    pub fn from_args(args: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let command = Self::command();
        let long = |name: &str| {
            command.get_arguments().any(|arg| arg.get_long() == Some(name)) || name == "help"
        };
        let mut literal = false;
        let args = args.into_iter().map(|arg| {
            literal |= arg == "--";
            let name = arg.to_str().and_then(|arg| arg.strip_prefix('-')).unwrap_or_default();
            let name = name.split('=').next().unwrap_or_default();
            if !literal && name.len() > 1 && long(name) {
                let mut doubled = OsString::from("-");
                doubled.push(&arg);
                return doubled;
            }
            arg
        });
        let mut request = Self::try_parse_from(args)?;
        // In the environment, empty is the same as not set.
        request.qemu_binary_path.take_if(|path| path.as_os_str().is_empty());
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::from_args(line.split(' ').map(OsString::from))
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn gos_flag_syntax_works() {
        for line in ["b --install all", "b --install=all", "b -install all", "b -install=all"] {
            assert_eq!(parse(line).unwrap().install.as_deref(), Some("all"), "{line}");
        }
        let both = parse("b -uninstall qemu-* -install arm64 -mount /m").unwrap();
        assert_eq!(
            (both.uninstall.as_deref(), both.install.as_deref()),
            (Some("qemu-*"), Some("arm64"))
        );
        assert_eq!(both.mount, PathBuf::from("/m"));
        assert!(parse("b -version").unwrap().version && parse("b -v").unwrap().verbose);
    }

    #[test]
    fn an_empty_directory_is_none() {
        let request = Cli::from_args(["b", "--qemu-binary-path", ""].map(OsString::from)).unwrap();
        assert_eq!(request.qemu_binary_path, None);
    }

    #[test]
    fn doctors_options_stand_before_or_after_the_program() {
        for line in [
            "b doctor /x --root /r --run -l 1",
            "b doctor --run --root /r /x -l 1",
            "b doctor --run /x --root /r -- -l 1",
        ] {
            let request = parse(line).unwrap();
            let Some(Command::Doctor(args)) = request.command else { panic!("{line}") };
            assert_eq!((args.root, args.run), (PathBuf::from("/r"), true), "{line}");
            assert_eq!(args.program.unwrap(), "/x", "{line}");
            assert_eq!(args.arguments, ["-l", "1"], "{line}");
        }
        assert!(parse("b doctor --rooot /r /x").is_err() && parse("b doctor --run").is_err());
    }

    #[test]
    fn nonsense_is_a_usage_error() {
        for line in
            ["b --install", "b --replace", "b --instal all", "b all", "b --status --install all"]
        {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }
}
