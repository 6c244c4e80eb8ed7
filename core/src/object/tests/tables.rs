//! Tables: identities, digests, quantities, paths, patterns, the schema and the order of kinds.

use serde_json::{Value, json};

use super::super::{
    CanonicalError, Digest, GroupKind, ObjectError, ObjectId, Path, PathPattern, Quantity, Rank, Segment, Shape,
    apply_order, canonical_json, delete_order, destroys_data, get, rank, remove, same, schema_gen, set,
    strip_server_fields,
};
use super::{POD, deployment_kind, teller, with};

#[test]
fn an_object_is_named_by_what_it_states() {
    let id = ObjectId::of(&teller()).unwrap();
    assert_eq!(id.to_string(), "apps/Deployment teller/teller");
    assert_eq!(id.key(), "apps/Deployment/teller/teller");
    assert_eq!(id.api_version(), "apps/v1");
    let older = ObjectId::of(&with(teller(), "/apiVersion", json!("apps/v1beta1"))).unwrap();
    assert!(id.same_object(&older) && id != older);
    let zone = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "vault", "namespace": ""}});
    assert_eq!(ObjectId::of(&zone).unwrap().to_string(), "Namespace vault");
    assert_eq!(ObjectId::of(&zone).unwrap().key(), "/Namespace//vault");
}

#[test]
fn what_cannot_be_named_is_refused() {
    let of = |value: Value| ObjectId::of(&value).unwrap_err();
    assert_eq!(of(json!([])), ObjectError::NotAnObject { found: "a list" });
    assert_eq!(of(json!({})), ObjectError::Missing { field: "apiVersion" });
    for version in ["/v1", "a/b/v1", "apps/", "/"] {
        let error = of(json!({"apiVersion": version, "kind": "X", "metadata": {"name": "a"}}));
        assert!(matches!(error, ObjectError::Invalid { field: "apiVersion", .. }), "{version}: {error}");
    }
    let error = of(json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": "a/b"}}));
    assert!(matches!(error, ObjectError::Invalid { field: "metadata.name", .. }));
    assert_eq!(
        of(json!({"apiVersion": "v1", "kind": "X", "metadata": 3})),
        ObjectError::Missing { field: "metadata.name" }
    );
}

#[test]
fn canonical_bytes_and_digests_follow_rfc_8785() {
    let bytes = canonical_json(&json!({"b": [1.0, "\u{20ac}", null], "a": {"z": 1e-7, "y": true}})).unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), "{\"a\":{\"y\":true,\"z\":1e-7},\"b\":[1,\"\u{20ac}\",null]}");
    let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(Digest::of_bytes(b"").to_string(), empty);
    assert_eq!(empty.parse(), Ok(Digest::of_bytes(b"")));
    assert_eq!(serde_json::from_value::<Digest>(json!(empty)).unwrap(), Digest::of_bytes(b""));
    for wrong in [&empty[7..], &empty[..70], &empty.to_uppercase(), "sha256:", "md5:00", &format!("{empty}0")] {
        assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
    }
}

#[test]
fn numbers_that_lose_digits_have_no_digest() {
    let text = r#"{"spec":{"limits":[1,9007199254740993]}}"#;
    let error = Digest::of_canonical(&serde_json::from_str::<Value>(text).unwrap()).unwrap_err();
    assert_eq!(error, CanonicalError::Number { path: "/spec/limits/1".into(), number: "9007199254740993".into() });
    for refused in ["-9007199254740992", "18446744073709551615", "100000000000000000000001", "1e300"] {
        assert!(canonical_json(&serde_json::from_str(refused).unwrap()).is_err(), "{refused}");
    }
    assert_eq!(canonical_json(&json!(-9_007_199_254_740_991_i64)).unwrap(), b"-9007199254740991");
}

#[test]
fn the_servers_fields_are_stripped_and_nothing_else() {
    let mut object = with(
        teller(),
        "/metadata/annotations",
        json!({
            "kubectl.kubernetes.io/last-applied-configuration": "{}",
        }),
    );
    object = with(object, "/metadata/creationTimestamp", json!(null));
    strip_server_fields(&mut object);
    assert_eq!(object["metadata"], json!({"name": "teller", "namespace": "teller", "labels": {"app": "teller"}}));
    assert!(object.get("status").is_none());
    let mut kept = json!({"metadata": {"annotations": {}, "labels": {}}, "spec": {"status": 1}});
    strip_server_fields(&mut kept);
    assert_eq!(kept, json!({"metadata": {"annotations": {}, "labels": {}}, "spec": {"status": 1}}));
}

#[test]
fn quantities_are_amounts() {
    let equal = [
        ("1000m", "1"),
        ("1Gi", "1024Mi"),
        ("0.5", "500m"),
        ("1e3", "1k"),
        ("1E3", "1000"),
        ("1E", "1000P"),
        (".5", "0.5"),
        ("5.", "5"),
        ("+1", "1"),
        ("-0", "0"),
        ("0.0Ki", "0n"),
        ("1.5Gi", "1536Mi"),
        ("1e-3", "1m"),
        ("1000000n", "1m"),
        ("1000u", "1m"),
        ("2Ei", "2048Pi"),
        ("007", "7"),
    ];
    for (a, b) in equal {
        assert_eq!(a.parse::<Quantity>().unwrap(), b.parse::<Quantity>().unwrap(), "{a} {b}");
    }
    for (less, more) in [("999m", "1"), ("1G", "1Gi"), ("-2", "-1"), ("-1", "0"), ("0", "1n"), ("9", "10")] {
        assert!(less.parse::<Quantity>().unwrap() < more.parse::<Quantity>().unwrap(), "{less} {more}");
    }
    for wrong in ["", "-", ".", "1.2.3", "1 Gi", "Gi", "1e", "1ee3", "1mi", "1K", "0x1", "--1", "1e3.5", "\u{0661}"] {
        assert!(wrong.parse::<Quantity>().is_err(), "{wrong}");
    }
    assert_eq!(Quantity::of(&json!(0.5)), Quantity::of(&json!("500m")));
    assert_eq!(Quantity::of(&json!(["1"])), None);
}

#[test]
fn paths_read_like_places() {
    let image = Path::of_keys(["spec", "template", "spec", "containers"]).item("name", "teller").key("image");
    assert_eq!(image.to_string(), "/spec/template/spec/containers[name=teller]/image");
    assert_eq!(Path::of_keys(["metadata", "annotations", "a.b/c~d"]).to_string(), "/metadata/annotations/a.b~1c~0d");
    let port: Path = [
        Segment::Key("ports".into()),
        Segment::Select { keys: [("port".into(), json!(80)), ("protocol".into(), json!("TCP"))].into() },
    ]
    .into_iter()
    .collect();
    assert_eq!(port.to_string(), "/ports[port=80,protocol=TCP]");
    assert_eq!(Path::root().to_string(), "/");
    let stored = serde_json::to_value(&port).unwrap();
    assert_eq!(serde_json::from_value::<Path>(stored).unwrap(), port);
}

#[test]
fn patterns_match_step_by_step() {
    let image = Path::of_keys(["spec", "containers"]).item("name", "teller").key("image");
    let order: Path = [Segment::Key("env".into()), Segment::Order].into_iter().collect();
    let table = [
        ("/spec/containers/*/image", true, true),
        ("/spec/containers[name=teller]/image", true, true),
        ("/spec/containers[name=proxy]/image", false, false),
        ("/spec/*[name=teller]/image", true, true),
        ("/spec/containers/*", false, true),
        ("/spec/containers/*/image/*", false, false),
        ("/", false, true),
        ("/spec/containers/image", false, false),
    ];
    for (text, matches, covers) in table {
        let pattern: PathPattern = text.parse().unwrap();
        assert_eq!((pattern.matches(&image), pattern.covers(&image)), (matches, covers), "{text}");
    }
    assert!(!"/env/*".parse::<PathPattern>().unwrap().matches(&order));
    assert!("/env".parse::<PathPattern>().unwrap().covers(&order));
    let label = Path::of_keys(["metadata", "labels", "a/b"]);
    assert!("/metadata/labels/a~1b".parse::<PathPattern>().unwrap().matches(&label));
    for wrong in
        ["", "spec", "/spec//image", "/spec/", "/spec/c[name]", "/spec/c[name=a", "/spec/c[=a]", "/c[a=b][c=d]"]
    {
        assert!(wrong.parse::<PathPattern>().is_err(), "{wrong}");
    }
}

#[test]
fn places_are_read_written_and_removed() {
    let mut object = teller();
    let teller = Path::of_keys(["spec", "template", "spec", "containers"]).item("name", "teller");
    let port = |protocol: &str| Segment::Select {
        keys: [("containerPort".into(), json!(8080)), ("protocol".into(), json!(protocol))].into(),
    };
    let mut ports = teller.clone().key("ports");
    ports.push(port("TCP"));
    assert!(get(&object, &ports).is_some());
    assert!(set(&mut object, &ports.clone().key("protocol"), Value::Null));
    assert!(get(&object, &ports).is_some(), "TCP is the default protocol of a port");
    assert!(set(&mut object, &teller.clone().key("securityContext").key("runAsNonRoot"), json!(true)));
    assert_eq!(get(&object, &teller.clone().key("securityContext")), Some(&json!({"runAsNonRoot": true})));
    let nobody = Path::of_keys(["spec", "template", "spec", "containers"]).item("name", "nobody");
    let before = object.clone();
    assert!(!set(&mut object, &nobody.clone().key("image"), json!("x")), "no half container");
    assert!(!set(&mut object, &Path::of_keys(["spec", "replicas", "x"]), json!(1)));
    assert_eq!(object, before);
    assert!(set(&mut object, &nobody, json!({"name": "nobody"})));
    assert_eq!(remove(&mut object, &nobody), Some(json!({"name": "nobody"})));
    assert_eq!(remove(&mut object, &nobody), None);
}

#[test]
fn the_schema_knows_the_lists_of_kubernetes() {
    let keys = |group: &str, kind: &str, path: &[&str]| {
        let shape = path.iter().fold(Shape::of_kind(&GroupKind::new(group, kind)), |shape, step| match *step {
            "*" => shape.item(),
            name => shape.field(name),
        });
        match shape {
            Shape::ListMap { keys, .. } => keys.join(","),
            other => format!("{other:?}"),
        }
    };
    let parents: [(&str, &str, &[&str]); 8] = [
        ("", "Pod", &["spec"]),
        ("", "ReplicationController", &["spec", "template", "spec"]),
        ("apps", "Deployment", &["spec", "template", "spec"]),
        ("apps", "StatefulSet", &["spec", "template", "spec"]),
        ("apps", "DaemonSet", &["spec", "template", "spec"]),
        ("apps", "ReplicaSet", &["spec", "template", "spec"]),
        ("batch", "Job", &["spec", "template", "spec"]),
        ("batch", "CronJob", &["spec", "jobTemplate", "spec", "template", "spec"]),
    ];
    let in_pod: [(&[&str], &str); 14] = [
        (&["containers"], "name"),
        (&["initContainers"], "name"),
        (&["ephemeralContainers"], "name"),
        (&["volumes"], "name"),
        (&["imagePullSecrets"], "name"),
        (&["hostAliases"], "ip"),
        (&["topologySpreadConstraints"], "topologyKey,whenUnsatisfiable"),
        (&["resourceClaims"], "name"),
        (&["tolerations"], "List(Free)"),
        (&["containers", "*", "ports"], "containerPort,protocol"),
        (&["containers", "*", "env"], "name"),
        (&["containers", "*", "volumeMounts"], "mountPath"),
        (&["containers", "*", "volumeDevices"], "devicePath"),
        (&["containers", "*", "resources", "limits"], "Map(Quantity)"),
    ];
    for (group, kind, parent) in parents {
        for (path, expected) in in_pod {
            assert_eq!(keys(group, kind, &[parent, path].concat()), expected, "{kind} {path:?}");
        }
    }
    assert_eq!(keys("", "Service", &["spec", "ports"]), "port,protocol");
    assert_eq!(keys("", "ServiceAccount", &["secrets"]), "name");
    assert_eq!(keys("example.com", "Ledger", &["metadata", "ownerReferences"]), "uid");
    assert_eq!(keys("example.com", "Ledger", &["metadata", "finalizers"]), "Set");
    assert_eq!(keys("example.com", "Ledger", &["spec", "containers"]), "Free");
    assert_eq!(keys("admissionregistration.k8s.io", "MutatingWebhookConfiguration", &["webhooks"]), "name");
    assert!(keys("apps", "StatefulSet", &["spec", "volumeClaimTemplates"]).starts_with("List(Struct("));
    assert!(keys("autoscaling", "HorizontalPodAutoscaler", &["spec", "metrics"]).starts_with("List(Struct("));
    assert!(keys("apps", "Deployment", &["spec", "selector"]).starts_with("AtomicStruct("));
    assert_eq!(keys("", "Service", &["spec", "selector"]), "AtomicMap");
    assert_eq!(keys("", "PersistentVolumeClaim", &["spec", "resources", "requests"]), "Map(Quantity)");
}

#[test]
fn the_table_is_sorted_so_that_lookups_find_every_row() {
    use super::super::schema_table::KINDS;
    assert!(KINDS.is_sorted_by_key(|(group, kind, _)| (*group, *kind)));
    assert!(KINDS.iter().all(|(_, _, of)| of.fields.is_sorted_by_key(|(name, _)| *name)));
    for (group, kind, of) in KINDS {
        assert!(
            matches!(Shape::of_kind(&GroupKind::new(*group, *kind)), Shape::Struct(found) if found.name == of.name)
        );
    }
}

#[test]
fn the_generator_reads_openapi() {
    let reference = |name: &str| json!({"allOf": [{"$ref": format!("#/components/schemas/{name}")}], "default": {}});
    let meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
    let document = json!({"components": {"schemas": {
        "io.example.v1.Till": {
            "x-kubernetes-group-version-kind": [{"group": "example.io", "kind": "Till", "version": "v1"}],
            "properties": {"metadata": reference(meta), "spec": reference("io.example.v1.Spec"), "status": {"type": "object"}},
        },
        "io.example.v1.Spec": {"properties": {
            "drawers": {
                "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": reference("io.example.v1.Plain"),
            },
            "plain": reference("io.example.v1.Plain"),
            "currency": {"type": "string", "default": "EUR"},
            "cash": {"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.api.resource.Quantity"},
        }},
        "io.example.v1.Plain": {"properties": {"name": {"type": "string", "default": ""}}},
        meta: {"properties": {"finalizers": {"type": "array", "x-kubernetes-list-type": "set"}}},
    }}});
    let text = schema_gen::render(&schema_gen::generate(&[document]));
    for line in [
        "(\"example.io\", \"Till\", &IO_EXAMPLE_V1_TILL),",
        "(\"drawers\", ListMap { keys: &[\"name\"], ordered: false, item: &Free }),",
        "(\"currency\", Defaulted(\"EUR\")),",
        "(\"cash\", Quantity),",
        "(\"finalizers\", Set),",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("plain") && !text.contains("status"), "{text}");
    assert_eq!(schema_gen::generate(&[json!(3), json!({"components": []})]).kinds.len(), 0);
}

#[test]
fn equality_is_by_meaning() {
    let cpu = |value: Value| with(teller(), &format!("{POD}/containers/0/resources/limits/cpu"), value);
    let shape = Shape::of_kind(&deployment_kind());
    let equal = |a: &Value, b: &Value| same(shape, Some(a), Some(b));
    assert!(equal(&cpu(json!("1000m")), &cpu(json!(1))));
    assert!(!equal(&cpu(json!("1001m")), &cpu(json!(1))));
    assert!(equal(&teller(), &with(teller(), "/spec/paused", json!(null))));
    assert!(equal(&teller(), &with(teller(), "/metadata/annotations", json!({}))));
    assert!(equal(&teller(), &with(teller(), &format!("{POD}/volumes"), json!([]))));
    assert!(
        !equal(&teller(), &with(teller(), &format!("{POD}/securityContext"), json!({}))),
        "an empty object says something"
    );
    let probe =
        |port: Value| with(teller(), &format!("{POD}/containers/0/livenessProbe"), json!({"httpGet": {"port": port}}));
    assert!(!equal(&probe(json!(80)), &probe(json!("80"))));
}

#[test]
fn kinds_are_written_in_order_and_deleted_in_reverse() {
    let kinds: Vec<GroupKind> = [
        ("networking.k8s.io", "Ingress"),
        ("apps", "Deployment"),
        ("", "Service"),
        ("policy", "PodDisruptionBudget"),
        ("", "PersistentVolumeClaim"),
        ("", "Secret"),
        ("", "ConfigMap"),
        ("", "ServiceAccount"),
        ("apiextensions.k8s.io", "CustomResourceDefinition"),
        ("", "Namespace"),
    ]
    .map(|(group, kind)| GroupKind::new(group, kind))
    .into();
    assert_eq!(apply_order(&kinds), [9, 8, 7, 5, 6, 4, 2, 1, 3, 0]);
    assert_eq!(delete_order(&kinds), [0, 3, 1, 2, 4, 6, 5, 7, 8, 9]);
    assert_eq!(rank(&GroupKind::new("gateway.networking.k8s.io", "HTTPRoute")), Rank::Routes);
    let destroying: Vec<usize> =
        (0..kinds.len()).filter(|position| destroys_data(&kinds[*position].group, &kinds[*position].kind)).collect();
    assert_eq!(destroying, [4, 8, 9]);
}
