//! The keys of the neighbours: MAC addresses, for who reads the values in
//! shared memory (mode `keys`).
//!
//! A key is there while any neighbour of the view has this MAC address. It
//! *changes* whenever a value under it does: a neighbour more, one less, or
//! another state. Like the tables' entities, keys stand in the order of the
//! revision that last changed them, and those that went stay in it for a while,
//! so that who catches up is told each key once, with deletes:
//!
//! ```text
//!   order   (revision, MAC) -> there or gone      walks go along it, to the end
//!   keys     MAC -> users, revision               the set; the digest is over it
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};

use rtm_model::Mac;

use crate::record::Revision;

/// Keys that went and are remembered: as many as there are keys, and these.
const GONE_MIN: usize = 4096;

struct Key {
    users: u32,
    changed: Revision,
}

/// What becomes of a key by one neighbour more or less.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum KeyChange {
    /// It is there now.
    Came,
    /// A value under it changed.
    Touched,
    /// Its last value went.
    Went,
}

/// A place in the keys' order: behind this one.
pub(crate) type KeyPlace = (Revision, Mac);

#[derive(Default)]
pub(crate) struct Keys {
    keys: HashMap<Mac, Key>,
    order: BTreeMap<(Revision, Mac), bool>,
    /// How many of the order are of keys that went.
    gone: HashMap<Mac, Revision>,
    /// Keys that went up to here are forgotten.
    floor: Revision,
    /// Told in this turn: one touch says it all.
    touched: HashSet<Mac>,
}

impl Keys {
    /// One more neighbour has this MAC address.
    pub(crate) fn add(&mut self, mac: Mac, revision: Revision) -> KeyChange {
        let key = self.keys.entry(mac).or_insert(Key { users: 0, changed: Revision(0) });
        key.users += 1;
        let came = key.users == 1;
        self.moved(mac, revision);
        if came { KeyChange::Came } else { KeyChange::Touched }
    }

    /// One less has it.
    pub(crate) fn remove(&mut self, mac: Mac, revision: Revision) -> Option<KeyChange> {
        let key = self.keys.get_mut(&mac)?;
        key.users -= 1;
        if key.users > 0 {
            self.moved(mac, revision);
            return Some(KeyChange::Touched);
        }
        let changed = key.changed;
        self.keys.remove(&mac);
        self.order.remove(&(changed, mac));
        self.order.insert((revision, mac), false);
        self.gone.insert(mac, revision);
        self.touched.remove(&mac);
        if self.gone.len() > GONE_MIN.max(self.keys.len()) {
            self.forget_oldest();
        }
        Some(KeyChange::Went)
    }

    fn moved(&mut self, mac: Mac, revision: Revision) {
        let Some(key) = self.keys.get_mut(&mac) else { return };
        self.order.remove(&(key.changed, mac));
        if let Some(went) = self.gone.remove(&mac) {
            self.order.remove(&(went, mac));
        }
        key.changed = revision;
        self.order.insert((revision, mac), true);
    }

    /// The older half of those that went is forgotten.
    fn forget_oldest(&mut self) {
        let mut went: Vec<KeyPlace> = self.gone.iter().map(|(&mac, &at)| (at, mac)).collect();
        went.sort_unstable();
        for &(revision, mac) in &went[..went.len() / 2] {
            self.order.remove(&(revision, mac));
            self.gone.remove(&mac);
            self.floor = revision;
        }
    }

    /// Is a touch of this key still to be told in this turn?
    pub(crate) fn is_news(&mut self, mac: Mac) -> bool {
        self.touched.insert(mac)
    }

    /// A turn is published.
    pub(crate) fn end_turn(&mut self) {
        self.touched.clear();
    }

    /// All are gone, and a record of its own says so.
    pub(crate) fn flush(&mut self) {
        *self = Keys { floor: self.floor, ..Keys::default() };
    }

    /// Nothing is known of before this revision.
    pub(crate) fn built(&mut self, revision: Revision) {
        self.floor = revision;
        self.order = self.keys.keys().map(|&mac| ((revision, mac), true)).collect();
        self.keys.values_mut().for_each(|key| key.changed = revision);
        self.gone.clear();
        self.touched.clear();
    }

    /// Can who has the state of `revision` be told what went since?
    pub(crate) fn reaches(&self, revision: Revision) -> bool {
        revision >= self.floor
    }

    /// The next key behind a place, and whether it is there.
    pub(crate) fn next(&self, after: KeyPlace) -> Option<(KeyPlace, bool)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let mut behind = self.order.range((Excluded(after), Unbounded));
        behind.next().map(|(&place, &there)| (place, there))
    }

    /// Bytes that it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        self.keys.len() * 40 + self.order.len() * 40 + self.gone.len() * 32
    }
}

/// The key's bytes in a record.
pub(crate) fn bytes_of(mac: Mac) -> [u8; 8] {
    let [a, b, c, d, e, f] = mac.0;
    [a, b, c, d, e, f, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(last: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, last])
    }

    #[test]
    fn a_key_lives_from_its_first_value_to_its_last() {
        let mut keys = Keys::default();
        assert_eq!(keys.add(mac(1), Revision(1)), KeyChange::Came);
        assert_eq!(keys.add(mac(1), Revision(2)), KeyChange::Touched);
        assert_eq!(keys.remove(mac(1), Revision(3)), Some(KeyChange::Touched));
        assert_eq!(keys.remove(mac(1), Revision(4)), Some(KeyChange::Went));
        assert_eq!(keys.remove(mac(1), Revision(5)), None);
        assert_eq!(keys.next((Revision(0), mac(0))), Some(((Revision(4), mac(1)), false)));
        assert_eq!(keys.add(mac(1), Revision(6)), KeyChange::Came);
        assert_eq!(keys.next((Revision(0), mac(0))), Some(((Revision(6), mac(1)), true)));
        assert_eq!(keys.next((Revision(6), mac(1))), None);
    }

    #[test]
    fn what_went_is_remembered_within_bounds() {
        let mut keys = Keys::default();
        for number in 0..3 * GONE_MIN as u64 {
            let [.., a, b, c] = number.to_be_bytes();
            let mac = Mac([2, 0, 0, a, b, c]);
            keys.add(mac, Revision(2 * number + 1));
            keys.remove(mac, Revision(2 * number + 2));
        }
        assert!(keys.gone.len() <= GONE_MIN && keys.order.len() == keys.gone.len());
        assert!(!keys.reaches(Revision(1)) && keys.reaches(Revision(6 * GONE_MIN as u64)));
    }
}
