//! Draws texts from a grammar that is written as data, least-drawn alternatives first, so that a few hundred draws come by
//! all of them; and mutates everything but what the test needs.
//!
//! An alternative is text with `<name>` for a production or a terminal, `<!name>` for a value that the test gives and that
//! no mutation touches, and `~` for a space that a mutation may leave out.

use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet};

/// A production: its name, and its alternatives.
pub type Production = (&'static str, &'static [&'static str]);
/// A terminal: its name, and what draws it.
pub type Terminal = (&'static str, fn(&mut Rng) -> Piece);

/// A piece of a text, by what a mutation may do with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A word of the grammar: in any letter case.
    Word(String),
    /// A space: more of them, or a tab.
    Space,
    /// A space that may also be missing.
    LooseSpace,
    /// `(` or `)`: with spaces around it.
    Parenthesis(char),
    /// A number that is not needed: any other, or none at all.
    Number(String),
    /// A text for people: any bytes.
    Text(String),
    /// Untouched.
    Fixed(Vec<u8>),
}

/// A grammar with the count of what was drawn from it.
#[derive(Debug)]
pub struct Grammar {
    productions: BTreeMap<&'static str, (&'static [&'static str], Vec<u32>)>,
    terminals: BTreeMap<&'static str, fn(&mut Rng) -> Piece>,
    drawn_terminals: BTreeSet<&'static str>,
    /// What chooses.
    pub rng: Rng,
}

impl Grammar {
    /// Panics where an alternative names what there is not.
    pub fn new(productions: &[Production], terminals: &[Terminal], seed: u64) -> Self {
        let counted =
            |(name, alternatives): &Production| (*name, (*alternatives, vec![0; alternatives.len()]));
        let grammar = Self {
            productions: productions.iter().map(counted).collect(),
            terminals: terminals.iter().copied().collect(),
            drawn_terminals: BTreeSet::new(),
            rng: Rng::with_seed(seed),
        };
        for (alternatives, _) in grammar.productions.values() {
            for name in alternatives.iter().flat_map(|text| references(text)) {
                let is_there = grammar.productions.contains_key(name) || grammar.terminals.contains_key(name);
                assert!(is_there || name.starts_with('!'), "the grammar has no {name}");
            }
        }
        grammar
    }

    /// Draws a text of this production with the values that it needs.
    pub fn draw(&mut self, name: &str, given: &[(&str, &str)]) -> Vec<Piece> {
        if let Some((name, draw)) = self.terminals.get_key_value(name) {
            self.drawn_terminals.insert(name);
            return vec![draw(&mut self.rng)];
        }
        let (alternatives, uses) = self.productions.get_mut(name).unwrap_or_else(|| panic!("no {name}"));
        let least = uses.iter().copied().min().unwrap_or_default();
        let chosen = if self.rng.u8(0..3) == 0 {
            self.rng.usize(0..uses.len())
        } else {
            let of_least: Vec<usize> = (0..uses.len()).filter(|at| uses.get(*at) == Some(&least)).collect();
            self.rng.choice(of_least).unwrap_or_default()
        };
        uses.iter_mut().skip(chosen).take(1).for_each(|count| *count += 1);
        let alternative: &'static str = alternatives.get(chosen).copied().unwrap_or_default();
        self.expand(alternative, given)
    }

    fn expand(&mut self, mut text: &'static str, given: &[(&str, &str)]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        while let Some((before, after)) = text.split_once('<') {
            literal(before, &mut pieces);
            let (name, after) = after.split_once('>').expect("every < has its >");
            match name.strip_prefix('!') {
                Some(needed) => {
                    let value = given.iter().find(|(key, _)| *key == needed);
                    let value = value.unwrap_or_else(|| panic!("{needed} is not given")).1;
                    pieces.push(Piece::Fixed(value.as_bytes().to_vec()));
                }
                None => pieces.extend(self.draw(name, given)),
            }
            text = after;
        }
        literal(text, &mut pieces);
        pieces
    }

    /// What was never drawn.
    pub fn missing(&self) -> Vec<String> {
        let alternatives = self.productions.iter().flat_map(|(name, (alternatives, uses))| {
            let unused = alternatives.iter().zip(uses).filter(|(_, count)| **count == 0);
            unused.map(move |(text, _)| format!("{name} = {text}"))
        });
        let terminals = self.terminals.keys().filter(|name| !self.drawn_terminals.contains(*name));
        alternatives.chain(terminals.map(|name| (*name).to_owned())).collect()
    }

    /// How many alternatives were drawn, of how many, of how many productions.
    pub fn coverage(&self) -> String {
        let all: usize = self.productions.values().map(|(_, uses)| uses.len()).sum();
        let drawn: usize =
            self.productions.values().map(|(_, uses)| uses.iter().filter(|count| **count > 0).count()).sum();
        format!("drew {drawn} of {all} alternatives of {} productions", self.productions.len())
    }
}

fn references(text: &str) -> impl Iterator<Item = &str> {
    text.split('<').skip(1).filter_map(|rest| rest.split_once('>')).map(|(name, _)| name)
}

fn literal(text: &str, pieces: &mut Vec<Piece>) {
    let mut word = String::new();
    for char in text.chars() {
        let piece = match char {
            ' ' => Piece::Space,
            '~' => Piece::LooseSpace,
            '(' | ')' => Piece::Parenthesis(char),
            _ => {
                word.push(char);
                continue;
            }
        };
        flush(&mut word, pieces);
        pieces.push(piece);
    }
    flush(&mut word, pieces);
}

fn flush(word: &mut String, pieces: &mut Vec<Piece>) {
    if !word.is_empty() {
        pieces.push(Piece::Word(std::mem::take(word)));
    }
}

/// The text as the grammar has it.
pub fn written(pieces: &[Piece]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Word(text) | Piece::Number(text) | Piece::Text(text) => bytes.extend(text.bytes()),
            Piece::Space | Piece::LooseSpace => bytes.push(b' '),
            Piece::Parenthesis(char) => bytes.push(*char as u8),
            Piece::Fixed(fixed) => bytes.extend(fixed),
        }
    }
    bytes
}

/// Numbers as no grammar has them.
const ODD_NUMBERS: [&str; 6] = ["0", "-1", "99999999999999999999", "4294967296", "x", "1.5"];
/// What stands behind an opening parenthesis and in no grammar.
const UNKNOWN_ITEMS: [&str; 6] =
    ["X-NEW 7 ", "X-NEW (a b) ", "X-NEW \"UNSEEN 5\" ", "X-NEW NIL ", "x-new - ", "X-NEW (UNSEEN 99) "];
/// Spaces where one should be.
const SPACES: [&str; 4] = [" ", "  ", "\t", " \t "];

/// The text with everything changed that nobody needs: letter case, spaces, numbers, texts, unknown items.
pub fn mutated(pieces: &[Piece], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    let is_hit = |rng: &mut Rng| rng.u8(0..3) == 0;
    for piece in pieces {
        match piece {
            Piece::Word(word) if is_hit(rng) => bytes.extend(any_case(word, rng)),
            Piece::Space | Piece::LooseSpace if is_hit(rng) => {
                let spaces = rng.choice(SPACES).unwrap_or(" ");
                bytes.extend(if *piece == Piece::LooseSpace { "" } else { spaces }.bytes());
            }
            Piece::Parenthesis(char) => {
                let spaces = [rng.choice(["", "", " ", "  "]), rng.choice(["", "", " ", "  "])];
                let [before, after] = spaces.map(Option::unwrap_or_default);
                bytes.extend(format!("{before}{char}{after}").bytes());
                if *char == '(' && is_hit(rng) {
                    bytes.extend(rng.choice(UNKNOWN_ITEMS).unwrap_or_default().bytes());
                }
            }
            Piece::Number(_) if is_hit(rng) => {
                bytes.extend(rng.choice(ODD_NUMBERS).unwrap_or_default().bytes());
            }
            Piece::Text(_) if is_hit(rng) => {
                let length = rng.usize(0..30);
                bytes.extend((0..length).map(|_| rng.u8(b' '..)).filter(|byte| *byte != b'['));
            }
            _ => bytes.extend(written(std::slice::from_ref(piece))),
        }
    }
    bytes
}

/// The word with each letter in either case.
pub fn any_case(word: &str, rng: &mut Rng) -> Vec<u8> {
    let flip = |byte: u8| if rng.bool() { byte.to_ascii_lowercase() } else { byte.to_ascii_uppercase() };
    word.bytes().map(flip).collect()
}
