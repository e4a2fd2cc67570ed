//! Files of routes: any bytes, packed or not, in any format.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use rtm_files::{Options, Reader};
use rtm_model::text::{Format, LoadHops};

/// Enough to unpack something, little enough that a bomb costs no time.
const UNPACKED_BYTES_MAX: u64 = 256 * 1024;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    format: u8,
    spread: bool,
    bytes: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let format = match input.format % 8 {
        0 => Format::Prefixes,
        1 => Format::Ip,
        2 => Format::IpJson,
        3 => Format::Batch,
        4 => Format::IpDump,
        5 => Format::Mrt,
        _ => Format::Auto,
    };
    let options = Options {
        format,
        hops: input.spread.then_some(LoadHops::Spread),
        unpacked_bytes_max: Some(UNPACKED_BYTES_MAX),
        ..Options::default()
    };
    let mut reader = match Reader::new(input.bytes, options) {
        Ok(reader) => reader,
        Err(error) => return assert_eq!(error.to_string().lines().count(), 1, "{error}"),
    };
    let mut items = 0_u64;
    loop {
        match reader.next_item() {
            Ok(Some(_)) => items += 1,
            Ok(None) => break,
            Err(error) => {
                assert_eq!(error.to_string().lines().count(), 1, "{error}");
                break;
            }
        }
        assert!(items <= UNPACKED_BYTES_MAX, "it doesn't end");
    }
    assert!(reader.unpacked_bytes() <= UNPACKED_BYTES_MAX + 1);
});
