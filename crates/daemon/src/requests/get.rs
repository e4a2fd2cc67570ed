//! `route get ADDR…`: the longest-prefix match of each address.

use std::net::IpAddr;

use rtm_model::Family;
use rtm_model::text::RouteGet;
use rtm_tables::wire::{ItemFlags, ItemKind};

use super::show::Told;
use super::{Answer, CODE_REFUSED, Reply, Step, idle};
use crate::core::Core;

/// Addresses looked up in one step.
const STEP: usize = 256;

/// One `route get`.
pub(crate) struct Get {
    get: RouteGet,
    next: usize,
    /// The address at hand was said, its route not yet.
    named: bool,
    missing: bool,
    told: Told,
}

impl Get {
    pub(crate) fn new(get: RouteGet) -> Get {
        Get { get, next: 0, named: false, missing: false, told: Told::default() }
    }

    pub(crate) fn step(&mut self, core: &mut Core, out: &mut dyn Answer) -> Step {
        if core.table.is_staging() {
            return idle();
        }
        let store = core.table.store();
        self.told.begin(core.table.revision());
        for _ in 0..STEP {
            let Some(&address) = self.get.addresses.get(self.next) else {
                // Every address was answered; that one had no answer is told.
                let code = if self.missing { CODE_REFUSED } else { 0 };
                return Step::Done(Reply { code, ..Reply::done() });
            };
            if !self.named {
                if !out.item(ItemKind::Address, ItemFlags::default(), &address_item(address)) {
                    return Step::NoRoom;
                }
                self.named = true;
            }
            match store.lookup(self.get.table, address) {
                Some(route) => {
                    if !self.told.route(store, &route, out) {
                        return Step::NoRoom;
                    }
                }
                None => self.missing = true,
            }
            self.named = false;
            self.next += 1;
        }
        Step::More
    }
}

/// `family u8, zero 7, address 16`: IPv4 has its four bytes first.
fn address_item(address: IpAddr) -> [u8; 24] {
    let mut item = [0; 24];
    item[0] = Family::of(address) as u8;
    match address {
        IpAddr::V4(a) => item[8..12].copy_from_slice(&a.octets()),
        IpAddr::V6(a) => item[8..24].copy_from_slice(&a.octets()),
    }
    item
}
