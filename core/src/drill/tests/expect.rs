//! D8, D18: one number or boolean, a condition, and the digest of the question.

use super::drill_spec;
use crate::drill::expect::{Scalar, condition, holds, query_digest};

#[test]
fn d8_a_result_holds_only_if_its_condition_says_so() {
    let number = |expect: &str, value| holds(expect, Scalar::Number(value));
    assert_eq!(number("result > 1000", 1_001.0), Ok(true));
    assert_eq!(number("result > 1000", 1_000.0), Ok(false));
    assert_eq!(number("result > 1000", 1_000.5), Ok(true), "a whole number in the condition, a fraction in the data");
    assert_eq!(number("result % 2 == 0", 4.0), Ok(true));
    for (expect, value) in [
        ("result > 0", 1.0),
        ("result > 0.0", 1.0),
        ("result >= 5", 5.5),
        ("result >= 5.0", 5.0),
        ("result * 100 == 25", 0.25),
        ("result / 2 == 2.5", 5.0),
        ("result % 2 == 1 && result * 3 == 21", 7.0),
    ] {
        assert_eq!(number(expect, value), Ok(true), "{expect}");
    }
    assert_eq!(number("result >= 0.5 && result < 1.5", 0.75), Ok(true));
    assert_eq!(holds("result", Scalar::Boolean(false)), Ok(false));
    assert_eq!(holds("result == true", Scalar::Boolean(true)), Ok(true));
    assert_eq!(holds("!result", Scalar::Boolean(false)), Ok(true));
    assert!(holds("result", Scalar::Number(1.0)).is_err(), "a number is not true");
    assert!(holds("!result", Scalar::Number(0.0)).is_err());
    assert!(number("result / 0 == 1", 4.0).is_err());
}

#[test]
fn a_condition_that_looks_at_nothing_or_is_not_bounded_is_refused() {
    for wrong in [
        "",
        "true",
        "1 > 0",
        "result >",
        "status == 200",
        "result.x == 1",
        "[1, 2].map(x, x + 1)[0] == result",
        "size(result) > 1",
    ] {
        assert!(condition(wrong).is_err(), "{wrong}");
    }
    assert!(condition(&"!".repeat(600)).is_err());
    assert_eq!(
        condition("result[0] >= 5").err().as_deref(),
        Some(
            "it fits neither a number nor a boolean, such as result > 0 does: a position in brackets does not work with a double and a whole number"
        )
    );
    for right in ["result > 1000", "result == 3", "result", "!result", "result >= 0.5", "double(result) > 1.0"] {
        assert!(condition(right).is_ok(), "{right}: {:?}", condition(right).err());
    }
}

#[test]
fn what_psql_prints_is_one_number_or_boolean_or_nothing() {
    assert_eq!(Scalar::parse(" 42\n"), Some(Scalar::Number(42.0)));
    assert_eq!(Scalar::parse("t"), Some(Scalar::Boolean(true)));
    assert_eq!(Scalar::parse("f"), Some(Scalar::Boolean(false)));
    for nothing in ["", "NaN", "Infinity", "alice", "1|2", "1\n2"] {
        assert_eq!(Scalar::parse(nothing), None, "{nothing}");
    }
}

#[test]
fn d18_the_digest_tells_which_question_was_asked() {
    let spec = drill_spec(|_| ());
    let mut other = spec.clone();
    other.validations[0].name = "renamed".into();
    assert_eq!(query_digest(&spec.validations[0]), query_digest(&other.validations[0]));
    other.validations[0].sql.as_mut().unwrap().query.push(' ');
    assert_ne!(query_digest(&spec.validations[0]), query_digest(&other.validations[0]));
    other.validations[0].sql =
        spec.validations[0].sql.clone().map(|sql| interlock_crds::SqlValidation { expect: "result > 1".into(), ..sql });
    assert_ne!(query_digest(&spec.validations[0]), query_digest(&other.validations[0]));
}
