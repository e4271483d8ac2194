//! The mount table of this process.

use std::path::{Path, PathBuf};

use procfs::process::MountInfo;

/// The mounts in the order in which they were made, from `self/mountinfo` below `proc`. A line of an unknown format is left out, and
/// without a readable table there are none.
pub fn mount_table(proc: &Path) -> Vec<MountInfo> {
    let table = std::fs::read(proc.join("self/mountinfo")).unwrap_or_default();
    parse(&String::from_utf8_lossy(&table))
}

fn parse(table: &str) -> Vec<MountInfo> {
    let mounts = table.lines().filter_map(|line| MountInfo::from_line(line).ok());
    let unescaped = mounts.map(|mut mount| {
        mount.root = unescape(&mount.root);
        mount.mount_point = PathBuf::from(unescape(&mount.mount_point.to_string_lossy()));
        mount
    });
    unescaped.collect()
}

/// The kernel writes blanks and backslashes of a path as a backslash and three octal digits.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(u8::is_ascii);
        match code {
            Some(code) => {
                plain.push(char::from(code));
                plain.push_str(&part[3..]);
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_with_blanks_are_read_and_broken_lines_left_out() {
        let table = "\
23 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
broken line\n\
24 23 254:1 /a\\040b /srv/game\\040data\\134x rw - xfs /dev/vdb rw,attr2\n";
        let mounts = parse(table);
        let points: Vec<_> =
            mounts.iter().map(|mount| (mount.root.as_str(), mount.mount_point.to_str().unwrap())).collect();
        assert_eq!(points, [("/", "/"), ("/a b", "/srv/game data\\x")]);
        assert_eq!(unescape("\\0"), "\\0");
        assert_eq!(unescape("\\377"), "\\377");
    }

    proptest! {
        #[test]
        fn no_table_breaks_the_parser(text in "(?s).{0,300}", words in prop::collection::vec("[0-9:/ \\\\a-z,=-]{0,20}", 0..14)) {
            parse(&text);
            parse(&words.join(" "));
        }
    }
}
