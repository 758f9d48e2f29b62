//! keepalived's configuration language: lines of words, blocks in braces, includes, definitions, conditions.
//!
//! In: a file's path and a way to read files. Out: a tree of [`Statement`]s, each with its place.
//! Not here: what the keywords mean (`keepalived`).
//!
//! After keepalived.conf(5): `!` and `#` begin a comment, `"…"` holds spaces, a backslash at the end of a
//! line goes on in the next, `$NAME=value` defines what `$NAME` and `${NAME}` stand for, `include` takes a
//! pattern relative to the file it stands in, and a line that begins with `@id` (`@^id`) counts only (not) for the
//! host that was started with that `config-id`, by default its host name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How deep files may include each other.
const DEPTH: usize = 16;
/// How deep blocks may lie in each other.
const BLOCKS: usize = 32;

/// Longest line that definitions still make longer.
const LONGEST: usize = 1 << 16;

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
}

impl Place {
    /// As a note wants it.
    pub fn at(&self) -> (&str, u32) {
        (&self.file, self.line)
    }
}

/// Words of a line, and the block that follows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Where it begins.
    pub place: Place,
    /// The words; may be none before a block.
    pub words: Vec<String>,
    /// What stands in braces.
    pub block: Vec<Statement>,
}

impl Statement {
    /// The first word.
    pub fn keyword(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// The word at a place after the keyword.
    pub fn word(&self, at: usize) -> Option<&str> {
        self.words.get(at).map(String::as_str)
    }
}

/// What one host reads.
#[derive(Debug, Default)]
pub struct Tree {
    /// The statements at the top.
    pub statements: Vec<Statement>,
    /// Hosts that a condition named.
    pub hosts: BTreeSet<String>,
    /// What could not be read, and why.
    pub problems: Vec<(Place, String)>,
}

/// How files are read: the content of a path, and the paths that match a pattern.
pub trait Files {
    /// The text of a file.
    fn read(&self, path: &Path) -> Result<String, String>;
    /// The names in a folder.
    fn list(&self, folder: &Path) -> Vec<String>;
}

/// A line of text, includes and definitions already applied.
struct Line {
    place: Place,
    text: String,
}

/// Reads a file as `host` would, with everything that it includes.
pub fn parse(files: &dyn Files, path: &Path, host: Option<&str>) -> Result<Tree, String> {
    let mut reader = Reader { files, host, tree: Tree::default(), definitions: BTreeMap::new(), lines: Vec::new() };
    let text = files.read(path)?;
    reader.lines(path, &text, 0);
    let mut tokens = Vec::new();
    for line in std::mem::take(&mut reader.lines) {
        tokens.extend(words(&line.text).into_iter().map(|token| (line.place.clone(), token)));
    }
    let mut tokens = tokens.into_iter().peekable();
    let problems = &mut reader.tree.problems;
    reader.tree.statements = block(&mut tokens, problems, 0);
    Ok(reader.tree)
}

struct Reader<'a> {
    files: &'a dyn Files,
    host: Option<&'a str>,
    tree: Tree,
    definitions: BTreeMap<String, String>,
    lines: Vec<Line>,
}

impl Reader<'_> {
    fn lines(&mut self, path: &Path, text: &str, depth: usize) {
        let file: Arc<str> = path.display().to_string().into();
        let mut pending: Option<(u32, String)> = None;
        for (number, line) in (1..).zip(text.lines()) {
            let (start, mut line) = match pending.take() {
                Some((start, before)) => (start, before + " " + line.trim_start()),
                None => (number, line.to_owned()),
            };
            if let Some(cut) = line.strip_suffix('\\').map(str::len) {
                line.truncate(cut);
                pending = Some((start, line));
                continue;
            }
            self.line(Place { file: file.clone(), line: start }, path, &line, depth);
        }
        if let Some((start, line)) = pending {
            self.line(Place { file, line: start }, path, &line, depth);
        }
    }

    fn line(&mut self, place: Place, path: &Path, line: &str, depth: usize) {
        let mut line = line.trim();
        if let Some(rest) = line.strip_prefix('@') {
            let (condition, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            let (wanted, id) = match condition.strip_prefix('^') {
                Some(id) => (false, id),
                None => (true, condition),
            };
            self.tree.hosts.insert(id.to_owned());
            if (self.host == Some(id)) != wanted {
                return;
            }
            line = rest.trim_start();
        }
        let text = self.substituted(line);
        if let Some((name, value)) = text.strip_prefix('$').and_then(|rest| rest.split_once('='))
            && name.chars().all(|sign| sign.is_ascii_alphanumeric() || sign == '_')
        {
            self.definitions.insert(name.to_owned(), value.trim().to_owned());
            return;
        }
        let include = ["include", "includer", "includem", "includew", "includeb"]
            .iter()
            .find_map(|keyword| text.strip_prefix(keyword))
            .filter(|rest| rest.starts_with(char::is_whitespace));
        match include {
            Some(rest) => self.include(&place, path, words(rest).first().map_or("", Token::text), depth),
            None => self.lines.push(Line { place, text }),
        }
    }

    fn include(&mut self, place: &Place, from: &Path, pattern: &str, depth: usize) {
        if depth == DEPTH {
            self.tree.problems.push((place.clone(), "files include each other too deeply".to_owned()));
            return;
        }
        let pattern = from.parent().unwrap_or(Path::new("")).join(pattern);
        let paths = self.matching(&pattern);
        if paths.is_empty() {
            self.tree.problems.push((place.clone(), format!("no file matches {}", pattern.display())));
        }
        for path in paths {
            match self.files.read(&path) {
                Ok(text) => self.lines(&path, &text, depth + 1),
                Err(error) => self.tree.problems.push((place.clone(), error)),
            }
        }
    }

    /// The files that a pattern names; `*` and `?` in its last part.
    fn matching(&self, pattern: &Path) -> Vec<PathBuf> {
        let name = pattern.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !name.contains(['*', '?']) {
            return vec![pattern.to_owned()];
        }
        let folder = pattern.parent().unwrap_or(Path::new(""));
        let mut names = self.files.list(folder);
        names.retain(|found| !found.starts_with('.') && matches(name.as_bytes(), found.as_bytes()));
        names.sort();
        names.iter().map(|name| folder.join(name)).collect()
    }

    fn substituted(&self, text: &str) -> String {
        let mut text = text.to_owned();
        // The longest name first, so that $VIP does not eat the beginning of $VIP6.
        let mut names: Vec<(&String, &String)> = self.definitions.iter().collect();
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        for (name, value) in names {
            // A definition anew is none of an older value.
            if text.starts_with(&format!("${name}=")) {
                continue;
            }
            if text.len() > LONGEST {
                break;
            }
            text = text.replace(&format!("${{{name}}}"), value).replace(&format!("${name}"), value);
        }
        text
    }
}

/// Does a name match a pattern of `*` and `?`?
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    // The last `*` tried: where it stands, and how much of the name it has taken.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(sign) if *sign == b'?' || *sign == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|sign| *sign == b'*')
}

#[derive(Debug, PartialEq)]
enum Token {
    Word(String),
    Open,
    Close,
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Self::Word(text) => text,
            Self::Open => "{",
            Self::Close => "}",
        }
    }
}

fn words(line: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let finish = |word: &mut Option<String>, tokens: &mut Vec<Token>| tokens.extend(word.take().map(Token::Word));
    for sign in line.chars() {
        match (quote, sign) {
            (Some(open), sign) if sign == open => quote = None,
            (Some(_), sign) => word.get_or_insert_default().push(sign),
            (None, '"' | '\'') => {
                quote = Some(sign);
                word.get_or_insert_default();
            }
            (None, '#' | '!') if word.is_none() => break,
            (None, '#') => break,
            (None, '{' | '}') => {
                finish(&mut word, &mut tokens);
                tokens.push(if sign == '{' { Token::Open } else { Token::Close });
            }
            (None, sign) if sign.is_whitespace() => finish(&mut word, &mut tokens),
            (None, sign) => word.get_or_insert_default().push(sign),
        }
    }
    finish(&mut word, &mut tokens);
    tokens
}

fn block(
    tokens: &mut std::iter::Peekable<impl Iterator<Item = (Place, Token)>>,
    problems: &mut Vec<(Place, String)>,
    depth: usize,
) -> Vec<Statement> {
    let mut statements: Vec<Statement> = Vec::new();
    // A brace may stand in a line of its own; it belongs to the words before it, if these have none yet.
    let mut open = false;
    while let Some((place, token)) = tokens.next() {
        match token {
            Token::Word(word) => match statements.last_mut() {
                Some(last) if open && last.place == place => last.words.push(word),
                _ => {
                    statements.push(Statement { place, words: vec![word], block: Vec::new() });
                    open = true;
                }
            },
            Token::Open if depth == BLOCKS => {
                problems.push((place, "blocks lie too deeply in each other".to_owned()));
                return statements;
            }
            Token::Open => {
                let inner = block(tokens, problems, depth + 1);
                match statements.last_mut() {
                    Some(last) if open => last.block = inner,
                    _ => statements.push(Statement { place, words: Vec::new(), block: inner }),
                }
                open = false;
            }
            Token::Close if depth > 0 => return statements,
            Token::Close => problems.push((place, "a `}` too many".to_owned())),
        }
    }
    statements
}
