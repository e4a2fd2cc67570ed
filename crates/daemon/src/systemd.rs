//! Tells systemd how the daemon is (`sd_notify(3)`): one datagram each, sent
//! without waiting. Without `NOTIFY_SOCKET` nothing is sent.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The service manager, if there is one.
#[derive(Debug)]
pub(crate) struct ServiceManager {
    socket: Option<(UnixDatagram, SocketAddr)>,
}

impl ServiceManager {
    /// The one that `NOTIFY_SOCKET` names.
    pub(crate) fn of_environment() -> ServiceManager {
        let name = std::env::var("NOTIFY_SOCKET").unwrap_or_default();
        ServiceManager { socket: connect(&name) }
    }

    /// Start-up is done.
    pub(crate) fn ready(&self) {
        self.send("READY=1\nSTATUS=serving");
    }

    /// The configuration is being read again; [`ServiceManager::ready`] follows.
    pub(crate) fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let now = Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32);
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
    }

    /// The end has begun.
    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=saying goodbye");
    }

    fn send(&self, message: &str) {
        let Some((socket, address)) = &self.socket else { return };
        // If systemd can't be told, there is nobody else to tell.
        let _ = socket.send_to_addr(message.as_bytes(), address);
    }
}

/// A path, or an abstract name behind `@`.
fn connect(name: &str) -> Option<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(name).ok()?,
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok()?,
        _ => return None,
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    Some((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_datagram_each() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        let manager = ServiceManager { socket: connect(path.to_str().unwrap()) };
        manager.ready();
        manager.reloading();
        manager.stopping();
        let mut buf = [0; 256];
        let mut next = || {
            let len = listener.recv(&mut buf).unwrap();
            String::from_utf8(buf[..len].to_vec()).unwrap()
        };
        assert!(next().starts_with("READY=1\n"));
        assert!(next().starts_with("RELOADING=1\nMONOTONIC_USEC="));
        assert!(next().starts_with("STOPPING=1\n"));
    }

    #[test]
    fn an_abstract_name_works_and_nothing_is_fine() {
        let name = format!("rtm-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        ServiceManager { socket: connect(&format!("@{name}")) }.ready();
        assert!(listener.recv(&mut [0; 64]).unwrap() > 0);
        assert!(connect("").is_none() && connect("relative").is_none());
    }
}
