//! Functions: those of the language, and of Kubernetes those on texts, lists, sets, quantities and patterns.

use interlock_core::object::Quantity;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::value::{List, Val};
use crate::api::pattern;

type Outcome<'a> = Result<Val<'a>, String>;

/// Calls a function; what it is called on is the first argument.
pub(super) fn call<'a>(name: &str, arguments: &[Val<'a>]) -> Outcome<'a> {
    let answer = match arguments {
        [] if name == "optional.none" => Some(Ok(Val::Optional(None))),
        [one] => of_one(name, one),
        [Val::Text(text), rest @ ..] => of_text(name, text, rest),
        [Val::List(list), rest @ ..] => of_list(name, list, rest),
        [Val::Quantity(a), Val::Quantity(b)] => of_quantities(name, a, b).map(Ok),
        [Val::Optional(None), other] if name == "or" || name == "orValue" => Some(Ok(other.clone())),
        _ => None,
    };
    answer.unwrap_or_else(|| Err(format!("the simulation has no function {name}() for {}", sorts(arguments))))
}

fn sorts(arguments: &[Val<'_>]) -> String {
    arguments.iter().map(Val::type_name).collect::<Vec<_>>().join(", ")
}

fn of_one<'a>(name: &str, one: &Val<'a>) -> Option<Outcome<'a>> {
    let failed = |why: &str| Some(Err(why.to_owned()));
    Some(Ok(match (name, one) {
        ("size", Val::Text(text)) => Val::Int(text.chars().count() as i64),
        ("size", Val::Bytes(bytes)) => Val::Int(bytes.len() as i64),
        ("size", Val::List(list)) => Val::Int(list.len() as i64),
        ("size", Val::Map(map)) => Val::Int(map.len() as i64),
        ("dyn", other) => other.clone(),
        ("type", other) => Val::Type(other.type_name()),
        ("int" | "uint" | "double" | "string" | "bool" | "bytes" | "timestamp" | "duration", _) => {
            return Some(convert(name, one));
        }
        ("quantity", Val::Text(text)) => match text.parse() {
            Ok(quantity) => Val::Quantity(quantity),
            Err(_) => return failed("error parsing quantity"),
        },
        ("isQuantity", Val::Text(text)) => Val::Bool(text.parse::<Quantity>().is_ok()),
        ("lowerAscii", Val::Text(text)) => Val::text(text.to_ascii_lowercase()),
        ("upperAscii", Val::Text(text)) => Val::text(text.to_ascii_uppercase()),
        ("trim", Val::Text(text)) => Val::text(text.trim()),
        ("reverse", Val::Text(text)) => Val::text(text.chars().rev().collect::<String>()),
        ("join", Val::List(list)) => return Some(join(list, "")),
        ("isSorted", Val::List(list)) => {
            let items = list.items();
            let pairs = items.iter().zip(items.iter().skip(1));
            Val::Bool(pairs.into_iter().all(|(a, b)| a.compare(b).is_some_and(std::cmp::Ordering::is_le)))
        }
        ("sum", Val::List(list)) => {
            let items = list.items();
            let mut sum = items.first().map_or(Val::Int(0), |first| match first {
                Val::Double(_) => Val::Double(0.0),
                Val::Uint(_) => Val::Uint(0),
                Val::Span(_) => Val::Span(SignedDuration::ZERO),
                _ => Val::Int(0),
            });
            for item in &items {
                sum = match arithmetic("+", &sum, item) {
                    Ok(sum) => sum,
                    Err(why) => return Some(Err(why)),
                };
            }
            sum
        }
        ("min" | "max" | "math.least" | "math.greatest", Val::List(list)) => return Some(extreme(name, list)),
        ("hasValue", Val::Optional(inner)) => Val::Bool(inner.is_some()),
        ("value", Val::Optional(Some(inner))) => (**inner).clone(),
        ("value", Val::Optional(None)) => return failed("optional.none() dereference"),
        ("optional.of", other) => Val::Optional(Some(Box::new(other.clone()))),
        (field, Val::Time(time)) => return part_of_time(field, *time).map(Ok),
        (field, Val::Span(span)) => return part_of_span(field, *span).map(Ok),
        _ => return None,
    }))
}

fn convert<'a>(to: &str, from: &Val<'a>) -> Outcome<'a> {
    let wrong = || format!("type conversion error from '{}' to '{to}'", from.type_name());
    let range = || "integer overflow".to_owned();
    match (to, from) {
        ("int", Val::Int(_)) | ("uint", Val::Uint(_)) | ("double", Val::Double(_)) | ("string", Val::Text(_)) => {
            Ok(from.clone())
        }
        ("bool", Val::Bool(_)) | ("bytes", Val::Bytes(_)) => Ok(from.clone()),
        ("timestamp", Val::Time(_)) | ("duration", Val::Span(_)) => Ok(from.clone()),
        ("int", Val::Uint(number)) => i64::try_from(*number).map(Val::Int).map_err(|_| range()),
        ("int", Val::Double(number)) if number.abs() < 9.2e18 => Ok(Val::Int(number.trunc() as i64)),
        ("int", Val::Text(text)) => text.parse().map(Val::Int).map_err(|_| wrong()),
        ("int", Val::Time(time)) => Ok(Val::Int(time.as_second())),
        ("uint", Val::Int(number)) => u64::try_from(*number).map(Val::Uint).map_err(|_| range()),
        ("uint", Val::Text(text)) => text.parse().map(Val::Uint).map_err(|_| wrong()),
        ("double", Val::Int(number)) => Ok(Val::Double(*number as f64)),
        ("double", Val::Uint(number)) => Ok(Val::Double(*number as f64)),
        ("double", Val::Text(text)) => text.parse().map(Val::Double).map_err(|_| wrong()),
        ("bool", Val::Text(text)) => text.parse().map(Val::Bool).map_err(|_| wrong()),
        ("bytes", Val::Text(text)) => Ok(Val::Bytes(text.as_bytes().to_vec())),
        ("string", Val::Bytes(bytes)) => String::from_utf8(bytes.clone()).map(Val::text).map_err(|_| wrong()),
        ("string", Val::Int(_) | Val::Uint(_) | Val::Double(_) | Val::Bool(_) | Val::Time(_)) => {
            Ok(Val::text(shown(from)))
        }
        ("string", Val::Span(span)) => Ok(Val::text(format!("{}s", span.as_secs_f64()))),
        ("timestamp", Val::Text(text)) => text.parse().map(Val::Time).map_err(|_| wrong()),
        ("timestamp", Val::Int(seconds)) => Timestamp::from_second(*seconds).map(Val::Time).map_err(|_| wrong()),
        ("duration", Val::Text(text)) => span(text).map(Val::Span).ok_or_else(wrong),
        _ => Err("no such overload".to_owned()),
    }
}

fn of_text<'a>(name: &str, text: &str, rest: &[Val<'a>]) -> Option<Outcome<'a>> {
    let chars = || text.chars().collect::<Vec<_>>();
    let slice = |from: i64, to: i64| -> Outcome<'a> {
        let chars = chars();
        let bounds = (usize::try_from(from).ok(), usize::try_from(to).ok());
        let part = if let (Some(from), Some(to)) = bounds { chars.get(from..to) } else { None };
        part.map(|part| Val::text(part.iter().collect::<String>())).ok_or_else(|| format!("index out of range: {from}"))
    };
    // Places are counted in characters.
    let place =
        |found: Option<usize>| found.map_or(-1, |at| text.get(..at).map_or(0, |part| part.chars().count()) as i64);
    Some(Ok(match (name, rest) {
        ("startsWith", [Val::Text(part)]) => Val::Bool(text.starts_with(part.as_ref())),
        ("endsWith", [Val::Text(part)]) => Val::Bool(text.ends_with(part.as_ref())),
        ("contains", [Val::Text(part)]) => Val::Bool(text.contains(part.as_ref())),
        ("matches" | "find" | "findAll", [Val::Text(wanted)]) => {
            let Some(regex) = pattern(wanted) else {
                return Some(Err(format!("error parsing regexp: {wanted}")));
            };
            let mut found = regex.find_iter(text).map(|found| found.as_str().to_owned());
            match name {
                "matches" => Val::Bool(regex.is_match(text)),
                "find" => Val::text(found.next().unwrap_or_default()),
                _ => Val::List(List::Made(found.map(Val::text).collect())),
            }
        }
        ("indexOf", [Val::Text(part)]) => Val::Int(place(text.find(part.as_ref()))),
        ("lastIndexOf", [Val::Text(part)]) => Val::Int(place(text.rfind(part.as_ref()))),
        ("charAt", [Val::Int(at)]) => return Some(slice(*at, at.saturating_add(1))),
        ("substring", [Val::Int(from)]) => return Some(slice(*from, text.chars().count() as i64)),
        ("substring", [Val::Int(from), Val::Int(to)]) => return Some(slice(*from, *to)),
        ("replace", [Val::Text(old), Val::Text(new)]) => Val::text(text.replace(old.as_ref(), new)),
        ("split", [Val::Text(by)]) if by.is_empty() => {
            Val::List(List::Made(chars().into_iter().map(|c| Val::text(c.to_string())).collect()))
        }
        ("split", [Val::Text(by)]) => Val::List(List::Made(text.split(by.as_ref()).map(Val::text).collect())),
        ("split", [Val::Text(by), Val::Int(most)]) => {
            let most = usize::try_from(*most).unwrap_or(usize::MAX);
            Val::List(List::Made(text.splitn(most, by.as_ref()).map(Val::text).collect()))
        }
        _ => return None,
    }))
}

fn of_list<'a>(name: &str, list: &List<'a>, rest: &[Val<'a>]) -> Option<Outcome<'a>> {
    let has_all = |a: &List<'a>, b: &List<'a>| b.items().iter().all(|item| a.contains(item));
    let place = |found: Option<usize>| Val::Int(found.map_or(-1, |at| at as i64));
    Some(Ok(match (name, rest) {
        ("join", [Val::Text(by)]) => return Some(join(list, by)),
        ("indexOf", [wanted]) => place(list.items().iter().position(|item| item.equals(wanted))),
        ("lastIndexOf", [wanted]) => place(list.items().iter().rposition(|item| item.equals(wanted))),
        ("sets.contains", [Val::List(other)]) => Val::Bool(has_all(list, other)),
        ("sets.equivalent", [Val::List(other)]) => Val::Bool(has_all(list, other) && has_all(other, list)),
        ("sets.intersects", [Val::List(other)]) => Val::Bool(other.items().iter().any(|item| list.contains(item))),
        _ => return None,
    }))
}

fn join<'a>(list: &List<'a>, by: &str) -> Outcome<'a> {
    let texts = list.items().into_iter().map(|item| match item {
        Val::Text(text) => Ok(text.into_owned()),
        _ => Err("no such overload".to_owned()),
    });
    Ok(Val::text(texts.collect::<Result<Vec<_>, _>>()?.join(by)))
}

fn extreme<'a>(name: &str, list: &List<'a>) -> Outcome<'a> {
    let wanted =
        if name == "min" || name == "math.least" { std::cmp::Ordering::Less } else { std::cmp::Ordering::Greater };
    let better = |best: Val<'a>, item: Val<'a>| if item.compare(&best) == Some(wanted) { item } else { best };
    list.items().into_iter().reduce(better).ok_or_else(|| format!("{name} called on empty list"))
}

fn of_quantities<'a>(name: &str, a: &Quantity, b: &Quantity) -> Option<Val<'a>> {
    Some(match name {
        "isGreaterThan" => Val::Bool(a > b),
        "isLessThan" => Val::Bool(a < b),
        "compareTo" => Val::Int(a.cmp(b) as i64),
        _ => return None,
    })
}

fn part_of_time(field: &str, time: Timestamp) -> Option<Val<'static>> {
    let at = time.to_zoned(TimeZone::UTC);
    Some(Val::Int(match field {
        "getFullYear" => i64::from(at.year()),
        "getMonth" => i64::from(at.month()) - 1,
        "getDate" => i64::from(at.day()),
        "getDayOfMonth" => i64::from(at.day()) - 1,
        "getDayOfWeek" => i64::from(at.weekday().to_sunday_zero_offset()),
        "getDayOfYear" => i64::from(at.day_of_year()) - 1,
        "getHours" => i64::from(at.hour()),
        "getMinutes" => i64::from(at.minute()),
        "getSeconds" => i64::from(at.second()),
        "getMilliseconds" => i64::from(at.millisecond()),
        _ => return None,
    }))
}

fn part_of_span(field: &str, span: SignedDuration) -> Option<Val<'static>> {
    Some(Val::Int(match field {
        "getHours" => span.as_hours(),
        "getMinutes" => span.as_mins(),
        "getSeconds" => span.as_secs(),
        "getMilliseconds" => i64::try_from(span.as_millis()).unwrap_or(i64::MAX),
        _ => return None,
    }))
}

/// `+`, `-`, `*`, `/`, `%`.
pub(super) fn arithmetic<'a>(sign: &str, left: &Val<'a>, right: &Val<'a>) -> Outcome<'a> {
    let overflow = || "integer overflow".to_owned();
    let zero = |is_zero: bool| -> Result<(), String> {
        match sign {
            "/" if is_zero => Err("division by zero".to_owned()),
            "%" if is_zero => Err("modulus by zero".to_owned()),
            _ => Ok(()),
        }
    };
    Ok(match (sign, left, right) {
        (_, Val::Int(a), Val::Int(b)) => {
            zero(*b == 0)?;
            let answer = match sign {
                "+" => a.checked_add(*b),
                "-" => a.checked_sub(*b),
                "*" => a.checked_mul(*b),
                "/" => a.checked_div(*b),
                _ => a.checked_rem(*b),
            };
            Val::Int(answer.ok_or_else(overflow)?)
        }
        (_, Val::Uint(a), Val::Uint(b)) => {
            zero(*b == 0)?;
            let answer = match sign {
                "+" => a.checked_add(*b),
                "-" => a.checked_sub(*b),
                "*" => a.checked_mul(*b),
                "/" => a.checked_div(*b),
                _ => a.checked_rem(*b),
            };
            Val::Uint(answer.ok_or_else(overflow)?)
        }
        ("+", Val::Double(a), Val::Double(b)) => Val::Double(a + b),
        ("-", Val::Double(a), Val::Double(b)) => Val::Double(a - b),
        ("*", Val::Double(a), Val::Double(b)) => Val::Double(a * b),
        ("/", Val::Double(a), Val::Double(b)) => Val::Double(a / b),
        ("+", Val::Text(a), Val::Text(b)) => Val::text(format!("{a}{b}")),
        ("+", Val::Bytes(a), Val::Bytes(b)) => Val::Bytes([a.as_slice(), b.as_slice()].concat()),
        ("+", Val::List(a), Val::List(b)) => {
            let mut items = a.items();
            let is_set = a.sort() == "set";
            items.extend(b.items().into_iter().filter(|item| !is_set || !a.contains(item)));
            Val::List(List::Made(items))
        }
        ("+", Val::Time(time), Val::Span(span)) | ("+", Val::Span(span), Val::Time(time)) => {
            Val::Time(time.checked_add(*span).map_err(|_| "timestamp overflow")?)
        }
        ("-", Val::Time(time), Val::Span(span)) => {
            Val::Time(time.checked_sub(*span).map_err(|_| "timestamp overflow")?)
        }
        ("-", Val::Time(a), Val::Time(b)) => Val::Span(a.duration_since(*b)),
        ("+", Val::Span(a), Val::Span(b)) => Val::Span(a.checked_add(*b).ok_or("duration overflow")?),
        ("-", Val::Span(a), Val::Span(b)) => Val::Span(a.checked_sub(*b).ok_or("duration overflow")?),
        _ => return Err("no such overload".to_owned()),
    })
}

/// A duration as Go writes it, `1h30m` or `1.5s`.
pub(super) fn span(text: &str) -> Option<SignedDuration> {
    const UNITS: [(&str, f64); 8] =
        [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("μs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let (is_negative, mut rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    let mut nanoseconds = 0_i128;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, after) = rest.split_at(end);
        let stop = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(stop);
        let seconds = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        nanoseconds += (number.parse::<f64>().ok()? * seconds * 1e9).round() as i128;
        rest = after;
    }
    let nanoseconds = i64::try_from(if is_negative { -nanoseconds } else { nanoseconds }).ok()?;
    (!text.is_empty()).then(|| SignedDuration::from_nanos(nanoseconds))
}

/// A value in a message.
pub(super) fn shown(value: &Val<'_>) -> String {
    match value {
        Val::Null => "null".to_owned(),
        Val::Bool(value) => value.to_string(),
        Val::Int(number) => number.to_string(),
        Val::Uint(number) => number.to_string(),
        Val::Double(number) => number.to_string(),
        Val::Text(text) => text.to_string(),
        Val::Time(time) => time.to_string(),
        other => other.type_name().to_owned(),
    }
}
