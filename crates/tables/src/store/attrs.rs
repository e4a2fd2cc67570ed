//! Rare attributes, interned: equal ones are held once, under a number that
//! fits into a route's entry.

use std::collections::HashMap;

use rtm_model::Attrs;

/// The number of a route without rare attributes.
pub(crate) const NO_ATTRS: u32 = 0;

/// Attributes by number, with the count of their users.
#[derive(Debug, Default)]
pub(crate) struct AttrsTable {
    /// Number n stands at n - 1.
    held: Vec<(Attrs, u32)>,
    numbers: HashMap<Attrs, u32>,
    free: Vec<u32>,
}

impl AttrsTable {
    /// The number of these attributes, with one more user.
    #[inline]
    pub(crate) fn acquire(&mut self, attrs: &Attrs) -> u32 {
        if attrs.is_none() {
            return NO_ATTRS;
        }
        self.acquire_some(attrs)
    }

    fn acquire_some(&mut self, attrs: &Attrs) -> u32 {
        if let Some(&number) = self.numbers.get(attrs) {
            self.again(number);
            return number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.held.push((Attrs::NONE, 0));
            self.held.len() as u32
        });
        self.held[number as usize - 1] = (attrs.clone(), 1);
        self.numbers.insert(attrs.clone(), number);
        number
    }

    /// One more user of a number that is held.
    #[inline]
    pub(crate) fn again(&mut self, number: u32) {
        if number != NO_ATTRS {
            self.held[number as usize - 1].1 += 1;
        }
    }

    /// One user less; the last takes the attributes along.
    #[inline]
    pub(crate) fn release(&mut self, number: u32) {
        if number != NO_ATTRS {
            self.release_some(number);
        }
    }

    fn release_some(&mut self, number: u32) {
        let held = &mut self.held[number as usize - 1];
        held.1 -= 1;
        if held.1 == 0 {
            let attrs = std::mem::take(&mut held.0);
            self.numbers.remove(&attrs);
            self.free.push(number);
        }
    }

    /// The attributes of a number that is held.
    #[inline]
    pub(crate) fn attrs(&self, number: u32) -> Attrs {
        if number == NO_ATTRS { Attrs::NONE } else { self.held[number as usize - 1].0.clone() }
    }

    /// Their canonical bytes.
    #[inline]
    pub(crate) fn bytes_of(&self, number: u32) -> &[u8] {
        if number == NO_ATTRS { &[] } else { self.held[number as usize - 1].0.bytes() }
    }

    /// Are these the attributes of the number?
    #[inline]
    pub(crate) fn is(&self, number: u32, attrs: &Attrs) -> bool {
        self.bytes_of(number) == attrs.bytes()
    }

    /// Gives up to `count` of them back to the allocator, users or not: for a
    /// table that was swapped out. False: none is left.
    pub(crate) fn dismantle(&mut self, count: usize) -> bool {
        self.numbers = HashMap::new();
        self.held.truncate(self.held.len().saturating_sub(count));
        !self.held.is_empty()
    }

    /// Bytes taken from the allocator, about.
    pub(crate) fn bytes(&self) -> usize {
        let contents: usize = self.held.iter().map(|held| held.0.bytes().len() + 16).sum();
        contents
            + self.held.capacity() * size_of::<(Attrs, u32)>()
            + self.numbers.capacity() * (size_of::<(Attrs, u32)>() + 1)
            + self.free.capacity() * 4
    }
}

#[cfg(test)]
mod tests {
    use rtm_model::{RouteAttrs, RouterPreference};

    use super::*;

    #[test]
    fn equal_attributes_share_a_number_until_the_last_user_goes() {
        let mtu = |value| {
            RouteAttrs { metrics: vec![(2, value)], ..RouteAttrs::default() }.encode().unwrap()
        };
        let mut table = AttrsTable::default();
        assert_eq!(table.acquire(&Attrs::NONE), NO_ATTRS);
        let first = table.acquire(&mtu(1400));
        let second = table.acquire(&mtu(9000));
        assert_eq!(table.acquire(&mtu(1400)), first);
        assert_ne!(first, second);
        assert!(table.is(second, &mtu(9000)) && !table.is(first, &mtu(9000)));
        table.release(first);
        assert_eq!(table.attrs(first), mtu(1400));
        table.release(first);
        let low = RouteAttrs { pref: RouterPreference::LOW, ..RouteAttrs::default() };
        let third = table.acquire(&low.encode().unwrap());
        assert_eq!(third, first, "a free number is used again");
        assert_eq!(table.attrs(second), mtu(9000));
    }
}
