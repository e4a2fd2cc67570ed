//! What the kernel doesn't even send: a socket filter over the events.
//!
//! Each event is one message; what is dropped here wakes nobody. The program
//! looks at the header's type and, of a route, at its protocol, its flags and
//! its table: the byte in the header, or the attribute where that doesn't do.
//! Of a neighbour it looks at the family. Netlink is in the host's byte order
//! and BPF loads in the network's, so constants are compared as they lie.

use ipc::netlink::Instruction;
use rtm_netlink::kind;
use rtm_netlink::number::{RT_TABLE_COMPAT, RTA_TABLE, RTM_F_CLONED};

const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const LOAD_HALF: u16 = 0x28; // BPF_LD | BPF_H | BPF_ABS
const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
const LOAD_WORD_AT_X: u16 = 0x40; // BPF_LD | BPF_W | BPF_IND
const LOAD_NUMBER: u16 = 0x00; // BPF_LD | BPF_IMM
const X_NUMBER: u16 = 0x01; // BPF_LDX | BPF_IMM
const A_TO_X: u16 = 0x07; // BPF_MISC | BPF_TAX
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_BITS: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
/// `SKF_AD_OFF + SKF_AD_NLATTR`: from the attribute at A, the place of the
/// first one of type X, or 0.
const FIND_ATTRIBUTE: u32 = (-0x1000_i32 + 12) as u32;

const KEEP: u32 = u32::MAX;
const DROP: u32 = 0;

/// Where things stand in a message: its header has 16 bytes.
const TYPE: u32 = 4;
const ROUTE_TABLE: u32 = 16 + 4;
const ROUTE_PROTOCOL: u32 = 16 + 5;
const ROUTE_FLAGS: u32 = 16 + 8;
const ROUTE_ATTRIBUTES: u32 = 16 + 12;
const NEIGHBOUR_FAMILY: u32 = 16;

/// A jump in a BPF program is one byte; more tables than this are filtered
/// after they were received.
const TABLES_MAX: usize = 64;

/// The program for these tables (none: all), without routes of a protocol.
pub(in crate::feeds) fn program(tables: &[u32], without: Option<u8>) -> Vec<Instruction> {
    let mut program = Program::default();
    let half = |number: u16| u32::from(u16::from_be_bytes(number.to_ne_bytes()));
    let word = |number: u32| u32::from_be_bytes(number.to_ne_bytes());
    program.op(LOAD_HALF, TYPE);
    program.when(half(kind::NEWROUTE), "route");
    program.when(half(kind::DELROUTE), "route");
    program.when(half(kind::NEWNEIGH), "neighbour");
    program.when(half(kind::DELNEIGH), "neighbour");
    program.op(RETURN, KEEP);
    program.label("neighbour");
    program.op(LOAD_BYTE, NEIGHBOUR_FAMILY);
    program.when(2, "keep");
    program.when(10, "keep");
    program.op(RETURN, DROP);
    program.label("route");
    if let Some(without) = without {
        program.op(LOAD_BYTE, ROUTE_PROTOCOL);
        program.when(u32::from(without), "drop");
    }
    program.op(LOAD_WORD, ROUTE_FLAGS);
    program.jump(JUMP_BITS, word(RTM_F_CLONED), "drop");
    if !tables.is_empty() && tables.len() <= TABLES_MAX {
        program.op(LOAD_BYTE, ROUTE_TABLE);
        program.when(u32::from(RT_TABLE_COMPAT), "attribute");
        for table in tables.iter().filter(|table| **table < 256) {
            program.when(*table, "keep");
        }
        program.op(RETURN, DROP);
        program.label("attribute");
        program.op(LOAD_NUMBER, ROUTE_ATTRIBUTES);
        program.op(X_NUMBER, u32::from(RTA_TABLE));
        program.op(LOAD_WORD, FIND_ATTRIBUTE);
        // 0: there is none, so 252 is meant.
        program.when(0, "compat");
        program.op(A_TO_X, 0);
        program.op(LOAD_WORD_AT_X, 4);
        for table in tables {
            program.when(word(*table), "keep");
        }
        program.op(RETURN, DROP);
        program.label("compat");
        let verdict = if tables.contains(&u32::from(RT_TABLE_COMPAT)) { KEEP } else { DROP };
        program.op(RETURN, verdict);
    }
    program.label("keep");
    program.op(RETURN, KEEP);
    program.label("drop");
    program.op(RETURN, DROP);
    program.finish()
}

/// A program whose jumps go to names.
#[derive(Default)]
struct Program {
    code: Vec<Instruction>,
    jumps: Vec<(usize, &'static str)>,
    labels: Vec<(&'static str, usize)>,
}

impl Program {
    fn op(&mut self, code: u16, k: u32) {
        self.code.push(Instruction { code, if_true: 0, if_false: 0, k });
    }

    /// If A is `k`, on to a label.
    fn when(&mut self, k: u32, label: &'static str) {
        self.jump(JUMP_EQUAL, k, label);
    }

    /// A conditional jump reaches 255 instructions: it steps over a long one.
    fn jump(&mut self, code: u16, k: u32, label: &'static str) {
        self.code.push(Instruction { code, if_true: 0, if_false: 1, k });
        self.jumps.push((self.code.len(), label));
        self.op(JUMP, 0);
    }

    fn label(&mut self, name: &'static str) {
        self.labels.push((name, self.code.len()));
    }

    fn finish(mut self) -> Vec<Instruction> {
        for (at, name) in &self.jumps {
            let to = self.labels.iter().find(|(label, _)| label == name).map(|(_, to)| *to);
            // Every label is set above.
            self.code[*at].k = to.map_or(0, |to| (to - at - 1) as u32);
        }
        self.code
    }
}
