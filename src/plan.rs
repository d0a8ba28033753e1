//! Decides what an install or uninstall has to do. Pure: `--dry-run` prints it, `apply` does it.

use std::fmt;

use crate::arch::{ARCHES, Arch, HOST};
use crate::emulator::Emulators;
use crate::entry::{Entry, EntryName, Flags, Registration};
use crate::error::Error;
use crate::platform::Platform;
use crate::state::Probe;
use crate::state::{Server, State};

/// One item of a request and what becomes of it.
#[derive(Debug)]
pub struct Step {
    /// What it is called in the log: `arm64`, or what the user typed where that is nothing.
    pub subject: String,
    /// The architecture, of an install.
    pub arch: Option<&'static Arch>,
    /// What is to be done.
    pub action: Action,
}

/// What is to be done about one item.
#[derive(Debug)]
pub enum Action {
    /// Nothing, and all is well; the reason.
    Keep(String),
    /// Nothing, as it cannot be done.
    Refuse(Error),
    /// Register what is not there.
    Register(&'static Arch, Registration),
    /// Register and remove the entry that has the name.
    Replace(&'static Arch, Registration),
    /// Remove an entry.
    Remove(EntryName),
    /// Remove nothing, as nothing matches; whether that is an error.
    NotFound {
        /// A glob may match nothing, a name may not.
        benign: bool,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, action, .. } = self;
        match action {
            Action::Keep(why) => write!(f, "{subject}: nothing to do: {why}"),
            Action::Refuse(error) => write!(f, "{subject}: cannot: {error}"),
            Action::Register(_, registration) => {
                let (name, flags) = (registration.name(), registration.flags());
                write!(f, "{subject}: register {name} with flags {flags}")
            }
            Action::Replace(_, registration) => {
                let (name, flags) = (registration.name(), registration.flags());
                write!(f, "{subject}: replace {name} by our own with flags {flags}")
            }
            Action::Remove(name) => write!(f, "{subject}: remove {name}"),
            Action::NotFound { .. } => write!(f, "{subject}: not found"),
        }
    }
}

/// What the user wants of an install beyond the list.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Flags asked for; `None` leaves the choice to us.
    pub flags: Option<Flags>,
    /// Whether to leave flag C out.
    pub no_credentials: bool,
    /// Whether entries that are not ours may be replaced.
    pub replace: bool,
}

impl Options {
    /// The flags to register with.
    ///
    /// By default all four. P is left out where neither kernel nor emulator could agree on it:
    /// QEMU learns of it through AT_FLAGS, which Linux sets since 5.12 and 5.10.225.
    ///
    /// # Errors
    /// None: the letters are known.
    pub fn flags(&self, state: &State) -> Result<Flags, Error> {
        let all = Flags::parse(Flags::KNOWN)?;
        let default = match state.version() {
            Some(v)
                if (v.major, v.minor) < (5, 12)
                    && !((v.major, v.minor) == (5, 10) && v.patch >= 225) =>
            {
                all.without('P')
            }
            _ => all,
        };
        let flags = self.flags.clone().unwrap_or(default);
        Ok(if self.no_credentials { flags.without('C') } else { flags })
    }
}

/// Splits a list as people type it.
///
/// # Errors
/// An item with nothing in it.
pub fn items(list: &str) -> Result<Vec<&str>, Error> {
    let items: Vec<_> = list.split(',').map(str::trim).collect();
    if items.contains(&"") { Err(Error::EmptyItem(Error::shorten(list))) } else { Ok(items) }
}

/// The architectures that an install names, each once, with what the user called them.
///
/// # Errors
/// An empty item. Unknown names come back as they are.
pub fn requested(
    list: &str,
    emulators: &Emulators,
) -> Result<Vec<Result<&'static Arch, String>>, Error> {
    let mut requested = Vec::new();
    let mut add = |item| {
        if !requested.contains(&item) {
            requested.push(item);
        }
    };
    for item in items(list)? {
        if item.eq_ignore_ascii_case("all") {
            let carried = ARCHES.iter().filter(|arch| emulators.get(arch).is_some());
            carried.for_each(|arch| add(Ok(arch)));
        } else {
            add(Platform::parse(item).map(|platform| platform.arch).ok_or(item.to_owned()));
        }
    }
    Ok(requested)
}

/// Plans an install of what [`requested`] gave.
///
/// # Errors
/// A binary without emulators.
pub fn install(
    requested: &[Result<&'static Arch, String>],
    options: &Options,
    emulators: &Emulators,
    state: &State,
) -> Result<Vec<Step>, Error> {
    let flags = options.flags(state)?;
    let step = |item: &Result<&'static Arch, String>| match item {
        Err(name) => {
            let subject = Error::shorten(name);
            Step {
                action: Action::Refuse(Error::UnknownArch(subject.clone())),
                arch: None,
                subject,
            }
        }
        Ok(arch) => {
            let action = install_one(arch, &flags, options, emulators, state);
            Step {
                subject: arch.oci.to_owned(),
                arch: Some(arch),
                action: action.unwrap_or_else(Action::Refuse),
            }
        }
    };
    if requested.is_empty() {
        return Err(Error::NoEmulators); // `all` of none
    }
    Ok(requested.iter().map(step).collect())
}

fn install_one(
    arch: &'static Arch,
    flags: &Flags,
    options: &Options,
    emulators: &Emulators,
    state: &State,
) -> Result<Action, Error> {
    // Whatever else is true: an entry for our own architecture would take every program's exec,
    // the emulator's own included.
    if arch == HOST {
        return Ok(Action::Keep(
            "this machine's own architecture, which is never registered".to_owned(),
        ));
    }
    let server = state.server(arch);
    if server == Some(Server::Native) {
        return Ok(Action::Keep("runs natively on this machine and is not registered".to_owned()));
    }
    let name = EntryName::new(&emulators.entry_name(arch))?;
    let Some(emulator) = emulators.get(arch) else {
        return match server {
            Some(server) => Ok(Action::Keep(served_by(&server, state.probes.get(arch)))),
            None if emulators.is_empty() => Err(Error::NoEmulators),
            None => Err(Error::Host {
                what: format!("no emulator for {arch} at hand"),
                hint: "`binfmtctl --version` lists the emulators in this binary".to_owned(),
            }),
        };
    };
    let registration = Registration::new(name.clone(), arch, &emulator.shown_as, flags.clone())?;
    let probe = state.probes.get(arch);
    let ours = probe.is_some_and(|probe| probe.ours);
    if let Some(server) = &server {
        let as_wanted = matches!(server, Server::Entry(entry) if registration.is(entry));
        if ours && as_wanted {
            return Ok(Action::Keep("unchanged".to_owned()));
        }
        if !options.replace {
            return Ok(Action::Keep(served_by(server, probe)));
        }
    }
    let instance = state.instance.as_ref().ok();
    match instance.and_then(|instance| instance.entry(name.as_str())) {
        None => Ok(Action::Register(arch, registration)),
        Some(_) if options.replace => Ok(Action::Replace(arch, registration)),
        Some(entry) => Err(Error::Host {
            what: format!(
                "{name} is registered already but does not work in containers: {}",
                dead(entry, state)
            ),
            hint: format!("--install {arch} --replace replaces it"),
        }),
    }
}

/// What makes an architecture work that we have not made work.
fn served_by(server: &Server<'_>, probe: Option<&Probe>) -> String {
    let version = match probe.and_then(|probe| probe.qemu.as_ref()) {
        Some(version) => format!(" (QEMU {version})"),
        None => String::new(),
    };
    match server {
        Server::Native => "runs natively".to_owned(),
        Server::Hidden => format!("works already{version}"),
        Server::Entry(entry) => {
            let (name, path, flags) = (&entry.name, entry.interpreter.display(), &entry.flags);
            format!("works already by {name}, {path}{version}, flags {flags}")
        }
    }
}

/// Why an entry does not run test programs.
pub fn dead(entry: &Entry, state: &State) -> String {
    let interpreter = entry.interpreter.display();
    if !entry.enabled {
        return "it is disabled".to_owned();
    }
    if !entry.flags.has('F') {
        return format!("it lacks flag F, so {interpreter} would have to be in every container");
    }
    let arches: Vec<_> = entry.arches().collect();
    if arches.is_empty() {
        return "it matches no program of any known architecture".to_owned();
    }
    let winner =
        arches.iter().find_map(|arch| state.taker(arch)).filter(|winner| winner.name != entry.name);
    if let Some(winner) = winner {
        return format!("the newer entry {} takes its programs", winner.name);
    }
    match arches.iter().find_map(|arch| state.probes.get(arch)) {
        Some(probe) => probe.outcome.to_string(),
        None => "no test program was run".to_owned(),
    }
}

/// Plans an uninstall. Needs only the entries, no probes.
///
/// # Errors
/// An empty item in the list.
pub fn uninstall(list: &str, emulators: &Emulators, entries: &[Entry]) -> Result<Vec<Step>, Error> {
    let mut steps: Vec<Step> = Vec::new();
    for item in items(list)? {
        let found: Vec<_> =
            entries.iter().filter(|entry| is_meant(item, entry, emulators)).collect();
        if found.is_empty() {
            let benign = item.eq_ignore_ascii_case("all") || is_glob(item);
            let subject = Error::shorten(item);
            steps.push(Step { subject, arch: None, action: Action::NotFound { benign } });
        }
        for entry in found {
            let name = EntryName::new(&entry.name)?;
            let subject = entry.name.strip_prefix("qemu-").unwrap_or(&entry.name).to_owned();
            // Lists overlap: `all,arm64`.
            if !steps
                .iter()
                .any(|step| matches!(&step.action, Action::Remove(other) if *other == name))
            {
                steps.push(Step { subject, arch: None, action: Action::Remove(name) });
            }
        }
    }
    Ok(steps)
}

fn is_glob(item: &str) -> bool {
    item.contains(['*', '?'])
}

/// Whether `item` of an uninstall list means `entry`.
///
/// An entry that is no emulator's must be named in full; globs and platforms pass it by.
fn is_meant(item: &str, entry: &Entry, emulators: &Emulators) -> bool {
    if entry.name == item {
        return true;
    }
    let qemu =
        entry.is_qemu() || ARCHES.iter().any(|arch| emulators.entry_name(arch) == entry.name);
    if !qemu {
        return false;
    }
    if item.eq_ignore_ascii_case("all") {
        return true;
    }
    if is_glob(item) {
        return glob(item.as_bytes(), entry.name.as_bytes());
    }
    // A name of an architecture means its entry, an unfinished replacement of it, and any other
    // qemu entry that takes its programs.
    let Some(platform) = Platform::parse(item) else {
        return entry.name.ends_with(&format!("-{item}"));
    };
    let name = emulators.entry_name(platform.arch);
    entry.name == name
        || entry.name == platform.arch.emulator_name()
        || entry.name.strip_prefix(&name).is_some_and(|rest| rest.starts_with('.'))
        || entry.takes(&platform.arch.probe())
}

/// `*` for any characters, `?` for one; in time of at most pattern times text.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // After the last star seen, and the text it does not yet take.
    let mut star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                p += 1;
                star = Some((p, t));
            }
            Some(c) if *c == b'?' || *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((after, taken)) => {
                    (p, t) = (after, taken + 1);
                    star = Some((after, taken + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_in_a_shell() {
        for (pattern, text, expected) in [
            ("qemu-*", "qemu-aarch64", true),
            ("*", "", true),
            ("*64", "qemu-aarch64", true),
            ("q*u-a*4", "qemu-aarch64", true),
            ("qemu-?rm", "qemu-arm", true),
            ("qemu-?rm", "qemu-armeb", false),
            ("python*", "qemu-arm", false),
            ("a*b*c", "aXbXbYc", true),
            ("a*b", "ac", false),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
        assert!(!glob("*a".repeat(100).as_bytes(), "a".repeat(99).as_bytes()));
    }

    #[test]
    fn lists_are_split_as_people_type_them() {
        assert_eq!(items("arm64, riscv64").unwrap(), ["arm64", "riscv64"]);
        for list in ["", ",", "arm64,", " ,arm64"] {
            assert!(items(list).is_err(), "{list:?}");
        }
    }
}
