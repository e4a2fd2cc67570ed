//! `ipc map`: files by mapping them, and the seals of memory files.
use std::fs::File;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use ipc::Errno;
use ipc::map::Map;
use ipc::memfd::{self, Seals};

use crate::argument::descriptor;
use crate::failure::{Failure, line, output};

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Map a file and write it out
    ///
    /// Example: ipc map cat /etc/hostname
    Cat(Cat),
    /// Show the seals of an open memory file, or add some
    ///
    /// Example: ipc map seal 1234:5
    Seal(Seal),
}

#[derive(Args)]
pub(crate) struct Cat {
    /// The file
    file: PathBuf,
}

#[derive(Args)]
pub(crate) struct Seal {
    /// A process and its descriptor
    #[arg(value_name = "PID:FD", value_parser = descriptor)]
    descriptor: (u32, u32),
    /// Add these: shrink, grow, write, future-write, seal
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = seal_name)]
    add: Vec<Seals>,
}

fn seal_name(text: &str) -> Result<Seals, String> {
    Ok(match text {
        "shrink" => Seals::SHRINK,
        "grow" => Seals::GROW,
        "write" => Seals::WRITE,
        "future-write" => Seals::FUTURE_WRITE,
        "seal" => Seals::SEAL,
        _ => return Err("a seal is shrink, grow, write, future-write or seal".to_owned()),
    })
}

impl Verb {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Cat(_) => "map cat",
            Self::Seal(_) => "map seal",
        }
    }
}

pub(crate) fn run(verb: &Verb) -> Result<(), Failure> {
    match verb {
        Verb::Cat(cat) => run_cat(cat),
        Verb::Seal(seal) => run_seal(seal),
    }
}

fn run_cat(cat: &Cat) -> Result<(), Failure> {
    let shown = cat.file.display();
    let refused = |error: std::io::Error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        Failure::refused(format!("{shown}: {}", ipc::errno_text(errno)))
    };
    let before = std::fs::metadata(&cat.file).map_err(refused)?;
    if before.is_dir() || before.file_type().is_fifo() || before.file_type().is_socket() {
        return Err(Failure::refused(format!("{shown}: can't be mapped; a regular file can")));
    }
    let file = File::open(&cat.file).map_err(refused)?;
    let size = file.metadata().map_err(refused)?.len() as usize;
    if size == 0 {
        return Ok(());
    }
    let map =
        Map::of(&file, size).map_err(|error| Failure::refused(format!("{shown}: {error}")))?;
    let mut piece = vec![0; size.min(1 << 20)];
    let mut offset = 0;
    while offset < size {
        let len = piece.len().min(size - offset);
        map.bytes_out(offset, &mut piece[..len]);
        output(&piece[..len])?;
        offset += len;
    }
    Ok(())
}

fn run_seal(seal: &Seal) -> Result<(), Failure> {
    let (pid, fd) = seal.descriptor;
    let path = format!("/proc/{pid}/fd/{fd}");
    let shown = format!("{pid}:{fd}");
    let open = if seal.add.is_empty() {
        File::open(&path)
    } else {
        File::options().read(true).write(true).open(&path)
    };
    let file = open.map_err(|error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        Failure::refused(format!(
            "{shown}: {}; /proc/{pid}/fd shows what it has",
            ipc::errno_text(errno)
        ))
    })?;
    let seals = memfd::seals(&file).map_err(|error| match error.errno() {
        Errno::INVAL => {
            Failure::refused(format!("{shown}: is no memory file; only those have seals"))
        }
        _ => error.into(),
    })?;
    if seal.add.is_empty() {
        return line(memfd::names(seals));
    }
    let all = seal.add.iter().copied().fold(Seals::empty(), |all, one| all | one);
    memfd::seal(&file, all)?;
    line(memfd::names(memfd::seals(&file)?))
}
