//! Neighbours: in a tree by address and link, in one by MAC address, and in the
//! hash of their family.
use rtm_model::Neighbour;

use super::Writer;
use crate::hash::{entry4, entry6};
use crate::keys;
use crate::store::{Full, Memory};

impl<M: Memory> Writer<M> {
    pub(super) fn set_neighbour(&mut self, neighbour: &Neighbour) -> Result<(), Full> {
        let mut bytes = Vec::with_capacity(40);
        rtm_model::canonical::encode_neighbour(neighbour, &mut bytes);
        let words: [u64; 5] = core::array::from_fn(|word| {
            u64::from_le_bytes(bytes[word * 8..word * 8 + 8].try_into().expect("eight"))
        });
        let key = [words[0], words[1], words[2]];
        let value = [words[3], words[4]];
        let before =
            self.neighbours.insert(&mut self.store, &keys::neighbour_order(key), &value)?;
        if neighbour.key.ip.is_ipv4() {
            self.hash4.insert(&mut self.store, entry4(key, value[0]))?;
        } else {
            self.hash6.insert(&mut self.store, entry6(key, value[0]))?;
        }
        let had = before.and_then(|value| keys::mac_of(value[0]));
        let has = keys::mac_of(value[0]);
        if had != has {
            self.forget_mac(had, key)?;
        }
        if let Some(mac) = has {
            let order = keys::mac_order(mac, key);
            if had != has && !self.has_mac(mac) {
                self.mac_keys += 1;
            }
            self.macs.insert(&mut self.store, &order, &value)?;
        }
        Ok(())
    }

    pub(super) fn delete_neighbour(&mut self, key: [u64; 3]) -> Result<(), Full> {
        let before = self.neighbours.remove(&mut self.store, &keys::neighbour_order(key))?;
        let Some(value) = before else { return Ok(()) };
        if key[2] >> 32 == 4 {
            self.hash4.remove(&mut self.store, &entry4(key, 0))?;
        } else {
            self.hash6.remove(&mut self.store, &entry6(key, 0))?;
        }
        self.forget_mac(keys::mac_of(value[0]), key)
    }

    fn forget_mac(&mut self, mac: Option<rtm_model::Mac>, key: [u64; 3]) -> Result<(), Full> {
        let Some(mac) = mac else { return Ok(()) };
        self.macs.remove(&mut self.store, &keys::mac_order(mac, key))?;
        if !self.has_mac(mac) {
            self.mac_keys -= 1;
        }
        Ok(())
    }

    fn has_mac(&self, mac: rtm_model::Mac) -> bool {
        let mut has = false;
        let first = [keys::mac_word(mac) << 16, 0, 0, 0];
        self.macs.scan(self.store.mem(), &first, usize::MAX, |key, _| {
            has = key[0] >> 16 == first[0] >> 16;
            false
        });
        has
    }
}
