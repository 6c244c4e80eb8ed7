//! Laws that hold for every object, well-formed or not.

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Map, Value, json};

use super::super::{
    Digest, GroupKind, ObjectId, Quantity, Shape, apply_partial, diff, get, health, permitted_create, permitted_update,
    remove, restore_paths, same, set, stated_paths, strip_server_fields,
};
use super::deployment_kind;

/// Names of fields with every meaning, so that random objects meet the schema.
const NAMES: [&str; 20] = [
    "metadata",
    "spec",
    "template",
    "containers",
    "initContainers",
    "env",
    "ports",
    "name",
    "image",
    "resources",
    "limits",
    "cpu",
    "labels",
    "annotations",
    "finalizers",
    "selector",
    "tolerations",
    "protocol",
    "containerPort",
    "status",
];

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0..4_u32).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        select(vec!["a", "b", "1", "1000m", "TCP", "", "/"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((select(NAMES.to_vec()), inner), 0..5).prop_map(|fields| {
                Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
            }),
        ]
    })
}

fn container() -> impl Strategy<Value = Value> {
    let env = vec((select(vec!["A", "B", "C", "D"]), 0..3_u32), 0..4);
    let cpu = select(vec!["1", "1000m", "2", "0.5"]);
    (select(vec!["a", "b", "c"]), 0..3_u32, env, cpu, any_json()).prop_map(|(name, image, env, cpu, extra)| {
        let env: Vec<Value> = env.into_iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
        json!({"name": name, "image": image, "env": env, "resources": {"limits": {"cpu": cpu}}, "args": extra})
    })
}

/// A Deployment, mostly well-formed: its lists may have duplicates, and arbitrary JSON stands in free places.
fn deployment() -> impl Strategy<Value = Value> {
    let lists = (vec(container(), 0..4), vec(container(), 0..4), vec(select(vec!["x", "y", "z"]), 0..3));
    (lists, any_json(), any_json(), 0..3_u32).prop_map(|((containers, first, finalizers), odd, odder, replicas)| {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "teller", "uid": "a1", "finalizers": finalizers, "labels": odder},
            "spec": {"replicas": replicas, "paused": odd, "template": {"spec": {
                "containers": containers, "initContainers": first,
            }}},
        })
    })
}

fn shape() -> Shape {
    Shape::of_kind(&deployment_kind())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_differs_from_itself(a in deployment(), b in any_json()) {
        prop_assert_eq!(diff(&deployment_kind(), &a, &a), vec![]);
        prop_assert_eq!(diff(&deployment_kind(), &b, &b), vec![]);
    }

    #[test]
    fn a_difference_is_empty_exactly_when_both_mean_the_same(a in deployment(), b in deployment()) {
        prop_assert_eq!(diff(&deployment_kind(), &a, &b).is_empty(), same(shape(), Some(&a), Some(&b)));
    }

    #[test]
    fn going_back_gives_the_state_before(a in deployment(), b in deployment(), c in any_json(), d in any_json()) {
        for (before, after) in [(&a, &b), (&a, &c), (&c, &a), (&c, &d)] {
            let changes = diff(&deployment_kind(), before, after);
            let (restored, conflicts) = restore_paths(&deployment_kind(), after, &changes);
            prop_assert!(same(shape(), Some(&restored), Some(before)), "{before}\n{after}\n{restored}");
            prop_assert_eq!(conflicts, vec![]);
        }
    }

    #[test]
    fn what_is_expected_is_permitted(old in deployment(), new in deployment()) {
        prop_assert_eq!(permitted_update(&deployment_kind(), &old, &new, &new), Ok(()));
        prop_assert_eq!(permitted_update(&deployment_kind(), &old, &old, &new), Ok(()));
        prop_assert_eq!(permitted_create(&deployment_kind(), &new, &new), Ok(()));
    }

    #[test]
    fn what_changes_otherwise_is_refused(old in deployment(), new in deployment(), extra in any_json()) {
        let is_same = |a: &Value, b: &Value| same(shape(), Some(a), Some(b));
        prop_assume!(!is_same(&old, &new));
        prop_assert!(permitted_update(&deployment_kind(), &old, &new, &old).is_err());
        prop_assert!(permitted_create(&deployment_kind(), &new, &old).is_err());
        let mut plus = new.clone();
        plus["spec"]["template"]["spec"]["securityContext"] = extra.clone();
        if !extra.is_null() {
            prop_assert!(permitted_update(&deployment_kind(), &old, &plus, &new).is_err());
            prop_assert!(permitted_create(&deployment_kind(), &plus, &new).is_err());
        }
    }

    #[test]
    fn applying_twice_is_applying_once(live in deployment(), manifest in deployment(), odd in any_json()) {
        for manifest in [&manifest, &odd] {
            let once = apply_partial(&deployment_kind(), Some(&live), manifest);
            let twice = apply_partial(&deployment_kind(), Some(&once), manifest);
            prop_assert!(same(shape(), Some(&once), Some(&twice)), "{live}\n{manifest}\n{once}\n{twice}");
        }
    }

    #[test]
    fn a_created_object_holds_what_the_manifest_states(manifest in deployment()) {
        let created = apply_partial(&deployment_kind(), None, &manifest);
        for (path, value) in stated_paths(&deployment_kind(), &manifest) {
            let shape = Shape::at(&deployment_kind(), &path);
            let found = get(&created, &path);
            prop_assert!(same(Shape::Free, found, Some(&value)) || same(shape, found, Some(&value))
                || value.to_string().contains("null"), "{path} {value} {found:?}");
        }
    }

    #[test]
    fn digests_do_not_see_the_order_of_keys(mut fields in vec((any::<String>(), any::<i32>()), 0..8)) {
        fields.sort();
        fields.dedup_by(|a, b| a.0 == b.0);
        let write = |fields: &[(String, i32)]| {
            let parts: Vec<String> =
                fields.iter().map(|(key, value)| format!("{}:{value}", serde_json::to_string(key).unwrap())).collect();
            Digest::of_canonical(&serde_json::from_str::<Value>(&format!("{{{}}}", parts.join(","))).unwrap()).unwrap()
        };
        let sorted = write(&fields);
        fields.reverse();
        prop_assert_eq!(write(&fields), sorted);
        prop_assert_eq!(sorted.to_string().parse::<Digest>().unwrap(), sorted);
    }

    #[test]
    fn quantities_agree_with_fractions(
        a in (-2000_i64..2000, 0..4_u32, select(SUFFIXES.to_vec())),
        b in (-2000_i64..2000, 0..4_u32, select(SUFFIXES.to_vec())),
    ) {
        let parse = |number: &(i64, u32, (&str, i128))| write(number.0, number.1, number.2.0).parse::<Quantity>().unwrap();
        let (left, right) = (fraction(&a), fraction(&b));
        prop_assert_eq!(parse(&a).cmp(&parse(&b)), left.cmp(&right));
        prop_assert_eq!(parse(&a) == parse(&b), left == right);
    }

    #[test]
    fn no_json_makes_anything_panic(a in any_json(), b in any_json(), c in any_json(), text in any::<String>()) {
        for kind in [deployment_kind(), GroupKind::new("", "Service"), GroupKind::new("", "Pod"), GroupKind::new("x", "Y")] {
            let changes = diff(&kind, &a, &b);
            let _ = restore_paths(&kind, &c, &changes);
            let _ = (permitted_update(&kind, &a, &b, &c), permitted_create(&kind, &b, &c));
            let applied = apply_partial(&kind, Some(&a), &b);
            for (path, value) in stated_paths(&kind, &applied) {
                let mut other = c.clone();
                let _ = (set(&mut other, &path, value), get(&other, &path).cloned(), remove(&mut other, &path));
            }
        }
        let mut stripped = a.clone();
        strip_server_fields(&mut stripped);
        let _ = (ObjectId::of(&a), Digest::of_canonical(&b), text.parse::<Quantity>(), text.parse::<super::super::PathPattern>());
        for kind in ["apps/v1 Deployment", "apps/v1 StatefulSet", "batch/v1 Job", "v1 Pod", "v1 Service", "x/v1 Y"] {
            let (version, name) = kind.split_once(' ').unwrap();
            let _ = health(&json!({"apiVersion": version, "kind": name, "metadata": a, "spec": b, "status": c}));
        }
    }
}

/// Suffixes with what they multiply by, in thousand-millionths, so that every amount is a whole number.
const SUFFIXES: [(&str, i128); 12] = [
    ("n", 1),
    ("u", 1_000),
    ("m", 1_000_000),
    ("", 1_000_000_000),
    ("k", 1_000_000_000_000),
    ("M", 1_000_000_000_000_000),
    ("G", 1_000_000_000_000_000_000),
    ("e1", 10_000_000_000),
    ("E-2", 10_000_000),
    ("Ki", 1_024_000_000_000),
    ("Mi", 1_048_576_000_000_000),
    ("Gi", 1_073_741_824_000_000_000),
];

fn write(number: i64, decimals: u32, suffix: &str) -> String {
    let scale = 10_i64.pow(decimals);
    let sign = if number < 0 { "-" } else { "" };
    let (whole, rest) = (number.abs() / scale, number.abs() % scale);
    let width = decimals as usize;
    if decimals == 0 { format!("{sign}{whole}{suffix}") } else { format!("{sign}{whole}.{rest:0width$}{suffix}") }
}

/// The amount times 10^12, with all three decimals brought to one denominator.
fn fraction((number, decimals, (_, unit)): &(i64, u32, (&str, i128))) -> i128 {
    i128::from(*number) * unit * 10_i128.pow(3 - decimals)
}
