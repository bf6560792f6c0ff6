//! The kernel's enums by their names in JSON: `#[serde(with = "names")]`.

use limiter_common::{
    limit::{Kind, Unit},
    sanction::Sanction,
    verdict::{Layer, Permission, PortGroup, Reason, Verdict},
};
use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// An enum of the kernel's vocabulary, whose values have names.
pub trait Named: Copy + 'static {
    /// Every value.
    const VALUES: &'static [Self];
    /// The name in JSON and messages.
    fn name(self) -> &'static str;
}

macro_rules! named {
    ($($type:ty),+) => {$(
        impl Named for $type {
            const VALUES: &'static [Self] = Self::ALL;
            fn name(self) -> &'static str {
                self.as_str()
            }
        }
    )+};
}
named!(
    Kind, Unit, Layer, Permission, PortGroup, Reason, Sanction, Verdict
);

/// The value named `name`.
#[must_use]
pub fn find<T: Named>(name: &str) -> Option<T> {
    T::VALUES.iter().copied().find(|value| value.name() == name)
}

/// Writes the name.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<T: Named, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.name())
}

/// Reads the name.
///
/// # Errors
/// A name that no value has.
pub fn deserialize<'de, T: Named, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let name = String::deserialize(deserializer)?;
    find(&name).ok_or_else(|| D::Error::custom(format!("unknown value {name:?}")))
}

/// The same for values that may be absent: null.
pub mod option {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::{Named, find};

    /// Writes the name, or null.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<T: Named, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.serialize_str(value.name()),
            None => serializer.serialize_none(),
        }
    }

    /// Reads the name, or null.
    ///
    /// # Errors
    /// A name that no value has.
    pub fn deserialize<'de, T: Named, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<T>, D::Error> {
        Option::<String>::deserialize(deserializer)?
            .map(|name| find(&name).ok_or_else(|| D::Error::custom(format!("unknown {name:?}"))))
            .transpose()
    }
}

/// The same for lists.
pub mod list {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::{Named, find};

    /// Writes the names.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<T: Named, S: Serializer>(
        values: &[T],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(|value| value.name()))
    }

    /// Reads the names.
    ///
    /// # Errors
    /// A name that no value has.
    pub fn deserialize<'de, T: Named, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<T>, D::Error> {
        Vec::<String>::deserialize(deserializer)?
            .iter()
            .map(|name| find(name).ok_or_else(|| D::Error::custom(format!("unknown {name:?}"))))
            .collect()
    }
}
