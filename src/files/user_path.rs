//! A path that a user names, as normalised text below the server's directory.
//!
//! Text only: what is there is resolved by the kernel when an operation begins (`tree/location.rs`). The bytes need not be UTF-8.

use std::ffi::OsStr;
use std::fmt::{self, Display, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// The longest path of the kernel, in bytes with its end.
const MAX_BYTES: usize = 4096;

/// The longest path in a message, in characters.
const MAX_SHOWN: usize = 300;

/// A path below the server's directory: no `..`, no NUL, no empty names. Empty is the directory itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserPath(PathBuf);

/// Why a text is no path below the server's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum PathError {
    #[error("bad path resolution: the path leads out of the server's directory")]
    Outside,
    #[error("the path contains a NUL")]
    Nul,
    #[error("the path is longer than {MAX_BYTES} bytes")]
    TooLong,
}

/// What `..` at the server's directory means.
#[derive(Debug, Clone, Copy)]
enum Above {
    Error,
    Stays,
}

impl UserPath {
    /// The server's directory itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// Reads a path, absolute or not, from the server's directory.
    ///
    /// # Errors
    /// It leads above the server's directory, contains a NUL, or is too long.
    pub fn parse(text: &OsStr) -> Result<Self, PathError> {
        Self::root().join(text, Above::Error)
    }

    /// As [`parse`](Self::parse), but `..` in the server's directory stays there.
    ///
    /// # Errors
    /// The text contains a NUL, or is too long.
    pub fn clamped(text: &OsStr) -> Result<Self, PathError> {
        Self::root().join(text, Above::Stays)
    }

    /// A path that is meant from this directory; an absolute one, too. `..` leads up to the server's directory and no further.
    ///
    /// # Errors
    /// The text contains a NUL, or is too long.
    pub fn join_clamped(&self, text: &OsStr) -> Result<Self, PathError> {
        self.clone().join(text, Above::Stays)
    }

    /// A path of names only, such as one of an entry in this directory.
    pub fn child(&self, name: &OsStr) -> Self {
        Self(self.0.join(name))
    }

    /// Whether this is the server's directory itself.
    pub fn is_root(&self) -> bool {
        self.0.as_os_str().is_empty()
    }

    /// The last name; `None` for the server's directory.
    pub fn name(&self) -> Option<&OsStr> {
        self.0.file_name()
    }

    /// The directory that contains it; `None` for the server's directory.
    pub fn parent(&self) -> Option<Self> {
        self.0.parent().map(|parent| Self(parent.to_owned()))
    }

    /// The number of names.
    pub fn depth(&self) -> usize {
        self.0.components().count()
    }

    /// The path relative to the server's directory; empty for the directory itself.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// The bytes of [`as_path`](Self::as_path).
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_os_str().as_bytes()
    }

    /// The path with the server's directory as `/`.
    pub fn absolute(&self) -> PathBuf {
        Path::new("/").join(&self.0)
    }

    /// Whether this is `other`, or below it.
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// Adds a name.
    pub(super) fn push(&mut self, name: &OsStr) {
        self.0.push(name);
    }

    /// Removes the last name; whether there was one.
    pub(super) fn pop(&mut self) -> bool {
        self.0.pop()
    }

    fn join(mut self, text: &OsStr, above: Above) -> Result<Self, PathError> {
        if text.as_bytes().contains(&0) {
            return Err(PathError::Nul);
        }
        if text.len() >= MAX_BYTES {
            return Err(PathError::TooLong);
        }
        for component in Path::new(text).components() {
            match (component, above) {
                (Component::Normal(name), _) => self.0.push(name),
                (Component::ParentDir, Above::Stays) => {
                    self.0.pop();
                }
                (Component::ParentDir, Above::Error) => {
                    if !self.0.pop() {
                        return Err(PathError::Outside);
                    }
                }
                (Component::CurDir | Component::RootDir | Component::Prefix(_), _) => {}
            }
        }
        match self.0.as_os_str().len() < MAX_BYTES {
            true => Ok(self),
            false => Err(PathError::TooLong),
        }
    }
}

/// As [`UserPath::absolute`], on one line and cut.
impl Display for UserPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('/')?;
        for (count, char) in self.0.to_string_lossy().chars().enumerate() {
            match char {
                _ if count == MAX_SHOWN => return f.write_char('…'),
                char if char.is_control() => write!(f, "{}", char.escape_default())?,
                char => f.write_char(char)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, PathError> {
        UserPath::parse(OsStr::new(text)).map(|path| path.to_string())
    }

    fn clamped(text: &str) -> String {
        UserPath::clamped(OsStr::new(text)).unwrap().to_string()
    }

    #[test]
    fn texts_are_normalised() {
        for (text, expected) in
            [("", "/"), ("/", "/"), (".", "/"), ("a/b", "/a/b"), ("//a/./b//", "/a/b"), ("a/../b", "/b"), ("a/..", "/")]
        {
            assert_eq!(parse(text).as_deref(), Ok(expected), "{text}");
            assert_eq!(clamped(text), expected, "{text}");
        }
    }

    #[test]
    fn above_the_root_is_an_error_or_the_root() {
        for text in ["..", "/..", "a/../..", "../a", "/../../etc/passwd"] {
            assert_eq!(parse(text), Err(PathError::Outside), "{text}");
        }
        assert_eq!(clamped("../../etc/passwd"), "/etc/passwd");
        assert_eq!(clamped("a/../../../b"), "/b");
        let folder = UserPath::parse(OsStr::new("a/b")).unwrap();
        let join = |text: &str| folder.join_clamped(OsStr::new(text)).unwrap().to_string();
        assert_eq!((join("../c"), join("/c"), join("../../../c")), ("/a/c".into(), "/a/b/c".into(), "/c".into()));
    }

    #[test]
    fn nul_and_long_texts_are_errors() {
        assert_eq!(parse("a\0b"), Err(PathError::Nul));
        assert_eq!(parse(&"a/".repeat(3000)), Err(PathError::TooLong));
        let long = UserPath::parse(OsStr::new(&"a".repeat(4000))).unwrap();
        assert_eq!(long.join_clamped(OsStr::new(&"b".repeat(200))), Err(PathError::TooLong));
    }

    #[test]
    fn odd_bytes_are_kept_and_shown_on_one_line() {
        let path = UserPath::parse(OsStr::from_bytes(b"a\n\xff")).unwrap();
        assert_eq!(path.as_bytes(), b"a\n\xff");
        assert_eq!(path.to_string(), "/a\\n\u{fffd}");
        assert_eq!(UserPath::parse(OsStr::new(&"ä".repeat(400))).unwrap().to_string().chars().count(), 302);
    }

    #[test]
    fn names_and_parents() {
        let path = UserPath::parse(OsStr::new("a/b/c")).unwrap();
        assert_eq!((path.name(), path.depth()), (Some(OsStr::new("c")), 3));
        assert_eq!(path.parent().unwrap().to_string(), "/a/b");
        assert_eq!((UserPath::root().name(), UserPath::root().parent()), (None, None));
        assert!(path.is_within(&path.parent().unwrap()) && path.is_within(&path) && path.is_within(&UserPath::root()));
        assert!(!UserPath::parse(OsStr::new("a/bc")).unwrap().is_within(&path.parent().unwrap()));
    }

    proptest::proptest! {
        #[test]
        fn no_text_leads_out(bytes in proptest::collection::vec(proptest::prelude::prop_oneof![
            2 => proptest::prelude::Just(b'/'), 2 => proptest::prelude::Just(b'.'), 1 => proptest::prelude::any::<u8>(),
        ], 0..64), above in proptest::collection::vec(proptest::prelude::Just(b'.'), 0..3)) {
            let base = UserPath::clamped(OsStr::from_bytes(&above)).unwrap();
            let text = OsStr::from_bytes(&bytes);
            for path in [UserPath::parse(text), UserPath::clamped(text), base.join_clamped(text)].into_iter().flatten() {
                let plain = |component| matches!(component, Component::Normal(_));
                assert!(path.as_path().components().all(plain) && !path.as_bytes().contains(&0), "{path:?}");
                assert_eq!(path.as_bytes(), UserPath::parse(path.as_path().as_os_str()).unwrap().as_bytes());
            }
        }
    }
}
