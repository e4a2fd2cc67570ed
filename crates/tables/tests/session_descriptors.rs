//! A descriptor goes with the first byte of its frame, and of a write, wherever
//! the socket stops, and whatever else is on its way.

use rtm_model::DigestKey;
use rtm_model::text::{Command, Context, parse_line};
use rtm_tables::wire::{DescriptorKind, Frame, Role, frame_type};
use rtm_tables::{
    ClientConfig, ClientEvent, ClientSession, Epoch, Hub, HubLimits, Peer, ServerEvent,
    ServerSession, SourceSpec, Table, TableLimits, Transport,
};

const KEY: DigestKey = DigestKey([1, 2]);

fn peer(transport: Transport) -> Peer {
    Peer { transport, pid: Some(1), uid: Some(0), role: Role::Admin, since: 0 }
}

struct Ends {
    table: Table,
    hub: Hub,
    server: ServerSession,
    client: ClientSession,
    /// DESCRIPTOR frames that the client was told of: given or not.
    told: Vec<(DescriptorKind, bool, String)>,
    /// Writes that a descriptor went with.
    carried: usize,
    records: usize,
}

impl Ends {
    fn new(transport: Transport) -> Ends {
        let table = Table::new(Epoch(7), KEY, TableLimits::default());
        let mut hub = Hub::new(&table, KEY, HubLimits::default());
        let server = ServerSession::new(peer(transport), 1, 1, &mut hub, 0);
        let client = ClientSession::new(ClientConfig::default(), 0);
        Ends { table, hub, server, client, told: Vec::new(), carried: 0, records: 0 }
    }

    fn add_routes(&mut self, count: u32) {
        let admin = self.table.source(SourceSpec::admin()).unwrap();
        for number in 0..count {
            let line = format!("route replace 10.{}.{}.0/24 dev e", number / 256, number % 256);
            let Ok(Some((_, Command::Change(change)))) = parse_line(&line, &Context::default())
            else {
                panic!("{line}")
            };
            self.table.apply(admin, &change, &mut self.hub).unwrap();
        }
        self.hub.publish(&mut self.table, 1 << 20);
    }

    /// The client's bytes to the daemon, which gives what is wanted.
    fn deliver_up(&mut self) {
        let bytes = self.client.output().to_vec();
        self.client.transmitted(bytes.len());
        self.handle(&bytes);
    }

    fn handle(&mut self, bytes: &[u8]) {
        let mut input = bytes;
        while let Some(event) =
            self.server.handle_bytes(&mut input, 0, &mut self.hub, &mut self.table)
        {
            if let ServerEvent::Want { kind } = event {
                self.server.descriptor(kind);
            }
        }
    }

    /// Writes of at most `step` bytes, until nothing is left.
    fn deliver_down(&mut self, step: usize) {
        loop {
            self.server.fill(&mut self.hub, &mut self.table, 100);
            let slices = self.server.slices(&self.hub, 1 << 16);
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
            if bytes.is_empty() && !self.server.wants_write(&self.hub) {
                break;
            }
            let taken = &bytes[..bytes.len().min(step)];
            if slices.carries_descriptor() {
                assert_eq!(taken[4..6], frame_type::DESCRIPTOR.to_le_bytes());
                self.carried += 1;
            }
            self.server.transmitted(taken.len(), 0, &mut self.hub);
            self.client.handle_bytes(taken, 0);
            self.events();
            if self.server.wants_input() {
                self.handle(&[]);
            }
        }
    }

    fn events(&mut self) {
        while let Some(event) = self.client.poll_event().unwrap() {
            match event {
                ClientEvent::Descriptor { kind, given, text } => {
                    self.told.push((kind, given, text.to_owned()));
                    // It can't be told before it came.
                    assert!(self.told.iter().filter(|told| told.1).count() <= self.carried);
                }
                ClientEvent::Records(records) => self.records += records.count(),
                _ => {}
            }
        }
    }
}

#[test]
fn with_the_first_byte_of_its_frame_at_any_cut() {
    for step in [6, 8, 13, 16, 24, 100, 4096, usize::MAX] {
        let mut ends = Ends::new(Transport::Unix);
        ends.add_routes(300);
        ends.client.want(DescriptorKind::WakePipe);
        ends.client.subscribe(None, "");
        ends.client.want(DescriptorKind::SignalPipe);
        ends.client.want(DescriptorKind::Image);
        ends.deliver_up();
        ends.deliver_down(step);
        ends.add_routes(20);
        ends.client.want(DescriptorKind::Image);
        ends.deliver_up();
        ends.deliver_down(step);
        let kinds: Vec<_> = ends.told.iter().map(|told| (told.0, told.1)).collect();
        let wanted = [
            (DescriptorKind::WakePipe, true),
            (DescriptorKind::SignalPipe, true),
            (DescriptorKind::Image, true),
            (DescriptorKind::Image, true),
        ];
        assert_eq!(kinds, wanted, "writes of {step}");
        assert_eq!(ends.carried, 4);
        assert!(ends.records >= 300);
    }
}

#[test]
fn not_over_tcp_and_not_without_end() {
    let mut ends = Ends::new(Transport::Tcp);
    ends.client.want(DescriptorKind::Image);
    ends.deliver_up();
    ends.deliver_down(usize::MAX);
    assert_eq!((ends.told.len(), ends.carried), (1, 0));
    assert!(ends.told[0].2.contains("Unix socket"), "{:?}", ends.told);

    let mut ends = Ends::new(Transport::Unix);
    for _ in 0..70 {
        ends.client.want(DescriptorKind::Image);
    }
    ends.deliver_up();
    ends.deliver_down(usize::MAX);
    assert_eq!((ends.told.len(), ends.carried), (70, 64));
    assert!(ends.told[64..].iter().all(|told| !told.1 && told.2.contains("64")));
}

#[test]
fn a_frame_split_off_says_where_it_begins() {
    let mut ends = Ends::new(Transport::Unix);
    ends.client.want(DescriptorKind::Image);
    ends.deliver_up();
    // WELCOME is written by itself, then the frame with its descriptor.
    let slices = ends.server.slices(&ends.hub, 1 << 16);
    assert!(!slices.carries_descriptor());
    let bytes = slices.bytes();
    let (frame, length) = Frame::split(&slices[0], 1 << 16).unwrap().unwrap();
    assert_eq!((frame.frame_type, length), (frame_type::WELCOME, bytes));
    ends.server.transmitted(bytes, 0, &mut ends.hub);
    assert!(ends.server.slices(&ends.hub, 1 << 16).carries_descriptor());
}

/// The daemon may answer a WANT later; the next one's descriptor doesn't come in
/// its way meanwhile.
#[test]
fn what_is_answered_late_is_not_lost() {
    let mut ends = Ends::new(Transport::Unix);
    ends.client.want(DescriptorKind::Image);
    ends.client.want(DescriptorKind::WakePipe);
    let bytes = ends.client.output().to_vec();
    ends.client.transmitted(bytes.len());
    let mut input = &bytes[..];
    let mut wanted = Vec::new();
    while let Some(event) = ends.server.handle_bytes(&mut input, 0, &mut ends.hub, &mut ends.table)
    {
        match event {
            ServerEvent::Want { kind: DescriptorKind::Image } => {
                wanted.push(DescriptorKind::Image);
            }
            ServerEvent::Want { kind } => {
                wanted.push(kind);
                ends.server.descriptor(kind);
            }
            _ => {}
        }
    }
    ends.deliver_down(8);
    assert_eq!(wanted, [DescriptorKind::Image], "the second waits");
    assert!(ends.server.descriptor(DescriptorKind::Image));
    ends.deliver_down(8);
    let told: Vec<_> = ends.told.iter().map(|(kind, given, _)| (*kind, *given)).collect();
    assert_eq!(told, [(DescriptorKind::Image, true), (DescriptorKind::WakePipe, true)]);
    assert_eq!(ends.carried, 2);
}
