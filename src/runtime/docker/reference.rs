//! References to images, as far as we have to understand them.

/// The registry that a reference without one means.
const DEFAULT_DOMAIN: &str = "docker.io";
/// How credentials name that registry.
const DEFAULT_AUTH_SERVER: &str = "https://index.docker.io/v1/";

/// A reference in its parts: `[domain/]path[:tag][@digest]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference<'a> {
    /// Domain and path, as they are written.
    pub name: &'a str,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

impl<'a> Reference<'a> {
    /// Reads a reference; `None` for what no engine would accept. Less strict than engines are, but strict enough
    /// to be a part of a URL's path.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@[]+".contains(&byte);
        let segments = |text: &str| text.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
        if !text.bytes().all(allowed) || !segments(text) || text.len() > 1024 {
            return None;
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        // A colon before the last slash belongs to a port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        let whole = |part: Option<&str>| part.is_none_or(|part| !part.is_empty() && !part.contains('@'));
        (!name.is_empty() && whole(tag) && whole(digest)).then_some(Self { name, tag, digest })
    }

    /// What is asked for of the name: the digest, the tag, or `latest`. Without any, an engine would fetch all tags.
    pub(super) fn version(&self) -> &'a str {
        self.digest.or(self.tag).unwrap_or("latest")
    }

    /// The registry's host.
    fn domain(&self) -> &'a str {
        match self.name.split_once('/') {
            Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => first,
            _ => DEFAULT_DOMAIN,
        }
    }

    /// How credentials for this image name its registry.
    pub(super) fn auth_server(&self) -> &'a str {
        match self.domain() {
            DEFAULT_DOMAIN => DEFAULT_AUTH_SERVER,
            domain => domain,
        }
    }

    /// The one spelling of all that mean the same image.
    pub(super) fn canonical(&self) -> String {
        let domain = self.domain();
        let path = self.name.strip_prefix(domain).and_then(|path| path.strip_prefix('/')).unwrap_or(self.name);
        let library = if domain == DEFAULT_DOMAIN && !path.contains('/') { "library/" } else { "" };
        let separator = if self.digest.is_some() { '@' } else { ':' };
        format!("{domain}/{library}{path}{separator}{}", self.version())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_image() {
        let canonical = |text| Reference::parse(text).map(|reference| reference.canonical());
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
    fn what_is_no_reference() {
        for text in
            ["", "a b", "../info", "a/../../info", "a?b", "a#b", "/a", "a/", "a//b", "a:", "a@", ":a", "a%2e", "ä"]
        {
            assert_eq!(Reference::parse(text), None, "{text}");
        }
        assert_eq!(Reference::parse(&"a".repeat(2000)), None);
    }

    #[test]
    fn parts() {
        let parts = |text| {
            let reference: Reference<'static> = Reference::parse(text).unwrap();
            (reference.name, reference.version(), reference.auth_server())
        };
        assert_eq!(parts("a/b"), ("a/b", "latest", "https://index.docker.io/v1/"));
        assert_eq!(parts("r.io:5000/b:c"), ("r.io:5000/b", "c", "r.io:5000"));
        assert_eq!(parts("r.io/b:c@sha256:0f"), ("r.io/b", "sha256:0f", "r.io"));
    }
}
