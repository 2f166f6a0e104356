//! Linux cpulists (`0-3,8`), also used for queue numbers.

use super::scalars::StringOrNumber;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Numbers up to this may stand in a list: more CPUs or queues than any machine has. Without a
/// limit `0-4000000000` would fill the memory.
const NUMBER_MAX: u32 = 4_095;

/// A list of small numbers in Linux's form (`0-3,8`) or YAML's (`[0, 1, 8]`); sorted, no doubles.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CpuList(Vec<u32>);

impl CpuList {
    /// The numbers, ascending.
    pub fn numbers(&self) -> &[u32] {
        &self.0
    }

    fn new(mut numbers: Vec<u32>) -> Result<Self, String> {
        numbers.sort_unstable();
        numbers.dedup();
        match numbers.last() {
            None => Err("the list is empty; leave the field out for the default".to_owned()),
            Some(n) if *n > NUMBER_MAX => Err(format!("{n} is above {NUMBER_MAX}")),
            Some(_) => Ok(Self(numbers)),
        }
    }
}

impl FromStr for CpuList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut numbers = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |s: &str| s.trim().parse::<u32>().ok().filter(|n| *n <= NUMBER_MAX);
            let range = number(first).zip(number(last)).filter(|(first, last)| first <= last);
            let Some((first, last)) = range else {
                return Err(format!("`{text}` is not a list such as 0-3,8 (at most {NUMBER_MAX})"));
            };
            numbers.extend(first..=last);
        }
        Self::new(numbers)
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self
            .0
            .chunk_by(|a, b| a + 1 == *b)
            .filter_map(|run| Some((run.first()?, run.last()?)))
            .map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") })
            .collect();
        f.write_str(&parts.join(","))
    }
}

/// Makes a type that is a default word or a list of numbers: `auto` and CPUs, `all` and queues.
macro_rules! word_or_list {
    ($(#[$meta:meta])* $name:ident, $(#[$word_meta:meta])* $variant:ident = $word:literal) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, Serialize, JsonSchema)]
        #[serde(try_from = "ListForm", into = "String")]
        #[schemars(with = "ListForm")]
        pub enum $name {
            $(#[$word_meta])*
            #[default]
            $variant,
            /// These.
            List(CpuList),
        }

        impl TryFrom<ListForm> for $name {
            type Error = String;

            fn try_from(form: ListForm) -> Result<Self, Self::Error> {
                match form {
                    ListForm::Numbers(numbers) => CpuList::new(numbers).map(Self::List),
                    ListForm::Word(word) => match word.into_string().as_str() {
                        $word => Ok(Self::$variant),
                        text => text.parse().map(Self::List),
                    },
                }
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                match value {
                    $name::$variant => $word.to_owned(),
                    $name::List(list) => list.to_string(),
                }
            }
        }
    };
}

word_or_list! {
    /// The CPUs that workers are pinned to, one worker each.
    Cpus,
    /// One per queue, CPU 0 left to the rest of the system where there is more than one.
    Auto = "auto"
}

word_or_list! {
    /// The receive queues of an interface.
    Queues,
    /// All that the interface has.
    All = "all"
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum ListForm {
    Numbers(Vec<u32>),
    Word(StringOrNumber),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpulist_returns_as_linux_writes_it() {
        for (text, same) in [("0-3,8", "0-3,8"), ("3,2,1", "1-3"), ("5", "5"), ("1,1", "1")] {
            assert_eq!(text.parse::<CpuList>().unwrap().to_string(), same);
        }
    }

    #[test]
    fn nonsense_and_endless_lists_are_refused() {
        for text in ["", "a", "3-1", "0-4000000000", "1,,2", "-1"] {
            assert!(text.parse::<CpuList>().is_err(), "{text}");
        }
    }
}
