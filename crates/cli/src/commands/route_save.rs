//! `rtm route save`: all routes as batch lines, or as the binary that
//! `ip route restore` takes.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use rtm_files::IpDumpWriter;
use rtm_model::text::{Bytes, Format, Resolve, RouteSave, write_route_line};
use rtm_model::{Entity, Group, HopSpec, Hops, LinkRef, Route, RouteSpec};

use crate::env::Env;
use crate::failure::{Failure, Result, USAGE, file_error};
use crate::links::HostLinks;
use crate::output::{Out, say};
use crate::resolve::Known;

pub(crate) fn run(env: &mut Env<'_>, save: &RouteSave) -> Result<()> {
    let Some(name) = save.file.as_deref().filter(|name| *name != "-") else {
        if save.format == Format::IpDump && env.out.is_terminal() {
            return Err(Failure::usage(
                "route save: a binary dump is not for a terminal; a file would be right",
            ));
        }
        return all(env, save.format, &mut |bytes, out| Ok(out.bytes(bytes)?));
    };
    // Beside its name, and renamed when it is whole: whoever reads the name
    // finds the old file or the new one, never a piece.
    let beside = Beside::new(Path::new(name)).map_err(|error| file_error(name, &error))?;
    let mut file = BufWriter::new(&beside.file);
    let result = all(env, save.format, &mut |bytes, _| {
        file.write_all(bytes).map_err(|error| file_error(name, &error))
    });
    // With --force the file is kept without what couldn't be written.
    if !matches!(result, Ok(()) | Err(Failure::Quiet(_))) {
        return result;
    }
    file.flush().map_err(|error| file_error(name, &error))?;
    drop(file);
    beside.keep(Path::new(name)).map_err(|error| file_error(name, &error))?;
    result
}

type WriteBytes<'a> = dyn FnMut(&[u8], &mut Out) -> Result<()> + 'a;

fn all(env: &mut Env<'_>, format: Format, write: &mut WriteBytes<'_>) -> Result<()> {
    match format {
        Format::IpDump => dump(env, write),
        _ => lines(env, write),
    }
}

/// Each route as the line that makes it.
fn lines(env: &mut Env<'_>, write: &mut WriteBytes<'_>) -> Result<()> {
    let mut known = Known::default();
    let mut line = Vec::new();
    env.ask("route show table all", &mut |item, out| {
        let Some(Entity::Route(Route { key, value })) = known.entity(&item)? else {
            return Ok(());
        };
        line.clear();
        write_route_line(&mut Bytes(&mut line), &key, &value, &known).map_err(io::Error::other)?;
        line.push(b'\n');
        write(&line, out)
    })?;
    Ok(())
}

/// Each route as the kernel would tell it.
fn dump(env: &mut Env<'_>, write: &mut WriteBytes<'_>) -> Result<()> {
    let force = env.options.force;
    let mut known = Known::default();
    let mut links = HostLinks::default();
    let mut writer = IpDumpWriter::default();
    let mut left_out = 0_u64;
    write(&IpDumpWriter::HEAD, &mut env.out)?;
    env.ask("route show table all", &mut |item, out| {
        let Some(Entity::Route(route)) = known.entity(&item)? else { return Ok(()) };
        let spec = spec_of(&route, &known, &mut links);
        let why = match spec {
            Ok(spec) => match writer.route(&spec) {
                Ok(bytes) => return write(bytes, out),
                Err(_) => "its next hops are more than a message can hold".to_owned(),
            },
            Err(why) => why,
        };
        if force {
            left_out += 1;
            return Ok(());
        }
        Err(Failure::refused(format_args!(
            "route save: {}: {why}; --format batch would be right, or --force without such routes",
            route.key.prefix
        )))
    })?;
    if left_out == 0 {
        return Ok(());
    }
    say(format_args!(
        "rtm: route save: {left_out} routes left out: a dump can't say their next hops"
    ));
    Err(Failure::Quiet(USAGE))
}

/// A route with its links by number.
fn spec_of(route: &Route, known: &Known, links: &mut HostLinks) -> Result<RouteSpec, String> {
    let Route { key, value } = route;
    let group = known.group(value.group);
    let of_group = group.as_deref().map_or(&[][..], |group: &Group| &group.hops);
    let mut hops = Vec::with_capacity(of_group.len());
    for hop in of_group {
        let link = match hop.link.and_then(|id| known.link(id)) {
            None => None,
            Some(link) if link.ifindex != 0 => Some(link.ifindex),
            Some(link) => Some(links.number(link.name).ok_or_else(|| {
                format!("link {} is not on this host, and a dump knows links by number", link.name)
            })?),
        };
        hops.push(HopSpec {
            gateway: hop.gateway,
            link: link.map(LinkRef::Ifindex),
            weight: hop.weight,
            flags: hop.flags,
        });
    }
    Ok(RouteSpec {
        table: key.table,
        prefix: key.prefix,
        tos: key.tos,
        metric: Some(key.metric),
        ordinal: Some(key.ordinal),
        kind: Some(value.kind),
        protocol: Some(value.protocol),
        scope: Some(value.scope),
        distance: Some(value.distance),
        hops: match hops[..] {
            [] => Hops::None,
            [hop] => Hops::One(hop),
            _ => Hops::Many(hops),
        },
        attrs: value.attrs.clone(),
    })
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
