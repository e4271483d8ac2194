//! Unchanged files are checked with `stat`, and not read.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::inotify;
use rustix::io::Errno;

use super::fingerprint::FileFingerprint;
use super::*;

/// Records each opening of the manifest files, as the kernel reports it.
struct Opened(OwnedFd);

impl Opened {
    fn of(fixture: &Fixture) -> Self {
        let events = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&events, fixture.store.folder(id()), inotify::WatchFlags::OPEN).unwrap();
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

impl Fixture {
    /// Waits until a change of either file would have another fingerprint.
    fn clock_advances(&self) {
        let recent = |file| {
            let print = FileFingerprint::of(&self.path(file));
            print.is_ok_and(|print| print.recently(fingerprint::now_ns()))
        };
        while recent(CONFIG_FILE) || recent(OVERRIDE_FILE) {
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
    let fixture = Fixture::with_file();
    fixture.saves(OVERRIDE_FILE, "spec: {settings: {environment: {MODE: hard}}}");
    let opened = Opened::of(&fixture);
    assert!(fixture.refresh());
    let both = [CONFIG_FILE, OVERRIDE_FILE];
    assert_eq!(opened.seen(), both);
    let unchanged = || {
        fixture.clock_advances();
        assert!(!fixture.refresh(), "the last reading may have been too early, and finds the same");
        opened.seen();
        for _ in 0..3 {
            assert!(!fixture.refresh());
        }
        assert!(opened.seen().is_empty(), "two `stat`s each time");
    };
    unchanged();

    fixture.saves(CONFIG_FILE, &FILE.replace("de_dust", "de_rust"));
    assert!(fixture.refresh());
    assert_eq!(opened.seen(), both);
    unchanged();

    fs::remove_file(fixture.path(OVERRIDE_FILE)).unwrap();
    assert!(fixture.refresh());
    assert_eq!(opened.seen(), [CONFIG_FILE]);
    unchanged();

    fixture.accepts("one", Verb::Start);
    assert!(!fixture.refresh());
    assert!(opened.seen().is_empty(), "a request is no reason to read them");

    fixture.clock_advances();
    fixture.refresh();
    fixture.saves(CONFIG_FILE, "spec: [");
    assert!(fixture.refresh());
    opened.seen();
    fixture.clock_advances();
    assert!(!fixture.refresh());
    assert_eq!(opened.seen(), [CONFIG_FILE], "a broken file may be fixed in any way");
}

#[test]
fn files_are_read_once_after_a_reboot_and_mean_the_same() {
    let fixture = Fixture::with_file();
    fixture.clock_advances();
    let store = reopened(fixture.root.path());
    let opened = Opened::of(&fixture);
    assert!(!store.refresh(id()).unwrap());
    assert_eq!(opened.seen(), [CONFIG_FILE]);
    assert!(!store.refresh(id()).unwrap());
    assert!(opened.seen().is_empty());
}

#[test]
fn an_override_that_can_no_longer_be_read_is_a_problem() {
    let fixture = Fixture::with_file();
    fixture.clock_advances();
    fixture.refresh();
    std::os::unix::fs::symlink(OVERRIDE_FILE, fixture.path(OVERRIDE_FILE)).unwrap();
    assert!(fixture.refresh(), "a link to itself is not the same as no file");
    assert!(fixture.problem().contains("override.yml cannot be read"), "{}", fixture.problem());
}

#[test]
fn another_text_with_the_same_fingerprint_is_found() {
    let fixture = Fixture::with_file();
    fs::write(fixture.path(CONFIG_FILE), FILE.replace("de_dust", "de_rust")).unwrap();
    // As if the kernel's clock had not advanced between reading and writing.
    let entry = fixture.store.entry(id()).unwrap();
    lock(&entry.write).sources = manifests::fingerprints(&fixture.store.folder(id())).unwrap();
    assert!(fixture.refresh());
    assert_eq!(fixture.map(), "\"de_rust\"");
    assert_eq!(fixture.get().record.generation, 2);
}

#[test]
fn a_file_that_changes_faster_than_the_clock_is_never_taken_for_unchanged() {
    let fixture = Fixture::with_file();
    for round in 0..100 {
        let map = format!("de_{round:04}");
        fs::write(fixture.path(CONFIG_FILE), FILE.replace("de_dust", &map)).unwrap();
        assert!(fixture.refresh(), "{map}");
        assert_eq!(fixture.map(), format!("\"{map}\""));
    }
}
