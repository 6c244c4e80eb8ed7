//! Standard changes: whether a difference stays inside what a policy authorised in advance.

use interlock_crds::{AllowedDiff, ImageTagRule, StandardTemplate};
use serde_json::Value;

use super::facts::{Effect, EffectKind};
use crate::mutants::{self, Mutant};
use crate::object::{Change, GroupKind, PathPattern};

/// The first template that covers all `effects`, or why none does.
pub fn matching<'a>(templates: &'a [StandardTemplate], effects: &[Effect]) -> Result<&'a StandardTemplate, String> {
    let mut why = Vec::new();
    for template in templates {
        if mutants::is(Mutant::AnythingIsStandard) {
            return Ok(template);
        }
        match effects.iter().find_map(|effect| refusal(template, effect)) {
            None => return Ok(template),
            Some(reason) => why.push(format!("{}: {reason}", template.name)),
        }
    }
    if why.is_empty() {
        why.push("the policy has no template".to_owned());
    }
    Err(why.join("; "))
}

fn refusal(template: &StandardTemplate, effect: &Effect) -> Option<String> {
    match &effect.kind {
        EffectKind::Create => Some(format!("{} would be created", effect.id)),
        EffectKind::Delete => Some(format!("{} would be deleted", effect.id)),
        EffectKind::AlreadyGone => None,
        EffectKind::Update(changes) => {
            let kind = effect.id.group_kind();
            changes.iter().find_map(|change| {
                let allowed = template.allow.iter().any(|allow| permits(allow, &kind, change));
                (!allowed).then(|| format!("{} of {} is outside it", change.path, effect.id))
            })
        }
    }
}

fn permits(allow: &AllowedDiff, kind: &GroupKind, change: &Change) -> bool {
    if allow.group != kind.group || allow.kind != kind.kind {
        return false;
    }
    let Ok(pattern) = allow.path.parse::<PathPattern>() else {
        return false;
    };
    if !pattern.matches(&change.path) {
        return false;
    }
    let Some(after) = &change.after else {
        return false;
    };
    if let Some(range) = &allow.range {
        return after.as_i64().is_some_and(|n| range.min <= n && n <= range.max);
    }
    if let Some(rule) = allow.image_tag {
        let before = change.before.as_ref().and_then(Value::as_str);
        return before.zip(after.as_str()).is_some_and(|(before, after)| image_tag_permits(rule, before, after));
    }
    allow.values.as_ref().is_some_and(|values| after.as_str().is_some_and(|text| values.iter().any(|v| v == text)))
}

/// Whether `after` is the same image as `before` with a later tag of the allowed kind.
fn image_tag_permits(rule: ImageTagRule, before: &str, after: &str) -> bool {
    // A digest would win over the tag, so that the tag says nothing about what runs.
    if before.contains('@') || after.contains('@') {
        return false;
    }
    let (Some((old_image, old_tag)), Some((new_image, new_tag))) = (split_tag(before), split_tag(after)) else {
        return false;
    };
    let (Some(old), Some(new)) = (version(old_tag), version(new_tag)) else {
        return false;
    };
    let same = match rule {
        ImageTagRule::SameMinor => old.0 == new.0 && old.1 == new.1,
        ImageTagRule::SameMajor => old.0 == new.0,
    };
    old_image == new_image && same && new > old
}

fn split_tag(image: &str) -> Option<(&str, &str)> {
    let (name, tag) = image.rsplit_once(':')?;
    // A colon before a slash belongs to the port of a registry.
    (!tag.contains('/')).then_some((name, tag))
}

/// `1.2.3` or `v1.2.3`; pre-releases are nobody's patch version.
fn version(tag: &str) -> Option<(u64, u64, u64)> {
    let mut parts = tag.strip_prefix('v').unwrap_or(tag).split('.');
    let mut next = || {
        let part = parts.next()?;
        let plain = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| part.parse().ok()).flatten()
    };
    let version = (next()?, next()?, next()?);
    parts.next().is_none().then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_patch_of_the_same_image_is_a_patch_release_and_nothing_else_is() {
        let cases = [
            ("teller:2.3.1", "teller:2.3.2", true),
            ("teller:v2.3.9", "teller:v2.3.10", true),
            ("reg:5000/teller:2.3.1", "reg:5000/teller:2.3.2", true),
            ("teller:2.3.1", "teller:2.4.0", false),
            ("teller:2.3.2", "teller:2.3.1", false),
            ("teller:2.3.1", "evil:2.3.2", false),
            ("teller:2.3.1", "teller:2.3.2-rc1", false),
            ("teller:2.3.1", "teller:latest", false),
            ("teller:2.3.1", "teller:2.3.2@sha256:00", false),
            ("reg:5000/teller", "reg:5000/teller:2.3.2", false),
            ("teller:2.3", "teller:2.4", false),
        ];
        for (before, after, expected) in cases {
            assert_eq!(image_tag_permits(ImageTagRule::SameMinor, before, after), expected, "{before} -> {after}");
        }
        assert!(image_tag_permits(ImageTagRule::SameMajor, "t:2.3.1", "t:2.4.0"));
        assert!(!image_tag_permits(ImageTagRule::SameMajor, "t:2.3.1", "t:3.0.0"));
    }
}
