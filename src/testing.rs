//! Test doubles, and a whole node over a temporary folder, for the tests of this crate. The feature `testing` compiles them, and
//! no build of the product enables it.

#![allow(missing_docs, reason = "plain data of test doubles")]
#![allow(clippy::missing_panics_doc, reason = "a test double panics where its test is wrong")]

pub mod disk;
pub mod fake;
pub mod node;
pub mod panel;

use std::path::Path;
use std::sync::Arc;

use crate::config::{ConfigFile, NodeConfig, host};
use crate::model::settings::{Process, Settings, Stop};
use crate::model::{ManagedBy, Manifest, ServerId};
use crate::panel::PanelServer;
use crate::runtime::host::Host;
use crate::runtime::{ContainerSpec, KernelLimits};
use crate::tasks::{Blocking, Tasks};

pub use disk::TestDisk;
pub use node::{TestNode, TestNodeBuilder};
pub use panel::{PanelBackup, PanelCall, PanelFaults, PanelSide, PanelState, TestPanel};

/// The image of [`panel_server`] and [`file_manifest`].
pub const IMAGE: &str = "game:1";

/// The id of a numbered server.
pub fn server_id(number: u32) -> ServerId {
    ServerId::new(uuid::Uuid::from_u128(0x550e_8400_e29b_41d4_a716_0000_0000_0000 | u128::from(number)))
}

/// A server as a panel has it: it runs [`IMAGE`] and ends at the command `stop`.
pub fn panel_server(invocation: &str) -> PanelServer {
    let mut settings = Settings { invocation: invocation.into(), ..Settings::default() };
    settings.container.image = IMAGE.into();
    let stop = Stop { kind: "command".into(), value: "stop".into(), timeout: None };
    PanelServer { suspended: false, settings, process: Process { stop, ..Process::default() } }
}

/// The manifest of a server that its panel manages, as [`panel_server`] has it.
pub fn panel_manifest(number: u32, invocation: &str) -> Manifest {
    let mut manifest = Manifest::new(server_id(number), ManagedBy::Panel);
    let server = panel_server(invocation);
    (manifest.spec.settings, manifest.spec.process) = (server.settings, server.process);
    manifest
}

/// The manifest of a server without a panel.
pub fn file_manifest(number: u32) -> Manifest {
    let mut manifest = Manifest::new(server_id(number), ManagedBy::File);
    manifest.spec.settings.container.image = IMAGE.into();
    manifest
}

/// A node with everything below `root`, the current user as owner, no panel, and defaults otherwise.
pub fn node_config(root: &Path) -> NodeConfig {
    assert!(root.is_absolute(), "{} is not absolute", root.display());
    let mut file = ConfigFile::default();
    file.system.enable_log_rotate = false;
    file.system.root_directory = root.display().to_string();
    let owner = host::current_user();
    NodeConfig::resolve(&file, &root.join("config.yml"), &|_| None, owner, "UTC".into()).expect("defaults are valid")
}

/// The host of a node below `/node`, with defaults, on which no file exists.
pub fn test_host() -> Host {
    let node = Arc::new(node_config(Path::new("/node")));
    Host::new(node, Tasks::new(), Blocking::Inline, KernelLimits::default())
}

/// A container with the command of its image, without limits, mounts, ports and labels.
pub fn container_spec(name: &str, image: &str) -> ContainerSpec {
    ContainerSpec { name: name.into(), image: image.into(), network_mode: "bridge".into(), ..ContainerSpec::default() }
}
