//! The lookups, compiled twice: for any processor, and with the instructions
//! for counting bits that every x86-64 processor of the last ten years has but
//! the compiler may not assume. Which one runs is found out at attach.
#![allow(unsafe_code)] // calling a function that needs processor features
use crate::answers::Answer;
use crate::protocol::Busy;
use crate::reader::Reader;

macro_rules! twice {
    ($(#[$meta:meta])* $name:ident, $fast:ident, $body:ident, ($($arg:ident: $type:ty),*) -> $result:ty) => {
        $(#[$meta])*
        #[inline(always)]
        pub(crate) fn $name(reader: &Reader, $($arg: $type),*) -> $result {
            #[cfg(all(target_arch = "x86_64", not(all(target_feature = "popcnt", target_feature = "bmi2"))))]
            if reader.popcnt() {
                // SAFETY: `popcnt` says that the processor has these features.
                return unsafe { $fast(reader, $($arg),*) };
            }
            reader.$body($($arg),*)
        }

        #[cfg(all(target_arch = "x86_64", not(all(target_feature = "popcnt", target_feature = "bmi2"))))]
        #[target_feature(enable = "popcnt,bmi1,bmi2")]
        unsafe fn $fast(reader: &Reader, $($arg: $type),*) -> $result {
            reader.$body($($arg),*)
        }
    };
}

twice!(lookup4, lookup4_fast, lookup4_body, (address: u32) -> Result<Option<Answer>, Busy>);
twice!(lookup6, lookup6_fast, lookup6_body, (address: u128) -> Result<Option<Answer>, Busy>);
twice!(batch4, batch4_fast, batch4_body, (addresses: &[u32], answers: &mut [Option<Answer>]) -> Result<(), Busy>);
twice!(batch6, batch6_fast, batch6_body, (addresses: &[u128], answers: &mut [Option<Answer>]) -> Result<(), Busy>);
twice!(bare4, bare4_fast, bare4_body, (address: u32) -> Option<Answer>);
twice!(bare6, bare6_fast, bare6_body, (address: u128) -> Option<Answer>);
twice!(bare_batch4, bare_batch4_fast, bare_batch4_body, (addresses: &[u32], answers: &mut [Option<Answer>]) -> ());
