//! What a classic session is told next.
//!
//! ```text
//!   CREATE ...   KEY ...   SYNCED   then every change, as it comes
//!  |-- routes --|- keys --|
//! ```
//!
//! Keys wait until all routes are told, also later: they are few.

use super::layout::{self, CLASSIC_BYTES, Op, with_op};
use super::section::Tell;
use super::{ClassicCursor, ClassicView, Scan, mac_of, prefix_of};
use crate::order::Step;
use crate::store::Store;

impl ClassicView {
    /// Goes on telling a session, into a buffer, until that is so long or the
    /// budget is used up; how it ended, and how many structures that were.
    pub(crate) fn tell(
        &mut self,
        cursor: &mut ClassicCursor,
        store: &Store,
        out: &mut Vec<u8>,
        limit: usize,
        budget: &mut usize,
    ) -> (Option<Step>, u64) {
        let mut count = 0;
        loop {
            if out.len() >= limit || *budget == 0 {
                return (None, count);
            }
            *budget -= 1;
            let mut told = None;
            let step = self.routes.advance(&mut cursor.routes, &mut self.ruins, &mut |tell| {
                told = Some(tell);
            });
            let mut say = |op, structure| {
                out.extend_from_slice(&with_op(structure, op));
                count += 1;
            };
            match told {
                Some(Tell::Create { key, group, step, earlier }) => {
                    let structure = self.row(key, group, step, store);
                    if earlier {
                        say(Op::Delete, layout::route(prefix_of(key), None, ""));
                    }
                    say(Op::Create, structure);
                }
                Some(Tell::Update { key, group, step }) => {
                    say(Op::Update, self.row(key, group, step, store));
                }
                Some(Tell::Delete { key }) => {
                    say(Op::Delete, layout::route(prefix_of(key), None, ""));
                }
                None => {}
            }
            match step {
                Step::Moved => continue,
                Step::Lost => return (Some(Step::Lost), count),
                Step::Tail => {}
            }
            // All routes are told: now the keys.
            let mut told = None;
            let step = self.keys.advance(&mut cursor.keys, &mut self.ruins, &mut |tell| {
                told = Some(tell);
            });
            match told {
                Some(Tell::Create { key, earlier, .. }) => {
                    if earlier {
                        say(Op::KeyGone, layout::key(mac_of(key)));
                    }
                    say(Op::Key, layout::key(mac_of(key)));
                }
                // A key has nothing that could be another.
                Some(Tell::Update { .. }) => {}
                Some(Tell::Delete { key }) => say(Op::KeyGone, layout::key(mac_of(key))),
                None => {}
            }
            match step {
                Step::Moved => continue,
                Step::Lost => return (Some(Step::Lost), count),
                Step::Tail => {}
            }
            if !cursor.synced {
                if self.scan != Scan::Done {
                    return (Some(Step::Tail), count);
                }
                cursor.synced = true;
                say(Op::Synced, [0; CLASSIC_BYTES]);
            }
            return (Some(Step::Tail), count);
        }
    }
}
