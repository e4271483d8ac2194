use super::*;
use crate::runtime::blueprint::MountFacts;

fn node() -> NodeConfig {
    NodeConfig::for_tests(Path::new("/node"))
}

fn id() -> ServerId {
    "550e8400-e29b-41d4-a716-446655440000".parse().unwrap()
}

/// What becomes of mounts whose sources all exist under the path they say, with `/srv/share` allowed.
fn settle(mounts: &[(&str, &str)], node: &NodeConfig) -> (Vec<String>, Vec<Omission>) {
    let sources = mounts.iter().filter_map(|(source, _)| {
        let real = clean(source)?;
        Some((source.to_string(), MountSource::There(real)))
    });
    let facts = BlueprintFacts {
        data: "/node/data".into(),
        mounts: MountFacts { sources: sources.collect(), allowed: vec!["/srv/share".into()] },
        ..BlueprintFacts::default()
    };
    let mount = |(source, target): &(&str, &str)| Mount {
        source: source.to_string(),
        target: target.to_string(),
        read_only: false,
    };
    let settings = Settings { mounts: Some(mounts.iter().map(mount).collect()), ..Settings::default() };
    let mut omissions = Vec::new();
    let all = of_server(id(), &settings, node, &facts, &mut omissions);
    let custom = all.iter().skip(4).map(|mount| format!("{} {}", mount.source, mount.target)).collect();
    (custom, omissions)
}

#[test]
fn the_fixed_mounts_can_be_off() {
    let mut node = node();
    let settings = Settings::default();
    let facts = BlueprintFacts { data: "/node/data".into(), ..BlueprintFacts::default() };
    let targets = |node: &NodeConfig| -> Vec<(String, bool)> {
        let mounts = of_server(id(), &settings, node, &facts, &mut Vec::new());
        mounts.into_iter().map(|mount| (mount.target, mount.read_only)).collect()
    };
    let expected = [("/home/container", false), ("/etc/passwd", true), ("/etc/group", true), ("/etc/machine-id", true)];
    assert_eq!(targets(&node), expected.map(|(target, read_only)| (target.to_owned(), read_only)));
    node.mount_passwd = false;
    node.mount_machine_id = false;
    assert_eq!(targets(&node), [("/home/container".to_owned(), false)]);
}

#[test]
fn the_allow_list_goes_by_whole_components() {
    for (source, allowed) in [
        ("/srv/share", true),
        ("/srv/share/", true),
        ("/srv/share/maps", true),
        ("/srv/share/../share/maps", true),
        ("/srv/share2", false),
        ("/srv/share-private", false),
        ("/srv", false),
        ("/", false),
        ("/etc", false),
        ("/srv/share/../other", false),
        ("/srv/share/../../..", false),
        ("srv/share", false),
        ("", false),
    ] {
        let (mounts, omissions) = settle(&[(source, "/mnt/x")], &node());
        assert_eq!(mounts.len(), usize::from(allowed), "{source}");
        assert_eq!(omissions.len(), usize::from(!allowed), "{source}");
    }
}

#[test]
fn links_count_by_where_they_lead() {
    let mount = Mount { source: "/srv/share/link".into(), target: "/mnt/x".into(), read_only: true };
    for (source, expected) in [
        (MountSource::There("/etc".into()), Err("is not below any")),
        (MountSource::There("/data/share/y".into()), Ok("/data/share/y")),
        (MountSource::Missing, Err("does not exist")),
        (MountSource::Unusable("its source cannot be looked at".into()), Err("cannot be looked at")),
    ] {
        let sources = [(mount.source.clone(), source)].into();
        let mounts = MountFacts { sources, allowed: vec!["/data/share".into()] };
        let facts = BlueprintFacts { mounts, ..BlueprintFacts::default() };
        match (allowed(&mount, &node(), &facts, &mut BTreeSet::new()), expected) {
            (Ok(bound), Ok(path)) => assert_eq!((bound.source.as_str(), bound.read_only), (path, true)),
            (Err(reason), Err(words)) => assert!(reason.contains(words), "{reason}"),
            (found, _) => panic!("{found:?}"),
        }
    }
}

#[test]
fn without_an_allow_list_nothing_is_allowed() {
    let sources = [("/srv/share".to_owned(), MountSource::There("/srv/share".into()))].into();
    let facts = BlueprintFacts { mounts: MountFacts { sources, allowed: vec![] }, ..BlueprintFacts::default() };
    let mount = Mount { source: "/srv/share".into(), target: "/mnt/x".into(), read_only: true };
    assert!(allowed(&mount, &node(), &facts, &mut BTreeSet::new()).is_err());
}

#[test]
fn targets_do_not_hide_what_is_there() {
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
        ("/tmp", false),
        ("/etc/passwd", false),
        ("/etc/../etc/machine-id", false),
        ("/mnt/maps", true),
    ] {
        let (mounts, omissions) = settle(&[("/srv/share", target)], &node());
        assert_eq!(mounts.len(), usize::from(allowed), "{target}");
        assert_eq!(omissions.len(), usize::from(!allowed), "{target}");
    }
    let mut open = node();
    open.block_base_dir_mount = false;
    assert_eq!(settle(&[("/srv/share", "/home/container/inside")], &open).0.len(), 1);
    assert_eq!(settle(&[("/srv/share", "/home/container")], &open).0.len(), 0, "the files stay where they are");
}

#[test]
fn two_mounts_do_not_share_a_target() {
    let (mounts, omissions) = settle(&[("/srv/share/a", "/mnt/x"), ("/srv/share/b", "/mnt//x/")], &node());
    assert_eq!(mounts, ["/srv/share/a /mnt/x"]);
    assert_eq!(omissions[0].to_string(), "mount /srv/share/b at /mnt//x/ is left out: another mount has this target");
}

#[test]
fn a_thousand_mounts_are_too_many() {
    let targets: Vec<String> = (0..1000).map(|n| format!("/mnt/{n}")).collect();
    let wanted: Vec<(&str, &str)> = targets.iter().map(|target| ("/srv/share", target.as_str())).collect();
    let (mounts, omissions) = settle(&wanted, &node());
    assert_eq!(mounts.len(), MAX_MOUNTS);
    assert_eq!(omissions.len(), 2 * MAX_MOUNTS, "and are not all named");
}
