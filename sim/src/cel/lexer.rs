//! Words of the language.

/// One word.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Name(String),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    Sign(&'static str),
}

/// Signs, the longer before those they begin with.
const SIGNS: [&str; 27] = [
    "&&", "||", "==", "!=", "<=", ">=", "[?", "?.", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", "(", ")", "[",
    "]", "{", "}", ",", ".", ";",
];

/// The words of a text.
pub(super) fn words(text: &str) -> Result<Vec<Token>, String> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if let Some((token, length)) = text_token(rest)? {
            found.push(token);
            length
        } else if first.is_ascii_digit() || (first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit())) {
            let (token, length) = number(rest)?;
            found.push(token);
            length
        } else if first.is_ascii_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
            found.push(Token::Name(rest[..end].to_owned()));
            end
        } else if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            found.push(Token::Sign(sign));
            sign.len()
        } else {
            return Err(format!("unexpected '{first}'"));
        };
        rest = rest[length..].trim_start();
    }
    Ok(found)
}

fn number(text: &str) -> Result<(Token, usize), String> {
    let wrong = |_| format!("not a number: {text}");
    if let Some(digits) = text.strip_prefix("0x") {
        let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
        let number = u64::from_str_radix(&digits[..end], 16).map_err(|_| format!("not a number: {text}"))?;
        let is_unsigned = digits[end..].starts_with(['u', 'U']);
        let token = if is_unsigned { Token::Uint(number) } else { Token::Int(number.cast_signed()) };
        return Ok((token, end + 2 + usize::from(is_unsigned)));
    }
    let mut end = 0;
    let mut is_whole = true;
    for (at, c) in text.char_indices() {
        let before = text[..at].chars().next_back();
        match c {
            '0'..='9' => {}
            '.' if text[at + 1..].starts_with(|c: char| c.is_ascii_digit()) => is_whole = false,
            'e' | 'E' => is_whole = false,
            '+' | '-' if before.is_some_and(|b| b == 'e' || b == 'E') => {}
            _ => break,
        }
        end = at + 1;
    }
    let digits = &text[..end];
    if !is_whole {
        return Ok((Token::Double(digits.parse().map_err(|_| format!("not a number: {text}"))?), end));
    }
    if text[end..].starts_with(['u', 'U']) {
        return Ok((Token::Uint(digits.parse().map_err(wrong)?), end + 1));
    }
    // The least number is written as the negative of one that is too large.
    let number = digits.parse::<u64>().map_err(wrong)?;
    Ok((Token::Int(number.cast_signed()), end))
}

/// A text in quotes with the length it takes, if one begins here.
fn text_token(text: &str) -> Result<Option<(Token, usize)>, String> {
    let prefix = text.find(['"', '\'']).filter(|at| *at <= 2).unwrap_or(usize::MAX);
    let Some(marks) = text.get(..prefix).filter(|marks| marks.chars().all(|c| "rRbB".contains(c))) else {
        return Ok(None);
    };
    let is_raw = marks.contains(['r', 'R']);
    let is_bytes = marks.contains(['b', 'B']);
    let quoted = &text[prefix..];
    let quote = if quoted.starts_with("'''") || quoted.starts_with("\"\"\"") { &quoted[..3] } else { &quoted[..1] };
    let mut content = String::new();
    let mut rest = quoted[quote.len()..].char_indices();
    while let Some((at, c)) = rest.next() {
        if quoted[quote.len() + at..].starts_with(quote) {
            let length = prefix + quote.len() + at + quote.len();
            let token = if is_bytes { Token::Bytes(content.into_bytes()) } else { Token::Text(content) };
            return Ok(Some((token, length)));
        }
        if c != '\\' || is_raw {
            content.push(c);
            continue;
        }
        let escaped = rest.next().map(|(_, c)| c).ok_or("a text does not end")?;
        let mut code = |digits: usize, radix: u32, first: String| {
            let digits = first + &rest.by_ref().take(digits).map(|(_, c)| c).collect::<String>();
            let number = u32::from_str_radix(&digits, radix).ok().and_then(char::from_u32);
            number.ok_or_else(|| format!("not a character: {digits}"))
        };
        content.push(match escaped {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'v' => '\u{b}',
            'x' | 'X' => code(2, 16, String::new())?,
            'u' => code(4, 16, String::new())?,
            'U' => code(8, 16, String::new())?,
            '0'..='3' => code(2, 8, escaped.to_string())?,
            other => other,
        });
    }
    Err("a text does not end".to_owned())
}
