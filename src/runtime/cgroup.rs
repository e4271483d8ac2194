//! The counters of a container, as the kernel has them: in the files of its control groups, version 1 and 2, and in the network
//! namespace of its first process.
//!
//! The control groups are those of the process that the engine names, found by the mount table and not by the habits of a driver.
//! They must carry the container's id: an engine on another host, or in another process namespace, names a process that is not
//! here, or is another one here.

mod location;
#[cfg(test)]
mod tests;
mod values;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use procfs::{FromBufRead, ProcessCGroups};

use super::counters::{Counters, Meter};
use crate::files::mount_table;
use crate::model::NetworkTraffic;
use location::{Hierarchy, Location, Version};

/// The longest file that is read, bytes. A container may have thousands of network interfaces.
const MAX_FILE: usize = 256 * 1024;

/// The control groups of this host.
#[derive(Debug, Clone)]
pub struct Cgroups {
    proc: PathBuf,
    hierarchies: Vec<Hierarchy>,
}

impl Cgroups {
    /// Those of the mount table below `proc`. Without a readable one there are none.
    pub fn of_host(proc: &Path) -> Self {
        let hierarchies = mount_table(proc).iter().filter_map(Hierarchy::of).collect();
        Self { proc: proc.to_owned(), hierarchies }
    }

    /// The meter of a container, whose first process has this id for the engine. `None` if that process is not visible here.
    pub fn meter(&self, container: &str, process: u32) -> Option<KernelMeter> {
        let process = self.proc.join(process.to_string());
        let groups = std::fs::read(process.join("cgroup")).ok()?;
        let groups = ProcessCGroups::from_buf_read(groups.as_slice()).ok()?;
        let location = Location::find(&self.hierarchies, &groups.0, container)?;
        let network = (!self.has_network_of_host(&process)).then(|| process.join("net/dev"));
        Some(KernelMeter { location, network, open: None, buffer: Vec::new() })
    }

    /// A container in the host's network has no traffic of its own.
    fn has_network_of_host(&self, process: &Path) -> bool {
        let namespace = |process: &Path| std::fs::read_link(process.join("ns/net")).ok();
        let own = namespace(process);
        // The first process is readable for root only.
        own.is_some() && ["1", "self"].iter().any(|host| namespace(&self.proc.join(host)) == own)
    }
}

/// Reads the counters of one container.
#[derive(Debug)]
pub struct KernelMeter {
    location: Location,
    /// `None` for a container in the host's network.
    network: Option<PathBuf>,
    open: Option<OpenFiles>,
    /// For the text of each file.
    buffer: Vec<u8>,
}

/// The files of a container. One that is missing belongs to a controller that the host does not use.
#[derive(Debug)]
struct OpenFiles {
    memory: Option<File>,
    memory_limit: Option<File>,
    memory_stat: Option<File>,
    cpu: Option<File>,
    disk_io: Option<File>,
    network: Option<File>,
}

impl Meter for KernelMeter {
    fn read(&mut self) -> io::Result<Counters> {
        let files = match self.open.take() {
            Some(files) => files,
            None => OpenFiles::open(&self.location, self.network.as_deref())?,
        };
        let counters = files.read(&self.location, &mut self.buffer)?;
        self.open = Some(files);
        Ok(counters)
    }

    fn close(&mut self) {
        (self.open, self.buffer) = (None, Vec::new());
    }
}

impl OpenFiles {
    fn open(location: &Location, network: Option<&Path>) -> io::Result<Self> {
        let in_group = |group: &Option<(Version, PathBuf)>, v1: &str, v2: &str| match group {
            Some((Version::V1, group)) => open(&group.join(v1)),
            Some((Version::V2, group)) => open(&group.join(v2)),
            None => Ok(None),
        };
        let files = Self {
            memory: in_group(&location.memory, "memory.usage_in_bytes", "memory.current")?,
            memory_limit: in_group(&location.memory, "memory.limit_in_bytes", "memory.max")?,
            memory_stat: in_group(&location.memory, "memory.stat", "memory.stat")?,
            cpu: in_group(&location.cpu, "cpuacct.usage", "cpu.stat")?,
            disk_io: in_group(&location.disk_io, "blkio.throttle.io_service_bytes_recursive", "io.stat")?,
            network: network.map(open).transpose()?.flatten(),
        };
        match (&files.memory, &files.cpu) {
            (None, None) => {
                Err(io::Error::new(io::ErrorKind::NotFound, "the container's control group does not exist"))
            }
            _ => Ok(files),
        }
    }

    fn read(&self, location: &Location, buffer: &mut Vec<u8>) -> io::Result<Counters> {
        let used = text(self.memory.as_ref(), buffer)?.map_or(0, values::number);
        let cache = text(self.memory_stat.as_ref(), buffer)?.and_then(values::inactive_file);
        let limit = text(self.memory_limit.as_ref(), buffer)?.and_then(values::limit);
        let is_v1 = |group: &Option<(Version, PathBuf)>| matches!(group, Some((Version::V1, _)));
        let cpu = text(self.cpu.as_ref(), buffer)?.map_or(Duration::ZERO, |text| match is_v1(&location.cpu) {
            true => Duration::from_nanos(values::number(text)),
            false => values::cpu_stat(text),
        });
        let disk_io = text(self.disk_io.as_ref(), buffer)?.map(|text| match is_v1(&location.disk_io) {
            true => values::service_bytes(text),
            false => values::io_stat(text),
        });
        let network: Option<NetworkTraffic> = text(self.network.as_ref(), buffer)?.map(values::network);
        Ok(Counters {
            memory_bytes: cache.filter(|cache| *cache < used).map_or(used, |cache| used - cache),
            memory_limit_bytes: limit,
            cpu,
            network: network.unwrap_or_default(),
            disk_io: disk_io.unwrap_or_default(),
        })
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The text of a file from its beginning. What is not UTF-8 ends it.
fn text<'a>(file: Option<&File>, buffer: &'a mut Vec<u8>) -> io::Result<Option<&'a str>> {
    let Some(file) = file else { return Ok(None) };
    let mut length = 0;
    loop {
        if buffer.len() < length + 4096 {
            buffer.resize(length + 8192, 0);
        }
        match file.read_at(&mut buffer[length..], length as u64)? {
            0 => break,
            read => length += read,
        }
        if length > MAX_FILE {
            break;
        }
    }
    let bytes = &buffer[..length];
    Ok(Some(bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid())))
}
