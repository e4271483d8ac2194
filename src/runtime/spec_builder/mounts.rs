//! Volumes: the fixed ones, and the mounts of the settings.

use std::path::{Component, Path, PathBuf};

use super::SERVER_FOLDER;
use crate::config::NodeConfig;
use crate::model::Settings;
use crate::model::settings::Mount;
use crate::runtime::{Volume, VolumeRole};

/// Maximum number of mounts of a server.
const MAX_MOUNTS: usize = 128;

/// All volumes of a server, in order: its files, those of the node, those of the settings.
pub(super) fn of_server(settings: &Settings, node: &NodeConfig, omissions: &mut Vec<String>) -> Vec<Volume> {
    let fixed = |role, target: &str| Volume { role, path: None, target: target.into(), read_only: true };
    let mut volumes = vec![Volume { read_only: false, ..fixed(VolumeRole::Data, SERVER_FOLDER) }];
    if node.mount_passwd {
        volumes.push(fixed(VolumeRole::Passwd, "/etc/passwd"));
        volumes.push(fixed(VolumeRole::Group, "/etc/group"));
    }
    if node.mount_machine_id {
        volumes.push(fixed(VolumeRole::MachineId, "/etc/machine-id"));
    }
    for (index, mount) in settings.mounts.iter().flatten().enumerate() {
        let target = match index < MAX_MOUNTS {
            true => target(mount, node),
            false => Err(format!("a server may have {MAX_MOUNTS} mounts")),
        };
        match target {
            Ok(target) => {
                let role = VolumeRole::Mount { source: mount.source.clone() };
                volumes.push(Volume { role, path: None, target, read_only: mount.read_only });
            }
            Err(reason) if omissions.len() < 2 * MAX_MOUNTS => {
                omissions.push(format!("mount {} at {} is left out: {reason}", mount.source, mount.target));
            }
            Err(_) => {}
        }
    }
    volumes
}

/// The target of a mount of the settings, or why it is rejected.
fn target(mount: &Mount, node: &NodeConfig) -> Result<String, String> {
    let target = clean_path(&mount.target).ok_or("its target is not an absolute path")?;
    if target == Path::new("/") {
        return Err("it would hide the root folder of the container".into());
    }
    if node.block_base_dir_mount && target.starts_with(SERVER_FOLDER) {
        return Err(format!(
            "the node allows no mounts in {SERVER_FOLDER}; see BlockBaseDirMount in its configuration"
        ));
    }
    Ok(target.to_str().ok_or("its target is not text")?.to_owned())
}

/// An absolute path without `.`, `..` and doubled slashes.
pub fn clean_path(path: &str) -> Option<PathBuf> {
    if !path.starts_with('/') || path.contains('\0') {
        return None;
    }
    let mut clean = PathBuf::from("/");
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Some(clean)
}

#[cfg(test)]
mod tests;
