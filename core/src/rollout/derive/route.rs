//! The HTTPRoute whose share is split.
//!
//! Rules and backends are atomic lists, so the whole route is written. Only what stands below is touched; other rules,
//! backends, filters, matches, labels and annotations stay byte by byte. A route that is already split is first taken
//! back to its own form, so that every form can be reached from every other.

use interlock_crds::{HeaderMatch, Split};
use serde_json::{Value, json};

use super::{service, touched};

/// Most rules of a route (Gateway API).
const MAX_RULES: usize = 16;
/// Most filters of a rule (Gateway API).
const MAX_FILTERS: usize = 16;
/// Most backends of a rule (Gateway API).
const MAX_BACKENDS: usize = 16;

/// What a route is to be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteForm<'a> {
    /// The Service whose share is split.
    pub backend: &'a str,
    /// Percent for the new version; none for the route's own form.
    pub split: Option<u8>,
    /// Headers whose requests go to the new version.
    pub headers: &'a [HeaderMatch],
    /// Percent of the requests that are copied to the new version; 0 for none.
    pub mirror: u8,
    /// The backend's weights before, in the order of the rules; -1 where none was stated.
    pub before: &'a [i64],
}

/// The route in that form.
pub fn route_with_weights(live: &Value, form: &RouteForm<'_>) -> Value {
    let mut route = touched(live, None);
    let Some(rules) = route.pointer_mut("/spec/rules").and_then(Value::as_array_mut) else { return route };
    let mut weights = form.before.iter().copied();
    rules.retain(|rule| !is_header_rule(rule, form.backend));
    for rule in rules.iter_mut() {
        merge(rule, form.backend, &mut weights);
    }
    let Some(percent) = form.split else { return route };
    let own = std::mem::take(rules);
    for mut rule in own {
        if split(&mut rule, form.backend, percent) {
            if let Some(header) = header_rule(&rule, form) {
                rules.push(header);
            }
            if form.mirror > 0 {
                mirror(&mut rule, form);
            }
        }
        rules.push(rule);
    }
    route
}

/// The weights of the backend in the route's own form, in the order of the rules; -1 where none is stated.
pub fn own_weights(live: &Value, backend: &str) -> Vec<i64> {
    refs(live).filter(|(_, r)| is_service(r, backend)).map(|(_, r)| stated(r).unwrap_or(-1)).collect()
}

/// What the route's rules give the new version at least and at most, in percent. None while nothing is split.
pub fn share(live: &Value, backend: &str) -> Option<(Split, Split)> {
    let mut shares = Vec::new();
    let mut is_split = false;
    for rule in rules(live).filter(|rule| !is_header_rule(rule, backend)) {
        let (stable, canary) = pair(rule, backend);
        match (stable, canary) {
            (None, None) => shares.extend(has_backend(rule, backend).then_some(0)),
            (stable, canary) => {
                is_split = true;
                let (stable, canary) = (stable.unwrap_or(0), canary.unwrap_or(0));
                let all = (stable + canary).max(1);
                shares.push(u8::try_from(canary * 100 / all).unwrap_or(100));
            }
        }
    }
    let least = shares.iter().copied().min().unwrap_or(0);
    let most = shares.iter().copied().max().unwrap_or(0);
    is_split.then_some((Split::of(least), Split::of(most)))
}

/// Whether anything of a release is in the route.
pub fn is_own_form(live: &Value, backend: &str) -> bool {
    let canary = service::canary_name(backend);
    share(live, backend).is_none()
        && !rules(live).any(|rule| is_header_rule(rule, backend) || filters(rule).any(|f| is_mirror(f, &canary)))
}

/// Why the route cannot be split like this, if it cannot.
pub fn refusal(live: &Value, backend: &str, needs_headers: bool, needs_mirror: bool) -> Option<String> {
    let name = live.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let with: Vec<_> = rules(live).filter(|rule| has_backend(rule, backend)).collect();
    if with.is_empty() {
        return Some(format!(
            "HTTPRoute {name} sends nothing to Service {backend}; name the backend whose share is to be split"
        ));
    }
    let shares = |rule: &Value| backends(rule).filter(|r| is_service(r, backend) && weight(r) > 0).count();
    let served: Vec<_> = with.iter().copied().filter(|rule| shares(rule) > 0).collect();
    if served.is_empty() {
        return Some(format!(
            "HTTPRoute {name} gives Service {backend} no traffic, as its weight is 0 in every rule; give it a weight"
        ));
    }
    let uneven = with.iter().find_map(|rule| {
        let own = backends(rule).find(|r| is_service(r, backend)).map(weight)?;
        let others = backends(rule).any(|r| !is_service(r, backend) && weight(r) > 0);
        (others && own % 100 != 0).then_some(own)
    });
    if let Some(own) = uneven {
        return Some(format!(
            "in HTTPRoute {name} Service {backend} has weight {own} beside other backends, which percents cannot split \
             exactly; multiply the weights of that rule so that its own is a multiple of 100"
        ));
    }
    if needs_headers && rules(live).count() + with.len() > MAX_RULES {
        return Some(format!(
            "HTTPRoute {name} has no room for rules that match headers: a route holds {MAX_RULES} rules"
        ));
    }
    if served.iter().any(|rule| backends(rule).count() + shares(rule) > MAX_BACKENDS) {
        return Some(format!(
            "a rule of HTTPRoute {name} has no room for a second share of Service {backend}: a rule holds {MAX_BACKENDS} backends; take one out"
        ));
    }
    (needs_mirror && served.iter().any(|rule| filters(rule).count() >= MAX_FILTERS)).then(|| {
        format!(
            "a rule of HTTPRoute {name} has no room for copies of its requests: a rule holds {MAX_FILTERS} filters; take one out"
        )
    })
}

fn rules(route: &Value) -> impl Iterator<Item = &Value> {
    route.pointer("/spec/rules").and_then(Value::as_array).into_iter().flatten()
}

fn backends(rule: &Value) -> impl Iterator<Item = &Value> {
    rule.get("backendRefs").and_then(Value::as_array).into_iter().flatten()
}

fn filters(rule: &Value) -> impl Iterator<Item = &Value> {
    rule.get("filters").and_then(Value::as_array).into_iter().flatten()
}

fn refs(route: &Value) -> impl Iterator<Item = (&Value, &Value)> {
    rules(route).flat_map(|rule| backends(rule).map(move |r| (rule, r)))
}

fn is_service(reference: &Value, name: &str) -> bool {
    let text =
        |key: &str, default: &'static str| reference.get(key).and_then(Value::as_str).unwrap_or(default).to_owned();
    reference.get("name").and_then(Value::as_str) == Some(name)
        && text("kind", "Service") == "Service"
        && text("group", "").is_empty()
        && reference.get("namespace").is_none_or(Value::is_null)
}

fn has_backend(rule: &Value, backend: &str) -> bool {
    backends(rule).any(|r| is_service(r, backend))
}

fn stated(reference: &Value) -> Option<i64> {
    reference.get("weight").and_then(Value::as_i64)
}

fn weight(reference: &Value) -> i64 {
    stated(reference).unwrap_or(1)
}

/// Weights of the two shares of a rule.
fn pair(rule: &Value, backend: &str) -> (Option<i64>, Option<i64>) {
    let of = |name: String| {
        let mut found = backends(rule).filter(|r| is_service(r, &name)).map(weight).peekable();
        found.peek().is_some().then(|| found.sum())
    };
    (of(service::stable_name(backend)), of(service::canary_name(backend)))
}

/// A rule of ours: it sends to the new version only.
fn is_header_rule(rule: &Value, backend: &str) -> bool {
    let canary = service::canary_name(backend);
    backends(rule).next().is_some() && backends(rule).all(|r| is_service(r, &canary))
}

fn is_mirror(filter: &Value, canary: &str) -> bool {
    filter.pointer("/requestMirror/backendRef").is_some_and(|r| is_service(r, canary))
}

/// Takes a split rule back to its own form.
fn merge(rule: &mut Value, backend: &str, before: &mut impl Iterator<Item = i64>) {
    let (stable, canary) = (service::stable_name(backend), service::canary_name(backend));
    let emptied = rule.get_mut("filters").and_then(Value::as_array_mut).is_some_and(|filters| {
        let all = filters.len();
        filters.retain(|f| !is_mirror(f, &canary));
        filters.is_empty() && all > 0
    });
    if emptied && let Some(fields) = rule.as_object_mut() {
        fields.remove("filters");
    }
    let Some(refs) = rule.get_mut("backendRefs").and_then(Value::as_array_mut) else { return };
    refs.retain(|r| !is_service(r, &canary));
    for reference in refs.iter_mut() {
        if is_service(reference, backend) {
            before.next();
        } else if is_service(reference, &stable) {
            let own = before.next().unwrap_or(1);
            if let Some(fields) = reference.as_object_mut() {
                fields.insert("name".to_owned(), json!(backend));
                if own < 0 {
                    fields.remove("weight")
                } else {
                    fields.insert("weight".to_owned(), json!(own))
                };
            }
        }
    }
}

/// Splits the backend of a rule in its own form; says whether the rule has it.
fn split(rule: &mut Value, backend: &str, percent: u8) -> bool {
    let others = backends(rule).any(|r| !is_service(r, backend) && weight(r) > 0);
    let Some(refs) = rule.get_mut("backendRefs").and_then(Value::as_array_mut) else { return false };
    let mut done = false;
    let own = std::mem::take(refs);
    for reference in own {
        // A backend without traffic stays without.
        if !is_service(&reference, backend) || weight(&reference) == 0 {
            refs.push(reference);
            continue;
        }
        let parts = if others { weight(&reference) / 100 } else { 1 };
        for (name, share) in
            [(service::stable_name(backend), 100 - percent.min(100)), (service::canary_name(backend), percent.min(100))]
        {
            let mut part = reference.clone();
            if let Some(fields) = part.as_object_mut() {
                fields.insert("name".to_owned(), json!(name));
                fields.insert("weight".to_owned(), json!(parts * i64::from(share)));
            }
            refs.push(part);
        }
        done = true;
    }
    done
}

/// The rule that sends requests with the headers to the new version.
fn header_rule(rule: &Value, form: &RouteForm<'_>) -> Option<Value> {
    if form.headers.is_empty() {
        return None;
    }
    let mut own = rule.clone();
    let canary = service::canary_name(form.backend);
    let mut reference = backends(rule).find(|r| is_service(r, &canary))?.clone();
    reference.as_object_mut()?.insert("weight".to_owned(), json!(1));
    let fields = own.as_object_mut()?;
    fields.remove("name");
    fields.insert("backendRefs".to_owned(), json!([reference]));
    let matches = fields.entry("matches").or_insert_with(|| json!([{}]));
    let wanted = form.headers.iter().map(|h| json!({"type": "Exact", "name": h.name, "value": h.value}));
    for one in matches.as_array_mut()? {
        let headers = one.as_object_mut()?.entry("headers").or_insert_with(|| json!([])).as_array_mut()?;
        headers.retain(|found| {
            let name = found.get("name").and_then(Value::as_str).unwrap_or_default();
            !form.headers.iter().any(|h| h.name.eq_ignore_ascii_case(name))
        });
        headers.extend(wanted.clone());
    }
    Some(own)
}

fn mirror(rule: &mut Value, form: &RouteForm<'_>) {
    let canary = service::canary_name(form.backend);
    let Some(mut reference) = backends(rule).find(|r| is_service(r, &canary)).cloned() else { return };
    if let Some(fields) = reference.as_object_mut() {
        fields.remove("weight");
        fields.remove("filters");
    }
    let mut request = json!({"backendRef": reference});
    if form.mirror < 100
        && let Some(fields) = request.as_object_mut()
    {
        fields.insert("percent".to_owned(), json!(form.mirror));
    }
    let Some(fields) = rule.as_object_mut() else { return };
    let filters = fields.entry("filters").or_insert_with(|| json!([]));
    if let Some(filters) = filters.as_array_mut().filter(|filters| filters.len() < MAX_FILTERS) {
        filters.push(json!({"type": "RequestMirror", "requestMirror": request}));
    }
}
