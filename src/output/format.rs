//! Numbers for people: durations, offsets, sizes, counts, wall-clock times.

use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, Zoned};

const SECOND: u64 = 1_000_000_000;

/// `84ms`, `6s`, `4m12s`, `2h05m`; from nanoseconds.
pub fn duration(nanos: u64) -> String {
    let seconds = nanos / SECOND;
    match seconds {
        0 if nanos < 1_000_000 => format!("{}µs", nanos / 1000),
        0 => format!("{}ms", nanos / 1_000_000),
        1..10 => format!("{}.{}s", seconds, nanos % SECOND / (SECOND / 10)),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// `+0:02`, `+1:04:10`: time since the start, from nanoseconds.
pub fn offset(nanos: u64) -> String {
    let seconds = nanos / SECOND;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("+{minutes}:{seconds:02}"),
        _ => format!("+{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// `812 B`, `1.8 MB`: decimal units.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    // 999.95 would be printed as 1000.0.
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if value < 9.95 {
        format!("{value:.1} {}", UNITS[unit])
    } else {
        format!("{value:.0} {}", UNITS[unit])
    }
}

/// `4,812`
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 file`, `2 files`, `2 processes`
pub fn plural(n: u64, noun: &str) -> String {
    let ending = match n {
        1 => "",
        _ if noun.ends_with('s') => "es",
        _ => "s",
    };
    format!("{} {noun}{ending}", count(n))
}

/// A moment on the clock of the machine that recorded it; from nanoseconds since 1970 and its seconds east of UTC.
///
/// Where the reader's own time zone has that offset at that moment, its name is printed (`CET`), else the offset.
pub fn wall(nanos: i64, utc_offset: i32) -> Zoned {
    let timestamp = Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or_default();
    let here = timestamp.to_zoned(TimeZone::system());
    if here.offset().seconds() == utc_offset {
        return here;
    }
    let offset = Offset::from_seconds(utc_offset).unwrap_or(Offset::UTC);
    timestamp.to_zoned(TimeZone::fixed(offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_keep_two_units_at_most() {
        let ms = 1_000_000;
        for (nanos, text) in [
            (900, "0µs"),
            (84 * ms, "84ms"),
            (1_250 * ms, "1.2s"),
            (59_999 * ms, "59s"),
            (252_000 * ms, "4m12s"),
            (7_500_000 * ms, "2h05m"),
        ] {
            assert_eq!(duration(nanos), text);
        }
        assert_eq!(offset(153 * SECOND), "+2:33");
        assert_eq!(offset(3_850 * SECOND), "+1:04:10");
    }

    #[test]
    fn sizes_and_counts() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (9_960, "10 kB"),
            (999_950, "1.0 MB"),
            (1_800_000, "1.8 MB"),
            (61_000_000, "61 MB"),
            (u64::MAX, "18447 PB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(count(4_812), "4,812");
        assert_eq!(count(999), "999");
        assert_eq!(plural(1, "file"), "1 file");
        assert_eq!(plural(2, "process"), "2 processes");
        assert_eq!(plural(1_000_000, "file"), "1,000,000 files");
    }

    #[test]
    fn wall_clock_is_the_recording_machines() {
        let zoned = wall(1_795_250_000_000_000_000, 20_700);
        assert_eq!(zoned.offset().seconds(), 20_700);
    }
}
