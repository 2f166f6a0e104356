//! How a good text or object is spoilt.

use bolero::TypeGenerator;
use serde_json::{Value, json};

/// Values that somebody might write where another was meant.
const VALUES: &[&str] = &[
    "",
    "null",
    "~",
    "-1",
    "0",
    "65536",
    "99999999999999999999",
    "1e400",
    ".nan",
    "0x50",
    "true",
    "\"\"",
    "\"\\u0000\"",
    "[]",
    "{}",
    "[[[]]]",
    "{a: b}",
    "&a 1",
    "*a",
    "!!binary aGk=",
    "|",
    "256.1.1.1",
    "::ffff:1.2.3.4",
    "fe80::1%eth0",
    "10.0.0.0/33",
    "kind: Service",
    "---",
    "\t",
];

/// A change of a text, by line.
#[derive(Debug, TypeGenerator)]
pub(crate) enum TextEdit {
    /// A line is gone.
    Delete(u16),
    /// A line stands twice.
    Double(u16),
    /// A line is further in or out.
    Shift { line: u16, columns: u8 },
    /// What follows the colon is another value.
    Replace { line: u16, value: u8 },
    /// A line of another place.
    Swap { one: u16, other: u16 },
    /// A byte of the text is another character.
    Character { at: u16, character: char },
    /// The text ends early.
    Cut(u16),
}

impl TextEdit {
    pub(crate) fn apply(&self, text: &str) -> String {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        if lines.is_empty() {
            return String::new();
        }
        let count = lines.len();
        let place = |line: u16| usize::from(line) % count;
        match self {
            Self::Delete(line) => drop(lines.remove(place(*line))),
            Self::Double(line) => lines.insert(place(*line), lines[place(*line)].clone()),
            Self::Shift { line, columns } => {
                let line = &mut lines[place(*line)];
                *line = format!("{}{}", " ".repeat(usize::from(columns % 9)), line.trim_start());
            }
            Self::Replace { line, value } => {
                let line = &mut lines[place(*line)];
                let key = line.split_once(':').map_or("", |(key, _)| key);
                *line = format!("{key}: {}", VALUES[usize::from(*value) % VALUES.len()]);
            }
            Self::Swap { one, other } => lines.swap(place(*one), place(*other)),
            Self::Character { at, character } => {
                let line = &mut lines[place(*at)];
                let middle = line.char_indices().nth(usize::from(*at) % 16).map_or(0, |(i, _)| i);
                line.insert(middle, *character);
            }
            Self::Cut(line) => lines.truncate(place(*line) + 1),
        }
        lines.join("\n")
    }
}

/// A change of a JSON value: the way to a part of it, and what becomes of that part.
#[derive(Debug, TypeGenerator)]
pub(crate) struct JsonEdit {
    way: Vec<u8>,
    change: JsonChange,
}

#[derive(Debug, TypeGenerator)]
enum JsonChange {
    Null,
    Number(i64),
    Text(u8),
    Empty(bool),
    Double,
    Remove,
}

impl JsonEdit {
    pub(crate) fn apply(&self, value: &mut Value) {
        self.walk(&self.way[..self.way.len().min(6)], value);
    }

    fn walk(&self, way: &[u8], part: &mut Value) {
        let Some((step, rest)) = way.split_first() else {
            return self.change.apply(part);
        };
        let step = usize::from(*step);
        match part {
            Value::Array(list) if !list.is_empty() => {
                let count = list.len();
                self.walk(rest, &mut list[step % count]);
            }
            Value::Object(map) if !map.is_empty() => {
                let count = map.len();
                map.values_mut().nth(step % count).into_iter().for_each(|p| self.walk(rest, p));
            }
            leaf => self.change.apply(leaf),
        }
    }
}

impl JsonChange {
    fn apply(&self, part: &mut Value) {
        match (self, part) {
            (Self::Number(number), part) => *part = json!(number),
            (Self::Text(text), part) => *part = json!(VALUES[usize::from(*text) % VALUES.len()]),
            (Self::Empty(true), part) => *part = json!([]),
            (Self::Empty(false), part) => *part = json!({}),
            (Self::Double, Value::Array(list)) => list.extend(list.clone()),
            (Self::Remove, Value::Array(list)) => drop(list.pop()),
            (Self::Remove, Value::Object(map)) => {
                if let Some(key) = map.keys().next_back().cloned() {
                    map.remove(&key);
                }
            }
            (Self::Null | Self::Double | Self::Remove, part) => *part = Value::Null,
        }
    }
}
