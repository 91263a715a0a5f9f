//! What `.preview.yaml` may say. Every value is of a type that only takes valid ones, so that a rule is written once, and
//! the JSON schema comes from the same types.

use std::{borrow::Cow, collections::BTreeMap, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{BrokenRule, Bytes, Millicores, Template, outline::Source};
use crate::environment::{Lifespan, ReportTo, TriggerSettings};

/// What to run for every pull request of a repository: the file `.preview.yaml` at its root.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = ".preview.yaml")]
pub struct Recipe {
    /// The version of this format. There is only 1.
    pub version: Bounded<1, 1>,
    /// Which pull requests get a preview. What is left out is the operator's to say.
    #[serde(default, skip_serializing_if = "is_default")]
    pub triggers: TriggerSettings,
    /// How long after its last commit or use an environment goes, such as `72h`, or `never`. The operator may set a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Lifespan>,
    /// How long after its last use an environment sleeps, such as `8h`, or `never`. A retry wakes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sleep_after: Option<Lifespan>,
    /// How the pull request is told of its preview.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<ReportTo>,
    /// One container behind one URL.
    pub app: App,
    /// Where the values stand in the file, for what only shows when they are rendered.
    #[serde(skip)]
    pub(super) source: Source,
}

fn is_default(settings: &TriggerSettings) -> bool {
    *settings == TriggerSettings::default()
}

/// One container behind one URL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// The image to run, such as `ghcr.io/acme/shop:{{ sha }}`.
    pub image: Template,
    /// The port on which the application answers HTTP.
    pub port: Bounded<1, 65_535>,
    /// The path that answers 200 to 399 once the application is ready.
    #[serde(default)]
    pub health: HealthPath,
    /// Environment variables. Their values are passed on as they are: Kubernetes' `$(NAME)` is not expanded.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<VariableName, Template>,
    /// Replaces the image's entry point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<Template>>,
    /// Replaces the image's arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<Template>>,
    /// How many pods run it.
    #[serde(default)]
    pub replicas: Bounded<1, 10>,
    /// What each pod may use. What is left out is a share of the environment's quota.
    #[serde(default)]
    pub resources: Resources,
    /// The numeric user that runs it, where the image does not name one other than root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as: Option<Bounded<1, 2_147_483_647>>,
}

/// What one pod may use, as its requests and its limits at once.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// CPU, such as 250m or 0.5.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "deserialize_usable_cpu")]
    pub cpu: Option<Millicores>,
    /// Memory, such as 256Mi.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "deserialize_usable_memory")]
    pub memory: Option<Bytes>,
}

/// No process starts in less, and `128m`, a tenth of a byte, is a common slip for `128Mi`.
const LEAST_MEMORY: Bytes = Bytes::mebibytes(4);

fn deserialize_usable_cpu<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Millicores>, D::Error> {
    match Millicores::deserialize(deserializer)? {
        Millicores(0) => Err(de::Error::custom("must be more than 0")),
        cpu => Ok(Some(cpu)),
    }
}

fn deserialize_usable_memory<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
    let memory = Bytes::deserialize(deserializer)?;
    if memory < LEAST_MEMORY {
        return Err(de::Error::custom(format_args!("must be at least {LEAST_MEMORY}")));
    }
    Ok(Some(memory))
}

/// A whole number from `LEAST` to `MOST`. Its default is `LEAST`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounded<const LEAST: u32, const MOST: u32>(u32);

impl<const LEAST: u32, const MOST: u32> Bounded<LEAST, MOST> {
    pub fn get(self) -> u32 {
        self.0
    }
}

impl<const LEAST: u32, const MOST: u32> Default for Bounded<LEAST, MOST> {
    fn default() -> Self {
        Self(LEAST)
    }
}

impl<const LEAST: u32, const MOST: u32> Serialize for Bounded<LEAST, MOST> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

impl<'de, const LEAST: u32, const MOST: u32> Deserialize<'de> for Bounded<LEAST, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<const LEAST: u32, const MOST: u32>;

        impl<const LEAST: u32, const MOST: u32> de::Visitor<'_> for Visitor<LEAST, MOST> {
            type Value = Bounded<LEAST, MOST>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                if LEAST == MOST { write!(f, "{LEAST}") } else { write!(f, "a number from {LEAST} to {MOST}") }
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
                match u32::try_from(number) {
                    Ok(number) if (LEAST..=MOST).contains(&number) => Ok(Bounded(number)),
                    Ok(_) | Err(_) => Err(E::invalid_value(de::Unexpected::Unsigned(number), &self)),
                }
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                match u64::try_from(number) {
                    Ok(number) => self.visit_u64(number),
                    Err(_) => Err(E::invalid_value(de::Unexpected::Signed(number), &self)),
                }
            }
        }

        // Not as an u32: the rule is to be ours for text and for fractions too.
        deserializer.deserialize_any(Visitor)
    }
}

impl<const LEAST: u32, const MOST: u32> JsonSchema for Bounded<LEAST, MOST> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("NumberFrom{LEAST}To{MOST}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": LEAST, "maximum": MOST })
    }
}

/// Implements serde for text with a rule of its own.
macro_rules! checked_text {
    ($name:ident) => {
        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

/// The path of a health check: `/` and what follows, as it stands in a request line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthPath(String);

checked_text!(HealthPath);

/// As long a path as any server takes.
const LONGEST_PATH: usize = 1_024;

impl Default for HealthPath {
    fn default() -> Self {
        Self("/".to_owned())
    }
}

impl FromStr for HealthPath {
    type Err = BrokenRule;

    fn from_str(text: &str) -> Result<Self, BrokenRule> {
        if text.starts_with('/') && text.len() <= LONGEST_PATH && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(Self(text.to_owned()));
        }
        Err(BrokenRule::new("must be a path that begins with /, without spaces"))
    }
}

impl JsonSchema for HealthPath {
    fn schema_name() -> Cow<'static, str> {
        "HealthPath".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^/[!-~]*$", "maxLength": LONGEST_PATH })
    }
}

/// The name of an environment variable that every shell takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct VariableName(String);

checked_text!(VariableName);

const LONGEST_VARIABLE_NAME: usize = 128;

impl FromStr for VariableName {
    type Err = BrokenRule;

    fn from_str(text: &str) -> Result<Self, BrokenRule> {
        let begins_well = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
        let goes_on_well = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if begins_well && goes_on_well && text.len() <= LONGEST_VARIABLE_NAME {
            return Ok(Self(text.to_owned()));
        }
        Err(BrokenRule::new("must be a name of letters, digits and _ that does not begin with a digit"))
    }
}

impl JsonSchema for VariableName {
    fn schema_name() -> Cow<'static, str> {
        "VariableName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "maxLength": LONGEST_VARIABLE_NAME })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Editors check a recipe by the schema before previewd sees it: the two must not disagree.
    #[test]
    fn the_schema_takes_what_the_parser_takes() {
        let schema = schemars::schema_for!(Recipe).to_value();
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        let example: Value = serde_saphyr::from_str(include_str!("../../examples/app.preview.yaml")).expect("YAML");
        assert!(validator.is_valid(&example));

        for (field, values) in [
            ("image", vec![json!("shop"), json!([]), json!(null), json!("a".repeat(5_000))]),
            ("port", vec![json!(1), json!(65_535), json!(0), json!(65_536), json!("80"), json!(1.5), json!(null)]),
            ("health", vec![json!("/a"), json!("a"), json!("/a b"), json!(1)]),
            (
                "env",
                vec![json!({ "A_1": "x" }), json!({ "1A": "x" }), json!({ "A-B": "x" }), json!({ "A": [] }), json!([])],
            ),
            ("command", vec![json!(["a"]), json!("a")]),
            ("args", vec![json!([]), json!([[]])]),
            ("replicas", vec![json!(10), json!(0), json!(11)]),
            (
                "resources",
                vec![json!({}), json!({ "cpu": 1, "memory": "1Gi" }), json!({ "cpu": "1 core" }), json!({ "disk": 1 })],
            ),
            ("run_as", vec![json!(1_000), json!(0)]),
            ("volumes", vec![json!([])]),
        ] {
            for value in values {
                let mut recipe = json!({ "version": 1, "app": { "image": "shop", "port": 80 } });
                recipe["app"][field] = value;
                let is_taken = Recipe::parse(".preview.yaml", &recipe.to_string()).is_ok();
                assert_eq!(validator.is_valid(&recipe), is_taken, "{recipe}");
            }
        }
    }
}
