//! What a recipe says of its environment as a whole, under the operator's limits: kept in the environment's row for
//! those who do not read the recipe.

use serde::{Deserialize, Serialize};

use super::{Millis, ReportTo};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// How long after its last use the environment goes. None: never.
    pub ttl: Option<Millis>,
    /// How long after its last use it sleeps. None: never.
    pub sleep_after: Option<Millis>,
    /// How the pull request is told of it.
    pub report_to: ReportTo,
    /// GitHub's id of the label that the recipe asks for, as the pull request last had it.
    #[serde(default)]
    pub label_id: Option<i64>,
}
