//! Image references, as far as the daemon has to parse them.

use serde::{Deserialize, Deserializer};

/// The registry of a reference that names none.
pub const DEFAULT_REGISTRY: &str = "docker.io";

/// A reference without the white space around it and after a leading `~`, which no engine accepts. Published eggs have some.
pub fn trimmed(reference: &str) -> String {
    let reference = reference.trim();
    match reference.strip_prefix('~') {
        Some(local) => format!("~{}", local.trim_start()),
        None => reference.to_owned(),
    }
}

/// Whether two references name the same image. Podman returns the canonical spelling of those that it is given.
pub fn is_same(one: &str, other: &str) -> bool {
    let canonical = |reference| Some(ImageReference::parse(reference)?.canonical());
    one == other || canonical(one).is_some_and(|one| canonical(other) == Some(one))
}

/// Reads a reference as [`trimmed`].
///
/// # Errors
/// The value is not a text.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    String::deserialize(deserializer).map(|reference| trimmed(&reference))
}

/// A parsed reference: `[registry/]path[:tag][@digest]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageReference<'a> {
    /// Registry and path as written.
    pub name: &'a str,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

impl<'a> ImageReference<'a> {
    /// Parses a reference; `None` if no engine would accept it. Less strict than engines, and strict enough for a part of a URL's
    /// path.
    pub fn parse(text: &'a str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@[]+".contains(&byte);
        let segments = |text: &str| text.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
        if !text.bytes().all(allowed) || !segments(text) || text.len() > 1024 {
            return None;
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        // A colon before the last slash separates a port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        let complete = |part: Option<&str>| part.is_none_or(|part| !part.is_empty() && !part.contains('@'));
        (!name.is_empty() && complete(tag) && complete(digest)).then_some(Self { name, tag, digest })
    }

    /// The digest, the tag, or `latest`: without any of them an engine would pull all tags.
    pub fn version(&self) -> &'a str {
        self.digest.or(self.tag).unwrap_or("latest")
    }

    /// The registry's host, with its port if there is one.
    pub fn registry(&self) -> &'a str {
        match self.name.split_once('/') {
            Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
            _ => DEFAULT_REGISTRY,
        }
    }

    /// The image's name at its registry, as written.
    pub fn path(&self) -> &'a str {
        self.name.strip_prefix(self.registry()).and_then(|path| path.strip_prefix('/')).unwrap_or(self.name)
    }

    /// The full path: Docker Hub's own images are below `library/`.
    pub fn full_path(&self) -> String {
        let library = if self.registry() == DEFAULT_REGISTRY && !self.path().contains('/') { "library/" } else { "" };
        format!("{library}{}", self.path())
    }

    /// The canonical spelling: equal for all references of the same image.
    pub fn canonical(&self) -> String {
        let separator = if self.digest.is_some() { '@' } else { ':' };
        format!("{}/{}{separator}{}", self.registry(), self.full_path(), self.version())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_around_a_reference_is_removed() {
        for (text, expected) in [
            ("busybox", "busybox"),
            (" busybox:1\t", "busybox:1"),
            ("busybox:1\r\n", "busybox:1"),
            ("\u{a0}busybox", "busybox"),
            ("~ local/game:1", "~local/game:1"),
            (" ~\tlocal/game:1 \n", "~local/game:1"),
            ("~", "~"),
            (" \t", ""),
        ] {
            assert_eq!(trimmed(text), expected, "{text:?}");
        }
    }

    #[test]
    fn references_of_the_same_image_have_one_canonical_spelling() {
        let canonical = |text| ImageReference::parse(text).map(|reference| reference.canonical());
        for (text, expected) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("library/busybox:1.36", "docker.io/library/busybox:1.36"),
            ("docker.io/library/busybox", "docker.io/library/busybox:latest"),
            ("docker.io/busybox", "docker.io/library/busybox:latest"),
            ("pelican/yolks:java_21", "docker.io/pelican/yolks:java_21"),
            ("ghcr.io/pelican-eggs/yolks:java_21", "ghcr.io/pelican-eggs/yolks:java_21"),
            ("127.0.0.1:1/a/b:c", "127.0.0.1:1/a/b:c"),
            ("127.0.0.1:1/a/b", "127.0.0.1:1/a/b:latest"),
            ("localhost/a", "localhost/a:latest"),
            ("a@sha256:0f", "docker.io/library/a@sha256:0f"),
            ("a:tag@sha256:0f", "docker.io/library/a@sha256:0f"),
        ] {
            assert_eq!(canonical(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn an_image_is_the_same_in_its_short_and_its_canonical_spelling() {
        assert!(is_same("busybox", "docker.io/library/busybox:latest") && is_same("a/b:1", "docker.io/a/b:1"));
        assert!(!is_same("a/b:1", "a/b:2") && !is_same("a/b:1", "ghcr.io/a/b:1"));
        assert!(is_same("no image!", "no image!") && !is_same("no image!", "another!"));
    }

    #[test]
    fn invalid_references() {
        for text in
            ["", "a b", "../info", "a/../../info", "a?b", "a#b", "/a", "a/", "a//b", "a:", "a@", ":a", "a%2e", "ä"]
        {
            assert_eq!(ImageReference::parse(text), None, "{text}");
        }
        assert_eq!(ImageReference::parse(&"a".repeat(2000)), None);
    }

    #[test]
    fn a_reference_is_split_into_parts() {
        let parts = |text| {
            let reference: ImageReference<'static> = ImageReference::parse(text).unwrap();
            (reference.name, reference.version(), reference.registry(), reference.path())
        };
        assert_eq!(parts("a/b"), ("a/b", "latest", "docker.io", "a/b"));
        assert_eq!(parts("docker.io/b"), ("docker.io/b", "latest", "docker.io", "b"));
        assert_eq!(parts("r.io:5000/b:c"), ("r.io:5000/b", "c", "r.io:5000", "b"));
        assert_eq!(parts("r.io/b:c@sha256:0f"), ("r.io/b", "sha256:0f", "r.io", "b"));
    }
}
