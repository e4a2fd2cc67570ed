//! Neighbours: by address and link, by address, by MAC address.
use core::net::IpAddr;

use rtm_model::{LinkId, Mac, Neighbour, NeighbourKey};

use super::{GATHER_MAX, Reader, Seen};
use crate::hash::{self, entry4, entry6};
use crate::keys;
use crate::layout::TreeRoot;
use crate::protocol::{Busy, Real, check};
use crate::tree::Tree;
use crate::words::ReadWords;

impl Reader {
    /// The neighbour with this address on this link.
    ///
    /// # Errors
    /// [`Busy`].
    #[inline]
    pub fn neighbour(&self, key: &NeighbourKey) -> Result<Option<Neighbour>, Busy> {
        let order = keys::neighbour_order(keys::neighbour_key(key.ip, key.link));
        self.read(|words, _, root| {
            let value = Tree::<4, 2>::new(root.neighbours).find(words, &order)?;
            Some(keys::neighbour_of(order, value))
        })
    }

    /// Its MAC address alone: what a data plane asks for.
    ///
    /// # Errors
    /// [`Busy`].
    // Address and answer are larger than registers: a call would write them into
    // memory in parts and read them back whole, which waits for the writes.
    #[inline(always)]
    pub fn neighbour_mac(&self, ip: IpAddr, link: Option<LinkId>) -> Result<Option<Mac>, Busy> {
        let key = keys::neighbour_key(ip, link);
        let find = |words: &ReadWords, seen: &Seen| match ip {
            IpAddr::V4(_) => hash::find(words, seen.hashes[0], self.secret, &entry4(key, 0)),
            IpAddr::V6(_) => hash::find(words, seen.hashes[1], self.secret, &entry6(key, 0)),
        };
        let seen = self.seen.get();
        let mut found = find(&self.words, &seen);
        if check::<Real>(&self.words) != seen.version {
            found = self.find_again(&find)?;
        }
        Ok(found.and_then(keys::mac_of))
    }

    /// Of the version that is visible now: another one than the one seen last.
    #[cold]
    #[inline(never)]
    fn find_again(
        &self,
        find: &dyn Fn(&ReadWords, &Seen) -> Option<u64>,
    ) -> Result<Option<u64>, Busy> {
        self.read_seen(find)
    }

    /// The neighbours with this address, on any link, in the order of links.
    /// (Of more than [`GATHER_MAX`] only the first ones; iterate for all.)
    ///
    /// # Errors
    /// [`Busy`].
    pub fn neighbours_by_ip(&self, ip: IpAddr) -> Result<Vec<Neighbour>, Busy> {
        let first = keys::neighbour_order(keys::neighbour_key(ip, None));
        self.read(|words, _, root| {
            gather(words, root.neighbours, &first, |key| key[..3] == first[..3])
        })
    }

    /// The neighbours with this MAC address. (Of more than [`GATHER_MAX`] only
    /// the first ones.)
    ///
    /// # Errors
    /// [`Busy`].
    pub fn neighbours_by_mac(&self, mac: Mac) -> Result<Vec<Neighbour>, Busy> {
        let mac = keys::mac_word(mac);
        self.read(|words, _, root| {
            gather(words, root.macs, &[mac << 16, 0, 0, 0], |key| key[0] >> 16 == mac)
        })
    }
}

fn gather(
    words: &ReadWords,
    root: TreeRoot,
    first: &[u64; 4],
    same: impl Fn(&[u64; 4]) -> bool,
) -> Vec<Neighbour> {
    let mut found = Vec::new();
    Tree::<4, 2>::new(root).scan(words, first, GATHER_MAX, |key, value| {
        if !same(&key) || found.len() == GATHER_MAX {
            return false;
        }
        found.push(keys::neighbour_of(key, value));
        true
    });
    found
}
