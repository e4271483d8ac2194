//! The configuration file while the daemon runs: tokens and the containers' log apply at once, other changes at the next start.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::api::Sockets;
use crate::clock::Clock;
use crate::config::{self, ConfigFile, ConfigUpdates, HostEnvironment, LiveConfig, Loaded, NodeConfig, Push, Pushed};
use crate::model::NodeConditionType;
use crate::panel::client::HttpPanel;
use crate::reconcile::node_conditions::NodeConditions;
use crate::store::Blocking;

/// The most reasons that are kept of a push.
const MAX_REASONS: usize = 50;

/// Applies what may change without a restart.
pub struct Reload {
    pub node: Arc<NodeConfig>,
    /// The file with which the daemon was started.
    pub file: ConfigFile,
    pub panel: Option<Arc<HttpPanel>>,
    pub conditions: NodeConditions,
    /// The files that the configuration is read from.
    pub sources: watch::Sender<Vec<PathBuf>>,
    pub updates: ConfigUpdates,
    /// Tokens of these were signed with the former token of the node.
    pub sockets: Sockets,
    /// The last reason why the file is not the one in effect, which is logged once.
    noted: Option<String>,
}

impl Reload {
    /// For the configuration with which the daemon was started.
    pub fn new(
        node: Arc<NodeConfig>,
        file: ConfigFile,
        panel: Option<Arc<HttpPanel>>,
        conditions: NodeConditions,
        sources: watch::Sender<Vec<PathBuf>>,
        updates: ConfigUpdates,
        sockets: Sockets,
    ) -> Self {
        Self { node, file, panel, conditions, sources, updates, sockets, noted: None }
    }

    /// Reads the file at each change and at each SIGHUP, and writes what the panel pushes, until the changes end.
    pub async fn follow(mut self, mut changes: mpsc::Receiver<()>, mut pushes: mpsc::Receiver<Push>) {
        let mut hangup = signal(SignalKind::hangup()).ok();
        loop {
            let signalled = async {
                match &mut hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            // All of them are cancel-safe.
            tokio::select! {
                Some(push) = pushes.recv() => self.write(push).await,
                received = changes.recv() => match received {
                    Some(()) => self.read().await,
                    None => return,
                },
                Some(()) = signalled => self.read().await,
            }
        }
    }

    async fn read(&mut self) {
        let source = self.node.source.clone();
        let load = move || config::load(&source, HostEnvironment::of_this_process());
        match Blocking::Pool.run(load).await {
            Ok(loaded) => self.apply(loaded),
            // The error names the file.
            Err(error) => self.note(&format!("{error}; the previous configuration stays in effect")),
        }
    }

    /// Writes what the panel pushes, and applies what needs no restart before the panel gets its answer.
    async fn write(&mut self, Push { body, answer }: Push) {
        let (source, live) = (self.node.source.clone(), self.node.live.get());
        let write = move || config::write_push(&source, &body, &live, HostEnvironment::of_this_process());
        let pushed = Blocking::Pool.run(write).await;
        let (mut reasons, applied) = match pushed {
            Ok(Pushed { changed, refused, left_alone }) => {
                if changed {
                    tracing::info!(path = %self.node.source.display(), "the panel changed the configuration");
                    self.read().await;
                }
                let applied = refused.is_empty();
                let left_alone = left_alone.into_iter().map(|key| format!("{key}: the panel may not change it"));
                (refused.into_iter().chain(left_alone).collect(), applied)
            }
            Err(error) => (vec![error], false),
        };
        reasons.truncate(MAX_REASONS);
        if !reasons.is_empty() {
            let reasons = reasons.join("; ");
            match applied {
                true => tracing::info!(reasons, "a part of the configuration that the panel sent was left alone"),
                false => tracing::warn!(reasons, "the configuration that the panel sent was not applied"),
            }
        }
        self.updates.note(Clock::System.now(), reasons);
        // The caller may have gone.
        let _ = answer.send(applied);
    }

    fn apply(&mut self, Loaded { file, node, sources, .. }: Loaded) {
        self.sources.send_if_modified(|current| std::mem::replace(current, sources.clone()) != sources);
        let new = node.live.get();
        let serves = |live: &LiveConfig| !live.token.is_empty();
        // Without a token the API would be open, and the panel would reject every call.
        if serves(&self.node.live.get()) != serves(&new) {
            self.reject("token: it was added or removed, which needs a restart of the daemon");
            return;
        }
        if let Some(Err(error)) = self.panel.as_ref().map(|panel| panel.set_credentials(&new.token_id, &new.token)) {
            self.reject(&format!("{error}; the previous configuration stays in effect"));
            return;
        }
        let former = self.node.live.get();
        if self.node.live.update(|live| *live = LiveConfig::clone(&new)) {
            if former.token != new.token {
                self.sockets.close_all();
            }
            tracing::info!(path = %self.node.source.display(), "configuration reloaded");
        }
        let rest = config::changed_keys(&self.file, &file);
        match rest.as_slice() {
            [] => {
                self.noted = None;
                self.conditions.met(NodeConditionType::ConfigurationApplied);
            }
            keys => self.reject(&format!("{} changed, which needs a restart of the daemon", keys.join(", "))),
        }
    }

    fn reject(&mut self, why: &str) {
        self.note(&format!("{}: {why}", self.node.source.display()));
    }

    fn note(&mut self, why: &str) {
        if self.noted.as_deref() != Some(why) {
            tracing::warn!(why, "the configuration on disk is not the one in effect");
            self.noted = Some(why.to_owned());
        }
        self.conditions.unmet(NodeConditionType::ConfigurationApplied, why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ConditionStatus;

    const TEXT: &str = "token_id: a\ntoken: one\nsystem: {root_directory: root, user: {rootless: {enabled: true}}}\n";

    /// A configuration in a folder of its own.
    fn load(folder: &tempfile::TempDir, text: &str) -> Loaded {
        let path = folder.path().join("config.yml");
        std::fs::write(&path, text).unwrap();
        config::load(&path, HostEnvironment { variables: &|_| None, etc: folder.path() }).unwrap()
    }

    #[test]
    fn the_log_of_containers_and_tokens_apply_at_once_and_other_keys_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let Loaded { file, node, sources, .. } = load(&folder, TEXT);
        let conditions = NodeConditions::new(Clock::System);
        let (sources, _) = watch::channel(sources);
        let mut reload = Reload::new(
            Arc::new(node),
            file,
            None,
            conditions.clone(),
            sources,
            ConfigUpdates::new().0,
            Sockets::default(),
        );
        let condition = || conditions.list().pop().unwrap();

        reload.apply(load(
            &folder,
            &format!("{TEXT}docker: {{log_config: {{type: journald, config: {{tag: game}}}}}}\n"),
        ));
        assert_eq!(reload.node.live.get().log_config.driver, "journald");
        assert_eq!(condition().status, ConditionStatus::True);

        reload.apply(load(&folder, &format!("{}api: {{port: 1}}\n", TEXT.replace("one", "two"))));
        assert!(reload.node.live.get().token.matches(b"two"));
        assert_eq!(reload.node.live.get().log_config.driver, "local");
        assert!(condition().message.contains("api.port changed, which needs a restart"), "{:?}", condition());

        // Without a token the API would be open.
        reload.apply(load(&folder, "system: {root_directory: root, user: {rootless: {enabled: true}}}\n"));
        assert!(reload.node.live.get().token.matches(b"two"));
        assert_eq!(condition().status, ConditionStatus::False);
        reload.apply(load(&folder, TEXT));
        assert_eq!((condition().status, condition().message.as_str()), (ConditionStatus::True, ""));
    }
}
