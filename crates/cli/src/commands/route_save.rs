//! `rtm route save`: all routes as batch lines.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use rtm_model::text::{Bytes, RouteSave, write_route_line};
use rtm_model::{Entity, Route};

use crate::env::Env;
use crate::failure::{Result, file_error};
use crate::resolve::Known;

pub(crate) fn run(env: &mut Env<'_>, save: &RouteSave) -> Result<()> {
    let Some(name) = save.file.as_deref().filter(|name| *name != "-") else {
        return all(env, &mut |line, out| out.line(line).map_err(Into::into));
    };
    // Beside its name, and renamed when it is whole: whoever reads the name
    // finds the old file or the new one, never a piece.
    let beside = Beside::new(Path::new(name)).map_err(|error| file_error(name, &error))?;
    let mut file = BufWriter::new(&beside.file);
    all(env, &mut |line, _| writeln!(file, "{line}").map_err(|error| file_error(name, &error)))?;
    file.flush().map_err(|error| file_error(name, &error))?;
    drop(file);
    beside.keep(Path::new(name)).map_err(|error| file_error(name, &error))
}

/// Hands each route to `write`, as the line that makes it.
fn all(
    env: &mut Env<'_>,
    write: &mut dyn FnMut(&str, &mut crate::output::Out) -> Result<()>,
) -> Result<()> {
    let mut known = Known::default();
    let mut line = Vec::new();
    env.ask("route show table all", &mut |item, out| {
        let Some(Entity::Route(Route { key, value })) = known.entity(&item)? else {
            return Ok(());
        };
        line.clear();
        write_route_line(&mut Bytes(&mut line), &key, &value, &known).map_err(io::Error::other)?;
        write(&String::from_utf8_lossy(&line), out)
    })?;
    Ok(())
}

/// A file that goes unless it is kept.
struct Beside {
    path: PathBuf,
    file: File,
}

impl Beside {
    fn new(path: &Path) -> io::Result<Beside> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let path = path.with_file_name(name);
        let file = File::create_new(&path)?;
        Ok(Beside { path, file })
    }

    fn keep(&self, name: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        std::fs::rename(&self.path, name)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // After `keep` there is nothing of that name any more.
        let _ = std::fs::remove_file(&self.path);
    }
}
