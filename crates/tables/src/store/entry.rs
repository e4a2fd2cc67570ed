//! A route in memory: 32 bytes for IPv4, 44 for IPv6.
//!
//! ```text
//! 0 | address 4 or 16 | metric u32 | table u32 | group u32 | attrs u32 | next u32
//!   | ordinal u16 | len | tos | type | protocol | scope | distance
//! ```
//!
//! Rare attributes stand elsewhere, by number ([`super::attrs`]). `next` chains
//! the routes of one table and prefix in the order of (tos, metric, ordinal):
//! the trie knows only the first.
//!
//! An entry whose type is 0 is *absent*: readers pass over it. A table keeps
//! such entries for keys whose candidates are all never used (distance 255),
//! and for what an open transaction deleted; a replica for what went lately.

use rtm_model::canonical::DecodeError;
use rtm_model::{
    EntityKind, Family, GroupId, Prefix, Route, RouteKey, RouteType, RouteValue, mask,
};

use super::attrs::AttrsTable;

/// Bytes of the largest route without attributes: IPv6's key and value.
const ROUTE_BYTES_MAX: usize = 8 * ROUTE_WORDS_MAX;
/// The same in words of eight bytes.
const ROUTE_WORDS_MAX: usize = 5;

/// A route's canonical bytes without attributes, eight at a time as little-endian numbers:
/// put together, hashed and written so, none of them is stored as bytes and read back as
/// words before it has arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    all: [u64; ROUTE_WORDS_MAX],
    len: usize,
}

impl Words {
    /// The key's.
    #[inline]
    pub(crate) fn key(&self) -> &[u64] {
        &self.all[..self.len - 1]
    }

    /// Key and value.
    #[inline]
    pub(crate) fn all(&self) -> &[u64] {
        &self.all[..self.len]
    }

    /// As bytes, and how many.
    #[inline]
    pub(crate) fn bytes(&self) -> ([u8; ROUTE_BYTES_MAX], usize) {
        let mut bytes = [0; ROUTE_BYTES_MAX];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(self.all) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        (bytes, 8 * self.len)
    }

    /// The same with another value.
    #[inline]
    pub(crate) fn with(mut self, value: Value) -> Words {
        self.all[self.len - 1] = value.word();
        self
    }
}

/// What differs between the families.
pub(crate) trait Address: Copy + Default + PartialEq + std::fmt::Debug {
    /// Which family.
    const FAMILY: Family;
    /// The kind of a route of this family.
    const KIND: EntityKind;
    /// Bytes of a route's canonical key.
    const KEY_BYTES: usize;
    /// From left-aligned bits.
    fn from_bits(bits: u128) -> Self;
    /// To left-aligned bits.
    fn bits(self) -> u128;
    /// Writes the address and the four bytes behind it (as a little-endian number) into a
    /// key's words, behind the first.
    fn write(self, words: &mut [u64; ROUTE_WORDS_MAX], tail: u32);
    /// Address and tail of a key.
    fn read(key: &[u8]) -> Option<(Self, [u8; 4])>;
}

/// An IPv4 address.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct A4(u32);

/// An IPv6 address, in words so that an entry needs no padding.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct A6([u32; 4]);

impl Address for A4 {
    const FAMILY: Family = Family::V4;
    const KIND: EntityKind = EntityKind::Route4;
    const KEY_BYTES: usize = 16;

    #[inline]
    fn from_bits(bits: u128) -> A4 {
        A4((bits >> 96) as u32)
    }

    #[inline]
    fn bits(self) -> u128 {
        u128::from(self.0) << 96
    }

    #[inline]
    fn write(self, words: &mut [u64; ROUTE_WORDS_MAX], tail: u32) {
        words[1] = u64::from(self.0.swap_bytes()) | u64::from(tail) << 32;
    }

    #[inline]
    fn read(key: &[u8]) -> Option<(A4, [u8; 4])> {
        let key: &[u8; 16] = key.try_into().ok()?;
        let address = u32::from_be_bytes([key[8], key[9], key[10], key[11]]);
        Some((A4(address), [key[12], key[13], key[14], key[15]]))
    }
}

impl Address for A6 {
    const FAMILY: Family = Family::V6;
    const KIND: EntityKind = EntityKind::Route6;
    const KEY_BYTES: usize = 32;

    #[inline]
    fn from_bits(bits: u128) -> A6 {
        A6([(bits >> 96) as u32, (bits >> 64) as u32, (bits >> 32) as u32, bits as u32])
    }

    #[inline]
    fn bits(self) -> u128 {
        let [a, b, c, d] = self.0.map(u128::from);
        a << 96 | b << 64 | c << 32 | d
    }

    #[inline]
    fn write(self, words: &mut [u64; ROUTE_WORDS_MAX], tail: u32) {
        let bits = self.bits();
        words[1] = ((bits >> 64) as u64).swap_bytes();
        words[2] = (bits as u64).swap_bytes();
        words[3] = u64::from(tail);
    }

    #[inline]
    fn read(key: &[u8]) -> Option<(A6, [u8; 4])> {
        let key: &[u8; 32] = key.try_into().ok()?;
        let mut address = [0; 16];
        address.copy_from_slice(&key[8..24]);
        if key[28..] != [0; 4] {
            return None;
        }
        let address = A6::from_bits(u128::from_be_bytes(address));
        Some((address, [key[24], key[25], key[26], key[27]]))
    }
}

/// What tells the routes of one table and prefix apart, in their order.
pub(crate) type Place = (u8, u32, u16);

/// A key as the store takes it apart.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Key {
    /// The routing table.
    pub(crate) table: u32,
    /// The prefix: left-aligned bits and length.
    pub(crate) prefix: (u128, u8),
    /// (tos, metric, ordinal).
    pub(crate) place: Place,
}

impl From<&RouteKey> for Key {
    #[inline]
    fn from(key: &RouteKey) -> Key {
        Key {
            table: key.table,
            prefix: (key.prefix.bits(), key.prefix.len()),
            place: (key.tos, key.metric, key.ordinal),
        }
    }
}

/// A value as the store holds it. `kind` 0: absent.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Value {
    /// The group's id.
    pub(crate) group: u32,
    /// The attributes' number.
    pub(crate) attrs: u32,
    /// The route's type; 0: absent.
    pub(crate) kind: u8,
    /// `rtm_protocol`.
    pub(crate) protocol: u8,
    /// `rtm_scope`.
    pub(crate) scope: u8,
    /// The distance.
    pub(crate) distance: u8,
}

impl Value {
    /// No route.
    pub(crate) const ABSENT: Value =
        Value { group: 0, attrs: 0, kind: 0, protocol: 0, scope: 0, distance: 0 };

    /// Is there a route?
    #[inline]
    pub(crate) fn is_present(self) -> bool {
        self.kind != 0
    }

    /// Its canonical bytes, without attributes, as a little-endian number.
    #[inline]
    pub(crate) fn word(self) -> u64 {
        u64::from(self.group)
            | u64::from(self.kind) << 32
            | u64::from(self.protocol) << 40
            | u64::from(self.scope) << 48
            | u64::from(self.distance) << 56
    }

    /// Spelled out. Must be present.
    pub(crate) fn spelled(self, attrs: &AttrsTable) -> RouteValue {
        RouteValue {
            kind: RouteType::from_number(self.kind).unwrap_or(RouteType::Unicast),
            protocol: self.protocol,
            scope: self.scope,
            distance: self.distance,
            group: GroupId(self.group),
            attrs: attrs.attrs(self.attrs),
        }
    }
}

/// One route.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Entry<A> {
    address: A,
    metric: u32,
    table: u32,
    group: u32,
    attrs: u32,
    /// The next route of this table and prefix, plus one; 0: none.
    pub(super) next: u32,
    ordinal: u16,
    len: u8,
    tos: u8,
    /// The type; the top bits are [`MARK`], [`BEHIND`] and [`LINGERS`].
    kind: u8,
    protocol: u8,
    scope: u8,
    distance: u8,
}

const _: () = assert!(size_of::<Entry<A4>>() == 32 && size_of::<Entry<A6>>() == 44);

/// A replica's mark.
const MARK: u8 = 0x80;
/// Another route of this table and prefix stands before it.
const BEHIND: u8 = 0x40;
/// It went and still has its place, or came back since: see [`super::routes`].
const LINGERS: u8 = 0x20;
const FLAGS: u8 = MARK | BEHIND | LINGERS;

const _: () = assert!((RouteType::Xresolve as u8) < LINGERS);

impl<A: Address> Entry<A> {
    /// An absent entry with this key.
    pub(super) fn absent(key: &Key) -> Entry<A> {
        let (bits, len) = key.prefix;
        let (tos, metric, ordinal) = key.place;
        Entry {
            address: A::from_bits(bits),
            metric,
            table: key.table,
            ordinal,
            len,
            tos,
            ..Entry::default()
        }
    }

    /// Its key.
    #[inline]
    pub(crate) fn key(&self) -> Key {
        Key { table: self.table, prefix: (self.address.bits(), self.len), place: self.place() }
    }

    /// Its prefix: left-aligned bits and length.
    #[inline]
    pub(crate) fn prefix(&self) -> (u128, u8) {
        (self.address.bits(), self.len)
    }

    /// (tos, metric, ordinal).
    #[inline]
    pub(crate) fn place(&self) -> Place {
        (self.tos, self.metric, self.ordinal)
    }

    /// Its value; absent if it has none.
    #[inline]
    pub(crate) fn value(&self) -> Value {
        Value {
            group: self.group,
            attrs: self.attrs,
            kind: self.kind & !FLAGS,
            protocol: self.protocol,
            scope: self.scope,
            distance: self.distance,
        }
    }

    #[inline]
    pub(super) fn put(&mut self, value: Value) {
        self.group = value.group;
        self.attrs = value.attrs;
        self.kind = self.kind & FLAGS | value.kind;
        self.protocol = value.protocol;
        self.scope = value.scope;
        self.distance = value.distance;
    }

    /// Does another route of this table and prefix stand before it?
    #[inline]
    pub(super) fn is_behind(&self) -> bool {
        self.kind & BEHIND != 0
    }

    #[inline]
    pub(super) fn set_behind(&mut self, behind: bool) {
        self.kind = self.kind & !BEHIND | if behind { BEHIND } else { 0 };
    }

    /// Is it anybody's? One that is free has no table; one that a replica was told of
    /// under table 0 is present, or lingers.
    #[inline]
    pub(super) fn is_used(&self) -> bool {
        self.table != 0 || self.value().is_present() || self.lingers()
    }

    /// Does it stand among those that linger?
    #[inline]
    pub(super) fn lingers(&self) -> bool {
        self.kind & LINGERS != 0
    }

    #[inline]
    pub(super) fn set_lingers(&mut self, lingers: bool) {
        self.kind = self.kind & !LINGERS | if lingers { LINGERS } else { 0 };
    }

    /// A bit that a replica sets on what a snapshot has named.
    #[inline]
    pub(crate) fn mark(&self) -> bool {
        self.kind & MARK != 0
    }

    #[inline]
    pub(super) fn set_mark(&mut self, mark: bool) {
        self.kind = self.kind & !MARK | if mark { MARK } else { 0 };
    }

    /// Its key, spelled out.
    pub(crate) fn route_key(&self) -> RouteKey {
        let prefix = Prefix::from_bits(A::FAMILY, self.address.bits(), self.len)
            .unwrap_or(Prefix::default_of(A::FAMILY));
        RouteKey {
            table: self.table,
            prefix,
            tos: self.tos,
            metric: self.metric,
            ordinal: self.ordinal,
        }
    }

    /// Key and value, spelled out. Must be present.
    pub(crate) fn route(&self, attrs: &AttrsTable) -> Route {
        Route { key: self.route_key(), value: self.value().spelled(attrs) }
    }

    /// Its canonical bytes with another value, without attributes.
    #[inline]
    pub(crate) fn words(&self, value: Value) -> Words {
        let mut all = [0; ROUTE_WORDS_MAX];
        all[0] = u64::from(self.table) | u64::from(self.metric) << 32;
        let tail = u32::from(self.len) | u32::from(self.tos) << 8 | u32::from(self.ordinal) << 16;
        self.address.write(&mut all, tail);
        let len = A::KEY_BYTES / 8 + 1;
        all[len - 1] = value.word();
        Words { all, len }
    }
}

/// The key of canonical bytes.
#[inline]
pub(crate) fn decode_key<A: Address>(bytes: &[u8]) -> Result<Key, DecodeError> {
    let bad = |why| DecodeError { kind: A::KIND, why };
    let (address, [len, tos, low, high]) =
        A::read(bytes).ok_or(bad("the key's length is wrong, or padding is not 0"))?;
    let bits = address.bits();
    if len > A::FAMILY.bits() || bits & !mask(len) != 0 {
        return Err(bad("the mask is too long, or host bits are set"));
    }
    let table = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let metric = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    Ok(Key { table, prefix: (bits, len), place: (tos, metric, u16::from_le_bytes([low, high])) })
}

/// The value behind a key, without its attributes' number.
#[inline]
pub(crate) fn decode_value(kind: EntityKind, bytes: &[u8; 8]) -> Result<Value, DecodeError> {
    let value = Value {
        group: u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
        attrs: 0,
        kind: bytes[4],
        protocol: bytes[5],
        scope: bytes[6],
        distance: bytes[7],
    };
    if value.kind == 0 || value.kind > RouteType::Xresolve as u8 {
        return Err(DecodeError { kind, why: "an unknown route type" });
    }
    Ok(value)
}
