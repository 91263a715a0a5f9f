//! What the configuration itself says.

use previewd::{
    config::{Config, DatabaseUrl, refuse_network_filesystem},
    identity::login_callback,
};
use secrecy::ExposeSecret;

use super::Check;

pub(super) fn database_file(config: &Config) -> Check {
    const NAME: &str = "database file";
    match &config.database {
        DatabaseUrl::Sqlite(path) => match refuse_network_filesystem(path) {
            Ok(()) => Check::ok(NAME, format!("{} is on a local disk", path.display())),
            Err(error) => Check::fail(NAME, error.to_string(), "set `database` to a local path or to postgres://…"),
        },
        DatabaseUrl::Postgres(_) => Check::ok(NAME, "none: PostgreSQL"),
    }
}

/// A secret shorter than this can be guessed from one signed delivery; `openssl rand -hex 20` gives 40.
const SHORT_SECRET: usize = 16;

pub(super) fn webhook_secrets(config: &Config) -> Check {
    const NAME: &str = "webhook secrets";
    const MEND: &str = "take a random one (openssl rand -hex 32) for github.webhook_secrets and for GitHub's webhook";
    match config.require_webhook_secrets() {
        Err(error) => Check::fail(NAME, error.to_string(), MEND),
        Ok(secrets) if secrets.iter().any(|secret| secret.expose_secret().len() < SHORT_SECRET) => {
            Check::warn(NAME, format!("one has fewer than {SHORT_SECRET} characters and can be guessed"), MEND)
        }
        Ok(secrets) => Check::ok(NAME, format!("{} set", secrets.len())),
    }
}

/// With SQLite there is a key file beside the database.
pub(super) fn sealing(config: &Config) -> Check {
    const NAME: &str = "sealing keys";
    match (&config.database, config.sealing.keys.len()) {
        (DatabaseUrl::Sqlite(_), 0) => Check::ok(NAME, "a file beside the database, made where it is missing"),
        (DatabaseUrl::Postgres(_), 0) => Check::warn(
            NAME,
            "there are none, so recipes with secrets, databases or charts fail",
            "set sealing.keys to a random text (openssl rand -hex 32), the same for every process",
        ),
        (DatabaseUrl::Sqlite(_) | DatabaseUrl::Postgres(_), keys) => Check::ok(NAME, format!("{keys} set")),
    }
}

/// Without a team only operators see anything.
pub(super) fn teams(config: &Config) -> Check {
    const NAME: &str = "teams";
    let empty: Vec<&str> = config
        .teams
        .iter()
        .filter(|(_, team)| team.repositories.is_empty() && !team.operate)
        .map(|(name, _)| name.as_str())
        .collect();
    if config.teams.is_empty() {
        return Check::warn(
            NAME,
            "there are none, so only operators see environments",
            "add [teams.NAME] with repositories",
        );
    }
    if !empty.is_empty() {
        let problem = format!("without repositories, whose members see nothing: {}", empty.join(", "));
        return Check::warn(NAME, problem, "give them repositories");
    }
    Check::ok(NAME, config.teams.keys().cloned().collect::<Vec<_>>().join(", "))
}

pub(super) fn github_login(config: &Config) -> Check {
    const NAME: &str = "GitHub login";
    match (&config.github.login, &config.public_url) {
        (None, _) => Check::ok(NAME, "none: people sign in to the dashboard with tokens"),
        (Some(_), None) => Check::fail(NAME, "it needs public_url, to which GitHub leads back", "set public_url"),
        (Some(_), Some(_)) if config.teams.values().all(|team| team.members.is_empty() && team.admins.is_empty()) => {
            Check::warn(NAME, "no team has members, so everybody is turned away", "add members to teams")
        }
        (Some(_), Some(url)) => Check::ok(NAME, format!("its callback is {}", login_callback(url))),
    }
}

/// Applications of strangers run under the base domain, and could set cookies for a server in it.
pub(super) fn public_url(config: &Config) -> Check {
    const NAME: &str = "public URL";
    let domain = config.base_domain.as_str();
    let (domain, _) = domain.split_once(':').unwrap_or((domain, ""));
    match config.public_url.as_ref().and_then(|url| url.host_str()) {
        None => Check::ok(NAME, format!("none: http://{}", config.listen)),
        Some(host) if config.router.enabled && host.ends_with(&format!(".{domain}")) => Check::fail(
            NAME,
            format!("{host} is inside {domain}, where the router answers for previews"),
            "give previewd a host outside of base_domain",
        ),
        Some(host) if domain != "localhost" && (host == domain || host.ends_with(&format!(".{domain}"))) => {
            Check::warn(
                NAME,
                format!("{host} is inside {domain}, where previews could set cookies for it"),
                "give previewd a host outside of base_domain",
            )
        }
        Some(host) => Check::ok(NAME, host),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{config, result},
        *,
    };

    #[test]
    fn webhook_secrets_are_there_and_long() {
        let secrets = |list: &str| result(&webhook_secrets(&config(&format!("github.webhook_secrets = {list}"))));
        assert_eq!(secrets("[]"), "fail");
        assert_eq!(secrets("['hunter2']"), "warn");
        assert_eq!(secrets("['0123456789abcdef0123']"), "ok");
    }

    #[test]
    fn the_server_is_outside_of_the_previews() {
        let public = |url: &str| {
            let text = format!("base_domain = 'preview.example.com'\npublic_url = '{url}'");
            result(&public_url(&config(&text)))
        };
        assert_eq!(public("https://previewd.example.com"), "ok");
        assert_eq!(public("https://previewd.preview.example.com"), "warn");
        let routed = "base_domain = 'localhost'\npublic_url = 'http://previewd.localhost'\nrouter.enabled = true";
        assert_eq!(result(&public_url(&config(routed))), "fail");
    }

    #[test]
    fn what_people_need_is_looked_at() {
        let of = |toml: &str| config(toml);
        assert_eq!(result(&sealing(&of(""))), "ok");
        assert_eq!(result(&sealing(&of("database = 'postgres://p@db/p'"))), "warn");
        assert_eq!(result(&teams(&of(""))), "warn");
        assert_eq!(result(&teams(&of("[teams.shop]\nmembers = ['ann']"))), "warn");
        assert_eq!(result(&teams(&of("[teams.shop]\nrepositories = ['acme/*']"))), "ok");
        let login = "[github.login]\nclient_id = 'a'\nclient_secret = 'b'\n";
        let public = "public_url = 'https://p.example.com'\n";
        assert_eq!(result(&github_login(&of(login))), "fail");
        assert_eq!(result(&github_login(&of(&format!("{public}{login}")))), "warn");
        let members = "[teams.shop]\nadmins = ['ann']\n";
        assert_eq!(result(&github_login(&of(&format!("{public}{login}{members}")))), "ok");
    }
}
