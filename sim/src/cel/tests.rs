//! What expressions come to.

use serde_json::{Value, json};

use super::{Rule, Scope, Val};

fn outcome(rule: &str, of: &Value, schema: &Value) -> Result<bool, String> {
    let rule = Rule::read(rule);
    match rule.evaluate(Scope::default().with("self", Val::of(of, Some(schema)))) {
        Ok(Val::Bool(value)) => Ok(value),
        Ok(other) => Err(format!("{other:?}")),
        Err(why) => Err(why),
    }
}

#[test]
fn rules_that_hold() {
    let value = json!({
        "name": "web", "count": 3, "share": 0.5, "from": "2026-01-01T00:00:00+08:00", "until": "2025-12-31T17:00:00Z",
        "wait": "1h30m", "list": ["b", "a"], "set": ["a", "b"], "map": {"x": 1, "y": 2}, "a-b": true, "namespace": "n",
        "parts": [{"name": "p", "size": 1}, {"name": "q", "size": 5}], "memory": "1Gi",
    });
    let schema = json!({"properties": {
        "from": {"type": "string", "format": "date-time"}, "until": {"type": "string", "format": "date-time"},
        "wait": {"type": "string", "format": "duration"}, "share": {"type": "number"},
        "set": {"type": "array", "x-kubernetes-list-type": "set"},
    }});
    for rule in [
        "self.name == 'web' && self.count >= 3 && !(self.share > 0.5)",
        "self.from < self.until && self.until - self.from == duration('1h')",
        "self.wait > duration('1h') && self.wait.getMinutes() == 90",
        "self.until > timestamp('2025-01-01T00:00:00Z') && self.until.getFullYear() == 2025",
        "has(self.name) && !has(self.nothing) && (has(self.nothing) ? false : true)",
        "self.list != ['a', 'b'] && self.set == ['b', 'a']",
        "self.list.exists(i, i == 'a') && self.list.all(i, i.size() == 1) && self.list.exists_one(i, i == 'b')",
        "self.parts.filter(p, p.size > 1).map(p, p.name) == ['q'] && self.parts.map(p, p.size > 1, p.name) == ['q']",
        "'x' in self.map && !('z' in self.map) && self.map['y'] == 2 && self.map.y == 2 && size(self.map) == 2",
        "self.map.all(k, self.map[k] > 0) && 'a' in self.list",
        "self.a__dash__b && self.__namespace__ == 'n'",
        "1 + 2 * 3 == 7 && -(2) == -2 && 7 / 2 == 3 && -7 % 3 == -1 && 1u + 1u == 2u && 0x10 == 16",
        "(has(self.name) ? 1 : 0) + (has(self.nope) ? 1 : 0) == 1",
        "self.name.startsWith('w') && self.name.endsWith('b') && self.name.contains('e') && self.name.matches('^[a-z]+$')",
        "'a,b'.split(',') == ['a', 'b'] && ['a', 'b'].join('-') == 'a-b' && 'Ab'.lowerAscii() == 'ab'",
        "'abcd'.substring(1, 3) == 'bc' && 'abcd'.indexOf('c') == 2 && 'a-b'.replace('-', '+') == 'a+b' && ' x '.trim() == 'x'",
        "quantity(self.memory).isGreaterThan(quantity('500Mi')) && isQuantity('5m') && !isQuantity('x')",
        "[1, 2, 3].sum() == 6 && [1, 2].isSorted() && [3, 1].min() == 1 && [3, 1].max() == 3 && [1, 2].indexOf(2) == 1",
        "sets.contains([1, 2, 3], [3]) && sets.equivalent([1, 2], [2, 1]) && !sets.intersects([1], [2])",
        "int('5') == 5 && string(5) == '5' && double(2) == 2.0 && type(5) == int && bool('true')",
        "self.?nothing.orValue('x') == 'x' && self.?name.hasValue() && self[?'name'].value() == 'web'",
        r#"r'\d' == "\\d" && '\u00fc' == 'ü' && """a"b""" == 'a"b'"#,
        "true || self.nothing == 1",
        "!(self.nothing == 1 && false)",
        "[0, 1].exists(i, 1 / i == 1)",
        "self.count == 3.0 && {'a': 1} == {'a': 1} && null == null && self.name != 5",
        "'ünï'.size() == 3 && b'abc'.size() == 3 // the rest is a comment",
    ] {
        assert_eq!(outcome(rule, &value, &schema), Ok(true), "{rule}");
    }
}

#[test]
fn rules_that_come_to_nothing() {
    for (rule, why) in [
        ("self.nothing == 1", "no such key: nothing"),
        ("self['x'] == 1", "no such key: x"),
        ("[1][3] == 1", "index out of bounds: 3"),
        ("1 / 0 == 1", "division by zero"),
        ("9223372036854775807 + 1 > 0", "integer overflow"),
        ("'a' < 1", "no such overload"),
        ("!5", "no such overload"),
        ("nobody", "undeclared reference to 'nobody'"),
        ("ip('10.0.0.1').family() == 4", "the simulation has no function ip() for string"),
        ("1 +", "the rule cannot be read: the expression does not end"),
        ("'abc", "the rule cannot be read: a text does not end"),
        ("a b", "the rule cannot be read: unexpected Name(\"b\")"),
        ("has(5)", "the rule cannot be read: has() takes one field"),
    ] {
        assert_eq!(outcome(rule, &json!({}), &json!({})), Err(why.to_owned()), "{rule}");
    }
    let deep = format!("{}1{}", "(".repeat(150), ")".repeat(150));
    assert!(outcome(&deep, &json!({}), &json!({})).unwrap_err().contains("nested too deeply"));
    let long = format!("1{} > 0", " + 1".repeat(5000));
    assert!(outcome(&long, &json!({}), &json!({})).unwrap_err().contains("more than 600 words"));
}

#[test]
fn the_longest_rule_fits_on_the_stack() {
    assert_eq!(outcome(&format!("1{} > 0", " + 1".repeat(295)), &json!({}), &json!({})), Ok(true));
    let chain = format!("self{} == 1", ".a".repeat(295));
    assert_eq!(outcome(&chain, &json!({}), &json!({})), Err("no such key: a".to_owned()));
}

#[test]
fn a_rule_that_speaks_of_before_is_one_of_transitions() {
    assert!(Rule::read("self.list.all(x, x in oldSelf.list)").is_transition);
    assert!(!Rule::read("self.list.all(x, x in self.list)").is_transition);
}
