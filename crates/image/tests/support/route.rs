//! A route for tests and examples, which look at its prefix and group only.
#![allow(unreachable_pub)]
use rtm_model::{Attrs, GroupId, Prefix, Route, RouteKey, RouteType, RouteValue};

/// A route in table main.
pub fn route(prefix: Prefix, group: u32) -> Route {
    let value = RouteValue {
        kind: RouteType::Unicast,
        protocol: 186,
        scope: 0,
        distance: 20,
        group: GroupId(group),
        attrs: Attrs::NONE,
    };
    Route { key: RouteKey::main(prefix), value }
}
