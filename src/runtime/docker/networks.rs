//! Finds networks by name, and creates them.

use std::collections::HashMap;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest, NetworkInspect};
use bollard::query_parameters::{InspectNetworkOptions, ListNetworksOptions};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use ipnet::{IpNet, Ipv4Net};

use super::containers::found;
use super::subnets;
use super::wire::Wire;
use crate::runtime::{NetworkInfo, NetworkPurpose, NetworkSpec};

/// The option that names the bridge's device on the host.
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
/// Where the kernel lists its IPv4 routes.
const ROUTES: &str = "/proc/net/route";

/// Ranges that are tried for the network of one server.
const MAX_CHOICES: u8 = 8;

/// Inspects a network, after creating it if it is missing.
pub(super) async fn ensure(wire: &Wire, docker: &Docker, spec: &NetworkSpec) -> Result<NetworkInfo, Error> {
    if let Some(info) = inspect(docker, &spec.name).await? {
        return Ok(info);
    }
    let mut attempt = Attempt::new(spec);
    if let NetworkPurpose::Server { range, .. } = spec.purpose {
        attempt.choose(range, &in_use(docker).await?);
    }
    while let Err(error) = create(wire, &attempt).await {
        let Some(objection) = Objection::of(&error) else { return Err(error) };
        if objection == Objection::AlreadyThere {
            break;
        }
        let used = in_use(docker).await?;
        if !attempt.without(objection, &used) {
            return Err(error);
        }
        tracing::info!(network = spec.name, %error, v4 = ?attempt.spec.v4, v6 = ?attempt.spec.v6,
                       "cannot create the network; changing its options");
    }
    let missing = || Error::DockerResponseServerError { status_code: 404, message: "it was removed again".into() };
    inspect(docker, &spec.name).await?.ok_or_else(missing)
}

/// A rejection of a network that another request can avoid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Objection {
    /// Another process created it meanwhile.
    AlreadyThere,
    /// The bridge's device belongs to another network.
    BridgeTaken,
    /// An address range is in use, or the engine has no free one.
    Overlap,
    /// The host has no IPv6.
    NoIpv6,
}

impl Objection {
    /// Engines distinguish them by message only.
    fn of(error: &Error) -> Option<Self> {
        let Error::DockerResponseServerError { message, .. } = error else { return None };
        let message = message.to_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
        if says(&["same bridge name", "bridge name", "bridge device"]) && says(&["conflicts", "already in use", "same"])
        {
            Some(Self::BridgeTaken)
        } else if says(&[
            "pool overlaps",
            "invalid pool request",
            "overlapping ipv4",
            "overlapping ipv6",
            "is already used on the host",
            "already being used",
            "could not find an available",
            "address pools have been fully subnetted",
        ]) {
            Some(Self::Overlap)
        } else if says(&["already exists", "already used"]) {
            Some(Self::AlreadyThere)
        } else if says(&["ipv6"]) {
            Some(Self::NoIpv6)
        } else {
            None
        }
    }
}

/// The next attempt to create a network.
struct Attempt {
    spec: NetworkSpec,
    options: HashMap<&'static str, String>,
    /// Number of rejections because of overlapping ranges.
    given_up: u8,
}

impl Attempt {
    fn new(spec: &NetworkSpec) -> Self {
        Self { spec: spec.clone(), options: options(&spec.purpose), given_up: 0 }
    }

    /// Changes what the engine rejected; `false` if nothing can be changed.
    fn without(&mut self, objection: Objection, used: &[IpNet]) -> bool {
        match objection {
            Objection::AlreadyThere => false,
            Objection::BridgeTaken => self.options.remove(BRIDGE_NAME).is_some(),
            Objection::NoIpv6 => self.without_ipv6(),
            Objection::Overlap => self.elsewhere(used),
        }
    }

    /// Small ranges for the network of one server: engines have large ones for some thirty networks only.
    fn choose(&mut self, range: Ipv4Net, used: &[IpNet]) {
        let described = |range: IpNet| (range.to_string(), subnets::gateway(range).to_string());
        self.spec.v4 = subnets::free_small_v4(&self.spec.name, range, used).map(IpNet::V4).map(described);
        let v6 = if self.spec.ipv6 { subnets::free_v6(&self.spec.name, used) } else { None };
        self.spec.v6 = v6.map(IpNet::V6).map(described);
    }

    fn without_ipv6(&mut self) -> bool {
        self.spec.v6 = None;
        std::mem::take(&mut self.spec.ipv6)
    }

    /// Changes the ranges: to free ones, then to the engine's choice, then to none of IPv6.
    fn elsewhere(&mut self, used: &[IpNet]) -> bool {
        self.given_up += 1;
        if let NetworkPurpose::Server { range, .. } = self.spec.purpose {
            self.choose(range, used);
            return self.given_up <= MAX_CHOICES;
        }
        let described = |range: IpNet| (range.to_string(), subnets::gateway(range).to_string());
        match self.given_up {
            1 => {
                let taken = |range: &(String, String)| {
                    range.0.parse::<IpNet>().is_ok_and(|range| subnets::overlaps(range.trunc(), used))
                };
                let v6_taken = self.spec.v6.as_ref().is_some_and(taken);
                if v6_taken {
                    self.spec.v6 = subnets::free_v6(&self.spec.name, used).map(IpNet::V6).map(described);
                }
                // The engine may know routes that are not in the list, and reject a free range.
                if !v6_taken || self.spec.v4.as_ref().is_none_or(taken) {
                    self.spec.v4 = subnets::free_v4(used).map(IpNet::V4).map(described);
                }
                true
            }
            2 => {
                self.spec.v4 = None;
                true
            }
            3 => self.without_ipv6(),
            _ => false,
        }
    }
}

/// The ranges of the engine's networks and of the host's routes.
async fn in_use(docker: &Docker) -> Result<Vec<IpNet>, Error> {
    let networks = docker.list_networks(None::<ListNetworksOptions>).await?;
    let configs = networks.into_iter().filter_map(|network| network.ipam?.config).flatten();
    let mut used: Vec<IpNet> = configs.filter_map(|config| config.subnet?.parse().ok()).collect();
    // An engine on another host has other routes; then more ranges are excluded than necessary.
    let routes = tokio::fs::read_to_string(ROUTES).await.unwrap_or_default();
    used.extend(subnets::routes(&routes));
    Ok(used)
}

async fn inspect(docker: &Docker, name: &str) -> Result<Option<NetworkInfo>, Error> {
    Ok(found(docker.inspect_network(name, None::<InspectNetworkOptions>).await)?.map(network_info))
}

fn network_info(network: NetworkInspect) -> NetworkInfo {
    let configs = network.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
    let mut gateways = configs.into_iter().filter_map(|config| config.gateway);
    NetworkInfo {
        driver: network.driver.unwrap_or_default(),
        // Some versions append the length of the prefix.
        gateway: gateways.find_map(|gateway| {
            let address = gateway.split('/').next()?;
            address.parse::<std::net::Ipv4Addr>().ok().map(|address| address.to_string())
        }),
    }
}

/// The driver's options, as Wings sets them.
fn options(purpose: &NetworkPurpose) -> HashMap<&'static str, String> {
    let mut options = HashMap::from([
        ("encryption", "false".to_owned()),
        ("com.docker.network.bridge.default_bridge", "false".to_owned()),
    ]);
    match purpose {
        NetworkPurpose::Servers { device, reachable, mtu } => options.extend([
            ("com.docker.network.bridge.enable_icc", reachable.to_string()),
            ("com.docker.network.bridge.enable_ip_masquerade", "true".to_owned()),
            ("com.docker.network.bridge.host_binding_ipv4", "0.0.0.0".to_owned()),
            (BRIDGE_NAME, device.clone()),
            ("com.docker.network.driver.mtu", mtu.to_string()),
        ]),
        NetworkPurpose::Outgoing { address } => {
            options.insert(host_address(address), address.clone());
        }
        NetworkPurpose::Server { address, mtu, .. } => {
            options.insert("com.docker.network.bridge.enable_ip_masquerade", "true".to_owned());
            options.insert("com.docker.network.driver.mtu", mtu.to_string());
            if let Some(address) = address {
                options.insert(host_address(address), address.clone());
            }
        }
    }
    options
}

/// The option for the address of outgoing traffic. That for IPv6 is known to engines since Docker 25.
fn host_address(address: &str) -> &'static str {
    if address.contains(':') { "com.docker.network.host_ipv6" } else { "com.docker.network.host_ipv4" }
}

/// Removes a network; a missing one is no error.
pub(super) async fn remove(docker: &Docker, name: &str) -> Result<(), Error> {
    found(docker.remove_network(name).await).map(drop)
}

async fn create(wire: &Wire, attempt: &Attempt) -> Result<(), Error> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let body = Bytes::from(serde_json::to_vec(&create_body(attempt)?)?);
    wire.open(Method::POST, "/networks/create", headers, body).await?;
    Ok(())
}

fn create_body(attempt: &Attempt) -> Result<serde_json::Value, Error> {
    let spec = &attempt.spec;
    let range = |range: &Option<(String, String)>| {
        range.as_ref().map(|(subnet, gateway)| IpamConfig {
            subnet: Some(subnet.clone()),
            gateway: (!gateway.is_empty()).then(|| gateway.clone()),
            ..IpamConfig::default()
        })
    };
    let ranges: Vec<IpamConfig> = [range(&spec.v4), range(&spec.v6)].into_iter().flatten().collect();
    let request = NetworkCreateRequest {
        name: spec.name.clone(),
        driver: Some(spec.driver.clone()),
        internal: Some(spec.internal),
        enable_ipv6: Some(spec.ipv6),
        ipam: (!ranges.is_empty()).then(|| Ipam { config: Some(ranges), ..Ipam::default() }),
        options: Some(attempt.options.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()),
        ..NetworkCreateRequest::default()
    };
    let mut body = serde_json::to_value(request)?;
    // Before API 1.44 an engine creates a second network of the same name unless the request forbids it. bollard's type has no
    // such field.
    body["CheckDuplicate"] = true.into();
    Ok(body)
}

#[cfg(test)]
mod tests;
