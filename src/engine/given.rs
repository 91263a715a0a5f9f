//! What the operator gives to previews and nobody else may see.

use std::{collections::BTreeMap, sync::Arc};

use secrecy::SecretString;

use crate::{config::RepositoryPattern, environment::RepositoryName, recipe::Secrets};

/// Secrets for recipes, and credentials for images. Cheap to clone.
#[derive(Clone, Default)]
pub struct Given {
    pub secrets: Arc<BTreeMap<RepositoryPattern, Secrets>>,
    /// As `.dockerconfigjson`.
    pub registries: Option<SecretString>,
}

impl Given {
    /// What recipes of a repository may ask for. What is said of it by name goes before what is said of its owner.
    pub(super) fn of(&self, repository: &RepositoryName) -> Secrets {
        let mut given = Secrets::new();
        let mut patterns: Vec<_> = self.secrets.iter().filter(|(pattern, _)| pattern.covers(repository)).collect();
        patterns.sort_by_key(|(pattern, _)| !pattern.as_str().ends_with("/*"));
        for (_, secrets) in patterns {
            given.extend(secrets.clone());
        }
        given
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_repository_gets_its_own_and_its_owners() {
        let of = |value: &str| Secrets::from([("KEY".to_owned(), value.to_owned().into())]);
        let all: BTreeMap<RepositoryPattern, Secrets> =
            [("acme/shop", "shop"), ("acme/*", "acme"), ("globex/*", "globex")]
                .into_iter()
                .map(|(pattern, value)| (pattern.parse().expect("a pattern"), of(value)))
                .collect();
        let given = Given { secrets: Arc::new(all), registries: None };
        let key = |repository: &str| {
            let secrets = given.of(&repository.parse().expect("a repository"));
            secrets.get("KEY").map(|value| value.expose_secret().to_owned())
        };
        assert_eq!(key("acme/shop").as_deref(), Some("shop"));
        assert_eq!(key("Acme/Site").as_deref(), Some("acme"));
        assert_eq!(key("initech/tps"), None);
    }
}
