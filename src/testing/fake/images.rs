//! The fake engine's images, and the registry that it pulls from.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::image::ImageReference;

/// A local image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LocalImage {
    /// Distinguishes images that had the same name one after the other.
    pub version: u32,
    /// Its stop signal.
    pub stop_signal: Option<String>,
}

/// An image in the registry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RemoteImage {
    /// How long a pull takes.
    pub takes: Duration,
    /// The pull ends with this error in its stream instead.
    pub fails: Option<String>,
    /// User and password that the registry requires.
    pub login: Option<(String, String)>,
    /// The local image after a pull.
    pub image: LocalImage,
}

/// The pulls of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pulls {
    /// Begun.
    pub begun: u32,
    /// Succeeded.
    pub succeeded: u32,
    /// In progress.
    pub running: u32,
    /// Maximum in progress at once.
    pub most_at_once: u32,
}

/// Local images, the registry, and what was pulled.
#[derive(Debug)]
pub(super) struct Images {
    pub(super) local: BTreeMap<String, LocalImage>,
    pub(super) remote: BTreeMap<String, RemoteImage>,
    pub(super) pulls: BTreeMap<String, Pulls>,
    pub(super) registry_up: bool,
}

impl Default for Images {
    fn default() -> Self {
        Self { local: BTreeMap::new(), remote: BTreeMap::new(), pulls: BTreeMap::new(), registry_up: true }
    }
}

/// The canonical form of a reference.
pub(super) fn canonical(reference: &str) -> String {
    ImageReference::parse(reference).map_or_else(|| reference.to_owned(), |reference| reference.canonical())
}
