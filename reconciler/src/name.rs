//! Names that a person gave: of nodes, pools, clusters, interfaces and checks.
//!
//! In: text. Out: types that hold only what the rules allow, cheap to clone and ordered by bytes.
//! Not here: where a name stood in a file (`manifest`).

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not a name; the wording is for the person who wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// Nothing was written.
    Empty,
    /// Longer than the 253 characters of an RFC 1123 subdomain.
    Long,
    /// Not lower-case letters, digits, `-` and `.`, or a label begins or ends with another sign.
    NotSubdomain,
    /// Not a name that the kernel gives to an interface (`dev_valid_name`, net/core/dev.c).
    NotInterface,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a name is missing",
            Self::Long => "a name has at most 253 characters",
            Self::NotSubdomain => {
                "a name is made of labels of a-z, 0-9 and `-`, joined by `.`; each label starts \
                 and ends with a letter or digit and has at most 63 (RFC 1123)"
            }
            Self::NotInterface => {
                "an interface name has 1 to 15 bytes, no `/`, `:`, `%` or white space, and is not `.`, `..`, `all` or \
                 `default`"
            }
        })
    }
}

impl std::error::Error for NameError {}

fn subdomain(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > 253 {
        return Err(NameError::Long);
    }
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.split('.').all(label) { Ok(()) } else { Err(NameError::NotSubdomain) }
}

fn interface(text: &str) -> Result<(), NameError> {
    // `all` and `default` are folders of its settings, and `%` makes a name a template.
    let fits = (1..=15).contains(&text.len()) && ![".", "..", "all", "default"].contains(&text);
    let refused = |b: u8| b"/:%\0\xa0\x0b".contains(&b) || b.is_ascii_whitespace();
    if fits && !text.bytes().any(refused) { Ok(()) } else { Err(NameError::NotInterface) }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident by $rule:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The checked name.
            pub fn new(text: &str) -> Result<Self, NameError> {
                $rule(text)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    )*};
}

names! {
    /// The name of a cluster: an RFC 1123 subdomain.
    ClusterName by subdomain;
    /// The name of a node: an RFC 1123 subdomain, by default the host's name in lower case.
    NodeName by subdomain;
    /// The name of a pool: an RFC 1123 subdomain.
    PoolName by subdomain;
    /// The name of a check that a node's own file defines: an RFC 1123 subdomain.
    CheckName by subdomain;
    /// The name of a network interface, as the kernel takes it.
    InterfaceName by interface;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_rfc_1123_subdomains() {
        for good in ["a", "edge-a", "edge-a.rack1.example", "0", &"a".repeat(63)] {
            assert!(NodeName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "a_b", "-a", "a-", "a..b", ".a", "é", &"a".repeat(64), &"a.".repeat(130)] {
            assert!(NodeName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn interface_names_are_what_the_kernel_takes() {
        for good in ["eth0", "br-lan.10", "é"] {
            assert!(InterfaceName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "all", "default", "a%d", "a/b", "a:b", "a b", "sixteen-letters-"] {
            assert!(InterfaceName::new(bad).is_err(), "{bad}");
        }
    }
}
