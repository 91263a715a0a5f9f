//! Apps, their installations, and deployments.

use serde_json::{Value, json};

use super::{GHOST, Shapes, node_id};
use crate::github::state::{Deployment, DeploymentStatus, Installation, Repository, UserKind, iso};

impl Shapes<'_> {
    pub(super) fn via_app(&self, via_app: bool) -> Value {
        if via_app { self.app() } else { Value::Null }
    }

    pub fn app(&self) -> Value {
        let Some(app) = &self.state.app else {
            return Value::Null;
        };
        json!({
            "id": app.id,
            "slug": app.slug,
            "client_id": app.client_id,
            "node_id": node_id("Integration", app.id),
            "owner": self.user(&app.owner),
            "name": app.slug,
            "description": "",
            "external_url": format!("{}/apps/{}", self.html, app.slug),
            "html_url": format!("{}/apps/{}", self.html, app.slug),
            "created_at": iso(app.created_at),
            "updated_at": iso(app.created_at),
            "permissions": app.permissions,
            "events": app.events,
        })
    }

    pub fn installation(&self, installation: &Installation) -> Value {
        let Some(app) = &self.state.app else {
            return Value::Null;
        };
        let account = self.state.user(&installation.account);
        json!({
            "id": installation.id,
            "client_id": app.client_id,
            "account": self.user(&installation.account),
            "repository_selection": "selected",
            "access_tokens_url": format!("{}/app/installations/{}/access_tokens", self.api, installation.id),
            "repositories_url": format!("{}/installation/repositories", self.api),
            "html_url": format!("{}/settings/installations/{}", self.html, installation.id),
            "app_id": app.id,
            "app_slug": app.slug,
            "target_id": account.map_or(GHOST.0, |user| user.id),
            "target_type": match account.map(|user| user.kind) {
                Some(UserKind::Organization) => "Organization",
                Some(UserKind::User | UserKind::Bot) | None => "User",
            },
            "permissions": app.permissions,
            "events": app.events,
            "created_at": iso(installation.created_at),
            "updated_at": iso(installation.suspended_at.unwrap_or(installation.created_at)),
            "single_file_name": null,
            "has_multiple_single_files": false,
            "single_file_paths": [],
            "suspended_at": installation.suspended_at.map(iso),
            "suspended_by": installation.suspended_at.map(|_| self.user(&installation.account)),
        })
    }

    pub fn deployment(&self, repository: &Repository, deployment: &Deployment) -> Value {
        let root = self.repository_url(repository);
        let url = format!("{root}/deployments/{}", deployment.id);
        json!({
            "url": url,
            "id": deployment.id,
            "node_id": node_id("Deployment", deployment.id),
            "sha": deployment.sha,
            "ref": deployment.reference,
            "task": deployment.task,
            "payload": deployment.payload,
            "original_environment": deployment.environment,
            "environment": deployment.environment,
            "description": deployment.description,
            "creator": self.user(&deployment.creator),
            "created_at": iso(deployment.created_at),
            "updated_at": iso(deployment.updated_at),
            "statuses_url": format!("{url}/statuses"),
            "repository_url": root,
            "transient_environment": deployment.transient,
            "production_environment": deployment.production,
            "performed_via_github_app": self.via_app(deployment.via_app),
        })
    }

    pub fn deployment_status(
        &self,
        repository: &Repository,
        deployment: &Deployment,
        status: &DeploymentStatus,
    ) -> Value {
        let root = self.repository_url(repository);
        let url = format!("{root}/deployments/{}", deployment.id);
        json!({
            "url": format!("{url}/statuses/{}", status.id),
            "id": status.id,
            "node_id": node_id("DeploymentStatus", status.id),
            "state": status.state,
            "creator": self.user(&status.creator),
            "description": status.description,
            "environment": status.environment,
            "target_url": status.log_url,
            "created_at": iso(status.created_at),
            "updated_at": iso(status.created_at),
            "deployment_url": url,
            "repository_url": root,
            "environment_url": status.environment_url,
            "log_url": status.log_url,
            "performed_via_github_app": self.via_app(deployment.via_app),
        })
    }
}
