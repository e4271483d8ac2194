//! Handlers of links that the panel signs for browsers: the token in the link is all that they present.
//!
//! Source: HTTP API, "Signed URLs".

mod download;
mod range;
mod upload;

use http::StatusCode;

use super::files::answer;
use super::tokens::{Claims, Link, LinkCheck, LinkRefusal, Scope, UsedLinks};
use super::{Api, ApiError};
use crate::server_files::{FileError, Unavailable};

pub use download::{download_backup, download_file};
pub use upload::upload_file;

/// The message for a link that leads to nothing.
const NO_LINK: &str = "The requested resource was not found on this server.";

impl Api {
    /// Uses a link, or with `used` as `None` checks it only.
    ///
    /// # Errors
    /// The token is not the panel's (401), has expired, or is for something else.
    fn link(&self, token: &str, scope: Scope, used: Option<&UsedLinks>) -> Result<Link, ApiError> {
        let key = &self.context.node.config.live.get().token;
        if key.is_empty() {
            return Err(no_link());
        }
        let claims =
            Claims::read(token, key).map_err(|_| ApiError::new(StatusCode::UNAUTHORIZED, "This link is not valid."))?;
        let check = LinkCheck { scope, now: self.context.clock.now(), revocations: &self.revocations, used };
        let link = claims.use_link(check).map_err(|refusal| match refusal {
            LinkRefusal::Expired => ApiError::new(StatusCode::UNAUTHORIZED, refusal.to_string()),
            LinkRefusal::NotFound => no_link(),
        })?;
        self.server(link.server).map_err(|_| no_link())?;
        Ok(link)
    }
}

fn no_link() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, NO_LINK)
}

/// The answer for an error with the file of a link.
fn answered(error: FileError) -> ApiError {
    match error {
        FileError::Unavailable(Unavailable::Unknown) => no_link(),
        other => answer(other),
    }
}
