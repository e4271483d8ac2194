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
        let found = Timezone::find(configured, &|_| Some("Asia/Tokyo".into()), etc.path()).unwrap();
        assert_eq!(found, Timezone { name: expected.into(), notice: None }, "{configured}");
    }
}

#[test]
fn a_wrong_configured_name_is_an_error_with_the_nearest_one() {
    let etc = tempfile::tempdir().unwrap();
    let problem = Timezone::find("America/PortauPrince", &none, etc.path()).unwrap_err();
    assert_eq!(problem.key, "system.timezone");
    assert!(problem.message.contains("did you mean America/Port-au-Prince?"), "{problem}");
    let problem = Timezone::find("???", &none, etc.path()).unwrap_err();
    assert!(problem.message.contains("expected a name such as"), "{problem}");
    assert!(Timezone::find("../../etc/passwd", &none, etc.path()).is_err());
}

#[test]
fn where_it_is_looked_for() {
    let etc = tempfile::tempdir().unwrap();
    let find = |tz: Option<&str>| {
        let tz = tz.map(String::from);
        Timezone::find("", &move |name: &str| tz.clone().filter(|_| name == "TZ"), etc.path()).unwrap()
    };
    assert_eq!(find(None), Timezone::utc());

    std::os::unix::fs::symlink("../usr/share/zoneinfo/America/New_York", etc.path().join("localtime")).unwrap();
    assert_eq!(find(None).name, "America/New_York");

    std::fs::write(etc.path().join("timezone"), "Etc/GMT+5\n").unwrap();
    assert_eq!(find(None).name, "Etc/GMT+5");

    assert_eq!(find(Some("Asia/Tokyo")).name, "Asia/Tokyo");
    assert_eq!(find(Some(":Asia/Tokyo")).name, "Asia/Tokyo");
    assert_eq!(find(Some("/usr/share/zoneinfo/Asia/Tokyo")).name, "Asia/Tokyo");
    assert_eq!(find(Some("")).name, "Etc/GMT+5");

    let found = find(Some("Mars/Olympus"));
    assert_eq!(found.name, "Etc/GMT+5");
    assert!(found.notice.unwrap().contains("Mars/Olympus"));
}

#[test]
fn a_wrong_name_everywhere_is_utc_with_a_notice() {
    let etc = tempfile::tempdir().unwrap();
    std::fs::write(etc.path().join("timezone"), "nonsense").unwrap();
    let found = Timezone::find("", &none, etc.path()).unwrap();
    assert_eq!(found.name, "UTC");
    assert!(found.notice.unwrap().contains("nonsense"));
}
