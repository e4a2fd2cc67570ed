//! Follows a daemon and prints each change of a route:
//! `cargo run -p rtm-client --example follow`, with `rtmd` running.
//!
//! The daemon is found as `rtm` finds it (`RTM_SOCKET`, `RTM_RUNTIME_DIR`). If
//! it stops, this waits for the next one and goes on where it was.

use rtm_client::{Event, FollowConfig, Follower, Place, Store};
use rtm_model::{Entity, EntityKey, Route};

fn main() -> Result<(), rtm_client::Error> {
    let address = Place::from_environment().find().map_err(rtm_client::ConnectError::from)?;
    let config = FollowConfig { name: "follow".into(), changes: true, ..FollowConfig::default() };
    let mut follower = Follower::connect(&address, config)?;
    loop {
        follower.turn(None, &[], &mut |event| match event {
            Event::Change(change) => {
                let EntityKey::Route(key) = change.key else { return };
                match change.new {
                    Some(Entity::Route(route)) => {
                        println!("{} {}", key.prefix, next_hops(change.store, route));
                    }
                    _ => println!("{} is gone", key.prefix),
                }
            }
            Event::Flushed { .. } => println!("everything is gone"),
            Event::Synced { revision, .. } => println!("-- the copy is revision {}", revision.0),
            Event::Lost { error, .. } => println!("-- {error}"),
            _ => {}
        })?;
    }
}

/// A route's next hops as text. Before a change is applied, the store already
/// has the links and groups that the new route uses.
fn next_hops(store: &Store, route: &Route) -> String {
    let Some(group) = store.group(route.value.group) else {
        return route.value.kind.name().to_owned();
    };
    let hop = |hop: &rtm_model::NextHop| {
        let gateway = hop.gateway.map(|address| format!("via {address} ")).unwrap_or_default();
        let link = hop.link.and_then(|id| store.link(id)).map(|link| format!("dev {}", link.name));
        format!("{gateway}{}", link.unwrap_or_default())
    };
    group.hops.iter().map(hop).collect::<Vec<_>>().join(", ")
}
