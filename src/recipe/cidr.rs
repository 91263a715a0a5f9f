//! Ranges of addresses, as network policies name them.

use std::{borrow::Cow, fmt, net::IpAddr, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::BrokenRule;

/// A range of IPv4 or IPv6 addresses, such as `10.0.0.0/8`. Its address has no bits beyond the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    pub fn is_ipv4(self) -> bool {
        self.address.is_ipv4()
    }

    /// Whether the address is one of it.
    pub fn contains(self, address: IpAddr) -> bool {
        let outside = |longest: u32, difference: u128| {
            difference.checked_shr(longest - u32::from(self.prefix)).unwrap_or_default()
        };
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => outside(32, u128::from(own.to_bits() ^ other.to_bits())) == 0,
            (IpAddr::V6(own), IpAddr::V6(other)) => outside(128, own.to_bits() ^ other.to_bits()) == 0,
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// Whether it is every address of its family.
    pub fn is_everything(self) -> bool {
        self.prefix == 0
    }
}

impl FromStr for Cidr {
    type Err = BrokenRule;

    fn from_str(text: &str) -> Result<Self, BrokenRule> {
        let malformed = || BrokenRule::new("must be a range of addresses such as 10.0.0.0/8 or fd00::/8");
        let (address, prefix) = text.split_once('/').ok_or_else(malformed)?;
        let address: IpAddr = address.parse().map_err(|_| malformed())?;
        let (longest, bits) = match address {
            IpAddr::V4(address) => (32, u128::from(address.to_bits())),
            IpAddr::V6(address) => (128, address.to_bits()),
        };
        // u8's own parser takes a sign, which Kubernetes refuses.
        if !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(malformed());
        }
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= longest).ok_or_else(malformed)?;
        let beyond_prefix = 1u128.checked_shl(u32::from(longest - prefix)).map_or(u128::MAX, |first| first - 1);
        if bits & beyond_prefix != 0 {
            return Err(BrokenRule::new("must have no bits of its address set beyond the prefix"));
        }
        Ok(Self { address, prefix })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Cidr {
    fn schema_name() -> Cow<'static, str> {
        "Cidr".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A range of IPv4 or IPv6 addresses.",
            "type": "string",
            "pattern": "^[0-9a-fA-F.:]+/[0-9]{1,3}$",
            "examples": ["10.0.0.0/8"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_shown() {
        for range in ["0.0.0.0/0", "10.0.0.0/8", "100.64.0.0/10", "192.0.2.7/32", "::/0", "fc00::/7", "2001:db8::1/128"]
        {
            assert_eq!(range.parse::<Cidr>().expect("a range").to_string(), range);
        }
    }

    #[test]
    fn ranges_hold_their_addresses() {
        for (range, address, holds) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("192.0.2.7/32", "192.0.2.7", true),
            ("192.0.2.7/32", "192.0.2.6", false),
            ("0.0.0.0/0", "203.0.113.1", true),
            ("::/0", "2001:db8::1", true),
            ("fc00::/7", "fd00::1", true),
            ("fc00::/7", "fe80::1", false),
            ("::/0", "203.0.113.1", false),
        ] {
            let range: Cidr = range.parse().unwrap();
            assert_eq!(range.contains(address.parse().unwrap()), holds, "{range} {address}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in
            ["", "10.0.0.0", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/", "fc00::/129", "fc00::1/7", "a/8"]
        {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}
