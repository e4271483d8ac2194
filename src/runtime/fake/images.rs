//! The fake engine's images, and the registry that it pulls from.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::image::ImageReference;

/// An image that is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LocalImage {
    /// Another one of the same name has another id.
    pub version: u32,
    /// The signal that it wants at a native stop.
    pub stop_signal: Option<String>,
}

/// An image that the registry has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RemoteImage {
    /// How long a pull takes.
    pub takes: Duration,
    /// The pull ends with this error inside its stream instead.
    pub fails: Option<String>,
    /// User and password without which the registry says no.
    pub login: Option<(String, String)>,
    /// What it is once it is there.
    pub image: LocalImage,
}

/// The pulls of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pulls {
    /// Begun.
    pub begun: u32,
    /// Ended with the image there.
    pub succeeded: u32,
    /// Under way.
    pub running: u32,
    /// Most that were under way at once.
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

/// The one spelling of a reference.
pub(super) fn canonical(reference: &str) -> String {
    ImageReference::parse(reference).map_or_else(|| reference.to_owned(), |reference| reference.canonical())
}
