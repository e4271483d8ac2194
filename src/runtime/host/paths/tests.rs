//! Paths on file systems that do not answer.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, mpsc};

use super::*;

/// A host on which `/dead` hangs until it is released.
struct Host {
    paths: Paths,
    dead: Arc<AtomicBool>,
    /// Questions that have hung.
    hung: Arc<AtomicU32>,
    release: mpsc::Sender<()>,
}

fn host() -> Host {
    let (release, released) = mpsc::channel::<()>();
    let (dead, hung, released) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)), Mutex::new(released));
    let (is_dead, hangs) = (dead.clone(), hung.clone());
    let follow = move |path: &Path| {
        if path.starts_with("/dead") && is_dead.load(Ordering::SeqCst) {
            hangs.fetch_add(1, Ordering::SeqCst);
            let _ = released.lock().unwrap().recv();
        }
        MountSource::There(path.to_owned())
    };
    let paths = Paths::with(Blocking::Pool, Arc::new(follow), Duration::from_millis(100));
    Host { paths, dead, hung, release }
}

#[tokio::test]
async fn an_unresponsive_path_is_named_and_hangs_one_thread() {
    let host = host();
    let mounts = ["/srv/maps", "/dead/share", "/dead/other"];
    let began = Instant::now();
    for _ in 0..20 {
        let silent = host.paths.of_mounts(&mounts, &[]).await.unwrap_err();
        assert_eq!(silent, unresponsive(Path::new("/dead/share")));
    }
    assert!(began.elapsed() < Duration::from_secs(1), "only the first one waits");
    assert_eq!(host.hung.load(Ordering::SeqCst), 1);
    // Other paths are still resolved.
    assert!(host.paths.of_mounts(&mounts[..1], &["/srv".into(), "/dead".into()]).await.is_ok());
    // After an answer the path is asked for again.
    host.dead.store(false, Ordering::SeqCst);
    drop(host.release);
    while host.paths.of_mounts(&mounts, &[]).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(host.hung.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_unresponsive_allowed_folder_affects_only_sources_below_it() {
    let host = host();
    let allowed = ["/dead".into(), "/srv".into()];
    let info = host.paths.of_mounts(&["/srv/maps"], &allowed).await.unwrap();
    assert_eq!((info.allowed, host.hung.load(Ordering::SeqCst)), (vec![PathBuf::from("/srv")], 0));
    assert!(host.paths.of_mounts(&["/dead/maps"], &allowed).await.is_err());
    // A link may lead to the dead folder. An unknown path is not allowed.
    let info = host.paths.of_mounts(&["/opt/maps"], &allowed).await.unwrap();
    assert!(!info.all_allowed());
}

#[tokio::test]
async fn a_path_is_asked_for_again_after_its_thread_panicked() {
    let asked = Arc::new(AtomicU32::new(0));
    let count = asked.clone();
    let follow = move |_: &Path| {
        count.fetch_add(1, Ordering::SeqCst);
        panic!("for a test")
    };
    let paths = Paths::with(Blocking::Pool, Arc::new(follow), Duration::from_secs(5));
    for _ in 0..2 {
        assert!(paths.of_mounts(&["/srv"], &[]).await.is_err());
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn allowed_folders_are_resolved() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    fs::create_dir_all(root.join("share/sub")).unwrap();
    symlink(root.join("share"), root.join("link")).unwrap();
    let paths = Paths::new(Blocking::Inline);
    let relative = || [PathBuf::new(), "relative".into(), "/no/where".into(), root.join("link")];
    for source in ["share", "share/sub", "link", "link/sub"] {
        let info = paths.of_mounts(&[root.join(source).to_str().unwrap()], &relative()).await.unwrap();
        assert!(info.all_allowed() && info.allowed.contains(&root.join("share")), "{source}: {info:?}");
    }
    let info = paths.of_mounts(&["/no/where", "relative", ""], &relative()).await.unwrap();
    assert_eq!(info.sources["/no/where"], MountSource::Missing);
    assert!(
        info.sources.iter().all(|(source, found)| source == "/no/where" || matches!(found, MountSource::Unusable(_)))
    );
    assert_eq!(info.allowed, [PathBuf::from("/no/where")]);
}
