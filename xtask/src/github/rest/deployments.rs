//! The Deployments API.

use serde_json::{Value, json};

use super::answer::Answer;
use super::call::Call;
use crate::github::state::{Deployment, DeploymentStatus, Repository, State};

/// GitHub's bound on a status description, in characters.
const LONGEST_DESCRIPTION: usize = 140;

pub fn list(state: &State, call: &Call) -> Result<Answer, Answer> {
    let repository = call.repository(state)?;
    let matches = |name: &str, value: &str| call.query(name).is_none_or(|wanted| wanted == value);
    let found = repository.deployments.values().rev().filter(|deployment| {
        matches("sha", &deployment.sha)
            && matches("ref", &deployment.reference)
            && matches("task", &deployment.task)
            && matches("environment", &deployment.environment)
    });
    let found: Vec<_> = found.collect();
    let shapes = call.shapes(state);
    Ok(call.page(Some(repository), &found, |deployment| shapes.deployment(repository, deployment)))
}

pub fn create(state: &mut State, call: &Call) -> Result<Answer, Answer> {
    let repository = call.repository(state)?;
    let (key, reference) = (repository.id, call.text("ref").unwrap_or_default().to_owned());
    let sha = state.resolve(repository, &reference).map(|commit| commit.sha.clone());
    let sha = sha.ok_or_else(|| Answer::error(422, format!("No ref found for: {reference}")))?;
    let creator = call.caller.login(state);
    let environment = call.text("environment").unwrap_or("production").to_owned();
    let (id, now) = (state.next_id(), state.now());
    let deployment = Deployment {
        id,
        sha,
        reference,
        task: call.text("task").unwrap_or("deploy").to_owned(),
        payload: call.body.get("payload").cloned().unwrap_or_else(|| json!({})),
        production: call.flag("production_environment", environment == "production"),
        environment,
        description: call.text("description").map(str::to_owned),
        creator,
        created_at: now,
        updated_at: now,
        transient: call.flag("transient_environment", false),
        via_app: call.caller.is_app(),
        statuses: Vec::new(),
    };
    if let Some(repository) = state.repositories.get_mut(&key) {
        repository.deployments.insert(id, deployment.clone());
    }
    let repository = call.repository(state)?;
    Ok(Answer::json(201, call.shapes(state).deployment(repository, &deployment)).wrote(id))
}

pub fn list_statuses(state: &State, call: &Call) -> Result<Answer, Answer> {
    let repository = call.repository(state)?;
    let deployment = find(repository, call)?;
    let statuses: Vec<_> = deployment.statuses.iter().rev().collect();
    let shapes = call.shapes(state);
    Ok(call.page(Some(repository), &statuses, |status| shapes.deployment_status(repository, deployment, status)))
}

pub fn create_status(state: &mut State, call: &Call) -> Result<Answer, Answer> {
    let repository = call.repository(state)?;
    let (key, deployment) = (repository.id, find(repository, call)?);
    let (deployment_id, environment) = (deployment.id, deployment.environment.clone());
    let description = call.text("description").unwrap_or_default().to_owned();
    if description.chars().count() > LONGEST_DESCRIPTION {
        let message = "description is too long (maximum is 140 characters)";
        return Err(Answer::invalid("DeploymentStatus", "description", "custom", message));
    }
    for name in ["environment_url", "log_url", "target_url"] {
        let given = call.text(name).unwrap_or_default();
        if !given.is_empty() && !given.starts_with("http://") && !given.starts_with("https://") {
            let message = format!("{name} must use http(s) scheme");
            return Err(Answer::invalid("DeploymentStatus", name, "custom", &message));
        }
    }
    let creator = call.caller.login(state);
    let (id, now) = (state.next_id(), state.now());
    let status = DeploymentStatus {
        id,
        state: call.text("state").unwrap_or_default().to_owned(),
        description,
        environment: call.text("environment").unwrap_or(&environment).to_owned(),
        environment_url: call.text("environment_url").unwrap_or_default().to_owned(),
        log_url: call.text("log_url").or_else(|| call.text("target_url")).unwrap_or_default().to_owned(),
        creator,
        created_at: now,
    };
    let ends_others = status.state == "success" && call.flag("auto_inactive", true);
    let others: Vec<u64> = deployments_where(state, key, |other| {
        let succeeded = other.statuses.last().is_some_and(|last| last.state == "success");
        // Transient and production deployments stay as they are: whoever made them ends them.
        ends_others
            && other.id != deployment_id
            && other.environment == status.environment
            && succeeded
            && !other.transient
            && !other.production
    });
    for other in others {
        let inactive = DeploymentStatus { id: state.next_id(), state: "inactive".to_owned(), ..status.clone() };
        push(state, key, other, inactive);
    }
    push(state, key, deployment_id, status.clone());
    let repository = call.repository(state)?;
    let deployment = find(repository, call)?;
    let shape = call.shapes(state).deployment_status(repository, deployment, &status);
    let location = shape.get("url").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(Answer::json(201, shape).header("location", location).wrote(id))
}

fn find<'a>(repository: &'a Repository, call: &Call) -> Result<&'a Deployment, Answer> {
    let id = call.params.number("deployment_id");
    id.and_then(|id| repository.deployments.get(&id)).ok_or_else(Answer::not_found)
}

fn deployments_where(state: &State, key: u64, wanted: impl Fn(&Deployment) -> bool) -> Vec<u64> {
    let deployments = state.repositories.get(&key).map(|repository| repository.deployments.values());
    deployments.into_iter().flatten().filter(|deployment| wanted(deployment)).map(|deployment| deployment.id).collect()
}

fn push(state: &mut State, key: u64, deployment: u64, status: DeploymentStatus) {
    let found = state.repositories.get_mut(&key).and_then(|found| found.deployments.get_mut(&deployment));
    if let Some(found) = found {
        found.updated_at = status.created_at;
        found.statuses.push(status);
    }
}
