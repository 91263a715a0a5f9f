//! How a call names a repository. What GitHub says of one is in the domain's facts.

use crate::environment::RepositoryName;

/// A repository as a call names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositoryAccess {
    pub name: RepositoryName,
    /// With a GitHub App: the installation to act as. None costs a look-up by name on every call.
    pub app_installation_id: Option<i64>,
}
