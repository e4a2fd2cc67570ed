//! Neighbours: by address and link, by address, by MAC address.
use core::net::IpAddr;

use rtm_model::{LinkId, Mac, Neighbour, NeighbourKey};

use super::{GATHER_MAX, Reader, Seen};
use crate::hash::{self, entry4, entry6};
use crate::keys;
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
            let value = root.tree::<4, 2>(root.neighbours).find(words, &order)?;
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
        let IpAddr::V4(_) = ip else { return self.mac6(key) };
        let seen = self.seen.get();
        if let Some(ready) = seen.neighbours4 {
            let last = ready.find(&self.words, self.secret, entry4(key, 0)[0]);
            if hash::has_mac(last) && check::<Real>(&self.words) == seen.version {
                return Ok(Some(keys::mac_in(last)));
            }
        }
        // Another version than the one seen last, or not where most are.
        self.mac4(key[0], key[2])
    }

    // (Numbers, not the key: they stay in registers.)
    #[inline(never)]
    fn mac4(&self, address: u64, link: u64) -> Result<Option<Mac>, Busy> {
        self.mac_of(0, entry4([address, 0, link], 0))
    }

    #[inline(never)]
    fn mac6(&self, key: [u64; 3]) -> Result<Option<Mac>, Busy> {
        self.mac_of(1, entry6(key, 0))
    }

    #[inline(always)]
    fn mac_of<const W: usize>(&self, family: usize, entry: [u64; W]) -> Result<Option<Mac>, Busy> {
        let find = |words: &ReadWords, seen: &Seen| {
            hash::find(words, seen.hashes[family], self.secret, &entry)
        };
        let seen = self.seen.get();
        let mut found = find(&self.words, &seen);
        if check::<Real>(&self.words) != seen.version {
            found = self.read_seen(find)?;
        }
        Ok(found.and_then(keys::mac_of))
    }

    /// The neighbours with this address, on any link, in the order of links.
    /// (Of more than [`GATHER_MAX`] only the first ones; iterate for all.)
    ///
    /// # Errors
    /// [`Busy`].
    pub fn neighbours_by_ip(&self, ip: IpAddr) -> Result<Vec<Neighbour>, Busy> {
        let first = keys::neighbour_order(keys::neighbour_key(ip, None));
        self.read(|words, _, root| {
            gather(words, root.tree(root.neighbours), &first, |key| key[..3] == first[..3])
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
            gather(words, root.tree(root.macs), &[mac << 16, 0, 0, 0], |key| key[0] >> 16 == mac)
        })
    }
}

fn gather(
    words: &ReadWords,
    tree: Tree<4, 2>,
    first: &[u64; 4],
    same: impl Fn(&[u64; 4]) -> bool,
) -> Vec<Neighbour> {
    let mut found = Vec::new();
    tree.scan(words, first, GATHER_MAX, |key, value| {
        if !same(&key) || found.len() == GATHER_MAX {
            return false;
        }
        found.push(keys::neighbour_of(key, value));
        true
    });
    found
}
