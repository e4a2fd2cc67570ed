//! Names of protocols, tables and scopes as this host has them: iproute2's
//! files, read once at the start and at a reload.

use std::path::Path;

use rtm_model::{Names, NamesError};

/// Where iproute2 keeps them, in the order in which it reads them: what a later
/// file says goes over an earlier one.
const DIRECTORIES: [&str; 3] = ["/usr/lib/iproute2", "/usr/share/iproute2", "/etc/iproute2"];

type Reader = fn(&mut Names, &str) -> Result<(), NamesError>;

/// The files, each with a directory of more beside it.
const FILES: [(&str, Reader); 5] = [
    ("rt_protos", Names::read_protocols),
    ("rt_tables", Names::read_tables),
    ("rt_scopes", Names::read_scopes),
    ("rt_dsfield", Names::read_dsfields),
    ("rt_realms", Names::read_realms),
];

/// The names in force on this host. A file that can't be read or a line that
/// makes no sense is passed over with a warning, as `ip` does.
pub(crate) fn of_host() -> Names {
    let mut names = Names::default();
    for directory in DIRECTORIES {
        for (file, read) in FILES {
            let path = Path::new(directory).join(file);
            take(&path, read, &mut names);
            let more = Path::new(directory).join(format!("{file}.d"));
            let Ok(entries) = std::fs::read_dir(more) else { continue };
            let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
            paths.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
            paths.sort();
            for path in paths {
                take(&path, read, &mut names);
            }
        }
    }
    names
}

fn take(path: &Path, read: Reader, names: &mut Names) {
    let Ok(content) = std::fs::read_to_string(path) else { return };
    if let Err(error) = read(names, &content) {
        tracing::warn!("{}: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_is_shipped_names_our_protocol() {
        let shipped = include_str!("../../../contrib/iproute2/rt_protos.d/rtm.conf");
        let mut names = Names::default();
        names.read_protocols(shipped).unwrap();
        assert_eq!(names.protocol("rtm"), Some(rtm_model::names::PROTOCOL_RTM));
        assert_eq!(shipped.lines().filter(|line| !line.starts_with('#')).count(), 1);
    }
}
