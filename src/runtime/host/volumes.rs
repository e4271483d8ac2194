//! The paths of a container's volumes on this host.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::follow::{MountInfo, MountSource};
use super::paths::Paths;
use crate::config::NodeConfig;
use crate::files::Layout;
use crate::model::ServerId;
use crate::runtime::{BuiltSpec, RuntimeError, Volume, VolumeRole};

/// Resolves volumes.
pub(super) struct Volumes {
    node: Arc<NodeConfig>,
    layout: Layout,
    paths: Paths,
}

impl Volumes {
    pub(super) fn new(node: Arc<NodeConfig>, paths: Paths) -> Self {
        Self { layout: Layout::new(&node), node, paths }
    }

    /// Sets the path of each volume. Mounts that cannot be used are left out.
    ///
    /// # Errors
    /// A file system does not answer.
    pub(super) async fn resolve(&self, server: ServerId, built: &mut BuiltSpec) -> Result<(), RuntimeError> {
        let volumes = std::mem::take(&mut built.spec.volumes);
        let sources: Vec<&str> = volumes.iter().filter_map(source).collect();
        let mounts = self.paths.of_mounts(&sources, &self.node.allowed_mounts).await?;
        let data = self.data(server).await?;
        let mut taken: BTreeSet<String> = built.spec.tmpfs.keys().cloned().collect();
        for volume in volumes {
            let path = match &volume.role {
                VolumeRole::Data => Ok(data.clone()),
                VolumeRole::InstallScript => Ok(self.layout.script_folder(server)),
                VolumeRole::MachineId => Ok(self.layout.machine_id(server)),
                VolumeRole::Passwd => Ok(self.node.directories.passwd.join("passwd")),
                VolumeRole::Group => Ok(self.node.directories.passwd.join("group")),
                VolumeRole::Mount { source } => mount_path(source, &mounts),
            };
            let free = |path| match taken.insert(volume.target.clone()) {
                true => Ok(path),
                false => Err("another mount has this target".to_owned()),
            };
            match path.and_then(free) {
                Ok(path) => built.spec.volumes.push(Volume { path: Some(path.display().to_string()), ..volume }),
                Err(reason) => {
                    let source = source(&volume).unwrap_or_default();
                    built.omissions.push(format!("mount {source} at {} is left out: {reason}", volume.target));
                }
            }
        }
        Ok(())
    }

    /// The folder of the server's files, with symbolic links resolved.
    async fn data(&self, server: ServerId) -> Result<PathBuf, RuntimeError> {
        let (path, layout) = (self.node.directories.server_data(&server), self.layout.clone());
        Ok(match self.paths.find(&path, move || MountSource::There(layout.data(server))).await? {
            MountSource::There(data) => data,
            MountSource::Missing | MountSource::Unusable(_) => path,
        })
    }
}

fn source(volume: &Volume) -> Option<&str> {
    match &volume.role {
        VolumeRole::Mount { source } => Some(source),
        _ => None,
    }
}

/// The path of a mount of the settings, or why it cannot be used.
fn mount_path(source: &str, mounts: &MountInfo) -> Result<PathBuf, String> {
    match mounts.sources.get(source) {
        Some(MountSource::There(real)) if mounts.allows(real) => Ok(real.clone()),
        Some(MountSource::There(real)) => {
            let real = real.display();
            Err(format!("{real} is not below any of the node's allowed_mounts; add it to its configuration"))
        }
        Some(MountSource::Unusable(why)) => Err(why.clone()),
        Some(MountSource::Missing) | None => Err("its source does not exist on this node".into()),
    }
}

#[cfg(test)]
mod tests;
