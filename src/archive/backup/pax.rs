//! Records of extended headers, `LENGTH KEY=VALUE` and a line's end, and the texts of their values.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::super::header::time;

/// Adds a record.
pub(super) fn add(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    // The length has its own digits.
    let rest = key.len() + value.len() + 3;
    let mut length = rest + digits(rest);
    if digits(length) != digits(rest) {
        length = rest + digits(length);
    }
    records.extend_from_slice(format!("{length} {key}=").as_bytes());
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

/// The next record, and what follows it. `None`: it is damaged.
pub(super) fn next(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let blank = records.iter().take(20).position(|byte| *byte == b' ')?;
    let length: usize = number(&records[..blank])?;
    let record = records.get(blank + 1..length)?;
    let (b'\n', record) = record.split_last()? else { return None };
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &records[length..]))
}

/// A decimal number.
pub(super) fn number<N: std::str::FromStr>(text: &[u8]) -> Option<N> {
    let text = std::str::from_utf8(text).ok()?;
    // `parse` also takes a sign.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A time as decimal seconds, with fractions if there are any.
pub(super) fn time_text(time: SystemTime) -> String {
    let (sign, distance) = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => ("", after),
        Err(before) => ("-", before.duration()),
    };
    match distance.subsec_nanos() {
        0 => format!("{sign}{}", distance.as_secs()),
        part => format!("{sign}{}.{part:09}", distance.as_secs()),
    }
}

/// Reads decimal seconds.
pub(super) fn parse_time(text: &[u8]) -> Option<SystemTime> {
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let whole: u64 = number(parts.next()?)?;
    let fraction = parts.next().unwrap_or_default();
    let digits = &fraction[..fraction.len().min(9)];
    let digits: u32 = if digits.is_empty() { 0 } else { number(digits)? };
    let nanoseconds = digits.checked_mul(10_u32.pow(9 - fraction.len().min(9) as u32))?;
    // As the kernel has them: whole seconds, rounded down, and nanoseconds.
    let seconds = i64::try_from(whole).ok()?;
    match negative {
        false => time(seconds, nanoseconds),
        true => time(seconds.checked_neg()?, 0)?.checked_sub(Duration::from_nanos(nanoseconds.into())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_as_text() {
        let at = |seconds: i64, nanoseconds| time(seconds, nanoseconds).unwrap();
        for (time, text) in [
            (at(0, 0), "0"),
            (at(1_700_000_000, 5), "1700000000.000000005"),
            (at(-1, 0), "-1"),
            (at(-2, 500_000_000), "-1.500000000"),
            (at(-1, 999_999_999), "-0.000000001"),
        ] {
            assert_eq!(time_text(time), text);
            assert_eq!(parse_time(text.as_bytes()), Some(time), "{text}");
        }
        assert_eq!(parse_time(b"1.25"), Some(at(1, 250_000_000)));
        assert_eq!(parse_time(b"1.0000000019"), Some(at(1, 1)));
        for bad in ["", "-", "x", "1.x", "+1", "--1", ".5", "99999999999999999999"] {
            assert_eq!(parse_time(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn damaged_records_are_none() {
        for bad in [
            &b""[..],
            b"5",
            b"5 a=b",
            b"6 a=b",
            b"6 ab=\nx"[..5].as_ref(),
            b"0 a=b\n",
            b"2 \n",
            b"5 ab\n",
            b"9999999999999999999999 a=\n",
        ] {
            assert_eq!(next(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn records_are_read_as_they_were_written(value in prop::collection::vec(any::<u8>(), 0..1200)) {
            let mut records = Vec::new();
            add(&mut records, "key", &value);
            add(&mut records, "path", b"x\ny");
            let (key, found, rest) = next(&records).unwrap();
            prop_assert_eq!((key, found), (&b"key"[..], value.as_slice()));
            prop_assert_eq!(next(rest), Some((&b"path"[..], &b"x\ny"[..], &b""[..])));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = next(&bytes);
            let _ = parse_time(&bytes);
        }
    }
}
