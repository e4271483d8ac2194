//! Resolves paths on this host, and reads what its kernel can limit.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::runtime::KernelLimits;
use crate::runtime::spec_builder::clean_path;

/// Where cgroups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// The real paths of mount sources and allowed folders.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MountInfo {
    /// By source, as in the settings.
    pub sources: BTreeMap<String, MountSource>,
    /// The node's `allowed_mounts`; existing ones with symbolic links resolved.
    pub allowed: Vec<PathBuf>,
}

/// The result of resolving a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// The existing path, without symbolic links and `..`.
    There(PathBuf),
    /// The path does not exist.
    Missing,
    /// The reason why the path cannot be used.
    Unusable(String),
}

impl MountInfo {
    /// Adds an allowed folder; a missing one is added as written.
    pub fn allow(&mut self, path: &Path, found: MountSource) {
        self.allowed.push(match found {
            MountSource::There(real) => real,
            MountSource::Missing | MountSource::Unusable(_) => path.to_owned(),
        });
    }

    /// Whether every existing source is below an allowed folder.
    pub fn all_allowed(&self) -> bool {
        self.sources.values().all(|source| match source {
            MountSource::There(real) => self.allows(real),
            MountSource::Missing | MountSource::Unusable(_) => true,
        })
    }

    /// Compares complete components of the real path: `/mnt` does not allow `/mnt2`, nor the target of a link to elsewhere.
    pub(super) fn allows(&self, real: &Path) -> bool {
        self.allowed.iter().any(|allowed| real.starts_with(allowed))
    }
}

/// The path of a mount's source. `..` is removed before symbolic links are resolved.
///
/// # Errors
/// The source is not an absolute path.
pub fn source_path(source: &str) -> Result<PathBuf, MountSource> {
    clean_path(source).ok_or_else(|| MountSource::Unusable("its source is not an absolute path".into()))
}

/// Whether an allowed folder is above one of these sources, as both are written.
pub fn is_above(allowed: &Path, sources: &[&str]) -> bool {
    sources.iter().any(|source| clean_path(source).is_some_and(|source| source.starts_with(allowed)))
}

/// Resolves a path. Blocks until its file system answers.
pub fn follow(path: &Path) -> MountSource {
    match path.canonicalize() {
        Ok(real) if real.to_str().is_some() => MountSource::There(real),
        Ok(_) => MountSource::Unusable("the real path of its source is not valid UTF-8".into()),
        Err(error) if error.kind() == ErrorKind::NotFound => MountSource::Missing,
        Err(error) => MountSource::Unusable(format!("cannot resolve its source: {error}")),
    }
}

/// Reads what the kernel can limit. Only cgroup v1 can disable the OOM killer: with v2 Docker drops the setting, and Podman
/// rejects the container. Block I/O has weights with v1, and with v2 if `io.weight` exists. Swap is
/// limited where it is counted; a host without swap needs no limit.
pub fn kernel_limits() -> KernelLimits {
    kernel_limits_in(Path::new(CGROUPS), rustix::system::sysinfo().totalswap > 0)
}

fn kernel_limits_in(cgroups: &Path, has_swap: bool) -> KernelLimits {
    let groups = || std::fs::read_dir(cgroups).into_iter().flatten().flatten().map(|entry| entry.path());
    let v1 = !cgroups.join("cgroup.controllers").exists();
    let weighs = ["system.slice/io.weight", "io.weight"].iter().any(|file| cgroups.join(file).exists());
    let counts_swap = match v1 {
        true => cgroups.join("memory/memory.memsw.limit_in_bytes").exists(),
        // The root has no limits, and so not the file.
        false => groups().any(|group| group.join("memory.swap.max").exists()),
    };
    KernelLimits { block_io_weight: v1 || weighs, oom_kill_disable: v1, swap: counts_swap || !has_swap }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn sources_are_resolved() {
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
            assert!(kernel_limits_in(folder.path(), false).swap, "a host without swap");
            let KernelLimits { block_io_weight, oom_kill_disable, swap } = kernel_limits_in(folder.path(), true);
            (block_io_weight, oom_kill_disable, swap)
        };
        let write = |file: &str| {
            let file = folder.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        };
        assert_eq!(limits(), (true, true, false), "version 1");
        write("memory/memory.memsw.limit_in_bytes");
        assert_eq!(limits(), (true, true, true));
        fs::write(folder.path().join("cgroup.controllers"), "cpu io memory").unwrap();
        assert_eq!(limits(), (false, false, false), "version 2");
        write("system.slice/io.weight");
        assert_eq!(limits(), (true, false, false));
        write("system.slice/memory.swap.max");
        assert_eq!(limits(), (true, false, true));
    }
}
