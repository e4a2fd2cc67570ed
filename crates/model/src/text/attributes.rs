//! A route's rare attributes as the printers show them.

use super::route::RTA_FLOW;
use crate::names::{
    METRICS, RTAX_FEATURES, RTAX_HOPLIMIT, RTAX_LOCK, RTAX_RTO_MIN, RTAX_RTT, RTAX_RTTVAR,
};
use crate::route::RouteAttrs;

/// Text from outside without control characters.
pub(super) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().map(|c| if c.is_control() || c == ' ' { '?' } else { c }).collect()
}

/// `RTA_FLOW` as (from, to).
pub(super) fn realms(attrs: &RouteAttrs) -> Option<(u16, u16)> {
    let (_, bytes) = attrs.opaque.iter().find(|(number, _)| *number == RTA_FLOW)?;
    let realms = u32::from_le_bytes(bytes.as_slice().try_into().ok()?);
    Some(((realms >> 16) as u16, realms as u16))
}

/// A one-byte attribute that is kept opaque.
pub(super) fn opaque_u8(attrs: &RouteAttrs, number: u16) -> Option<u8> {
    let (_, bytes) = attrs.opaque.iter().find(|(have, _)| *have == number)?;
    match bytes[..] {
        [byte] => Some(byte),
        _ => None,
    }
}

/// One of `RTA_METRICS` as it is printed.
pub(super) struct Metric<'a> {
    pub(super) number: u16,
    pub(super) locked: bool,
    pub(super) value: MetricValue<'a>,
}

pub(super) enum MetricValue<'a> {
    Number(u32),
    Milliseconds(u32),
    Features(u32),
    Name(&'a [u8]),
}

/// The metrics in the order of their numbers; the lock mask is not one, and
/// what is locked without a value is 0, as `ip` prints it.
pub(super) struct Metrics<'a> {
    attrs: &'a RouteAttrs,
    locks: u32,
    next: u16,
}

impl<'a> Metrics<'a> {
    pub(super) fn new(attrs: &'a RouteAttrs) -> Metrics<'a> {
        let lock = attrs.metrics.iter().find(|(number, _)| *number == RTAX_LOCK);
        Metrics { attrs, locks: lock.map_or(0, |&(_, mask)| mask), next: RTAX_LOCK + 1 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.attrs.metrics.is_empty() && self.attrs.congestion.is_empty()
    }
}

impl<'a> Iterator for Metrics<'a> {
    type Item = Metric<'a>;

    fn next(&mut self) -> Option<Metric<'a>> {
        // Beyond what has a name, only what is there.
        let last = self.attrs.metrics.iter().map(|&(number, _)| number).max().unwrap_or(0);
        while self.next <= last.max(METRICS.len() as u16) {
            let number = self.next;
            self.next += 1;
            let locked = number < 32 && self.locks & 1 << number != 0;
            if number == crate::names::RTAX_CC_ALGO {
                if self.attrs.congestion.is_empty() {
                    continue;
                }
                let value = MetricValue::Name(&self.attrs.congestion);
                return Some(Metric { number, locked, value });
            }
            let found = self.attrs.metrics.iter().find(|(have, _)| *have == number);
            if found.is_none() && !locked {
                continue;
            }
            let value = found.map_or(0, |&(_, value)| value);
            let value = match number {
                RTAX_HOPLIMIT if value == u32::MAX => continue,
                RTAX_FEATURES => MetricValue::Features(value),
                RTAX_RTT => MetricValue::Milliseconds(value / 8),
                RTAX_RTTVAR => MetricValue::Milliseconds(value / 4),
                RTAX_RTO_MIN => MetricValue::Milliseconds(value),
                _ => MetricValue::Number(value),
            };
            return Some(Metric { number, locked, value });
        }
        None
    }
}
