//! The files that an egg keeps from its users: rules like those of a `.gitignore`.
//!
//! Matched against resolved paths, in linear time. Source: `filesystem.md` § 3; its rules differ from git's.

use std::sync::LazyLock;

use regex::Regex as TextRegex;
use regex::bytes::{Regex, RegexBuilder};

use super::user_path::UserPath;

/// The size of a compiled rule, in bytes. A larger one is dropped.
const MAX_COMPILED: usize = 1 << 18;

/// The memory in which the matcher of a rule keeps its states, in bytes. Rules that need more are matched more slowly.
const MAX_CACHED: usize = 2 << 20;

/// What a rule of a user may take, as memory and as time for each byte of a path: this, and more for each byte of its text.
const USER_COMPILED: (usize, usize) = (4 << 10, 64);
const USER_CACHED: usize = 64 << 10;

/// The rules of an egg. Without rules nothing is denied.
#[derive(Debug, Clone, Default)]
pub struct Denylist {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    pattern: Regex,
    /// Whether it allows what an earlier one denies.
    allows: bool,
}

impl Denylist {
    /// Reads rules, one in each line. Empty lines, comments, and lines that are no pattern are dropped.
    pub fn new<S: AsRef<str>>(lines: impl IntoIterator<Item = S>) -> Self {
        let rules = lines.into_iter();
        Self { rules: rules.filter_map(|line| rule(line.as_ref(), |_| MAX_COMPILED, MAX_CACHED)).collect() }
    }

    /// As [`new`](Self::new), for rules that a user writes: those out of proportion to their text are dropped.
    pub fn of_user<S: AsRef<str>>(lines: impl IntoIterator<Item = S>) -> Self {
        let size = |length| USER_COMPILED.0 + USER_COMPILED.1 * length;
        Self { rules: lines.into_iter().filter_map(|line| rule(line.as_ref(), size, USER_CACHED)).collect() }
    }

    /// Whether it denies nothing.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether a path is denied: the last rule that matches counts.
    pub fn denies(&self, path: &UserPath) -> bool {
        self.matches(path.as_bytes())
    }

    /// Whether a directory is denied with what is in it, as far as no rule allows something below: also by a rule that ends in `/`.
    pub fn denies_directory(&self, path: &UserPath) -> bool {
        !path.is_root() && self.matches(&[path.as_bytes(), b"/"].concat())
    }

    /// Whether a rule allows what an earlier one denies.
    pub fn has_exceptions(&self) -> bool {
        self.rules.iter().any(|rule| rule.allows)
    }

    fn matches(&self, path: &[u8]) -> bool {
        let last = self.rules.iter().rev().find(|rule| rule.pattern.is_match(path));
        !path.is_empty() && last.is_some_and(|rule| !rule.allows)
    }
}

/// Whether a line has a rule: it is neither empty nor a comment.
pub fn is_rule(line: &str) -> bool {
    let line = trimmed(line);
    !line.is_empty() && !line.starts_with('#')
}

fn trimmed(line: &str) -> &str {
    line.trim_end_matches('\r').trim_matches(' ')
}

fn rule(line: &str, max_compiled: impl Fn(usize) -> usize, max_cached: usize) -> Option<Rule> {
    if !is_rule(line) {
        return None;
    }
    let line = trimmed(line);
    let (allows, line) = match line.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let line = line.strip_prefix('\\').filter(|rest| rest.starts_with(['#', '!'])).unwrap_or(line);
    // Without Unicode a name of any bytes is matched.
    let pattern = RegexBuilder::new(&expression(line))
        .unicode(false)
        .dot_matches_new_line(true)
        .size_limit(max_compiled(line.len()))
        .dfa_size_limit(max_cached)
        .build()
        .ok()?;
    Some(Rule { pattern, allows })
}

/// A pattern as a regular expression. What is special in one and not in a pattern (`+ ( ) [ ] | $`) stays so.
fn expression(line: &str) -> String {
    /// `x/…*.`, which counts from the top.
    static NESTED: LazyLock<Option<TextRegex>> = LazyLock::new(|| TextRegex::new(r"[^/+]/.*\*\.").ok());
    /// Stands for `*` of the expression while those of the pattern are replaced.
    const STAR: &str = "\u{0}";

    let nested = NESTED.as_ref().is_some_and(|nested| nested.is_match(line));
    let anchored = line.starts_with('/') || nested;
    let line = line.strip_prefix('/').unwrap_or(line).replace('.', r"\.");
    let line = match anchored && line.starts_with("**/") {
        true => line.replacen("**/", &format!("(|.{STAR}/)"), 1),
        false => line,
    };
    let line = line.replace("/**/", "(/|/.+/)");
    let line = line.replace("**/", &format!("(|.{STAR}/)")).replace("/**", &format!("(|/.{STAR})"));
    let line = line.replace(r"\*", &format!(r"\{STAR}")).replace('*', &format!("([^/]{STAR})"));
    let line = line.replace('?', r"\?").replace(STAR, "*");
    let below = if line.ends_with('/') { "(|.*)" } else { "(|/.*)" };
    let above = if anchored { "" } else { "(|.*/)" };
    format!("^{above}{line}{below}$")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::time::Instant;

    use super::*;

    fn denies(rules: &[&str], path: &str) -> bool {
        Denylist::new(rules).denies(&UserPath::clamped(OsStr::new(path)).unwrap())
    }

    #[test]
    fn the_rules_that_were_observed() {
        let rules = ["*.secret", "/rootonly.txt", "denied/", "server.jar", "!keep.secret"];
        for path in
            ["x.secret", "/a/x.secret", "server.jar/x", "../server.jar", "rootonly.txt", "denied/x", "a/denied/x/y"]
        {
            assert!(denies(&rules, path), "{path}");
        }
        for path in ["sub/rootonly.txt", "keep.secret", "denied", "other", "", "server.jars", "xserver.jar"] {
            assert!(!denies(&rules, path), "{path}");
        }
    }

    #[test]
    fn stars_and_other_characters() {
        for (rule, path, expected) in [
            ("a/**/b", "a/b", true),
            ("a/**/b", "a/x/y/b", true),
            ("a/**/b", "a/xb", false),
            ("**/logs", "logs", true),
            ("**/logs", "a/b/logs/x", true),
            ("/**/logs", "a/logs", true),
            ("logs/**", "logs", true),
            ("logs/**", "logs/a/b", true),
            ("a*c", "abc", true),
            ("a*c", "a/c", false),
            ("a?c", "abc", false),
            ("a?c", "a?c", true),
            ("a.c", "abc", false),
            ("foo/*.txt", "foo/a.txt", true),
            ("foo/*.txt", "x/foo/a.txt", false),
            ("foo/bar", "x/foo/bar", true),
            ("[ab].txt", "b.txt", true),
            ("(x|y)", "y", true),
            ("# comment", "# comment", false),
            (r"\#name", "#name", true),
            (r"\!name", "!name", true),
            ("  blanks  ", "blanks", true),
            ("(", "(", false),
            ("", "anything", false),
        ] {
            assert_eq!(denies(&[rule], path), expected, "{rule} {path}");
        }
        assert!(!denies(&["*.key", "!public.key"], "a/public.key") && denies(&["!a", "a"], "a"));
    }

    #[test]
    fn names_of_any_bytes_are_matched() {
        let list = Denylist::new(["*.key", "/top/*"]);
        for path in [&b"a\n.key"[..], b"\xff\xfe.key", b"x\ny/b.key", b"top/\xc3"] {
            assert!(list.denies(&UserPath::clamped(OsStr::from_bytes(path)).unwrap()), "{path:?}");
        }
        assert!(Denylist::new(["ä.txt"]).denies(&UserPath::clamped(OsStr::new("ä.txt")).unwrap()));
    }

    #[test]
    fn a_hostile_rule_takes_linear_time() {
        let begun = Instant::now();
        let rule = "*a".repeat(40) + "b";
        denies(&[&rule, "((a*)*)*b", &"(a{1000}){1000}".repeat(10)], &"a".repeat(4000));
        assert!(begun.elapsed().as_secs() < 5);
    }
}
