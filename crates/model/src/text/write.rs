//! Numbers and addresses into text, without the formatting machinery: a
//! listing of a million routes is made of these.

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::link::LinkName;
use crate::neighbour::Mac;
use crate::prefix::Prefix;

/// Lets a byte buffer be written to as text.
///
/// ```
/// use std::fmt::Write;
/// let mut bytes = Vec::new();
/// rtm_model::text::Bytes(&mut bytes).write_str("10.0.0.0/8 ").unwrap();
/// assert_eq!(bytes, b"10.0.0.0/8 ");
/// ```
#[derive(Debug)]
pub struct Bytes<'a>(pub &'a mut Vec<u8>);

impl Write for Bytes<'_> {
    #[inline]
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// Decimal digits of a number, made at the end of `buffer`.
#[inline]
fn digits(mut number: u64, buffer: &mut [u8; 20]) -> &str {
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return std::str::from_utf8(&buffer[at..]).unwrap_or_default();
        }
    }
}

/// A decimal number.
#[inline]
pub(super) fn number<W: Write + ?Sized>(out: &mut W, number: impl Into<u64>) -> fmt::Result {
    let mut buffer = [0; 20];
    out.write_str(digits(number.into(), &mut buffer))
}

/// Text of at most 48 bytes on the stack.
struct Short {
    bytes: [u8; 48],
    len: usize,
}

impl Short {
    #[inline]
    fn new() -> Short {
        Short { bytes: [0; 48], len: 0 }
    }

    #[inline]
    fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    #[inline]
    fn octet(&mut self, octet: u8) {
        if octet >= 100 {
            self.byte(b'0' + octet / 100);
        }
        if octet >= 10 {
            self.byte(b'0' + octet / 10 % 10);
        }
        self.byte(b'0' + octet % 10);
    }

    #[inline]
    fn v4(&mut self, address: Ipv4Addr) {
        let [a, b, c, d] = address.octets();
        self.octet(a);
        self.byte(b'.');
        self.octet(b);
        self.byte(b'.');
        self.octet(c);
        self.byte(b'.');
        self.octet(d);
    }

    /// As glibc's `inet_ntop`, which `ip` uses: the first of the longest runs
    /// of two or more zero groups is `::`; IPv4-mapped and -compatible
    /// addresses end in dotted form.
    #[inline]
    fn v6(&mut self, address: Ipv6Addr) {
        let groups = address.segments();
        let (mut best, mut best_len) = (8, 1);
        let mut at = 0;
        while at < 8 {
            let run = groups[at..].iter().take_while(|&&group| group == 0).count();
            if run > best_len {
                (best, best_len) = (at, run);
            }
            at += run + 1;
        }
        let dotted = best == 0 && (best_len == 6 || best_len == 5 && groups[5] == 0xffff);
        let mut index = 0;
        while index < 8 {
            if index == best {
                self.byte(b':');
                self.byte(b':');
                index += best_len;
                continue;
            }
            if index > 0 && index != best + best_len {
                self.byte(b':');
            }
            if index == 6 && dotted {
                let [.., a, b, c, d] = address.octets();
                self.v4(Ipv4Addr::new(a, b, c, d));
                return;
            }
            let mut shift = 12;
            while shift > 0 && groups[index] >> shift == 0 {
                shift -= 4;
            }
            loop {
                self.byte(b"0123456789abcdef"[usize::from(groups[index] >> shift & 15)]);
                if shift == 0 {
                    break;
                }
                shift -= 4;
            }
            index += 1;
        }
    }

    #[inline]
    fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.v4(address),
            IpAddr::V6(address) => self.v6(address),
        }
    }

    #[inline]
    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

/// An address as `ip` prints it.
#[inline]
pub(super) fn address<W: Write + ?Sized>(out: &mut W, address: IpAddr) -> fmt::Result {
    let mut text = Short::new();
    text.address(address);
    out.write_str(text.as_str())
}

/// A prefix as `ip` prints it: `default`, a host without its length.
#[inline]
pub(super) fn destination<W: Write + ?Sized>(out: &mut W, prefix: Prefix) -> fmt::Result {
    if prefix.is_default() {
        return out.write_str("default");
    }
    if prefix.is_host() {
        return address(out, prefix.address());
    }
    full_prefix(out, prefix)
}

/// A prefix with its length.
#[inline]
pub(super) fn full_prefix<W: Write + ?Sized>(out: &mut W, prefix: Prefix) -> fmt::Result {
    let mut text = Short::new();
    text.address(prefix.address());
    text.byte(b'/');
    text.octet(prefix.len());
    out.write_str(text.as_str())
}

/// A MAC address.
#[inline]
pub(super) fn mac<W: Write + ?Sized>(out: &mut W, mac: Mac) -> fmt::Result {
    let mut text = Short::new();
    for (index, octet) in mac.0.into_iter().enumerate() {
        if index > 0 {
            text.byte(b':');
        }
        text.byte(b"0123456789abcdef"[usize::from(octet >> 4)]);
        text.byte(b"0123456789abcdef"[usize::from(octet & 15)]);
    }
    out.write_str(text.as_str())
}

/// An interface name as a word of the grammar: Linux allows names that would
/// be a comment, a quote or an option.
pub(super) fn link<W: Write + ?Sized>(out: &mut W, name: LinkName) -> fmt::Result {
    let name = name.as_str();
    if !name.starts_with(['-', '"', '\'']) && !name.contains('#') && !name.ends_with('\\') {
        return out.write_str(name);
    }
    let quote = if name.contains('\'') { '"' } else { '\'' };
    out.write_char(quote)?;
    out.write_str(name)?;
    out.write_char(quote)
}

/// Milliseconds as `ip` prints times of metrics: `20ms`, from a second on
/// `1.5s` with at most six digits (`%g`).
pub(super) fn milliseconds<W: Write + ?Sized>(out: &mut W, value: u32) -> fmt::Result {
    if value < 1000 {
        number(out, value)?;
        return out.write_str("ms");
    }
    // %g: six significant digits, trailing zeros gone. A u32 of milliseconds
    // has at most seven digits in front of the point.
    let whole = value / 1000;
    let decimals = 6_usize.saturating_sub(whole.to_string().len());
    if whole >= 1_000_000 {
        let scaled = format!("{:.5e}", f64::from(value) / 1e3);
        let (mantissa, exponent) = scaled.split_once('e').unwrap_or((&scaled, "0"));
        let mantissa = mantissa.trim_end_matches('0').trim_end_matches('.');
        return write!(out, "{mantissa}e+{exponent:0>2}s");
    }
    let text = format!("{:.decimals$}", f64::from(value) / 1e3);
    if text.len() > 6 && !text.contains('.') {
        // Rounded up to a million seconds.
        return out.write_str("1e+06s");
    }
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    write!(out, "{text}s")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut String) -> fmt::Result) -> String {
        let mut out = String::new();
        write(&mut out).unwrap();
        out
    }

    #[test]
    fn addresses_are_those_of_inet_ntop() {
        for expected in [
            "0.0.0.0",
            "10.200.30.4",
            "255.255.255.255",
            "::",
            "::1",
            "2001:db8::1",
            "2001:db8::1:0:0:1",
            "1:0:0:2::3",
            "1:2:3:4:5:6:7:8",
            "fe80::",
            "::ffff:1.2.3.4",
            "::1.2.3.4",
            "64:ff9b::102:304",
            "0:0:1::",
            "1:0:2:3:4:5:6:7",
            "ff02::1:ff00:1",
        ] {
            let address: IpAddr = expected.parse().unwrap();
            assert_eq!(text(|out| super::address(out, address)), expected);
        }
    }

    #[test]
    fn numbers_and_prefixes() {
        for value in [0, 9, 10, 123, u64::MAX] {
            assert_eq!(text(|out| number(out, value)), value.to_string());
        }
        for (prefix, expected) in [
            ("0/0", "default"),
            ("::/0", "default"),
            ("10.1.2.3/32", "10.1.2.3"),
            ("::1/128", "::1"),
            ("10/8", "10.0.0.0/8"),
            ("2001:db8::/127", "2001:db8::/127"),
        ] {
            assert_eq!(text(|out| destination(out, prefix.parse().unwrap())), expected);
        }
        assert_eq!(text(|out| full_prefix(out, Prefix::DEFAULT_V6)), "::/0");
        assert_eq!(text(|out| mac(out, Mac([0, 1, 0xab, 0xff, 9, 0x10]))), "00:01:ab:ff:09:10");
    }

    #[test]
    fn times_are_those_of_printf_g() {
        for (value, expected) in [
            (0, "0ms"),
            (999, "999ms"),
            (1000, "1s"),
            (1500, "1.5s"),
            (123_456, "123.456s"),
            (1_234_567, "1234.57s"),
            (123_456_789, "123457s"),
            (999_999_499, "999999s"),
            (999_999_500, "1e+06s"),
            (1_000_000_000, "1e+06s"),
            (u32::MAX, "4.29497e+06s"),
        ] {
            assert_eq!(text(|out| milliseconds(out, value)), expected, "{value}");
        }
    }
}
