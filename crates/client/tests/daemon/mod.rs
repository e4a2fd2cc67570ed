//! A daemon's end of a connection, played by hand: a real table whose records
//! are encoded as the wire draws them, and frames sent one by one, so that a
//! test decides what comes when, and what is wrong with it.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use rtm_model::text::{Command, Context, parse_line};
use rtm_model::{Change, DigestKey, Digests};
use rtm_tables::wire::records;
use rtm_tables::wire::{ClientFrame, DaemonFrame, Frame, Role, VERSION, Welcome};
use rtm_tables::{
    Epoch, Flush, OrderItem, Record, RecordOp, RecordSink, Revision, SourceId, SourceSpec, Step,
    Table, TableLimits,
};

/// The table behind it.
pub struct World {
    pub table: Table,
    admin: SourceId,
    key: DigestKey,
}

/// Records as frames.
#[derive(Default)]
struct Encoder(Vec<u8>);

impl RecordSink for Encoder {
    fn record(&mut self, record: &Record<'_>) {
        let Record { revision, last, op, kind, body, .. } = *record;
        records::encode(&mut self.0, op, kind, revision, last, body);
    }

    fn flush(&mut self, revision: Revision, what: Flush) {
        records::encode_flush(&mut self.0, revision, what);
    }

    fn leap(&mut self, _: Revision) {
        unreachable!("no large load here");
    }
}

/// The change of a line.
pub fn change(line: &str) -> Change {
    match parse_line(line, &Context::default()) {
        Ok(Some((_, Command::Change(change)))) => change,
        other => panic!("{line}: {other:?}"),
    }
}

impl World {
    pub fn new(epoch: u64) -> World {
        let key = DigestKey([epoch, 7]);
        let mut table = Table::new(Epoch(epoch), key, TableLimits::default());
        let admin = table.source(SourceSpec::admin()).unwrap();
        World { table, admin, key }
    }

    /// Applies lines; gives their records as frames.
    pub fn apply(&mut self, lines: &[&str]) -> Vec<u8> {
        let mut out = Encoder::default();
        for line in lines {
            self.table.apply(self.admin, &change(line), &mut out).expect(line);
        }
        out.0
    }

    /// Empties the routes.
    pub fn flush_routes(&mut self) -> Vec<u8> {
        let mut out = Encoder::default();
        self.table.flush(Flush { routes: true, neighbours: false }, &mut out).unwrap();
        out.0
    }

    /// BEGIN, what changed since `from` (0: all there is), END.
    pub fn walk(&mut self, from: Revision) -> Vec<u8> {
        let mut out = Vec::new();
        DaemonFrame::Begin { from }.encode(&mut out);
        let marker = self.table.marker();
        if from != Revision(0) {
            while !self.table.marker_seek(marker, from, 1000) {}
        }
        while self.table.marker_next(marker, &mut |item| match item {
            OrderItem::Set { revision, kind, body } => {
                records::encode(&mut out, RecordOp::Set, kind, revision, false, body);
            }
            OrderItem::Gone { revision, kind, key } if from != Revision(0) => {
                records::encode(&mut out, RecordOp::Delete, kind, revision, false, key);
            }
            OrderItem::Gone { .. } => {}
            OrderItem::Flushed { revision, what } => {
                records::encode_flush(&mut out, revision, what);
            }
        }) == Step::Moved
        {}
        self.table.marker_release(marker);
        let (revision, digests) = (self.table.revision(), self.table.digests());
        DaemonFrame::End { revision, digests }.encode(&mut out);
        out
    }

    /// A follower that knows nothing is welcome, and gets all there is.
    pub fn greet(&mut self, peer: &mut Peer) {
        peer.expect("HELLO ");
        peer.expect("SUBSCRIBE 0:0");
        peer.send(&self.welcome());
        let walk = self.walk(Revision(0));
        peer.send(&walk);
    }

    /// A MARK of the present state.
    pub fn mark(&self, ask: bool) -> Vec<u8> {
        self.mark_with(self.table.digests(), ask)
    }

    /// A MARK with these digests.
    pub fn mark_with(&self, digests: Digests, ask: bool) -> Vec<u8> {
        let mut out = Vec::new();
        DaemonFrame::Mark { revision: self.table.revision(), digests, ask }.encode(&mut out);
        out
    }

    /// The greeting.
    pub fn welcome(&self) -> Vec<u8> {
        let mut out = Vec::new();
        DaemonFrame::Welcome(Welcome {
            version: VERSION,
            lowest: 1,
            frame_bytes_max: 28 * 1024,
            features: 0,
            epoch: self.table.epoch(),
            digest_key: self.key,
            session: 1,
            role: Role::Admin,
        })
        .encode(&mut out);
        out
    }
}

/// One frame as text: what a test compares.
fn text(frame: &ClientFrame<'_>) -> String {
    match frame {
        ClientFrame::Hello(hello) => format!("HELLO {}", hello.name),
        ClientFrame::Subscribe(s) => {
            format!("SUBSCRIBE {}:{} {}", s.epoch.0, s.revision.0, s.filter).trim_end().to_owned()
        }
        ClientFrame::Ack { revision, agrees } => format!("ACK {} {agrees}", revision.0),
        ClientFrame::Resync { revision } => format!("RESYNC {}", revision.0),
        ClientFrame::Goodbye => "GOODBYE".to_owned(),
        ClientFrame::Request { id, line } => format!("REQUEST {id} {line}"),
        ClientFrame::Load { id, flags, source } => {
            format!("LOAD {id} {} {source}", flags.0).trim_end().to_owned()
        }
        ClientFrame::Change(_) => "CHANGE".to_owned(),
        ClientFrame::LoadEnd { id, give_up } => format!("LOAD_END {id} {give_up}"),
        ClientFrame::Cancel { id } => format!("CANCEL {id}"),
        other => format!("{other:?}"),
    }
}

/// The daemon's end of one connection.
pub struct Peer {
    stream: UnixStream,
    bytes: Vec<u8>,
}

impl Peer {
    pub fn new(stream: UnixStream) -> Peer {
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Peer { stream, bytes: Vec::new() }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends what may meet a client that is gone.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends a frame.
    pub fn frame(&mut self, frame: &DaemonFrame<'_>) {
        let mut out = Vec::new();
        frame.encode(&mut out);
        self.send(&out);
    }

    /// The next frame of the client; `None`: it has closed.
    pub fn next(&mut self) -> Option<String> {
        loop {
            if let Some((frame, length)) = Frame::split(&self.bytes, 1 << 20).unwrap() {
                let text = text(&ClientFrame::decode(&frame).unwrap().unwrap());
                self.bytes.drain(..length);
                return Some(text);
            }
            let mut buffer = [0; 64 * 1024];
            let count = self.stream.read(&mut buffer).ok()?;
            if count == 0 {
                return None;
            }
            self.bytes.extend_from_slice(&buffer[..count]);
        }
    }

    /// The next frame must be this.
    #[track_caller]
    pub fn expect(&mut self, wanted: &str) {
        assert_eq!(self.next().as_deref(), Some(wanted));
    }
}

/// Listens where a client will look.
pub fn listen(path: &Path) -> UnixListener {
    UnixListener::bind(path).unwrap()
}

/// The next connection.
pub fn accept(listener: &UnixListener) -> Peer {
    Peer::new(listener.accept().unwrap().0)
}
