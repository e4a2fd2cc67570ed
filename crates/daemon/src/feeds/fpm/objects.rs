//! A peer's next-hop objects: single next hops, and groups of them.
//!
//! A route names an object by number; what the table knows under that number is
//! a list of next hops. A group's list follows from its members, so a member
//! that changes changes every group with it. The kernel allows no groups of
//! groups, and zebra makes none: such a member leaves its group incomplete.

use std::collections::{BTreeSet, HashMap};

use rtm_model::{HOPS_MAX, HopSpec, WEIGHT_MAX};
use rtm_netlink::{Member, attributes_of_hops};

/// A next hop's attributes beyond those of the table, as routes have them.
pub(super) type Kept = Vec<(u16, Vec<u8>)>;

/// An object, as the peer told it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Object {
    /// One next hop.
    Hop(HopSpec),
    /// Others, by number and weight.
    Group(Vec<Member>),
    /// What goes there is dropped.
    Blackhole,
}

/// What an object comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Resolved {
    /// These next hops, at least one.
    Hops(Vec<HopSpec>),
    /// Nothing gets there.
    Blackhole,
}

/// All objects of a peer.
#[derive(Debug, Default)]
pub(super) struct Objects {
    objects: HashMap<u32, Object>,
    /// Encapsulations of single next hops; of most there is none.
    kept: HashMap<u32, Kept>,
    /// (member, group).
    groups_of: BTreeSet<(u32, u32)>,
}

impl Objects {
    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    /// Takes an object over; what depends on it: itself, and groups with it.
    pub(super) fn set(&mut self, id: u32, object: Object) -> Vec<u32> {
        self.forget_members(id);
        if let Object::Group(members) = &object {
            self.groups_of.extend(members.iter().map(|member| (member.id, id)));
        }
        self.objects.insert(id, object);
        self.dependent(id)
    }

    /// Takes over an object's encapsulation; whether it is another than before.
    pub(super) fn set_kept(&mut self, id: u32, kept: Kept) -> bool {
        let before = match kept.is_empty() {
            true => self.kept.remove(&id),
            false => self.kept.insert(id, kept),
        };
        before.as_ref() != self.kept.get(&id)
    }

    /// The attributes that a route has by way of this object.
    pub(super) fn kept(&self, id: u32) -> Kept {
        if self.kept.is_empty() {
            return Kept::new();
        }
        let of = |id: &u32| self.kept.get(id).map_or(&[][..], Vec::as_slice);
        match self.objects.get(&id) {
            Some(Object::Group(members)) => {
                let each: Vec<_> = members.iter().map(|member| of(&member.id)).collect();
                attributes_of_hops(&each)
            }
            _ => of(&id).to_vec(),
        }
    }

    /// It is gone, also from the groups that it was in; what depended on it.
    pub(super) fn remove(&mut self, id: u32) -> Vec<u32> {
        let dependent = self.dependent(id);
        self.forget_members(id);
        self.objects.remove(&id);
        self.kept.remove(&id);
        for group in &dependent {
            if let Some(Object::Group(members)) = self.objects.get_mut(group) {
                members.retain(|member| member.id != id);
            }
        }
        let of = |member: u32| (member, 0)..=(member, u32::MAX);
        let groups: Vec<_> = self.groups_of.range(of(id)).copied().collect();
        for pair in groups {
            self.groups_of.remove(&pair);
        }
        dependent
    }

    fn dependent(&self, id: u32) -> Vec<u32> {
        let groups = self.groups_of.range((id, 0)..=(id, u32::MAX)).map(|pair| pair.1);
        std::iter::once(id).chain(groups).collect()
    }

    fn forget_members(&mut self, id: u32) {
        if let Some(Object::Group(members)) = self.objects.get(&id) {
            for member in members {
                self.groups_of.remove(&(member.id, id));
            }
        }
    }

    /// What a route by way of this object does; `None`: it isn't known, or not
    /// whole.
    pub(super) fn resolve(&self, id: u32) -> Option<Resolved> {
        match self.objects.get(&id)? {
            Object::Hop(hop) => Some(Resolved::Hops(vec![*hop])),
            Object::Blackhole => Some(Resolved::Blackhole),
            Object::Group(members) => {
                if members.is_empty() || members.len() > HOPS_MAX {
                    return None;
                }
                let hop = |member: &Member| match self.objects.get(&member.id)? {
                    Object::Hop(hop) => {
                        let weight = member.weight.clamp(1, u32::from(WEIGHT_MAX)) as u16;
                        Some(HopSpec { weight, ..*hop })
                    }
                    Object::Group(_) | Object::Blackhole => None,
                };
                members.iter().map(hop).collect::<Option<Vec<HopSpec>>>().map(Resolved::Hops)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rtm_model::HopFlags;

    use super::*;

    fn hop(last: u8) -> Object {
        let gateway = Some(std::net::IpAddr::from([10, 0, 0, last]));
        Object::Hop(HopSpec { gateway, link: None, weight: 1, flags: HopFlags::default() })
    }

    fn gateways(objects: &Objects, id: u32) -> String {
        match objects.resolve(id) {
            None => "-".to_owned(),
            Some(Resolved::Blackhole) => "blackhole".to_owned(),
            Some(Resolved::Hops(hops)) => {
                let text = |hop: &HopSpec| format!("{}*{}", hop.gateway.unwrap(), hop.weight);
                hops.iter().map(text).collect::<Vec<_>>().join(" ")
            }
        }
    }

    #[test]
    fn a_group_is_what_its_members_are() {
        let member = |id, weight| Member { id, weight };
        let mut objects = Objects::default();
        assert_eq!(objects.set(3, Object::Group(vec![member(1, 1), member(2, 300)])), [3]);
        assert_eq!(gateways(&objects, 3), "-", "a group before its members waits");
        assert_eq!(objects.set(1, hop(1)), [1, 3]);
        assert_eq!(gateways(&objects, 3), "-");
        assert_eq!(objects.set(2, hop(2)), [2, 3]);
        assert_eq!(gateways(&objects, 3), "10.0.0.1*1 10.0.0.2*256");
        assert_eq!(objects.set(1, hop(9)), [1, 3]);
        assert_eq!(gateways(&objects, 3), "10.0.0.9*1 10.0.0.2*256");
        // As with the kernel, a member that goes leaves its groups.
        assert_eq!(objects.remove(2), [2, 3]);
        assert_eq!(gateways(&objects, 3), "10.0.0.9*1");
        assert_eq!(objects.set(2, hop(2)), [2], "and is no longer among them");
        assert_eq!(objects.remove(1), [1, 3]);
        assert_eq!(gateways(&objects, 3), "-", "nobody is left");
        assert_eq!(objects.set(4, Object::Blackhole), [4]);
        assert_eq!(gateways(&objects, 4), "blackhole");
        assert_eq!(objects.set(3, Object::Group(vec![member(2, 1), member(4, 1)])), [3]);
        assert_eq!(gateways(&objects, 3), "-");
        assert_eq!(objects.set(5, Object::Group(vec![member(3, 1)])), [5]);
        assert_eq!(gateways(&objects, 5), "-", "no groups of groups");
        assert_eq!(objects.remove(77), [77]);
        assert_eq!(objects.len(), 4);
    }
}
