//! What the user asked for: clap's definition, which is also the [`Request`]. Touches nothing.
//!
//! A request holds exactly what its command needs. What a command does not know is refused here, so
//! nothing that was typed is ever dropped in silence.

use std::error::Error as _;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::entry::Flags;
use crate::error::Error;
use crate::platform::{self, Platform};
use crate::root::MOUNT_POINT;
use crate::shown::shorten;
use crate::terminal::Terminal;

/// Names of platforms or entries, as they were typed.
pub(crate) type List = Vec<String>;
/// Platforms that are to work.
type Platforms = Vec<Platform>;

/// Run and build containers for other CPU architectures: registers QEMU's user emulators in the
/// kernel's binfmt_misc, tests that they work, and explains what is wrong.
///
/// Without arguments: print the platforms that work: as JSON, or on a terminal in one line.
#[derive(Debug, Parser)]
#[command(name = "binfmtctl", disable_version_flag = true, args_override_self = true)]
#[command(
    after_help = "LIST is names separated by commas: linux/arm64, arm64, aarch64, armhf, qemu-riscv64, all.\n\
    Exit codes: 0: all is as you asked; 1: it is not, and the last line says why; 2: wrong arguments."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Request>,

    #[command(flatten)]
    general: General,

    /// Register emulators for these platforms
    #[arg(long, value_name = "LIST", value_parser = items)]
    install: Vec<List>,

    /// Remove entries: platforms, names of entries, or globs such as qemu-*
    #[arg(long, value_name = "LIST", value_parser = items)]
    uninstall: Vec<List>,

    /// Show which platforms work, what runs them, and why others do not work
    #[arg(long, conflicts_with_all = ["install", "uninstall"])]
    status: bool,

    #[command(flatten)]
    look: Status,

    /// With --install or --uninstall: show what would be done, change nothing
    #[arg(long, conflicts_with = "json")]
    dry_run: bool,

    /// With --install: replace entries that others made, or that do not work
    #[arg(long, requires = "install")]
    replace: bool,

    #[command(flatten)]
    options: Options,

    /// Print the versions of binfmtctl and of QEMU
    #[arg(short = 'V', long, conflicts_with_all = OTHERS, conflicts_with = "licenses")]
    version: bool,

    /// Print all licences, and where the source is
    #[arg(long, conflicts_with_all = OTHERS)]
    licenses: bool,
}

/// What `--version` and `--licenses` would not look at.
const OTHERS: [&str; 10] = [
    "install",
    "uninstall",
    "status",
    "format",
    "json",
    "require",
    "dry_run",
    "replace",
    "flags",
    "no_credentials",
];

/// Options that every command takes, before or after its name.
#[derive(Debug, Clone, Args)]
pub struct General {
    /// Where binfmt_misc is mounted, or will be
    #[arg(long, value_name = "DIR", default_value = MOUNT_POINT, global = true)]
    pub mount: PathBuf,

    /// Also print what is found and planned, and the checks that found nothing wrong
    #[arg(short, long, global = true)]
    pub verbose: bool,

    /// Print only reports and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Directory of emulators to use in place of those in this binary
    #[arg(long, env = "QEMU_BINARY_PATH", value_name = "DIR", hide_env_values = true, value_parser = any_path, global = true)]
    pub qemu_binary_path: Option<PathBuf>,

    /// Prefix of the emulators' file names and of the entries' names
    #[arg(
        long,
        env = "QEMU_BINARY_PREFIX",
        value_name = "PREFIX",
        hide_env_values = true,
        global = true
    )]
    pub qemu_binary_prefix: Option<String>,
}

/// What is to be done, with all that it needs: the commands, and what flags alone ask for.
#[derive(Debug, Subcommand)]
pub enum Request {
    /// Register emulators for these platforms
    Install(InstallArgs),
    /// Remove entries: platforms, names of entries, or globs such as qemu-*
    Uninstall(UninstallArgs),
    /// Show which platforms work, what runs them, and why others do not work
    #[command(visible_alias = "list")]
    Status(Status),
    /// Find what is wrong: with this machine, or with one program that does not run
    Doctor(DoctorArgs),
    /// Install, keep running, and put back entries that vanish
    Hold(Hold),
    /// Write emulators and registrations to disk, so that each boot registers them
    Persist(Persist),
    /// Run a program of another architecture, without root and without changing the machine
    Run(Run),
    /// Print the versions of binfmtctl and of QEMU
    Version,
    /// Print a completion script
    Completion {
        /// The shell to complete in
        shell: clap_complete::Shell,
    },
    /// Print a man page: `binfmtctl man run | man -l -`
    Man {
        /// A command; without it, the page is about binfmtctl as a whole
        command: Option<String>,
    },
    /// Uninstall, then install.
    #[command(skip)]
    Change(Change),
    /// Print the platforms that work; as JSON also on a terminal, where that is asked for.
    #[command(skip)]
    Summary {
        /// Whether it is.
        json: bool,
    },
    /// Print licences.
    #[command(skip)]
    Licenses,
}

/// How a status is to be told.
#[derive(Debug, Args)]
pub struct Status {
    /// How the status is written
    #[arg(long, value_enum)]
    format: Option<Format>,

    /// Print JSON, also on a terminal
    #[arg(long, conflicts_with = "format")]
    json: bool,

    /// Fail unless all of these work: for scripts and readiness probes
    #[arg(long, value_name = "LIST", value_parser = platforms)]
    require: Vec<Platforms>,
}

impl Status {
    /// How it is written.
    pub fn format(&self) -> Format {
        format(self.format, self.json)
    }

    /// What is to work.
    pub fn required(&self) -> Vec<Platform> {
        self.require.concat()
    }
}

/// What the user wants of registrations beyond the list.
#[derive(Debug, Clone, Default, Args)]
pub struct Options {
    /// Flags of the entries: letters of POCF [default: POCF; OCF before Linux 5.12]
    #[arg(long, value_name = "FLAGS", value_parser = Flags::parse)]
    pub flags: Option<Flags>,

    /// Leave out flag C: setuid programs of other architectures then run without their owner's rights
    #[arg(long)]
    pub no_credentials: bool,

    /// Whether entries that are not ours may be replaced: not every command lets one say so.
    #[arg(skip)]
    pub replace: bool,
}

/// How to change entries.
#[derive(Debug, Args)]
struct How {
    /// Show what would be done, change nothing
    #[arg(long, conflicts_with = "json")]
    dry_run: bool,

    /// Print the platforms that work as JSON, also on a terminal
    #[arg(long)]
    json: bool,
}

/// `install`, as it is typed.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// Platforms, separated by commas or blanks
    #[arg(required = true, value_name = "LIST")]
    list: Vec<String>,

    #[command(flatten)]
    how: How,

    /// Replace entries that others made, or that do not work
    #[arg(long)]
    replace: bool,

    #[command(flatten)]
    options: Options,
}

/// `uninstall`, as it is typed.
#[derive(Debug, Args)]
pub struct UninstallArgs {
    /// Platforms or entries, separated by commas or blanks
    #[arg(required = true, value_name = "LIST")]
    list: Vec<String>,

    #[command(flatten)]
    how: How,
}

/// What entries are to be changed.
#[derive(Debug)]
pub struct Change {
    /// What to remove: platforms, names, globs.
    pub uninstall: Option<List>,
    /// What to register.
    pub install: Option<Install>,
    /// Whether only to say what would be done.
    pub dry_run: bool,
    /// Whether to tell the outcome as JSON, also on a terminal.
    pub json: bool,
}

impl InstallArgs {
    /// What it asks for.
    pub fn change(self) -> Result<Change, Error> {
        let Self { list, how: How { dry_run, json }, replace, options } = self;
        let install = Install { list: words(&list)?, options: Options { replace, ..options } };
        Ok(Change { uninstall: None, install: Some(install), dry_run, json })
    }
}

impl UninstallArgs {
    /// What it asks for.
    pub fn change(self) -> Result<Change, Error> {
        let Self { list, how: How { dry_run, json } } = self;
        Ok(Change { uninstall: Some(words(&list)?), install: None, dry_run, json })
    }
}

/// What to register, and how.
#[derive(Debug, Clone)]
pub struct Install {
    /// Platforms to register.
    pub list: List,
    /// How.
    pub options: Options,
}

/// The same, as it is typed after a command.
#[derive(Debug, Clone, Args)]
pub struct InstallOptions {
    /// Platforms to register
    #[arg(long, value_name = "LIST", default_value = "all", value_parser = items)]
    install: Vec<List>,

    #[command(flatten)]
    options: Options,
}

impl InstallOptions {
    /// What it asks for.
    pub fn install(&self) -> Install {
        Install { list: self.install.concat(), options: self.options.clone() }
    }
}

/// Of `hold`.
#[derive(Debug, Args)]
pub struct Hold {
    #[command(flatten)]
    pub what: InstallOptions,

    /// Remove what was registered when a signal ends it
    #[arg(long)]
    pub remove_on_exit: bool,

    /// File that exists while everything is registered, for readiness probes; it holds labels for
    /// Kubernetes' Node Feature Discovery
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,

    /// File of metrics for Prometheus' node_exporter: entries, repairs, time of the last check
    #[arg(long, value_name = "FILE")]
    pub metrics_file: Option<PathBuf>,

    /// Show what would be registered first, change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Of `persist`.
#[derive(Debug, Args)]
pub struct Persist {
    #[command(flatten)]
    pub what: InstallOptions,

    /// Remove what was written, and nothing else
    #[arg(long, conflicts_with_all = ["install", "flags", "no_credentials"])]
    pub remove: bool,

    /// Root directory of the system to write to: /host in a container with -v /:/host
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// Directory for the emulators, as a path in that system
    #[arg(long, value_name = "DIR", default_value = "/usr/local/lib/binfmtctl")]
    pub lib_dir: PathBuf,

    /// Show what would be written, change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `doctor`, as it is typed.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// A program that does not run, or an error message; without it, the machine is examined
    program: Option<OsString>,

    /// Arguments for the program, with --run; those that begin with - stand after --
    #[arg(allow_hyphen_values = true)]
    arguments: Vec<OsString>,

    /// Root directory of the program: an unpacked image, a chroot
    #[arg(long, value_name = "DIR", default_value = "/", requires = "program")]
    root: PathBuf,

    /// Examine a saved image, or an OCI layout: the program that it starts, or PROGRAM in it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["arguments", "root", "run", "timeout", "yes"])]
    image: Option<PathBuf>,

    /// Also run the program
    #[arg(long, requires = "program", conflicts_with = "yes")]
    run: bool,

    /// How long --run waits for the program to end; 0: without limit
    #[arg(long, value_name = "SECONDS", default_value = "10", requires = "run", value_parser = seconds, allow_hyphen_values = true)]
    timeout: u64,

    /// Do the repairs that are safe, then look again; nothing that works is removed or replaced
    #[arg(long, conflicts_with_all = ["image", "run", "timeout", "list", "explain", "arguments"])]
    fix: bool,

    /// With --fix: do not ask
    #[arg(short, long, requires = "fix")]
    yes: bool,

    /// How the findings are written
    #[arg(long, value_enum)]
    format: Option<Format>,

    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,

    /// Explain one check in full
    #[arg(long, value_name = "ID", conflicts_with_all = LOOKING)]
    explain: Option<String>,

    /// List all checks
    #[arg(long, conflicts_with_all = LOOKING, conflicts_with = "explain")]
    list: bool,
}

/// Options of `doctor` for which something has to be looked at. All are named: what an option requires is not
/// asked for where that is in conflict with another.
const LOOKING: [&str; 8] = ["program", "root", "image", "run", "timeout", "yes", "format", "json"];

/// Of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Platforms to emulate [default: the program's own; all, if this machine runs it itself]
    #[arg(long, value_name = "LIST", value_parser = items)]
    platform: Vec<List>,

    /// Directory to use as root, with /proc, /dev, /sys and resolv.conf of this machine
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,

    /// Also make this file or directory visible in the root, at DST
    #[arg(long, value_name = "SRC[:DST]")]
    pub bind: Vec<OsString>,

    /// Directory to run in [default: this one; / with --root]
    #[arg(long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,

    /// Be root inside, with the ids of /etc/subuid if there are any: for apt, dpkg, sudo
    #[arg(long)]
    pub map_root: bool,

    /// Remove the unpacked emulators of earlier runs, and do nothing else
    #[arg(long, exclusive = true)]
    clean_cache: bool,

    /// The program and its arguments
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        required_unless_present = "clean_cache"
    )]
    pub command: Vec<OsString>,
}

impl Run {
    /// Platforms that are named, if any are.
    pub fn platforms(&self) -> Option<List> {
        (!self.platform.is_empty()).then(|| self.platform.concat())
    }
}

fn seconds(text: &str) -> Result<u64, Error> {
    // Longer than a year is for as long as it takes.
    let wrong =
        || Error::Usage(format!("--timeout takes a number of seconds, not '{}'", shorten(text)));
    text.parse::<u32>().map(u64::from).map_err(|_| wrong())
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

fn format(format: Option<Format>, json: bool) -> Format {
    if json { Format::Json } else { format.unwrap_or_default() }
}

/// Of `doctor`.
#[derive(Debug)]
pub enum Doctor {
    /// List all checks.
    List,
    /// Tell the whole story of one.
    Explain(String),
    /// Look at the machine.
    Machine {
        /// Whether to do what repairs it.
        fix: Option<Consent>,
        /// How the findings are written.
        format: Format,
    },
    /// Look into an image.
    Image {
        /// The file, or directory.
        file: PathBuf,
        /// A program of it, in place of what it starts.
        program: Option<OsString>,
        /// How the findings are written.
        format: Format,
    },
    /// Look at one program.
    Program {
        /// Its path in the root; or a message that was seen.
        program: OsString,
        /// Its arguments; or the message's other words.
        arguments: Vec<OsString>,
        /// The root it lives in.
        root: PathBuf,
        /// Whether to do what makes it run.
        fix: Option<Consent>,
        /// Whether it is to be run.
        run: bool,
        /// How long to wait for its end.
        limit: Option<Duration>,
        /// How the findings are written.
        format: Format,
    },
}

/// Of `doctor --fix`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// To be asked for.
    Ask,
    /// Given.
    Given,
}

impl DoctorArgs {
    /// What is to be looked at.
    pub fn into_request(self) -> Doctor {
        let format = format(self.format, self.json);
        let limit = Some(Duration::from_secs(self.timeout)).filter(|limit| !limit.is_zero());
        let fix = self.fix.then_some(if self.yes { Consent::Given } else { Consent::Ask });
        match self.program {
            _ if self.list => Doctor::List,
            _ if self.explain.is_some() => Doctor::Explain(self.explain.unwrap_or_default()),
            program if self.image.is_some() => {
                Doctor::Image { file: self.image.unwrap_or_default(), program, format }
            }
            None => Doctor::Machine { fix, format },
            Some(program) => Doctor::Program {
                program,
                root: self.root,
                fix,
                run: self.run,
                arguments: self.arguments,
                limit,
                format,
            },
        }
    }
}

/// A command line that is none.
#[derive(Debug)]
pub enum Unclear {
    /// clap's words; `--help` among them.
    Usage(Box<clap::Error>),
    /// A value that makes no sense.
    Value(Error),
}

impl From<clap::Error> for Unclear {
    fn from(error: clap::Error) -> Self {
        Self::Usage(Box::new(error))
    }
}

/// clap's message on wrong arguments in the order of ours: the usage, the advice, and last what is wrong, in a line each.
/// Callers such as setup-qemu-action show the last line.
pub(crate) fn in_our_order(error: &clap::Error, terminal: Terminal) -> String {
    let message = error.to_string();
    let (mut usage, mut hints, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    for part in message.trim_end().split("\n\n") {
        let lines = part.lines().map(str::trim);
        if part.starts_with("Usage:") {
            usage.extend(part.lines().map(str::to_owned));
        } else if part.trim_start().starts_with("tip:") {
            hints.extend(lines.map(|line| line.replacen("tip:", "hint:", 1)));
        } else if part.starts_with("error:") {
            wrong.push(lines.collect::<Vec<_>>().join(" "));
        } else {
            hints.push(
                part.replacen("For more", "hint: for more", 1).trim_end_matches('.').to_owned(),
            );
        }
    }
    // Advice on what was typed is worth more than that there is help.
    hints.reverse();
    let lines = [usage, hints, wrong].concat();
    lines.iter().map(|line| terminal.line(line) + "\n").collect()
}

/// clap's definition, for man pages and completions.
pub(crate) fn definition() -> clap::Command {
    Cli::command()
}

/// Reads a command line.
///
/// # Errors
/// Usage errors, clap's help among them, and values that make no sense.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<(Request, General), Unclear> {
    let args = from_go_syntax(args);
    let mut definition = Cli::command();
    let matches =
        definition.try_get_matches_from_mut(&args).map_err(|error| explain(error, &args))?;
    one_command(&mut definition, &matches)?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    // Set but empty is unset: so the peer reads its environment.
    let mut general = cli.general.clone();
    general.qemu_binary_path.take_if(|path| path.as_os_str().is_empty());
    let request = cli.command.take();
    Ok((request.map_or_else(|| cli.by_flags(), Ok)?, general))
}

impl Cli {
    /// What the flags ask for, where no command does.
    fn by_flags(mut self) -> Result<Request, clap::Error> {
        // Who names platforms twice means both.
        let joined = |lists: &[List]| Some(lists.concat()).filter(|list| !list.is_empty());
        let (install, uninstall) = (joined(&self.install), joined(&self.uninstall));
        let changes = install.is_some() || uninstall.is_some();
        let looks = self.look.format.is_some() || !self.look.require.is_empty();
        let registers = self.options.flags.is_some() || self.options.no_credentials;
        let stray = [
            (looks && !self.status, "--format and --require go with --status"),
            (registers && install.is_none(), "--flags and --no-credentials go with --install"),
            (self.replace && install.is_none(), "--replace goes with --install"),
            (
                self.dry_run && !changes,
                "--dry-run goes with --install, --uninstall, or after the name of a command",
            ),
        ];
        self.options.replace = self.replace;
        Ok(match stray.iter().find(|(is_stray, _)| *is_stray) {
            _ if self.version => Request::Version,
            _ if self.licenses => Request::Licenses,
            Some((_, text)) => {
                return Err(Self::command().error(ErrorKind::MissingRequiredArgument, text));
            }
            None if changes => Request::Change(Change {
                uninstall,
                install: install.map(|list| Install { list, options: self.options }),
                dry_run: self.dry_run,
                json: self.look.json,
            }),
            None if self.status => Request::Status(self.look),
            None => Request::Summary { json: self.look.json },
        })
    }
}

/// Existing scripts use Go's flag syntax: `-install` is `--install`.
///
/// Only up to the first word that is neither an option nor its value: from there on words belong to
/// a command, and perhaps to somebody's program.
fn from_go_syntax(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let definition = Cli::command();
    let mut args = args.into_iter();
    let mut rewritten: Vec<_> = args.next().into_iter().collect();
    while let Some(arg) = args.next() {
        let text = arg.to_str().unwrap_or_default();
        let rest = text.trim_start_matches('-');
        let dashes = text.len() - rest.len();
        let (name, value) = rest.split_once('=').map_or((rest, None), |(n, v)| (n, Some(v)));
        let mut options = definition.get_arguments().filter(|_| dashes > 0);
        let option = options.find(|option| option.get_long() == Some(name));
        let takes_next =
            value.is_none() && option.is_some_and(|option| option.get_action().takes_values());
        rewritten.push(match dashes == 1 && (option.is_some() || name == "help") {
            true => format!("-{text}").into(),
            false => arg.clone(),
        });
        if takes_next {
            rewritten.extend(args.next());
        } else if dashes == 0 || text == "--" {
            break;
        }
    }
    rewritten.extend(args);
    rewritten
}

/// Refuses an option of the flags' syntax next to a command, which would not look at it.
fn one_command(definition: &mut clap::Command, matches: &ArgMatches) -> Result<(), clap::Error> {
    let Some((command, _)) = matches.subcommand() else { return Ok(()) };
    let typed = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    let stray = definition
        .get_arguments()
        .find(|arg| !arg.is_global_set() && typed(arg.get_id().as_str()))
        .and_then(|arg| arg.get_long())
        .map(str::to_owned);
    match stray {
        None => Ok(()),
        Some(option) => Err(definition.error(
            ErrorKind::ArgumentConflict,
            format!("--{option} before '{command}' has no effect: options of '{command}' stand after it, see 'binfmtctl {command} --help'"),
        )),
    }
}

/// Words and options of other tools, and what they are called here.
const MEANT: &[(&str, &str)] = &[
    ("--list", "`binfmtctl list`, or --status, shows what works; `doctor --list` the checks"),
    ("-i", "--install LIST"),
    ("-u", "--uninstall LIST"),
    ("-s", "--status"),
    ("-l", "--status"),
    (
        "--reset",
        "--uninstall 'qemu-*' removes all emulators' entries; --install replaces nothing, unless with --replace",
    ),
    ("-p", "entries last as they are: flag F is always set; `binfmtctl persist` is for each boot"),
    (
        "--persistent",
        "entries last as they are: flag F is always set; `binfmtctl persist` is for each boot",
    ),
    ("--remove", "--uninstall LIST; `persist --remove` removes what persist wrote"),
    ("--force", "--replace also replaces entries that others made, or that do not work"),
    ("--debug", "-v prints what is found and planned"),
    ("licenses", "--licenses"),
    ("license", "--licenses"),
    ("--license", "--licenses"),
    ("completions", "`binfmtctl completion SHELL`"),
    ("upgrade", "run `binfmtctl --install LIST --replace` with a newer binfmtctl"),
    ("update", "run `binfmtctl --install LIST --replace` with a newer binfmtctl"),
    ("remove", "`binfmtctl uninstall LIST`"),
    ("register", "`binfmtctl install LIST`"),
    ("check", "`binfmtctl doctor`"),
    ("exec", "`binfmtctl run COMMAND`"),
];

/// What people type most often, and what clap does not understand.
fn explain(error: clap::Error, args: &[OsString]) -> Unclear {
    use clap::error::{ContextKind, ContextValue};
    if let Some(error) = error.source().and_then(|source| source.downcast_ref::<Error>()) {
        return Unclear::Value(error.clone());
    }
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let word = match error.kind() {
        ErrorKind::InvalidSubcommand => text(ContextKind::InvalidSubcommand),
        ErrorKind::UnknownArgument => text(ContextKind::InvalidArg),
        _ => None,
    };
    let Some(word) = word else { return error.into() };
    // Word processors and web pages make one of two hyphens.
    if let Some(option) = word.strip_prefix(['—', '–', '−']) {
        let hint = format!("type two hyphens: --{}", option.trim_start_matches('-'));
        return Unclear::Value(Error::Unclear { what: format!("unknown: {word}"), hint });
    }
    if let Some((_, meant)) = MEANT.iter().find(|(typed, _)| *typed == word) {
        let (what, hint) = (format!("unknown: {word}"), (*meant).to_owned());
        return Unclear::Value(Error::Unclear { what, hint });
    }
    match explain_name(word, args).or_else(|| explain_option(word, args)) {
        Some(told) => Unclear::Value(told),
        None => error.into(),
    }
}

/// The same for a command that was typed as an option, and for a command's option where none was typed.
fn explain_option(word: &str, args: &[OsString]) -> Option<Error> {
    let option = word.strip_prefix("--")?;
    let definition = Cli::command();
    let commands = || definition.get_subcommands().map(clap::Command::get_name);
    if commands().any(|name| args.iter().any(|arg| arg == name)) {
        return None;
    }
    let hint = if commands().any(|name| name == option) {
        format!("it is a command: `binfmtctl {option}`")
    } else {
        let has = |command: &&clap::Command| {
            command.get_arguments().any(|argument| argument.get_long() == Some(option))
        };
        let having: Vec<_> = definition.get_subcommands().filter(has).collect();
        let names: Vec<_> =
            having.iter().map(|command| format!("`{}`", command.get_name())).collect();
        Some(names).filter(|names| !names.is_empty()).map(|names| {
            format!("it is an option of {}: `binfmtctl COMMAND {word}`", names.join(", "))
        })?
    };
    Some(Error::Unclear { what: format!("unknown: {word}"), hint })
}

/// The same for a name of a platform where none is expected.
fn explain_name(word: &str, args: &[OsString]) -> Option<Error> {
    let names = |word: &&str| {
        items(word).is_ok_and(|items| {
            items.iter().all(|it| Platform::parse(it).is_some() || it.eq_ignore_ascii_case("all"))
        })
    };
    Some(word).filter(names)?;
    let words = args.iter().skip(1).filter_map(|arg| arg.to_str());
    let words: Vec<_> = words
        .flat_map(|typed| match typed.split_once('=') {
            Some((option, value)) if option.starts_with("--") => vec![option, value],
            _ => vec![typed],
        })
        .collect();
    for option in ["--install", "--uninstall", "--require"] {
        if let Some(at) = words.iter().position(|typed| *typed == option) {
            let list: Vec<_> =
                words[at + 1..].iter().take_while(|word| names(word)).copied().collect();
            let list = list.join(",").replace(",,", ",");
            return Some(Error::Usage(format!(
                "names in a list are separated by commas: {option} {list}"
            )));
        }
    }
    let of = |commands: &[&str]| words.iter().find(|word| commands.contains(word)).copied();
    let (what, hint) = if let Some(command) = of(&["hold", "persist"]) {
        (
            format!("{command} takes no list: {word}"),
            format!("`binfmtctl {command} --install {word}`"),
        )
    } else if of(&["status", "list", "--status"]).is_some() {
        (
            format!("status takes no list: {word}"),
            format!("`binfmtctl status --require {word}` fails unless that works"),
        )
    } else {
        (format!("unknown: {word}"), format!("`binfmtctl install {word}`"))
    };
    Some(Error::Unclear { what, hint })
}

/// Splits a list as people type it. A comma at its end is no error.
fn items(list: &str) -> Result<List, Error> {
    let whole = list.trim().trim_end_matches(',').trim_end();
    let items: Vec<_> = whole.split(',').map(|item| item.trim().to_owned()).collect();
    if items.iter().any(String::is_empty) {
        return Err(Error::EmptyItem(shorten(list)));
    }
    Ok(items)
}

/// The same of words, which blanks separate as well: `arm64, riscv64 arm`.
fn words(list: &[String]) -> Result<List, Error> {
    let items = items(&list.join(" "))?;
    Ok(items.iter().flat_map(|item| item.split_whitespace()).map(str::to_owned).collect())
}

fn platforms(list: &str) -> Result<Platforms, Error> {
    let parse = |name: &String| {
        Platform::parse(name).ok_or_else(|| Error::UnknownPlatform(platform::Unknown::new(name)))
    };
    let list = items(list)?;
    if let Some(word) = list.iter().find(|name| name.eq_ignore_ascii_case("all")) {
        return Err(Error::Unclear {
            what: format!("--require takes names of platforms, not '{word}'"),
            hint: "name those that you need: --require linux/arm64,linux/riscv64".to_owned(),
        });
    }
    list.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn request(line: &str) -> Result<Request, Unclear> {
        parse(line.split(' ').map(OsString::from)).map(|(request, _)| request)
    }

    #[test]
    fn what_is_wrong_is_said_last() {
        let told = |line: &str| match request(line).unwrap_err() {
            Unclear::Usage(error) => in_our_order(&error, Terminal::default()),
            Unclear::Value(error) => panic!("{error}"),
        };
        assert_eq!(
            told("binfmtctl --instal all"),
            "Usage: binfmtctl --install <LIST>\nhint: for more information, try '--help'\n\
             hint: a similar argument exists: '--install'\nerror: unexpected argument '--instal' found\n"
        );
        assert_eq!(
            told("binfmtctl install"),
            "Usage: binfmtctl install <LIST>...\nhint: for more information, try '--help'\n\
             error: the following required arguments were not provided: <LIST>...\n"
        );
        assert_eq!(
            told("binfmtctl completion ksh"),
            "hint: for more information, try '--help'\nhint: a similar value exists: 'zsh'\n\
             error: invalid value 'ksh' for '<SHELL>' [possible values: bash, elvish, fish, powershell, zsh]\n"
        );
        assert_eq!(
            told("binfmtctl --format json"),
            "Usage: binfmtctl [OPTIONS] [COMMAND]\nhint: for more information, try '--help'\n\
             error: --format and --require go with --status\n"
        );
    }

    /// The usage errors of clap and ours, both of which end with exit code 2.
    #[track_caller]
    fn refused(line: &str) -> String {
        match request(line).unwrap_err() {
            Unclear::Usage(error) => {
                assert_eq!(error.exit_code(), 2, "{line}");
                error.to_string()
            }
            Unclear::Value(error) => {
                assert_eq!(error.exit_code(), 2, "{line}");
                error.to_string()
            }
        }
    }

    fn change(line: &str) -> Change {
        match request(line).unwrap() {
            Request::Change(change) => change,
            Request::Install(args) => args.change().unwrap(),
            Request::Uninstall(args) => args.change().unwrap(),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[track_caller]
    fn doctor(request: Request) -> Doctor {
        let Request::Doctor(args) = request else { panic!("{request:?}") };
        args.into_request()
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn gos_flag_syntax_works() {
        for line in ["b --install all", "b --install=all", "b -install all", "b -install=all"] {
            assert_eq!(change(line).install.unwrap().list, ["all"], "{line}");
        }
        let line = "b -uninstall qemu-* -install arm64 -mount /m".split(' ').map(OsString::from);
        let (both, general) = parse(line).unwrap();
        let Request::Change(both) = both else { panic!("{both:?}") };
        assert_eq!(both.uninstall.unwrap(), ["qemu-*"]);
        assert_eq!(both.install.unwrap().list, ["arm64"]);
        assert_eq!(general.mount, PathBuf::from("/m"));
        assert!(matches!(request("b -version").unwrap(), Request::Version));
        assert!(matches!(request("b -v").unwrap(), Request::Summary { json: false }));
    }

    #[test]
    fn lists_that_are_given_twice_add_up() {
        let both = change("b --install arm64 --uninstall a --install riscv64,arm --uninstall b");
        assert_eq!(both.install.unwrap().list, ["arm64", "riscv64", "arm"]);
        assert_eq!(both.uninstall.unwrap(), ["a", "b"]);
        let Request::Hold(hold) = request("b hold --install arm64 --install arm").unwrap() else {
            panic!()
        };
        assert_eq!(hold.what.install().list, ["arm64", "arm"]);
        let Request::Hold(hold) = request("b hold").unwrap() else { panic!() };
        assert_eq!(hold.what.install().list, ["all"]);
        for line in ["b --status --require arm64 --require arm", "b status --require arm64,arm"] {
            let Request::Status(status) = request(line).unwrap() else { panic!("{line}") };
            assert_eq!(status.required().len(), 2, "{line}");
        }
        let Request::Run(run) = request("b run --platform arm64 --platform arm true").unwrap()
        else {
            panic!()
        };
        assert_eq!(run.platforms().unwrap(), ["arm64", "arm"]);
    }

    #[test]
    fn a_programs_arguments_are_handed_over_byte_for_byte() {
        let mut line: Vec<OsString> =
            ["b", "-v", "run", "find", ".", "-mount", "-version", "--", "-install"]
                .map(OsString::from)
                .into();
        line.push(OsString::from_vec(vec![0xe9]));
        let (request, general) = parse(line.clone()).unwrap();
        let Request::Run(run) = request else { panic!("{request:?}") };
        assert_eq!(run.command, &line[3..]);
        assert!(general.verbose);
        let line = ["b", "doctor", "--run", "/x", "--", "-mount", "-help"].map(OsString::from);
        let (request, _) = parse(line).unwrap();
        let Doctor::Program { arguments, .. } = doctor(request) else { panic!() };
        assert_eq!(arguments, ["-mount", "-help"]);
    }

    #[test]
    fn options_of_doctor_stand_before_or_after_its_program() {
        for line in [
            "b doctor /x --root /r --run -l 1",
            "b doctor --run --root /r /x -l 1",
            "b doctor --run /x --root /r -- -l 1",
        ] {
            let Doctor::Program { program, root, run: true, arguments, .. } =
                doctor(request(line).unwrap())
            else {
                panic!("{line}")
            };
            assert_eq!((program, root), ("/x".into(), PathBuf::from("/r")), "{line}");
            assert_eq!(arguments, ["-l", "1"], "{line}");
        }
        refused("b doctor --rooot /r /x");
        refused("b doctor --run");
    }

    #[test]
    fn general_options_go_with_every_command_on_either_side() {
        for line in ["b --mount /m hold", "b hold --mount /m", "b doctor -v --mount /m /x"] {
            let (_, general) = parse(line.split(' ').map(OsString::from)).unwrap();
            assert_eq!(general.mount, PathBuf::from("/m"), "{line}");
        }
    }

    #[test]
    fn what_a_command_does_not_know_is_refused() {
        for line in [
            "b --install arm64 doctor --list",
            "b --uninstall all run true",
            "b --status run true",
            "b --dry-run persist",
            "b --dry-run hold",
            "b --replace hold",
            "b --version status",
            "b --version --json",
            "b --install arm64 --version",
            "b --licenses --status",
            "b version --json",
            "b hold --replace",
            "b persist --remove --install arm64",
            "b --json --install arm64 --dry-run",
            "b uninstall all --dry-run --json",
            "b status --dry-run",
        ] {
            refused(line);
        }
    }

    /// Of any two options of a command either both are in its request, or they are refused together.
    #[test]
    fn no_option_is_taken_and_then_dropped() {
        /// What an option may take, and what goes with it where it alone is no request.
        fn typed(option: &clap::Arg) -> String {
            let name = option.get_long().unwrap_or_default();
            match option.get_action().takes_values() {
                false => format!(" --{name}"),
                true => {
                    let value = match name {
                        "format" => "json",
                        "flags" => "F",
                        "timeout" => "3",
                        "install" | "uninstall" | "require" | "platform" => "arm64",
                        _ => "/x",
                    };
                    format!(" --{name} {value}")
                }
            }
        }
        let asked = |line: &str| match request(line).ok()? {
            Request::Doctor(args) => Some(format!("{:?}", args.into_request())),
            request => Some(format!("{request:?}")),
        };
        let mut root = Cli::command();
        root.build();
        let commands = root.get_subcommands().filter(|command| command.get_name() != "help");
        let mut tried = 0;
        for command in commands.chain([&root]) {
            let name = command.get_name();
            let words: &[&str] = match name {
                "install" | "uninstall" => &[" arm64"],
                "run" => &["", " /x"],
                "doctor" => &["", " /x"],
                "binfmtctl" => &[""],
                _ => &["", " bash"],
            };
            let options = command.get_arguments().filter(|one| {
                one.get_long().is_some_and(|long| long != "help") && !one.is_global_set()
            });
            let mut typed: Vec<_> = options.map(typed).collect();
            typed.push(String::new());
            let prefix = if name == "binfmtctl" { "b".to_owned() } else { format!("b {name}") };
            for (word, one) in
                words.iter().flat_map(|word| typed.iter().map(move |one| (word, one)))
            {
                for other in typed.iter().filter(|other| *other != one && !other.is_empty()) {
                    let (without, with) =
                        (format!("{prefix}{one}{word}"), format!("{prefix}{one}{other}{word}"));
                    let Some(both) = asked(&with) else { continue };
                    tried += 1;
                    assert_ne!(Some(both), asked(&without), "{with}");
                }
            }
        }
        assert!(tried > 100, "{tried}");
    }

    #[test]
    fn commands_are_words_too() {
        assert_eq!(
            change("b install arm64,riscv64 arm").install.unwrap().list,
            ["arm64", "riscv64", "arm"]
        );
        for list in ["arm64, riscv64", "arm64 , riscv64", "arm64 ,riscv64", "arm64 riscv64,"] {
            let (request, _) = parse(["b", "install", list].map(OsString::from)).unwrap();
            let Request::Install(args) = request else { panic!("{list}") };
            assert_eq!(
                args.change().unwrap().install.unwrap().list,
                ["arm64", "riscv64"],
                "{list}"
            );
            let typed = change(&format!("b uninstall {list}"));
            assert_eq!(typed.uninstall.unwrap(), ["arm64", "riscv64"], "{list}");
        }
        for list in [",", "arm64 , , riscv64"].map(str::to_owned) {
            assert!(words(std::slice::from_ref(&list)).is_err(), "{list}");
        }
        assert_eq!(change("b uninstall qemu-*").uninstall.unwrap(), ["qemu-*"]);
        assert!(matches!(request("b list").unwrap(), Request::Status(_)));
        assert!(matches!(request("b version").unwrap(), Request::Version));
        for line in ["b status --json", "b --status --json", "b --status --format json"] {
            let Request::Status(status) = request(line).unwrap() else { panic!("{line}") };
            assert_eq!(status.format(), Format::Json, "{line}");
        }
    }

    #[test]
    fn names_without_a_comma_between_them_are_told() {
        for (line, list) in [
            ("b --install arm64 riscv64", "--install arm64,riscv64"),
            ("b --install=arm64 riscv64 s390x", "--install arm64,riscv64,s390x"),
            ("b --install arm64, riscv64 -v", "--install arm64,riscv64"),
            ("b -uninstall arm64 riscv64", "--uninstall arm64,riscv64"),
            ("b hold --install arm64 riscv64,arm", "--install arm64,riscv64,arm"),
            ("b status --require arm64 riscv64", "--require arm64,riscv64"),
        ] {
            let told = format!("names in a list are separated by commas: {list}");
            assert_eq!(refused(line), told, "{line}");
        }
    }

    #[test]
    fn what_was_meant_is_told() {
        for (line, words) in [
            ("b --list", "--status"),
            ("b -i", "--install"),
            ("b --reset -p yes", "--uninstall 'qemu-*'"),
            ("b completions bash", "completion SHELL"),
            ("b upgrade", "--replace"),
            ("b arm64", "`binfmtctl install arm64`"),
            ("b status arm64", "`binfmtctl status --require arm64`"),
            ("b list arm64", "`binfmtctl status --require arm64`"),
            ("b --status arm64", "`binfmtctl status --require arm64`"),
            ("b hold arm64", "`binfmtctl hold --install arm64`"),
            ("b persist arm64,riscv64", "`binfmtctl persist --install arm64,riscv64`"),
            ("b all", "`binfmtctl install all`"),
        ] {
            let Unclear::Value(error) = request(line).unwrap_err() else { panic!("{line}") };
            let hint = error.hint().unwrap_or_default();
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(hint.contains(words), "{line}: {hint}");
        }
        // The rest is left to clap, which knows similar names.
        assert!(refused("b --unistall all").contains("--uninstall"));
    }

    #[test]
    fn an_empty_directory_is_none() {
        let (_, general) = parse(["b", "--qemu-binary-path", ""].map(OsString::from)).unwrap();
        assert_eq!(general.qemu_binary_path, None);
    }

    #[test]
    fn nonsense_is_a_usage_error() {
        for line in [
            "b --install",
            "b --replace",
            "b --instal all",
            "b all",
            "b --status --install all",
            "b --format json",
            "b --dry-run",
            "b --status --require foo",
            "b --install arm64 --flags X",
        ] {
            refused(line);
        }
    }

    #[test]
    fn lists_are_split_as_people_type_them() {
        assert_eq!(items("arm64, riscv64,").unwrap(), ["arm64", "riscv64"]);
        for list in ["", ",", "arm64,,riscv64", " ,arm64"] {
            assert!(items(list).is_err(), "{list:?}");
        }
    }
}
