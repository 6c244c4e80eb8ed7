//! The few CEL phrases of which every match condition is built.

/// `text` as a CEL string literal.
pub fn quote(text: &str) -> String {
    let mut literal = String::with_capacity(text.len() + 2);
    literal.push('\'');
    for character in text.chars() {
        match character {
            '\'' | '\\' => {
                literal.push('\\');
                literal.push(character);
            }
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            _ => literal.push(character),
        }
    }
    literal.push('\'');
    literal
}

/// `texts` as a CEL list of string literals.
pub fn list<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let literals: Vec<_> = texts.into_iter().map(quote).collect();
    format!("[{}]", literals.join(", "))
}

/// The request is one of `operations`.
pub fn operation_in(operations: &[&str]) -> String {
    match operations {
        [one] => format!("request.operation == {}", quote(one)),
        many => format!("request.operation in {}", list(many.iter().copied())),
    }
}

/// The request is about `resource` of `group`, in any version.
pub fn resource_is(group: &str, resource: &str) -> String {
    format!("request.resource.group == {} && request.resource.resource == {}", quote(group), quote(resource))
}

/// Everything except `metadata` is as it was; nothing was added, nothing taken away.
///
/// Written over the keys, as no kind has the same ones: `spec`, or `data`, or `rules`, or `roleRef` and `subjects`.
pub const CONTENT_IS_UNCHANGED: &str = "object.all(k, k == 'metadata' || (k in oldObject && object[k] == oldObject[k])) \
                                        && oldObject.all(k, k in object)";

/// Of `metadata`, only finalizers and what the API server keeps there differ.
pub const METADATA_DIFFERS_IN_FINALIZERS_ONLY: &str = "object.metadata.all(k, \
     k in ['finalizers', 'managedFields', 'resourceVersion', 'generation', 'deletionGracePeriodSeconds'] \
     || (k in oldObject.metadata && object.metadata[k] == oldObject.metadata[k])) \
     && oldObject.metadata.all(k, \
     k in ['finalizers', 'managedFields', 'resourceVersion', 'generation', 'deletionGracePeriodSeconds'] \
     || k in object.metadata)";

/// No finalizer is there that was not there before.
pub const FINALIZERS_ONLY_SHRINK: &str = "(!has(object.metadata.finalizers) || (has(oldObject.metadata.finalizers) \
                                          && object.metadata.finalizers.all(f, f in oldObject.metadata.finalizers)))";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_end_the_literal_it_stands_in() {
        assert_eq!(quote("kwok"), "'kwok'");
        assert_eq!(quote("a' || true || '"), r"'a\' || true || \''");
        assert_eq!(quote("back\\slash\n"), r"'back\\slash\n'");
        assert_eq!(list(["a", "b"]), "['a', 'b']");
    }
}
