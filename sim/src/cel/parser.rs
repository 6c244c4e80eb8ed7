//! Expressions.

use super::lexer::{Token, words};

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    Name(String),
    List(Vec<Expr>),
    Map(Vec<(Expr, Expr)>),
    /// `a.b`; `a.?b` if optional.
    Select {
        of: Box<Expr>,
        field: String,
        is_optional: bool,
    },
    /// `has(a.b)`.
    Has {
        of: Box<Expr>,
        field: String,
    },
    Index {
        of: Box<Expr>,
        by: Box<Expr>,
        is_optional: bool,
    },
    Call {
        on: Option<Box<Expr>>,
        name: String,
        arguments: Vec<Expr>,
    },
    /// `list.all(x, body)` and the like; two bodies for `map(x, filter, body)`.
    Each {
        over: Box<Expr>,
        how: Each,
        variable: String,
        bodies: Vec<Expr>,
    },
    Not(Box<Expr>),
    Minus(Box<Expr>),
    Binary {
        sign: &'static str,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    Choice {
        when: Box<Expr>,
        then: Box<Expr>,
        otherwise: Box<Expr>,
    },
}

/// Macros over the items of a list or the keys of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Each {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}

impl Expr {
    /// Whether a name stands in it.
    pub fn names(&self, name: &str) -> bool {
        let any = |parts: &[Self]| parts.iter().any(|part| part.names(name));
        match self {
            Self::Name(found) => found == name,
            Self::List(items) => any(items),
            Self::Map(entries) => entries.iter().any(|(key, value)| key.names(name) || value.names(name)),
            Self::Select { of, .. } | Self::Has { of, .. } | Self::Not(of) | Self::Minus(of) => of.names(name),
            Self::Index { of, by, .. } => of.names(name) || by.names(name),
            Self::Call { on, arguments, .. } => on.as_ref().is_some_and(|on| on.names(name)) || any(arguments),
            Self::Each { over, bodies, .. } => over.names(name) || any(bodies),
            Self::Binary { left, right, .. } => left.names(name) || right.names(name),
            Self::Choice { when, then, otherwise } => when.names(name) || then.names(name) || otherwise.names(name),
            _ => false,
        }
    }
}

/// Longer rules are not read, for what is long may be deep.
const MOST_WORDS: usize = 600;

/// Deeper nesting is not read.
const DEEPEST: usize = 100;

/// The signs of one rank, from the weakest.
const RANKS: [&[&str]; 5] =
    [&["||"], &["&&"], &["==", "!=", "<", "<=", ">", ">=", "in"], &["+", "-"], &["*", "/", "%"]];

/// Reads an expression.
pub(super) fn parse(text: &str) -> Result<Expr, String> {
    let mut parser = Parser { words: words(text)?, at: 0, depth: 0 };
    if parser.words.len() > MOST_WORDS {
        return Err(format!("more than {MOST_WORDS} words"));
    }
    let expression = parser.choice()?;
    match parser.words.get(parser.at) {
        None => Ok(expression),
        Some(word) => Err(format!("unexpected {word:?}")),
    }
}

struct Parser {
    words: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.words.get(self.at)
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(found)) if *found == sign);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        if self.take(sign) { Ok(()) } else { Err(format!("expected '{sign}', found {:?}", self.peek())) }
    }

    fn choice(&mut self) -> Result<Expr, String> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err("nested too deeply".to_owned());
        }
        let when = self.binary(0)?;
        let chosen = if self.take("?") {
            let then = Box::new(self.binary(0)?);
            self.expect(":")?;
            Expr::Choice { when: Box::new(when), then, otherwise: Box::new(self.choice()?) }
        } else {
            when
        };
        self.depth -= 1;
        Ok(chosen)
    }

    fn binary(&mut self, rank: usize) -> Result<Expr, String> {
        let Some(signs) = RANKS.get(rank) else {
            return self.unary();
        };
        let mut left = self.binary(rank + 1)?;
        loop {
            let found = match self.peek() {
                Some(Token::Sign(found)) => signs.iter().find(|sign| *sign == found),
                Some(Token::Name(found)) => signs.iter().find(|sign| **sign == found.as_str()),
                _ => None,
            };
            let Some(sign) = found else {
                return Ok(left);
            };
            self.at += 1;
            left = Expr::Binary { sign, left: Box::new(left), right: Box::new(self.binary(rank + 1)?) };
        }
    }

    fn unary(&mut self) -> Result<Expr, String> {
        let mut signs = Vec::new();
        while let Some(Token::Sign(sign @ ("!" | "-"))) = self.peek() {
            signs.push(*sign);
            self.at += 1;
        }
        let mut expression = self.member()?;
        for sign in signs.into_iter().rev() {
            expression = match (sign, expression) {
                ("-", Expr::Int(number)) => Expr::Int(number.wrapping_neg()),
                ("-", Expr::Double(number)) => Expr::Double(-number),
                ("-", other) => Expr::Minus(Box::new(other)),
                (_, other) => Expr::Not(Box::new(other)),
            };
        }
        Ok(expression)
    }

    fn member(&mut self) -> Result<Expr, String> {
        let mut expression = self.primary()?;
        loop {
            if self.take(".") {
                let is_optional = self.take("?");
                let name = self.name()?;
                expression = if self.take("(") {
                    call(Some(expression), name, self.list(")")?)?
                } else {
                    Expr::Select { of: Box::new(expression), field: name, is_optional }
                };
            } else if let Some(is_optional) = self.opens_index() {
                let by = Box::new(self.choice()?);
                self.expect("]")?;
                expression = Expr::Index { of: Box::new(expression), by, is_optional };
            } else {
                return Ok(expression);
            }
        }
    }

    fn opens_index(&mut self) -> Option<bool> {
        if self.take("[?") {
            return Some(true);
        }
        self.take("[").then_some(false)
    }

    fn name(&mut self) -> Result<String, String> {
        match self.peek().cloned() {
            Some(Token::Name(name)) => {
                self.at += 1;
                Ok(name)
            }
            other => Err(format!("expected a name, found {other:?}")),
        }
    }

    fn primary(&mut self) -> Result<Expr, String> {
        let word = self.peek().cloned().ok_or("the expression does not end")?;
        self.at += 1;
        Ok(match word {
            Token::Int(number) => Expr::Int(number),
            Token::Uint(number) => Expr::Uint(number),
            Token::Double(number) => Expr::Double(number),
            Token::Text(text) => Expr::Text(text),
            Token::Bytes(bytes) => Expr::Bytes(bytes),
            Token::Name(name) => match name.as_str() {
                "true" => Expr::Bool(true),
                "false" => Expr::Bool(false),
                "null" => Expr::Null,
                _ if self.take("(") => call(None, name, self.list(")")?)?,
                _ => Expr::Name(name),
            },
            Token::Sign("(") => {
                let inner = self.choice()?;
                self.expect(")")?;
                inner
            }
            Token::Sign("[") => Expr::List(self.list("]")?),
            Token::Sign("{") => Expr::Map(self.entries()?),
            Token::Sign(sign) => return Err(format!("unexpected '{sign}'")),
        })
    }

    fn list(&mut self, end: &str) -> Result<Vec<Expr>, String> {
        let mut items = Vec::new();
        while !self.take(end) {
            items.push(self.choice()?);
            if !self.take(",") {
                self.expect(end)?;
                break;
            }
        }
        Ok(items)
    }

    fn entries(&mut self) -> Result<Vec<(Expr, Expr)>, String> {
        let mut entries = Vec::new();
        while !self.take("}") {
            let key = self.choice()?;
            self.expect(":")?;
            entries.push((key, self.choice()?));
            if !self.take(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(entries)
    }
}

/// A call, or the macro that looks like one.
fn call(on: Option<Expr>, name: String, mut arguments: Vec<Expr>) -> Result<Expr, String> {
    let how = match (name.as_str(), arguments.len()) {
        ("all", 2) => Some(Each::All),
        ("exists", 2) => Some(Each::Exists),
        ("exists_one" | "existsOne", 2) => Some(Each::ExistsOne),
        ("filter", 2) => Some(Each::Filter),
        ("map", 2 | 3) => Some(Each::Map),
        _ => None,
    };
    match (on, how) {
        (None, _) if name == "has" => match arguments.pop() {
            Some(Expr::Select { of, field, .. }) if arguments.is_empty() => Ok(Expr::Has { of, field }),
            _ => Err("has() takes one field".to_owned()),
        },
        (Some(over), Some(how)) => match arguments.remove(0) {
            Expr::Name(variable) => Ok(Expr::Each { over: Box::new(over), how, variable, bodies: arguments }),
            _ => Err(format!("{name}() takes the name of a variable first")),
        },
        (on, _) => Ok(Expr::Call { on: on.map(Box::new), name, arguments }),
    }
}
