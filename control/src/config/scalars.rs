//! Values that an operator writes as one word: durations, rates, ranges, sizes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;
use tidegate_dataplane::types::PortRange;

/// A duration as operators write it: `50us`, `30s`, `2m`, `24h`.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Deserialize, Serialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct HumanDuration(pub Duration);

impl TryFrom<String> for HumanDuration {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let parsed = humantime::parse_duration(&text);
        parsed.map(Self).map_err(|e| format!("`{text}` is not a duration such as 30s or 2m: {e}"))
    }
}

impl From<HumanDuration> for String {
    fn from(duration: HumanDuration) -> Self {
        duration.to_string()
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// How many packets are stamped: `1/64`, or `0` for none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "StringOrNumber", into = "String")]
#[schemars(with = "String")]
pub struct SampleRate(pub Option<NonZeroU32>);

impl TryFrom<StringOrNumber> for SampleRate {
    type Error = String;

    fn try_from(value: StringOrNumber) -> Result<Self, Self::Error> {
        let text = value.into_string();
        let every = match text.trim().strip_prefix("1/") {
            Some(every) => every.parse().ok(),
            None if text.trim() == "0" => return Ok(Self(None)),
            None => None,
        };
        every.map(|n| Self(Some(n))).ok_or(format!("`{text}` is neither 1/N nor 0"))
    }
}

impl From<SampleRate> for String {
    fn from(rate: SampleRate) -> Self {
        rate.0.map_or_else(|| "0".to_owned(), |every| format!("1/{every}"))
    }
}

/// The source ports for SNAT, as `15000-29999`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct SourcePorts(pub PortRange);

impl FromStr for SourcePorts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{text}` is not a port range such as 15000-29999");
        let (first, last) = text.split_once('-').ok_or_else(wrong)?;
        let number = |part: &str| part.trim().parse::<u16>().ok();
        let (first, last) = number(first).zip(number(last)).ok_or_else(wrong)?;
        PortRange::new_checked(first, last).map(Self).ok_or_else(wrong)
    }
}

impl TryFrom<String> for SourcePorts {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SourcePorts> for String {
    fn from(ports: SourcePorts) -> Self {
        format!("{}-{}", ports.0.first(), ports.0.last())
    }
}

/// The entries of a Maglev table: `auto` (by the number of backends, T11) or a prime.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "StringOrNumber", into = "String")]
#[schemars(with = "StringOrNumber")]
pub enum TableSize {
    /// 1021, 16381 or 65537 by the number of backends.
    #[default]
    Auto,
    /// This many for every service.
    Entries(u32),
}

impl TryFrom<StringOrNumber> for TableSize {
    type Error = String;

    fn try_from(value: StringOrNumber) -> Result<Self, Self::Error> {
        let number = auto_or_number(value, "a number of entries")?;
        Ok(number.map_or(Self::Auto, Self::Entries))
    }
}

impl From<TableSize> for String {
    fn from(size: TableSize) -> Self {
        match size {
            TableSize::Auto => "auto".to_owned(),
            TableSize::Entries(entries) => entries.to_string(),
        }
    }
}

/// A number of things: `auto`, or so many.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "StringOrNumber", into = "String")]
#[schemars(with = "StringOrNumber")]
pub enum AutoCount {
    /// What follows from other fields.
    #[default]
    Auto,
    /// So many.
    Count(u32),
}

impl TryFrom<StringOrNumber> for AutoCount {
    type Error = String;

    fn try_from(value: StringOrNumber) -> Result<Self, Self::Error> {
        Ok(auto_or_number(value, "a number")?.map_or(Self::Auto, Self::Count))
    }
}

impl From<AutoCount> for String {
    fn from(count: AutoCount) -> Self {
        match count {
            AutoCount::Auto => "auto".to_owned(),
            AutoCount::Count(count) => count.to_string(),
        }
    }
}

/// The number that it says; `None` for `auto`.
fn auto_or_number(value: StringOrNumber, what: &str) -> Result<Option<u32>, String> {
    match value.into_string().as_str() {
        "auto" => Ok(None),
        text => {
            text.parse().map(Some).map_err(|e| format!("`{text}` is neither auto nor {what}: {e}"))
        }
    }
}

/// A scalar that YAML may read as a number although it means a word.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum StringOrNumber {
    Number(u64),
    Text(String),
}

impl StringOrNumber {
    pub(super) fn into_string(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }
}
