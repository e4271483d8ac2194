use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use notify::{RecursiveMode, Watcher};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::signals::Handler;
use super::*;

/// Longer than a busy machine pauses a test between two writes.
const TEST_QUIET: Duration = Duration::from_millis(250);
/// Longer than a test's slow writer pauses.
const TEST_UNCLOSED: Duration = Duration::from_millis(800);
/// How long a test waits for what must come.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A state folder with the servers `a` and `fence`, and a running watch.
struct Fixture {
    root: TempDir,
    events: mpsc::Receiver<WatchEvent>,
    task: JoinHandle<()>,
    fences: usize,
}

fn timing(quiet: Duration) -> Timing {
    Timing {
        quiet,
        longest: Duration::from_secs(2),
        unclosed: TEST_UNCLOSED,
        polling: Duration::from_millis(50),
        safety: Duration::from_secs(3600),
        backoff: (Duration::from_millis(10), Duration::from_millis(100)),
    }
}

impl Fixture {
    async fn new() -> Self {
        Self::with(Arc::new(folders::connect), timing(TEST_QUIET)).await
    }

    async fn with(connect: Arc<Connect>, timing: Timing) -> Self {
        let root = TempDir::new().unwrap();
        for name in ["a", "fence"] {
            fs::create_dir_all(root.path().join("servers").join(name)).unwrap();
        }
        let (watch, mut events) = ServersWatch::with(&root.path().join("servers"), connect, timing);
        let task = tokio::spawn(watch.run());
        assert_eq!(next(&mut events).await, WatchEvent::Rescan, "the first event");
        Self { root, events, task, fences: 0 }
    }

    fn server(&self, name: &str) -> PathBuf {
        self.root.path().join("servers").join(name)
    }

    /// The events up to a change that is made after everything else.
    async fn last_reported(&mut self) -> Vec<WatchEvent> {
        self.fences += 1;
        fs::write(self.server("fence").join("config.yml"), self.fences.to_string()).unwrap();
        let mut last_reported = Vec::new();
        loop {
            let event = next(&mut self.events).await;
            if event == WatchEvent::Changed("fence".into()) {
                return last_reported;
            }
            last_reported.push(event);
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn next(events: &mut mpsc::Receiver<WatchEvent>) -> WatchEvent {
    let event = tokio::time::timeout(TIMEOUT, events.recv()).await;
    event.expect("an event in time").expect("a running watch")
}

fn changed(name: &str) -> WatchEvent {
    WatchEvent::Changed(name.into())
}

#[tokio::test]
async fn a_file_written_in_place_in_two_halves_is_one_change() {
    let mut fixture = Fixture::new().await;
    let mut file = fs::File::create(fixture.server("a").join("config.yml")).unwrap();
    file.write_all(b"kind: Ser").unwrap();
    file.sync_all().unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    file.write_all(b"ver\n").unwrap();
    drop(file);
    assert_eq!(fixture.last_reported().await, [changed("a")]);
}

#[tokio::test]
async fn a_temporary_file_renamed_is_one_change() {
    let mut fixture = Fixture::new().await;
    let path = fixture.server("a").join("override.yml");
    crate::atomic::write_file(&path, b"x: 1\n", 0o600).unwrap();
    assert_eq!(fixture.last_reported().await, [changed("a")]);
    crate::atomic::write_file(&path, b"x: 2\n", 0o600).unwrap();
    assert_eq!(fixture.last_reported().await, [changed("a")]);
}

/// What `strace` shows of `:w` with `backup` and `writebackup` set, on a file in a folder.
fn write_as_vim_does(folder: &Path, text: &str) {
    let (config, backup) = (folder.join("config.yml"), folder.join("config.yml~"));
    fs::write(folder.join(".config.yml.swp"), b"b0VIM").unwrap();
    fs::write(folder.join("4913"), b"").unwrap();
    fs::remove_file(folder.join("4913")).unwrap();
    let _ = fs::remove_file(&backup);
    fs::rename(&config, &backup).unwrap();
    fs::write(&config, text).unwrap();
    fs::remove_file(folder.join(".config.yml.swp")).unwrap();
}

#[tokio::test]
async fn vims_dance_is_one_change() {
    let mut fixture = Fixture::new().await;
    fs::write(fixture.server("a").join("config.yml"), "a: 1\n").unwrap();
    assert_eq!(fixture.last_reported().await, [changed("a")]);
    write_as_vim_does(&fixture.server("a"), "a: 2\n");
    assert_eq!(fixture.last_reported().await, [changed("a")]);
}

#[tokio::test]
async fn other_files_and_reading_are_no_change() {
    let mut fixture = Fixture::new().await;
    let folder = fixture.server("a");
    fs::write(folder.join("config.yml"), "a: 1\n").unwrap();
    fs::create_dir_all(folder.join("data/maps")).unwrap();
    assert_eq!(fixture.last_reported().await, [changed("a")]);

    for name in [
        "record.json",
        "status.yml",
        "install.log",
        ".config.yml.swp",
        "config.yml~",
        "4913",
        "#config.yml#",
        "config.yml.bak",
    ] {
        fs::write(folder.join(name), b"x").unwrap();
        fs::remove_file(folder.join(name)).unwrap();
    }
    fs::write(folder.join("data/config.yml"), b"x").unwrap();
    fs::write(folder.join("data/maps/config.yml"), b"x").unwrap();
    fs::read(folder.join("config.yml")).unwrap();
    fs::read_dir(&folder).unwrap().count();
    for name in [".git", "old~"] {
        fs::create_dir(fixture.server(name)).unwrap();
    }
    fs::write(fixture.server("note"), b"a file among folders").unwrap();
    let last_reported = fixture.last_reported().await;
    assert!(last_reported.iter().all(|event| *event == changed("note")), "{last_reported:?}");
}

#[tokio::test]
async fn a_file_deleted_and_made_again_is_one_change() {
    let mut fixture = Fixture::new().await;
    let path = fixture.server("a").join("config.yml");
    fs::write(&path, "a: 1\n").unwrap();
    assert_eq!(fixture.last_reported().await, [changed("a")]);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "a: 2\n").unwrap();
    assert_eq!(fixture.last_reported().await, [changed("a")]);
    fs::remove_file(&path).unwrap();
    assert_eq!(fixture.last_reported().await, [changed("a")]);
}

#[tokio::test]
async fn a_new_folder_is_reported_and_watched() {
    let mut fixture = Fixture::new().await;
    fs::create_dir(fixture.server("b")).unwrap();
    fs::write(fixture.server("b").join("config.yml"), "a: 1\n").unwrap();
    assert_eq!(fixture.last_reported().await, [changed("b")]);
    fs::write(fixture.server("b").join("config.yml"), "a: 2\n").unwrap();
    assert_eq!(fixture.last_reported().await, [changed("b")]);
}

#[tokio::test]
async fn a_folder_moved_in_renamed_and_moved_out_is_followed() {
    let mut fixture = Fixture::new().await;
    let outside = fixture.root.path().join("prepared");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("config.yml"), "a: 1\n").unwrap();

    fs::rename(&outside, fixture.server("b")).unwrap();
    assert_eq!(fixture.last_reported().await, [changed("b")]);
    fs::rename(fixture.server("b"), fixture.server("c")).unwrap();
    let mut last_reported = fixture.last_reported().await;
    last_reported.sort_by_key(|event| format!("{event:?}"));
    assert_eq!(last_reported, [changed("b"), changed("c")]);
    fs::write(fixture.server("c").join("config.yml"), "a: 2\n").unwrap();
    assert_eq!(fixture.last_reported().await, [changed("c")]);

    fs::rename(fixture.server("c"), &outside).unwrap();
    assert_eq!(fixture.last_reported().await, [changed("c")]);
    fs::write(outside.join("config.yml"), "a: 3\n").unwrap();
    assert_eq!(fixture.last_reported().await, []);
}

#[tokio::test]
async fn a_removed_folder_is_reported_and_may_be_created_again() {
    let mut fixture = Fixture::new().await;
    fs::write(fixture.server("a").join("config.yml"), "a: 1\n").unwrap();
    assert_eq!(fixture.last_reported().await, [changed("a")]);
    fs::remove_dir_all(fixture.server("a")).unwrap();
    assert_eq!(fixture.last_reported().await, [changed("a")]);

    // At once again, so that the old folder's end and the new one's beginning come together.
    for round in 0..3 {
        fs::create_dir(fixture.server("a")).unwrap();
        assert_eq!(fixture.last_reported().await, [changed("a")]);
        fs::write(fixture.server("a").join("config.yml"), "a: 1\n").unwrap();
        assert_eq!(fixture.last_reported().await, [changed("a")], "round {round}");
        fs::remove_dir_all(fixture.server("a")).unwrap();
        if round == 1 {
            assert_eq!(fixture.last_reported().await, [changed("a")]);
        }
    }
}

#[tokio::test]
async fn a_linked_file_is_followed_to_its_target() {
    let mut fixture = Fixture::new().await;
    let git = fixture.root.path().join("git");
    fs::create_dir(&git).unwrap();
    let git = git.canonicalize().unwrap();
    fs::write(git.join("one.yml"), "a: 1\n").unwrap();
    fs::write(git.join("two.yml"), "a: 2\n").unwrap();
    let link = fixture.server("a").join("config.yml");
    symlink(git.join("one.yml"), &link).unwrap();
    assert_eq!(fixture.last_reported().await, [changed("a")]);

    crate::atomic::write_file(&git.join("one.yml"), b"a: 3\n", 0o644).unwrap();
    assert_eq!(fixture.last_reported().await, [changed("a")]);
    fs::write(git.join("one.yml"), "a: 4\n").unwrap();
    assert_eq!(fixture.last_reported().await, [changed("a")]);
    fs::write(git.join("two.yml"), "a: 5\n").unwrap();
    assert_eq!(fixture.last_reported().await, []);

    // The link is turned to another file, as deployment tools do.
    symlink(git.join("two.yml"), fixture.server("a").join(".new")).unwrap();
    fs::rename(fixture.server("a").join(".new"), &link).unwrap();
    assert_eq!(fixture.last_reported().await, [changed("a")]);
    fs::write(git.join("two.yml"), "a: 6\n").unwrap();
    assert_eq!(fixture.last_reported().await, [changed("a")]);
    fs::write(git.join("one.yml"), "a: 7\n").unwrap();
    assert_eq!(fixture.last_reported().await, []);

    // Neither the link nor its target are of interest any more.
    fs::remove_file(&link).unwrap();
    assert_eq!(fixture.last_reported().await, [changed("a")]);
    fs::write(git.join("two.yml"), "a: 8\n").unwrap();
    assert_eq!(fixture.last_reported().await, []);
}

#[tokio::test]
async fn a_folder_that_keeps_changing_is_reported_after_the_longest_delay() {
    let timing = Timing { longest: Duration::from_millis(300), ..timing(Duration::from_secs(60)) };
    let mut fixture = Fixture::with(Arc::new(folders::connect), timing).await;
    let path = fixture.server("a").join("config.yml");
    let writer = tokio::spawn(async move {
        loop {
            fs::write(&path, "a: 1\n").unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert_eq!(next(&mut fixture.events).await, changed("a"));
    writer.abort();
}

#[tokio::test]
async fn a_file_that_a_slow_program_writes_is_reported_at_its_close() {
    let mut fixture = Fixture::new().await;
    let outside = fixture.root.path().canonicalize().unwrap().join("linked.yml");
    fs::write(&outside, "a: 1\n").unwrap();
    symlink(&outside, fixture.server("a").join("override.yml")).unwrap();
    assert_eq!(fixture.last_reported().await, [changed("a")]);
    let config = fixture.server("a").join("config.yml");
    for (path, other) in [(&config, &outside), (&outside, &config)] {
        let mut file = fs::File::create(path).unwrap();
        for line in 0..4 {
            writeln!(file, "line: {line}").unwrap();
            // Longer than `quiet`, and all of them longer than `longest`. Another complete file makes no difference.
            tokio::time::sleep(TEST_QUIET * 2).await;
            fs::write(other, "x: 1\n").unwrap();
            assert_eq!(fixture.last_reported().await, [], "{}: line {line}", path.display());
        }
        drop(file);
        assert_eq!(fixture.last_reported().await, [changed("a")], "{}", path.display());
    }
}

#[tokio::test]
async fn a_file_that_stays_open_is_reported_when_it_has_not_changed_for_a_while() {
    let mut fixture = Fixture::new().await;
    let mut file = fs::File::create(fixture.server("a").join("config.yml")).unwrap();
    file.write_all(b"a: 1\n").unwrap();
    assert_eq!(fixture.last_reported().await, []);
    let written = Instant::now();
    assert_eq!(next(&mut fixture.events).await, changed("a"));
    assert!(written.elapsed() >= TEST_UNCLOSED - TEST_QUIET * 2, "{:?}", written.elapsed());
    drop(file);
    assert_eq!(fixture.last_reported().await, [changed("a")]);
}

#[tokio::test]
async fn the_directory_of_a_servers_files_is_reported_when_it_is_replaced_but_no_change_in_it() {
    let mut fixture = Fixture::new().await;
    let data = fixture.server("a").join("data");
    fs::create_dir(&data).unwrap();
    assert_eq!(fixture.last_reported().await, [changed("a")]);
    fs::write(data.join("world"), "").unwrap();
    assert_eq!(fixture.last_reported().await, []);
    fs::rename(&data, fixture.server("a").join("old")).unwrap();
    assert_eq!(fixture.last_reported().await, [changed("a")]);
    // The files of a node that was taken over from Wings are elsewhere.
    let volumes = fixture.root.path().canonicalize().unwrap().join("volumes");
    fs::create_dir_all(volumes.join("a")).unwrap();
    symlink(volumes.join("a"), &data).unwrap();
    assert_eq!(fixture.last_reported().await, [changed("a")]);
    fs::write(volumes.join("a/world"), "").unwrap();
    assert_eq!(fixture.last_reported().await, []);
    fs::rename(volumes.join("a"), volumes.join("old")).unwrap();
    assert_eq!(fixture.last_reported().await, [changed("a")]);
}

#[tokio::test]
async fn a_link_is_followed_through_each_link_on_its_way_and_to_a_target_that_is_missing() {
    let mut fixture = Fixture::new().await;
    let outside = fixture.root.path().canonicalize().unwrap().join("git");
    for version in ["v1", "v2"] {
        fs::create_dir_all(outside.join(version)).unwrap();
        fs::write(outside.join(version).join("a.yml"), "a: 1\n").unwrap();
    }
    symlink("v1", outside.join("current")).unwrap();
    symlink(outside.join("current/a.yml"), fixture.server("a").join("config.yml")).unwrap();
    assert_eq!(fixture.last_reported().await, [changed("a")]);
    symlink("v2", outside.join("next")).unwrap();
    fs::rename(outside.join("next"), outside.join("current")).unwrap();
    assert_eq!(fixture.last_reported().await, [changed("a")]);
    fs::write(outside.join("v2/a.yml"), "a: 2\n").unwrap();
    assert_eq!(fixture.last_reported().await, [changed("a")]);
    fs::rename(outside.join("v2"), outside.join("away")).unwrap();
    assert_eq!(fixture.last_reported().await, [changed("a")]);
    fs::rename(outside.join("away"), outside.join("v2")).unwrap();
    assert_eq!(fixture.last_reported().await, [changed("a")]);

    // A server's folder, too.
    symlink(outside.join("b"), fixture.server("b")).unwrap();
    assert_eq!(fixture.last_reported().await, [changed("b")]);
    fs::create_dir(outside.join("b")).unwrap();
    assert_eq!(fixture.last_reported().await, [changed("b")]);
    fs::write(outside.join("b/config.yml"), "a: 1\n").unwrap();
    assert_eq!(fixture.last_reported().await, [changed("b")]);
}

/// Waits for the check of all servers, and then sees each change.
async fn is_followed(fixture: &mut Fixture, how: &str) {
    while next(&mut fixture.events).await != WatchEvent::Rescan {}
    fs::write(fixture.server("a").join("config.yml"), "a: 2\n").unwrap();
    while next(&mut fixture.events).await != changed("a") {}
    fs::write(fixture.server("a").join("override.yml"), "a: 2\n").unwrap();
    assert_eq!(fixture.last_reported().await, [changed("a")], "{how}");
}

fn make_servers(folder: &Path) {
    for name in ["a", "fence"] {
        fs::create_dir_all(folder.join(name)).unwrap();
        fs::write(folder.join(name).join("config.yml"), "a: 1\n").unwrap();
    }
}

/// What a container's mount does: the folder's inode stays in use, and the kernel sends no event for it.
fn hold(folder: &Path) -> fs::File {
    fs::File::open(folder).unwrap()
}

#[tokio::test]
async fn the_folder_of_all_servers_is_followed_when_it_is_replaced() {
    // A backoff that no test waits for: a replaced folder is watched at once.
    let timing = Timing { backoff: (TIMEOUT * 2, TIMEOUT * 2), ..timing(TEST_QUIET) };
    let mut fixture = Fixture::with(Arc::new(folders::connect), timing).await;
    let root = fixture.root.path().to_owned();
    let servers = root.join("servers");

    let held = [hold(&servers), hold(&servers.join("a"))];
    make_servers(&root.join("new"));
    fs::rename(&servers, root.join("old")).unwrap();
    fs::rename(root.join("new"), &servers).unwrap();
    is_followed(&mut fixture, "moved away and another one moved there").await;

    let held = (held, hold(&servers), hold(&servers.join("a")));
    fs::remove_dir_all(&servers).unwrap();
    make_servers(&servers);
    is_followed(&mut fixture, "removed and restored").await;

    fs::remove_dir_all(&servers).unwrap();
    while next(&mut fixture.events).await != WatchEvent::Rescan {}
    tokio::time::sleep(TEST_QUIET * 3).await;
    make_servers(&servers);
    is_followed(&mut fixture, "missing for a while").await;
    drop(held);
}

#[tokio::test]
async fn a_state_folder_that_is_reached_through_links_or_replaced_as_a_whole_is_followed() {
    let base = TempDir::new().unwrap();
    let base = base.path();
    for version in ["v1", "v2", "v3"] {
        make_servers(&base.join(version).join("state/servers"));
    }
    symlink("v1", base.join("current")).unwrap();
    symlink("current/state", base.join("root")).unwrap();
    let timing = Timing { backoff: (TIMEOUT * 2, TIMEOUT * 2), ..timing(TEST_QUIET) };
    let mut fixture = Fixture::with(Arc::new(folders::connect), timing).await;
    let (watch, mut events) = ServersWatch::with(&base.join("root/servers"), Arc::new(folders::connect), timing);
    fixture.task.abort();
    fixture.task = tokio::spawn(watch.run());
    assert_eq!(next(&mut events).await, WatchEvent::Rescan);
    fixture.events = events;
    fs::remove_dir_all(fixture.root.path().join("servers")).unwrap();
    symlink(base.join("root/servers"), fixture.root.path().join("servers")).unwrap();

    let held = hold(&base.join("v1/state/servers"));
    symlink("v2", base.join("next")).unwrap();
    fs::rename(base.join("next"), base.join("current")).unwrap();
    is_followed(&mut fixture, "another target of the link").await;

    let held = (held, hold(&base.join("v2/state/servers")));
    fs::rename(base.join("v2"), base.join("old")).unwrap();
    fs::rename(base.join("v3"), base.join("v2")).unwrap();
    is_followed(&mut fixture, "the folder above the state folder").await;
    drop(held);
}

#[tokio::test]
async fn a_lost_watch_is_set_up_again() {
    let mut fixture = Fixture::new().await;
    let servers = fixture.root.path().join("servers");
    fs::rename(&servers, fixture.root.path().join("away")).unwrap();
    assert_eq!(next(&mut fixture.events).await, WatchEvent::Rescan);
    fs::create_dir_all(servers.join("fence")).unwrap();
    fs::create_dir_all(servers.join("b")).unwrap();

    // Rescans continue until it is watched again, and from then on changes are reported.
    let deadline = Instant::now() + TIMEOUT;
    loop {
        assert!(Instant::now() < deadline, "never watched again");
        fs::write(servers.join("b/config.yml"), "a: 1\n").unwrap();
        if let Ok(Some(WatchEvent::Changed(name))) = tokio::time::timeout(TEST_QUIET * 2, fixture.events.recv()).await {
            assert_eq!(name, "b");
            break;
        }
    }
}

/// The platform's watcher with a limit on watches, as inotify has one.
struct Limited {
    inner: Box<dyn Watcher + Send>,
    left: Arc<AtomicUsize>,
}

impl Watcher for Limited {
    fn new<F: notify::EventHandler>(_: F, _: notify::Config) -> notify::Result<Self> {
        Err(notify::Error::generic("made by hand"))
    }

    fn watch(&mut self, path: &Path, mode: RecursiveMode) -> notify::Result<()> {
        if !path.iter().any(|name| name == "servers") {
            return self.inner.watch(path, mode);
        }
        let taken = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        taken.map_err(|_| notify::Error::new(notify::ErrorKind::MaxFilesWatch))?;
        self.inner.watch(path, mode)
    }

    fn unwatch(&mut self, path: &Path) -> notify::Result<()> {
        self.left.fetch_add(usize::from(path.iter().any(|name| name == "servers")), Ordering::SeqCst);
        self.inner.unwatch(path)
    }

    fn kind() -> notify::WatcherKind {
        notify::WatcherKind::Inotify
    }
}

#[tokio::test]
async fn beyond_inotifys_limit_all_folders_are_checked_until_it_is_raised() {
    // Enough for the folder of all servers and one of the two in it.
    let left = Arc::new(AtomicUsize::new(2));
    let limit = left.clone();
    let connect = move |handler: Handler| -> notify::Result<Box<dyn Watcher + Send>> {
        Ok(Box::new(Limited { inner: folders::connect(handler)?, left: limit.clone() }))
    };
    let mut fixture = Fixture::with(Arc::new(connect), timing(TEST_QUIET)).await;
    for _ in 0..3 {
        assert_eq!(next(&mut fixture.events).await, WatchEvent::Rescan);
    }

    left.store(100, Ordering::SeqCst);
    let deadline = Instant::now() + TIMEOUT;
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 2 {
        assert!(Instant::now() < deadline, "only {seen:?} are watched");
        for name in ["a", "fence"] {
            fs::write(fixture.server(name).join("config.yml"), "a: 1\n").unwrap();
        }
        if let Ok(Some(WatchEvent::Changed(name))) = tokio::time::timeout(TEST_QUIET * 2, fixture.events.recv()).await {
            seen.insert(name);
        }
    }
    // The watch is complete again: no more rescans.
    fixture.last_reported().await;
    assert_eq!(fixture.last_reported().await, []);
}

#[tokio::test]
async fn a_folder_that_is_created_at_the_limit_is_checked_soon() {
    // Enough for the folder of all servers and the two in it, and for no third one.
    let left = Arc::new(AtomicUsize::new(3));
    let connect = move |handler: Handler| -> notify::Result<Box<dyn Watcher + Send>> {
        Ok(Box::new(Limited { inner: folders::connect(handler)?, left: left.clone() }))
    };
    let mut fixture = Fixture::with(Arc::new(connect), timing(TEST_QUIET)).await;
    fs::create_dir(fixture.server("late")).unwrap();
    let mut last_reported = Vec::new();
    while last_reported.iter().filter(|event| **event == WatchEvent::Rescan).count() < 3
        || !last_reported.contains(&changed("late"))
    {
        last_reported.push(next(&mut fixture.events).await);
    }
}

#[tokio::test]
async fn a_watch_that_cannot_be_set_up_is_tried_again() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = attempts.clone();
    let connect = move |handler: Handler| {
        if counted.fetch_add(1, Ordering::SeqCst) < 3 {
            return Err(notify::Error::io(std::io::Error::other("no inotify instance left")));
        }
        folders::connect(handler)
    };
    let mut fixture = Fixture::with(Arc::new(connect), timing(TEST_QUIET)).await;
    for _ in 0..3 {
        assert_eq!(next(&mut fixture.events).await, WatchEvent::Rescan);
    }
    fs::write(fixture.server("a").join("config.yml"), "a: 1\n").unwrap();
    assert_eq!(fixture.last_reported().await, [changed("a")]);
    assert_eq!(attempts.load(Ordering::SeqCst), 4);
}

/// Hands out what the watch gave to `notify`, so that a test can call it.
fn captured() -> (Arc<Connect>, Arc<Mutex<Option<Handler>>>) {
    struct Deaf;
    impl Watcher for Deaf {
        fn new<F: notify::EventHandler>(_: F, _: notify::Config) -> notify::Result<Self> {
            Ok(Self)
        }
        fn watch(&mut self, _: &Path, _: RecursiveMode) -> notify::Result<()> {
            Ok(())
        }
        fn unwatch(&mut self, _: &Path) -> notify::Result<()> {
            Ok(())
        }
        fn kind() -> notify::WatcherKind {
            notify::WatcherKind::NullWatcher
        }
    }
    let slot = Arc::new(Mutex::new(None));
    let inner = slot.clone();
    let connect = move |handler: Handler| -> notify::Result<Box<dyn Watcher + Send>> {
        *inner.lock().unwrap() = Some(handler);
        Ok(Box::new(Deaf))
    };
    (Arc::new(connect), slot)
}

#[tokio::test]
async fn an_overflow_is_a_rescan_and_a_dead_watcher_is_set_up_again() {
    use notify::EventHandler;
    use notify::event::{Event, EventKind, Flag};

    let (connect, handler) = captured();
    let mut fixture = Fixture::with(connect, timing(TEST_QUIET)).await;
    let overflow = Event::new(EventKind::Other).set_flag(Flag::Rescan);
    handler.lock().unwrap().as_mut().unwrap().handle_event(Ok(overflow));
    assert_eq!(next(&mut fixture.events).await, WatchEvent::Rescan);

    let error = notify::Error::generic("broken");
    handler.lock().unwrap().as_mut().unwrap().handle_event(Err(error));
    assert_eq!(next(&mut fixture.events).await, WatchEvent::Rescan);

    // The thread that called it is gone.
    drop(handler.lock().unwrap().take());
    assert_eq!(next(&mut fixture.events).await, WatchEvent::Rescan);
    assert!(handler.lock().unwrap().is_some(), "set up again");
}

#[tokio::test]
async fn the_watch_ends_when_the_receiver_is_dropped() {
    let mut fixture = Fixture::new().await;
    fixture.events.close();
    let ended = async {
        while !fixture.task.is_finished() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(TIMEOUT, ended).await.expect("ends in time");
}

#[tokio::test]
async fn five_hundred_folders_cost_no_thread_and_no_time() {
    let root = TempDir::new().unwrap();
    let servers = root.path().join("servers");
    for index in 0..500 {
        fs::create_dir_all(servers.join(format!("server-{index}"))).unwrap();
    }
    let threads = || {
        fs::read_dir("/proc/self/task")
            .unwrap()
            .filter(|entry| {
                let name = fs::read_to_string(entry.as_ref().unwrap().path().join("comm"));
                name.is_ok_and(|name| name.starts_with("notify"))
            })
            .count()
    };

    let begun = Instant::now();
    let (watch, mut events) = ServersWatch::new(&servers);
    let task = tokio::spawn(watch.run());
    assert_eq!(next(&mut events).await, WatchEvent::Rescan);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // Other tests have watches of their own: one thread each, so fewer than tests.
    assert!(threads() < 50, "{} threads", threads());

    fs::write(servers.join("server-499/config.yml"), "a: 1\n").unwrap();
    assert_eq!(next(&mut events).await, changed("server-499"));
    task.abort();
}
