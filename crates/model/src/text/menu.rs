//! The tables of the menus: one row for a route, one for a neighbour.
//!
//! The daemon's console and `rtm client` show the same. Rows are written as
//! they come, so the columns have fixed widths; a longer value pushes its row
//! out, as in `ip -br`.

use std::fmt::{self, Write};

use super::print::link_text;
use super::selector::Resolve;
use super::view::{LinkText, NeighbourView, RouteView};
use super::write;
use crate::neighbour::{NeighbourKey, NeighbourValue};
use crate::route::{RouteKey, RouteValue};

/// Wide enough for the heading and every IPv4 prefix.
const FIRST: usize = 24;
/// Wide enough for every IPv4 address.
const SECOND: usize = 15;

/// The heading of the routing table and the line under it.
pub fn route_menu_heading<W: Write + ?Sized>(out: &mut W) -> fmt::Result {
    heading(out, "Destination Subnet (Key)", "Gateway IP", "OIF")
}

/// The heading of the MAC table and the line under it.
pub fn neighbour_menu_heading<W: Write + ?Sized>(out: &mut W) -> fmt::Result {
    heading(out, "MAC address (Key)", "IP address", "OIF")
}

/// A route's row, and one more for each further next hop. A route in another
/// table than main, or that isn't unicast, says so at its end.
pub fn route_menu_row<W: Write + ?Sized>(
    out: &mut W,
    key: &RouteKey,
    value: &RouteValue,
    resolve: &dyn Resolve,
) -> fmt::Result {
    let route = RouteView::of_route(key, value, resolve);
    let mut first = String::new();
    write::full_prefix(&mut first, key.prefix)?;
    for index in 0..route.hops.len().max(1) {
        let hop = route.hops.at(index);
        let mut gateway = String::from("-");
        if let Some(address) = hop.and_then(|hop| hop.gateway) {
            gateway.clear();
            write::address(&mut gateway, address)?;
        }
        row(out, &first, &gateway, hop.and_then(|hop| hop.link))?;
        if index == 0 {
            if value.kind != crate::route::RouteType::Unicast {
                write!(out, " ({})", value.kind.name())?;
            }
            if key.table != crate::route::TABLE_MAIN {
                write!(out, " (table {})", key.table)?;
            }
            first.clear();
        }
        out.write_str("\n")?;
    }
    Ok(())
}

/// A neighbour's row.
pub fn neighbour_menu_row<W: Write + ?Sized>(
    out: &mut W,
    key: &NeighbourKey,
    value: &NeighbourValue,
    resolve: &dyn Resolve,
) -> fmt::Result {
    let neighbour = NeighbourView::of_neighbour(key, value, resolve);
    let mut first = String::from("-");
    if let Some(mac) = neighbour.mac {
        first.clear();
        write::mac(&mut first, mac)?;
    }
    let mut second = String::new();
    write::address(&mut second, neighbour.ip)?;
    row(out, &first, &second, neighbour.link)?;
    out.write_str("\n")
}

fn heading<W: Write + ?Sized>(out: &mut W, first: &str, second: &str, third: &str) -> fmt::Result {
    writeln!(out, "{first:<FIRST$} | {second:<SECOND$} | {third}")?;
    writeln!(out, "{:-<FIRST$}-+-{:-<SECOND$}-+-{:-<15}", "", "", "")
}

fn row<W: Write + ?Sized>(
    out: &mut W,
    first: &str,
    second: &str,
    link: Option<LinkText>,
) -> fmt::Result {
    write!(out, "{first:<FIRST$} | {second:<SECOND$} | ")?;
    match link {
        Some(link) => link_text(out, link),
        None => out.write_str("-"),
    }
}
