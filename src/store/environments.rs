//! Environments: their rows, what newer facts of a pull request mean for them, and how they are found.

use diesel::{
    define_sql_function,
    prelude::*,
    sql_types::{BigInt, Nullable, Text},
};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

use super::{
    SAMPLE_FRESH, Store, StoreError,
    connection::read,
    pull_requests::{PullRequest, PullRequestRow, RepositoryRow, commit, from_code},
    schema::{environments, pull_requests, repositories, usage_samples},
};
use crate::{
    environment::{
        CommitSha, EnvironmentStatus, Hold, Lifetime, Millis, Namespace, PullRequestFacts, Reason, RepositoryName,
        Terms, codes,
    },
    text::storable,
};

#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = environments)]
pub(super) struct EnvironmentRow {
    pub id: String,
    pull_request_id: i64,
    namespace: String,
    status: String,
    reason: Option<String>,
    message: Option<String>,
    pub revision: i64,
    refresh: bool,
    hold: String,
    serving_commit: Option<String>,
    comment_id: Option<i64>,
    comment_digest: Option<String>,
    pub lease_until: Millis,
    failures: i64,
    observed_at: Option<Millis>,
    deletion_started_at: Option<Millis>,
    created_at: Millis,
    updated_at: Millis,
    deleted_at: Option<Millis>,
    applied_commit: Option<String>,
    good_commit: Option<String>,
    trigger_label: Option<String>,
    requested: bool,
    used_at: Millis,
    keep_until: Option<Millis>,
    terms: Option<String>,
    admitted_at: Option<Millis>,
    checked_at: Millis,
}

#[derive(Insertable)]
#[diesel(table_name = environments)]
pub(super) struct NewEnvironment {
    pub id: String,
    pull_request_id: i64,
    namespace: String,
    status: &'static str,
    revision: i64,
    refresh: bool,
    hold: &'static str,
    lease_until: Millis,
    failures: i64,
    created_by: String,
    created_at: Millis,
    updated_at: Millis,
}

impl NewEnvironment {
    pub(super) fn of(facts: &PullRequestFacts, namespace: &Namespace, at: Millis) -> Self {
        Self {
            id: Uuid::now_v7().to_string(),
            pull_request_id: facts.github_id,
            namespace: namespace.to_string(),
            status: EnvironmentStatus::Pending.code(),
            revision: 0,
            refresh: true,
            hold: Hold::None.code(),
            lease_until: 0,
            failures: 0,
            created_by: facts.author.clone(),
            created_at: at,
            updated_at: at,
        }
    }
}

/// One environment, as its row has it.
#[derive(Debug, Clone)]
pub struct Environment {
    pub id: String,
    pub pull_request_id: i64,
    pub namespace: Namespace,
    pub status: EnvironmentStatus,
    pub reason: Option<Reason>,
    pub message: Option<String>,
    pub revision: i64,
    pub refresh: bool,
    pub hold: Hold,
    pub serving_commit: Option<CommitSha>,
    /// Whose objects were applied last, perhaps not all of them.
    pub applied_commit: Option<CommitSha>,
    /// The last commit that ran: what a failure goes back to.
    pub good_commit: Option<CommitSha>,
    /// The label that the recipe asked for when it was last looked at, lower-cased.
    pub trigger_label: Option<String>,
    /// Somebody asked for it in words.
    pub requested: bool,
    pub lifetime: Lifetime,
    /// It has a place of which there may be a limited number.
    pub has_place: bool,
    /// What was applied is to be held against what is there.
    pub check_is_due: bool,
    /// What the recipe says of it. None before it was looked at, and where another version wrote it.
    pub terms: Option<Terms>,
    pub comment_id: Option<i64>,
    pub comment_digest: Option<String>,
    pub failures: i64,
    pub observed_at: Option<Millis>,
    pub deletion_started_at: Option<Millis>,
    pub created_at: Millis,
    pub updated_at: Millis,
    pub deleted_at: Option<Millis>,
}

impl TryFrom<EnvironmentRow> for Environment {
    type Error = StoreError;

    fn try_from(row: EnvironmentRow) -> Result<Self, StoreError> {
        let terms: Option<Terms> = row.terms.as_deref().and_then(|terms| serde_json::from_str(terms).ok());
        Ok(Self {
            id: row.id,
            pull_request_id: row.pull_request_id,
            namespace: row.namespace.parse().map_err(super::pull_requests::unreadable)?,
            status: from_code(&row.status, EnvironmentStatus::from_code)?,
            // A reason of a newer version is shown as none: its message still says what is the matter.
            reason: row.reason.as_deref().and_then(Reason::from_code),
            message: row.message,
            revision: row.revision,
            refresh: row.refresh,
            hold: from_code(&row.hold, Hold::from_code)?,
            serving_commit: row.serving_commit.as_deref().map(commit).transpose()?,
            applied_commit: row.applied_commit.as_deref().map(commit).transpose()?,
            good_commit: row.good_commit.as_deref().map(commit).transpose()?,
            trigger_label: row.trigger_label,
            requested: row.requested,
            lifetime: Lifetime {
                used_at: row.used_at,
                keep_until: row.keep_until,
                ttl: terms.and_then(|terms| terms.ttl),
                sleep_after: terms.and_then(|terms| terms.sleep_after),
            },
            has_place: row.admitted_at.is_some(),
            check_is_due: row.checked_at < 0,
            terms,
            comment_id: row.comment_id,
            comment_digest: row.comment_digest,
            failures: row.failures,
            observed_at: row.observed_at,
            deletion_started_at: row.deletion_started_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
            deleted_at: row.deleted_at,
        })
    }
}

/// An environment with the pull request that it is for.
#[derive(Debug, Clone)]
pub struct Overview {
    pub environment: Environment,
    pub pull_request: PullRequest,
}

impl Overview {
    /// What the label is called by now that the recipe asked for and that the pull request still has. None where it has
    /// its name, or is gone.
    pub fn renamed_label(&self) -> Option<&str> {
        let facts = &self.pull_request.facts;
        let (asked, id) = (self.environment.trigger_label.as_ref()?, self.environment.terms?.label_id?);
        let mut labels = facts.labels.iter().zip(&facts.label_ids);
        let (name, _) = labels.find(|(_, of)| **of == id)?;
        (name.to_lowercase() != *asked).then_some(name)
    }

    fn from_rows(
        (environment, pull_request, repository): (EnvironmentRow, PullRequestRow, RepositoryRow),
    ) -> Result<Self, StoreError> {
        Ok(Self { environment: environment.try_into()?, pull_request: pull_request.with_repository(repository)? })
    }
}

/// What newer facts of a pull request mean for its environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trigger {
    /// Opened, reopened, or heard of for the first time while open.
    Opened,
    Pushed,
    Closed,
    /// Anything else: only the next pass can tell. The labels that it did not have before, lower-cased.
    Edited {
        new_labels: Vec<String>,
    },
}

/// What asks for a pass, now, whatever failed before: columns of an update.
macro_rules! asked {
    ($now:expr, $at:expr) => {
        (
            environments::revision.eq(environments::revision + 1),
            environments::refresh.eq(true),
            environments::due_at.eq($now.clone().nullable()),
            environments::failures.eq(0),
            environments::updated_at.eq($at),
        )
    };
}
pub(super) use asked;

/// Records inside a transaction what newer facts mean for the environment of their pull request, if it has one: the
/// status that is true from this moment on, and that a pass is due. A new commit and reopening also lift what was held
/// back on purpose, and what failed at this very commit may try again.
macro_rules! apply_trigger {
    ($connection:expr, $now:expr, $at:expr, $facts:expr, $trigger:expr) => {{
        use $crate::environment::{DeploymentStatus, EnvironmentStatus, Hold};
        use $crate::store::{environments::Trigger, schema::deployments};
        let asked = $crate::store::environments::asked!($now, $at);
        let row = environments::table.filter(environments::pull_request_id.eq($facts.github_id));
        match $trigger {
            Trigger::Opened | Trigger::Pushed => {
                diesel::update(row)
                    .set((
                        asked,
                        environments::used_at.eq($now),
                        environments::status.eq(EnvironmentStatus::Pending.code()),
                        environments::reason.eq(None::<String>),
                        environments::message.eq(None::<String>),
                        environments::hold.eq(Hold::None.code()),
                        environments::deletion_started_at.eq(None::<i64>),
                        environments::deleted_at.eq(None::<i64>),
                    ))
                    .execute($connection)
                    .await?;
                diesel::update(deployments::table)
                    .filter(deployments::environment_id.eq_any(row.select(environments::id)))
                    .filter(deployments::commit_sha.eq($facts.head_sha.as_str()))
                    .filter(deployments::status.eq(DeploymentStatus::Failed.code()))
                    .set(deployments::status.eq(DeploymentStatus::Cancelled.code()))
                    .execute($connection)
                    .await?;
            }
            Trigger::Closed => {
                diesel::update(row.filter(environments::status.ne(EnvironmentStatus::Deleted.code())))
                    .set((
                        asked,
                        environments::requested.eq(false),
                        environments::status.eq(EnvironmentStatus::Deleting.code()),
                        environments::reason.eq(None::<String>),
                        environments::message.eq(None::<String>),
                    ))
                    .execute($connection)
                    .await?;
            }
            Trigger::Edited { new_labels } => {
                diesel::update(row).set(asked).execute($connection).await?;
                $crate::store::environments::lift_hold!($connection, $facts, new_labels);
            }
        }
    }};
}
pub(super) use apply_trigger;

/// Inside a transaction: where the label that the recipe asks for was added, somebody wants the environment again.
macro_rules! lift_hold {
    ($connection:expr, $facts:expr, $new_labels:expr) => {
        if !$new_labels.is_empty() {
            diesel::update(environments::table)
                .filter(environments::pull_request_id.eq($facts.github_id))
                .filter(environments::trigger_label.eq_any($new_labels))
                .set(environments::hold.eq($crate::environment::Hold::None.code()))
                .execute($connection)
                .await?;
        }
    };
}
pub(super) use lift_hold;

/// Which environments a list shows.
#[derive(Debug, Clone, Default)]
pub struct EnvironmentFilter {
    /// Empty: every status but deleted.
    pub statuses: Vec<EnvironmentStatus>,
    pub repository: Option<RepositoryName>,
    /// Patterns of repositories that the asker may see: `owner/name` or `owner/*`. None: all.
    pub visible: Option<Vec<String>>,
    /// Only of repositories that one of these patterns is for. None: all.
    pub of_team: Option<Vec<String>>,
    /// Only environments of pull requests with this number.
    pub pull_request: Option<i64>,
    /// Only those whose pull request's title, author or branch, or whose namespace has this text; upper and lower case
    /// are the same.
    pub text: Option<String>,
    /// The id after which the page begins, newest first.
    pub after: Option<String>,
    pub limit: i64,
}

codes! {
    /// In which order environments are shown.
    EnvironmentOrder {
        /// The newest first.
        Newest = "newest",
        Oldest = "oldest",
        /// What changed last first.
        Changed = "changed",
        /// By repository and number.
        Repository = "repository",
        Status = "status",
        /// What uses most first.
        Cpu = "cpu",
        Memory = "memory",
    }
}

define_sql_function! {
    /// Lower case, letter by letter. SQLite's own knows only ASCII: its connections have one of ours.
    fn lower(text: Text) -> Text;
}

define_sql_function! {
    /// The first, or the second where there is none.
    fn coalesce(value: Nullable<BigInt>, otherwise: BigInt) -> BigInt;
}

/// Environments with their pull request and repository, as [`Overview::from_rows`] takes them.
macro_rules! overview_query {
    () => {
        environments::table.inner_join(pull_requests::table.inner_join(repositories::table)).select((
            EnvironmentRow::as_select(),
            PullRequestRow::as_select(),
            RepositoryRow::as_select(),
        ))
    };
}

/// `query`, over the tables of [`overview_query`], with what `filter` lets through.
macro_rules! filtered {
    ($query:expr, $filter:expr) => {{
        let filter: &EnvironmentFilter = $filter;
        let mut query = $query.into_boxed();
        query = if filter.statuses.is_empty() {
            // Not as a list of the others: SQLite would go through the index of statuses, and sort what it finds there.
            query.filter(environments::status.ne(EnvironmentStatus::Deleted.code()))
        } else {
            let codes = filter.statuses.iter().map(|status| status.code());
            query.filter(environments::status.eq_any(codes.collect::<Vec<_>>()))
        };
        if let Some(after) = &filter.after {
            query = query.filter(environments::id.lt(after));
        }
        if let Some(number) = filter.pull_request {
            query = query.filter(pull_requests::number.eq(number));
        }
        if let Some(text) = &filter.text {
            // Lowered by the database too: which letters have a lower case is its own affair.
            let pattern = || lower(format!("%{}%", escape_pattern(text)));
            query = query.filter(
                lower(pull_requests::title)
                    .like(pattern())
                    .escape('\\')
                    .or(lower(pull_requests::author).like(pattern()).escape('\\'))
                    .or(lower(pull_requests::head_ref).like(pattern()).escape('\\'))
                    .or(environments::namespace.like(pattern()).escape('\\')),
            );
        }
        if let Some(repository) = &filter.repository {
            query = query
                .filter(repositories::owner.eq(repository.owner()))
                .filter(repositories::name.eq(repository.name()));
        }
        for patterns in [&filter.visible, &filter.of_team].into_iter().flatten() {
            let (owners, names) = split_patterns(patterns);
            query = query.filter(
                repositories::owner
                    .eq_any(owners)
                    .or(repositories::owner.concat("/").concat(repositories::name).eq_any(names)),
            );
        }
        query
    }};
}

impl Store {
    /// A page of environments, newest first, and whether there are more.
    pub async fn list_environments(&self, filter: &EnvironmentFilter) -> Result<(Vec<Overview>, bool), StoreError> {
        let rows: Vec<(EnvironmentRow, PullRequestRow, RepositoryRow)> = read!(self, |connection| {
            let query = overview_query!().order(environments::id.desc()).limit(filter.limit + 1);
            filtered!(query, filter).load(connection).await
        })?;
        let more = rows.len() as i64 > filter.limit;
        let page = rows.into_iter().take(filter.limit as usize).map(Overview::from_rows).collect::<Result<_, _>>()?;
        Ok((page, more))
    }

    /// So many environments of a list in some order, after the first `offset`; `after` of the filter does not count.
    pub async fn page_of_environments(
        &self,
        filter: &EnvironmentFilter,
        order: EnvironmentOrder,
        offset: i64,
    ) -> Result<Vec<Overview>, StoreError> {
        let filter = &EnvironmentFilter { after: None, ..filter.clone() };
        let now = self.clock().await?;
        let rows: Vec<(EnvironmentRow, PullRequestRow, RepositoryRow)> = read!(self, |connection| {
            let sample = usage_samples::environment_id
                .eq(environments::id)
                .and(usage_samples::sampled_at.gt(now - SAMPLE_FRESH));
            let query = environments::table
                .inner_join(pull_requests::table.inner_join(repositories::table))
                .left_join(usage_samples::table.on(sample))
                .select((EnvironmentRow::as_select(), PullRequestRow::as_select(), RepositoryRow::as_select()))
                .limit(filter.limit)
                .offset(offset);
            let query = filtered!(query, filter);
            match order {
                EnvironmentOrder::Newest => query.order(environments::id.desc()),
                EnvironmentOrder::Oldest => query.order(environments::id.asc()),
                EnvironmentOrder::Changed => query.order((environments::updated_at.desc(), environments::id.desc())),
                EnvironmentOrder::Repository => {
                    query.order((repositories::owner, repositories::name, pull_requests::number))
                }
                EnvironmentOrder::Status => query.order((environments::status, environments::id.desc())),
                EnvironmentOrder::Cpu => {
                    query.order((coalesce(usage_samples::cpu_millicores, -1).desc(), environments::id.desc()))
                }
                EnvironmentOrder::Memory => {
                    query.order((coalesce(usage_samples::memory_bytes, -1).desc(), environments::id.desc()))
                }
            }
            .load(connection)
            .await
        })?;
        rows.into_iter().map(Overview::from_rows).collect()
    }

    /// How many environments the filter lets through, whatever its limit.
    pub async fn count_environments(&self, filter: &EnvironmentFilter) -> Result<u64, StoreError> {
        let count: i64 = read!(self, |connection| {
            let query = environments::table.inner_join(pull_requests::table.inner_join(repositories::table)).count();
            filtered!(query, filter).get_result(connection).await
        })?;
        Ok(count.unsigned_abs())
    }

    /// The environment with this id or this namespace.
    pub async fn find_environment(&self, id_or_namespace: &str) -> Result<Option<Overview>, StoreError> {
        let row = read!(self, |connection| {
            overview_query!()
                .filter(environments::id.eq(id_or_namespace).or(environments::namespace.eq(id_or_namespace)))
                .first(connection)
                .await
                .optional()
        })?;
        row.map(Overview::from_rows).transpose()
    }

    /// The environments by their namespaces; those that no row is for are left out.
    pub async fn environments_in(&self, namespaces: &[Namespace]) -> Result<Vec<Overview>, StoreError> {
        let mut found = Vec::new();
        // SQLite takes so many parameters, and some more.
        for namespaces in namespaces.chunks(500) {
            let names: Vec<&str> = namespaces.iter().map(Namespace::as_str).collect();
            let rows = read!(self, |connection| {
                overview_query!().filter(environments::namespace.eq_any(&names)).load(connection).await
            })?;
            for row in rows {
                found.push(Overview::from_rows(row)?);
            }
        }
        Ok(found)
    }

    /// The environment of pull request `number` of `repository`.
    pub async fn find_environment_of(
        &self,
        repository: &RepositoryName,
        number: i64,
    ) -> Result<Option<Overview>, StoreError> {
        let row = read!(self, |connection| {
            overview_query!()
                .filter(repositories::owner.eq(repository.owner()))
                .filter(repositories::name.eq(repository.name()))
                .filter(pull_requests::number.eq(number))
                .first(connection)
                .await
                .optional()
        })?;
        row.map(Overview::from_rows).transpose()
    }
}

/// Text that a LIKE finds letter by letter.
fn escape_pattern(text: &str) -> String {
    storable(text.to_owned()).chars().fold(String::new(), |mut escaped, character| {
        if matches!(character, '%' | '_' | '\\') {
            escaped.push('\\');
        }
        escaped.push(character);
        escaped
    })
}

/// `owner/*` patterns as owners, the others as they are; lower-cased, as the rows are.
pub(super) fn split_patterns(patterns: &[String]) -> (Vec<String>, Vec<String>) {
    let (owners, names): (Vec<_>, Vec<_>) =
        patterns.iter().map(|pattern| pattern.to_ascii_lowercase()).partition(|pattern| pattern.ends_with("/*"));
    (owners.into_iter().map(|owner| owner.trim_end_matches("/*").to_owned()).collect(), names)
}
