//! The client's end: applies what came, and checks what a client may rely on.

use rtm_model::text::Filter;
use rtm_model::{Entity, EntityKind, GroupId, LinkId};
use rtm_tables::wire::records::Records;
use rtm_tables::{ClientEvent, Compare, Progress, RecordOp};

use super::expected::expected;
use super::{End, World};

impl End {
    /// Applies all that came, and checks what a client may rely on:
    ///
    /// - a record's links and groups are there before it (while live, and
    ///   always if the session is filtered);
    /// - while live, what is offered ends with the end of a transaction;
    /// - at each END and MARK the digests are the daemon's;
    /// - there, a filtered session has no link and no group that it doesn't use.
    pub fn apply(&mut self) {
        loop {
            let strict = self.connect.filter.is_empty();
            let event = match self.client.poll_event() {
                Ok(Some(event)) => event,
                Ok(None) => return,
                Err(error) => {
                    self.seen.failed = Some(error.to_string());
                    return;
                }
            };
            match event {
                ClientEvent::Welcome(welcome) => {
                    let same = welcome.epoch == self.replica.epoch();
                    assert!(same || self.tamper.is_some());
                }
                ClientEvent::Begin { from } => {
                    self.seen.begins.push(from);
                    self.in_snapshot = from.0 == 0;
                    if self.in_snapshot {
                        self.replica.begin_snapshot();
                    }
                }
                ClientEvent::Records(records) => {
                    self.seen.batches += 1;
                    let bytes = records.as_bytes().to_vec();
                    let live = self.client.progress() == Progress::Live;
                    let records = Records::new(&bytes, 1 << 20).unwrap();
                    let ordered = live || !strict;
                    self.records(records, live, ordered && self.tamper.is_none());
                }
                ClientEvent::Flush { what, .. } => {
                    self.seen.flushes += 1;
                    self.replica.flush(what);
                }
                ClientEvent::End(at) => {
                    self.seen.ends += 1;
                    self.seen.ended_at = at.revision;
                    if self.in_snapshot {
                        self.replica.end_snapshot();
                        self.in_snapshot = false;
                    }
                    self.compare(&at);
                }
                ClientEvent::Mark(at) => {
                    self.seen.marks += 1;
                    self.seen.asked += u64::from(at.ask);
                    self.compare(&at);
                }
                ClientEvent::Item { id, kind, body, .. } => {
                    self.seen.items.push((id, kind, body.to_vec()));
                }
                ClientEvent::Done(done) => {
                    self.seen.dones.push((done.id, done.code, done.text.to_owned()));
                }
                ClientEvent::Goodbye { reason, text } => {
                    self.seen.goodbye = Some((reason, text.to_owned()));
                }
                _ => panic!("an unknown event"),
            }
        }
    }

    fn records(&mut self, records: Records<'_>, live: bool, ordered: bool) {
        let mut last = true;
        for record in records {
            last = record.last;
            let result = match record.op {
                RecordOp::Set => {
                    self.seen.sets += 1;
                    if ordered {
                        self.check_resolves(record.kind, record.body);
                    }
                    self.replica.set(record.kind, record.body)
                }
                RecordOp::Delete => {
                    self.seen.deletes += 1;
                    self.replica.delete(record.kind, record.body)
                }
            };
            if let Err(error) = result {
                assert!(self.tamper.is_some(), "{error}");
            }
        }
        assert!(last || !live, "half a transaction was offered");
    }

    /// Is what an entity refers to there?
    fn check_resolves(&self, kind: EntityKind, body: &[u8]) {
        let store = self.replica.store();
        let links: Vec<LinkId> = match Entity::decode(kind, body).unwrap() {
            Entity::Route(route) => {
                let group = route.value.group;
                let known = group == GroupId::NONE || store.group(group).is_some();
                let (filter, seen) = (&self.connect.filter, &self.seen);
                assert!(known, "{route:?} before its group, {filter:?} {seen:?}");
                Vec::new()
            }
            Entity::Group(group) => group.hops.iter().filter_map(|hop| hop.link).collect(),
            Entity::Neighbour(neighbour) => neighbour.key.link.into_iter().collect(),
            Entity::Link(_) => Vec::new(),
        };
        for link in links {
            let known = store.link(link).is_some();
            assert!(
                known,
                "{kind:?} before its {link:?}, {:?} {:?}",
                self.connect.filter, self.seen
            );
        }
    }

    fn compare(&mut self, at: &Compare) {
        let agrees = self.replica.digests() == at.digests;
        self.seen.differed += u64::from(!agrees);
        self.seen.resyncs += u64::from(self.client.compared(at, agrees));
        if self.tamper.is_none() {
            if !agrees {
                self.wrong = Some(*at);
                return;
            }
            if self.exact_members && !self.filter.is_all() {
                let all = Filter::default();
                let used = expected(self.replica.store(), &all).links;
                assert_eq!(self.replica.digests().links, used, "members that nobody uses");
            }
        }
    }

    pub fn state(&self, world: &World) -> &'static str {
        let server = self.server.as_ref().unwrap();
        server.info(&world.hub, world.now).state.name()
    }
}
