//! What single values of `.preview.yaml` may be: each type takes only valid ones, and says the same in the JSON schema.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{BrokenRule, image::is_tag};

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

/// A type of text with one rule: its pattern, its greatest length and what is said of other text.
macro_rules! patterned_text {
    ($(#[$attribute:meta])* $name:ident, $is_valid:expr, $pattern:literal, $longest:literal, $rule:literal) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(String);

        checked_text!($name);

        impl FromStr for $name {
            type Err = BrokenRule;

            fn from_str(text: &str) -> Result<Self, BrokenRule> {
                let is_valid: fn(&str) -> bool = $is_valid;
                if text.len() <= $longest && is_valid(text) {
                    return Ok(Self(text.to_owned()));
                }
                Err(BrokenRule::new($rule))
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern, "maxLength": $longest })
            }
        }
    };
}

patterned_text!(
    /// The path of a health check: `/` and what follows, as it stands in a request line.
    HealthPath,
    |text| text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic()),
    "^/[!-~]*$",
    // As long a path as any server takes.
    1_024,
    "must be a path that begins with /, without spaces"
);

impl Default for HealthPath {
    fn default() -> Self {
        Self("/".to_owned())
    }
}

patterned_text!(
    /// The name of an environment variable that every shell takes.
    VariableName,
    |text| {
        let begins_well = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
        begins_well && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    },
    "^[A-Za-z_][A-Za-z0-9_]*$",
    128,
    "must be a name of letters, digits and _ that does not begin with a digit"
);

patterned_text!(
    /// The name under which others reach a service or a database, and the prefix of a database's variables.
    ServiceName,
    |text| {
        let goes_on_well = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        text.starts_with(|first: char| first.is_ascii_lowercase()) && goes_on_well && !text.ends_with('-')
    },
    "^[a-z]([a-z0-9-]*[a-z0-9])?$",
    40,
    "must be a name of lower-case letters, digits and dashes that begins with a letter, at most 40 long"
);

patterned_text!(
    /// An absolute path of a folder in a container.
    FolderPath,
    |text| {
        let segments = || text.split('/').skip(1);
        text.starts_with('/')
            && segments().all(|segment| !segment.is_empty() && segment != "." && segment != "..")
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'_' | b'-'))
    },
    "^(/(?!\\.{1,2}(/|$))[A-Za-z0-9._-]+)+$",
    200,
    "must be an absolute path of a folder, such as /var/data"
);

patterned_text!(
    /// A path of files of the repository; in the name of the file `*` stands for anything.
    FilePattern,
    |text| {
        let text = text.strip_prefix("./").unwrap_or(text);
        let is_segment = |segment: &str| !segment.is_empty() && segment != "." && segment != "..";
        let has_starred_folder = text.rsplit_once('/').is_some_and(|(folder, _)| folder.contains('*'));
        !has_starred_folder
            && text.split('/').all(is_segment)
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'_' | b'-' | b'*'))
    },
    "^(\\./)?((?!\\.{1,2}/)[A-Za-z0-9._-]+/)*(?!\\.{1,2}$)[A-Za-z0-9._*-]+$",
    200,
    "must be a path of files in the repository, such as k8s/*.yaml"
);

patterned_text!(
    /// A folder of the repository, or a chart of elsewhere.
    ChartName,
    |text| {
        // What begins with a dash is an option to helm.
        let is_segment = |segment: &str| {
            !matches!(segment, "" | "." | "..")
                && !segment.starts_with('-')
                && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b':'))
        };
        let rest = text.strip_prefix("./").or_else(|| text.strip_prefix("oci://"));
        match rest {
            Some(rest) => rest.split('/').all(is_segment),
            None => !text.contains(['/', ':']) && is_segment(text),
        }
    },
    "^((\\./|oci://)(?!-|\\.{1,2}(/|$))[A-Za-z0-9._:-]+(/(?!-|\\.{1,2}(/|$))[A-Za-z0-9._:-]+)*|(?!-|\\.{1,2}$)[A-Za-z0-9._-]+)$",
    300,
    "must be a folder of the repository such as ./chart, oci://registry/chart, or a chart's name with a repository"
);

patterned_text!(
    /// The address of a chart repository. Plain HTTP is for this machine only.
    ChartRepository,
    |text| {
        let is_segment = |segment: &str| {
            !matches!(segment, "" | "." | "..")
                && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'-'))
        };
        let is_host = |host: &str| {
            let (name, port) = host.split_once(':').map_or((host, None), |(name, port)| (name, Some(port)));
            is_segment(name) && port.is_none_or(|port| port.parse::<u16>().is_ok())
        };
        let Some((scheme, rest)) = text.split_once("://") else { return false };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
        let is_encrypted = scheme == "https" || (scheme == "http" && is_loopback(host));
        is_encrypted && is_host(host) && path.is_none_or(|path| path.split('/').all(is_segment))
    },
    "^(https://[A-Za-z0-9._~-]+|http://(127\\.0\\.0\\.1|localhost))(:[0-9]{1,5})?(/(?!\\.{1,2}(/|$))[A-Za-z0-9._~-]+)*/?$",
    300,
    "must be an address such as https://charts.example.com/stable"
);

patterned_text!(
    /// A version, or a range of versions, as helm reads them.
    ChartVersion,
    |text| {
        text.starts_with(|first: char| first.is_ascii_alphanumeric() || "^~<>=*".contains(first))
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" .,-+^~<>=*|".contains(&byte))
    },
    "^[A-Za-z0-9^~<>=*][A-Za-z0-9 .,+^~<>=*|-]*$",
    100,
    "must be a version such as 1.2.3, or a range such as ^1.2"
);

/// Whether a host, with or without its port, is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    matches!(host.split_once(':').map_or(host, |(name, _)| name), "127.0.0.1" | "localhost")
}

impl FilePattern {
    /// The path, from the root of the repository.
    pub fn path(&self) -> &str {
        self.0.strip_prefix("./").unwrap_or(&self.0)
    }

    /// Whether it may stand for several files.
    pub fn has_star(&self) -> bool {
        self.0.contains('*')
    }

    /// The folder of all the files that it stands for.
    pub fn folder(&self) -> &str {
        self.path().rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    pub fn matches(&self, path: &str) -> bool {
        let glob = globset::GlobBuilder::new(self.path()).literal_separator(true).build();
        glob.is_ok_and(|glob| glob.compile_matcher().is_match(path))
    }
}

/// An image's tag. Bare numbers are taken as they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageTag(String);

checked_text!(ImageTag);

impl FromStr for ImageTag {
    type Err = BrokenRule;

    fn from_str(text: &str) -> Result<Self, BrokenRule> {
        if is_tag(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(BrokenRule::new("must be an image's tag, such as 16"))
    }
}

impl JsonSchema for ImageTag {
    fn schema_name() -> Cow<'static, str> {
        "ImageTag".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number"], "pattern": "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$" })
    }
}
