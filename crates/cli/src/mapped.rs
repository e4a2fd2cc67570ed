//! The tables in shared memory, as commands use them: names and next hops out of
//! the image, its digests recomputed.

use std::borrow::Cow;

use rtm_client::{Busy, DescriptorKind, ImageState, Reader, WriterState};
use rtm_model::canonical;
use rtm_model::text::Resolve;
use rtm_model::{DigestKey, Digester, Digests, EntityKind, Family, Group, GroupId, Link, LinkId};

use crate::env::Env;
use crate::failure::{Failure, Result};

/// So often a recomputation is begun again because the tables changed meanwhile.
const ATTEMPTS: usize = 20;

/// Links and groups out of the image.
pub(crate) struct ImageNames<'a>(pub(crate) &'a Reader);

impl Resolve for ImageNames<'_> {
    fn link(&self, id: LinkId) -> Option<Link> {
        self.0.link(id).ok().flatten()
    }

    fn group(&self, id: GroupId) -> Option<Cow<'_, Group>> {
        self.0.group(id).ok().flatten().map(Cow::Owned)
    }
}

/// That the tables changed too fast to be read.
pub(crate) fn busy(busy: Busy) -> Failure {
    Failure::timed_out(format_args!("image: {busy}"))
}

/// Attaches the daemon's image.
pub(crate) fn attach(env: &mut Env<'_>) -> Result<Reader> {
    let fd = env.admin()?.descriptor(DescriptorKind::Image)?;
    Reader::attach(fd).map_err(|error| Failure::refused(format_args!("image: {error}")))
}

/// What became of the image's writer, in a word.
pub(crate) fn writer_name(image: &Reader) -> &'static str {
    match image.writer() {
        Ok(WriterState::Live) => "live",
        Ok(WriterState::Moved { .. }) => "moved",
        Ok(WriterState::Closed) => "stopped",
        Ok(WriterState::Gone) | Err(_) => "gone",
    }
}

/// The digests of all that the image holds, from scratch, with the state that
/// they are of.
pub(crate) fn recompute(image: &Reader) -> Result<(ImageState, Digests)> {
    let digester = Digester::new(DigestKey(image.header().digest_key));
    for _ in 0..ATTEMPTS {
        let before = image.state().map_err(busy)?;
        let digests = digests_of(image, &digester)?;
        if image.state().map_err(busy)?.version == before.version {
            return Ok((before, digests));
        }
    }
    Err(Failure::timed_out("verify: the tables kept changing; try again when they rest"))
}

fn digests_of(image: &Reader, digester: &Digester) -> Result<Digests> {
    let mut digests = Digests::default();
    let mut bytes = Vec::new();
    let add = |digests: &mut Digests, kind: EntityKind, bytes: &mut Vec<u8>| {
        digests.section(kind).add(digester.hash(kind, bytes));
        bytes.clear();
    };
    for link in image.links() {
        canonical::encode_link(&link.map_err(busy)?, &mut bytes);
        add(&mut digests, EntityKind::Link, &mut bytes);
    }
    for group in image.groups() {
        canonical::encode_group(&group.map_err(busy)?, &mut bytes);
        add(&mut digests, EntityKind::Group, &mut bytes);
    }
    for (routes, family) in [(image.routes4(None), Family::V4), (image.routes6(None), Family::V6)] {
        for route in routes {
            let route = route.map_err(busy)?;
            canonical::encode_route(&route.key, &route.value, &mut bytes);
            add(&mut digests, EntityKind::route(family), &mut bytes);
        }
    }
    let mut last = None;
    for neighbour in image.neighbours_in_mac_order() {
        let mac = neighbour.map_err(busy)?.value.mac;
        if mac != last {
            last = mac;
            if let Some(mac) = mac {
                digests.keys.add(digester.mac(mac));
            }
        }
    }
    for neighbour in image.neighbours() {
        canonical::encode_neighbour(&neighbour.map_err(busy)?, &mut bytes);
        add(&mut digests, EntityKind::Neighbour, &mut bytes);
    }
    Ok(digests)
}
