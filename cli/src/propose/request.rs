//! What a proposal infers: the title and the name of the request.

use interlock_core::object::{Change, Digest, Segment};

use super::preview::{Effect, Preview};

/// Most characters of a title, as the schema says.
const MAX_TITLE: usize = 200;
/// Most characters of a name.
const MAX_NAME: usize = 63;

/// A title from what would change: `Update Deployment shop (image shop:1.1.0)`, `Change 3 objects in shop`.
pub fn title(previews: &[Preview], namespace: &str) -> String {
    let title = if let [only] = previews {
        let details = details(only);
        let details = if details.is_empty() { String::new() } else { format!(" ({details})") };
        format!("{} {} {}{details}", verb(only.effect), only.id.kind, only.id.name)
    } else {
        let all = |effect: Effect| previews.iter().all(|p| p.effect == effect);
        let verb = [Effect::Create, Effect::Delete].into_iter().find(|e| all(*e)).map_or("Change", verb);
        format!("{verb} {} objects in {namespace}", previews.len())
    };
    title.chars().take(MAX_TITLE).collect()
}

const fn verb(effect: Effect) -> &'static str {
    match effect {
        Effect::Create => "Create",
        Effect::Update | Effect::Nothing => "Update",
        Effect::Delete => "Delete",
    }
}

/// New images and replicas, if there are few.
fn details(preview: &Preview) -> String {
    if preview.is_secret() {
        return String::new();
    }
    let found: Vec<String> = preview.changes.iter().filter_map(detail).collect();
    if found.len() > 3 { format!("{} and more", found[..3].join(", ")) } else { found.join(", ") }
}

fn detail(change: &Change) -> Option<String> {
    let after = change.after.as_ref()?;
    match change.path.segments() {
        [.., Segment::Key(containers), Segment::Select { .. }, Segment::Key(image)]
            if image == "image" && containers.to_lowercase().ends_with("containers") =>
        {
            after.as_str().map(|image| format!("image {image}"))
        }
        [Segment::Key(spec), Segment::Key(replicas)] if spec == "spec" && replicas == "replicas" => {
            after.as_i64().map(|count| format!("replicas {count}"))
        }
        _ => None,
    }
}

/// A name from the title and the content: `update-deployment-shop-1f3a9c`.
pub fn name(title: &str, content: &Digest) -> String {
    let digest = content.to_string();
    let suffix: String = digest.chars().skip_while(|c| *c != ':').skip(1).take(6).collect();
    let mut slug = String::new();
    for character in title.to_lowercase().chars() {
        if slug.len() + suffix.len() + 1 >= MAX_NAME {
            break;
        }
        if character.is_ascii_alphanumeric() {
            slug.push(character);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    // A title without any Latin letter or digit, such as a Chinese one.
    let slug = if slug.is_empty() { "change" } else { slug };
    format!("{slug}-{suffix}")
}

/// Whether a text can name a request: an RFC 1123 subdomain that is also a label's value, as staged Secrets carry it.
pub fn is_name(text: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let is_edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= MAX_NAME && text.chars().all(is_inner) && text.starts_with(is_edge) && text.ends_with(is_edge)
}

#[cfg(test)]
mod tests {
    use interlock_core::object::{ObjectId, diff};
    use serde_json::{Value, json};

    use super::*;

    fn preview(effect: Effect, before: &Value, after: &Value) -> Preview {
        let id = ObjectId::of(before).unwrap();
        let changes = diff(&id.group_kind(), before, after);
        Preview { id, effect, changes, created: None, notes: Vec::new(), refused: None }
    }

    fn deployment(image: &str, replicas: u8) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop", "namespace": "shop"},
            "spec": {"replicas": replicas, "template": {"spec": {"containers": [{"name": "shop", "image": image}]}}}})
    }

    #[test]
    fn titles_say_what_changes() {
        let old = deployment("shop:1.0.0", 3);
        let update = |new: Value| title(&[preview(Effect::Update, &old, &new)], "shop");
        assert_eq!(update(deployment("shop:1.1.0", 3)), "Update Deployment shop (image shop:1.1.0)");
        assert_eq!(update(deployment("shop:1.0.0", 5)), "Update Deployment shop (replicas 5)");
        assert_eq!(title(&[preview(Effect::Delete, &old, &old)], "shop"), "Delete Deployment shop");
        let two = |a: Effect, b: Effect| title(&[preview(a, &old, &old), preview(b, &old, &old)], "shop");
        assert_eq!(two(Effect::Update, Effect::Create), "Change 2 objects in shop");
        assert_eq!(two(Effect::Create, Effect::Create), "Create 2 objects in shop");
        assert_eq!(update(deployment(&"柜".repeat(300), 3)).chars().count(), 200);
    }

    #[test]
    fn names_fit_and_differ_with_the_content() {
        let digest = Digest::of_bytes(b"a");
        assert_eq!(
            name("Update Deployment shop (image shop:1.1.0)", &digest),
            "update-deployment-shop-image-shop-1-1-0-ca9781"
        );
        assert_eq!(name("柜面系统 发布", &digest), "change-ca9781");
        assert_eq!(name("", &digest), "change-ca9781");
        let long = name(&"very long ".repeat(30), &digest);
        assert!(long.len() <= 63 && is_name(&long), "{long}");
        for bad in ["", "A", "-a", "a-", "a_b", "a/b", "柜"] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
