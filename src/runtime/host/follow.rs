//! Where paths lead on this host, and what its kernel can limit.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::runtime::KernelLimits;
use crate::runtime::spec_builder::clean_path;

/// Where cgroups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Where mount sources and allowed folders really are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MountInfo {
    /// By source, as the settings spell it.
    pub sources: BTreeMap<String, MountSource>,
    /// The node's `allowed_mounts`, symbolic links resolved where they exist.
    pub allowed: Vec<PathBuf>,
}

/// Where a mount source leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// It is there; the path without symbolic links and `..`.
    There(PathBuf),
    /// There is nothing.
    Missing,
    /// It cannot be used; why, for people.
    Unusable(String),
}

impl MountInfo {
    /// Notes where an allowed folder leads; one that leads nowhere counts as it is written.
    pub fn allow(&mut self, path: &Path, found: MountSource) {
        self.allowed.push(match found {
            MountSource::There(real) => real,
            MountSource::Missing | MountSource::Unusable(_) => path.to_owned(),
        });
    }

    /// Whether every source that is there is below an allowed folder.
    pub fn all_allowed(&self) -> bool {
        self.sources.values().all(|source| match source {
            MountSource::There(real) => self.allows(real),
            MountSource::Missing | MountSource::Unusable(_) => true,
        })
    }

    /// Whole components of the real path: `/mnt` allows neither `/mnt2` nor what a link in it leads to elsewhere.
    pub(super) fn allows(&self, real: &Path) -> bool {
        self.allowed.iter().any(|allowed| real.starts_with(allowed))
    }
}

/// The path that the source of a mount means. `..` goes before symbolic links do, as it does in the path that a person reads.
///
/// # Errors
/// It means none.
pub fn source_path(source: &str) -> Result<PathBuf, MountSource> {
    clean_path(source).ok_or_else(|| MountSource::Unusable("its source is not an absolute path".into()))
}

/// Whether an allowed folder is above one of these sources, as both are written.
pub fn is_above(allowed: &Path, sources: &[&str]) -> bool {
    sources.iter().any(|source| clean_path(source).is_some_and(|source| source.starts_with(allowed)))
}

/// Follows a path to its end. Blocks for as long as its file system takes.
pub fn follow(path: &Path) -> MountSource {
    match path.canonicalize() {
        Ok(real) if real.to_str().is_some() => MountSource::There(real),
        Ok(_) => MountSource::Unusable("its source leads to a path that is not text".into()),
        Err(error) if error.kind() == ErrorKind::NotFound => MountSource::Missing,
        Err(error) => MountSource::Unusable(format!("its source cannot be looked at: {error}")),
    }
}

/// Reads what the kernel can limit. Only cgroup v1 switches the OOM killer off for a container: with v2 Docker drops the
/// setting, and Podman refuses to start the container. Block I/O is weighed with v1, and with v2 where there is `io.weight`.
pub fn kernel_limits() -> KernelLimits {
    kernel_limits_in(Path::new(CGROUPS))
}

fn kernel_limits_in(cgroups: &Path) -> KernelLimits {
    let v1 = !cgroups.join("cgroup.controllers").exists();
    let weighs = ["system.slice/io.weight", "io.weight"].iter().any(|file| cgroups.join(file).exists());
    KernelLimits { block_io_weight: v1 || weighs, oom_kill_disable: v1 }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn sources_are_followed_to_their_end() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("share/sub")).unwrap();
        symlink(root.join("share"), root.join("link")).unwrap();
        symlink("/etc", root.join("share/out")).unwrap();
        symlink(root.join("nowhere"), root.join("broken")).unwrap();
        let there = |path: PathBuf| MountSource::There(path);
        for (source, expected) in [
            (root.join("share"), there(root.join("share"))),
            (root.join("link/sub"), there(root.join("share/sub"))),
            (root.join("share/../share/./sub"), there(root.join("share/sub"))),
            (root.join("share/out"), there("/etc".into())),
            // As text: not the parent of what the link leads to.
            (root.join("share/out/../sub"), there(root.join("share/sub"))),
            (root.join("missing"), MountSource::Missing),
            (root.join("broken"), MountSource::Missing),
        ] {
            let path = source_path(source.to_str().unwrap()).unwrap();
            assert_eq!(follow(&path), expected, "{}", source.display());
        }
        assert!(["relative", ""].iter().all(|source| source_path(source).is_err()));
    }

    #[test]
    fn limits_by_cgroup_version() {
        let folder = tempfile::tempdir().unwrap();
        let limits = || {
            let KernelLimits { block_io_weight, oom_kill_disable } = kernel_limits_in(folder.path());
            (block_io_weight, oom_kill_disable)
        };
        assert_eq!(limits(), (true, true), "version 1");
        fs::write(folder.path().join("cgroup.controllers"), "cpu io memory").unwrap();
        assert_eq!(limits(), (false, false));
        fs::create_dir(folder.path().join("system.slice")).unwrap();
        fs::write(folder.path().join("system.slice/io.weight"), "").unwrap();
        assert_eq!(limits(), (true, false));
    }
}
