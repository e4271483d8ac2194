//! `alula power`: wishes for servers to be up or down.

use bytes::Bytes;
use http::Method;

use super::arguments::{Action, Power};
use super::done::Outcomes;
use super::error::CliError;
use super::node::{Door, Node};
use super::output::Printer;
use super::server::ServerView;
use crate::model::{ContainerFacts, How, PowerIntent, Role, Timestamp, Want};
use crate::reconcile::plan::{open_install, open_wish};
use crate::runtime::docker::DockerRuntime;
use crate::runtime::host::Host;
use crate::runtime::{KernelLimits, Runtime};
use crate::store::Store;
use crate::tasks::{Blocking, Tasks};

/// Writes wishes.
///
/// # Errors
/// A server that is not there or cannot be asked for this, a disk or a daemon that refuses.
pub async fn run(node: &Node, arguments: &Power, printer: Printer) -> Result<(), CliError> {
    let servers = node.pick(&arguments.servers).await?;
    let outcomes = Outcomes::of(&servers, printer, async |server| power(node, server, arguments.action).await).await;
    node.warn_without_daemon("wishes are written down, and are carried out when it runs (`alula run`)");
    outcomes.end()
}

async fn power(node: &Node, server: &ServerView, action: Action) -> Result<String, CliError> {
    refuse_impossible(server)?;
    match &node.door {
        Door::Daemon(client) => {
            let body = serde_json::json!({"action": action.word()}).to_string();
            client.call(Method::POST, &format!("/local/servers/{}/power", server.uuid), Bytes::from(body)).await?;
            Ok(format!("{} accepted", action.word()))
        }
        Door::Folder(store) => write(node, store, server, action).await,
    }
}

fn refuse_impossible(server: &ServerView) -> Result<(), CliError> {
    let why = if server.record.deletion.is_some() {
        "it is being deleted"
    } else if server.record.parked.is_some() {
        "its panel no longer lists it; apply a file with managedBy: file to run it without the panel, or delete it"
    } else if server.manifest.is_none() {
        "its files have never said what it should be; see `alula describe`"
    } else {
        return Ok(());
    };
    Err(CliError::Failed(why.into()))
}

async fn write(node: &Node, store: &Store, server: &ServerView, action: Action) -> Result<String, CliError> {
    match decide(server, action, node.now()) {
        Decision::Refused(why) => return Err(CliError::Failed(why.into())),
        Decision::Already(what) => return Ok(what.into()),
        Decision::Write(_) if action == Action::Start && unasked_but_running(node, server).await => {
            return Ok(
                "it runs already; for it to be started again when it ends, ask once more when a daemon runs".into()
            );
        }
        Decision::Write(power) => store.wish_power(server.uuid, None, power)?,
    }
    Ok(format!("{} written", action.word()))
}

/// What becomes of a wish.
#[derive(Debug, PartialEq)]
enum Decision {
    Already(&'static str),
    Refused(&'static str),
    Write(PowerIntent),
}

/// Without a daemon nobody knows what runs, so the wishes on disk decide: what is wanted already is not wanted anew,
/// since a new wish to be up is a restart.
fn decide(server: &ServerView, action: Action, now: Timestamp) -> Decision {
    let Some(manifest) = &server.manifest else { return Decision::Refused("nobody has said what it should be") };
    let open = open_wish(manifest, &server.record);
    let starts_after_install = open_install(manifest, &server.record).is_some_and(|install| install.then_start);
    let write = |want, how| {
        let id = uuid::Uuid::now_v7().to_string();
        Decision::Write(PowerIntent { id, want, how, requested_at: Some(now), expires_at: None })
    };
    let wants = open.map(|wish| (wish.want, wish.how));
    match (action, wants) {
        (Action::Start | Action::Restart, _) if manifest.spec.suspended => {
            Decision::Refused("it is suspended; set spec.suspended: false first")
        }
        (Action::Start, Some((Want::Up, _))) => Decision::Already("it is wanted up already"),
        (Action::Start, None) if starts_after_install => Decision::Already("it starts when it is installed"),
        (Action::Start | Action::Restart, _) => write(Want::Up, How::Graceful),
        (Action::Stop, Some((Want::Down, _))) | (Action::Kill, Some((Want::Down, How::Kill))) => {
            Decision::Already("it is wanted down already")
        }
        (Action::Stop, _) => write(Want::Down, How::Graceful),
        (Action::Kill, _) => write(Want::Down, How::Kill),
    }
}

/// Whether a server runs that no open wish asks for, as one that was taken over from Wings does. Where the container
/// engine does not answer, nothing runs as far as anybody knows.
async fn unasked_but_running(node: &Node, server: &ServerView) -> bool {
    let open = server.manifest.as_ref().and_then(|manifest| open_wish(manifest, &server.record));
    if open.is_some() {
        return false;
    }
    let host = Host::new(node.config.clone(), Tasks::new(), Blocking::Inline, KernelLimits::default());
    let Ok(runtime) = DockerRuntime::from_environment(host) else { return false };
    let found = runtime.inspect(server.uuid, Role::Server).await;
    found.is_ok_and(|found| found.as_ref().is_some_and(ContainerFacts::running))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::examples;
    use crate::model::{Closed, InstallIntent};

    fn server(wants: Option<(Want, How)>, closed: bool) -> ServerView {
        let mut server = examples::servers().remove(3);
        let power = wants.map(|(want, how)| PowerIntent {
            id: "before".into(),
            want,
            how,
            requested_at: None,
            expires_at: None,
        });
        if closed {
            let (reason, message) = ("Stopped".to_owned(), String::new());
            server.record.power.closed =
                Some(Closed { id: "before".into(), want: None, reason, message, at: examples::now() });
        }
        server.manifest.as_mut().unwrap().spec.power = power;
        server
    }

    fn decided(server: &ServerView, action: Action) -> String {
        match decide(server, action, examples::now()) {
            Decision::Already(_) => "already".into(),
            Decision::Refused(_) => "refused".into(),
            Decision::Write(power) => {
                assert!(power.id.len() == 36 && power.requested_at == Some(examples::now()));
                format!("{:?} {:?}", power.want, power.how)
            }
        }
    }

    #[test]
    fn wishes_on_disk_decide() {
        use Action::{Kill, Restart, Start, Stop};
        let up = Some((Want::Up, How::Graceful));
        let down = Some((Want::Down, How::Graceful));
        let killed = Some((Want::Down, How::Kill));
        #[rustfmt::skip]
        let table = [
            (None,   false, ["Up Graceful", "Up Graceful", "Down Graceful", "Down Kill"]),
            (up,     false, ["already",     "Up Graceful", "Down Graceful", "Down Kill"]),
            (up,     true,  ["Up Graceful", "Up Graceful", "Down Graceful", "Down Kill"]),
            (down,   false, ["Up Graceful", "Up Graceful", "already",       "Down Kill"]),
            (down,   true,  ["Up Graceful", "Up Graceful", "Down Graceful", "Down Kill"]),
            (killed, false, ["Up Graceful", "Up Graceful", "already",       "already"]),
        ];
        for (wants, closed, expected) in table {
            let server = server(wants, closed);
            let decided = [Start, Restart, Stop, Kill].map(|action| decided(&server, action));
            assert_eq!(decided, expected, "{wants:?}, closed: {closed}");
        }
    }

    #[test]
    fn a_suspended_server_does_not_start() {
        let mut server = server(None, false);
        server.manifest.as_mut().unwrap().spec.suspended = true;
        assert_eq!(decided(&server, Action::Start), "refused");
        assert_eq!(decided(&server, Action::Restart), "refused");
        assert_eq!(decided(&server, Action::Stop), "Down Graceful");
    }

    #[test]
    fn what_starts_after_its_installation_need_not_be_started() {
        let mut server = server(None, false);
        let mut install = InstallIntent {
            token: "one".into(),
            then_start: true,
            reinstall: false,
            skip_scripts: false,
            abort: false,
            timeout: None,
            requested_at: None,
        };
        server.manifest.as_mut().unwrap().spec.install = Some(install.clone());
        assert_eq!(decided(&server, Action::Start), "already");
        install.then_start = false;
        server.manifest.as_mut().unwrap().spec.install = Some(install);
        assert_eq!(decided(&server, Action::Start), "Up Graceful");
    }

    #[test]
    fn parked_and_dying_servers_have_no_power() {
        assert!(refuse_impossible(&examples::servers()[0]).is_ok());
        assert!(refuse_impossible(&examples::servers()[2]).unwrap_err().to_string().contains("managedBy: file"));
    }
}
