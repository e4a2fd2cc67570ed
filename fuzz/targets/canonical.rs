//! Canonical bytes and changes: whatever decodes is encoded to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rtm_model::{Entity, EntityKey, EntityKind};
use rtm_tables::wire::{Frame, decode_change, encode_change};

fuzz_target!(|data: &[u8]| {
    let Some((&choice, body)) = data.split_first() else { return };
    match EntityKind::ALL.get(usize::from(choice)) {
        Some(&kind) => {
            if let Ok(entity) = Entity::decode(kind, body) {
                let mut bytes = Vec::new();
                entity.encode(&mut bytes);
                assert_eq!(bytes, body, "{entity:?}");
                let mut key = Vec::new();
                entity.key().encode(&mut key);
                assert_eq!(EntityKey::decode(kind, &key), Ok(entity.key()));
                // A link's ifindex stands where its key has zeros.
                assert!(kind == EntityKind::Link || body.starts_with(&key));
            }
            let _ = EntityKey::decode(kind, body);
        }
        None => {
            let padded = &body[..body.len() / 8 * 8];
            let flags = u16::from(choice % 8) << 8;
            let frame = Frame { frame_type: 0x12, flags, body: padded };
            if let Ok(change) = decode_change(&frame) {
                let mut bytes = Vec::new();
                encode_change(&change, &mut bytes);
                assert_eq!(&bytes[8..], padded, "{change:?}");
            }
        }
    }
});
