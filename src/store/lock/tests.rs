//! One at a time, and who it is.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn this() -> Holder {
    Holder::this(&crate::testing::node_config(Path::new("/var/lib/games")))
}

fn try_take(root: &Path) -> Result<StateLock, LockError> {
    StateLock::try_take(root, &this())
}

#[test]
fn one_at_a_time_holds_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("state");
    assert_eq!(daemon_on(&root), None);
    let lock = try_take(&root).unwrap();
    assert!(matches!(try_take(&root), Err(LockError::Held(Some(holder))) if holder == this()));
    assert_eq!(daemon_on(&root), Some(this()));
    drop(lock);
    assert_eq!(daemon_on(&root), None, "what the file says counts while the lock is held");
    drop(try_take(&root).unwrap());
    assert_eq!(root.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(root.join(LOCK_FILE).metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn no_child_inherits_it() {
    let folder = tempfile::tempdir().unwrap();
    let lock = try_take(folder.path()).unwrap();
    assert!(rustix::io::fcntl_getfd(&lock._file).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
}

#[test]
fn a_link_in_its_place_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = folder.path().join("elsewhere");
    symlink(&elsewhere, folder.path().join(LOCK_FILE)).unwrap();
    let error = try_take(folder.path()).unwrap_err().to_string();
    assert!(error.contains("symbolic link; remove it"), "{error}");
    assert!(!elsewhere.exists() && daemon_on(folder.path()).is_none());
}

#[test]
fn an_empty_lock_file_can_be_locked() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(LOCK_FILE), "x".repeat(4096)).unwrap();
    let lock = try_take(folder.path()).unwrap();
    assert_eq!(read_holder(&File::open(folder.path().join(LOCK_FILE)).unwrap()), Some(this()));
    std::fs::write(folder.path().join(LOCK_FILE), "half").unwrap();
    assert!(matches!(try_take(folder.path()), Err(LockError::Held(None))));
    drop(lock);
}

#[tokio::test(start_paused = true)]
async fn it_is_waited_for_a_moment() {
    let folder = tempfile::tempdir().unwrap();
    let lock = try_take(folder.path()).unwrap();
    let begun = Instant::now();
    let held = StateLock::take(folder.path(), &this()).await;
    assert!(matches!(held, Err(LockError::Held(_))) && begun.elapsed() >= TIMEOUT);
    let release = async {
        tokio::time::sleep(TIMEOUT / 2).await;
        drop(lock);
    };
    let (taken, ()) = tokio::join!(async { StateLock::take(folder.path(), &this()).await }, release);
    taken.unwrap();
}
