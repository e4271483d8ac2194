//! Which part of a file a request asks for. Pure. Source: RFC 9110, "Range Requests".

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header};

use crate::server_files::Range;

/// What is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All of it.
    Whole(Range),
    /// One part.
    Part(Range),
    /// A part that the file does not have.
    Nothing,
}

/// What a request for a file of this length, version and time asks for. Several ranges, and those of other units, are answered
/// with all of it.
pub fn wanted(headers: &HeaderMap, length: u64, etag: &str, modified: SystemTime) -> Wanted {
    let whole = Wanted::Whole(Range { start: 0, end: length });
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(range) = text(header::RANGE) else { return whole };
    if text(header::IF_RANGE).is_some_and(|condition| !is_current(condition, etag, modified)) {
        return whole;
    }
    match parsed(range, length) {
        None => whole,
        Some(range) if range.start >= range.end => Wanted::Nothing,
        Some(range) => Wanted::Part(range),
    }
}

/// The range, which may begin behind the end; `None` if it is not understood.
fn parsed(text: &str, length: u64) -> Option<Range> {
    let (first, last) = text.strip_prefix("bytes=")?.trim().split_once('-')?;
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<u64>().ok(),
        false => None,
    };
    if first.is_empty() {
        let suffix = number(last)?;
        return Some(Range { start: length.saturating_sub(suffix), end: length });
    }
    let start = number(first)?;
    let end = match last.is_empty() {
        true => length,
        false => number(last)?.checked_add(1).filter(|end| *end > start)?.min(length),
    };
    Some(Range { start, end })
}

/// Whether the version that the client has a part of is the current one.
fn is_current(condition: &str, etag: &str, modified: SystemTime) -> bool {
    if condition.starts_with('"') {
        return condition == etag;
    }
    let Ok(time) = httpdate::parse_http_date(condition) else { return false };
    let age = modified.duration_since(time).or_else(|before| match before.duration() {
        Duration::ZERO => Ok(Duration::ZERO),
        _ => Err(before),
    });
    // The time of the header has no fraction.
    age.is_ok_and(|age| age < Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(range: &str, condition: Option<&str>) -> Wanted {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, range.parse().unwrap());
        if let Some(condition) = condition {
            headers.insert(header::IF_RANGE, condition.parse().unwrap());
        }
        wanted(&headers, 1000, "\"v1\"", SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_500))
    }

    #[test]
    fn ranges() {
        let whole = Wanted::Whole(Range { start: 0, end: 1000 });
        let part = |start, end| Wanted::Part(Range { start, end });
        for (text, expected) in [
            ("bytes=0-99", part(0, 100)),
            ("bytes=500-", part(500, 1000)),
            ("bytes=-10", part(990, 1000)),
            ("bytes=-5000", part(0, 1000)),
            ("bytes=900-5000", part(900, 1000)),
            ("bytes=999-999", part(999, 1000)),
            ("bytes=1000-", Wanted::Nothing),
            ("bytes=2000-3000", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=9-3", whole),
            ("bytes=0-1,5-6", whole),
            ("bytes=+1-2", whole),
            ("bytes=-", whole),
            ("bytes=0-18446744073709551615", whole),
            ("lines=1-2", whole),
            ("nothing", whole),
        ] {
            assert_eq!(ask(text, None), expected, "{text}");
        }
        assert_eq!(wanted(&HeaderMap::new(), 0, "", SystemTime::UNIX_EPOCH), Wanted::Whole(Range { start: 0, end: 0 }));
    }

    #[test]
    fn a_part_of_another_version_is_not_continued() {
        let (whole, part) = (Wanted::Whole(Range { start: 0, end: 1000 }), Wanted::Part(Range { start: 5, end: 10 }));
        for (condition, expected) in [
            ("\"v1\"", part),
            ("\"v2\"", whole),
            ("W/\"v1\"", whole),
            ("Sun, 06 Nov 1994 08:49:37 GMT", part),
            ("Sun, 06 Nov 1994 08:49:38 GMT", whole),
            ("Sun, 06 Nov 1994 08:49:36 GMT", whole),
            ("x", whole),
        ] {
            assert_eq!(ask("bytes=5-9", Some(condition)), expected, "{condition}");
        }
    }
}
