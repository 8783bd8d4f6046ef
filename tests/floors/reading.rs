//! Sources as tokens: the paths, macros and methods that a file names.

use proc_macro2::{Delimiter, LexError, Spacing, TokenStream, TokenTree};

use Word::{Group, Mark, Name, Other};

/// A path or word with its line.
#[derive(Debug)]
pub(crate) struct Mention {
    pub(crate) names: Vec<String>,
    pub(crate) line: usize,
    /// Whether it is under `#[cfg(test)]`.
    pub(crate) test: bool,
}

impl std::fmt::Display for Mention {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.names.join("::"))
    }
}

/// What a file names.
#[derive(Default)]
pub(crate) struct Reading {
    /// Paths that begin with `crate`, `self` or `super`, from the crate's root.
    pub(crate) paths: Vec<Mention>,
    /// All other paths of more than one name.
    pub(crate) outer: Vec<Mention>,
    /// Macros called, as `name!`, and fields and methods, as `.name`.
    pub(crate) words: Vec<Mention>,
    /// Modules in files of their own that are there for tests only.
    pub(crate) test_modules: Vec<Vec<String>>,
}

#[derive(Clone, Copy, Default)]
struct Place {
    test: bool,
    /// Whether code here is evaluated by the compiler.
    constant: bool,
}

/// A token; `::` is one.
enum Word {
    Name(String, usize),
    Mark(&'static str),
    Group(Delimiter, Vec<Word>),
    Other,
}

fn is_colon(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(mark) if mark.as_char() == ':')
}

fn words(tokens: TokenStream) -> Vec<Word> {
    let mut read = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        read.push(match token {
            TokenTree::Ident(name) => Name(name.to_string(), name.span().start().line),
            TokenTree::Group(group) => Group(group.delimiter(), words(group.stream())),
            TokenTree::Punct(mark) => match mark.as_char() {
                ':' if mark.spacing() == Spacing::Joint && tokens.next_if(is_colon).is_some() => {
                    Mark("::")
                }
                '.' => Mark("."),
                '!' => Mark("!"),
                ';' => Mark(";"),
                '#' => Mark("#"),
                _ => Other,
            },
            TokenTree::Literal(_) => Other,
        });
    }
    read
}

impl Reading {
    /// Reads the text of `module`.
    pub(crate) fn of(text: &str, module: &[String]) -> Result<Self, LexError> {
        let mut reading = Self::default();
        reading.walk(&words(text.parse()?), module, Place::default());
        Ok(reading)
    }

    fn walk(&mut self, words: &[Word], module: &[String], outer: Place) {
        let mut at = 0;
        // Of the item or statement that `at` is in.
        let mut place = outer;
        while at < words.len() {
            let after_dot = at > 0 && matches!(words[at - 1], Mark("."));
            match &words[at..] {
                [Mark("#"), Group(Delimiter::Bracket, attribute), ..] => {
                    place.test |= is_test(attribute);
                    at += 1;
                }
                [Mark(";"), ..] => place = outer,
                [Name(word, _), Name(name, _), Group(_, inner), ..] if word == "mod" => {
                    let module = [module, std::slice::from_ref(name)].concat();
                    self.walk(inner, &module, place);
                    place = outer;
                    at += 2;
                }
                [Name(word, _), Name(name, _), Mark(";"), ..] if word == "mod" && place.test => {
                    self.test_modules.push([module, std::slice::from_ref(name)].concat());
                    at += 1;
                }
                [Name(word, _), next, ..] if word == "const" => {
                    place.constant |= !matches!(next, Name(next, _) if is_function(next));
                }
                [Name(name, _), Mark("!"), ..] if place.constant && name.starts_with("assert") => {}
                [Name(name, line), Mark("!"), ..] => self.word(format!("{name}!"), *line, place),
                [Name(name, line), ..] if after_dot => {
                    self.word(format!(".{name}"), *line, place);
                }
                [Name(..), ..] => {
                    let (names, rest) = path(&words[at..], &[]);
                    for (names, line) in names {
                        self.path(names, line, module, place);
                    }
                    at = words.len() - rest.len();
                    continue;
                }
                [Group(delimiter, inner), ..] => {
                    self.walk(inner, module, place);
                    if *delimiter == Delimiter::Brace {
                        place = outer;
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }

    fn word(&mut self, word: String, line: usize, place: Place) {
        self.words.push(Mention { names: vec![word], line, test: place.test });
    }

    fn path(&mut self, names: Vec<String>, line: usize, module: &[String], place: Place) {
        let mention = |names| Mention { names, line, test: place.test };
        let mut base = match &*names[0] {
            "crate" => Vec::new(),
            "super" | "self" if names.len() > 1 => module.to_vec(),
            _ if names.len() > 1 => return self.outer.push(mention(names)),
            _ => return,
        };
        for name in names {
            match &*name {
                "crate" | "self" => {}
                "super" => drop(base.pop()),
                _ => base.push(name),
            }
        }
        self.paths.push(mention(base));
    }
}

fn is_function(word: &str) -> bool {
    ["fn", "unsafe", "extern", "async"].contains(&word)
}

/// Whether an attribute is a `cfg` that asks for `test`.
fn is_test(attribute: &[Word]) -> bool {
    fn names_test(words: &[Word]) -> bool {
        words.iter().enumerate().any(|(at, word)| match word {
            Name(name, _) => name == "test",
            Group(_, inner) => {
                let before = at.checked_sub(1).map(|before| &words[before]);
                let negated = matches!(before, Some(Name(name, _)) if name == "not");
                !negated && names_test(inner)
            }
            _ => false,
        })
    }
    let is_cfg = matches!(attribute.first(), Some(Name(name, _)) if name == "cfg");
    is_cfg && names_test(attribute)
}

type Named = (Vec<String>, usize);

/// The paths that begin here, several with a group, and what follows them.
fn path<'a>(words: &'a [Word], prefix: &[String]) -> (Vec<Named>, &'a [Word]) {
    let (mut names, mut line, mut rest) = (prefix.to_vec(), 0, words);
    loop {
        match rest {
            [Name(name, at), after @ ..] => {
                names.push(name.clone());
                (line, rest) = (*at, after);
            }
            [Group(Delimiter::Brace, group), after @ ..] if !names.is_empty() => {
                return (group_paths(group, &names), after);
            }
            _ => return (vec![(names, line)], rest),
        }
        match rest {
            [Mark("::"), after @ ..] => rest = after,
            _ => return (vec![(names, line)], rest),
        }
    }
}

fn group_paths(group: &[Word], prefix: &[String]) -> Vec<Named> {
    let (mut paths, mut rest) = (Vec::new(), group);
    while let [first, after @ ..] = rest {
        if matches!(first, Name(..)) {
            let (named, after) = path(rest, prefix);
            paths.extend(named);
            rest = after;
        } else {
            rest = after;
        }
    }
    paths
}
