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
        let found = find(configured, &|_| Some("Asia/Tokyo".into()), etc.path()).unwrap();
        assert_eq!(found, (expected.into(), None), "{configured}");
    }
}

#[test]
fn an_unknown_configured_name_is_an_error_with_the_nearest_one() {
    let etc = tempfile::tempdir().unwrap();
    let problem = super::find("America/PortauPrince", &none, etc.path()).unwrap_err();
    assert_eq!(problem.key, "system.timezone");
    assert!(problem.message.contains("did you mean America/Port-au-Prince?"), "{problem}");
    let problem = super::find("???", &none, etc.path()).unwrap_err();
    assert!(problem.message.contains("expected a name such as"), "{problem}");
    assert!(super::find("../../etc/passwd", &none, etc.path()).is_err());
}

#[test]
fn the_order_of_the_sources() {
    let etc = tempfile::tempdir().unwrap();
    let find = |tz: Option<&str>| {
        let tz = tz.map(String::from);
        super::find("", &move |name: &str| tz.clone().filter(|_| name == "TZ"), etc.path()).unwrap()
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
    assert!(found.1.unwrap().contains("Mars/Olympus"));
}

#[test]
fn unknown_names_in_all_sources_give_utc_with_a_notice() {
    let etc = tempfile::tempdir().unwrap();
    std::fs::write(etc.path().join("timezone"), "invalid").unwrap();
    let found = super::find("", &none, etc.path()).unwrap();
    assert_eq!(found.0, "UTC");
    assert!(found.1.unwrap().contains("invalid"));
}
