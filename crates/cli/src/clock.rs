//! The time of day for `monitor -t`: the system's clock in the system's zone.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::tz::TimeZone;
use rtm_model::text::Timestamp;

/// A clock; the zone is found out once.
pub(crate) struct Clock {
    zone: TimeZone,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock { zone: TimeZone::system() }
    }

    /// Now.
    pub(crate) fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let offset = jiff::Timestamp::from_second(seconds)
            .map_or(0, |instant| self.zone.to_offset(instant).seconds());
        Timestamp::from_unix(seconds, since.subsec_micros(), offset)
    }
}
