//! What a backup leaves out: rules as those of a denylist, which a user of the server writes.
//!
//! The limits keep the time for each file small: it is linear in the path's length, whatever the list.

use std::ffi::OsStr;
use std::io::Read;
use std::sync::Arc;

use crate::files::denylist::{Denylist, is_rule};
use crate::files::tree::{Follow, Tree};
use crate::files::user_path::UserPath;

/// The longest list, in bytes.
pub const MAX_BYTES: usize = 32 << 10;
/// The most patterns in a list.
pub const MAX_PATTERNS: usize = 256;
/// The most `*` in a line without a `\` before them.
pub const MAX_STARS: usize = 16;

/// The files in a server's directory that may have the list, the first one that exists counts.
const DEFAULT_FILES: [&str; 2] = [".pelicanignore", ".pteroignore"];

/// The files that a backup leaves out.
#[derive(Debug, Clone, Default)]
pub struct IgnoreList {
    rules: Denylist,
}

/// Why a text is no list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum IgnoreError {
    /// Of the first line that is not within the limit.
    #[error("line {line} of the ignore list: the list is longer than {MAX_BYTES} bytes")]
    TooLong { line: usize },
    #[error("line {line} of the ignore list: the list has more than {MAX_PATTERNS} patterns")]
    TooManyPatterns { line: usize },
    #[error("line {line} of the ignore list: the pattern has more than {MAX_STARS} `*`")]
    TooManyStars { line: usize },
}

impl IgnoreList {
    /// Reads a list. Patterns that cannot be compiled are dropped.
    ///
    /// # Errors
    /// A limit is exceeded: the error names the line.
    pub fn parse(text: &str) -> Result<Self, IgnoreError> {
        let (mut end, mut patterns) = (0, 0);
        for (line, number) in text.split('\n').zip(1..) {
            end += line.len();
            if end > MAX_BYTES {
                return Err(IgnoreError::TooLong { line: number });
            }
            // The line's end.
            end += 1;
            if !is_rule(line) {
                continue;
            }
            patterns += 1;
            if patterns > MAX_PATTERNS {
                return Err(IgnoreError::TooManyPatterns { line: number });
            }
            if stars(line) > MAX_STARS {
                return Err(IgnoreError::TooManyStars { line: number });
            }
        }
        Ok(Self { rules: Denylist::of_user(text.split('\n')) })
    }

    /// Whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether this file is left out. The last pattern that matches counts.
    pub fn ignores(&self, path: &UserPath) -> bool {
        self.rules.denies(path)
    }

    /// Whether a directory is left out, and if so, whether everything in it is, too.
    pub fn ignores_directory(&self, path: &UserPath) -> Option<Below> {
        match self.rules.denies_directory(path) {
            false => None,
            true if self.rules.has_exceptions() => Some(Below::Some),
            true => Some(Below::All),
        }
    }
}

/// What a list leaves out of a directory that it leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Below {
    /// Everything.
    All,
    /// Not what a later pattern allows.
    Some,
}

fn stars(line: &str) -> usize {
    let mut escaped = false;
    let unescaped = line.bytes().filter(|byte| {
        let counts = *byte == b'*' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        counts
    });
    unescaped.count()
}

/// The list that a server's directory has.
#[derive(Debug, Default)]
pub struct DefaultList {
    /// The list; empty if there is none.
    pub list: IgnoreList,
    /// Why a file with a list does not count: its name, and the reason.
    pub note: Option<String>,
}

impl DefaultList {
    /// Reads `.pelicanignore`, or if there is none `.pteroignore`. It must be a regular file of at most 32 KiB.
    pub fn read(tree: &Tree) -> Self {
        let tree = tree.with_denylist(Arc::default());
        for name in DEFAULT_FILES {
            let path = UserPath::root().child(OsStr::new(name));
            let Ok(found) = tree.stat(&path, Follow::No) else { continue };
            let list = match () {
                () if !found.is_file() => Err("it is not a regular file".to_owned()),
                () if found.size > MAX_BYTES as u64 => Err(format!("it is longer than {MAX_BYTES} bytes")),
                () => text(&tree, &path).and_then(|text| IgnoreList::parse(&text).map_err(|error| error.to_string())),
            };
            return match list {
                Ok(list) => Self { list, note: None },
                Err(why) => Self { note: Some(format!("{name} is not used: {why}")), ..Self::default() },
            };
        }
        Self::default()
    }
}

fn text(tree: &Tree, path: &UserPath) -> Result<String, String> {
    let (file, _) = tree.open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    let mut most = file.take(MAX_BYTES as u64 + 1);
    most.read_to_end(&mut bytes).map_err(|error| format!("it cannot be read: {error}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn path(text: &str) -> UserPath {
        UserPath::parse(OsStr::new(text)).unwrap()
    }

    #[test]
    fn limits_name_the_line() {
        let many = |count: usize| "x\n".repeat(count);
        for (text, error) in [
            (String::new(), None),
            (many(MAX_PATTERNS), None),
            (many(MAX_PATTERNS + 1), Some(IgnoreError::TooManyPatterns { line: 257 })),
            (format!("# {}\n\n{}", "c".repeat(100), many(MAX_PATTERNS)), None),
            (format!("a\n{}", "*a".repeat(16)), None),
            (format!("a\n{}", "*a".repeat(17)), Some(IgnoreError::TooManyStars { line: 2 })),
            (format!("a\n\n{}{}", "*a".repeat(16), r"\*".repeat(9)), None),
            (format!("{}*", r"\\*".repeat(16)), Some(IgnoreError::TooManyStars { line: 1 })),
            ("#".repeat(MAX_BYTES), None),
            ("#".repeat(MAX_BYTES + 1), Some(IgnoreError::TooLong { line: 1 })),
            (format!("a\n#{}\nb", "#".repeat(MAX_BYTES)), Some(IgnoreError::TooLong { line: 2 })),
            (format!("{}\n\nb", "#".repeat(MAX_BYTES - 2)), Some(IgnoreError::TooLong { line: 3 })),
        ] {
            assert_eq!(IgnoreList::parse(&text).err(), error, "{:.40}", text);
        }
        assert!(IgnoreError::TooManyStars { line: 7 }.to_string().contains("line 7"));
    }

    #[test]
    fn patterns_are_those_that_were_observed() {
        let list = IgnoreList::parse("logs\n/top\n*.txt\n!a.txt\r\nd/**\n**/x.log\ncache/").unwrap();
        for ignored in ["logs/a", "x/logs/b", "top", "b.txt", "x/b.txt", "d/e/f", "q/x.log", "cache/x", "y/cache/z"] {
            assert!(list.ignores(&path(ignored)), "{ignored}");
        }
        for kept in ["x/top", "a.txt", "x/a.txt", "log", "cache"] {
            assert!(!list.ignores(&path(kept)), "{kept}");
        }
        assert_eq!(list.ignores_directory(&path("cache")), Some(Below::Some));
        assert_eq!(list.ignores_directory(&path("other")), None);
        let list = IgnoreList::parse("cache/").unwrap();
        assert_eq!(list.ignores_directory(&path("x/cache")), Some(Below::All));
        assert_eq!(list.ignores_directory(&UserPath::root()), None);
    }

    #[test]
    fn long_patterns_of_a_plain_kind_count() {
        let name = "world/region/some-rather-long-name-of-a-directory/".repeat(8) + "*.mca";
        let list = IgnoreList::parse(&name).unwrap();
        assert!(list.ignores(&path(&name.replace('*', "r.1.2"))));
        assert!(IgnoreList::parse("a/**/b/**/c*d*e").unwrap().ignores(&path("a/b/x/c1d2e")));
    }

    /// Twice the path takes about twice the time, and not much of it.
    #[test]
    fn hostile_patterns_take_linear_time() {
        let stars = "*a".repeat(16) + "b";
        let nested = "((a*)*)*b";
        for pattern in [stars.as_str(), nested, "(a|aa)+$", "(a{1,99}){1,99}b", "[^b]*a[^b]{90}b", "**/a**/a**/a**/b"] {
            let text = format!("{pattern}\n").repeat((MAX_BYTES / (pattern.len() + 1)).min(MAX_PATTERNS));
            let list = IgnoreList::parse(&text).unwrap();
            let time = |length: usize| {
                let long = path(&"a".repeat(length));
                let once = || {
                    let begun = Instant::now();
                    list.ignores(&long);
                    begun.elapsed()
                };
                (0..3).map(|_| once()).min().unwrap()
            };
            let (half, whole) = (time(2000), time(4000));
            assert!(whole < half * 5 + Duration::from_millis(50), "{pattern}: {half:?}, {whole:?}");
            assert!(whole < Duration::from_secs(5), "{pattern}: {whole:?}");
        }
    }

    #[test]
    fn the_default_list_is_a_small_regular_file() {
        use crate::archive::tests::Server;
        let server = Server::new(None);
        let read = || DefaultList::read(&server.tree);
        assert!(read().list.is_empty() && read().note.is_none());
        server.put(".pteroignore", "old");
        assert!(read().list.ignores(&path("old")));
        server.put(".pelicanignore", "new");
        assert!(read().list.ignores(&path("new")) && !read().list.ignores(&path("old")));
        for bad in ["*".repeat(17), "#".repeat(MAX_BYTES + 1)] {
            server.put(".pelicanignore", bad);
            assert!(read().list.is_empty() && read().note.unwrap().starts_with(".pelicanignore"));
        }
        std::fs::remove_file(server.path(".pelicanignore")).unwrap();
        std::os::unix::fs::symlink(".pteroignore", server.path(".pelicanignore")).unwrap();
        assert!(read().list.is_empty() && read().note.unwrap().contains("regular"));
    }
}
