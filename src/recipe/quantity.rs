//! Amounts of CPU, memory and storage in Kubernetes' notation.
//!
//! Source of the notation: `k8s.io/apimachinery/pkg/api/resource`, where a quantity is a decimal number with one of the
//! suffixes n, u, m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei or a decimal exponent, and rounds up to its unit. Signs
//! are left out here: nothing of a preview is negative.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::BrokenRule;

/// CPU in thousandths of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millicores(pub u64);

/// Memory or storage in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

const MILLICORES_RULE: &str = "must be an amount of CPU such as 500m, 0.5 or 1";
const BYTES_RULE: &str = "must be an amount of bytes such as 512Mi, 1Gi or 1G";

impl Millicores {
    /// This amount `count` times.
    pub fn times(self, count: u32) -> Self {
        Self(self.0.saturating_mul(count.into()))
    }
}

impl Bytes {
    pub const fn mebibytes(count: u64) -> Self {
        Self(count << 20)
    }

    /// This amount `count` times.
    pub fn times(self, count: u32) -> Self {
        Self(self.0.saturating_mul(count.into()))
    }
}

impl FromStr for Millicores {
    type Err = BrokenRule;

    fn from_str(text: &str) -> Result<Self, BrokenRule> {
        parse_quantity(text, 1_000).map(Self).ok_or_else(|| BrokenRule::new(MILLICORES_RULE))
    }
}

impl FromStr for Bytes {
    type Err = BrokenRule;

    fn from_str(text: &str) -> Result<Self, BrokenRule> {
        parse_quantity(text, 1).map(Self).ok_or_else(|| BrokenRule::new(BYTES_RULE))
    }
}

/// CPU in billionths of a core, as the metrics API measures it. None where it is no amount.
pub fn nanocores(text: &str) -> Option<u64> {
    parse_quantity(text, 1_000_000_000)
}

/// `text` in units of which `units` make one, rounded up. None where it is no quantity, or more than `i64::MAX` units,
/// which is what Kubernetes can hold.
fn parse_quantity(text: &str, units: u128) -> Option<u64> {
    let number_end = text.find(|character: char| !character.is_ascii_digit() && character != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(number_end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    let mantissa: u128 = digits.parse().ok()?;
    let fraction_digits = i32::try_from(fraction.len()).ok()?;

    let (multiplier, exponent) = match suffix {
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "" => (1, 0),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        exponent => {
            (1, exponent.strip_prefix(['e', 'E'])?.parse().ok().filter(|exponent| (-18..=18).contains(exponent))?)
        }
    };
    let scaled: u128 = mantissa.checked_mul(multiplier)?.checked_mul(units)?;
    let exponent: i32 = exponent - fraction_digits;
    let power = 10u128.checked_pow(exponent.unsigned_abs())?;
    let amount = if exponent < 0 { scaled.div_ceil(power) } else { scaled.checked_mul(power)? };
    i64::try_from(amount).ok()?.try_into().ok()
}

/// Whole cores without a suffix, everything else in thousandths, as `kubectl` shows it.
impl fmt::Display for Millicores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % 1_000 {
            0 => write!(f, "{}", self.0 / 1_000),
            _ => write!(f, "{}m", self.0),
        }
    }
}

/// With the suffix that makes it shortest, the binary one where two are equally short.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffixes = |base: u64, names: [&'static str; 6]| {
            (1..).zip(names).map(move |(power, name)| (base.pow(power), name)).collect::<Vec<_>>()
        };
        let known =
            [suffixes(1 << 10, ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]), suffixes(1_000, ["k", "M", "G", "T", "P", "E"])];
        let shortest = known
            .concat()
            .into_iter()
            .filter(|(multiple, _)| self.0 > 0 && self.0.is_multiple_of(*multiple))
            .min_by_key(|(multiple, _)| (self.0 / multiple).to_string().len());
        match shortest {
            Some((multiple, suffix)) => write!(f, "{}{suffix}", self.0 / multiple),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Implements serde and JSON Schema for a quantity: read from text or a bare number, written as text.
macro_rules! quantity_as_text {
    ($name:ident, $rule:ident, $example:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;

                impl de::Visitor<'_> for Visitor {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($rule.trim_start_matches("must be "))
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        text.parse().map_err(E::custom)
                    }

                    fn visit_u64<E: de::Error>(self, number: u64) -> Result<$name, E> {
                        self.visit_str(&number.to_string())
                    }

                    fn visit_i64<E: de::Error>(self, number: i64) -> Result<$name, E> {
                        self.visit_str(&number.to_string())
                    }

                    fn visit_f64<E: de::Error>(self, number: f64) -> Result<$name, E> {
                        self.visit_str(&number.to_string())
                    }
                }

                deserializer.deserialize_any(Visitor)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "description": "An amount in Kubernetes' notation.",
                    "type": ["string", "number"],
                    "pattern": r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?[0-9]+)?$",
                    "minimum": 0,
                    "examples": [$example],
                })
            }
        }
    };
}

quantity_as_text!(Millicores, MILLICORES_RULE, "500m");
quantity_as_text!(Bytes, BYTES_RULE, "512Mi");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cpu_is_read_and_shown_as_kubernetes_does() {
        for (text, millicores, shown) in [
            ("500m", 500, "500m"),
            ("0.5", 500, "500m"),
            (".5", 500, "500m"),
            ("1", 1_000, "1"),
            ("1.", 1_000, "1"),
            ("1500m", 1_500, "1500m"),
            ("1e3", 1_000_000, "1000"),
            ("2E-1", 200, "200m"),
            ("1u", 1, "1m"),
            ("0", 0, "0"),
            ("1k", 1_000_000, "1000"),
        ] {
            assert_eq!(text.parse(), Ok(Millicores(millicores)), "{text}");
            assert_eq!(Millicores(millicores).to_string(), shown);
        }
    }

    #[test]
    fn bytes_are_read_and_shown_as_kubernetes_does() {
        for (text, bytes, shown) in [
            ("512Mi", 512 << 20, "512Mi"),
            ("1024Mi", 1 << 30, "1Gi"),
            ("1.5Gi", 3 << 29, "1536Mi"),
            ("1G", 1_000_000_000, "1G"),
            ("1e3", 1_000, "1k"),
            ("128m", 1, "1"),
            ("1000000", 1_000_000, "1M"),
            ("7Ei", 7 << 60, "7Ei"),
            ("0", 0, "0"),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
            assert_eq!(Bytes(bytes).to_string(), shown);
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            ".",
            "m",
            "-1",
            "+1",
            "1 Mi",
            "1MiB",
            "1mb",
            "1.2.3",
            "1e",
            "1e99",
            "8Ei",
            "1e18E",
            "9223372036854775808",
            "٣",
        ] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
            assert!(text.parse::<Millicores>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_as_the_same_amount(amount in 0..i64::MAX as u64) {
            prop_assert_eq!(Bytes(amount).to_string().parse(), Ok(Bytes(amount)));
            let cpu = Millicores(amount);
            prop_assert_eq!(cpu.to_string().parse(), Ok(cpu));
        }

        #[test]
        fn quantities_never_panic(text in "\\PC{0,30}") {
            let _ = text.parse::<Bytes>();
            let _ = text.parse::<Millicores>();
        }
    }
}
