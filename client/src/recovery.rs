//! Having masters that lost what they agreed on take it over from volume servers.

use std::time::Duration;

use dulse_shared::wire::{RecoveryReport, StartRecovery};

use crate::{client::Client, error::ClientError};

/// Where masters take it.
const ROUTE: &str = "/admin/recover";
/// Volume servers read a file for each volume, and the masters agree on all of them.
const LIMIT: Duration = Duration::from_secs(240);

impl Client {
    /// Has the masters recover what the volume servers hold, or only say what that is. It can be
    /// repeated: what they know already is left as it is.
    pub async fn recover(&self, asked: &StartRecovery) -> Result<RecoveryReport, ClientError> {
        self.post_to_a_master(ROUTE, asked, LIMIT).await
    }
}
