use super::*;
use crate::config::ContainerUser;
use crate::model::ServerId;

fn node() -> (tempfile::TempDir, NodeConfig) {
    let dir = tempfile::tempdir().unwrap();
    let mut node = crate::testing::node_config(&dir.path().join("root"));
    node.directories.data = Some(dir.path().join("volumes"));
    node.owner = Owner { name: "pelican".into(), uid: 988, gid: 987 };
    (dir, node)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn directories_are_created_private_and_existing_ones_keep_their_mode() {
    let (_dir, node) = node();
    fs::create_dir_all(&node.directories.backup).unwrap();
    fs::set_permissions(&node.directories.backup, fs::Permissions::from_mode(0o751)).unwrap();
    for _ in 0..2 {
        make_directories(&node).unwrap();
        let directories = &node.directories;
        for path in [
            directories.data.as_ref().unwrap(),
            &directories.log.join("install"),
            &directories.archive,
            &directories.tmp,
            &directories.passwd,
            &directories.machine_id,
        ] {
            assert_eq!(mode(path), 0o700, "{}", path.display());
        }
        assert_eq!(mode(&directories.backup), 0o751);
    }
}

#[test]
fn disabled_mounts_create_nothing() {
    let (_dir, mut node) = node();
    node.mount_passwd = false;
    node.mount_machine_id = false;
    make_directories(&node).unwrap();
    write_passwd_files(&node).unwrap();
    assert!(!node.directories.passwd.exists() && !node.directories.machine_id.exists());
}

#[test]
fn a_directory_that_cannot_be_created_is_named_with_its_key() {
    let (dir, mut node) = node();
    node.directories.backup = dir.path().join("file/backups");
    fs::write(dir.path().join("file"), "").unwrap();
    let error = make_directories(&node).unwrap_err().to_string();
    assert!(error.contains("file/backups") && error.contains("system.backup_directory"), "{error}");
}

#[test]
fn a_tmp_directory_of_another_user_is_rejected() {
    let (dir, mut node) = node();
    if !rustix::process::geteuid().is_root() {
        return; // Only root can give a directory away.
    }
    node.directories.tmp = dir.path().join("foreign");
    fs::create_dir(&node.directories.tmp).unwrap();
    std::os::unix::fs::chown(&node.directories.tmp, Some(12_345), None).unwrap();
    assert!(matches!(make_directories(&node).unwrap_err(), HostError::Foreign { uid: 12_345, .. }));
    // The owner of the servers' files is trusted.
    node.owner.uid = 12_345;
    make_directories(&node).unwrap();
}

#[test]
fn passwd_and_group_for_containers() {
    let (_dir, mut node) = node();
    make_directories(&node).unwrap();
    write_passwd_files(&node).unwrap();
    let passwd = node.directories.passwd.join("passwd");
    let group = node.directories.passwd.join("group");
    let text = |path: &Path| fs::read_to_string(path).unwrap();
    assert_eq!(text(&passwd), "container:x:988:987::/home/container:/usr/sbin/nologin");
    assert_eq!(text(&group), "container:x:987:container");
    assert_eq!((mode(&passwd), mode(&group)), (0o644, 0o644));

    // Running containers mount the file: a correct one is not replaced.
    let inode = fs::metadata(&passwd).unwrap().ino();
    write_passwd_files(&node).unwrap();
    assert_eq!(fs::metadata(&passwd).unwrap().ino(), inode);

    node.rootless = Some(ContainerUser { uid: 0, gid: 0 });
    write_passwd_files(&node).unwrap();
    assert_eq!(text(&passwd), "container:x:0:0::/home/container:/usr/sbin/nologin");
    assert_eq!(node.container_user().to_string(), "0:0");
}

#[test]
fn a_link_to_the_data_directory_is_resolved() {
    let dir = tempfile::tempdir().unwrap();
    let real = dir.path().canonicalize().unwrap().join("disk2/volumes");
    fs::create_dir_all(&real).unwrap();
    std::os::unix::fs::symlink(&real, dir.path().join("volumes")).unwrap();
    let mut file = ConfigFile::default();
    file.system.username = current_user().name;
    let mut node = crate::testing::node_config(&dir.path().join("root"));
    node.directories.data = Some(dir.path().join("volumes"));
    let node = prepare(&file, node, HostEnvironment { variables: &|_| None, etc: Path::new("/etc") }).unwrap();
    assert_eq!(node.directories.data, Some(real.clone()));
    let id: ServerId = "550e8400-e29b-41d4-a716-446655440000".parse().unwrap();
    assert_eq!(node.directories.server_data(&id), real.join(id.to_string()));
    assert_eq!(node.owner, current_user());
}

#[test]
fn a_file_that_others_can_read_is_restricted_to_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.yml");
    fs::write(&path, "debug: true\n").unwrap();
    for (before, restricted, after) in [(0o644, true, 0o600), (0o600, false, 0o600), (0o400, false, 0o400)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(before)).unwrap();
        assert_eq!(restrict_mode(&path).unwrap(), restricted);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, after);
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "debug: true\n");
}
