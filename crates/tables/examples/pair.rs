//! Both halves of a session, driven by hand: no socket, no clock.
//!
//! The daemon's end follows a table, the client's end fills a replica, and this
//! program carries the bytes. At the end both have the same digests.

use rtm_model::{Change, DigestKey, RouteSpec, RouteType, Verb};
use rtm_tables::wire::Role;
use rtm_tables::{
    ClientConfig, ClientEvent, ClientSession, Epoch, Hub, HubLimits, Peer, RecordOp, Replica,
    ServerSession, SourceSpec, Table, TableLimits, Transport,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let key = DigestKey([1, 2]);
    let mut table = Table::new(Epoch(7), key, TableLimits::default());
    let mut hub = Hub::new(&table, key, HubLimits::default());
    let admin = table.source(SourceSpec::admin())?;
    let peer =
        Peer { transport: Transport::Unix, pid: None, uid: None, role: Role::Read, since: 0 };
    let mut server = ServerSession::new(peer, 1, 1, &mut hub, 0);
    let mut client = ClientSession::new(ClientConfig::default(), 0);
    let mut replica = Replica::new(table.epoch(), key);
    client.subscribe(None, "");

    for now in 0..10 {
        // The daemon's turn: take what came, change something, publish, send.
        hub.begin_turn(now);
        let sent = client.output().to_vec();
        client.transmitted(sent.len());
        let mut input = &sent[..];
        while let Some(event) = server.handle_bytes(&mut input, now, &mut hub, &mut table) {
            println!("daemon: {event:?}");
        }
        let mut route = RouteSpec::new(format!("10.{now}.0.0/16").parse()?);
        route.kind = Some(RouteType::Blackhole);
        table.apply(admin, &Change::Route(Verb::Add, route), &mut hub)?;
        hub.publish(&mut table, 1000);
        while hub.poll_ready().is_some() {
            server.fill(&mut hub, &mut table, 1000);
            let slices = server.slices(&hub, 64 * 1024);
            slices.iter().for_each(|slice| client.handle_bytes(slice, now));
            let bytes = slices.bytes();
            server.transmitted(bytes, now, &mut hub);
        }

        // The client's turn: apply what came, compare where it is asked to.
        while let Some(event) = client.poll_event()? {
            match event {
                ClientEvent::Begin { from } if from.0 == 0 => replica.begin_snapshot(),
                ClientEvent::Records(records) => {
                    for record in records {
                        match record.op {
                            RecordOp::Set => replica.set(record.kind, record.body)?,
                            RecordOp::Delete => replica.delete(record.kind, record.body)?,
                        }
                    }
                }
                ClientEvent::Flush { what, .. } => replica.flush(what),
                ClientEvent::End(at) | ClientEvent::Mark(at) => {
                    replica.end_snapshot();
                    let agrees = replica.digests() == at.digests;
                    client.compared(&at, agrees);
                    println!("client: revision {}, digests agree: {agrees}", at.revision.0);
                }
                other => println!("client: {other:?}"),
            }
        }
    }
    assert_eq!(replica.digests(), table.digests());
    Ok(())
}
