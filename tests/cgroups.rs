//! The kernel's counters of control groups that this test makes, in the version that this machine has. `tests/cgroup_v2.sh` runs it on
//! a kernel with version 2. It needs root.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use alula::files::mount_table;
use alula::model::NetworkTraffic;
use alula::runtime::cgroup::Cgroups;
use alula::runtime::{Counters, Meter};

/// Makes this program use memory and a processor, instead of testing.
const BUSY: &str = "ALULA_BUSY";
const MIB: u64 = 1 << 20;
/// The memory that it uses.
const USED: u64 = 16 * MIB;
const LIMIT: u64 = 64 * MIB;
const TIMEOUT: Duration = Duration::from_secs(60);

/// The groups of a container, which are removed at the end.
struct Groups {
    id: String,
    folders: Vec<PathBuf>,
    /// With the limit of the memory.
    limit: PathBuf,
}

impl Groups {
    fn make() -> Self {
        let id = format!("{0}{0}", uuid::Uuid::new_v4().simple());
        let mounts = mount_table(Path::new("/proc"));
        let mounted = |fs_type: &str, controller: Option<&str>| {
            let fits = |mount: &&procfs::process::MountInfo| {
                mount.fs_type == fs_type && controller.is_none_or(|name| mount.super_options.contains_key(name))
            };
            mounts.iter().find(fits).map(|mount| mount.mount_point.clone())
        };
        let (v1, v2) = (|controller: &str| mounted("cgroup", Some(controller)), mounted("cgroup2", None));
        let name = format!("alula-test-{id}.scope");
        let memory = v1("memory");
        let roots: Vec<PathBuf> = match &memory {
            Some(_) => ["memory", "cpuacct", "blkio"].into_iter().filter_map(v1).chain(v2).collect(),
            None => vec![v2.expect("control groups are mounted")],
        };
        if memory.is_none() {
            // With systemd they are enabled.
            let _ = fs::write(roots[0].join("cgroup.subtree_control"), "+cpu +memory +io");
        }
        let mut folders: Vec<PathBuf> = roots.iter().map(|root| root.join(&name)).collect();
        folders.dedup();
        for folder in &folders {
            fs::create_dir(folder).unwrap_or_else(|error| panic!("{}: {error}; run this as root", folder.display()));
        }
        let limit = match memory {
            Some(root) => root.join(&name).join("memory.limit_in_bytes"),
            None => folders[0].join("memory.max"),
        };
        fs::write(&limit, LIMIT.to_string()).unwrap();
        println!("groups: {folders:?}");
        Self { id, folders, limit }
    }

    /// Moves a process into the groups.
    fn add(&self, process: &Child) {
        for folder in &self.folders {
            fs::write(folder.join("cgroup.procs"), process.id().to_string()).unwrap();
        }
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        // The kernel refuses while the process is ending.
        let until = Instant::now() + TIMEOUT;
        while self.folders.iter().any(|folder| fs::remove_dir(folder).is_err() && folder.exists())
            && Instant::now() < until
        {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A process that waits for a line, uses memory and a processor, and ends when it is killed.
fn busy() -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_busy_process", "--nocapture"]).env(BUSY, "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_busy_process() {
    if std::env::var_os(BUSY).is_none() {
        return;
    }
    std::io::stdin().lines().next();
    let memory = vec![1u8; usize::try_from(USED).unwrap()];
    println!("\nbusy with {} bytes", memory.len());
    while std::hint::black_box(&memory).len() > 1 {}
}

fn wait_for(meter: &mut dyn Meter, fit: impl Fn(&Counters) -> bool) -> Counters {
    let until = Instant::now() + TIMEOUT;
    loop {
        let counters = meter.read().unwrap();
        if fit(&counters) {
            return counters;
        }
        assert!(Instant::now() < until, "{counters:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_counters_of_a_group_are_those_of_its_processes() {
    let groups = Groups::make();
    let mut process = busy();
    groups.add(&process);
    let cgroups = Cgroups::of_host(Path::new("/proc"));
    assert!(cgroups.meter(&groups.id, std::process::id()).is_none(), "this process is in none of the groups");
    let mut meter = cgroups.meter(&groups.id, process.id()).expect("the process is in the groups");
    let idle = meter.read().unwrap();
    assert_eq!(idle.memory_limit_bytes, Some(LIMIT));
    assert!(idle.memory_bytes < USED, "{idle:?}");

    process.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let mut output = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(output.any(|line| line.starts_with("busy with")));
    let first = wait_for(&mut meter, |counters| counters.memory_bytes >= USED);
    assert!(first.memory_bytes < LIMIT, "{first:?}");
    let (began, before) = (Instant::now(), meter.read().unwrap().cpu);
    let later = wait_for(&mut meter, |counters| counters.cpu >= before + Duration::from_millis(100));
    let elapsed = began.elapsed();
    assert!(later.cpu - before <= elapsed + Duration::from_millis(100), "one processor at most: {later:?} {elapsed:?}");
    assert_eq!(later.network, NetworkTraffic::default(), "it is in the network of the host");

    fs::write(&groups.limit, (2 * LIMIT).to_string()).unwrap();
    assert_eq!(meter.read().unwrap().memory_limit_bytes, Some(2 * LIMIT));
    process.kill().unwrap();
    process.wait().unwrap();
    drop(groups);
    assert!(meter.read().is_err(), "the groups are gone");
}
