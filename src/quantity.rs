//! Sizes and times as users type them.

use std::time::Duration;

use anyhow::{Result, anyhow};

/// A time, such as `7d`, `12h` or `1h30m`.
pub fn span(text: &str) -> Result<Duration> {
    let span: jiff::Span =
        text.parse().map_err(|_| anyhow!("write a time such as 7d, 12h or 90s"))?;
    // Days and weeks of 24 hours: nobody counts on the hour that a clock change moves.
    let nanos = span.total(jiff::SpanTotal::from(jiff::Unit::Nanosecond).days_are_24_hours());
    match nanos {
        Ok(nanos) if nanos >= 0.0 => Ok(Duration::from_nanos(nanos as u64)),
        _ => Err(anyhow!("write a time such as 7d, 12h or 90s")),
    }
}

/// A size in bytes, such as `500M` or `5G`.
pub fn bytes(text: &str) -> Result<u64> {
    let text = text.trim_end_matches(['B', 'b']);
    let (digits, factor) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 1_000),
        Some((at, 'M')) => (&text[..at], 1_000_000),
        Some((at, 'G')) => (&text[..at], 1_000_000_000),
        Some((at, 'T')) => (&text[..at], 1_000_000_000_000),
        _ => (text, 1),
    };
    let number: u64 = digits.parse().map_err(|_| anyhow!("write a size such as 500M or 5G"))?;
    number.checked_mul(factor).ok_or_else(|| anyhow!("that is more than any disk holds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes() {
        assert_eq!(span("7d").ok(), Some(Duration::from_secs(7 * 86_400)));
        assert_eq!(span("12h").ok(), Some(Duration::from_secs(12 * 3_600)));
        assert_eq!(span("1h30m").ok(), Some(Duration::from_secs(90 * 60)));
        assert!(span("-1d").is_err() && span("soon").is_err());
        assert_eq!(bytes("5G").ok(), Some(5_000_000_000));
        assert_eq!(bytes("500MB").ok(), Some(500_000_000));
        assert_eq!(bytes("12").ok(), Some(12));
        assert!(bytes("G").is_err() && bytes("99999999999T").is_err());
    }
}
