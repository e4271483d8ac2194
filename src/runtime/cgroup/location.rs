//! Where the control groups of a process are mounted. Pure.

use std::path::{Path, PathBuf};

use procfs::ProcessCGroup;
use procfs::process::MountInfo;

/// The version of a control group's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

/// A mounted hierarchy of control groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) version: Version,
    /// Of version 1 only.
    pub(super) controllers: Vec<String>,
    /// The group that is mounted; `/` for the whole hierarchy.
    pub(super) root: PathBuf,
    pub(super) mount_point: PathBuf,
}

impl Hierarchy {
    pub(super) fn of(mount: &MountInfo) -> Option<Self> {
        let version = match mount.fs_type.as_str() {
            "cgroup" => Version::V1,
            "cgroup2" => Version::V2,
            _ => return None,
        };
        let controllers = match version {
            Version::V1 => mount.super_options.keys().cloned().collect(),
            Version::V2 => Vec::new(),
        };
        Some(Self { version, controllers, root: mount.root.clone().into(), mount_point: mount.mount_point.clone() })
    }

    /// The directory of a group. `None` if it is not below what is mounted.
    fn directory(&self, group: &Path) -> Option<PathBuf> {
        let below = group.strip_prefix(&self.root).ok().filter(|below| below.is_relative())?;
        Some(self.mount_point.join(below))
    }
}

/// The directories of a container's control groups, by what they count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Location {
    pub(super) memory: Option<(Version, PathBuf)>,
    pub(super) cpu: Option<(Version, PathBuf)>,
    pub(super) disk_io: Option<(Version, PathBuf)>,
}

impl Location {
    /// The groups of a container among those of its first process. `None` if the process has no group of this container.
    pub(super) fn find(hierarchies: &[Hierarchy], groups: &[ProcessCGroup], container: &str) -> Option<Self> {
        let find = |controller: &str| {
            let (version, group) = match groups.iter().find(|group| group.controllers.iter().any(|of| of == controller))
            {
                Some(group) => (Version::V1, group),
                None => (Version::V2, groups.iter().find(|group| group.hierarchy == 0)?),
            };
            let group = of_container(Path::new(&group.pathname), container)?;
            let mounted = hierarchies.iter().filter(|hierarchy| {
                hierarchy.version == version
                    && (version == Version::V2 || hierarchy.controllers.iter().any(|of| of == controller))
            });
            let directory = mounted.filter_map(|hierarchy| hierarchy.directory(&group)).next()?;
            Some((version, directory))
        };
        let found = Self { memory: find("memory"), cpu: find("cpuacct"), disk_io: find("blkio") };
        (found != Self::default()).then_some(found)
    }
}

/// The container's group, which has the limits. Its processes may be in groups below.
fn of_container(group: &Path, container: &str) -> Option<PathBuf> {
    let is_own = |part: &&Path| {
        let name = part.file_name().map(|name| name.to_string_lossy());
        !container.is_empty() && name.is_some_and(|name| name.contains(container))
    };
    let outside = group.components().any(|part| part == std::path::Component::ParentDir);
    // From the root down.
    let ancestors: Vec<&Path> = group.ancestors().collect();
    ancestors.into_iter().rev().find(is_own).filter(|_| !outside).map(Path::to_owned)
}
