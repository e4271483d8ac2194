use procfs::process::MountInfo;
use proptest::prelude::*;

use super::location::Hierarchy;
use super::values::*;
use super::*;
use crate::model::DiskIo;

const ID: &str = "4b49f25934671fa31ce06002fb2afe1381156847f3f0074d02ab3f2803e402ed";

fn hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    let mounts = mountinfo.lines().map(|line| MountInfo::from_line(line).unwrap());
    mounts.filter_map(|mount| Hierarchy::of(&mount)).collect()
}

fn find(mountinfo: &str, groups: &str, id: &str) -> Option<Location> {
    let groups = ProcessCGroups::from_buf_read(groups.as_bytes()).unwrap();
    Location::find(&hierarchies(mountinfo), &groups.0, id)
}

/// Separate hierarchies, as without systemd.
const V1: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
38 31 0:35 / /sys/fs/cgroup/blkio rw,relatime - cgroup cgroup rw,blkio
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
const V2: &str =
    "30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

#[test]
fn the_groups_of_a_container_are_found_by_the_mount_table() {
    let joint = "\
40 30 0:33 / /sys/fs/cgroup/cpu,cpuacct rw shared:1 - cgroup cgroup rw,cpu,cpuacct
41 30 0:34 / /sys/fs/cgroup/memory rw shared:2 - cgroup cgroup rw,memory
42 30 0:35 / /sys/fs/cgroup/blkio rw shared:3 - cgroup cgroup rw,blkio\n";
    let nested = "\
40 30 0:33 /docker/outer /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpuacct
41 30 0:34 /docker/outer /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
    let hybrid = "\
41 30 0:34 / /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpuacct
42 30 0:35 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    let v1_groups = |path: &str| format!("4:memory:{path}\n3:cpuset:/\n2:cpu,cpuacct:{path}\n7:blkio:{path}\n0::/x\n");
    use Version::{V1 as One, V2 as Two};
    for (what, mounts, groups, memory, cpu, io) in [
        (
            "version 1, cgroupfs",
            V1,
            format!("4:memory:/docker/{ID}\n2:cpuacct:/docker/{ID}\n7:blkio:/docker/{ID}\n0::/docker/{ID}\n"),
            Some((One, "memory/docker/{id}")),
            Some((One, "cpuacct/docker/{id}")),
            Some((One, "blkio/docker/{id}")),
        ),
        (
            "version 1, systemd",
            joint,
            v1_groups(&format!("/system.slice/docker-{ID}.scope")),
            Some((One, "memory/system.slice/docker-{id}.scope")),
            Some((One, "cpu,cpuacct/system.slice/docker-{id}.scope")),
            Some((One, "blkio/system.slice/docker-{id}.scope")),
        ),
        (
            "version 1, in a container",
            nested,
            format!("4:memory:/docker/outer/docker/{ID}\n2:cpuacct:/docker/outer/docker/{ID}\n"),
            Some((One, "memory/docker/{id}")),
            Some((One, "cpuacct/docker/{id}")),
            None,
        ),
        (
            "version 2, systemd",
            V2,
            format!("0::/system.slice/docker-{ID}.scope\n"),
            Some((Two, "system.slice/docker-{id}.scope")),
            Some((Two, "system.slice/docker-{id}.scope")),
            Some((Two, "system.slice/docker-{id}.scope")),
        ),
        (
            "version 2, the process in a group of its own",
            V2,
            format!("0::/machine.slice/libpod-{ID}.scope/container\n"),
            Some((Two, "machine.slice/libpod-{id}.scope")),
            Some((Two, "machine.slice/libpod-{id}.scope")),
            Some((Two, "machine.slice/libpod-{id}.scope")),
        ),
        (
            "both versions",
            hybrid,
            format!("2:cpuacct:/docker/{ID}\n0::/docker/{ID}\n"),
            Some((Two, "unified/docker/{id}")),
            Some((One, "cpuacct/docker/{id}")),
            Some((Two, "unified/docker/{id}")),
        ),
    ] {
        let full = |part: Option<(Version, &str)>| {
            part.map(|(version, path)| (version, Path::new("/sys/fs/cgroup").join(path.replace("{id}", ID))))
        };
        let expected = Location { memory: full(memory), cpu: full(cpu), disk_io: full(io) };
        assert_eq!(find(mounts, &groups, ID), Some(expected), "{what}");
    }
}

#[test]
fn the_groups_of_another_process_are_not_taken() {
    for groups in [
        "0::/user.slice/user-0.slice/session-1.scope\n".to_owned(),
        "0::/\n".into(),
        String::new(),
        format!("0::/docker/{}\n", ID.replace('4', "5")),
        // Above what this process sees.
        format!("0::/../../docker/{ID}\n"),
    ] {
        assert_eq!(find(V2, &groups, ID), None, "{groups}");
    }
    assert_eq!(find(V2, &format!("0::/docker/{ID}\n"), ""), None, "a container without an id");
    assert_eq!(find("", &format!("0::/docker/{ID}\n"), ID), None, "nothing is mounted");
}

#[test]
fn the_files_of_both_versions_are_read() {
    assert_eq!(number("154350387\n"), 154_350_387);
    for (text, expected) in [
        ("154350387\n", Some(154_350_387)),
        ("max\n", None),
        ("9223372036854771712\n", None),
        ("", None),
        ("-1\n", None),
    ] {
        assert_eq!(limit(text), expected, "{text:?}");
    }
    let v1 = "cache 12\ninactive_file 7\nhierarchical_memory_limit 154350387\ntotal_inactive_file 352256\n";
    assert_eq!(inactive_file(v1), Some(352_256));
    assert_eq!(inactive_file("anon 5\ninactive_anon 1\ninactive_file 8192\nactive_file 4\n"), Some(8192));
    assert_eq!(inactive_file("anon 5\n"), None);
    let stat = "usage_usec 1520\nuser_usec 1000\nsystem_usec 520\nnr_periods 0\n";
    assert_eq!(cpu_stat(stat), Duration::from_micros(1520));
    let v1 = "254:0 Read 4096\n254:0 Write 8192\n254:0 Sync 1\n254:0 Total 12289\n7:1 read 1\nTotal 12289\n";
    assert_eq!(service_bytes(v1), DiskIo { read_bytes: 4097, write_bytes: 8192 });
    let v2 = "254:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n7:1 rbytes=1 wbytes=0 rios=1\n7:0 \n";
    assert_eq!(io_stat(v2), DiskIo { read_bytes: 4097, write_bytes: 8192 });
    let dev = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 8996004384 1547937    0    0    0     0          0         0 8996004384 1547937    0    0    0     0       0          0
  eth0:     240       2    0    0    0     0          0         0     80       1    0    0    0     0       0          0
eth0:1:18446744073709551615 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n";
    assert_eq!(network(dev), NetworkTraffic { rx_bytes: u64::MAX, tx_bytes: 87 });
}

#[test]
fn a_meter_reads_its_files_again_each_time() {
    let root = tempfile::tempdir().unwrap();
    let (proc, group) = (root.path().join("proc"), root.path().join("cgroup/docker").join(ID));
    let write = |path: &Path, text: &str| {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let mounted = root.path().join("cgroup");
    write(&proc.join("self/mountinfo"), &format!("30 23 0:26 / {} rw - cgroup2 cgroup2 rw\n", mounted.display()));
    write(&proc.join("77/cgroup"), &format!("0::/docker/{ID}\n"));
    write(&proc.join("77/net/dev"), "eth0: 5 0 0 0 0 0 0 0 6 0 0 0 0 0 0 0\n");
    for (file, text) in
        [("memory.max", "max\n"), ("memory.stat", "inactive_file 100\n"), ("cpu.stat", "usage_usec 3\n")]
    {
        write(&group.join(file), text);
    }
    write(&group.join("memory.current"), "150\n");
    let cgroups = Cgroups::of_host(&proc);
    assert!(cgroups.meter(ID, 78).is_none(), "no such process");
    let mut meter = cgroups.meter(ID, 77).unwrap();
    let expected = Counters {
        memory_bytes: 50,
        memory_limit_bytes: None,
        cpu: Duration::from_micros(3),
        network: NetworkTraffic { rx_bytes: 5, tx_bytes: 6 },
        // The controller is not enabled.
        disk_io: DiskIo::default(),
    };
    assert_eq!(meter.read().unwrap(), expected);
    write(&group.join("memory.current"), "99\n");
    write(&group.join("memory.max"), "4096\n");
    let later = Counters { memory_bytes: 99, memory_limit_bytes: Some(4096), ..expected };
    assert_eq!(meter.read().unwrap(), later, "less is in use than the cache was");
    meter.close();
    std::fs::remove_dir_all(&group).unwrap();
    assert_eq!(meter.read().unwrap_err().kind(), io::ErrorKind::NotFound);
}

proptest! {
    #[test]
    fn no_text_breaks_a_parser(text in "(?s).{0,200}", words in prop::collection::vec("[a-z0-9:= .\n-]{0,24}", 0..12)) {
        for text in [text, words.concat()] {
            (number(&text), limit(&text), inactive_file(&text), cpu_stat(&text));
            (service_bytes(&text), io_stat(&text), network(&text));
        }
    }

    #[test]
    fn a_group_is_only_found_below_its_mount(
        root in "(/[a-z.]{1,4}){0,3}|/", mount in "(/[a-z ]{1,4}){1,3}", group in "(/[a-z.]{1,4}){0,4}", id in "[a-z]{1,3}",
    ) {
        let mount = PathBuf::from(mount);
        let hierarchy =
            Hierarchy { version: Version::V2, controllers: vec![], root: root.into(), mount_point: mount.clone() };
        let groups = [procfs::ProcessCGroup { hierarchy: 0, controllers: vec![], pathname: group }];
        if let Some((_, directory)) = Location::find(&[hierarchy], &groups, &id).and_then(|found| found.memory) {
            prop_assert!(directory.starts_with(&mount));
            prop_assert!(!directory.components().any(|part| part == std::path::Component::ParentDir));
        }
    }
}
