//! The system user that owns the servers' files.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::{Group, Uid, User};

use super::HostError;
use crate::config::file::ConfigFile;
use crate::config::{HostEnvironment, Owner, Problem, SocketAccess};

/// The user of this process.
pub fn current_user() -> Owner {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    let name = User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
    Owner { name: name.unwrap_or_else(|| uid.to_string()), uid, gid }
}

/// Number of the group that may use the socket.
///
/// # Errors
/// The host has no such group, or its groups cannot be looked up.
pub fn socket_group(access: &SocketAccess) -> Result<Option<u32>, Problem> {
    let Some(name) = &access.group else { return Ok(None) };
    let problem = |why: String| {
        let next = "create it with `groupadd --system`, or name another one; until then only the daemon's user may use the socket";
        Problem::new("alula.socket_group", format!("is {name:?}: {why}; {next}"))
    };
    match (name.parse(), Group::from_name(name)) {
        (Ok(number), _) => Ok(Some(number)),
        (_, Ok(Some(group))) => Ok(Some(group.gid.as_raw())),
        (_, Ok(None)) => Err(problem("this host has no such group".into())),
        (_, Err(error)) => Err(problem(format!("the groups of this host cannot be read ({error})"))),
    }
}

/// The user that owns the servers' files, if it exists: from the environment in a distroless image, the current user if rootless,
/// else `system.username`.
pub(in crate::config) fn find_owner(
    file: &ConfigFile,
    host_environment: HostEnvironment<'_>,
) -> Result<Option<Owner>, String> {
    if os_id(host_environment.etc) == "distroless" {
        return distroless_owner(host_environment).map(Some);
    }
    if file.system.user.rootless.enabled {
        return Ok(Some(current_user()));
    }
    let name = &file.system.username;
    if name.is_empty() || name.contains('\0') {
        return Err(format!("is {name:?}: expected the name of a system user"));
    }
    let found = User::from_name(name).map_err(|error| error.to_string())?;
    // A user that exists may have any name.
    if found.is_none() && !can_be_created(name) {
        return Err(format!(
            "is {name:?}: no such user exists, and none of this name can be created: expected a name of letters, digits, \
             `_`, `-` and `.` that begins with a letter"
        ));
    }
    Ok(found.map(|user| Owner { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw() }))
}

/// As [`find_owner`], but creates a missing user.
pub(super) fn ensure_owner(file: &ConfigFile, host_environment: HostEnvironment<'_>) -> Result<Owner, HostError> {
    let name = &file.system.username;
    let find = || find_owner(file, host_environment).map_err(|why| HostError::Lookup { name: name.clone(), why });
    if let Some(owner) = find()? {
        return Ok(owner);
    }
    let group_exists = Group::from_name(name).is_ok_and(|group| group.is_some());
    let commands = creation_commands(name, &os_id(host_environment.etc), group_exists);
    for command in &commands {
        run(name, command)?;
    }
    let command = commands.last().map(|command| command.join(" ")).unwrap_or_default();
    let why = "the command succeeded, and the user still does not exist".to_owned();
    find()?.ok_or(HostError::CreateUser { name: name.clone(), command, why })
}

/// A distroless image has no user database, so the owner comes from the environment.
fn distroless_owner(host_environment: HostEnvironment<'_>) -> Result<Owner, String> {
    const DEFAULT_ID: u32 = 988;
    let variable = |name: &str| (host_environment.variables)(name).filter(|value| !value.is_empty());
    let id = |name: &str| match variable(name) {
        None => Ok(DEFAULT_ID),
        Some(text) => text.parse().map_err(|_| format!("{name} is {text:?}: expected the number of a user or group")),
    };
    Ok(Owner {
        name: variable("WINGS_USERNAME").unwrap_or_else(|| "pelican".into()),
        uid: id("WINGS_UID")?,
        gid: id("WINGS_GID")?,
    })
}

/// `ID` of the host's os-release file; empty if there is none.
fn os_id(etc: &Path) -> String {
    let text = fs::read_to_string(etc.join("os-release")).unwrap_or_default();
    let id = text.lines().find_map(|line| line.strip_prefix("ID="));
    id.unwrap_or_default().trim().trim_matches(['"', '\'']).to_owned()
}

/// The commands that create a system user.
fn creation_commands(name: &str, os_id: &str, group_exists: bool) -> Vec<Vec<String>> {
    let command = |text: &str| text.split(' ').map(|part| part.replace("NAME", name)).collect();
    if !os_id.starts_with("alpine") {
        let group = if group_exists { "--gid NAME " } else { "" };
        return vec![command(&format!("useradd --system --no-create-home --shell /usr/sbin/nologin {group}NAME"))];
    }
    let user = command("adduser -S -D -H -G NAME -s /sbin/nologin NAME");
    if group_exists { vec![user] } else { vec![command("addgroup -S NAME"), user] }
}

/// Whether the commands that create a user accept the name. A name with other characters could be parsed as an option.
fn can_be_created(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    name.len() <= 32 && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(plain)
}

fn run(name: &str, command: &[String]) -> Result<(), HostError> {
    let error = |why: String| HostError::CreateUser { name: name.to_owned(), command: command.join(" "), why };
    let output = Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .output()
        .map_err(|source| error(source.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr);
    let message: String = message.trim().chars().take(500).collect();
    Err(error(format!("{} ({})", if message.is_empty() { "no message" } else { &message }, output.status)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn etc(os_release: &str) -> tempfile::TempDir {
        let etc = tempfile::tempdir().unwrap();
        fs::write(etc.path().join("os-release"), os_release).unwrap();
        etc
    }

    #[test]
    fn the_commands_that_create_a_user() {
        let commands = |os, group| -> Vec<String> {
            creation_commands("pelican", os, group).iter().map(|command| command.join(" ")).collect()
        };
        let useradd = "useradd --system --no-create-home --shell /usr/sbin/nologin";
        assert_eq!(commands("debian", false), [format!("{useradd} pelican")]);
        assert_eq!(commands("", false), [format!("{useradd} pelican")]);
        assert_eq!(commands("debian", true), [format!("{useradd} --gid pelican pelican")]);
        let adduser = "adduser -S -D -H -G pelican -s /sbin/nologin pelican";
        assert_eq!(commands("alpine", false), ["addgroup -S pelican", adduser]);
        assert_eq!(commands("alpine", true), [adduser]);
    }

    #[test]
    fn a_group_is_a_name_or_a_number_of_this_host() {
        let id = |name: Option<&str>| socket_group(&SocketAccess { group: name.map(String::from), mode: 0o660 });
        assert_eq!(id(None), Ok(None));
        assert_eq!(id(Some("0")), Ok(Some(0)));
        assert_eq!(id(Some("4711")), Ok(Some(4711)));
        assert_eq!(id(Some("root")), Ok(Some(0)));
        let problem = id(Some("no-such-group-here")).unwrap_err();
        assert!(problem.key == "alula.socket_group" && problem.message.contains("groupadd"), "{problem}");
    }

    #[test]
    fn os_release_is_read_with_and_without_quotes() {
        for (text, id) in [
            ("NAME=x\nID=alpine\n", "alpine"),
            ("ID=\"debian\"\n", "debian"),
            ("ID='x'", "x"),
            ("ID_LIKE=debian\nID=ubuntu", "ubuntu"),
            ("VERSION_ID=3", ""),
        ] {
            assert_eq!(os_id(etc(text).path()), id);
        }
        assert_eq!(os_id(Path::new("/nonexistent")), "");
    }

    #[test]
    fn the_owner_is_the_user_of_the_file() {
        let debian = etc("ID=debian");
        let host_environment = HostEnvironment { variables: &|_| None, etc: debian.path() };
        let mut file = ConfigFile::default();
        file.system.username = "root".into();
        let root = Owner { name: "root".into(), uid: 0, gid: 0 };
        assert_eq!(find_owner(&file, host_environment), Ok(Some(root)));

        file.system.username = "no-such-user-here".into();
        assert_eq!(find_owner(&file, host_environment), Ok(None));
        for wrong in ["", "a\0b"] {
            file.system.username = wrong.into();
            assert!(find_owner(&file, host_environment).is_err());
        }

        file.system.user.rootless.enabled = true;
        assert_eq!(find_owner(&file, host_environment), Ok(Some(current_user())));
    }

    #[test]
    fn the_owner_in_a_distroless_image_comes_from_the_environment() {
        let distroless = etc("ID=distroless");
        let owner = |variables: &dyn Fn(&str) -> Option<String>| {
            find_owner(&ConfigFile::default(), HostEnvironment { variables, etc: distroless.path() })
        };
        let default = Owner { name: "pelican".into(), uid: 988, gid: 988 };
        assert_eq!(owner(&|_| None), Ok(Some(default)));
        let set = |name: &str| Some(if name == "WINGS_USERNAME" { "me".into() } else { "77".to_owned() });
        assert_eq!(owner(&set), Ok(Some(Owner { name: "me".into(), uid: 77, gid: 77 })));
        let why = owner(&|name| (name == "WINGS_UID").then(|| "x".into())).unwrap_err();
        assert!(why.contains("WINGS_UID"), "{why}");
    }

    #[test]
    fn a_name_that_could_be_an_option_is_never_run() {
        let debian = etc("ID=debian");
        let host_environment = HostEnvironment { variables: &|_| None, etc: debian.path() };
        for name in ["-o", "a b", "8000", " pelican", "a:b", "1up", &"x".repeat(33)] {
            let mut file = ConfigFile::default();
            file.system.username = name.into();
            let error = ensure_owner(&file, host_environment).unwrap_err();
            assert!(error.to_string().contains("none of this name can be created"), "{error}");
        }
    }

    #[test]
    fn the_output_of_a_failing_command_is_in_the_error() {
        let command = ["ls", "/no/such/place"].map(String::from);
        let error = run("pelican", &command).unwrap_err().to_string();
        assert!(error.contains("/no/such/place") && error.contains("system.username"), "{error}");
        let error = run("pelican", &["no-such-program-here".into()]).unwrap_err().to_string();
        assert!(error.contains("no-such-program-here"), "{error}");
    }
}
