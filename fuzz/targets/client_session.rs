//! The client's end: a daemon that sends whatever it likes. Nothing panics, and
//! the replica's digests are those of what it holds.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use rtm_model::{Digest, DigestKey, Digests, EntityKind};
use rtm_tables::wire::{DaemonFrame, Role, VERSION, Welcome, records};
use rtm_tables::{
    ClientConfig, ClientEvent, ClientSession, Epoch, Flush, RecordOp, Replica, ReplicaRecord,
    Revision,
};

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    Raw(&'a [u8]),
    Frame { frame_type: u8, flags: u8, body: &'a [u8] },
    Record { set: bool, kind: u8, revision: u8, last: bool, body: &'a [u8] },
    Begin(u8),
    End(u8),
    Mark { revision: u8, ask: bool, right: bool },
    Flush(u8, u8),
    Text(&'a str),
}

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    greets: bool,
    batches: bool,
    /// In pieces of so many bytes.
    piece: u8,
    steps: Vec<Step<'a>>,
}

const KEY: DigestKey = DigestKey([3, 4]);

fn encode(step: &Step<'_>, ours: Digests, out: &mut Vec<u8>) {
    let zero = Digests::default();
    match *step {
        Step::Raw(bytes) => out.extend_from_slice(bytes),
        Step::Frame { frame_type, flags, body } => {
            let body = &body[..body.len().min(4096) / 8 * 8];
            out.extend_from_slice(&(8 + body.len() as u32).to_le_bytes());
            out.extend_from_slice(&[frame_type, 0, flags, 0]);
            out.extend_from_slice(body);
        }
        Step::Record { set, kind, revision, last, body } => {
            let kind = EntityKind::ALL[usize::from(kind) % EntityKind::ALL.len()];
            let op = if set { RecordOp::Set } else { RecordOp::Delete };
            let body = &body[..body.len().min(4096) / 8 * 8];
            records::encode(out, op, kind, Revision(revision.into()), last, body);
        }
        Step::Begin(from) => DaemonFrame::Begin { from: Revision(from.into()) }.encode(out),
        Step::End(revision) => {
            DaemonFrame::End { revision: Revision(revision.into()), digests: zero }.encode(out);
        }
        Step::Mark { revision, ask, right } => {
            let digests = if right { ours } else { Digests { routes: Digest(7), ..zero } };
            DaemonFrame::Mark { revision: Revision(revision.into()), digests, ask }.encode(out);
        }
        Step::Flush(revision, what) => {
            let what = Flush { routes: what & 1 != 0, neighbours: what & 2 != 0 };
            records::encode_flush(out, Revision(revision.into()), what);
        }
        Step::Text(text) => {
            let done = rtm_tables::wire::Done { id: 1, text, ..Default::default() };
            DaemonFrame::Done(done).encode(out);
        }
    }
}

fuzz_target!(|input: Input<'_>| {
    let config = ClientConfig { transaction_bytes_max: 64 * 1024, ..ClientConfig::default() };
    let mut client = ClientSession::new(config, 0);
    client.subscribe(None, "");
    let mut replica = Replica::new(Epoch(1), KEY);
    let mut bytes = Vec::new();
    if input.greets {
        DaemonFrame::Welcome(Welcome {
            version: VERSION,
            lowest: 1,
            frame_bytes_max: 28 * 1024,
            features: 0,
            epoch: Epoch(1),
            digest_key: KEY,
            session: 1,
            role: Role::Read,
        })
        .encode(&mut bytes);
    }
    for step in &input.steps {
        encode(step, replica.digests(), &mut bytes);
        for piece in bytes.chunks(usize::from(input.piece).max(1)) {
            client.handle_bytes(piece, 0);
            if !drain(&mut client, &mut replica, input.batches) {
                return check(&replica);
            }
        }
        bytes.clear();
        assert!(client.held_bytes() <= 400 * 1024);
    }
    check(&replica);
});

fn check(replica: &Replica) {
    assert_eq!(replica.digests(), replica.recompute_digests());
}

/// False: the session has ended.
fn drain(client: &mut ClientSession, replica: &mut Replica, batches: bool) -> bool {
    let mut snapshot = false;
    loop {
        let at = match client.poll_event() {
            Ok(None) => return true,
            Err(_) => return false,
            Ok(Some(ClientEvent::Begin { from })) => {
                snapshot = from.0 == 0;
                if snapshot {
                    replica.begin_snapshot();
                }
                continue;
            }
            Ok(Some(ClientEvent::Records(records))) => {
                let records: Vec<ReplicaRecord<'_>> = records
                    .map(|r| ReplicaRecord { op: r.op, kind: r.kind, body: r.body })
                    .collect();
                let applied = if batches {
                    replica.apply_batch(&records).is_ok()
                } else {
                    records.iter().all(|record| match record.op {
                        RecordOp::Set => replica.set(record.kind, record.body).is_ok(),
                        RecordOp::Delete => replica.delete(record.kind, record.body).is_ok(),
                    })
                };
                if !applied {
                    return false;
                }
                continue;
            }
            Ok(Some(ClientEvent::Flush { what, .. })) => {
                replica.flush(what);
                continue;
            }
            Ok(Some(ClientEvent::End(at) | ClientEvent::Mark(at))) => at,
            Ok(Some(_)) => continue,
        };
        if std::mem::take(&mut snapshot) {
            replica.end_snapshot();
        }
        let agrees = replica.digests() == at.digests;
        client.compared(&at, agrees);
    }
}
