//! One order of a certificate.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use serde::{Deserialize, Serialize};

use super::challenges::{self, Answers};
use super::{AutomaticTls, MODE};
use crate::atomic;
use crate::store::Blocking;
use crate::tasks::Tasks;

/// Timeout of one order.
const TIMEOUT: Duration = Duration::from_secs(300);
/// How often and how long the authority is asked for its decision.
const POLL: RetryPolicy = RetryPolicy::new().initial_delay(Duration::from_secs(1)).timeout(Duration::from_secs(120));
/// The account, in the folder of the certificates.
const ACCOUNT: &str = "alula-account.json";

/// The account on disk.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// The authority that has it.
    directory: String,
    credentials: AccountCredentials,
}

/// Orders a certificate. Returns its private key and its chain as PEM.
///
/// # Errors
/// The authority cannot be reached, or rejects the order; port 80 cannot be opened.
pub async fn order(options: &AutomaticTls, folder: &Path, tasks: &Tasks) -> anyhow::Result<String> {
    let ordered = tokio::time::timeout(TIMEOUT, try_order(options, folder, tasks)).await;
    ordered.unwrap_or_else(|_| bail!("{} did not decide within {TIMEOUT:?}", options.directory))
}

async fn try_order(options: &AutomaticTls, folder: &Path, tasks: &Tasks) -> anyhow::Result<String> {
    let account = account(options, folder).await?;
    let identifiers = [Identifier::Dns(options.hostname.clone())];
    let order = account.new_order(&NewOrder::new(&identifiers)).await;
    let mut order = order.with_context(|| format!("{} does not accept the order", options.directory))?;
    let answers = answers(&mut order).await?;
    let _answering = challenges::serve(options.port, answers, tasks).await?;
    begin(&mut order).await?;
    if order.poll_ready(&POLL).await.context("no decision about the order")? != OrderStatus::Ready {
        bail!("the authority could not check the name: {}", reasons(&mut order).await);
    }
    let key = order.finalize().await.context("the authority makes no certificate")?;
    let chain = order.poll_certificate(&POLL).await.context("the authority made no certificate in time")?;
    Ok(format!("{}\n{chain}", key.trim_end()))
}

/// The account of an earlier order with this authority, or a new one.
async fn account(options: &AutomaticTls, folder: &Path) -> anyhow::Result<Account> {
    let builder = || match &options.root {
        Some(root) => Account::builder_with_root(root).with_context(|| format!("cannot use {}", root.display())),
        None => Account::builder().context("cannot make a client"),
    };
    let path = folder.join(ACCOUNT);
    let file = path.clone();
    let stored = Blocking::Pool.run(move || std::fs::read(file)).await.ok();
    let stored = stored.and_then(|bytes| serde_json::from_slice::<Stored>(&bytes).ok());
    let unreachable = || format!("{} cannot be used", options.directory);
    if let Some(stored) = stored.filter(|stored| stored.directory == options.directory) {
        return builder()?.from_credentials(stored.credentials).await.with_context(unreachable);
    }
    let new = NewAccount { contact: &[], terms_of_service_agreed: true, only_return_existing: false };
    let (account, credentials) =
        builder()?.create(&new, options.directory.clone(), None).await.with_context(unreachable)?;
    let text = serde_json::to_vec(&Stored { directory: options.directory.clone(), credentials })?;
    let folder = folder.to_owned();
    let write = move || atomic::create_private(&folder).and_then(|()| atomic::write_file(&path, &text, MODE));
    Blocking::Pool.run(write).await?;
    Ok(account)
}

/// What the authority will ask for.
async fn answers(order: &mut Order) -> anyhow::Result<Answers> {
    let (mut answers, mut authorizations) = (Answers::new(), order.authorizations());
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let challenge =
            authorization.challenge(ChallengeType::Http01).context("the authority offers no check by HTTP")?;
        answers.insert(challenge.token.clone(), challenge.key_authorization().as_str().to_owned());
    }
    Ok(answers)
}

/// Lets the authority ask.
async fn begin(order: &mut Order) -> anyhow::Result<()> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status != AuthorizationStatus::Valid
            && let Some(mut challenge) = authorization.challenge(ChallengeType::Http01)
        {
            challenge.set_ready().await?;
        }
    }
    Ok(())
}

/// Why the authority rejected the order, for people.
async fn reasons(order: &mut Order) -> String {
    let (mut reasons, mut authorizations) = (Vec::new(), order.authorizations());
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        // Otherwise the reason is missing, and the rejection is reported all the same.
        if let Ok(state) = authorization.refresh().await {
            reasons.extend(state.challenges.iter().filter_map(|challenge| challenge.error.as_ref()?.detail.clone()));
        }
    }
    if reasons.is_empty() { "it gives no reason".to_owned() } else { reasons.join("; ") }
}
