use std::path::Path;

use super::*;

fn node() -> NodeConfig {
    crate::testing::node_config(Path::new("/node"))
}

/// Targets of mounts in the container, and omissions.
fn targets_of(mounts: &[&str], node: &NodeConfig) -> (Vec<String>, Vec<String>) {
    let mount = |target: &&str| Mount { source: "/srv".into(), target: target.to_string(), read_only: true };
    let settings = Settings { mounts: Some(mounts.iter().map(mount).collect()), ..Settings::default() };
    let mut omissions = Vec::new();
    let all = of_server(&settings, node, &mut omissions);
    let custom = all.into_iter().filter(|volume| matches!(volume.role, VolumeRole::Mount { .. }));
    (custom.map(|volume| volume.target).collect(), omissions)
}

#[test]
fn the_fixed_volumes_can_be_off() {
    let mut node = node();
    let volumes = |node: &NodeConfig| -> Vec<(VolumeRole, String, bool)> {
        let volumes = of_server(&Settings::default(), node, &mut Vec::new());
        volumes.into_iter().map(|volume| (volume.role, volume.target, volume.read_only)).collect()
    };
    let data = (VolumeRole::Data, "/home/container".to_owned(), false);
    let expected = [
        data.clone(),
        (VolumeRole::Passwd, "/etc/passwd".to_owned(), true),
        (VolumeRole::Group, "/etc/group".to_owned(), true),
        (VolumeRole::MachineId, "/etc/machine-id".to_owned(), true),
    ];
    assert_eq!(volumes(&node), expected);
    node.mount_passwd = false;
    node.mount_machine_id = false;
    assert_eq!(volumes(&node), [data]);
}

#[test]
fn targets_cannot_hide_fixed_folders() {
    for (target, allowed) in [
        ("/home/container", false),
        ("/home/container/", false),
        ("/home/container/inside", false),
        ("/home/./container//inside", false),
        ("/mnt/../home/container", false),
        ("/home/containerx", true),
        ("/home", true),
        ("/", false),
        ("/..", false),
        ("relative", false),
        ("", false),
        ("/mnt/maps", true),
    ] {
        let (targets, omissions) = targets_of(&[target], &node());
        assert_eq!(targets.len(), usize::from(allowed), "{target}");
        assert_eq!(omissions.len(), usize::from(!allowed), "{target}");
    }
    let mut open = node();
    open.block_base_dir_mount = false;
    assert_eq!(targets_of(&["/home/container/inside"], &open).0.len(), 1);
}

#[test]
fn the_number_of_mounts_is_limited() {
    let targets: Vec<String> = (0..1000).map(|n| format!("/mnt/{n}")).collect();
    let wanted: Vec<&str> = targets.iter().map(String::as_str).collect();
    let (targets, omissions) = targets_of(&wanted, &node());
    assert_eq!(targets.len(), MAX_MOUNTS);
    assert_eq!(omissions.len(), 2 * MAX_MOUNTS, "and are not all named");
}
