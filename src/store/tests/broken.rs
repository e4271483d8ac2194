//! Files that people break, and what is said about them.

use super::*;

/// Saves this text; the last good spec and the generation stay. Returns the message.
#[track_caller]
fn rejected(file: &str, text: &str) -> String {
    let fixture = Fixture::with_file();
    let before = fixture.get();
    fixture.saves(file, text);
    assert!(fixture.store.refresh(id()).unwrap(), "a new problem is news");
    let after = fixture.get();
    assert_eq!(after.manifest, before.manifest, "the last good spec stays in effect");
    assert_eq!(after.record, before.record, "and its generation");
    assert_eq!(after.problem.as_ref().unwrap().reason, Reason::SpecInvalid);
    assert!(!fixture.store.refresh(id()).unwrap(), "the same problem is no news");
    fixture.is_the_same_after_a_reboot();

    // The fixed file takes effect.
    fixture.saves(file, if file == CONFIG_FILE { FILE } else { "" });
    assert!(fixture.store.refresh(id()).unwrap());
    assert_eq!(fixture.get().problem, None);
    assert_eq!(fixture.get().record.generation, before.record.generation, "what was meant before is meant again");
    fixture.is_the_same_after_a_reboot();
    after.problem.clone().unwrap().message
}

/// What is said names these things.
#[track_caller]
fn names(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is missing in: {message}");
    }
}

#[test]
fn a_tab_is_found() {
    let message = rejected(CONFIG_FILE, &FILE.replace("  settings:", "\tsettings:"));
    names(&message, &["config.yml", "line 9", "tab"]);
}

#[test]
fn a_key_that_is_there_twice_is_found() {
    let message = rejected(CONFIG_FILE, &FILE.replace("    invocation", "    invocation: ./other\n    invocation"));
    names(&message, &["config.yml", "line 11", "invocation"]);
}

#[test]
fn an_unknown_key_is_found_and_the_nearest_one_named() {
    let message = rejected(CONFIG_FILE, &FILE.replace("invocation:", "invokation:"));
    names(&message, &["config.yml", "line 10", "invokation", "did you mean `invocation`?"]);
}

#[test]
fn a_wrong_type_is_found() {
    let message = rejected(CONFIG_FILE, &FILE.replace("{image: 'example/image:1'}", "[example, image]"));
    names(&message, &["config.yml", "line 12", "spec.settings.container"]);
}

#[test]
fn an_unknown_value_is_found() {
    let message = rejected(CONFIG_FILE, &FILE.replace("power: down", "power: sideways"));
    names(&message, &["config.yml", "line 8", "sideways", "up", "down"]);
}

#[test]
fn a_field_with_another_shape_is_found() {
    let message = rejected(CONFIG_FILE, &FILE.replace("power: down", "power: {want: down}"));
    names(&message, &["config.yml", "line 8", "spec.power"]);
    let install = FILE.replace("power: down", "install: {token: first}");
    names(&rejected(CONFIG_FILE, &install), &["config.yml", "line 8", "spec.install", "token", "version"]);
    let without_script = FILE.replace("power: down", "install: {version: first}");
    names(&rejected(CONFIG_FILE, &without_script), &["config.yml", "line 8", "spec.install.version", "spec.script"]);
}

#[test]
fn a_uuid_that_is_not_the_folders_is_found() {
    let message = rejected(CONFIG_FILE, &FILE.replace("550e8400", "650e8400"));
    names(&message, &["metadata.uuid", "650e8400", "550e8400", "move the file"]);
}

#[test]
fn a_file_that_is_half_written_is_waited_for() {
    let half = &FILE[..FILE.find("de_dust").unwrap()];
    names(&rejected(CONFIG_FILE, half), &["config.yml", "line"]);
}

#[test]
fn ten_mebibytes_are_not_read() {
    let message = rejected(CONFIG_FILE, &format!("{FILE}# {}", "x".repeat(10 * 1024 * 1024)));
    names(&message, &["config.yml", "1048576"]);
}

#[test]
fn a_bomb_of_aliases_is_not_unpacked() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let below = format!("*a{}, ", level - 1).repeat(10);
        bomb += &format!("a{level}: &a{level} [{below}]\n");
    }
    names(&rejected(CONFIG_FILE, &bomb), &["config.yml"]);
    names(&rejected(OVERRIDE_FILE, &bomb), &["override.yml"]);
}

#[test]
fn a_million_open_brackets_are_not_followed() {
    names(&rejected(CONFIG_FILE, &"[".repeat(1_000_000)), &["config.yml"]);
}

#[test]
fn bytes_that_are_no_text_are_rejected() {
    let fixture = Fixture::with_file();
    crate::atomic::write_file(&fixture.path(CONFIG_FILE), &[0x6b, 0xff, 0xfe], 0o644).unwrap();
    fixture.store.refresh(id()).unwrap();
    names(&fixture.problem(), &["config.yml", "UTF-8"]);
    assert_eq!(fixture.get().record.generation, 1);
}

#[test]
fn what_is_no_file_is_rejected() {
    let fixture = Fixture::with_file();
    fs::remove_file(fixture.path(CONFIG_FILE)).unwrap();
    fs::create_dir(fixture.path(CONFIG_FILE)).unwrap();
    fixture.store.refresh(id()).unwrap();
    names(&fixture.problem(), &["config.yml"]);
    assert_eq!(fixture.manifest().spec.settings.invocation, "./run");
}

#[test]
fn a_broken_override_is_named_as_such() {
    let message = rejected(OVERRIDE_FILE, "spec:\n  settings:\n    invokation: ./other\n");
    names(&message, &["override.yml", "invokation", "did you mean `invocation`?"]);
    names(
        &rejected(OVERRIDE_FILE, "spec: {settings: {invocation: a, invocation: b}}"),
        &["override.yml", "invocation"],
    );
    names(&rejected(OVERRIDE_FILE, "just words"), &["override.yml"]);
    names(&rejected(OVERRIDE_FILE, "metadata: {uuid: 650e8400-e29b-41d4-a716-446655440000}"), &["metadata.uuid"]);
}

#[test]
fn a_file_that_vanishes_changes_nothing() {
    let fixture = Fixture::with_file();
    let before = fixture.get();
    fs::remove_file(fixture.path(CONFIG_FILE)).unwrap();
    assert!(fixture.store.refresh(id()).unwrap());
    let after = fixture.get();
    assert_eq!((&after.manifest, &after.record), (&before.manifest, &before.record));
    assert_eq!(after.problem.as_ref().unwrap().reason, Reason::SpecMissing);
    names(&fixture.problem(), &["config.yml", "nothing is deleted", "alula delete"]);
    fixture.is_the_same_after_a_reboot();

    fixture.saves(CONFIG_FILE, FILE);
    assert!(fixture.store.refresh(id()).unwrap());
    assert_eq!((fixture.get().problem.clone(), fixture.get().record.generation), (None, 1));
}

#[test]
fn a_folder_that_vanishes_changes_nothing_either() {
    let fixture = Fixture::with_file();
    fs::rename(fixture.store.folder(id()), fixture.root.path().join("elsewhere")).unwrap();
    fixture.store.refresh(id()).unwrap();
    assert_eq!(fixture.get().problem.as_ref().unwrap().reason, Reason::SpecMissing);
    assert_eq!(fixture.manifest().spec.settings.invocation, "./run");
}

#[test]
fn a_new_server_with_a_broken_file_has_no_manifest_but_a_problem() {
    let fixture = Fixture::empty();
    fs::create_dir(fixture.store.folder(id())).unwrap();
    fixture.saves(CONFIG_FILE, "apiVersion: alula/v1\n");
    assert!(fixture.store.refresh(id()).unwrap());
    assert!(fixture.get().manifest.is_none());
    assert!(!fixture.get().is_listed());
    fixture.is_the_same_after_a_reboot();
    fixture.saves(CONFIG_FILE, FILE);
    fixture.store.refresh(id()).unwrap();
    assert_eq!((fixture.get().problem.clone(), fixture.get().record.generation), (None, 1));
    assert!(fixture.get().is_listed());
}

#[test]
fn nothing_is_written_into_a_broken_file() {
    for (file, text) in [(CONFIG_FILE, "spec: {"), (OVERRIDE_FILE, "spec: {")] {
        let fixture = Fixture::of_panel();
        fixture.saves(file, text);
        fixture.store.refresh(id()).unwrap();
        let before = (fixture.get(), fs::read_to_string(fixture.path(file)).unwrap(), fixture.config());
        let error = fixture.sync(|manifest| manifest.spec.suspended = true).unwrap_err();
        assert!(matches!(&error, StoreError::Broken { path, .. } if path.ends_with(file)), "{file}: {error}");
        let after = (fixture.get(), fs::read_to_string(fixture.path(file)).unwrap(), fixture.config());
        assert_eq!((after.0.revision, after.1, after.2), (before.0.revision, before.1, before.2), "{file}");
    }
}

#[test]
fn a_request_is_accepted_while_a_file_is_broken_or_missing() {
    type Break = fn(&Fixture);
    let breaks: [(&str, Break); 3] = [
        ("config.yml is broken", |fixture| fixture.saves(CONFIG_FILE, "spec: {")),
        ("override.yml is broken", |fixture| fixture.saves(OVERRIDE_FILE, "spec: {")),
        ("config.yml is missing", |fixture| fs::remove_file(fixture.path(CONFIG_FILE)).unwrap()),
    ];
    for (name, break_it) in breaks {
        let fixture = Fixture::with_file();
        break_it(&fixture);
        fixture.store.refresh(id()).unwrap();
        let before = fixture.get();
        fixture.disk.take_done();
        let after = fixture.accepts("second", Verb::Start);
        assert_eq!(fixture.disk.take_done(), [DiskOp::WriteRequests], "{name}: no other file is touched");
        assert_eq!(power(&after), Some(Verb::Restart), "{name}: a start after a stop");
        assert_eq!((&after.manifest, &after.problem), (&before.manifest, &before.problem), "{name}");
        fixture.is_the_same_after_a_reboot();

        // The correct file asks for nothing: its values were handled before.
        fixture.saves(CONFIG_FILE, FILE);
        fixture.saves(OVERRIDE_FILE, "");
        assert!(fixture.store.refresh(id()).unwrap(), "{name}");
        assert_eq!(fixture.get().requests, after.requests, "{name}");
        assert_eq!(fixture.config(), FILE, "{name}");
        fixture.is_the_same_after_a_reboot();
    }
}

#[test]
fn a_value_that_changes_while_a_broken_file_is_corrected_is_the_later_request() {
    for (corrected, expected) in [
        (FILE.replace("power: down", "power: up"), Some(Verb::Restart)),
        (FILE.replace("power: down", "power: down\n  restartedAt: monday"), Some(Verb::Kill)),
        (FILE.replace("power: down", "restartedAt: monday"), Some(Verb::Restart)),
        (FILE.replace("  power: down\n", ""), Some(Verb::Kill)),
    ] {
        for reboots in [false, true] {
            let fixture = Fixture::with_file();
            fixture.saves(CONFIG_FILE, "spec: {");
            fixture.store.refresh(id()).unwrap();
            fixture.accepts("second", Verb::Kill);
            fixture.saves(CONFIG_FILE, &corrected);
            let store = if reboots { reopened(fixture.root.path()) } else { fixture.store.clone() };
            store.refresh(id()).unwrap();
            assert_eq!(power(&store.get(id()).unwrap()), expected, "{corrected}");
            assert!(!store.refresh(id()).unwrap());
        }
    }
}

#[test]
fn the_store_never_writes_what_it_could_not_read() {
    let fixture = Fixture::of_panel();
    let before = fixture.config();
    for (name, edit) in [
        (
            "more text than is read",
            (|manifest: &mut Manifest| manifest.spec.settings.invocation = "x".repeat(2 * 1024 * 1024))
                as fn(&mut Manifest),
        ),
        ("another server's uuid", |manifest| manifest.metadata.uuid = other_id()),
    ] {
        let error = fixture.sync(edit).unwrap_err();
        assert!(matches!(error, StoreError::Broken { .. }), "{name}: {error}");
        assert_eq!(fixture.config(), before, "{name}");
        assert_eq!(fixture.get().problem, None, "{name}");
    }
    let mut new = manifest(other_id());
    new.spec.settings.invocation = "x".repeat(2 * 1024 * 1024);
    let folder = fixture.store.folder(new.metadata.uuid);
    assert!(matches!(fixture.store.create(new, Record::default(), []).unwrap_err(), StoreError::Broken { .. }));
    assert!(!folder.exists());
}

#[test]
fn mounts_from_a_panel_are_not_validated() {
    let fixture = Fixture::empty();
    let mut manifest = manifest(id());
    manifest.metadata.managed_by = ManagedBy::Panel;
    let mount = serde_json::json!({"source": "relative", "target": "../..", "read_only": false});
    manifest.spec.settings.mounts = Some(vec![serde_json::from_value(mount).unwrap()]);
    fixture.store.create(manifest, Record::default(), []).unwrap();
    fixture.sync(|manifest| manifest.spec.suspended = true).unwrap();
    assert_eq!(fixture.get().problem, None);
    fixture.is_the_same_after_a_reboot();
}

#[test]
fn a_file_that_is_written_while_the_daemon_starts_is_read_when_it_is_complete() {
    let fixture = Fixture::with_file();
    let before = fixture.get();
    // In its place, and not complete yet: it would be valid.
    let half = FILE.replace("power: down", "power: up");
    fs::write(fixture.path(CONFIG_FILE), &half).unwrap();
    let store = reopened(fixture.root.path());
    let started = store.get(id()).unwrap();
    assert_eq!((&started.manifest, &started.problem), (&before.manifest, &None));
    assert_eq!(started.requests, before.requests, "its fields make no requests");
    assert!(store.unsettled(id()).is_some_and(|left| left <= std::time::Duration::from_secs(1)));

    let file = fs::File::options().append(true).open(fixture.path(CONFIG_FILE)).unwrap();
    file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(1)).unwrap();
    assert_eq!(store.unsettled(id()), None);
    assert!(store.refresh(id()).unwrap());
    assert_eq!(power(&store.get(id()).unwrap()), Some(Verb::Restart));
    // A daemon that starts now reads it at once.
    let store = reopened(fixture.root.path());
    assert_eq!(power(&store.get(id()).unwrap()), Some(Verb::Restart));
}
