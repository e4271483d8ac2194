//! What administrators read of a transfer. Source: websocket, "Outbound events".

use crate::model::Timestamp;

/// Characters of the bar.
const BAR: u64 = 25;

/// A line of the source.
pub fn log_line(at: Timestamp, text: &str) -> String {
    format!("\u{1b}[33m\u{1b}[1m{} [Transfer System] [Source Node]:\u{1b}[39m {text}\u{1b}[0m", rfc_1123(at))
}

/// The line about so many bytes of so many, which may grow.
pub fn progress_line(done: u64, total: u64) -> String {
    let total = total.max(done);
    let ticks = (u128::from(done) * u128::from(BAR)).checked_div(u128::from(total)).unwrap_or_default();
    let ticks = usize::try_from(ticks).unwrap_or_default();
    let bar = "=".repeat(ticks);
    format!("Uploading [{bar:<width$}] {} / {}", size(done), size(total), width = BAR as usize)
}

/// As Go writes sizes: with one digit after the point, from kibibytes on.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} PiB")
}

fn rfc_1123(at: Timestamp) -> String {
    let time = jiff::Timestamp::from_millisecond(at.as_millis()).unwrap_or_default();
    time.strftime("%a, %d %b %Y %H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_wings() {
        let at = Timestamp::from_millis(1_795_395_641_000);
        let expected =
            "\u{1b}[33m\u{1b}[1mMon, 23 Nov 2026 01:00:41 UTC [Transfer System] [Source Node]:\u{1b}[39m text\u{1b}[0m";
        assert_eq!(log_line(at, "text"), expected);
        for (done, total, expected) in [
            (0, 0, "Uploading [                         ] 0 B / 0 B"),
            (0, 100, "Uploading [                         ] 0 B / 100 B"),
            (5 << 18, 5 << 20, "Uploading [======                   ] 1.2 MiB / 5.0 MiB"),
            (5 << 30, 5 << 30, "Uploading [=========================] 5.0 GiB / 5.0 GiB"),
            (7, 5, "Uploading [=========================] 7 B / 7 B"),
        ] {
            assert_eq!(progress_line(done, total), expected);
        }
    }
}
