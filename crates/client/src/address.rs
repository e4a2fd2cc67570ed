//! Where a daemon is: finding its socket, and naming it.
//!
//! The order is that of the command grammar: a socket that was named, a
//! runtime directory that was named, and only if neither was, the user's own
//! directory and then the system's. What was named is the only place looked
//! at; what was not is remembered, so that an error can say where nobody was.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The name of the daemon's socket in its runtime directory.
pub const SOCKET_NAME: &str = "rtm.sock";

/// The runtime directory of the system's daemon.
pub const SYSTEM_DIRECTORY: &str = "/run/rtm";

/// Names the socket, as `--socket` does.
pub const SOCKET_VARIABLE: &str = "RTM_SOCKET";

/// Names the runtime directory, as `--runtime-dir` does.
pub const DIRECTORY_VARIABLE: &str = "RTM_RUNTIME_DIR";

/// One daemon's address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// A Unix socket in the file system.
    Unix(PathBuf),
    /// A TCP address; it has the text that was given, for messages.
    Tcp(String, Vec<SocketAddr>),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "{}", path.display()),
            Address::Tcp(text, _) => write!(f, "tcp://{text}"),
        }
    }
}

/// Why no address came of what was given.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AddressError {
    /// A TCP address that is none.
    Tcp {
        /// What was given, without `tcp://`.
        text: String,
        /// Why.
        why: String,
    },
    /// A scheme that nobody knows.
    Scheme {
        /// What was given.
        text: String,
    },
    /// Nothing was named, and none of the usual places has a socket.
    Nowhere {
        /// Where was looked, in this order.
        looked: Vec<Looked>,
    },
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressError::Tcp { text, why } => {
                write!(f, "tcp://{text}: {why}; tcp://HOST:PORT would be right")
            }
            AddressError::Scheme { text } => {
                write!(
                    f,
                    "{text}: an unknown kind of address; a path or tcp://HOST:PORT would be right"
                )
            }
            AddressError::Nowhere { looked } => {
                f.write_str("no daemon: looked at ")?;
                for (index, place) in looked.iter().enumerate() {
                    write!(
                        f,
                        "{}{} ({})",
                        if index == 0 { "" } else { ", " },
                        place.path.display(),
                        place.found
                    )?;
                }
                f.write_str("; start rtmd, or name its place with --runtime-dir or --socket")
            }
        }
    }
}

impl std::error::Error for AddressError {}

/// One place where a socket was looked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Looked {
    /// The socket's path there.
    pub path: PathBuf,
    /// What was found instead.
    pub found: Found,
}

/// What is at a place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Found {
    /// A socket.
    Socket,
    /// Nothing.
    Nothing,
    /// Something that is no socket.
    NoSocket,
    /// A directory that may not be searched.
    Denied,
    /// A directory under `/tmp` that isn't this user's alone: whoever made it
    /// could answer in the daemon's place.
    Foreign,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Found::Socket => "a socket",
            Found::Nothing => "not there",
            Found::NoSocket => "not a socket",
            Found::Denied => "permission denied",
            Found::Foreign => "its directory is not this user's alone",
        })
    }
}

/// What was named, and the environment that counts.
///
/// [`Place::from_environment`] reads the process's; a test fills it by hand.
#[derive(Clone, Default, Debug)]
pub struct Place {
    /// `--socket`: a path or `tcp://HOST:PORT`.
    pub socket: Option<String>,
    /// `--runtime-dir`.
    pub directory: Option<PathBuf>,
    /// `RTM_SOCKET`.
    pub socket_variable: Option<String>,
    /// `RTM_RUNTIME_DIR`.
    pub directory_variable: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub xdg_runtime_dir: Option<PathBuf>,
    /// The effective user id.
    pub uid: u32,
}

impl Place {
    /// Nothing named but what this process's environment names.
    pub fn from_environment() -> Place {
        // An empty variable is as good as none, as everywhere in Unix.
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Place {
            socket: None,
            directory: None,
            socket_variable: variable(SOCKET_VARIABLE).map(lossy),
            directory_variable: variable(DIRECTORY_VARIABLE).map(PathBuf::from),
            xdg_runtime_dir: variable("XDG_RUNTIME_DIR").map(PathBuf::from),
            uid: rustix::process::geteuid().as_raw(),
        }
    }

    /// The address to connect to.
    ///
    /// # Errors
    /// [`AddressError`]; [`AddressError::Nowhere`] says where was looked.
    pub fn find(&self) -> Result<Address, AddressError> {
        if let Some(text) = self.socket.as_ref() {
            return parse(text);
        }
        if self.directory.is_none() {
            if let Some(text) = &self.socket_variable {
                return parse(text);
            }
        }
        if let Some(directory) = self.directory.as_ref().or(self.directory_variable.as_ref()) {
            return Ok(Address::Unix(directory.join(SOCKET_NAME)));
        }
        let mut looked = Vec::new();
        for (directory, owner) in self.directories() {
            let path = directory.join(SOCKET_NAME);
            match look(&directory, owner) {
                Found::Socket => return Ok(Address::Unix(path)),
                found => looked.push(Looked { path, found }),
            }
        }
        Err(AddressError::Nowhere { looked })
    }

    /// Where a daemon of this user's own would put its directory (root's own
    /// is the system's), then the system's; with whose it must be, where
    /// anybody could have made it.
    fn directories(&self) -> Vec<(PathBuf, Option<u32>)> {
        let mut directories = Vec::new();
        if self.uid != 0 {
            let own = self.xdg_runtime_dir.as_ref().map(|directory| directory.join("rtm"));
            directories.extend(own.map(|directory| (directory, None)));
            directories.push((PathBuf::from(format!("/tmp/rtm-{}", self.uid)), Some(self.uid)));
        }
        directories.push((PathBuf::from(SYSTEM_DIRECTORY), None));
        directories
    }
}

fn lossy(text: OsString) -> String {
    text.to_string_lossy().into_owned()
}

/// An address as `--socket` gives it.
///
/// # Errors
/// [`AddressError::Tcp`] also where the name of the host isn't known.
pub fn parse(text: &str) -> Result<Address, AddressError> {
    if let Some(rest) = text.strip_prefix("tcp://") {
        let fail = |why: String| AddressError::Tcp { text: rest.to_owned(), why };
        let (host, port) =
            rest.rsplit_once(':').ok_or_else(|| fail("the port is missing".to_owned()))?;
        if host.is_empty() {
            return Err(fail("the host is missing".to_owned()));
        }
        if !matches!(port.parse::<u16>(), Ok(1..)) {
            return Err(fail(format!("'{port}' is no port, 1 to 65535")));
        }
        let addresses: Vec<SocketAddr> = rest
            .to_socket_addrs()
            .map_err(|error| {
                let error = error.to_string();
                let error =
                    error.strip_prefix("failed to lookup address information: ").unwrap_or(&error);
                fail(format!("the host can't be found ({error})"))
            })?
            .collect();
        if addresses.is_empty() {
            return Err(fail("the host has no address".to_owned()));
        }
        return Ok(Address::Tcp(rest.to_owned(), addresses));
    }
    if let Some((scheme, _)) = text.split_once("://") {
        if scheme != "unix" {
            return Err(AddressError::Scheme { text: text.to_owned() });
        }
    }
    let path = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")).unwrap_or(text);
    Ok(Address::Unix(PathBuf::from(path)))
}

/// What stands for a socket in a directory, which must be `owner`'s alone if
/// one is given.
fn look(directory: &Path, owner: Option<u32>) -> Found {
    if let Some(uid) = owner {
        // Anybody can make a directory in /tmp. A daemon's is a real
        // directory, its user's, and closed to others.
        match fs::symlink_metadata(directory) {
            Err(_) => return Found::Nothing,
            Ok(meta) if !meta.is_dir() || meta.uid() != uid || meta.mode() & 0o077 != 0 => {
                return Found::Foreign;
            }
            Ok(_) => {}
        }
    }
    match fs::metadata(directory.join(SOCKET_NAME)) {
        Ok(meta) if meta.file_type().is_socket() => Found::Socket,
        Ok(_) => Found::NoSocket,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Found::Denied,
        Err(_) => Found::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_is_named_is_the_only_place() {
        let mut place = Place { uid: 4242, ..Place::default() };
        place.directory_variable = Some("/d-var".into());
        assert_eq!(place.find(), Ok(Address::Unix("/d-var/rtm.sock".into())));
        place.socket_variable = Some("/s-var".into());
        assert_eq!(place.find(), Ok(Address::Unix("/s-var".into())));
        place.directory = Some("/d".into());
        assert_eq!(place.find(), Ok(Address::Unix("/d/rtm.sock".into())));
        place.socket = Some("/s".into());
        assert_eq!(place.find(), Ok(Address::Unix("/s".into())));
    }

    #[test]
    fn the_users_own_directory_comes_before_the_systems() {
        let dir = tempfile::tempdir().unwrap();
        let place =
            Place { xdg_runtime_dir: Some(dir.path().into()), uid: 4242, ..Place::default() };
        let own = dir.path().join("rtm");
        let path = own.join(SOCKET_NAME);
        let error = place.find();
        if !Path::new("/run/rtm/rtm.sock").exists() {
            let text = error.unwrap_err().to_string();
            assert!(text.contains(&path.display().to_string()), "{text}");
            assert!(text.contains("/tmp/rtm-4242/rtm.sock"), "{text}");
            assert!(text.contains("/run/rtm/rtm.sock (not there)"), "{text}");
        }
        fs::create_dir(&own).unwrap();
        let _listener = UnixListener::bind(&path).unwrap();
        assert_eq!(place.find(), Ok(Address::Unix(path)));
    }

    #[test]
    fn a_directory_that_others_may_have_made_is_not_trusted() {
        let dir = tempfile::tempdir().unwrap();
        let set_mode = |mode| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            fs::set_permissions(dir.path(), mode).unwrap();
        };
        let _listener = UnixListener::bind(dir.path().join(SOCKET_NAME)).unwrap();
        let uid = rustix::process::geteuid().as_raw();
        set_mode(0o700);
        assert_eq!(look(dir.path(), Some(uid)), Found::Socket);
        assert_eq!(look(dir.path(), Some(uid + 1)), Found::Foreign);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path(), &link).unwrap();
        assert_eq!(look(&link, Some(uid)), Found::Foreign);
        set_mode(0o750);
        assert_eq!(look(dir.path(), Some(uid)), Found::Foreign);
        assert_eq!(look(dir.path(), None), Found::Socket);
    }

    #[test]
    fn addresses_as_text() {
        let tcp = parse("tcp://127.0.0.1:700").unwrap();
        assert_eq!(tcp.to_string(), "tcp://127.0.0.1:700");
        let Address::Tcp(_, addresses) = tcp else { panic!("{tcp:?}") };
        assert_eq!(addresses, ["127.0.0.1:700".parse().unwrap()]);
        assert!(matches!(parse("tcp://[::1]:700"), Ok(Address::Tcp(..))));
        assert_eq!(parse("unix:/a/b"), Ok(Address::Unix("/a/b".into())));
        for bad in [
            "tcp://127.0.0.1",
            "tcp://:700",
            "tcp://127.0.0.1:0",
            "tcp://127.0.0.1:x",
            "http://a:1",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
