//! Tells systemd the service's state, with sd_notify(3)'s protocol: one datagram for each assignment.
//!
//! Without `NOTIFY_SOCKET` it does nothing; errors are ignored.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to whoever started this service.
#[derive(Debug)]
pub(super) struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// How often a sign of life is expected.
    pub(super) watchdog: Option<Duration>,
}

impl Notify {
    /// As the environment says.
    pub(super) fn of_environment() -> Self {
        Self::new(|name| std::env::var_os(name), std::process::id())
    }

    fn new(variable: impl Fn(&str) -> Option<OsString>, pid: u32) -> Self {
        let number = |name| variable(name).and_then(|value| value.to_str()?.parse::<u64>().ok());
        let to = variable("NOTIFY_SOCKET").and_then(|socket| {
            let address = match socket.as_bytes() {
                [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
                path => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path)),
            };
            Some((UnixDatagram::unbound().ok()?, address.ok()?))
        });
        // The variables may be meant for the process that started this one.
        let ours = number("WATCHDOG_PID").is_none_or(|wanted| wanted == u64::from(pid));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| ours && *usec > 0);
        Self { watchdog: watchdog.map(Duration::from_micros), to }
    }

    fn say(&self, words: &str) {
        if let Some((socket, address)) = &self.to {
            let _ = socket.send_to_addr(words.as_bytes(), address);
        }
    }

    /// The service does what it is for.
    pub(super) fn ready(&self) {
        self.say("READY=1");
    }

    /// One line for `systemctl status`.
    pub(super) fn status(&self, line: &str) {
        self.say(&format!("STATUS={}", line.replace('\n', " ")));
    }

    /// A sign of life.
    pub(super) fn alive(&self) {
        if self.watchdog.is_some() {
            self.say("WATCHDOG=1");
        }
    }

    /// The end has begun.
    pub(super) fn stopping(&self) {
        self.say("STOPPING=1");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 100];
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let len = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }

    #[test]
    fn words_reach_a_socket_with_a_path_or_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("binfmtctl-test-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        for (socket, listener) in [
            (path.clone().into_os_string(), UnixDatagram::bind(&path).unwrap()),
            (format!("@{name}").into(), UnixDatagram::bind_addr(&abstract_address).unwrap()),
        ] {
            let variable = |name: &str| match name {
                "NOTIFY_SOCKET" => Some(socket.clone()),
                "WATCHDOG_USEC" => Some("3000000".into()),
                _ => None,
            };
            let notify = Notify::new(variable, 1);
            assert_eq!(notify.watchdog, Some(Duration::from_secs(3)));
            notify.ready();
            notify.status("a\nb");
            notify.alive();
            let all = [heard(&listener), heard(&listener), heard(&listener)];
            assert_eq!(all, ["READY=1", "STATUS=a b", "WATCHDOG=1"]);
        }
    }

    #[test]
    fn a_watchdog_of_another_process_is_not_ours() {
        let variable = |name: &str| match name {
            "WATCHDOG_PID" => Some("7".into()),
            "WATCHDOG_USEC" => Some("3000000".into()),
            _ => None,
        };
        assert_eq!(Notify::new(variable, 8).watchdog, None);
        assert!(Notify::new(variable, 7).watchdog.is_some());
        Notify::new(|_| None, 7).ready();
    }
}
