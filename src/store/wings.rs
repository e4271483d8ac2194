//! Whether Wings runs on a node. Two daemons would start and stop the same containers.

use std::fmt::{self, Display};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::{DEFAULT_PATH, NodeConfig};

/// How the program of Wings is named, in all its releases.
const PROGRAM: &str = "wings";
/// The configuration file of Pterodactyl's Wings.
const PTERODACTYL_PATH: &str = "/etc/pterodactyl/config.yml";

/// A process of Wings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WingsProcess {
    /// Its process id.
    pub pid: u32,
    /// Its command line.
    pub command: String,
}

impl Display for WingsProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Wings (pid {}: {})", self.pid, self.command)
    }
}

/// The Wings that runs on a node, if there is one: a process of that name that has the node's database or log open, or its
/// configuration file on its command line.
pub fn wings_on(node: &NodeConfig) -> Option<WingsProcess> {
    find(Path::new("/proc"), node)
}

fn find(proc: &Path, node: &NodeConfig) -> Option<WingsProcess> {
    let processes = fs::read_dir(proc).ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find_map(|pid| {
        let folder = proc.join(pid.to_string());
        let name = fs::read_to_string(folder.join("comm")).ok()?;
        if !name.starts_with(PROGRAM) || pid == std::process::id() {
            return None;
        }
        let arguments = fs::read(folder.join("cmdline")).ok()?;
        let command = String::from_utf8_lossy(&arguments).replace('\0', " ").trim_end().to_owned();
        // The open files are more certain, but another process's may not be read without a privilege.
        let is_here = has_open(&folder, node).unwrap_or_else(|| is_configured_by(&arguments, &node.source));
        is_here.then_some(WingsProcess { pid, command })
    })
}

/// Whether a process has the node's database or log open; `None` if its files cannot be read.
fn has_open(process: &Path, node: &NodeConfig) -> Option<bool> {
    let identity = |path: PathBuf| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let files = [node.directories.root.join("wings.db"), node.directories.daemon_log()].map(identity);
    let open = fs::read_dir(process.join("fd")).ok()?.flatten().filter_map(|entry| identity(entry.path()));
    Some(open.into_iter().any(|open| files.contains(&Some(open))))
}

/// Whether these arguments name this configuration file, or none where it is a default one.
fn is_configured_by(arguments: &[u8], source: &Path) -> bool {
    let mut words = arguments.split(|byte| *byte == 0).map(std::ffi::OsStr::from_bytes);
    let mut named = None;
    while let Some(word) = words.next() {
        if word == "--config" {
            named = words.next().map(PathBuf::from);
        } else if let Some(path) = word.as_bytes().strip_prefix(b"--config=") {
            named = Some(PathBuf::from(std::ffi::OsStr::from_bytes(path)));
        }
    }
    let same = |path: &Path| match (path.canonicalize(), source.canonicalize()) {
        (Ok(path), Ok(source)) => path == source,
        _ => path == source,
    };
    match named {
        Some(path) => same(&path),
        None => [DEFAULT_PATH, PTERODACTYL_PATH].iter().any(|path| same(Path::new(path))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::testing::node_config;

    /// A process in a folder like `/proc`, with its open files where they can be read.
    fn process(proc: &Path, pid: u32, name: &str, command: &str, open: Option<&[&Path]>) {
        let folder = proc.join(pid.to_string());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("comm"), format!("{name}\n")).unwrap();
        fs::write(folder.join("cmdline"), command.replace(' ', "\0")).unwrap();
        if let Some(open) = open {
            fs::create_dir(folder.join("fd")).unwrap();
            open.iter()
                .enumerate()
                .for_each(|(number, path)| symlink(path, folder.join(format!("fd/{number}"))).unwrap());
        }
    }

    #[test]
    fn wings_is_found_by_the_files_that_it_has_open_or_else_by_its_command_line() {
        let root = tempfile::tempdir().unwrap();
        let other = root.path().join("other.db");
        let mut node = node_config(root.path());
        node.source = root.path().join("config.yml");
        let database = node.directories.root.join("wings.db");
        [&other, &database, &node.source].into_iter().for_each(|path| fs::write(path, "").unwrap());
        let config = node.source.display();
        let found = |name: &str, command: &str, open: Option<&[&Path]>| {
            let proc = tempfile::tempdir().unwrap();
            process(proc.path(), 7, "bash", "bash", None);
            process(proc.path(), 8, name, command, open);
            find(proc.path(), &node).map(|wings| wings.pid)
        };
        let default = "/usr/local/bin/wings";
        let named = format!("wings --debug --config {config}");
        assert_eq!(found("wings", default, Some(&[&other, &database])), Some(8));
        assert_eq!(found("wings_linux_amd", default, Some(&[&database])), Some(8));
        assert_eq!(found("sqlite3", "sqlite3 wings.db", Some(&[&database])), None, "a person looks at it");
        assert_eq!(found("wings", &named, Some(&[&other])), None, "it runs on another node");
        assert_eq!(found("wings", &named, None), Some(8));
        assert_eq!(found("wings", &format!("wings --config={config}"), None), Some(8));
        assert_eq!(found("wings", "wings --config /elsewhere/config.yml", None), None);
        assert_eq!(found("wings", default, None), None, "this node's file is not the default one");
        assert!(is_configured_by(b"wings\0", Path::new(DEFAULT_PATH)));
        assert!(is_configured_by(b"wings\0", Path::new(PTERODACTYL_PATH)));
    }

    #[test]
    fn the_processes_of_this_machine_can_be_read() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(wings_on(&node_config(root.path())), None);
    }
}
