//! The text form of expressions.
//!
//! ```text
//! expression  = conjunction { "or" conjunction }
//! conjunction = negation { "and" negation }
//! negation    = "not" negation | "(" expression ")" | comparison
//! comparison  = column [ ( "=" | "!=" | "<" | "<=" | ">" | ">=" ) value
//!                      | [ "not" ] "in" list | "any" list | "all" list | "none" list
//!                      | "between" value "and" value
//!                      | "is" [ "not" ] "null" ]
//! list        = "(" [ value { "," value } ] ")" | "$" name
//! value       = text | number | "true" | "false" | "$" name
//! ```

use std::collections::BTreeMap;
use std::ops::Bound;

use super::column::KEYWORDS;
use super::expression::{Expression, Literal, Node, Scalar};
use crate::{Error, Result};

/// How deep a text may be nested. An expression nests at most three nodes for each.
const MAX_DEPTH: usize = 32;

/// What the names behind `$` in the text of an expression stand for.
///
/// ```
/// use itemdex::{Expression, Parameters, number, tag};
///
/// let parameters = Parameters::new().with("blocked", [17u64, 99]).with("most", [1000.0]);
/// let text = r#"region in ("JP", "US") and not author in $blocked and price <= $most"#;
/// let built = tag("region").any(["JP", "US"]) & !tag("author").any([17u64, 99]) & number("price").at_most(1000.0);
/// assert_eq!(Expression::parse(text, &parameters)?, built);
/// # Ok::<(), itemdex::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parameters(BTreeMap<String, Vec<Literal>>);

impl Parameters {
    /// No parameters.
    pub fn new() -> Parameters {
        Parameters::default()
    }

    /// The same with values for a name. Where the text compares with a single value, give one.
    pub fn with<T: Into<Literal>>(
        mut self,
        name: impl Into<String>,
        values: impl IntoIterator<Item = T>,
    ) -> Parameters {
        self.0.insert(name.into(), values.into_iter().map(Into::into).collect());
        self
    }
}

impl Expression {
    /// Reads an expression from a text, such as
    /// `region in ("JP", "US") and not author in $blocked and price <= 1000`. docs/filters.md has the language.
    ///
    /// # Errors
    /// [`Error::BadFilter`], which says at which character what was expected.
    pub fn parse(text: &str, parameters: &Parameters) -> Result<Expression> {
        let mut parser = Parser { text, at: 0, token: Token::End, start: 0, depth: 0, parameters };
        let parsed = parser.advance().and_then(|()| parser.whole());
        parsed.map_err(|Problem { at, problem }| {
            let character = text[..at].chars().count() + 1;
            Error::BadFilter { problem: format!("at character {character}: {problem}") }
        })
    }
}

/// What is wrong, and at which byte.
struct Problem {
    at: usize,
    problem: String,
}

type Parsed<T> = std::result::Result<T, Problem>;

#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// A column or a keyword.
    Word(String),
    Literal(Scalar),
    Parameter(String),
    Symbol(&'static str),
    End,
}

/// Longer ones first, so that `<=` is not read as `<`.
const SYMBOLS: [&str; 9] = ["!=", "<=", ">=", "=", "<", ">", "(", ")", ","];

struct Parser<'a> {
    text: &'a str,
    /// Where the token behind the current one begins.
    at: usize,
    token: Token,
    /// Where the current token begins.
    start: usize,
    depth: usize,
    parameters: &'a Parameters,
}

impl Parser<'_> {
    fn whole(&mut self) -> Parsed<Expression> {
        let expression = self.expression()?;
        match self.token {
            Token::End => Ok(expression),
            _ => Err(self.expected("\"and\", \"or\" or the end")),
        }
    }

    fn expression(&mut self) -> Parsed<Expression> {
        let mut expression = self.conjunction()?;
        while self.take_word("or")? {
            expression = expression | self.conjunction()?;
        }
        Ok(expression)
    }

    fn conjunction(&mut self) -> Parsed<Expression> {
        let mut expression = self.negation()?;
        while self.take_word("and")? {
            expression = expression & self.negation()?;
        }
        Ok(expression)
    }

    fn negation(&mut self) -> Parsed<Expression> {
        if self.depth == MAX_DEPTH {
            let problem = format!("it is nested deeper than {MAX_DEPTH}");
            return Err(Problem { at: self.start, problem });
        }
        self.depth += 1;
        let expression = if self.take_word("not")? {
            !self.negation()?
        } else if self.take_symbol("(")? {
            let inner = self.expression()?;
            self.expect_symbol(")", "\"and\", \"or\" or \")\"")?;
            inner
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(expression)
    }

    fn comparison(&mut self) -> Parsed<Expression> {
        let column = match &self.token {
            Token::Word(word) if !is_keyword(word) => word.clone(),
            _ => return Err(self.expected("a column, \"not\" or \"(\"")),
        };
        self.advance()?;
        let node = if let Token::Symbol(symbol @ ("=" | "!=" | "<" | "<=" | ">" | ">=")) = self.token {
            self.advance()?;
            self.compared(column, symbol)?
        } else if self.take_word("in")? || self.take_word("any")? {
            Node::any(column, self.list()?)
        } else if self.take_word("none")? {
            not(Node::any(column, self.list()?))
        } else if self.take_word("not")? {
            self.expect_word("in")?;
            not(Node::any(column, self.list()?))
        } else if self.take_word("all")? {
            Node::All { column, literals: self.list()? }
        } else if self.take_word("between")? {
            let low = Bound::Included(self.number()?);
            self.expect_word("and")?;
            Node::Range { column, low, high: Bound::Included(self.number()?) }
        } else if self.take_word("is")? {
            let negated = self.take_word("not")?;
            self.expect_word("null")?;
            let node = Node::Null { column };
            if negated { not(node) } else { node }
        } else {
            // A column alone is a flag that is to be true.
            Node::any(column, vec![true.into()])
        };
        Ok(Expression(node))
    }

    /// What a column is to be, behind the symbol.
    fn compared(&mut self, column: String, symbol: &str) -> Parsed<Node> {
        let (low, high) = match symbol {
            "=" => return Ok(Node::any(column, vec![self.value()?])),
            "!=" => return Ok(not(Node::any(column, vec![self.value()?]))),
            "<" => (Bound::Unbounded, Bound::Excluded(self.number()?)),
            "<=" => (Bound::Unbounded, Bound::Included(self.number()?)),
            ">" => (Bound::Excluded(self.number()?), Bound::Unbounded),
            _ => (Bound::Included(self.number()?), Bound::Unbounded),
        };
        Ok(Node::Range { column, low, high })
    }

    fn list(&mut self) -> Parsed<Vec<Literal>> {
        if let Token::Parameter(name) = &self.token {
            let literals = self.parameter(name)?.to_vec();
            self.advance()?;
            return Ok(literals);
        }
        self.expect_symbol("(", "a list in parentheses or a parameter, such as $name")?;
        let mut literals = Vec::new();
        if self.take_symbol(")")? {
            return Ok(literals);
        }
        loop {
            literals.push(self.value()?);
            if self.take_symbol(")")? {
                return Ok(literals);
            }
            self.expect_symbol(",", "\",\" or \")\"")?;
        }
    }

    /// A number, for a bound.
    fn number(&mut self) -> Parsed<Literal> {
        let at = self.start;
        let value = self.value()?;
        match value.0 {
            Scalar::Integer(_) | Scalar::Real(_) => Ok(value),
            _ => Err(Problem { at, problem: format!("expected a number, found {}", value.0) }),
        }
    }

    fn value(&mut self) -> Parsed<Literal> {
        let literal = match &self.token {
            Token::Literal(scalar) => Literal(scalar.clone()),
            Token::Word(word) if word.eq_ignore_ascii_case("true") => true.into(),
            Token::Word(word) if word.eq_ignore_ascii_case("false") => false.into(),
            Token::Parameter(name) => match self.parameter(name)? {
                [literal] => literal.clone(),
                literals => {
                    let problem =
                        format!("the parameter ${name} has {} values; one is compared here", literals.len());
                    return Err(Problem { at: self.start, problem });
                }
            },
            _ => {
                return Err(self.expected("a value: a number, a text in quotes, true, false or a parameter"));
            }
        };
        self.advance()?;
        Ok(literal)
    }

    fn parameter(&self, name: &str) -> Parsed<&[Literal]> {
        let literals = self.parameters.0.get(name).map(Vec::as_slice);
        literals.ok_or_else(|| Problem { at: self.start, problem: format!("no parameter ${name} was given") })
    }

    fn take_word(&mut self, word: &str) -> Parsed<bool> {
        let found = matches!(&self.token, Token::Word(found) if found.eq_ignore_ascii_case(word));
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn expect_word(&mut self, word: &str) -> Parsed<()> {
        if self.take_word(word)? { Ok(()) } else { Err(self.expected(&format!("\"{word}\""))) }
    }

    fn take_symbol(&mut self, symbol: &'static str) -> Parsed<bool> {
        let found = self.token == Token::Symbol(symbol);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn expect_symbol(&mut self, symbol: &'static str, expected: &str) -> Parsed<()> {
        if self.take_symbol(symbol)? { Ok(()) } else { Err(self.expected(expected)) }
    }

    fn expected(&self, what: &str) -> Problem {
        let found = match &self.token {
            Token::Word(word) => format!("\"{word}\""),
            Token::Literal(scalar) => scalar.to_string(),
            Token::Parameter(name) => format!("the parameter ${name}"),
            Token::Symbol(symbol) => format!("\"{symbol}\""),
            Token::End => "the end".to_owned(),
        };
        Problem { at: self.start, problem: format!("expected {what}, found {found}") }
    }

    /// Goes on to the next token.
    fn advance(&mut self) -> Parsed<()> {
        let rest = self.text[self.at..].trim_start();
        self.start = self.text.len() - rest.len();
        let (token, length) = match rest.chars().next() {
            None => (Token::End, 0),
            Some(quote @ ('"' | '\'')) => text(rest, quote).map_err(|problem| self.bad(problem))?,
            Some(first) if first.is_ascii_digit() || "-+.".contains(first) => {
                number(rest).map_err(|problem| self.bad(problem))?
            }
            Some('$') => match word(&rest[1..]) {
                "" => return Err(self.bad("expected the name of a parameter behind $".to_owned())),
                name => (Token::Parameter(name.to_owned()), 1 + name.len()),
            },
            Some(first) => match (word(rest), SYMBOLS.iter().find(|&&symbol| rest.starts_with(symbol))) {
                ("", None) => return Err(self.bad(format!("{first:?} is not of the language"))),
                ("", Some(symbol)) => (Token::Symbol(symbol), symbol.len()),
                (word, _) => (Token::Word(word.to_owned()), word.len()),
            },
        };
        self.token = token;
        self.at = self.start + length;
        Ok(())
    }

    fn bad(&self, problem: String) -> Problem {
        Problem { at: self.start, problem }
    }
}

fn not(node: Node) -> Node {
    (!Expression(node)).0
}

fn is_keyword(word: &str) -> bool {
    KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(word))
}

/// The name that `rest` begins with; empty if it does with none.
fn word(rest: &str) -> &str {
    let end = rest.find(|letter: char| !letter.is_ascii_alphanumeric() && !"_.".contains(letter));
    &rest[..end.unwrap_or(rest.len())]
}

/// The text in quotes that `rest` begins with, and how many bytes it takes.
fn text(rest: &str, quote: char) -> std::result::Result<(Token, usize), String> {
    let mut text = String::new();
    let mut letters = rest.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        match letter {
            _ if letter == quote => return Ok((Token::Literal(Scalar::Text(text)), at + 1)),
            '\\' => match letters.next() {
                Some((_, escaped)) if escaped == quote || escaped == '\\' => text.push(escaped),
                _ => return Err(format!("a backslash in a text stands before {quote} or another backslash")),
            },
            _ => text.push(letter),
        }
    }
    Err(format!("the text that begins here has no {quote} at its end"))
}

/// The number that `rest` begins with, and how many bytes it takes.
fn number(rest: &str) -> std::result::Result<(Token, usize), String> {
    let mut before = ' ';
    let end = rest.find(|letter: char| {
        let sign = "+-".contains(letter) && " eE".contains(before);
        before = letter;
        !sign && !letter.is_ascii_alphanumeric() && !"._".contains(letter)
    });
    let digits = &rest[..end.unwrap_or(rest.len())];
    let plain = digits.chars().all(|letter| letter.is_ascii_digit() || "+-.eE".contains(letter));
    let integer = digits.parse().ok().filter(|number| (i64::MIN.into()..=u64::MAX.into()).contains(number));
    let scalar = match integer {
        Some(number) => Some(Scalar::Integer(number)),
        None => digits.parse().ok().filter(|number: &f64| number.is_finite()).map(Scalar::Real),
    };
    match scalar.filter(|_| plain) {
        Some(scalar) => Ok((Token::Literal(scalar), digits.len())),
        None => Err(format!("{digits} is not a number that can be compared with")),
    }
}
