//! One file's text to a small tree of YAML nodes, each with the characters that it came from.
//!
//! In: bytes. Out: [`Document`]s of [`Node`]s, and what no manifest may have (anchors, tags, tabs, keys
//! twice) as remarks of the document, since a document of somebody else's may have them.
//! Not here: what the nodes mean (`fields` and up).
//!
//! Bounds come first: size before decoding, depth and number of nodes while events arrive. Nothing recurses.

use std::collections::BTreeMap;
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError};

use super::diagnostic::{Code, Diagnostic, Position, Span, quoted};

/// Longest file that is read: 65,536 IPv6 addresses, one a line, are 3 MB.
pub const LONGEST_FILE: usize = 4 << 20;
/// Deepest nesting: manifests need 6; other groups' documents are skipped, and may be deeper.
const DEEPEST: usize = 128;
/// Most YAML nodes in a file.
const MOST_NODES: usize = 400_000;
/// Most documents in a file.
const MOST_DOCUMENTS: usize = 20_000;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub value: Value,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// A scalar; `plain` is false where it is quoted or a block, so that it can be nothing but text.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Mapping(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub text: String,
    pub span: Span,
}

/// One YAML document.
#[derive(Debug)]
pub(crate) struct Document {
    pub root: Node,
    /// What is wrong with it if it is a manifest.
    pub remarks: Vec<Diagnostic>,
    /// Its first and last line.
    lines: (u32, u32),
}

/// All of a file that could be read.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub documents: Vec<Document>,
    /// Why the rest could not be read.
    pub broken: Option<Diagnostic>,
}

/// The text of a file without its byte order mark, or why it is none.
pub(crate) fn text<'a>(file: &Arc<str>, bytes: &'a [u8]) -> Result<&'a str, Diagnostic> {
    if bytes.len() > LONGEST_FILE {
        let message = format!("the file has more than {LONGEST_FILE} bytes");
        return Err(Diagnostic::new(Code::TooBig, file, Span::FIRST, message)
            .help("split it, or write ranges and CIDRs instead of single addresses"));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let (text, bad) = match std::str::from_utf8(bytes) {
        Ok(text) => (text, None),
        Err(error) => {
            let good = std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
            (good, Some((good.len(), format!("byte 0x{:02x} is not UTF-8", bytes[good.len()]))))
        }
    };
    // A NUL ends the stream for the scanner; what came after it would be silently left out.
    let control = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    let bad = match text.char_indices().find(|(_, c)| control(*c)) {
        Some((at, c)) => Some((at, format!("control character U+{:04X}", u32::from(c)))),
        None => bad,
    };
    let Some((at, what)) = bad else { return Ok(text) };
    let before = lines(&text[..at]);
    let (line, column) = (before.len(), before.last().map_or(0, |line| line.chars().count()));
    let start = position(line, column);
    let end = Position { line: start.line, column: start.column + 1 };
    Err(Diagnostic::new(Code::NotText, file, Span { start, end }, format!("{what}: this is not a text file"))
        .help("save it as UTF-8, or keep it out with a folder that holds `.rendezvipignore`"))
}

/// The lines of a text as YAML counts them (YAML 1.2.2, 5.4): CR LF, LF or CR ends one.
pub fn lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['\n', '\r']) {
        lines.push(&rest[..at]);
        let step = if rest[at..].starts_with("\r\n") { 2 } else { 1 };
        rest = &rest[at + step..];
    }
    lines.push(rest);
    lines
}

fn position(line: usize, column_from_0: usize) -> Position {
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX - 1);
    Position { line: number(line).max(1), column: number(column_from_0) + 1 }
}

fn at(mark: Marker) -> Position {
    position(mark.line(), mark.col())
}

fn span(span: saphyr_parser::Span) -> Span {
    Span { start: at(span.start), end: at(span.end).max(at(span.start)) }
}

enum Open {
    List { items: Vec<Node>, start: Position },
    Mapping { entries: Vec<(Key, Node)>, key: Option<Key>, start: Position },
}

struct Builder<'a> {
    file: &'a Arc<str>,
    documents: Vec<Document>,
    open: Vec<Open>,
    root: Option<Node>,
    remarks: Vec<Diagnostic>,
    first_line: u32,
    nodes: usize,
    /// Quoted and block scalars, in order: a tab in one of them is text.
    scalars: Vec<Span>,
}

/// Reads one file.
pub(crate) fn read(file: &Arc<str>, text: &str) -> Tree {
    let mut builder = Builder {
        file,
        documents: Vec::new(),
        open: Vec::new(),
        root: None,
        remarks: Vec::new(),
        first_line: 1,
        nodes: 0,
        scalars: Vec::new(),
    };
    let mut broken = None;
    for event in Parser::new_from_str(text) {
        let step = match event {
            Ok((event, place)) => builder.event(event, span(place)),
            Err(error) => Err(syntax(file, text, &error)),
        };
        if let Err(diagnostic) = step {
            broken = Some(diagnostic);
            break;
        }
    }
    let Builder { mut documents, scalars, .. } = builder;
    if text.contains('\t') {
        remark_tabs(file, text, &scalars, &mut documents);
    }
    Tree { documents, broken }
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Diagnostic> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd => {}
            Event::DocumentStart(_) => {
                self.first_line = span.start.line;
                if self.documents.len() >= MOST_DOCUMENTS {
                    return Err(self.too_big(span, format!("more than {MOST_DOCUMENTS} documents in a file")));
                }
            }
            Event::DocumentEnd => {
                if let Some(root) = self.root.take() {
                    let lines = (self.first_line, span.start.line);
                    self.documents.push(Document { root, remarks: std::mem::take(&mut self.remarks), lines });
                }
            }
            Event::Alias(_) => {
                self.remark(Code::Anchor, span, "an alias (`*`) is not allowed", "write the value out");
                self.push(Node { value: Value::Scalar { text: String::new(), plain: false }, span })?;
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.decorations(anchor, tag.is_some(), span);
                let plain = style == ScalarStyle::Plain;
                if !plain {
                    self.scalars.push(span);
                }
                self.push(Node { value: Value::Scalar { text: text.into_owned(), plain }, span })?;
            }
            Event::SequenceStart(anchor, tag) => {
                self.decorations(anchor, tag.is_some(), span);
                self.deeper(Open::List { items: Vec::new(), start: span.start }, span)?;
            }
            Event::MappingStart(anchor, tag) => {
                self.decorations(anchor, tag.is_some(), span);
                self.deeper(Open::Mapping { entries: Vec::new(), key: None, start: span.start }, span)?;
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List { items, start }) => {
                    let end = end_of(span, items.last().map(|item| item.span.end), start);
                    self.push(Node { value: Value::List(items), span: Span { start, end } })?;
                }
                Some(Open::Mapping { entries, start, .. }) => {
                    let end = end_of(span, entries.last().map(|(_, value)| value.span.end), start);
                    self.keys(&entries);
                    self.push(Node { value: Value::Mapping(entries), span: Span { start, end } })?;
                }
                None => {}
            },
        }
        Ok(())
    }

    fn too_big(&self, span: Span, message: String) -> Diagnostic {
        Diagnostic::new(Code::TooBig, self.file, span, message)
            .help("if this file is not a manifest, put `.rendezvipignore` into its folder")
    }

    fn remark(&mut self, code: Code, span: Span, message: impl Into<String>, help: &str) {
        self.remarks.push(Diagnostic::new(code, self.file, span, message).help(help));
    }

    fn decorations(&mut self, anchor: usize, tag: bool, span: Span) {
        if anchor > 0 {
            self.remark(Code::Anchor, span, "an anchor (`&`) is not allowed", "write the value out where it is needed");
        }
        if tag {
            self.remark(Code::Tag, span, "a tag (`!`) is not allowed", "leave it out; quotes make text of a value");
        }
    }

    fn deeper(&mut self, open: Open, span: Span) -> Result<(), Diagnostic> {
        if self.open.len() >= DEEPEST {
            return Err(self.too_big(span, format!("nested more than {DEEPEST} deep")));
        }
        self.open.push(open);
        Ok(())
    }

    fn push(&mut self, mut node: Node) -> Result<(), Diagnostic> {
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            return Err(self.too_big(node.span, format!("more than {MOST_NODES} values in a file")));
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Mapping { entries, key, .. }) => match key.take() {
                Some(key) => {
                    // Nothing was written; the scanner points at whatever comes next.
                    if matches!(&node.value, Value::Scalar { text, plain: true } if text.is_empty()) {
                        node.span = key.span;
                    }
                    entries.push((key, node));
                }
                None => match node.value {
                    Value::Scalar { text, plain } => {
                        *key = Some(Key { text, span: node.span });
                        let merge = plain && key.as_ref().is_some_and(|key| key.text == "<<");
                        if merge {
                            self.remark(
                                Code::Anchor,
                                node.span,
                                "a merge key (`<<`) is not allowed",
                                "write the values out",
                            );
                        }
                    }
                    Value::List(_) | Value::Mapping(_) => {
                        *key = Some(Key { text: String::new(), span: node.span });
                        let help = "a text with `{`, `[` or `: ` in it needs quotes";
                        self.remark(Code::OddKey, node.span, "a list or mapping cannot be a key", help);
                    }
                },
            },
        }
        Ok(())
    }

    fn keys(&mut self, entries: &[(Key, Node)]) {
        let mut seen: BTreeMap<&str, Span> = BTreeMap::new();
        for (key, _) in entries {
            if let Some(first) = seen.get(key.text.as_str()) {
                let Position { line, column } = first.start;
                let remark = Diagnostic::new(
                    Code::DuplicateKey,
                    self.file,
                    key.span,
                    format!("key {} is there twice", quoted(&key.text)),
                );
                self.remarks.push(remark.label(format!("first at line {line}, column {column}")));
            } else {
                seen.insert(&key.text, key.span);
            }
        }
    }
}

/// A flow collection ends with its bracket, a block one with its last value.
fn end_of(event: Span, last: Option<Position>, start: Position) -> Position {
    let bracket =
        event.end > event.start && event.end.line == event.start.line && event.end.column == event.start.column + 1;
    match last {
        Some(last) if !bracket || event.start < last => last,
        None if !bracket => start,
        _ => event.end,
    }
}

fn syntax(file: &Arc<str>, text: &str, error: &ScanError) -> Diagnostic {
    let start = at(*error.marker());
    let end = Position { line: start.line, column: start.column + 1 };
    let place = Span { start, end };
    let line = lines(text).get(start.line as usize - 1).copied().unwrap_or_default();
    let info = error.info();
    if info.contains("unknown anchor") {
        return Diagnostic::new(Code::Anchor, file, place, "an alias (`*`) is not allowed")
            .help("write the value out; a text that begins with `*` needs quotes");
    }
    if info.contains("recursion limit") {
        return Diagnostic::new(Code::TooBig, file, place, format!("nested more than {DEEPEST} deep"))
            .help("if this file is not a manifest, put `.rendezvipignore` into its folder");
    }
    let indent: &str = &line[..line.len() - line.trim_start().len()];
    if info.contains("tab") || indent.contains('\t') {
        let column = indent.chars().position(|c| c == '\t').map_or(start.column, |at| position(1, at).column);
        let place = Span {
            start: Position { line: start.line, column },
            end: Position { line: start.line, column: column + 1 },
        };
        return Diagnostic::new(Code::Tab, file, place, "a tab: YAML is indented by spaces alone")
            .help("replace tabs with spaces");
    }
    let help = if line.contains("{{") || line.contains("{%") {
        "this looks like a template: point `source.git.path` elsewhere, or put `.rendezvipignore` into its folder"
    } else if line.contains("::") {
        "an IPv6 address needs quotes: \"fd99::1\", \"[fd99::1]:7847\""
    } else {
        "look at quotes, brackets and indentation here and on the line above"
    };
    Diagnostic::new(Code::Syntax, file, place, format!("not valid YAML: {info}")).help(help)
}

/// Tabs between values: YAML lets them be, and editors do not show them.
fn remark_tabs(file: &Arc<str>, text: &str, scalars: &[Span], documents: &mut [Document]) {
    let in_scalar = |here: Position| {
        let after = scalars.partition_point(|span| span.start <= here);
        scalars[..after].last().is_some_and(|span| here < span.end)
    };
    let mut document = 0;
    for (index, line) in lines(text).into_iter().enumerate() {
        if !line.contains('\t') {
            continue;
        }
        let mut before = ' ';
        for (column, c) in line.chars().enumerate() {
            let here = position(index + 1, column);
            let quiet = in_scalar(here);
            if c == '#' && !quiet && before.is_whitespace() {
                break;
            }
            if c == '\t' && !quiet {
                while document < documents.len() && documents[document].lines.1 < here.line {
                    document += 1;
                }
                if let Some(document) = documents.get_mut(document).filter(|d| d.lines.0 <= here.line) {
                    let place = Span { start: here, end: Position { line: here.line, column: here.column + 1 } };
                    let remark = Diagnostic::new(Code::Tab, file, place, "a tab is not allowed here");
                    document.remarks.push(remark.help("replace tabs with spaces"));
                }
                break;
            }
            before = c;
        }
    }
}
