use std::path::Path;

use super::*;
use crate::model::Script;
use crate::model::settings::Mount;
use crate::model::{ManagedBy, Manifest};
use crate::runtime::HostInfo;
use crate::runtime::spec_builder::{installer_container, server_container};
use crate::tasks::Blocking;

fn id() -> ServerId {
    "550e8400-e29b-41d4-a716-446655440000".parse().unwrap()
}

fn node() -> NodeConfig {
    NodeConfig { allowed_mounts: vec!["/srv/share".into()], ..crate::testing::node_config(Path::new("/node")) }
}

/// Resolves paths: all exist as written, except a few.
fn follow(path: &Path) -> MountSource {
    match path.to_str().unwrap() {
        "/srv/share/out" => MountSource::There("/etc".into()),
        "/srv/in" => MountSource::There("/srv/share/y".into()),
        "/srv/share/missing" => MountSource::Missing,
        "/srv/share/closed" => MountSource::Unusable("its source cannot be looked at".into()),
        _ => MountSource::There(path.to_owned()),
    }
}

/// Resolves a server's mounts, each a source and a target.
async fn resolved(mounts: &[(&str, &str)], node: NodeConfig) -> (Vec<String>, Vec<String>) {
    let mount = |(source, target): &(&str, &str)| Mount {
        source: source.to_string(),
        target: target.to_string(),
        read_only: true,
    };
    let mounts = Some(mounts.iter().map(mount).collect());
    let mut manifest = Manifest::new(id(), ManagedBy::File);
    manifest.spec.settings.mounts = mounts;
    let mut built = server_container(&manifest, &node, &HostInfo::default());
    let paths = Paths::with(Blocking::Inline, Arc::new(follow), std::time::Duration::from_secs(5));
    Volumes::new(Arc::new(node), paths).resolve(id(), &mut built).await.unwrap();
    let custom = built.spec.volumes.iter().filter(|volume| source(volume).is_some());
    let custom = custom.map(|volume| format!("{} {}", volume.path.as_deref().unwrap(), volume.target));
    (custom.collect(), built.omissions.iter().map(ToString::to_string).collect())
}

fn paths(built: &BuiltSpec) -> Vec<&str> {
    built.spec.volumes.iter().map(|volume| volume.path.as_deref().unwrap()).collect()
}

#[tokio::test]
async fn each_role_has_a_path() {
    let (node, host) = (Arc::new(node()), HostInfo::default());
    let volumes = Volumes::new(node.clone(), Paths::new(Blocking::Inline));
    let manifest = Manifest::new(id(), ManagedBy::File);
    let mut server = server_container(&manifest, &node, &host);
    volumes.resolve(id(), &mut server).await.unwrap();
    let data = format!("/node/servers/{}/data", id());
    let passwd = node.directories.passwd.display();
    let machine_id = node.directories.machine_id.join(id().to_string()).display().to_string();
    assert_eq!(paths(&server), [data.clone(), format!("{passwd}/passwd"), format!("{passwd}/group"), machine_id]);
    let script = Script { image: "i".into(), entrypoint: "sh".into(), text: String::new() };
    let mut installer = installer_container(id(), &manifest.spec, &script, &node, &host);
    volumes.resolve(id(), &mut installer).await.unwrap();
    assert_eq!(paths(&installer), [data, format!("{}/install_{}", node.directories.tmp.display(), id())]);
}

#[tokio::test]
async fn the_allow_list_compares_complete_components() {
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
        let (mounts, omissions) = resolved(&[(source, "/mnt/x")], node()).await;
        assert_eq!(mounts.len(), usize::from(allowed), "{source}");
        assert_eq!(omissions.len(), usize::from(!allowed), "{source}");
    }
}

#[tokio::test]
async fn links_are_allowed_by_their_targets() {
    for (source, expected) in [
        ("/srv/share/out", Err("/etc is not below any")),
        ("/srv/in", Ok("/srv/share/y /mnt/x")),
        ("/srv/share/missing", Err("does not exist")),
        ("/srv/share/closed", Err("cannot be looked at")),
    ] {
        match (resolved(&[(source, "/mnt/x")], node()).await, expected) {
            ((mounts, omissions), Ok(mount)) => assert_eq!((mounts, omissions.len()), (vec![mount.to_owned()], 0)),
            ((mounts, omissions), Err(words)) => {
                assert!(mounts.is_empty() && omissions[0].contains(words), "{omissions:?}");
            }
        }
    }
}

#[tokio::test]
async fn without_an_allow_list_nothing_is_allowed() {
    let node = NodeConfig { allowed_mounts: vec![], ..node() };
    let (mounts, omissions) = resolved(&[("/srv/share", "/mnt/x")], node).await;
    assert_eq!((mounts.len(), omissions.len()), (0, 1));
}

#[tokio::test]
async fn two_volumes_cannot_have_the_same_target() {
    let (mounts, omissions) = resolved(&[("/srv/share/a", "/mnt/x"), ("/srv/share/b", "/mnt//x/")], node()).await;
    assert_eq!(mounts, ["/srv/share/a /mnt/x"]);
    assert_eq!(omissions, ["mount /srv/share/b at /mnt/x is left out: another mount has this target"]);
    for target in ["/tmp", "/etc/passwd", "/etc/../etc/machine-id"] {
        assert_eq!(resolved(&[("/srv/share", target)], node()).await.0.len(), 0, "{target}");
    }
    let open = NodeConfig { block_base_dir_mount: false, ..node() };
    let (mounts, _) = resolved(&[("/srv/share", "/home/container")], open).await;
    assert_eq!(mounts.len(), 0, "the files stay where they are");
    let (mounts, _) = resolved(&[("/srv/share/missing", "/mnt/x"), ("/srv/share/b", "/mnt/x")], node()).await;
    assert_eq!(mounts, ["/srv/share/b /mnt/x"], "what is left out takes no target");
}
