//! Mounts: the fixed ones, and the settings' own against the allow-list.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::host::clean;
use super::{BlueprintFacts, MountSource, Omission, SERVER_FOLDER};
use crate::config::NodeConfig;
use crate::model::settings::Mount;
use crate::model::{ServerId, Settings};
use crate::runtime::BindMount;

/// Each mount is work for the engine at each start; nobody has this many.
const MAX_MOUNTS: usize = 128;

/// All mounts of a server, in order: its files, the node's own, the settings'.
pub(super) fn of_server(
    id: ServerId,
    settings: &Settings,
    node: &NodeConfig,
    facts: &BlueprintFacts,
    omissions: &mut Vec<Omission>,
) -> Vec<BindMount> {
    let mut mounts = vec![bind(&facts.data, SERVER_FOLDER, false)];
    if node.mount_passwd {
        mounts.push(bind(&node.directories.passwd.join("passwd"), "/etc/passwd", true));
        mounts.push(bind(&node.directories.passwd.join("group"), "/etc/group", true));
    }
    if node.mount_machine_id {
        mounts.push(bind(&node.directories.machine_id_file(&id), "/etc/machine-id", true));
    }
    let mut taken: BTreeSet<PathBuf> = mounts.iter().map(|mount| PathBuf::from(&mount.target)).collect();
    taken.insert("/tmp".into());
    for (index, mount) in settings.mounts.iter().flatten().enumerate() {
        let allowed = match index < MAX_MOUNTS {
            true => allowed(mount, node, facts, &mut taken),
            false => Err(format!("a server may have {MAX_MOUNTS} mounts")),
        };
        match allowed {
            Ok(mount) => mounts.push(mount),
            Err(reason) if omissions.len() < 2 * MAX_MOUNTS => {
                omissions.push(Omission::new(format!("mount {} at {}", mount.source, mount.target), reason));
            }
            Err(_) => {}
        }
    }
    mounts
}

fn bind(source: &Path, target: &str, read_only: bool) -> BindMount {
    BindMount { source: source.display().to_string(), target: target.into(), read_only }
}

/// One mount of the settings, or why it is refused.
fn allowed(
    mount: &Mount,
    node: &NodeConfig,
    facts: &BlueprintFacts,
    taken: &mut BTreeSet<PathBuf>,
) -> Result<BindMount, String> {
    let target = clean(&mount.target).ok_or("its target is not an absolute path")?;
    if target == Path::new("/") {
        return Err("it would hide the whole container".into());
    }
    if node.block_base_dir_mount && target.starts_with(SERVER_FOLDER) {
        return Err(format!(
            "the node allows no mounts in {SERVER_FOLDER}; see BlockBaseDirMount in its configuration"
        ));
    }
    let source = match facts.mounts.sources.get(&mount.source) {
        Some(MountSource::There(real)) => real,
        Some(MountSource::Missing) => return Err("its source does not exist on this node".into()),
        Some(MountSource::Unusable(why)) => return Err(why.clone()),
        None => return Err("its source was not looked at yet".into()),
    };
    if !facts.mounts.allows(source) {
        let real = source.display();
        return Err(format!("{real} is not below any of the node's allowed_mounts; add it to its configuration"));
    }
    let text = target.to_str().ok_or("its target is not text")?.to_owned();
    if !taken.insert(target) {
        return Err("another mount has this target".into());
    }
    Ok(bind(source, &text, mount.read_only))
}

#[cfg(test)]
mod tests;
