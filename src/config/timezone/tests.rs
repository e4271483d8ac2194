use super::*;

fn none(_: &str) -> Option<String> {
    None
}

#[test]
fn configured_names() {
    let etc = tempfile::tempdir().unwrap();
    for (configured, expected) in [
        ("UTC", "UTC"),
        ("Europe/Berlin", "Europe/Berlin"),
        ("europe/berlin", "Europe/Berlin"),
        (" Europe/Berlin\n", "Europe/Berlin"),
        ("America/Port-au-Prince", "America/Port-au-Prince"),
        ("America/Argentina/Buenos_Aires", "America/Argentina/Buenos_Aires"),
        ("Etc/GMT+5", "Etc/GMT+5"),
        ("Etc/GMT-14", "Etc/GMT-14"),
        ("EST5EDT", "EST5EDT"),
    ] {
        let found = find(configured, &|_| Some("Asia/Tokyo".into()), etc.path());
        assert_eq!(found, (expected.into(), None), "{configured}");
    }
}

#[test]
fn an_unknown_configured_name_is_replaced_and_the_nearest_one_is_named() {
    let etc = tempfile::tempdir().unwrap();
    let find = |configured: &str, tz: Option<&str>| {
        let tz = tz.map(String::from);
        let (name, problem) = super::find(configured, &move |_: &str| tz.clone(), etc.path());
        let problem = problem.unwrap();
        assert_eq!(problem.key, "system.timezone");
        (name, problem.message)
    };
    let (name, message) = find("America/PortauPrince", None);
    assert_eq!(name, "UTC");
    assert!(message.contains("did you mean America/Port-au-Prince?") && message.ends_with("UTC is used"), "{message}");
    for configured in ["UTC+8", "GMT+8", "???", "../../etc/passwd", "+08:00", "8"] {
        let (name, message) = find(configured, Some("Asia/Tokyo"));
        assert_eq!(name, "Asia/Tokyo", "{configured}");
        assert!(message.contains(configured) && message.ends_with("Asia/Tokyo is used"), "{message}");
    }
}

#[test]
fn the_order_of_the_sources() {
    let etc = tempfile::tempdir().unwrap();
    let find = |tz: Option<&str>| {
        let tz = tz.map(String::from);
        super::find("", &move |name: &str| tz.clone().filter(|_| name == "TZ"), etc.path())
    };
    assert_eq!(find(None), ("UTC".into(), None));

    std::os::unix::fs::symlink("../usr/share/zoneinfo/America/New_York", etc.path().join("localtime")).unwrap();
    assert_eq!(find(None).0, "America/New_York");

    std::fs::write(etc.path().join("timezone"), "Etc/GMT+5\n").unwrap();
    assert_eq!(find(None).0, "Etc/GMT+5");

    assert_eq!(find(Some("Asia/Tokyo")).0, "Asia/Tokyo");
    assert_eq!(find(Some(":Asia/Tokyo")).0, "Asia/Tokyo");
    assert_eq!(find(Some("/usr/share/zoneinfo/Asia/Tokyo")).0, "Asia/Tokyo");
    assert_eq!(find(Some("")).0, "Etc/GMT+5");

    let found = find(Some("Mars/Olympus"));
    assert_eq!(found.0, "Etc/GMT+5");
    assert!(found.1.unwrap().message.contains("Mars/Olympus"));
}

#[test]
fn unknown_names_in_all_sources_give_utc_with_a_notice() {
    let etc = tempfile::tempdir().unwrap();
    std::fs::write(etc.path().join("timezone"), "invalid").unwrap();
    let found = super::find("", &none, etc.path());
    assert_eq!(found.0, "UTC");
    assert!(found.1.unwrap().message.contains("invalid"));
}
