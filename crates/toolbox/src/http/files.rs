//! What of a directory may be served: the kernel itself resolves each path
//! beneath it (openat2, RESOLVE_BENEATH), so neither `..` nor a link leads out,
//! also while somebody renames directories.
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ipc::Errno;
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, Stat};

use crate::failure::Failure;

/// A listing shows so many names; it is made in memory.
const LISTED_MAX: usize = 10_000;

/// The directory that is served.
pub(crate) struct Root(OwnedFd);

/// What a path is.
pub(crate) enum Found {
    /// A regular file, open.
    File(OwnedFd, Stat),
    /// A directory: its listing.
    Listing(String),
    /// A directory that was asked for without its closing `/`.
    DirectoryWithoutSlash,
    /// No such file, or not below the directory, or nothing that has content.
    Missing,
    /// It may not be read.
    Forbidden,
    /// The system has no descriptor or no memory now.
    Busy,
}

impl Root {
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| {
            let why = ipc::errno_text(errno);
            Failure::refused(format!("{}: {why}; it takes a directory", path.display()))
        })?;
        Ok(Self(fd))
    }

    fn beneath(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC;
        for _ in 0..16 {
            match rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve) {
                // Something was renamed while the path was walked.
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// Finds what a request's path names.
    pub(crate) fn find(&self, path: &[u8]) -> Found {
        match self.look(path) {
            Ok(found) => found,
            Err(Errno::ACCESS | Errno::PERM) => Found::Forbidden,
            Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN) => Found::Busy,
            // EXDEV: it leads out. ELOOP, ENOTDIR, ENAMETOOLONG: there is none.
            Err(_) => Found::Missing,
        }
    }

    fn look(&self, path: &[u8]) -> Result<Found, Errno> {
        let asked: &[u8] = if path.is_empty() { b"." } else { path };
        // Looked at before it is opened: opening a device or a FIFO does something.
        let place = self.beneath(asked, OFlags::PATH)?;
        let stat = rustix::fs::fstat(&place)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            if !(path.is_empty() || path.ends_with(b"/")) {
                return Ok(Found::DirectoryWithoutSlash);
            }
            let index = [path, b"index.html"].concat();
            return match self.regular(&index) {
                Ok(Some((file, stat))) => Ok(Found::File(file, stat)),
                Ok(None) | Err(Errno::NOENT) => {
                    let directory = self.beneath(asked, OFlags::RDONLY | OFlags::DIRECTORY)?;
                    Ok(Found::Listing(listing(directory, path)?))
                }
                Err(errno) => Err(errno),
            };
        }
        Ok(match self.regular(asked)? {
            Some((file, stat)) => Found::File(file, stat),
            None => Found::Missing,
        })
    }

    fn regular(&self, path: &[u8]) -> Result<Option<(OwnedFd, Stat)>, Errno> {
        let regular = |fd: &OwnedFd| {
            let stat = rustix::fs::fstat(fd)?;
            let yes = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            Ok::<_, Errno>(yes.then_some(stat))
        };
        if regular(&self.beneath(path, OFlags::PATH)?)?.is_none() {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = self.beneath(path, flags)?;
        // The name may mean another one by now.
        Ok(regular(&file)?.map(|stat| (file, stat)))
    }
}

/// A page with a directory's names.
fn listing(directory: OwnedFd, path: &[u8]) -> Result<String, Errno> {
    let mut names = Vec::new();
    let mut more = false;
    for entry in Dir::read_from(directory.as_fd())? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        more = names.len() == LISTED_MAX;
        if more {
            break;
        }
        let slash = if entry.file_type() == FileType::Directory { "/" } else { "" };
        names.push((name.to_vec(), slash));
    }
    names.sort();
    let title = escaped(path);
    let mut page = format!(
        "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><title>/{title}</title></head>\n\
         <body><h1>/{title}</h1>\n<ul>\n"
    );
    for (name, slash) in &names {
        let shown = escaped(name);
        page.push_str(&format!(
            "<li><a href=\"./{}{slash}\">{shown}{slash}</a></li>\n",
            encoded(name)
        ));
    }
    if more {
        page.push_str("<li>… and more</li>\n");
    }
    page.push_str("</ul></body></html>\n");
    Ok(page)
}

fn escaped(name: &[u8]) -> String {
    let mut out = String::new();
    for c in String::from_utf8_lossy(name).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// As a part of a URL's path.
pub(crate) fn encoded(name: &[u8]) -> String {
    let mut out = String::new();
    for byte in name {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                out.push(*byte as char);
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The last part of a path.
pub(crate) fn file_name(path: &[u8]) -> &[u8] {
    if path.is_empty() || path.ends_with(b"/") {
        return b"index.html";
    }
    Path::new(std::ffi::OsStr::from_bytes(path)).file_name().map_or(b"", |name| name.as_bytes())
}
