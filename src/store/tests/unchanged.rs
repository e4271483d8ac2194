//! Files that nobody has changed: they are looked at, and not read.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::inotify;
use rustix::io::Errno;

use super::fingerprint::FileFingerprint;
use super::*;

/// Sees who opens the files of intent, as the kernel reports it.
struct Startups(OwnedFd);

impl Startups {
    fn of(scene: &Scene) -> Self {
        let events = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&events, scene.store.folder(id()), inotify::WatchFlags::OPEN).unwrap();
        Self(events)
    }

    /// The files that were opened since this was last asked.
    fn seen(&self) -> Vec<String> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(&self.0, &mut buffer);
        let mut files = Vec::new();
        loop {
            match events.next() {
                Ok(event) => files.extend(event.file_name().map(|name| name.to_str().unwrap().to_owned())),
                Err(Errno::AGAIN) => break,
                Err(error) => panic!("{error}"),
            }
        }
        files.retain(|file| [CONFIG_FILE, OVERRIDE_FILE].contains(&file.as_str()));
        files.sort();
        files.dedup();
        files
    }
}

impl Scene {
    /// Waits until a change of either file would have another fingerprint.
    fn clock_goes_on(&self) {
        let fresh = |file| {
            let print = FileFingerprint::of(&self.path(file));
            print.is_ok_and(|print| print.recently(fingerprint::now_ns()))
        };
        while fresh(CONFIG_FILE) || fresh(OVERRIDE_FILE) {
            std::thread::yield_now();
        }
    }

    fn refresh(&self) -> bool {
        self.store.refresh(id()).unwrap()
    }

    fn map(&self) -> String {
        self.manifest().spec.settings.environment["MAP"].to_string()
    }
}

#[test]
fn files_that_are_as_they_were_read_are_not_read_again() {
    let scene = Scene::with_file();
    scene.saves(OVERRIDE_FILE, "spec: {settings: {environment: {MODE: hard}}}");
    let openings = Startups::of(&scene);
    assert!(scene.refresh());
    let both = [CONFIG_FILE, OVERRIDE_FILE];
    assert_eq!(openings.seen(), both);
    let unchanged = || {
        scene.clock_goes_on();
        assert!(!scene.refresh(), "the last reading may have been too early, and finds the same");
        openings.seen();
        for _ in 0..3 {
            assert!(!scene.refresh());
        }
        assert!(openings.seen().is_empty(), "two `stat`s each time");
    };
    unchanged();

    scene.saves(CONFIG_FILE, &FILE.replace("de_dust", "de_rust"));
    assert!(scene.refresh());
    assert_eq!(openings.seen(), both);
    unchanged();

    fs::remove_file(scene.path(OVERRIDE_FILE)).unwrap();
    assert!(scene.refresh());
    assert_eq!(openings.seen(), [CONFIG_FILE]);
    unchanged();

    scene.accepts("one", Verb::Start);
    assert!(!scene.refresh());
    assert!(openings.seen().is_empty(), "a request is no reason to read them");

    scene.clock_goes_on();
    scene.refresh();
    scene.saves(CONFIG_FILE, "spec: [");
    assert!(scene.refresh());
    openings.seen();
    scene.clock_goes_on();
    assert!(!scene.refresh());
    assert_eq!(openings.seen(), [CONFIG_FILE], "what is broken may be mended in any way");
}

#[test]
fn files_are_read_once_after_a_reboot_and_mean_the_same() {
    let scene = Scene::with_file();
    scene.clock_goes_on();
    let store = reopened(scene.root.path());
    let openings = Startups::of(&scene);
    assert!(!store.refresh(id()).unwrap());
    assert_eq!(openings.seen(), [CONFIG_FILE]);
    assert!(!store.refresh(id()).unwrap());
    assert!(openings.seen().is_empty());
}

#[test]
fn an_override_that_can_no_longer_be_looked_at_is_a_problem() {
    let scene = Scene::with_file();
    scene.clock_goes_on();
    scene.refresh();
    std::os::unix::fs::symlink(OVERRIDE_FILE, scene.path(OVERRIDE_FILE)).unwrap();
    assert!(scene.refresh(), "a link to itself is not the same as no file");
    assert!(scene.problem().contains("override.yml cannot be read"), "{}", scene.problem());
}

#[test]
fn another_text_with_the_same_fingerprint_is_found() {
    let scene = Scene::with_file();
    fs::write(scene.path(CONFIG_FILE), FILE.replace("de_dust", "de_rust")).unwrap();
    // As it is where the kernel's clock stood still between reading and writing.
    let entry = scene.store.entry(id()).unwrap();
    *lock(&entry.write) = manifests::fingerprints(&scene.store.folder(id())).unwrap();
    assert!(scene.refresh());
    assert_eq!(scene.map(), "\"de_rust\"");
    assert_eq!(scene.get().record.generation, 2);
}

#[test]
fn a_file_that_changes_faster_than_the_clock_is_never_taken_for_unchanged() {
    let scene = Scene::with_file();
    for round in 0..100 {
        let map = format!("de_{round:04}");
        fs::write(scene.path(CONFIG_FILE), FILE.replace("de_dust", &map)).unwrap();
        assert!(scene.refresh(), "{map}");
        assert_eq!(scene.map(), format!("\"{map}\""));
    }
}
