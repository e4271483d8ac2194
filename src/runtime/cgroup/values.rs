//! Parsers of the kernel's files. Pure: a text that is not as expected counts as zero.

use std::time::Duration;

use crate::model::{DiskIo, NetworkTraffic};

/// Limits of version 1 at or above this mean that there is none.
const NO_LIMIT: u64 = 1 << 62;

/// A file with one number.
pub(super) fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}

/// A file with a limit: a number, or `max`.
pub(super) fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|limit| *limit < NO_LIMIT)
}

/// `memory.stat`: the file cache that the kernel drops first. Version 1 has it without and with the groups below.
pub(super) fn inactive_file(text: &str) -> Option<u64> {
    value(text, "total_inactive_file").or_else(|| value(text, "inactive_file"))
}

/// `cpu.stat`: the CPU time.
pub(super) fn cpu_stat(text: &str) -> Duration {
    Duration::from_micros(value(text, "usage_usec").unwrap_or(0))
}

/// The number behind a key, on a line of its own.
fn value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// `blkio.throttle.io_service_bytes_recursive`: lines such as `8:0 Read 4096`.
pub(super) fn service_bytes(text: &str) -> DiskIo {
    let mut sum = DiskIo::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(_device), Some(operation), Some(bytes)) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let bytes = number(bytes);
        if operation.eq_ignore_ascii_case("read") {
            sum.read_bytes = sum.read_bytes.saturating_add(bytes);
        } else if operation.eq_ignore_ascii_case("write") {
            sum.write_bytes = sum.write_bytes.saturating_add(bytes);
        }
    }
    sum
}

/// `io.stat`: lines such as `8:0 rbytes=4096 wbytes=0 rios=1`.
pub(super) fn io_stat(text: &str) -> DiskIo {
    let mut sum = DiskIo::default();
    for (key, bytes) in text.split_ascii_whitespace().filter_map(|word| word.split_once('=')) {
        match key {
            "rbytes" => sum.read_bytes = sum.read_bytes.saturating_add(number(bytes)),
            "wbytes" => sum.write_bytes = sum.write_bytes.saturating_add(number(bytes)),
            _ => {}
        }
    }
    sum
}

/// `/proc/<pid>/net/dev`: all interfaces but the loopback. The received bytes are the first number behind the name, and the sent ones
/// the ninth.
pub(super) fn network(text: &str) -> NetworkTraffic {
    let mut sum = NetworkTraffic::default();
    // The name of an interface may contain a colon.
    for (name, numbers) in text.lines().filter_map(|line| line.rsplit_once(':')) {
        if name.trim() == "lo" {
            continue;
        }
        let mut numbers = numbers.split_ascii_whitespace().map(number);
        sum.rx_bytes = sum.rx_bytes.saturating_add(numbers.next().unwrap_or(0));
        sum.tx_bytes = sum.tx_bytes.saturating_add(numbers.nth(7).unwrap_or(0));
    }
    sum
}
