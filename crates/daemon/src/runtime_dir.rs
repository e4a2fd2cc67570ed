//! The runtime directory: where it is, that it is ours, and that exactly one
//! daemon runs in it.
//!
//! `rtmd.lock` decides: who holds it runs, and only under it is anything else
//! in the directory touched. The kernel releases it however the holder ends, so
//! what a killed daemon left is cleaned by its successor, and by nobody else.

use std::fmt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ipc::lock::{self, LockFile};

/// The socket of clients and commands.
const SOCKET: &str = "rtm.sock";
/// The socket of clients that take fixed structures.
const CLASSIC: &str = "classic.sock";
/// Who holds this runs.
const LOCK: &str = "rtmd.lock";
/// The daemon's process id, for people and scripts.
const PID: &str = "rtmd.pid";
/// The FIFO.
const FIFO: &str = "commands";

/// The system's runtime directory: its POSIX names are short.
const SYSTEM: &str = "/run/rtm";

/// The mode of root's directory: everybody may reach the socket.
const MODE_ROOT: u32 = 0o755;
/// The mode of anybody else's.
const MODE_USER: u32 = 0o700;

/// Why a directory can't be the runtime directory.
#[derive(Debug)]
pub(crate) enum RuntimeDirError {
    /// Another daemon runs there.
    Runs {
        /// The directory.
        path: PathBuf,
        /// Its process, if it said so yet.
        pid: Option<i32>,
    },
    /// The directory isn't one that only we control.
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It can't be made, or something in it can't.
    System {
        /// The path.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        error: std::io::Error,
    },
}

impl fmt::Display for RuntimeDirError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RuntimeDirError::Runs { path, pid } => {
                write!(f, "{}: rtmd runs there already", path.display())?;
                if let Some(pid) = pid {
                    write!(f, " (process {pid})")?;
                }
                f.write_str("; stop it, or another --runtime-dir would be right")
            }
            RuntimeDirError::NotOurs { path, why } => write!(f, "{}: {why}", path.display()),
            RuntimeDirError::System { path, what, error } => {
                write!(f, "{}: {what}: {}", path.display(), errno_text(error))
            }
        }
    }
}

impl std::error::Error for RuntimeDirError {}

/// The POSIX name of the daemon in a directory: `/rtm` for the system's, else
/// with a hash of the directory, so that two daemons never meet.
pub(crate) fn posix_name(directory: &Path) -> String {
    use std::hash::Hasher;
    use std::os::unix::ffi::OsStrExt;
    if directory == Path::new(SYSTEM) {
        return "/rtm".to_owned();
    }
    let mut hasher = siphasher::sip::SipHasher13::new();
    hasher.write(directory.as_os_str().as_bytes());
    format!("/rtm-{:08x}", hasher.finish() as u32)
}

/// An error's text without the number that Rust appends.
pub(crate) fn errno_text(error: &std::io::Error) -> String {
    error.raw_os_error().map_or_else(
        || error.to_string(),
        |errno| ipc::errno_text(ipc::Errno::from_raw_os_error(errno)),
    )
}

/// What decides where the directory is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment {
    /// `--runtime-dir`
    pub(crate) option: Option<PathBuf>,
    /// `RTM_RUNTIME_DIR`
    pub(crate) rtm_runtime_dir: Option<PathBuf>,
    /// `RUNTIME_DIRECTORY` (systemd; several are separated by colons)
    pub(crate) runtime_directory: Option<String>,
    /// `XDG_RUNTIME_DIR`
    pub(crate) xdg_runtime_dir: Option<PathBuf>,
    /// The effective user.
    pub(crate) uid: u32,
}

impl Environment {
    /// That of this process.
    pub(crate) fn of_process(option: Option<PathBuf>) -> Environment {
        let path = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        Environment {
            option,
            rtm_runtime_dir: path("RTM_RUNTIME_DIR"),
            runtime_directory: std::env::var("RUNTIME_DIRECTORY").ok().filter(|v| !v.is_empty()),
            xdg_runtime_dir: path("XDG_RUNTIME_DIR"),
            uid: ipc::process::ids().user_effective,
        }
    }

    /// Where the directory is, and whether it lies where everybody may make
    /// files (then it must be 0700 and no symbolic link).
    fn place(&self) -> (PathBuf, bool) {
        if let Some(path) = self.option.as_ref().or(self.rtm_runtime_dir.as_ref()) {
            return (path.clone(), false);
        }
        if let Some(list) = &self.runtime_directory {
            let first = list.split(':').next().unwrap_or_default();
            return (PathBuf::from(first), false);
        }
        if self.uid == 0 {
            return (PathBuf::from(SYSTEM), false);
        }
        match self.xdg_runtime_dir.as_ref().filter(|path| path.is_dir()) {
            Some(path) => (path.join("rtm"), false),
            None => (PathBuf::from(format!("/tmp/rtm-{}", self.uid)), true),
        }
    }
}

/// The held directory. Its lock is released when this is dropped, after the
/// names in it are gone.
#[derive(Debug)]
pub(crate) struct RuntimeDir {
    path: PathBuf,
    /// Held to the end: dropped last.
    _lock: LockFile,
}

impl RuntimeDir {
    /// Finds or makes the directory, takes its lock, cleans what a killed
    /// daemon left, and writes the pid file.
    pub(crate) fn acquire(environment: &Environment) -> Result<RuntimeDir, RuntimeDirError> {
        let (path, in_tmp) = environment.place();
        make(&path, environment.uid)?;
        check(&path, in_tmp, environment.uid)?;
        // A full path, so that a client that reads it anywhere finds it.
        let path = path.canonicalize().map_err(failed(&path, "can't be resolved"))?;
        let lock = LockFile::acquire(path.join(LOCK)).map_err(|error| match error {
            lock::Error::Held { pid, .. } => RuntimeDirError::Runs {
                path: path.clone(),
                pid: pid.map(|pid| pid.as_raw_nonzero().get()),
            },
            error => RuntimeDirError::NotOurs { path: path.clone(), why: error.to_string() },
        })?;
        let directory = RuntimeDir { path, _lock: lock };
        directory.clean();
        directory.write_pid()?;
        Ok(directory)
    }

    /// Its full path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path.join(SOCKET)
    }

    /// The path of the socket of fixed structures.
    pub(crate) fn classic(&self) -> PathBuf {
        self.path.join(CLASSIC)
    }

    /// The path of the FIFO.
    pub(crate) fn fifo(&self) -> PathBuf {
        self.path.join(FIFO)
    }

    /// Removes what a killed daemon may have left. The socket is not touched
    /// here: binding replaces one that nobody listens on.
    fn clean(&self) {
        let _ = std::fs::remove_file(self.path.join(PID));
    }

    /// Written under another name first: who reads it never sees half of it.
    fn write_pid(&self) -> Result<(), RuntimeDirError> {
        let path = self.path.join(PID);
        let new = self.path.join(format!(".{PID}.new"));
        let _ = std::fs::remove_file(&new);
        let write = || {
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o644).open(&new)?;
            std::io::Write::write_all(&mut file, format!("{}\n", std::process::id()).as_bytes())?;
            std::fs::rename(&new, &path)
        };
        write().map_err(failed(&path, "can't be written"))
    }
}

impl Drop for RuntimeDir {
    fn drop(&mut self) {
        // A failure changes nothing: the next daemon cleans.
        let _ = std::fs::remove_file(self.path.join(PID));
    }
}

fn failed(path: &Path, what: &'static str) -> impl FnOnce(std::io::Error) -> RuntimeDirError {
    let path = path.to_owned();
    move |error| RuntimeDirError::System { path, what, error }
}

/// Makes the directory if it is missing; not its parents.
fn make(path: &Path, uid: u32) -> Result<(), RuntimeDirError> {
    let mode = if uid == 0 { MODE_ROOT } else { MODE_USER };
    match std::fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => {
            // The umask may have taken bits away.
            let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(path, permissions).map_err(failed(path, "can't be made"))
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(path, "can't be made")(error)),
    }
}

/// Refuses a directory in which somebody else could put a socket in our
/// place.
fn check(path: &Path, in_tmp: bool, uid: u32) -> Result<(), RuntimeDirError> {
    let refused = |why: String| Err(RuntimeDirError::NotOurs { path: path.to_owned(), why });
    let named = path.symlink_metadata().map_err(failed(path, "can't be looked at"))?;
    if in_tmp && named.file_type().is_symlink() {
        return refused("is a symbolic link; a directory of ours would be right".to_owned());
    }
    let metadata = path.metadata().map_err(failed(path, "can't be looked at"))?;
    let mode = metadata.mode() & 0o7777;
    if !metadata.is_dir() {
        return refused("is no directory".to_owned());
    }
    if metadata.uid() != uid && (in_tmp || metadata.uid() != 0) {
        return refused(format!(
            "belongs to user {}, not to {uid}; a directory of ours would be right",
            metadata.uid()
        ));
    }
    if in_tmp && mode != MODE_USER {
        return refused(format!("has mode {mode:04o}; {MODE_USER:04o} would be right"));
    }
    if mode & 0o002 != 0 {
        return refused(format!(
            "has mode {mode:04o}: everybody may put files there; {MODE_ROOT:04o} would be right"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_first_that_is_given_is_the_place() {
        let temp = tempfile::tempdir().unwrap();
        let all = Environment {
            option: Some("/a".into()),
            rtm_runtime_dir: Some("/b".into()),
            runtime_directory: Some("/c:/d".into()),
            xdg_runtime_dir: Some(temp.path().into()),
            uid: 1000,
        };
        assert_eq!(all.place(), ("/a".into(), false));
        let next = Environment { option: None, ..all.clone() };
        assert_eq!(next.place(), ("/b".into(), false));
        let next = Environment { rtm_runtime_dir: None, ..next };
        assert_eq!(next.place(), ("/c".into(), false));
        let next = Environment { runtime_directory: None, ..next };
        assert_eq!(next.place(), (temp.path().join("rtm"), false));
        let root = Environment { uid: 0, ..next.clone() };
        assert_eq!(root.place(), ("/run/rtm".into(), false));
        let missing = Environment { xdg_runtime_dir: Some("/no/such".into()), ..next.clone() };
        assert_eq!(missing.place(), ("/tmp/rtm-1000".into(), true));
        let none = Environment { xdg_runtime_dir: None, ..next };
        assert_eq!(none.place(), ("/tmp/rtm-1000".into(), true));
    }

    fn acquire(path: &Path) -> Result<RuntimeDir, RuntimeDirError> {
        RuntimeDir::acquire(&Environment::of_process(Some(path.to_owned())))
    }

    #[test]
    fn names_are_per_directory() {
        assert_eq!(posix_name(Path::new("/run/rtm")), "/rtm");
        let (first, second) = (posix_name(Path::new("/tmp/a")), posix_name(Path::new("/tmp/b")));
        assert_ne!(first, second);
        assert_eq!(first, posix_name(Path::new("/tmp/a")));
        assert_eq!(first.len(), "/rtm-01234567".len());
    }

    #[test]
    fn one_holds_it_and_leaves_nothing_but_the_lock() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("rtm");
        let first = acquire(&path).unwrap();
        let pid = std::fs::read_to_string(path.join(PID)).unwrap();
        assert_eq!(pid, format!("{}\n", std::process::id()));
        let error = acquire(&path).unwrap_err();
        assert!(
            matches!(error, RuntimeDirError::Runs { pid: Some(pid), .. } if pid == std::process::id() as i32),
            "{error}"
        );
        drop(first);
        let left: Vec<_> =
            std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [LOCK]);
        let lock = path.join(LOCK).metadata().unwrap();
        assert_eq!(lock.permissions().mode() & 0o7777, 0o600);
        acquire(&path).unwrap();
    }

    #[test]
    fn a_directory_that_others_control_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let uid = ipc::process::ids().user_effective;
        let path = temp.path().join("open");
        make(&path, uid).unwrap();
        let set = |mode| {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        set(0o1777);
        assert!(check(&path, false, uid).unwrap_err().to_string().contains("everybody may put"));
        set(0o755);
        assert!(check(&path, false, uid).is_ok());
        let error = check(&path, true, uid).unwrap_err().to_string();
        assert!(error.ends_with("has mode 0755; 0700 would be right"), "{error}");
        set(0o700);
        assert!(check(&path, true, uid).is_ok());
        let error = check(&path, true, uid + 1).unwrap_err().to_string();
        assert!(error.contains("belongs to user"), "{error}");
        let link = temp.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(check(&link, true, uid).unwrap_err().to_string().contains("symbolic link"));
        assert!(check(&link, false, uid).is_ok());
        let file = temp.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(check(&file, false, uid).unwrap_err().to_string().contains("no directory"));
        let error = acquire(&temp.path().join("no/such")).unwrap_err().to_string();
        assert!(error.ends_with("can't be made: No such file or directory"), "{error}");
    }
}
