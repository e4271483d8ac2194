//! Limits of containers, from the panel's units to the engine's.

use crate::config::NodeConfig;
use crate::model::Resources;
use crate::model::settings::{Build, UnenforcedLimit};
use crate::runtime::{CPU_PERIOD, HostInfo, Limits};

const MIB: i64 = 1024 * 1024;

/// The limits of a server.
pub(super) fn of_server(build: &Build, node: &NodeConfig, host: &HostInfo) -> Limits {
    let memory_mib = build.memory_limit.max(0);
    let memory = node.overhead.memory_limit_bytes(memory_mib);
    Limits {
        memory,
        memory_reservation: memory_mib.saturating_mul(MIB).min(memory),
        memory_swap: match build.swap {
            ..0 => -1,
            // Docker rejects a limit of memory and swap without one of memory.
            _ if memory == 0 => 0,
            swap => swap.saturating_mul(MIB).saturating_add(memory),
        },
        oom_kill_disable: host.kernel.oom_kill_disable && !build.oom_killer,
        pids: Some(node.docker.pids_limit),
        blkio_weight: (host.kernel.block_io_weight && build.io_weight > 0).then_some(build.io_weight),
        cpu: (build.cpu_limit > 0).then(|| build.cpu_limit.saturating_mul(CPU_PERIOD / 100)),
        cpuset: build.threads.trim().to_owned(),
    }
}

/// The limits until the start-up has finished, where its boost is more than the limit of CPU time.
pub(super) fn of_start(limits: &Limits, resources: &Resources) -> Option<Limits> {
    let boost = resources.cpu_start_boost?.saturating_mul(CPU_PERIOD / 100);
    limits.cpu.filter(|cpu| *cpu < boost).map(|_| Limits { cpu: Some(boost), ..limits.clone() })
}

/// What the kernel of this host does not enforce of a server's limits.
pub fn unenforced(build: &Build, host: &HostInfo) -> Vec<UnenforcedLimit> {
    let (limited, default) = (build.memory_limit > 0, Build::default());
    let asked = [
        (UnenforcedLimit::OomKiller, limited && !build.oom_killer && !host.kernel.oom_kill_disable),
        (UnenforcedLimit::Swap, limited && build.swap >= 0 && !host.kernel.swap),
        (UnenforcedLimit::IoWeight, ![0, default.io_weight].contains(&build.io_weight) && !host.kernel.block_io_weight),
    ];
    asked.into_iter().filter(|(_, missing)| *missing).map(|(limit, _)| limit).collect()
}

/// The limits of an installer: the larger ones of the server and of the node's minimum for installers.
///
/// What is unlimited for the server is unlimited for its installer.
pub(super) fn of_installer(build: &Build, node: &NodeConfig, host: &HostInfo) -> Limits {
    let least = &node.docker.installer_limits;
    let larger = |of_server: i64, least: i64| if of_server <= 0 { of_server } else { of_server.max(least) };
    let build = Build {
        memory_limit: larger(build.memory_limit, least.memory_mib),
        cpu_limit: if least.cpu_percent == 0 { 0 } else { larger(build.cpu_limit, least.cpu_percent) },
        ..build.clone()
    };
    of_server(&build, node, host)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::runtime::KernelLimits;

    fn node() -> NodeConfig {
        crate::testing::node_config(Path::new("/node"))
    }

    fn host() -> HostInfo {
        let kernel = KernelLimits { block_io_weight: true, oom_kill_disable: true, swap: true };
        HostInfo { kernel, ..HostInfo::default() }
    }

    fn server(change: impl FnOnce(&mut Build)) -> Limits {
        let mut build = Build::default();
        change(&mut build);
        of_server(&build, &node(), &host())
    }

    fn installer(memory_limit: i64, cpu_limit: i64) -> Limits {
        of_installer(&Build { memory_limit, cpu_limit, ..Build::default() }, &node(), &host())
    }

    #[test]
    fn memory_has_overhead_and_a_reservation() {
        for (limit, factor) in [(128, 1.15), (2048, 1.15), (2049, 1.10), (4096, 1.10), (4097, 1.05), (8192, 1.05)] {
            let limits = server(|build| build.memory_limit = limit);
            assert_eq!(limits.memory, (limit as f64 * factor * MIB as f64).round() as i64, "{limit}");
            assert_eq!(limits.memory_reservation, limit * MIB);
        }
        let none = server(|build| build.memory_limit = 0);
        assert_eq!((none.memory, none.memory_reservation, none.memory_swap), (0, 0, 0));
    }

    #[test]
    fn swap_comes_on_top_of_memory() {
        let swap = |memory_limit, swap| {
            let limits = server(|build| (build.memory_limit, build.swap) = (memory_limit, swap));
            (limits.memory, limits.memory_swap)
        };
        // As seen of a running node.
        assert_eq!(swap(128, 64), (154_350_387, 221_459_251));
        assert_eq!(swap(128, 0), (154_350_387, 154_350_387));
        assert_eq!(swap(128, -1), (154_350_387, -1));
        assert_eq!(swap(0, -1), (0, -1));
        assert_eq!(swap(0, 64), (0, 0));
    }

    #[test]
    fn cpu_cores_processes_and_other_limits() {
        let cpu = |limit| server(|build| build.cpu_limit = limit).cpu;
        assert_eq!(cpu(50), Some(50_000));
        assert_eq!(cpu(150), Some(150_000));
        assert_eq!(cpu(0), None);
        assert_eq!(server(|build| build.threads = " 0-1,3 ".into()).cpuset, "0-1,3");
        assert_eq!(server(|_| ()).pids, Some(512));
        assert!(server(|build| build.oom_killer = false).oom_kill_disable);
        assert!(!server(|build| build.oom_killer = true).oom_kill_disable);
        assert_eq!(server(|build| build.io_weight = 300).blkio_weight, Some(300));
        assert_eq!(server(|build| build.io_weight = 0).blkio_weight, None);
        // What the kernel does not know is not asked for.
        let bare = of_server(&Build { oom_killer: false, ..Build::default() }, &node(), &HostInfo::default());
        assert_eq!((bare.blkio_weight, bare.oom_kill_disable), (None, false));
    }

    #[test]
    fn a_boost_replaces_a_lower_limit_until_the_start_up_has_finished() {
        for (limit, boost, expected) in [
            (50, Some(400), Some(400_000)),
            (50, None, None),
            (0, Some(400), None),
            (400, Some(400), None),
            (500, Some(400), None),
        ] {
            let limits = server(|build| build.cpu_limit = limit);
            let start = of_start(&limits, &Resources { cpu_start_boost: boost, ..Resources::default() });
            assert_eq!(start.as_ref().map(|start| start.cpu.unwrap()), expected, "{limit} {boost:?}");
            assert!(start.is_none_or(|start| Limits { cpu: limits.cpu, ..start } == limits), "nothing else changes");
        }
    }

    #[test]
    fn limits_that_the_kernel_does_not_enforce_are_named() {
        use UnenforcedLimit::{IoWeight, OomKiller, Swap};
        let build = |memory_limit, swap, oom_killer, io_weight| Build {
            memory_limit,
            swap,
            oom_killer,
            io_weight,
            ..Build::default()
        };
        for (build, expected) in [
            (build(512, 0, false, 300), vec![OomKiller, Swap, IoWeight]),
            (build(512, -1, true, 500), vec![]),
            (build(512, 64, true, 0), vec![Swap]),
            // Without a limit of memory there is nothing to enforce.
            (build(0, 0, false, 500), vec![]),
        ] {
            assert_eq!(unenforced(&build, &HostInfo::default()), expected, "{build:?}");
            assert_eq!(unenforced(&build, &host()), [], "{build:?}");
        }
    }

    #[test]
    fn extreme_values_stay_in_range() {
        let limits = server(|build| (build.memory_limit, build.swap, build.cpu_limit) = (i64::MAX, i64::MAX, i64::MAX));
        assert_eq!((limits.memory, limits.memory_swap), (i64::MAX, i64::MAX));
        assert_eq!(limits.cpu.unwrap(), i64::MAX);
        assert_eq!(server(|build| build.memory_limit = -5).memory, 0);
    }

    #[test]
    fn an_installer_gets_the_larger_limit() {
        // As seen of a running node.
        let seen =
            of_installer(&Build { memory_limit: 128, swap: 64, cpu_limit: 150, ..Build::default() }, &node(), &host());
        assert_eq!(
            (seen.memory, seen.memory_reservation, seen.memory_swap),
            (1_234_803_098, 1_073_741_824, 1_301_911_962)
        );
        assert_eq!(seen.cpu.unwrap(), 150_000);
        assert_eq!(installer(4096, 50).memory_reservation, 4096 * MIB);
        assert_eq!(installer(4096, 50).cpu.unwrap(), 100_000);
        assert_eq!(installer(64, 0).cpu, None);
        assert_eq!(installer(0, 0).memory, 0, "without limit stays without limit");
        assert_eq!(installer(64, 50).pids, Some(512), "installers are limited, too");
        let mut node = node();
        node.docker.installer_limits.cpu_percent = 0;
        let unlimited = of_installer(&Build { cpu_limit: 50, ..Build::default() }, &node, &host());
        assert_eq!(unlimited.cpu, None);
    }
}
