//! One source file: its module, its tokens, and the paths that it names.

use std::collections::BTreeSet;
use std::path::Path;

/// A file below `src/`.
pub struct Source {
    /// Path from the project's folder.
    pub path: String,
    tokens: Vec<Token>,
    opens_with_a_doc: bool,
}

/// A path that is named somewhere, without its `crate::`.
pub struct Named {
    /// Segments joined by `::`.
    pub path: String,
    /// Line, from 1.
    pub line: usize,
    /// It stands in code of tests.
    pub in_test: bool,
}

struct Token {
    text: String,
    line: usize,
    /// Names of the inline modules around it.
    inside: Vec<String>,
}

impl Source {
    /// Every Rust file below `src/`.
    pub fn read_all(project: &Path) -> Vec<Self> {
        let mut sources = Vec::new();
        let mut folders = vec![project.join("src")];
        while let Some(folder) = folders.pop() {
            for item in std::fs::read_dir(folder).unwrap() {
                let path = item.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let name = path.strip_prefix(project).unwrap().to_str().unwrap().to_owned();
                    sources.push(Self::new(name, &std::fs::read_to_string(&path).unwrap()));
                }
            }
        }
        sources.sort_by(|one, other| one.path.cmp(&other.path));
        sources
    }

    /// A file with this text.
    pub fn new(path: String, text: &str) -> Self {
        let tokens = with_modules(tokens(text));
        Self { path, tokens, opens_with_a_doc: text.starts_with("//!") }
    }

    /// Names of the modules that the file is in, from the crate's root; none for the root itself.
    pub fn module(&self) -> Vec<String> {
        let name = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        match name {
            "lib" | "main" => Vec::new(),
            name => name.split('/').map(str::to_owned).collect(),
        }
    }

    /// Whether the whole file is code of tests.
    pub fn is_test_file(&self) -> bool {
        self.module().iter().any(|name| name == "tests")
    }

    /// Whether its first line is a `//!`.
    pub fn opens_with_a_doc(&self) -> bool {
        self.opens_with_a_doc
    }

    /// The lines on which a word stands, outside of comments and literals.
    pub fn lines_of(&self, token: &str) -> Vec<usize> {
        self.tokens.iter().filter(|found| found.text == token).map(|found| found.line).collect()
    }

    /// Paths into the crate, from its root: those that begin with `crate::`, `self::` or `super::`.
    pub fn imports(&self) -> Vec<Named> {
        let mut found = Vec::new();
        for at in 0..self.tokens.len() {
            let token = &self.tokens[at];
            let begins = at == 0 || self.tokens[at - 1].text != "::";
            if !begins || self.text(at + 1) != "::" {
                continue;
            }
            let mut around: Vec<String> = self.module().into_iter().chain(token.inside.iter().cloned()).collect();
            let mut end = at + 1;
            match token.text.as_str() {
                "crate" => around.clear(),
                "self" => {}
                "super" => {
                    around.pop();
                    while self.text(end + 1) == "super" {
                        around.pop();
                        end += 2;
                    }
                }
                _ => continue,
            }
            found.extend(self.branches(end, &around.join("::"), token));
        }
        found
    }

    /// The paths of the file's `use` lines by the names that they give, where these are not changed by `as`.
    pub fn uses(&self) -> Vec<(String, String)> {
        let mut lines = BTreeSet::new();
        for at in (0..self.tokens.len()).filter(|at| self.text(*at) == "use") {
            let end = self.tokens[at..].iter().find(|token| token.text == ";").unwrap_or(&self.tokens[at]);
            lines.extend(self.tokens[at].line..=end.line);
        }
        let paths = self.imports().into_iter().chain(self.external_paths()).filter(|path| lines.contains(&path.line));
        paths.filter_map(|named| Some((named.path.rsplit("::").next()?.to_owned(), named.path))).collect()
    }

    /// Paths that begin with the name of a crate (or of anything else that is followed by `::`).
    pub fn external_paths(&self) -> Vec<Named> {
        let mut found = Vec::new();
        for at in 0..self.tokens.len() {
            let token = &self.tokens[at];
            let begins = at == 0 || !matches!(self.tokens[at - 1].text.as_str(), "::" | ".");
            let own = matches!(token.text.as_str(), "crate" | "super" | "self" | "Self");
            if begins && !own && is_name(&token.text) && self.text(at + 1) == "::" && !self.is_in_group(at) {
                found.extend(self.branches(at + 1, &token.text, token));
            }
        }
        found
    }

    /// Whether a token stands in the braces of a `use`: then it is no beginning of a path.
    fn is_in_group(&self, at: usize) -> bool {
        let mut open = 0;
        for before in (0..at).rev() {
            match self.tokens[before].text.as_str() {
                "}" => open += 1,
                "{" if open > 0 => open -= 1,
                "{" => return before > 0 && self.tokens[before - 1].text == "::",
                ";" => return false,
                _ => {}
            }
        }
        false
    }

    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| &token.text)
    }

    /// The paths that go on at `at`, which should be a `::`; several where braces follow.
    fn branches(&self, mut at: usize, begun: &str, first: &Token) -> Vec<Named> {
        let mut path = begun.to_owned();
        let in_test = self.is_test_file() || first.inside.iter().any(|name| name == "tests");
        while self.text(at) == "::" {
            let next = self.text(at + 1);
            if next == "{" {
                return self.group(at + 2, &path, first);
            }
            if !is_name(next) {
                break;
            }
            if !path.is_empty() {
                path.push_str("::");
            }
            path.push_str(next);
            at += 2;
        }
        if path.is_empty() { Vec::new() } else { vec![Named { path, line: first.line, in_test }] }
    }

    /// Each member of a brace group.
    fn group(&self, mut at: usize, path: &str, first: &Token) -> Vec<Named> {
        let mut found = Vec::new();
        let mut depth = 0;
        let mut member = true;
        while at < self.tokens.len() {
            match self.text(at) {
                "}" if depth == 0 => break,
                "{" => depth += 1,
                "}" => depth -= 1,
                "," if depth == 0 => member = true,
                name if member && is_name(name) => {
                    member = false;
                    let begun = match (path, name) {
                        (path, "self") => path.to_owned(),
                        ("", name) => name.to_owned(),
                        (path, name) => format!("{path}::{name}"),
                    };
                    found.extend(self.branches(at + 1, &begun, first));
                }
                _ => {}
            }
            at += 1;
        }
        found
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names, `::`, and single other characters; no comments, no literals.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let (mut at, mut line) = (0, 1);
    let mut tokens = Vec::new();
    let starts = |at: usize, with: &str| with.chars().enumerate().all(|(offset, c)| chars.get(at + offset) == Some(&c));
    while at < chars.len() {
        let begin = at;
        let c = chars[at];
        if starts(at, "//") {
            at = (at..chars.len()).find(|at| chars[*at] == '\n').unwrap_or(chars.len());
        } else if starts(at, "/*") {
            at = end_of_comment(&chars, at);
        } else if let Some(end) = end_of_raw_string(&chars, at) {
            at = end;
        } else if c == '"' {
            at = end_of_string(&chars, at);
        } else if c == '\'' {
            at = end_of_quote(&chars, at);
        } else if c.is_alphanumeric() || c == '_' {
            at = (at..chars.len())
                .find(|at| !(chars[*at].is_alphanumeric() || chars[*at] == '_'))
                .unwrap_or(chars.len());
            tokens.push(Token { text: chars[begin..at].iter().collect(), line, inside: Vec::new() });
        } else if starts(at, "::") {
            at += 2;
            tokens.push(Token { text: "::".into(), line, inside: Vec::new() });
        } else {
            at += 1;
            if !c.is_whitespace() {
                tokens.push(Token { text: c.into(), line, inside: Vec::new() });
            }
        }
        line += chars[begin..at].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

/// Block comments nest.
fn end_of_comment(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The end of `r"…"`, `r#"…"#`, `br"…"`, if one begins here.
fn end_of_raw_string(chars: &[char], at: usize) -> Option<usize> {
    if at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_') {
        return None;
    }
    let mut next = at;
    if chars.get(next) == Some(&'b') {
        next += 1;
    }
    if chars.get(next) != Some(&'r') {
        return None;
    }
    next += 1;
    let hashes = chars[next..].iter().take_while(|c| **c == '#').count();
    next += hashes;
    if chars.get(next) != Some(&'"') {
        return None;
    }
    let close: Vec<char> = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    let end = (next + 1..chars.len()).find(|end| chars[*end..].starts_with(&close));
    Some(end.map_or(chars.len(), |end| end + close.len()))
}

fn end_of_string(chars: &[char], mut at: usize) -> usize {
    at += 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// The end of a character literal, or of the `'` of a lifetime.
fn end_of_quote(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => (at + 3..chars.len()).find(|end| chars[*end] == '\'').map_or(chars.len(), |end| end + 1),
        (Some(_), Some('\'')) => at + 3,
        _ => at + 1,
    }
}

/// Notes for each token in which inline modules it stands.
fn with_modules(mut tokens: Vec<Token>) -> Vec<Token> {
    let mut depth = 0;
    let mut open: Vec<(usize, String)> = Vec::new();
    for at in 0..tokens.len() {
        match tokens[at].text.as_str() {
            "{" => {
                if at >= 2 && tokens[at - 2].text == "mod" && is_name(&tokens[at - 1].text) {
                    open.push((depth, tokens[at - 1].text.clone()));
                }
                depth += 1;
            }
            "}" => {
                depth -= 1;
                if open.last().is_some_and(|(opened, _)| *opened == depth) {
                    open.pop();
                }
            }
            _ => {}
        }
        tokens[at].inside = open.iter().map(|(_, name)| name.clone()).collect();
    }
    tokens
}
