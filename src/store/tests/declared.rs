//! Declarative fields: a value that differs from the one handled last is a request, once.

use super::*;

/// [`FILE`] with these fields instead of its own.
fn file(fields: &str) -> String {
    let text = FILE.replace("power: down", fields);
    text.replace("    invocation", "    skip_egg_scripts: true\n    invocation")
}

/// Saves the fields, and returns what they ask for.
fn asks(fixture: &Fixture, fields: &str) -> Vec<Verb> {
    let before = fixture.get().requests.sequence;
    fixture.saves(CONFIG_FILE, &file(fields));
    fixture.store.refresh(id()).unwrap();
    fixture.is_the_same_after_a_reboot();
    let requests = &fixture.get().requests;
    let new = requests.accepted.iter().filter(|request| request.sequence > before);
    new.inspect(|request| assert_eq!(request.by, Requester::Manifest)).map(|request| request.verb).collect()
}

#[test]
fn the_first_values_of_a_server_are_requests() {
    let install = Verb::Install { reinstall: false, then_start: false };
    for (fields, expected) in [
        ("power: up", vec![Verb::Start]),
        ("power: down", vec![Verb::Stop]),
        ("restartedAt: monday", vec![]),
        ("install: {version: one}", vec![install]),
        ("install: {thenStart: true}", vec![]),
        ("power: up\n  install: {version: one}", vec![install, Verb::Start]),
        ("suspended: false", vec![]),
    ] {
        let fixture = Fixture::with_text(&file(fields));
        assert_eq!(verbs(&fixture.get()), expected, "{fields}");
        // Created through the store it asks for the same.
        let other = Fixture::empty();
        other.store.apply(id(), &file(fields), false).unwrap();
        assert_eq!(verbs(&other.get()), expected, "{fields}");
        other.store.refresh(id()).unwrap();
        assert_eq!(verbs(&other.get()), expected, "{fields}");
        other.is_the_same_after_a_reboot();
    }
}

#[test]
fn a_changed_value_is_one_request_and_a_reverted_one_is_another() {
    let fixture = Fixture::with_text(&file("power: up"));
    assert_eq!(asks(&fixture, "power: up"), [], "the same file again");
    assert_eq!(asks(&fixture, "power: up # a comment"), []);
    assert_eq!(asks(&fixture, "power: down"), [Verb::Stop]);
    assert_eq!(asks(&fixture, "power: up"), [Verb::Restart], "`git revert`: a start that follows a stop");
    fixture.accepts("by hand", Verb::Kill);
    assert_eq!(asks(&fixture, "power: up"), [], "a stopped server stays down");
    assert_eq!(asks(&fixture, "power: up\n  restartedAt: monday"), [Verb::Restart]);
    assert_eq!(asks(&fixture, "power: up\n  restartedAt: tuesday"), [Verb::Restart]);
    assert_eq!(asks(&fixture, "power: up\n  restartedAt: monday"), [Verb::Restart], "back to the earlier text");
    assert_eq!(asks(&fixture, "power: up"), [], "no text asks for nothing");
    assert_eq!(asks(&fixture, "power: down\n  restartedAt: monday"), [Verb::Stop], "what is down is not restarted");
    assert_eq!(asks(&fixture, "suspended: false"), [], "no opinion");
    assert_eq!(asks(&fixture, "power: down"), [Verb::Stop], "an opinion again");
    let install = |then_start| Verb::Install { reinstall: false, then_start };
    assert_eq!(asks(&fixture, "power: down\n  install: {version: a}"), [install(false)]);
    assert_eq!(
        asks(&fixture, "power: down\n  install: {version: a, thenStart: true}"),
        [],
        "how is no question of whether"
    );
    assert_eq!(asks(&fixture, "power: down\n  install: {version: b, thenStart: true}"), [install(true)]);
    assert_eq!(asks(&fixture, "power: down\n  install: {version: a, timeout: 1h}"), [install(false)]);
}

#[test]
fn an_applied_file_asks_for_nothing_until_a_value_changes() {
    let fixture = Fixture::empty();
    fixture.store.apply(id(), &file("power: up"), false).unwrap();
    for round in 0..40 {
        let verb = if round % 2 == 0 { Verb::Stop } else { Verb::Start };
        fixture.accepts(&round.to_string(), verb);
    }
    fixture.accepts("by hand", Verb::Stop);
    let before = fixture.get().requests.clone();
    for text in [file("power: up"), file("power: up").replace("de_dust", "de_rust"), file("power: up")] {
        fixture.store.apply(id(), &text, false).unwrap();
        assert_eq!(fixture.get().requests, before);
        assert_eq!(fixture.config(), text);
    }
    fixture.is_the_same_after_a_reboot();
    fixture.store.apply(id(), &file("power: down"), false).unwrap();
    fixture.store.apply(id(), &file("power: up"), false).unwrap();
    assert_eq!(power(&fixture.get()), Some(Verb::Restart));
    assert_eq!(fixture.get().requests.sequence, before.sequence + 2);
    fixture.is_the_same_after_a_reboot();
}

#[test]
fn the_order_is_that_of_acceptance() {
    let fixture = Fixture::with_text(&file("power: up"));
    fixture.accepts("one", Verb::Kill);
    assert_eq!(power(&fixture.get()), Some(Verb::Kill));
    asks(&fixture, "power: up\n  restartedAt: monday");
    assert_eq!(power(&fixture.get()), Some(Verb::Restart));
    fixture.accepts("two", Verb::Stop);
    assert_eq!(power(&fixture.get()), Some(Verb::Stop));
    // What a person has saved while the daemon was down came before what is asked of it afterwards.
    fixture.saves(CONFIG_FILE, &file("power: down\n  restartedAt: monday"));
    let store = reopened(fixture.root.path());
    store.request(id(), None, [request("three", Verb::Start)]).unwrap();
    store.refresh(id()).unwrap();
    let known = reopened(fixture.root.path()).get(id()).unwrap();
    assert_eq!(power(&known), Some(Verb::Restart), "the start, after the file's stop");
    assert_eq!(known.requests.accepted.last().unwrap().id, "three");
}

#[test]
fn fields_of_an_override_count() {
    let fixture = Fixture::with_text(&panel_file().replace("  power: down\n", ""));
    assert_eq!(verbs(&fixture.get()), []);
    let applies = |text: &str| {
        let before = fixture.get().requests.sequence;
        fixture.saves(OVERRIDE_FILE, text);
        fixture.store.refresh(id()).unwrap();
        fixture.is_the_same_after_a_reboot();
        let requests = &fixture.get().requests;
        let new = requests.accepted.iter().filter(|request| request.sequence > before);
        new.map(|request| request.verb).collect::<Vec<_>>()
    };
    assert_eq!(applies("spec: {power: up}"), [Verb::Start]);
    assert_eq!(applies("spec: {power: up, restartedAt: monday}"), [Verb::Restart]);
    assert_eq!(applies("spec: {power: up, restartedAt: monday, install: {version: one}}"), [INSTALL]);
    // A sync leaves them alone.
    let before = fixture.get().requests.clone();
    fixture.sync(|manifest| manifest.spec.settings.invocation = "./jump".into()).unwrap();
    assert_eq!(fixture.get().requests, before);
    assert!(!fixture.config().contains("power"), "{}", fixture.config());
    assert_eq!(applies("spec: {power: down}"), [Verb::Stop]);
    assert_eq!(applies("spec: {power: null}"), []);
    assert_eq!(applies(""), []);
}

#[test]
fn an_override_that_waits_for_its_server_is_merged() {
    let fixture = Fixture::empty();
    fs::create_dir(fixture.store.folder(id())).unwrap();
    fixture.saves(OVERRIDE_FILE, "spec: {power: down}");
    let new = Manifest::new(id(), ManagedBy::Panel);
    fixture.store.create(new, Record::default(), [request("install", INSTALL)]).unwrap();
    fixture.store.refresh(id()).unwrap();
    assert!(verbs(&fixture.get()).contains(&Verb::Stop), "{:?}", fixture.get().requests);
    assert!(verbs(&fixture.get()).contains(&INSTALL));
    fixture.is_the_same_after_a_reboot();
}
