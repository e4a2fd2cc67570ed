//! Records into the replica: in batches, or each told before it is applied.

use rtm_model::{Entity, EntityKey};
use rtm_tables::wire::records::{Records, WireRecord};
use rtm_tables::{RecordOp, Replica, ReplicaRecord};

use crate::event::{Change, Counts, Event, Sink};

pub(super) fn in_batches(
    replica: &mut Replica,
    records: Records<'_>,
    counts: &mut Counts,
) -> Result<(), String> {
    records.clone().for_each(|record| counts.record(&record));
    let records = records.map(|WireRecord { op, kind, body, .. }| ReplicaRecord { op, kind, body });
    replica.apply_records(records).map_err(|(_, error)| error.to_string())
}

/// Tells each change, then applies it.
pub(super) fn one_by_one(
    replica: &mut Replica,
    records: Records<'_>,
    counts: &mut Counts,
    tell: Sink<'_>,
) -> Result<(), String> {
    for record in records {
        counts.record(&record);
        let WireRecord { revision, last, op, kind, body } = record;
        if let Some(mac) = record.mac() {
            tell(Event::Key { revision, mac, gone: op == RecordOp::Delete });
            match op {
                RecordOp::Set => replica.set(kind, body),
                RecordOp::Delete => replica.delete(kind, body),
            }
            .map_err(|error| error.to_string())?;
            continue;
        }
        let entity = match op {
            RecordOp::Set => Some(Entity::decode(kind, body).map_err(|error| error.to_string())?),
            RecordOp::Delete => None,
        };
        let key = match &entity {
            Some(entity) => entity.key(),
            None => EntityKey::decode(kind, body).map_err(|error| error.to_string())?,
        };
        let store = replica.store();
        tell(Event::Change(Change { revision, last, key, new: entity.as_ref(), store }));
        match op {
            RecordOp::Set => replica.set(kind, body),
            RecordOp::Delete => replica.delete(kind, body),
        }
        .map_err(|error| error.to_string())?;
    }
    Ok(())
}
