//! Credentials for image registries, and which of them apply to an image.

use std::collections::BTreeMap;

use super::file::RegistryFile;
use crate::model::image::{DEFAULT_REGISTRY, ImageReference};

/// The registries of the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Registries {
    /// The longest scope first.
    entries: Vec<(Scope, RegistryFile)>,
}

/// A registry, or a path on one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Scope {
    host: String,
    /// Without slashes at its ends; empty for the whole registry.
    path: String,
}

impl Registries {
    pub(super) fn resolve(file: BTreeMap<String, RegistryFile>) -> Self {
        let used = |account: &RegistryFile| !account.username.is_empty() || !account.password.is_empty();
        let mut entries: Vec<_> = file.into_iter().map(|(name, account)| (Scope::parse(&name), account)).collect();
        entries.retain(|(_, account)| used(account));
        entries.sort_by_key(|(scope, _)| std::cmp::Reverse(scope.host.len() + scope.path.len()));
        Self { entries }
    }

    /// The account for an image: the one with the longest scope that contains the image.
    ///
    /// `image` is a reference from the panel, with or without tag, digest and leading `~`.
    pub fn credentials_for(&self, image: &str) -> Option<&RegistryFile> {
        let image = image.trim();
        let image = ImageReference::parse(image.strip_prefix('~').unwrap_or(image))?;
        let host = canonical_host(image.registry());
        let path = if host == DEFAULT_REGISTRY { image.full_path() } else { image.path().to_owned() };
        let found = self.entries.iter().find(|(scope, _)| scope.host == host && scope.contains(&path));
        found.map(|(_, account)| account)
    }
}

impl Scope {
    /// Parses the name of an entry: a host, `host/path`, or a URL.
    fn parse(name: &str) -> Self {
        let name = name.trim();
        let (scheme, rest) = name.split_once("://").unwrap_or(("", name));
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let host = match scheme {
            "https" => host.strip_suffix(":443").unwrap_or(host),
            _ => host,
        };
        // `docker login` names Docker Hub with the version of its API.
        let path = match path.trim_matches('/') {
            "v1" | "v2" => "",
            path => path,
        };
        Self { host: canonical_host(host), path: path.to_owned() }
    }

    /// Whether the scope is the whole registry, or its path consists of the first segments of `path`.
    fn contains(&self, path: &str) -> bool {
        match path.strip_prefix(self.path.as_str()) {
            Some(rest) => self.path.is_empty() || rest.is_empty() || rest.starts_with('/'),
            None => false,
        }
    }
}

fn canonical_host(host: &str) -> String {
    match host.to_ascii_lowercase().as_str() {
        "" | "index.docker.io" | "registry-1.docker.io" | "registry.hub.docker.com" | "hub.docker.com" => {
            DEFAULT_REGISTRY.to_owned()
        }
        host => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registries(names: &[&str]) -> Registries {
        let account =
            |name: &&str| (name.to_string(), RegistryFile { username: name.to_string(), ..Default::default() });
        Registries::resolve(names.iter().map(account).collect())
    }

    #[test]
    fn the_account_for_an_image() {
        let cases: &[(&[&str], &str, Option<&str>)] = &[
            (&[], "ghcr.io/a/b", None),
            (&["ghcr.io"], "ghcr.io/a/b:1", Some("ghcr.io")),
            (&["ghcr.io"], "~ghcr.io/a/b", Some("ghcr.io")),
            (&["GHCR.io"], "ghcr.io/a/b@sha256:00", Some("GHCR.io")),
            (&["ghcr.io"], "ghcr.io.evil.example/a/b", None),
            (&["ghcr.io"], "evil.example/ghcr.io/a", None),
            (&["ghcr.io"], "nginx", None),
            (&["https://ghcr.io"], "ghcr.io/a/b", Some("https://ghcr.io")),
            (&["https://ghcr.io:443/"], "ghcr.io/a/b", Some("https://ghcr.io:443/")),
            (&["https://ghcr.io/v2/"], "ghcr.io/a/b", Some("https://ghcr.io/v2/")),
            // Docker Hub under its names.
            (&["docker.io"], "nginx", Some("docker.io")),
            (&["docker.io"], "me/app:1.2", Some("docker.io")),
            (&["https://index.docker.io/v1/"], "me/app", Some("https://index.docker.io/v1/")),
            (&["registry-1.docker.io"], "docker.io/me/app", Some("registry-1.docker.io")),
            (&["docker.io/me"], "me/app", Some("docker.io/me")),
            (&["docker.io/me"], "melanie/app", None),
            (&["docker.io/me"], "you/app", None),
            (&["docker.io/library"], "nginx:latest", Some("docker.io/library")),
            // Paths are whole segments, and the longest wins.
            (&["ghcr.io/a"], "ghcr.io/ab/c", None),
            (&["ghcr.io/a/b"], "ghcr.io/a/b:tag", Some("ghcr.io/a/b")),
            (&["ghcr.io", "ghcr.io/a", "ghcr.io/a/b"], "ghcr.io/a/b/c", Some("ghcr.io/a/b")),
            (&["ghcr.io", "ghcr.io/a", "ghcr.io/a/b"], "ghcr.io/a/c", Some("ghcr.io/a")),
            (&["ghcr.io", "ghcr.io/a", "ghcr.io/a/b"], "ghcr.io/z", Some("ghcr.io")),
            // Ports are part of the host.
            (&["localhost:5000"], "localhost:5000/app:1", Some("localhost:5000")),
            (&["localhost:5000"], "localhost:5001/app:1", None),
            (&["localhost"], "localhost/app", Some("localhost")),
            (&["10.0.0.1:5000"], "10.0.0.1:5000/app", Some("10.0.0.1:5000")),
        ];
        for (names, image, expected) in cases {
            let registries = registries(names);
            let found = registries.credentials_for(image).map(|account| account.username.as_str());
            assert_eq!(found, *expected, "{names:?} {image}");
        }
    }

    #[test]
    fn an_empty_account_is_ignored() {
        let file = BTreeMap::from([("ghcr.io".to_owned(), RegistryFile::default())]);
        assert_eq!(Registries::resolve(file), Registries::default());
    }

    proptest::proptest! {
        #[test]
        fn credentials_are_used_for_their_own_registry_only(image in "~?[a-z.:/@]{0,24}", entry in "(https://)?[a-z.:/]{0,16}") {
            let registries = registries(&[&entry]);
            if registries.credentials_for(&image).is_some() {
                let host = Scope::parse(&entry).host;
                proptest::prop_assert!(host == "docker.io" || image.to_lowercase().contains(&host));
            }
        }
    }
}
