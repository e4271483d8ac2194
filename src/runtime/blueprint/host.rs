//! What blueprints need to know of the host. The only part of `blueprint` that looks at anything.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::mounts::clean;
use crate::model::settings::Mount;

/// Where cgroups are mounted.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Where mount sources and allowed folders really are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MountFacts {
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

/// Looks up the sources of mounts and the allowed folders.
///
/// Blocks for as long as their file systems take. Without mounts it looks at nothing.
pub fn resolve_mounts(mounts: &[Mount], allowed: &[PathBuf]) -> MountFacts {
    if mounts.is_empty() {
        return MountFacts::default();
    }
    let allowed = allowed.iter().filter(|path| path.is_absolute());
    MountFacts {
        sources: mounts.iter().map(|mount| (mount.source.clone(), resolve(&mount.source))).collect(),
        allowed: allowed.map(|path| path.canonicalize().unwrap_or_else(|_| path.clone())).collect(),
    }
}

fn resolve(source: &str) -> MountSource {
    // `..` goes before symbolic links do, as it does in the path that a person reads.
    let Some(path) = clean(source) else {
        return MountSource::Unusable("its source is not an absolute path".into());
    };
    match path.canonicalize() {
        Ok(real) if real.to_str().is_some() => MountSource::There(real),
        Ok(_) => MountSource::Unusable("its source leads to a path that is not text".into()),
        Err(error) if error.kind() == ErrorKind::NotFound => MountSource::Missing,
        Err(error) => MountSource::Unusable(format!("its source cannot be looked at: {error}")),
    }
}

/// What this host's kernel can limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KernelLimits {
    /// It weighs block I/O by container. With cgroup v1 the engine finds out by itself; with v2 the `io.weight` file says so.
    pub block_io_weight: bool,
    /// The OOM killer can be switched off for a container: cgroup v1 only. With v2 Docker drops the wish, and Podman refuses to
    /// start the container.
    pub oom_kill_disable: bool,
}

/// Asks the kernel.
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

    fn mount(source: impl AsRef<Path>) -> Mount {
        Mount { source: source.as_ref().display().to_string(), target: "/mnt".into(), read_only: true }
    }

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
            let facts = resolve_mounts(&[mount(&source)], &[root.join("link")]);
            assert_eq!(facts.sources[source.to_str().unwrap()], expected, "{}", source.display());
            assert_eq!(facts.allowed, [root.join("share")]);
        }
        let facts =
            resolve_mounts(&[mount("relative"), mount("")], &["".into(), "relative".into(), "/no/where".into()]);
        assert!(facts.sources.values().all(|source| matches!(source, MountSource::Unusable(_))));
        assert_eq!(facts.allowed, [PathBuf::from("/no/where")]);
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
