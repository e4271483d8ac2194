//! The environment of containers, including the startup command.

use std::collections::BTreeMap;

use serde_json::Value;

use super::network;
use crate::config::NodeConfig;
use crate::model::Settings;
use crate::runtime::HostInfo;

/// Names that variables of the settings cannot replace.
const BASICS: [&str; 5] = ["TZ", "STARTUP", "SERVER_MEMORY", "SERVER_IP", "SERVER_PORT"];

/// The longest startup command with placeholders replaced. The kernel limits a variable to `MAX_ARG_STRLEN`.
const MAX_STARTUP: usize = 128 * 1024;

/// The value of `SERVER_IP`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Address {
    /// The address of the allocation.
    AsAllocated,
    /// The address of the published ports: that of the network's interface instead of a loopback address.
    Reachable,
}

/// `NAME=value` for each variable: the basic ones, then those of the settings, ordered by name.
pub(super) fn environment(
    settings: &Settings,
    node: &NodeConfig,
    host: &HostInfo,
    address: Address,
    omissions: &mut Vec<String>,
) -> Vec<String> {
    let own = own_variables(&settings.environment, omissions);
    let allocation = &settings.allocations.default;
    let memory = settings.build.memory_limit.to_string();
    let port = allocation.port.to_string();
    let ip = match address {
        Address::Reachable if allocation.ip == network::LOOPBACK && allocation.port != 0 => {
            network::interface(node, host)
        }
        _ => allocation.ip.clone(),
    };
    let zone = own.get("SERVER_TIMEZONE").map(String::as_str).filter(|zone| !zone.is_empty());
    // Placeholders get the address of the allocation, as with Wings.
    let basics = [("SERVER_PORT", port.as_str()), ("SERVER_MEMORY", &memory), ("SERVER_IP", &allocation.ip)];
    let startup = startup(&settings.invocation, &settings.environment, &basics);

    let mut list = vec![
        format!("TZ={}", node.timezone_for(zone)),
        format!("STARTUP={startup}"),
        format!("SERVER_MEMORY={memory}"),
        format!("SERVER_IP={ip}"),
        format!("SERVER_PORT={port}"),
    ];
    list.extend(own.iter().map(|(name, value)| format!("{name}={value}")));
    list.retain(|variable| {
        let whole = !variable.contains('\0');
        if !whole {
            let name = variable.split('=').next().unwrap_or_default();
            omissions.push(format!("variable {name:?} is left out: it contains a NUL byte"));
        }
        whole
    });
    list
}

/// The settings' variables under their upper-case names.
fn own_variables(variables: &BTreeMap<String, Value>, omissions: &mut Vec<String>) -> BTreeMap<String, String> {
    let mut own = BTreeMap::new();
    for (name, value) in variables {
        let upper = name.to_uppercase();
        if name.is_empty() || name.contains('=') || name.contains('\0') {
            omissions.push(format!("variable {name:?} is left out: the name is invalid"));
        } else if !BASICS.contains(&upper.as_str()) {
            // Upper case sorts first, so the exact spelling wins over another one of the same name.
            own.entry(upper).or_insert_with(|| text(value));
        }
    }
    own
}

/// A variable's value as text. Numbers are short: `5`, `1.5`.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => match number.as_f64() {
            // Larger numbers are not exact as floats. Integers keep their digits.
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15 => format!("{float:.0}"),
            Some(float) if number.is_f64() => float.to_string(),
            _ => number.to_string(),
        },
        Value::Null | Value::Array(_) | Value::Object(_) => String::new(),
    }
}

/// The startup command with its placeholders replaced.
///
/// `{{NAME}}` is another spelling of `${NAME}`. Variables of the settings are replaced first, then `basics`, also inside of
/// values. Names are case-sensitive. Unknown names, and all text in `[[ … ]]`, are left to the shell in the image.
fn startup(invocation: &str, variables: &BTreeMap<String, Value>, basics: &[(&str, &str)]) -> String {
    let command = invocation.replace("{{", "${").replace("}}", "}");
    let command = replace(&command, |name| variables.get(name).map(text));
    replace(&command, |name| basics.iter().find(|(basic, _)| *basic == name).map(|(_, value)| value.to_string()))
}

/// Replaces each `${NAME}` that `lookup` knows, outside of `[[ … ]]`.
fn replace(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = [rest.find("[["), rest.find("${")].into_iter().flatten().min() {
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        let (piece, length) = match rest.starts_with("[[") {
            true => (None, rest.find("]]").map_or(2, |end| end + 2)),
            false => match rest.find('}') {
                Some(end) => match lookup(&rest[2..end]) {
                    Some(value) if filled.len() + value.len() <= MAX_STARTUP => (Some(value), end + 1),
                    // The braces may hold another placeholder: `${A:-${B}}`.
                    _ => (None, 2),
                },
                None => (None, 2),
            },
        };
        filled.push_str(piece.as_deref().unwrap_or(&rest[..length]));
        rest = &rest[length..];
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn variables(values: Value) -> BTreeMap<String, Value> {
        serde_json::from_value(values).unwrap()
    }

    #[test]
    fn values_of_all_types() {
        for (value, expected) in [
            (json!("as it is"), "as it is"),
            (json!(true), "true"),
            (json!(false), "false"),
            (json!(null), ""),
            (json!({"a": 1}), ""),
            (json!([1]), ""),
            (json!(5), "5"),
            (json!(-5), "-5"),
            (json!(25565), "25565"),
            (json!(25565.0), "25565"),
            (json!(1.5), "1.5"),
            (json!(0.1), "0.1"),
            (json!(1000000), "1000000"),
            (json!(u64::MAX), "18446744073709551615"),
        ] {
            assert_eq!(text(&value), expected, "{value}");
        }
    }

    #[test]
    fn names_are_upper_case_and_never_basic() {
        let mut omissions = Vec::new();
        let own = own_variables(
            &variables(json!({"lower": "x", "TZ": "a", "server_ip": "b", "Startup": "c", "NAME": "1", "name": "2",
                              "": "d", "A=B": "e", "N\u{0}": "f"})),
            &mut omissions,
        );
        assert_eq!(own, BTreeMap::from([("LOWER".into(), "x".into()), ("NAME".into(), "1".into())]));
        assert_eq!(omissions.len(), 3);
    }

    #[test]
    fn placeholders() {
        let own =
            variables(json!({"NAME": "two words", "N": 5, "low": "l", "SERVER_PORT": "1", "BOTH": "${SERVER_IP}",
                                   "LOOP": "${NAME}${LOOP}"}));
        let basics = [("SERVER_PORT", "25565"), ("SERVER_MEMORY", "128"), ("SERVER_IP", "10.0.0.1")];
        for (invocation, expected) in [
            ("game -m {{SERVER_MEMORY}} -i {{SERVER_IP}}", "game -m 128 -i 10.0.0.1"),
            ("{{NAME}} ${NAME} {{N}}", "two words two words 5"),
            ("{{UNKNOWN}} ${UNKNOWN:-x}", "${UNKNOWN} ${UNKNOWN:-x}"),
            ("{{low}} {{LOW}}", "l ${LOW}"),
            // A variable of the settings wins over the allocation, here and only here.
            ("{{SERVER_PORT}}", "1"),
            ("{{BOTH}}", "10.0.0.1"),
            ("{{LOOP}}", "${NAME}${LOOP}"),
            ("[[ {{NAME}} == x ]] && {{NAME}}", "[[ ${NAME} == x ]] && two words"),
            ("[[ ${SERVER_IP} ]] [[ ${SERVER_IP}", "[[ ${SERVER_IP} ]] [[ 10.0.0.1"),
            ("${A:-${N} } ${", "${A:-5 } ${"),
            ("plain {x} } {{", "plain {x} } ${"),
            // The braces are rewritten one by one.
            ("{{N} ${N}}", "5 5"),
            ("ünï ${N}ü", "ünï 5ü"),
            ("", ""),
        ] {
            assert_eq!(startup(invocation, &own, &basics), expected, "{invocation}");
        }
    }

    #[test]
    fn the_length_of_a_startup_command_is_limited() {
        let own = variables(json!({"X": "x".repeat(60_000)}));
        let filled = startup(&"${X}".repeat(1000), &own, &[]);
        assert_eq!(filled.len(), 2 * 60_000 + 998 * 4);
    }
}
