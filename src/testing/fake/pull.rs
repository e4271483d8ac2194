//! A pull in progress.

use super::engine::FakeEngine;
use super::images::{Images, RemoteImage, canonical};
use super::rejection::Rejection;
use super::unreachable;
use crate::config::RegistryFile;
use crate::runtime::RuntimeError;

/// A pull in progress, counted until it is dropped.
pub(super) struct Pull<'a> {
    engine: &'a FakeEngine,
    name: String,
    generation: u64,
}

impl<'a> Pull<'a> {
    pub(super) fn begin(engine: &'a FakeEngine, reference: &str) -> Self {
        let name = canonical(reference);
        let generation = engine.with(|state| {
            let pulls = state.images.pulls.entry(name.clone()).or_default();
            pulls.begun += 1;
            pulls.running += 1;
            pulls.most_at_once = pulls.most_at_once.max(pulls.running);
            state.generation
        });
        Self { engine, name, generation }
    }

    pub(super) async fn run(
        &self,
        attempt: &str,
        auth: Option<&RegistryFile>,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(), RuntimeError> {
        let rejected = |no: Rejection| no.into_error(attempt.to_owned());
        let image = self.engine.with(|state| find_remote(&state.images, &self.name, auth)).map_err(rejected)?;
        progress(format!("Pulling from {}", self.name));
        let end = tokio::time::sleep(image.takes);
        tokio::pin!(end);
        loop {
            let poked = self.engine.outside();
            if self.engine.with(|state| state.generation) != self.generation {
                return Err(unreachable(attempt));
            }
            tokio::select! {
                biased;
                () = poked => {}
                () = &mut end => break,
            }
        }
        if let Some(message) = image.fails {
            return Err(rejected(Rejection::new(500, message)));
        }
        self.engine.with(|state| {
            state.images.local.insert(self.name.clone(), image.image);
            state.images.pulls.entry(self.name.clone()).or_default().succeeded += 1;
        });
        progress(format!("Downloaded newer image for {}", self.name));
        Ok(())
    }
}

impl Drop for Pull<'_> {
    fn drop(&mut self) {
        self.engine.with(|state| {
            let pulls = state.images.pulls.entry(self.name.clone()).or_default();
            pulls.running = pulls.running.saturating_sub(1);
        });
    }
}

fn find_remote(images: &Images, name: &str, auth: Option<&RegistryFile>) -> Result<RemoteImage, Rejection> {
    if !images.registry_up {
        let text = "Get \"https://registry/v2/\": dial tcp: lookup registry: no such host";
        return Err(Rejection::new(500, text));
    }
    if name.contains([' ', '\t']) {
        return Err(Rejection::new(400, "invalid reference format"));
    }
    let Some(image) = images.remote.get(name) else {
        let text = format!("pull access denied for {name}, repository does not exist or may require 'docker login'");
        return Err(Rejection::new(404, text));
    };
    let given = auth.map(|auth| (auth.username.as_str(), auth.password.expose()));
    let wanted = image.login.as_ref().map(|(user, password)| (user.as_str(), password.as_str()));
    if wanted.is_some() && given != wanted {
        return Err(Rejection::new(500, format!("pulling {name}: unauthorized: authentication required")));
    }
    Ok(image.clone())
}
