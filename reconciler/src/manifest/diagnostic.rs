//! What is wrong in a file, where, and what to do about it.
//!
//! In: places and words. Out: [`Diagnostic`], with a stable [`Code`] and a one-line form for logs and
//! conditions. Not here: finding problems (the rest of `manifest`), drawing the line shown (`cli`).

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// A point of a file: line and column from 1, the column counted in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line, from 1.
    pub line: u32,
    /// The character in the line, from 1.
    pub column: u32,
}

/// From a point up to, and not with, another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The first character.
    pub start: Position,
    /// The character after the last one.
    pub end: Position,
}

impl Span {
    /// The very beginning of a file: for what concerns the file as a whole.
    pub const FIRST: Self = Self { start: Position { line: 1, column: 1 }, end: Position { line: 1, column: 1 } };
}

/// A span in a file, in the order of path, line and column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, relative to the directory that was asked about.
    pub file: Arc<str>,
    /// Where in the file.
    pub span: Span,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", printable(&self.file), self.span.start.line, self.span.start.column)
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Nothing of the repository is used.
    Error,
    /// It works, and somebody may be surprised.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Which kind of problem: a section of `docs/errors.md`.
    pub code: Code,
    /// Error or warning; the code decides.
    pub severity: Severity,
    /// Where.
    pub place: Place,
    /// What is wrong, in one line.
    pub message: String,
    /// A note on the very characters that are at fault, such as what they clash with.
    pub label: Option<String>,
    /// What to do about it.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A problem at a place.
    pub fn new(code: Code, file: &Arc<str>, span: Span, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: code.severity(),
            place: Place { file: file.clone(), span },
            message: message.into(),
            label: None,
            help: None,
        }
    }

    /// The same with a note on the characters at fault.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// The same with a remedy.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Is it an error?
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// Message and label in one line, for formats that have no place for a label.
    pub fn full_message(&self) -> Cow<'_, str> {
        match &self.label {
            Some(label) => Cow::Owned(format!("{} ({label})", self.message)),
            None => Cow::Borrowed(&self.message),
        }
    }
}

/// `pools/db.yaml:7:15: error[RV0214]: …`, in one line.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}[{}]: {}", self.place, self.severity.as_str(), self.code, self.full_message())
    }
}

/// Text that somebody else wrote, made safe to print: no control characters, nothing that turns the
/// direction of writing.
pub fn printable(text: &str) -> Cow<'_, str> {
    let bad = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    if !text.contains(bad) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if bad(c) { '\u{fffd}' } else { c }).collect())
}

/// Text that somebody else wrote, in backticks, safe to print and not too long.
pub(crate) fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("`{}…`", printable(&text[..end])),
        None => format!("`{}`", printable(text)),
    }
}

/// `a`, `a or b`, `a, b or c`, each in backticks.
pub(crate) fn one_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => format!("`{one}`"),
        [init @ .., last] => {
            format!("{} or `{last}`", init.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", "))
        }
    }
}

/// The known word that somebody probably meant.
pub(crate) fn meant<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    // A mistake or two in a word of usual length, a third of a short one; never compare with a novel.
    if word.len() > 64 {
        return None;
    }
    let plain = |word: &str| word.to_lowercase().replace(['_', '-'], "");
    let word = plain(word);
    known
        .iter()
        .map(|known| (strsim::osa_distance(&word, &plain(known)), *known))
        .filter(|(distance, known)| *distance <= (known.len() / 3).clamp(1, 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal $severity:ident $title:literal,)*) => {
        /// A stable code; `docs/errors.md` has a section for each.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $title] $(#[$doc])* $name,)*
        }

        impl Code {
            /// Every code, in order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// `RV0214`.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }

            /// What it says, without the particulars.
            pub const fn title(self) -> &'static str {
                match self {
                    $(Self::$name => $title,)*
                }
            }

            /// Does it fail the repository, or only warn?
            pub const fn severity(self) -> Severity {
                match self {
                    $(Self::$name => Severity::$severity,)*
                }
            }
        }
    };
}

codes! {
    Syntax = "RV0101" Error "not valid YAML",
    NotText = "RV0102" Error "not UTF-8 text",
    TooBig = "RV0103" Error "more than is read",
    Tab = "RV0104" Error "a tab",
    Anchor = "RV0105" Error "an anchor, an alias or a merge key",
    Tag = "RV0106" Error "a tag",
    DuplicateKey = "RV0107" Error "a key twice in a mapping",
    Unreadable = "RV0108" Error "a file or directory that cannot be read",
    OddKey = "RV0109" Error "a key that is not a word",
    NotAManifest = "RV0110" Error "a document that is not a manifest",
    UnknownVersion = "RV0111" Error "a version that this program does not know",
    UnknownKind = "RV0112" Error "an unknown kind",
    AgentInRepository = "RV0113" Error "a node's own file in the repository",
    NearGroup = "RV0114" Warning "an apiVersion that is nearly ours",
    Link = "RV0115" Error "a symbolic link that leaves the directory",
    UnknownKey = "RV0120" Error "an unknown key",
    MissingKey = "RV0121" Error "a key is missing",
    WrongType = "RV0122" Error "a value of the wrong type",
    UnknownWord = "RV0123" Error "a word that is not among the allowed ones",
    BadName = "RV0124" Error "not a name",
    BadLabel = "RV0125" Error "not a label",
    BadDuration = "RV0126" Error "not a duration",
    OutOfRange = "RV0127" Error "a number or duration out of bounds",
    TwiceInList = "RV0128" Error "an entry twice in a list",
    BadInterface = "RV0129" Error "not an interface name",
    NoCluster = "RV0201" Error "no Cluster is declared",
    SecondCluster = "RV0202" Error "a second Cluster",
    NoNodes = "RV0203" Error "no Node is declared",
    NodeTwice = "RV0204" Error "a Node declared twice",
    PoolTwice = "RV0205" Error "a VipPool declared twice",
    NodeAddressTwice = "RV0206" Error "two Nodes with one address",
    BadNodeAddress = "RV0207" Error "not a Node's address",
    BadAddress = "RV0210" Error "not an address, a range or a CIDR",
    HostBits = "RV0211" Error "a CIDR with host bits",
    BadRange = "RV0212" Error "a reversed range, or one across families",
    NotUnicast = "RV0213" Error "an address that cannot be a VIP",
    ClaimedTwice = "RV0214" Error "an address claimed twice",
    VipIsNode = "RV0215" Error "a VIP that is a Node's address",
    TooManyVips = "RV0216" Error "too many addresses",
    NoAddresses = "RV0217" Error "a VipPool without addresses",
    SelectsNobody = "RV0220" Error "a selector that selects nobody",
    PreferUndeclared = "RV0221" Error "a preferred node that is not declared",
    NoWitness = "RV0291" Warning "two nodes and no witness",
    OneOwner = "RV0292" Warning "a VipPool that one node alone can own",
    ManyIpv6 = "RV0293" Warning "many IPv6 VIPs on an interface",
    PreferIdle = "RV0294" Warning "a preferred node that cannot own the pool",
    Skipped = "RV0295" Warning "an address that avoidBuggyIPs skips",
    ManyNeighbours = "RV0296" Warning "more VIPs on a segment than neighbours remember",
    OutsideAllow = "RV0297" Warning "a VIP that no node allows",
    NotAnAgentFile = "RV0501" Error "not a node's own file",
    BadSource = "RV0502" Error "a source that cannot be followed",
    BadPath = "RV0503" Error "a path that cannot be used",
    BadPrefix = "RV0504" Error "not a prefix",
    BadListen = "RV0505" Error "not an address to listen on",
    BadCheck = "RV0506" Error "a check that cannot be run",
    BadRate = "RV0507" Error "not a rate",
    BadUrl = "RV0508" Error "a URL that cannot be followed",
    VerifyIncomplete = "RV0509" Error "verification without keys",
    BadBranch = "RV0511" Error "not a branch name",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_hostile_commit_writes_never_reaches_a_terminal_raw() {
        assert_eq!(quoted("a\u{1b}[2Jb\u{202e}c\nd"), "`a\u{fffd}[2Jb\u{fffd}c\u{fffd}d`");
        assert_eq!(quoted(&"x".repeat(100)), format!("`{}…`", "x".repeat(60)));
    }

    #[test]
    fn a_misspelt_word_finds_the_one_that_was_meant() {
        let known = ["addresses", "avoidBuggyIPs", "attach", "prefer"];
        assert_eq!(meant("adresses", &known), Some("addresses"));
        assert_eq!(meant("avoid_buggy_ips", &known), Some("avoidBuggyIPs"));
        assert_eq!(meant("preferred", &known), None);
        assert_eq!(meant("zzz", &known), None);
    }

    #[test]
    fn codes_are_in_order_and_each_is_there_once() {
        assert!(Code::ALL.windows(2).all(|pair| pair[0].as_str() < pair[1].as_str()));
    }
}
