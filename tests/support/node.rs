//! A node's configuration without a file.

use std::path::Path;

use alula::config::{ConfigFile, NodeConfig, host};

/// A node with everything below `root`, which is absolute, the current user as owner, no panel, and defaults otherwise.
pub fn node(root: &Path) -> NodeConfig {
    let mut file = ConfigFile::default();
    file.system.enable_log_rotate = false;
    file.system.root_directory = root.display().to_string();
    let owner = host::current_user();
    NodeConfig::resolve(&file, &root.join("config.yml"), &|_| None, owner, "UTC".into()).expect("defaults make sense")
}
