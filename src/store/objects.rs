//! The inventory: what was applied for an environment, written before it is applied, so that nothing of ours is ever
//! outside it.

use std::collections::BTreeMap;

use diesel::{prelude::*, sql_types::Bool};
use diesel_async::RunQueryDsl;

use super::{
    Lease, LeaseLost, Store, StoreError,
    connection::{read, write},
    pull_requests::unreadable,
    schema::{deployments, environments, objects, renders},
    standings::{StandingChanges, change_standing},
};
use crate::{
    environment::CommitSha,
    recipe::{Object, Render},
    sealing::NotSealed,
};

/// The phase of what is in the inventory and belongs to what is applied no more.
const SUPERFLUOUS: i64 = -1;
/// The phase of what is not applied any more either, and stays all the same.
const KEPT: i64 = -2;

/// What tells one object of an environment from the others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Queryable, Selectable)]
#[diesel(table_name = objects)]
pub struct ObjectKey {
    pub api_version: String,
    pub kind: String,
    pub name: String,
}

impl ObjectKey {
    pub fn of(object: &Object) -> Self {
        let Object { api_version, kind, name, body: _ } = object.clone();
        Self { api_version, kind, name }
    }

    /// Whether something may be written in it that is nowhere else.
    pub fn is_volume(&self) -> bool {
        self.kind == "PersistentVolumeClaim"
    }

    /// Whether nothing answers by it, and something may come back for what it holds.
    pub fn only_holds(&self) -> bool {
        self.is_volume() || matches!(self.kind.as_str(), "Secret" | "ConfigMap")
    }

    /// Whether it is the same object, be it in another version of its kind: `autoscaling/v1` and `autoscaling/v2`.
    pub fn is_same_object(&self, other: &Self) -> bool {
        let group = |key: &Self| key.api_version.rsplit_once('/').map(|(group, _)| group.to_owned());
        (group(self), &self.kind, &self.name) == (group(other), &other.kind, &other.name)
    }

    pub fn is_among<'a>(&self, mut objects: impl Iterator<Item = &'a Object>) -> bool {
        let Self { api_version, kind, name } = self;
        objects.any(|object| (&object.api_version, &object.kind, &object.name) == (api_version, kind, name))
    }
}

/// An object of the inventory, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = objects)]
pub struct Inventoried {
    #[diesel(embed)]
    pub key: ObjectKey,
    /// Hex SHA-256 of what was applied last.
    pub digest: String,
    /// With which phase it is applied; below 0 it is not, see [`Self::is_applied`].
    pub phase: i64,
    /// It is a Job, and was seen to complete.
    pub done: bool,
    /// It is a Job that is done once for all commits.
    pub once: bool,
}

impl Inventoried {
    /// Whether it belongs to what is applied.
    pub fn is_applied(&self) -> bool {
        self.phase >= 0
    }

    /// Whether it is not applied any more, and stays all the same.
    pub fn is_kept(&self) -> bool {
        self.phase == KEPT
    }

    /// Whether it was left by what was applied before, and is to go.
    pub fn is_superfluous(&self) -> bool {
        self.phase == SUPERFLUOUS
    }
}

#[derive(Clone, Insertable)]
#[diesel(table_name = objects)]
struct ObjectRow {
    environment_id: String,
    api_version: String,
    kind: String,
    name: String,
    digest: String,
    phase: i64,
    done: bool,
    once: bool,
}

/// The Jobs that were seen to complete for a commit: the digest of each, by its name.
type DoneJobs = BTreeMap<String, String>;

fn done_jobs(text: Option<String>) -> DoneJobs {
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// What is kept of a commit.
#[derive(Queryable, Selectable)]
#[diesel(table_name = renders)]
struct Kept {
    body: String,
    /// Of what it was made from.
    key: Option<String>,
    /// What ran of it, where something else was applied since.
    ran_body: Option<String>,
}

/// What is about to be applied, and what it was made from.
#[derive(Debug, Clone, Copy)]
pub struct Made<'a> {
    pub render: &'a Render,
    /// A digest of everything that it depends on.
    pub key: &'a str,
    /// It is something else than what ran of the commit, which is kept beside it.
    pub remakes: bool,
}

/// What became of superfluous objects.
#[derive(Debug, Clone, Copy)]
pub struct Settled<'a> {
    pub deleted: &'a [ObjectKey],
    /// Something that is applied has them as its own, and they are no objects of their own any more.
    pub in_use: &'a [ObjectKey],
    /// In the namespace for as long as there is one; of a Job that is done once: known to be done until a volume goes,
    /// which it may have filled.
    pub kept: &'a [ObjectKey],
}

impl Settled<'_> {
    pub fn is_empty(self) -> bool {
        self.deleted.is_empty() && self.in_use.is_empty() && self.kept.is_empty()
    }
}

/// Whether the pass still holds its lease; takes the row's lock inside a transaction.
macro_rules! lease_held {
    ($connection:expr, $lease:expr) => {
        diesel::update(environments::table)
            .filter($crate::store::lease::held(&$lease))
            .set(environments::lease_until.eq(environments::lease_until))
            .execute($connection)
            .await?
            == 1
    };
}

pub(super) use lease_held;

/// Marks these Jobs of the inventory as done, inside a transaction. Gives them, each with its digest.
macro_rules! mark_done {
    ($connection:expr, $environment_id:expr, $jobs:expr) => {{
        let done: Vec<(String, String)> = diesel::update(objects::table)
            .filter(objects::environment_id.eq(&$environment_id))
            .filter(objects::kind.eq("Job"))
            .filter(objects::name.eq_any(&$jobs))
            .set(objects::done.eq(true))
            .returning((objects::name, objects::digest))
            .get_results($connection)
            .await?;
        done
    }};
}

/// Forgets which Jobs were done for any commit, inside a transaction: what they did is gone.
macro_rules! forget_done_jobs {
    ($connection:expr, $environment_id:expr) => {
        diesel::update(deployments::table)
            .filter(deployments::environment_id.eq(&$environment_id))
            .set(deployments::done_jobs.eq(None::<String>))
            .execute($connection)
            .await?
    };
}

/// Keeps what was made for a commit, inside a transaction.
macro_rules! keep_render {
    ($connection:expr, $environment_id:expr, $commit:expr, $body:expr, $key:expr) => {{
        let deployment_id: String = deployments::table
            .filter(deployments::environment_id.eq(&$environment_id))
            .filter(deployments::commit_sha.eq(&$commit))
            .select(deployments::id)
            .first($connection)
            .await?;
        diesel::insert_into(renders::table)
            .values((renders::deployment_id.eq(deployment_id), renders::body.eq(&$body), renders::key.eq(&$key)))
            .on_conflict(renders::deployment_id)
            .do_update()
            .set((renders::body.eq(&$body), renders::key.eq(&$key)))
            .execute($connection)
            .await?;
    }};
}

impl Store {
    pub async fn inventory(&self, environment_id: &str) -> Result<Vec<ObjectKey>, StoreError> {
        read!(self, |connection| {
            objects::table
                .filter(objects::environment_id.eq(environment_id))
                .select(ObjectKey::as_select())
                .load(connection)
                .await
        })
    }

    /// The same with what is known of each.
    pub async fn known_inventory(&self, environment_id: &str) -> Result<Vec<Inventoried>, StoreError> {
        read!(self, |connection| {
            objects::table
                .filter(objects::environment_id.eq(environment_id))
                .select(Inventoried::as_select())
                .load(connection)
                .await
        })
    }

    /// Records that these Jobs of what is applied were seen to complete: whatever becomes of them now, their work is done,
    /// for their commit also where another one is applied in between. What other commits did counts no more: this work came
    /// after theirs.
    pub async fn record_done(&self, lease: &Lease, jobs: &[String]) -> Result<Result<(), LeaseLost>, StoreError> {
        let (lease, jobs) = (lease.clone(), jobs.to_vec());
        write!(self, |connection| {
            if !lease_held!(connection, lease) {
                return Ok(Err(LeaseLost));
            }
            let done = mark_done!(connection, lease.environment_id, jobs);
            let applied: Option<String> = environments::table
                .find(&lease.environment_id)
                .select(environments::applied_commit)
                .first(connection)
                .await?;
            let of_this = deployments::table.filter(deployments::environment_id.eq(&lease.environment_id));
            let its_own = of_this.filter(deployments::commit_sha.nullable().eq(&applied));
            let known: Option<Option<String>> =
                its_own.select(deployments::done_jobs).first(connection).await.optional()?;
            let mut known = done_jobs(known.flatten());
            known.extend(done);
            let known = serde_json::to_string(&known).unwrap_or_default();
            diesel::update(of_this).set(deployments::done_jobs.eq(None::<String>)).execute(connection).await?;
            diesel::update(its_own).set(deployments::done_jobs.eq(known)).execute(connection).await?;
            Ok(Ok(()))
        })
    }

    /// Takes these Jobs of what was put back for done: it ran.
    pub async fn take_for_done(&self, lease: &Lease, jobs: &[String]) -> Result<Result<(), LeaseLost>, StoreError> {
        let (lease, jobs) = (lease.clone(), jobs.to_vec());
        write!(self, |connection| {
            if !lease_held!(connection, lease) {
                return Ok(Err(LeaseLost));
            }
            mark_done!(connection, lease.environment_id, jobs);
            Ok(Ok(()))
        })
    }

    /// Records what is about to be applied for a commit that has its row: the inventory gets all of it, the environment
    /// says whose it is, and what was made for the commit is kept for as long as a failure may go back to it. `made` is
    /// None where it is kept already. `fresh`: the namespace is made with it, and has nothing of what was before.
    pub async fn begin_apply(
        &self,
        lease: &Lease,
        commit: &CommitSha,
        applied: &Render,
        made: Option<Made<'_>>,
        fresh: bool,
    ) -> Result<Result<(), LeaseLost>, StoreError> {
        let (lease, commit) = (lease.clone(), commit.to_string());
        let kept =
            |Made { render, key, remakes: _ }: Made<'_>| Ok::<_, StoreError>((self.kept_form(render)?, key.to_owned()));
        let remakes = made.is_some_and(|made| made.remakes);
        let made = made.map(kept).transpose()?;
        let row = |object: &Object, phase: usize| {
            let row = ObjectRow {
                environment_id: lease.environment_id.clone(),
                api_version: object.api_version.clone(),
                kind: object.kind.clone(),
                name: object.name.clone(),
                digest: object.digest(),
                phase: phase as i64,
                done: false,
                once: object.is_done_once(),
            };
            (row, object.is_hook())
        };
        let mut rows: Vec<(ObjectRow, bool)> = applied.walls.iter().map(|wall| row(wall, 0)).collect();
        for (phase, objects) in applied.phases().into_iter().enumerate() {
            rows.extend(objects.iter().map(|object| row(object, phase)));
        }
        write!(self, |connection| {
            if !lease_held!(connection, lease) {
                return Ok(Err(LeaseLost));
            }
            let environment = environments::table.find(&lease.environment_id);
            diesel::update(environment).set(environments::applied_commit.eq(&commit)).execute(connection).await?;
            let begins = StandingChanges {
                asleep: Some(false),
                fresh: fresh.then_some(true),
                half_applied: Some(true),
                ..Default::default()
            };
            change_standing!(connection, lease.environment_id, begins);
            if fresh {
                diesel::delete(objects::table)
                    .filter(objects::environment_id.eq(&lease.environment_id))
                    .execute(connection)
                    .await?;
                forget_done_jobs!(connection, lease.environment_id);
            }
            let good: Option<String> = environment.select(environments::good_commit).first(connection).await?;
            let of_this = deployments::table.filter(deployments::environment_id.eq(&lease.environment_id));
            let superfluous = of_this
                .filter(deployments::commit_sha.ne_all([commit.clone(), good.clone().unwrap_or_default()]))
                .select(deployments::id);
            diesel::delete(renders::table)
                .filter(renders::deployment_id.eq_any(superfluous))
                .execute(connection)
                .await?;
            let of_good = renders::table.filter(
                renders::deployment_id
                    .eq_any(of_this.filter(deployments::commit_sha.nullable().eq(&good)).select(deployments::id)),
            );
            let is_good = good.as_ref() == Some(&commit);
            if fresh && is_good {
                // What it made up went with its namespace.
                let forgotten = (renders::ran_body.eq(None::<String>), renders::ran_key.eq(None::<String>));
                diesel::update(of_good).set(forgotten).execute(connection).await?;
            } else if remakes && is_good {
                // A failure goes back to what ran of the commit, and not to what is made of it since.
                diesel::update(of_good.filter(renders::ran_body.is_null()))
                    .set((renders::ran_body.eq(renders::body.nullable()), renders::ran_key.eq(renders::key)))
                    .execute(connection)
                    .await?;
            }
            if let Some((body, key)) = &made {
                keep_render!(connection, lease.environment_id, commit, body, key);
            }
            diesel::update(objects::table)
                .filter(objects::environment_id.eq(&lease.environment_id))
                .filter(objects::phase.ne(KEPT))
                .set(objects::phase.eq(SUPERFLUOUS))
                .execute(connection)
                .await?;
            let its_own = of_this.filter(deployments::commit_sha.eq(&commit)).select(deployments::done_jobs);
            let known = done_jobs(its_own.first::<Option<String>>(connection).await.optional()?.flatten());
            // Row by row: diesel inserts many at once into PostgreSQL only.
            for (row, is_hook) in &rows {
                // What was done for another commit is to be done anew where it is something else. Hooks are no event of a
                // commit that runs already: what they were made from, such as a tag, may mean something else by now.
                let stays_done = row.once || (*is_hook && is_good);
                let still_done = objects::digest.eq(&row.digest).or(stays_done.into_sql::<Bool>());
                let is_done = row.kind == "Job" && known.get(&row.name) == Some(&row.digest);
                let row = ObjectRow { done: is_done, ..row.clone() };
                diesel::insert_into(objects::table)
                    .values(&row)
                    .on_conflict((objects::environment_id, objects::api_version, objects::kind, objects::name))
                    .do_update()
                    .set((
                        objects::digest.eq(&row.digest),
                        objects::phase.eq(row.phase),
                        objects::once.eq(row.once),
                        objects::done.eq(objects::done.and(still_done).or(is_done.into_sql::<Bool>())),
                    ))
                    .execute(connection)
                    .await?;
            }
            Ok(Ok(()))
        })
    }

    /// Keeps what was made for a commit that has its row and of which nothing is applied yet.
    pub async fn keep_render(
        &self,
        lease: &Lease,
        commit: &CommitSha,
        made: Made<'_>,
    ) -> Result<Result<(), LeaseLost>, StoreError> {
        let (lease, commit) = (lease.clone(), commit.to_string());
        let (body, key) = (self.kept_form(made.render)?, made.key.to_owned());
        write!(self, |connection| {
            if !lease_held!(connection, lease) {
                return Ok(Err(LeaseLost));
            }
            keep_render!(connection, lease.environment_id, commit, body, key);
            Ok(Ok(()))
        })
    }

    /// Has what ran of a commit be what is kept of it again. Gives whether something else was made of it since, which then
    /// counts as applied no more.
    pub async fn keep_what_ran(
        &self,
        lease: &Lease,
        commit: &CommitSha,
    ) -> Result<Result<bool, LeaseLost>, StoreError> {
        let (lease, commit) = (lease.clone(), commit.to_string());
        write!(self, |connection| {
            if !lease_held!(connection, lease) {
                return Ok(Err(LeaseLost));
            }
            let of_commit = deployments::table
                .filter(deployments::environment_id.eq(&lease.environment_id))
                .filter(deployments::commit_sha.eq(&commit));
            let restored = diesel::update(renders::table)
                .filter(renders::deployment_id.eq_any(of_commit.select(deployments::id)))
                .filter(renders::ran_body.is_not_null())
                .set((
                    renders::body.eq(renders::ran_body.assume_not_null()),
                    renders::key.eq(renders::ran_key),
                    renders::ran_body.eq(None::<String>),
                    renders::ran_key.eq(None::<String>),
                ))
                .execute(connection)
                .await?;
            if restored > 0 {
                // The cluster has the other one.
                let half = StandingChanges { half_applied: Some(true), ..Default::default() };
                change_standing!(connection, lease.environment_id, half);
                diesel::update(of_commit)
                    .set(deployments::applied_digest.eq(None::<String>))
                    .execute(connection)
                    .await?;
            }
            Ok(Ok(restored > 0))
        })
    }

    /// Whether something else was applied of a commit since it ran: what ran is kept beside it.
    pub async fn is_remade(&self, environment_id: &str, commit: &CommitSha) -> Result<bool, StoreError> {
        let remade: Option<bool> = read!(self, |connection| {
            renders::table
                .inner_join(deployments::table)
                .filter(deployments::environment_id.eq(environment_id))
                .filter(deployments::commit_sha.eq(commit.as_str()))
                .select(renders::ran_body.is_not_null())
                .first(connection)
                .await
                .optional()
        })?;
        Ok(remade.unwrap_or(false))
    }

    /// As it stands in the database: sealed where there are secrets in it.
    fn kept_form(&self, render: &Render) -> Result<String, StoreError> {
        let json = render.to_json();
        if render.holds_secrets() { self.keys.seal(&json).map_err(unsealed) } else { Ok(json) }
    }

    /// What was made for a commit from what `key` stands for, if that was done before.
    pub async fn render_of(
        &self,
        environment_id: &str,
        commit: &CommitSha,
        key: &str,
    ) -> Result<Option<Render>, StoreError> {
        match self.kept(environment_id, commit).await? {
            Some(kept) if kept.key.as_deref() == Some(key) => self.opened_if_it_can_be(&kept.body),
            _ => Ok(None),
        }
    }

    /// What was applied for a commit. None where it never was, is no longer kept, or is sealed with a key that is not
    /// there any more.
    pub async fn render(&self, environment_id: &str, commit: &CommitSha) -> Result<Option<Render>, StoreError> {
        match self.kept(environment_id, commit).await? {
            Some(kept) => self.opened_if_it_can_be(&kept.body),
            None => Ok(None),
        }
    }

    /// What ran of a commit last, whatever was made of it since.
    pub async fn what_ran(&self, environment_id: &str, commit: &CommitSha) -> Result<Option<Render>, StoreError> {
        match self.kept(environment_id, commit).await? {
            Some(kept) => self.opened_if_it_can_be(kept.ran_body.as_ref().unwrap_or(&kept.body)),
            None => Ok(None),
        }
    }

    /// What is kept of a commit, and what ran of it before that, for whoever must know all that is in it: a key that is
    /// missing is [`StoreError::Sealed`].
    pub async fn unsealed_renders(&self, environment_id: &str, commit: &CommitSha) -> Result<Vec<Render>, StoreError> {
        let kept = self.kept(environment_id, commit).await?;
        let bodies = kept.into_iter().flat_map(|kept| [Some(kept.body), kept.ran_body]).flatten();
        bodies.map(|body| self.opened(&body)).collect()
    }

    async fn kept(&self, environment_id: &str, commit: &CommitSha) -> Result<Option<Kept>, StoreError> {
        read!(self, |connection| {
            renders::table
                .inner_join(deployments::table)
                .filter(deployments::environment_id.eq(environment_id))
                .filter(deployments::commit_sha.eq(commit.as_str()))
                .select(Kept::as_select())
                .first(connection)
                .await
                .optional()
        })
    }

    fn opened(&self, body: &str) -> Result<Render, StoreError> {
        let json = self.keys.open(body).ok_or(StoreError::Sealed)?;
        Render::from_json(&json).map_err(unreadable)
    }

    /// None where no key opens it: it is made again where that can be.
    fn opened_if_it_can_be(&self, body: &str) -> Result<Option<Render>, StoreError> {
        match self.opened(body) {
            Err(error @ StoreError::Sealed) => {
                tracing::warn!(%error, "what was applied for a commit cannot be read");
                Ok(None)
            }
            opened => opened.map(Some),
        }
    }

    /// Takes in claims that nothing applied any more has a part in: they are superfluous.
    pub async fn leave_claims(&self, lease: &Lease, names: &[String]) -> Result<Result<(), LeaseLost>, StoreError> {
        let lease = lease.clone();
        let names = names.to_vec();
        write!(self, |connection| {
            if !lease_held!(connection, lease) {
                return Ok(Err(LeaseLost));
            }
            for name in &names {
                let row = ObjectRow {
                    environment_id: lease.environment_id.clone(),
                    api_version: "v1".to_owned(),
                    kind: "PersistentVolumeClaim".to_owned(),
                    name: name.clone(),
                    digest: String::new(),
                    phase: SUPERFLUOUS,
                    done: false,
                    once: false,
                };
                diesel::insert_into(objects::table)
                    .values(&row)
                    .on_conflict((objects::environment_id, objects::api_version, objects::kind, objects::name))
                    .do_nothing()
                    .execute(connection)
                    .await?;
            }
            Ok(Ok(()))
        })
    }

    /// Writes down what became of superfluous objects.
    pub async fn settle_inventory(
        &self,
        lease: &Lease,
        settled: Settled<'_>,
    ) -> Result<Result<(), LeaseLost>, StoreError> {
        let lease = lease.clone();
        let (deleted, kept) = (settled.deleted.to_vec(), settled.kept.to_vec());
        let gone = [settled.deleted, settled.in_use].concat();
        write!(self, |connection| {
            if !lease_held!(connection, lease) {
                return Ok(Err(LeaseLost));
            }
            for key in &gone {
                diesel::delete(objects::table)
                    .filter(objects::environment_id.eq(&lease.environment_id))
                    .filter(objects::api_version.eq(&key.api_version))
                    .filter(objects::kind.eq(&key.kind))
                    .filter(objects::name.eq(&key.name))
                    .execute(connection)
                    .await?;
            }
            for key in &kept {
                diesel::update(objects::table)
                    .filter(objects::environment_id.eq(&lease.environment_id))
                    .filter(objects::api_version.eq(&key.api_version))
                    .filter(objects::kind.eq(&key.kind))
                    .filter(objects::name.eq(&key.name))
                    .set(objects::phase.eq(KEPT))
                    .execute(connection)
                    .await?;
            }
            if deleted.iter().any(ObjectKey::is_volume) {
                forget_done_jobs!(connection, lease.environment_id);
                diesel::delete(objects::table)
                    .filter(objects::environment_id.eq(&lease.environment_id))
                    .filter(objects::kind.eq("Job"))
                    .filter(objects::phase.eq(KEPT))
                    .execute(connection)
                    .await?;
            }
            Ok(Ok(()))
        })
    }
}

fn unsealed(_: NotSealed) -> StoreError {
    StoreError::Unreadable("there is no key to seal secrets with (sealing.keys)".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_the_same_in_every_version_of_its_kind() {
        let key = |api_version: &str, kind: &str| ObjectKey {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            name: "web".to_owned(),
        };
        let scaler = key("autoscaling/v1", "HorizontalPodAutoscaler");
        assert!(scaler.is_same_object(&key("autoscaling/v2", "HorizontalPodAutoscaler")));
        assert!(!scaler.is_same_object(&key("example.com/v2", "HorizontalPodAutoscaler")));
        assert!(!key("v1", "Service").is_same_object(&key("v1", "ConfigMap")));
        assert!(key("v1", "Service").is_same_object(&key("v1", "Service")));
    }
}
