//! Values out of a spanned tree: each is of the wanted type, or a problem with its place.
//!
//! In: [`Node`]s. Out: checked scalars, lists and mappings; problems go to the [`Reader`], so that one
//! mistake never hides the next. Not here: what the keys of a kind are (`kinds`, `agent_file`).

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::diagnostic::{Code, Diagnostic, Span, meant, one_of, quoted};
use super::tree::{Key, Node, Value};
use crate::name::NameError;

/// Collects the problems of one file.
pub(super) struct Reader<'a> {
    pub file: &'a Arc<str>,
    pub out: &'a mut Vec<Diagnostic>,
}

/// A mapping whose keys are all known.
#[derive(Clone, Copy)]
pub(super) struct Fields<'n> {
    entries: &'n [(Key, Node)],
    /// Where a missing key would have been: the beginning of the mapping.
    pub span: Span,
}

impl<'n> Fields<'n> {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&'n Node> {
        self.entries.iter().find(|(k, _)| k.text == key).map(|(_, value)| value)
    }

    /// Where a key stands.
    pub fn key(&self, key: &str) -> Option<Span> {
        self.entries.iter().find(|(k, _)| k.text == key).map(|(k, _)| k.span)
    }

    /// All keys and values, as written.
    pub fn entries(&self) -> &'n [(Key, Node)] {
        self.entries
    }
}

/// What a plain scalar means in YAML's core schema (YAML 1.2.2, 10.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plain {
    Null,
    Boolean(bool),
    Number,
    Text,
}

fn plain(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "true" | "True" | "TRUE" => return Plain::Boolean(true),
        "false" | "False" | "FALSE" => return Plain::Boolean(false),
        ".nan" | ".NaN" | ".NAN" => return Plain::Number,
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return Plain::Number;
    }
    let radix = |prefix: &str, radix: u32| {
        unsigned.strip_prefix(prefix).is_some_and(|d| !d.is_empty() && d.chars().all(|c| c.is_digit(radix)))
    };
    let starts = unsigned.trim_start_matches('.').starts_with(|c: char| c.is_ascii_digit());
    let decimal = starts && unsigned.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
    if radix("0x", 16) || radix("0o", 8) || decimal && f64::from_str(unsigned).is_ok() {
        Plain::Number
    } else {
        Plain::Text
    }
}

/// What a value is, in words.
fn found(node: &Node) -> String {
    match &node.value {
        Value::List(_) => "a list".into(),
        Value::Mapping(_) => "a mapping".into(),
        Value::Scalar { text, plain: false } => format!("the text {}", quoted(text)),
        Value::Scalar { text, .. } => match plain(text) {
            Plain::Null => "nothing".into(),
            Plain::Boolean(_) => format!("the boolean {}", quoted(text)),
            Plain::Number => format!("the number {}", quoted(text)),
            Plain::Text => format!("the text {}", quoted(text)),
        },
    }
}

/// Is it an explicit or implicit null?
pub(super) fn is_null(node: &Node) -> bool {
    matches!(&node.value, Value::Scalar { text, plain: true } if plain(text) == Plain::Null)
}

impl Reader<'_> {
    /// Notes a problem.
    pub fn report(&mut self, diagnostic: Diagnostic) {
        self.out.push(diagnostic);
    }

    /// Notes a problem that has a remedy.
    pub fn error(&mut self, code: Code, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.out.push(Diagnostic::new(code, self.file, span, message).help(help));
    }

    fn wrong_type(&mut self, node: &Node, what: &str, wanted: &str, help: impl Into<String>) {
        self.error(Code::WrongType, node.span, format!("{what} is {wanted}, not {}", found(node)), help);
    }

    /// A mapping with no other keys than `known`.
    pub fn mapping<'n>(&mut self, node: &'n Node, what: &str, known: &[&str]) -> Option<Fields<'n>> {
        let fields = self.open_mapping(node, what, &one_of_keys(known))?;
        for (key, _) in fields.entries.iter().filter(|(key, _)| !known.contains(&key.text.as_str())) {
            let help = match meant(&key.text, known) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("{what} has {}", one_of_keys(known)),
            };
            self.error(Code::UnknownKey, key.span, format!("unknown key {} in {what}", quoted(&key.text)), help);
        }
        Some(fields)
    }

    /// A mapping with keys of the user's own choice.
    pub fn open_mapping<'n>(&mut self, node: &'n Node, what: &str, keys: &str) -> Option<Fields<'n>> {
        match &node.value {
            Value::Mapping(entries) => Some(Fields { entries, span: node.span }),
            _ => {
                let help = if is_null(node) {
                    format!("leave {what} out, or give it {keys}")
                } else {
                    format!("write it as `key: value`, with {keys}")
                };
                self.wrong_type(node, what, "a mapping", help);
                None
            }
        }
    }

    /// The value of a key that has to be there.
    pub fn require<'n>(&mut self, fields: &Fields<'n>, key: &str, what: &str) -> Option<&'n Node> {
        let value = fields.get(key);
        if value.is_none() {
            let end = super::diagnostic::Position { column: fields.span.start.column + 1, ..fields.span.start };
            let span = Span { start: fields.span.start, end };
            self.error(
                Code::MissingKey,
                span,
                format!("{what} has no `{key}`"),
                format!("write `{key}: …`; it has no default"),
            );
        }
        value
    }

    /// A list.
    pub fn list<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n [Node]> {
        match &node.value {
            Value::List(items) => Some(items),
            Value::Scalar { text, .. } if !is_null(node) => {
                self.wrong_type(node, what, "a list", format!("write `[{}]`", printable_short(text)));
                None
            }
            _ => {
                self.wrong_type(node, what, "a list", "leave it out, or write `[]` for an empty one");
                None
            }
        }
    }

    /// A text; numbers and booleans need quotes to be one.
    pub fn text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        match &node.value {
            Value::Scalar { text, plain: false } => Some(text),
            Value::Scalar { text, .. } => match plain(text) {
                Plain::Text => Some(text),
                Plain::Null => {
                    self.wrong_type(node, what, "a text", "write a value, or leave the key out");
                    None
                }
                _ => {
                    self.wrong_type(node, what, "a text", format!("put it in quotes: \"{}\"", printable_short(text)));
                    None
                }
            },
            Value::List(_) | Value::Mapping(_) => {
                self.wrong_type(
                    node,
                    what,
                    "a text",
                    "a text with `[`, `{` or `: ` in it, or a `:` at its end, needs quotes",
                );
                None
            }
        }
    }

    /// `true` or `false`, and none of YAML 1.1's other words for them.
    pub fn boolean(&mut self, node: &Node, what: &str) -> Option<bool> {
        if let Value::Scalar { text, plain: true } = &node.value
            && let Plain::Boolean(value) = plain(text)
        {
            return Some(value);
        }
        let yes = matches!(&node.value, Value::Scalar { text, .. } if matches!(text.to_lowercase().as_str(), "yes" | "on" | "y" | "true"));
        let no = matches!(&node.value, Value::Scalar { text, .. } if matches!(text.to_lowercase().as_str(), "no" | "off" | "n" | "false"));
        let help = match (yes, no) {
            (true, _) => "write `true`, without quotes",
            (_, true) => "write `false`, without quotes",
            _ => "write `true` or `false`",
        };
        self.wrong_type(node, what, "a boolean", help);
        None
    }

    /// A decimal integer within bounds.
    pub fn integer(&mut self, node: &Node, what: &str, bounds: std::ops::RangeInclusive<u32>) -> Option<u32> {
        let (low, high) = (*bounds.start(), *bounds.end());
        let Value::Scalar { text, plain: true } = &node.value else {
            let help = match &node.value {
                Value::Scalar { text, .. } if text.parse::<u32>().is_ok() => "leave the quotes out".to_owned(),
                _ => format!("write a number from {low} to {high}"),
            };
            self.wrong_type(node, what, "an integer", help);
            return None;
        };
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            self.wrong_type(node, what, "an integer", format!("write a decimal number from {low} to {high}"));
            return None;
        }
        if digits.len() > 1 && digits.starts_with('0') {
            let help = "some readers take a leading zero as octal: leave it out";
            self.error(Code::WrongType, node.span, format!("{what} {} has a leading zero", quoted(text)), help);
            return None;
        }
        match text.parse::<u32>() {
            Ok(number) if bounds.contains(&number) => Some(number),
            _ => {
                let message = format!("{what} is {}, out of bounds", quoted(text));
                self.error(Code::OutOfRange, node.span, message, format!("write a number from {low} to {high}"));
                None
            }
        }
    }

    /// An integer and a unit.
    pub fn duration(&mut self, node: &Node, what: &str) -> Option<Duration> {
        let help = "write an integer and ms, s, m or h, such as `500ms` or `10s`";
        let text = match &node.value {
            Value::Scalar { text, plain: true } if plain(text) == Plain::Number => {
                let message = format!("{what} {} has no unit", quoted(text));
                let digits = text.bytes().all(|b| b.is_ascii_digit());
                let help = if digits { format!("write `{text}s` or `{text}ms`") } else { help.to_owned() };
                self.error(Code::BadDuration, node.span, message, help);
                return None;
            }
            _ => self.text(node, what)?,
        };
        match duration(text) {
            Ok(duration) => Some(duration),
            Err(why) => {
                self.error(Code::BadDuration, node.span, format!("{what} {} {why}", quoted(text)), help);
                None
            }
        }
    }

    /// A duration within bounds, which are part of the message.
    pub fn duration_within(&mut self, node: &Node, what: &str, low: Duration, high: Duration) -> Option<Duration> {
        let duration = self.duration(node, what)?;
        if (low..=high).contains(&duration) {
            return Some(duration);
        }
        let message = format!("{what} is {}, out of bounds", written(duration));
        let help = format!("write a duration from {} to {}", written(low), written(high));
        self.error(Code::OutOfRange, node.span, message, help);
        None
    }

    /// One of a few words.
    pub fn word<T: Copy>(&mut self, node: &Node, what: &str, words: &[(&str, T)]) -> Option<T> {
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        // `none` and the like are text in YAML, but a null or a number is a slip of another kind.
        let text = self.text(node, what)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let help = match meant(text, &names) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("write {}", one_of(&names)),
        };
        self.error(Code::UnknownWord, node.span, format!("{what} cannot be {}", quoted(text)), help);
        None
    }

    /// A name by the rules of its type.
    pub fn name<T: FromStr<Err = NameError>>(&mut self, node: &Node, what: &str) -> Option<T> {
        let text = self.text(node, what)?;
        match text.parse() {
            Ok(name) => Some(name),
            Err(why) => {
                let lower = text.to_lowercase().replace('_', "-");
                let code = if why == NameError::NotInterface { Code::BadInterface } else { Code::BadName };
                let diagnostic =
                    Diagnostic::new(code, self.file, node.span, format!("{what} cannot be {}", quoted(text)));
                let better = code == Code::BadName && lower.parse::<T>().is_ok();
                let help = if better { format!("write `{lower}`; {why}") } else { why.to_string() };
                self.report(diagnostic.help(help));
                None
            }
        }
    }

    /// A list of names, each once.
    pub fn names<T: FromStr<Err = NameError> + PartialEq + std::fmt::Display>(
        &mut self,
        node: &Node,
        what: &str,
        item: &str,
    ) -> Vec<(T, Span)> {
        let mut names: Vec<(T, Span)> = Vec::new();
        for node in self.list(node, what).unwrap_or_default() {
            let Some(name) = self.name::<T>(node, item) else { continue };
            if let Some((_, first)) = names.iter().find(|(other, _)| *other == name) {
                let message = format!("`{name}` is twice in {what}");
                let label = format!("first at line {}, column {}", first.start.line, first.start.column);
                self.report(Diagnostic::new(Code::TwiceInList, self.file, node.span, message).label(label));
                continue;
            }
            names.push((name, node.span));
        }
        names
    }
}

fn one_of_keys(known: &[&str]) -> String {
    match known {
        [one] => format!("the key `{one}`"),
        _ => format!("the keys {}", one_of(known).replace("` or `", "` and `")),
    }
}

fn printable_short(text: &str) -> String {
    let quoted = quoted(text);
    quoted.trim_matches('`').to_owned()
}

/// A duration as people write it in manifests.
pub(crate) fn duration(text: &str) -> Result<Duration, &'static str> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "" if !number.is_empty() => return Err("has no unit"),
        _ => return Err("is not a duration"),
    };
    if number.is_empty() {
        return Err("is not a duration");
    }
    if number.len() > 1 && number.starts_with('0') {
        return Err("has a leading zero");
    }
    let year: u64 = 366 * 24 * 3_600_000;
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)) {
        Some(millis) if millis <= year => Ok(Duration::from_millis(millis)),
        _ => Err("is longer than a year"),
    }
}

/// The shortest way to write a whole number of milliseconds.
pub(crate) fn written(duration: Duration) -> String {
    let millis = duration.as_millis();
    match [(3_600_000, "h"), (60_000, "m"), (1_000, "s")]
        .into_iter()
        .find(|(unit, _)| millis > 0 && millis.is_multiple_of(*unit))
    {
        Some((unit, name)) => format!("{}{name}", millis / unit),
        None => format!("{millis}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_an_integer_and_a_unit_and_nothing_else() {
        for (text, millis) in [("0s", 0), ("100ms", 100), ("15s", 15_000), ("3m", 180_000), ("1h", 3_600_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
            assert_eq!(duration(&written(Duration::from_millis(millis))), Ok(Duration::from_millis(millis)));
        }
        for bad in [
            "",
            "s",
            "10",
            "1.5s",
            "-1s",
            "+1s",
            "010s",
            "1 s",
            "1S",
            "1d",
            "1h30m",
            "99999999999999999999s",
            "9000h",
            "１s",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn plain_scalars_mean_what_yaml_1_2_says() {
        for number in ["1", "-1", "010", "1.5", "1e3", "0x1f", "0o17", ".5", "-.inf", ".nan"] {
            assert_eq!(plain(number), Plain::Number, "{number}");
        }
        for text in ["yes", "no", "on", "10.0.0.1", "2024-01-01", "1s", "nan", "inf", "0x", "e5", "1:20", "-"] {
            assert_eq!(plain(text), Plain::Text, "{text}");
        }
    }
}
