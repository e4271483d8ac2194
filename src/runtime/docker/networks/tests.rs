use super::*;

fn spec() -> NetworkSpec {
    NetworkSpec {
        name: "pelican_nw".into(),
        driver: "bridge".into(),
        internal: false,
        ipv6: true,
        v4: Some(("172.18.0.0/16".into(), "172.18.0.1".into())),
        v6: Some(("fdba:17c8:6c94::/64".into(), "fdba:17c8:6c94::1011".into())),
        purpose: NetworkPurpose::Servers { device: "pelican0".into(), reachable: true, mtu: 1500 },
    }
}

fn of_one_server(address: Option<&str>) -> NetworkSpec {
    let range = "10.208.0.0/12".parse().unwrap();
    let purpose = NetworkPurpose::Server { address: address.map(Into::into), mtu: 1400, range };
    NetworkSpec { name: "alula-1".into(), v4: None, v6: None, purpose, ..spec() }
}

#[test]
fn the_network_of_one_server_gets_a_small_range_and_another_one_where_it_is_taken() {
    let mut attempt = Attempt::new(&of_one_server(None));
    let within: Ipv4Net = "10.208.0.0/12".parse().unwrap();
    attempt.choose(within, &[]);
    let first: Ipv4Net = range(&attempt.spec.v4).parse().unwrap();
    assert!(within.contains(&first) && range(&attempt.spec.v6).starts_with("fd"));
    for _ in 0..MAX_CHOICES {
        assert!(attempt.without(Objection::Overlap, &[IpNet::V4(first)]));
        assert_ne!(range(&attempt.spec.v4), first.to_string());
    }
    assert!(!attempt.without(Objection::Overlap, &[]), "in the end it fails");
    let body = create_body(&attempt).unwrap();
    assert_eq!(body["Options"]["com.docker.network.driver.mtu"], "1400");
    assert_eq!(body["Options"]["com.docker.network.bridge.enable_ip_masquerade"], "true");
    assert!(body["Options"].get("com.docker.network.host_ipv4").is_none());
    for (address, option) in
        [("203.0.113.5", "com.docker.network.host_ipv4"), ("2001:db8::5", "com.docker.network.host_ipv6")]
    {
        let body = create_body(&Attempt::new(&of_one_server(Some(address)))).unwrap();
        assert_eq!(body["Options"][option], address);
    }
}

fn attempt() -> Attempt {
    Attempt::new(&spec())
}

fn nets(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|net| net.parse().unwrap()).collect()
}

fn range(range: &Option<(String, String)>) -> &str {
    range.as_ref().map_or("none", |range| &range.0)
}

#[test]
fn errors_are_distinguished_by_their_text() {
    let of =
        |message: &str| Objection::of(&Error::DockerResponseServerError { status_code: 500, message: message.into() });
    for (message, expected) in [
        ("Pool overlaps with other one on this address space", Some(Objection::Overlap)),
        ("invalid pool request: Pool overlaps with other one on this address space", Some(Objection::Overlap)),
        ("could not find an available, non-overlapping IPv4 address pool among the defaults", Some(Objection::Overlap)),
        ("all predefined address pools have been fully subnetted", Some(Objection::Overlap)),
        ("subnet 172.18.0.0/16 is already used on the host or by another config", Some(Objection::Overlap)),
        ("conflicts with network 12 (br-12): networks have overlapping IPv4", Some(Objection::Overlap)),
        (
            "cannot create network 12 (pelican0): conflicts with network 34 (pelican0): networks have same bridge name",
            Some(Objection::BridgeTaken),
        ),
        ("bridge name pelican0 already in use", Some(Objection::BridgeTaken)),
        ("network with name pelican_nw already exists", Some(Objection::AlreadyThere)),
        ("Failed to setup IPv6: could not set IPv6 forwarding", Some(Objection::NoIpv6)),
        ("plugin \"garbage\" not found", None),
        ("permission denied", None),
    ] {
        assert_eq!(of(message), expected, "{message}");
    }
    assert_eq!(Objection::of(&Error::RequestTimeoutError), None);
}

#[test]
fn an_overlapping_range_is_replaced_by_a_free_one() {
    let mut attempt = attempt();
    let used = nets(&["172.16.0.0/16", "172.18.0.0/24"]);
    assert!(attempt.without(Objection::Overlap, &used));
    assert_eq!(attempt.spec.v4, Some(("172.17.0.0/16".into(), "172.17.0.1".into())));
    assert_eq!(attempt.spec.v6, spec().v6, "this one is free");
    assert!(attempt.without(Objection::Overlap, &used), "then the engine chooses");
    assert_eq!(attempt.spec.v4, None);
    assert!(attempt.spec.ipv6);
    assert!(attempt.without(Objection::Overlap, &used), "then without IPv6");
    assert!(!attempt.spec.ipv6 && attempt.spec.v6.is_none());
    assert!(!attempt.without(Objection::Overlap, &used), "and no further");
}

#[test]
fn only_the_range_that_overlaps_is_changed() {
    let mut attempt = attempt();
    assert!(attempt.without(Objection::Overlap, &nets(&["fdba:17c8:6c94::/64"])));
    assert_eq!(range(&attempt.spec.v4), "172.18.0.0/16");
    assert!(range(&attempt.spec.v6).starts_with("fd") && range(&attempt.spec.v6) != "fdba:17c8:6c94::/64");

    let mut unseen = Attempt::new(&spec());
    assert!(unseen.without(Objection::Overlap, &[]), "the engine sees what we do not");
    assert_ne!(range(&unseen.spec.v4), "172.18.0.0/16");
}

#[test]
fn a_network_without_ipv6_has_fewer_alternatives() {
    let mut attempt = Attempt::new(&NetworkSpec { ipv6: false, v4: None, v6: None, ..spec() });
    assert!(attempt.without(Objection::Overlap, &[]));
    assert!(attempt.spec.v4.is_some(), "the engine has no range left, we have");
    assert!(attempt.without(Objection::Overlap, &[]));
    assert!(!attempt.without(Objection::Overlap, &[]));
    assert!(!attempt.without(Objection::NoIpv6, &[]));
}

#[test]
fn a_used_bridge_name_is_left_to_the_engine() {
    let mut attempt = attempt();
    assert!(attempt.without(Objection::BridgeTaken, &[]));
    assert!(!attempt.options.contains_key(BRIDGE_NAME));
    assert_eq!(attempt.options.len(), 6, "the others stay");
    assert!(!attempt.without(Objection::BridgeTaken, &[]), "once");
}

#[test]
fn create_bodies() {
    let mut body = create_body(&attempt()).unwrap();
    body.sort_all_objects();
    insta::assert_snapshot!(serde_json::to_string_pretty(&body).unwrap());
    let bare = NetworkSpec { ipv6: false, v4: None, v6: None, ..spec() };
    assert_eq!(create_body(&Attempt::new(&bare)).unwrap().get("IPAM"), None);
    let purpose = NetworkPurpose::Outgoing { address: "10.1.2.3".into() };
    let outgoing = create_body(&Attempt::new(&NetworkSpec { purpose, ..bare })).unwrap();
    assert_eq!(outgoing["Options"]["com.docker.network.host_ipv4"], "10.1.2.3");
    assert_eq!(outgoing["Options"].get(BRIDGE_NAME), None);
}

#[test]
fn the_gateway_is_the_first_of_ipv4() {
    let gateway = |configs: serde_json::Value| {
        let network = serde_json::json!({"Name": "n", "Driver": "bridge", "IPAM": {"Config": configs}});
        network_info(serde_json::from_value(network).unwrap()).gateway
    };
    use serde_json::json;
    let v6 = json!({"Subnet": "fd00::/64", "Gateway": "fd00::1"});
    assert_eq!(gateway(json!([v6.clone(), {"Gateway": "172.18.0.1"}])).as_deref(), Some("172.18.0.1"));
    assert_eq!(gateway(json!([{"Gateway": "172.18.0.1/16"}])).as_deref(), Some("172.18.0.1"));
    assert_eq!(gateway(json!([v6, {"Subnet": "10.0.0.0/8"}])), None);
    assert_eq!(gateway(json!(null)), None);
}
