//! Times of day in front of `monitor`'s lines, as `ip -t` and `-ts` print them.

use std::fmt;

/// A time of day, broken down by whoever knows the clock and the zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timestamp {
    /// The year.
    pub year: i32,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 is Sunday.
    pub weekday: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 60.
    pub second: u8,
    /// 0 to 999,999.
    pub micros: u32,
}

const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

impl Timestamp {
    /// From seconds since 1970 UTC and the zone's seconds east of it.
    pub fn from_unix(seconds: i64, micros: u32, zone_seconds: i32) -> Timestamp {
        let local = seconds.saturating_add(i64::from(zone_seconds));
        let days = local.div_euclid(86_400);
        let rest = local.rem_euclid(86_400);
        // Days since 0000-03-01, in eras of 400 years (146,097 days): with March
        // first, the day that leap years add is a year's last.
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        Timestamp {
            year: i32::try_from(year).unwrap_or(i32::MAX),
            month: month as u8,
            day: day as u8,
            weekday: (days + 4).rem_euclid(7) as u8,
            hour: (rest / 3600) as u8,
            minute: (rest / 60 % 60) as u8,
            second: (rest % 60) as u8,
            micros: micros.min(999_999),
        }
    }

    /// `Timestamp: Sat Nov 21 06:52:04 2026 452777 usec` and a line feed: `-t`.
    pub fn write_long(&self, out: &mut (impl fmt::Write + ?Sized)) -> fmt::Result {
        let Timestamp { year, day, hour, minute, second, micros, .. } = *self;
        let weekday = DAYS.get(usize::from(self.weekday)).unwrap_or(&"???");
        let month = MONTHS.get(usize::from(self.month).wrapping_sub(1)).unwrap_or(&"???");
        writeln!(
            out,
            "Timestamp: {weekday} {month}{day:3} {hour:02}:{minute:02}:{second:02} {year} {micros} usec"
        )
    }

    /// `2026-11-21T06:52:04.453076`: `-ts` has it in brackets, JSON as a text.
    pub fn write_short(&self, out: &mut (impl fmt::Write + ?Sized)) -> fmt::Result {
        let Timestamp { year, month, day, hour, minute, second, micros, .. } = *self;
        write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_ip_monitor() {
        for (seconds, zone, long, short) in [
            (
                1_795_243_924,
                0,
                "Timestamp: Sat Nov 21 06:52:04 2026 42 usec\n",
                "2026-11-21T06:52:04.000042",
            ),
            (0, 0, "Timestamp: Thu Jan  1 00:00:00 1970 42 usec\n", "1970-01-01T00:00:00.000042"),
            (-1, 0, "Timestamp: Wed Dec 31 23:59:59 1969 42 usec\n", "1969-12-31T23:59:59.000042"),
            (
                951_782_400,
                3600,
                "Timestamp: Tue Feb 29 01:00:00 2000 42 usec\n",
                "2000-02-29T01:00:00.000042",
            ),
        ] {
            let time = Timestamp::from_unix(seconds, 42, zone);
            let (mut a, mut b) = (String::new(), String::new());
            time.write_long(&mut a).unwrap();
            time.write_short(&mut b).unwrap();
            assert_eq!((a.as_str(), b.as_str()), (long, short));
        }
    }
}
