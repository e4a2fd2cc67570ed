//! The host's names for tables, protocols, scopes and the like: iproute2's
//! files, on top of what is built in.

use std::fs;
use std::path::Path;

use rtm_model::Names;

/// Where iproute2 has its files: the distribution's, then the host's own,
/// which go before.
const DIRECTORIES: [&str; 2] = ["/usr/share/iproute2", "/etc/iproute2"];

/// The names in force on this host.
///
/// A file that isn't there is no error, and neither is a bad line: `ip` goes
/// on with what it has, too.
pub(crate) fn load() -> Names {
    let mut names = Names::default();
    for directory in DIRECTORIES {
        read(Path::new(directory), &mut names);
    }
    names
}

fn read(directory: &Path, names: &mut Names) {
    for (file, kind) in [
        ("rt_protos", Kind::Protocols),
        ("rt_scopes", Kind::Scopes),
        ("rt_dsfield", Kind::Fields),
        ("rt_tables", Kind::Tables),
        ("rt_realms", Kind::Realms),
    ] {
        take(&directory.join(file), kind, names);
        let Ok(entries) = fs::read_dir(directory.join(format!("{file}.d"))) else { continue };
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
        paths.sort();
        for path in paths {
            take(&path, kind, names);
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Protocols,
    Scopes,
    Fields,
    Tables,
    Realms,
}

fn take(path: &Path, kind: Kind, names: &mut Names) {
    let Ok(content) = fs::read_to_string(path) else { return };
    let _ = match kind {
        Kind::Protocols => names.read_protocols(&content),
        Kind::Scopes => names.read_scopes(&content),
        Kind::Fields => names.read_dsfields(&content),
        Kind::Tables => names.read_tables(&content),
        Kind::Realms => names.read_realms(&content),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_their_directories_are_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("rt_tables"), "# comment\n100 blue\nbad line\n").unwrap();
        fs::create_dir(dir.path().join("rt_protos.d")).unwrap();
        fs::write(dir.path().join("rt_protos.d/x.conf"), "201 mine\n").unwrap();
        fs::write(dir.path().join("rt_protos.d/x.txt"), "202 not\n").unwrap();
        let mut names = Names::default();
        read(dir.path(), &mut names);
        assert_eq!(names.table("blue"), Some(100));
        assert_eq!(names.protocol("mine"), Some(201));
        assert_eq!(names.protocol("not"), None);
    }
}
