//! How the kernel answers: ERROR (0 is success) and DONE.
//!
//! ```text
//! ERROR | errno i32 negative | the request's header 16 | its body, unless capped | attributes
//! DONE  | errno i32 negative or 0 | attributes
//! ```

use crate::attribute::attributes;
use crate::message::{HEADER_BYTES, Malformed, Message, flag, kind, u32_at};

const NLMSGERR_ATTR_MSG: u16 = 1;

/// The end of a dump, or what came of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer<'a> {
    /// Does it end a dump (DONE)?
    pub ends_dump: bool,
    /// The errno, positive; 0: success.
    pub errno: u32,
    /// The kernel's reason in words; empty: none given.
    pub text: &'a [u8],
    /// The sequence number of the request in question.
    pub sequence: u32,
}

impl<'a> Answer<'a> {
    pub(crate) fn decode(message: Message<'a>) -> Result<Answer<'a>, Malformed> {
        let ends_dump = message.kind == kind::DONE;
        if message.body.len() < 4 && !ends_dump {
            return Err(Malformed { at: 0, why: "an answer without its error number" });
        }
        let errno = (u32_at(message.body, 0) as i32).unsigned_abs();
        let mut answer = Answer { ends_dump, errno, text: b"", sequence: message.sequence };
        if message.flags & flag::ACK_TLVS == 0 {
            return Ok(answer);
        }
        let behind = if ends_dump {
            4
        } else if message.flags & flag::CAPPED != 0 {
            4 + HEADER_BYTES
        } else {
            4 + (u32_at(message.body, 4) as usize).max(HEADER_BYTES).next_multiple_of(4)
        };
        for attribute in attributes(message.body.get(behind..).unwrap_or_default()) {
            let attribute = attribute?;
            if attribute.number == NLMSGERR_ATTR_MSG {
                answer.text = attribute.text();
            }
        }
        Ok(answer)
    }
}
