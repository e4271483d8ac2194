//! Credentials for image registries, and which of them belong to an image.

use std::collections::BTreeMap;

use super::Secret;
use super::file::RegistryFile;
use crate::model::image::{DEFAULT_REGISTRY, ImageReference};

/// The account at one registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Host, and path where the account is for a part of the registry only.
    pub server: String,
    /// Name of the account.
    pub username: String,
    /// Its password or token.
    pub password: Secret,
}

/// The registries that the file knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registries {
    /// By place, the longest first.
    entries: Vec<(Place, Credentials)>,
}

/// A host and a path on it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    host: String,
    /// Without slashes at the ends; empty for the whole host.
    path: String,
}

impl Registries {
    pub(super) fn resolve(file: &BTreeMap<String, RegistryFile>) -> Self {
        let mut entries: Vec<_> = file
            .iter()
            .filter(|(_, account)| !account.username.is_empty() || !account.password.is_empty())
            .map(|(name, account)| {
                let place = Place::of_entry(name);
                let server = [place.host.as_str(), &place.path].join("/").trim_end_matches('/').to_owned();
                let (username, password) = (account.username.clone(), account.password.clone());
                (place, Credentials { server, username, password })
            })
            .collect();
        entries.sort_by_key(|(place, _)| std::cmp::Reverse(place.host.len() + place.path.len()));
        Self { entries }
    }

    /// The account for an image: that of the same registry with the longest path that leads to the image.
    ///
    /// `image` is a reference as the panel has it, with or without tag, digest and leading `~`.
    pub fn credentials_for(&self, image: &str) -> Option<&Credentials> {
        let image = image.trim();
        let image = ImageReference::parse(image.strip_prefix('~').unwrap_or(image))?;
        let host = canonical_host(image.registry());
        let path = if host == DEFAULT_REGISTRY { image.full_path() } else { image.path().to_owned() };
        let found = self.entries.iter().find(|(place, _)| place.host == host && place.leads_to(&path));
        found.map(|(_, credentials)| credentials)
    }
}

impl Place {
    /// The place that an entry of the file names: a host, `host/path`, or a URL.
    fn of_entry(name: &str) -> Self {
        let name = name.trim();
        let (scheme, rest) = name.split_once("://").unwrap_or(("", name));
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let host = match scheme {
            "https" => host.strip_suffix(":443").unwrap_or(host),
            _ => host,
        };
        // `docker login` writes the address of the API's version as the registry's name.
        let path = match path.trim_matches('/') {
            "v1" | "v2" => "",
            path => path,
        };
        Self { host: canonical_host(host), path: path.to_owned() }
    }

    /// Whether this path is empty or made of the first whole segments of the other.
    fn leads_to(&self, path: &str) -> bool {
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
        Registries::resolve(&names.iter().map(account).collect())
    }

    #[test]
    fn which_account_belongs_to_an_image() {
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
            let found = registries.credentials_for(image).map(|credentials| credentials.username.as_str());
            assert_eq!(found, *expected, "{names:?} {image}");
        }
    }

    #[test]
    fn an_empty_account_is_none() {
        let file = BTreeMap::from([("ghcr.io".to_owned(), RegistryFile::default())]);
        assert_eq!(Registries::resolve(&file), Registries::default());
    }

    #[test]
    fn the_server_is_named_as_docker_does() {
        let found = registries(&["https://index.docker.io/v1/"]);
        assert_eq!(found.credentials_for("nginx").unwrap().server, "docker.io");
        let found = registries(&["https://ghcr.io/team/"]);
        assert_eq!(found.credentials_for("ghcr.io/team/app").unwrap().server, "ghcr.io/team");
    }

    proptest::proptest! {
        #[test]
        fn no_account_leaves_its_registry(image in "~?[a-z.:/@]{0,24}", entry in "(https://)?[a-z.:/]{0,16}") {
            let registries = registries(&[&entry]);
            if let Some(found) = registries.credentials_for(&image) {
                let host = found.server.split('/').next().unwrap();
                proptest::prop_assert!(host == "docker.io" || image.to_lowercase().contains(host));
            }
        }
    }
}
